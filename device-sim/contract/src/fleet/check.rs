//! What is wrong with a fleet beyond its schema: the laws across fields, all breaches at once.

use std::collections::{BTreeMap, BTreeSet};

mod pod;
mod subscription;

use super::{
    Birth, BrokerSpec, Connect, Credentials, Fleet, FleetSpec, Group, Observe, Protocol, SessionKind, Tls, Will,
};
use crate::{
    document::{Problem, pointer_step},
    model::{
        self, Model, StampMode,
        payload::{RESERVED, Slot, TextPiece, split},
    },
    share::Membership,
    template::Template,
    units::{Share, Span},
};

/// The longest keep-alive that fits CONNECT: 65,535 s (MQTT 3.1.1, section 3.1.2.10).
const KEEP_ALIVE_MAX: Span = Span::from_secs(65_535);

/// The longest that MQTT 5 says in seconds, but for the number that means for ever.
const SECONDS_MAX: Span = Span::from_secs(u32::MAX as u64 - 1);

/// What to do where a document wants what only MQTT 5 has.
const NEEDS_5: &str = "MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out";

/// Finds everything that is wrong with a fleet whose models have all been filled in.
///
/// A group whose model is not in `spec.models` is a problem; whoever knows where models live adds them first.
pub fn check(fleet: &Fleet) -> Vec<Problem> {
    let spec = &fleet.spec;
    let mut found = Findings::default();
    let client_id = check_client_id(fleet, &mut found);
    check_connect(&spec.connect, spec.protocol(), &mut found);
    check_observation(spec, &mut found);
    check_credentials(spec, &mut found);
    if let Some(broker) = &spec.broker {
        check_addresses(broker, &mut found);
        check_tls(broker, &mut found);
        check_headers(broker, &mut found);
    }
    for (name, model) in &spec.models {
        let problems = model::check(model).into_iter();
        let below = format!("/spec/models/{}", pointer_step(name));
        found
            .problems
            .extend(problems.map(|problem| Problem::new(format!("{below}{}", problem.path), problem.message)));
    }
    pod::check(&spec.pod, &mut found);
    check_shares(&spec.groups, &mut found);
    for (position, group) in spec.groups.iter().enumerate() {
        let at = format!("/spec/groups/{position}");
        match spec.models.get(&group.model) {
            Some(model) => check_group(fleet, group, model, client_id.as_ref(), &at, &mut found),
            None => found.add(format!("{at}/model"), unknown_model(&group.model, &spec.models)),
        }
        subscription::check(fleet, group, client_id.as_ref(), &at, &mut found);
    }
    found.problems
}

#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
}

impl Findings {
    fn add(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(pointer, message));
    }

    /// The template in the field at `pointer`, if it is one.
    fn template(&mut self, pointer: &str, text: &str) -> Option<Template> {
        text.parse().map_err(|error: crate::template::TemplateError| self.add(pointer, error.to_string())).ok()
    }

    /// A field that only MQTT 5 has a use for.
    fn needs_5<T>(&mut self, pointer: impl Into<String>, protocol: Protocol, field: Option<&T>) {
        if protocol == Protocol::V311 && field.is_some() {
            self.add(pointer, NEEDS_5);
        }
    }

    fn whole_seconds(&mut self, pointer: &str, span: Option<Span>) {
        if let Some(span) = span.filter(|span| *span > SECONDS_MAX || span.0 % 1_000_000 != 0) {
            self.add(pointer, format!("expected whole seconds up to {SECONDS_MAX}, found `{span}`"));
        }
    }

    fn more_than_nothing(&mut self, pointer: impl Into<String>, span: Span) {
        if span == Span::ZERO {
            self.add(pointer, "expected more than no time, found `0s`");
        }
    }
}

fn check_client_id(fleet: &Fleet, found: &mut Findings) -> Option<Template> {
    let pointer = "/spec/clientId";
    let text = &fleet.spec.client_id;
    let id = found.template(pointer, text)?;
    if id.uses_id() {
        found.add(pointer, "expected a name without `{id}`, which stands for the client id itself");
    } else if !id.is_unique(&id) {
        found.add(
            pointer,
            format!("expected `{{index}}` or `{{uuid}}`, so that each device has a name of its own, found `{text}`"),
        );
    }
    Some(id)
}

fn check_connect(connect: &Connect, protocol: Protocol, found: &mut Findings) {
    let Connect {
        rate: _,
        jitter: _,
        keep_alive,
        session,
        in_flight: _,
        queue: _,
        max_packet,
        timeout,
        backoff,
        will,
        birth,
        session_expiry,
        topic_aliases,
        user_properties,
    } = connect;
    if *keep_alive > KEEP_ALIVE_MAX || keep_alive.0 % 1_000_000 != 0 {
        found.add("/spec/connect/keepAlive", format!("expected whole seconds up to 65535s, found `{keep_alive}`"));
    }
    if let Some(size) = max_packet.filter(|size| !Connect::MAX_PACKET.contains(&size.0)) {
        found.add("/spec/connect/maxPacket", format!("expected a size from 1 KiB to 16 MiB, found `{size}`"));
    }
    found.more_than_nothing("/spec/connect/timeout", *timeout);
    found.more_than_nothing("/spec/connect/backoff/base", backoff.base);
    if backoff.cap < backoff.base {
        let message = format!("expected at least the base, {}, found `{}`", backoff.base, backoff.cap);
        found.add("/spec/connect/backoff/cap", message);
    }
    let delay = will.as_ref().and_then(|will| will.delay);
    let properties = (!user_properties.is_empty()).then_some(());
    found.needs_5("/spec/connect/sessionExpiry", protocol, session_expiry.as_ref());
    found.needs_5("/spec/connect/topicAliases", protocol, topic_aliases.as_ref());
    found.needs_5("/spec/connect/userProperties", protocol, properties.as_ref());
    found.needs_5("/spec/connect/will/delay", protocol, delay.as_ref());
    found.whole_seconds("/spec/connect/sessionExpiry", *session_expiry);
    found.whole_seconds("/spec/connect/will/delay", delay);
    if session_expiry.is_some() && *session == SessionKind::Clean {
        found.add("/spec/connect/sessionExpiry", "expected `session: persistent`, since a clean session is not kept");
    }
    if let Some(Will { topic, payload, qos: _, retain: _, delay: _ }) = will {
        if let Some(topic) = found.template("/spec/connect/will/topic", topic) {
            check_topic("/spec/connect/will/topic", &topic, found);
        }
        found.template("/spec/connect/will/payload", payload);
    }
    if let Some(Birth { topic, payload, qos: _, retain: _ }) = birth {
        if let Some(topic) = found.template("/spec/connect/birth/topic", topic) {
            check_topic("/spec/connect/birth/topic", &topic, found);
        }
        check_birth("/spec/connect/birth/payload", payload, found);
    }
}

/// The payload of a birth message is a body without signals: devices of all models send it.
fn check_birth(at: &str, payload: &str, found: &mut Findings) {
    match split(payload) {
        Err(message) => found.add(at, message),
        Ok(pieces) => {
            let unknown = pieces.iter().find_map(|piece| match piece {
                TextPiece::Slot(Slot::Signal { name, .. }) => Some(*name),
                TextPiece::Slot(Slot::Stamp) => Some("stamp"),
                _ => None,
            });
            if let Some(name) = unknown {
                let allowed = RESERVED.iter().filter(|name| **name != "stamp").map(|name| format!("`{{{name}}}`"));
                let allowed = allowed.collect::<Vec<_>>().join(", ");
                found.add(at, format!("`{{{name}}}` is no placeholder here; there are {allowed}"));
            }
        }
    }
}

fn check_observation(spec: &FleetSpec, found: &mut Findings) {
    found.more_than_nothing("/spec/lossAfter", spec.loss_after);
    if spec.observe == Observe::Sample && spec.observer.sample == Share::NONE {
        found.add("/spec/observer/sample", "expected more than 0%, or `observe: none`");
    }
}

fn check_credentials(spec: &FleetSpec, found: &mut Findings) {
    let devices = spec.broker.as_ref().and_then(|broker| broker.credentials.as_ref());
    let both =
        [("/spec/broker/credentials", devices), ("/spec/observer/credentials", spec.observer.credentials.as_ref())];
    for (pointer, credentials) in both {
        let Some(Credentials { username, password_file, password_env, secret_name }) = credentials else { continue };
        found.template(&format!("{pointer}/username"), username);
        let sources = [password_file, password_env, secret_name].into_iter().flatten().count();
        if sources > 1 {
            found.add(
                pointer,
                format!("expected one of `passwordFile`, `passwordEnv` and `secretName`, found {sources}"),
            );
        }
    }
}

fn check_addresses(broker: &BrokerSpec, found: &mut Findings) {
    let BrokerSpec { url, urls, protocol, credentials, tls, access, headers } = broker;
    let at = |position: usize| format!("/spec/broker/urls/{position}");
    if access.is_some() && !broker.addresses().is_empty() {
        let message = "expected no address beside it: it is about the fleet's own broker";
        found.add("/spec/broker/access", message);
    }
    match (url, urls.first()) {
        (None, None) if access.is_none() => {
            let message = "expected `url`, or `urls` for several addresses, or `access` alone for a broker of the \
                           fleet's own, found none of them";
            found.add("/spec/broker", message);
        }
        (None, None)
            if *protocol != Protocol::V311 || credentials.is_some() || tls.is_some() || !headers.is_empty() =>
        {
            let message = "expected `access` alone without an address: the fleet's own broker speaks MQTT 3.1.1 over \
                           TCP and has credentials of its own";
            found.add("/spec/broker", message);
        }
        (Some(_), Some(_)) => found.add("/spec/broker/urls", "expected one of `url` and `urls`, found both"),
        (_, Some(first)) => {
            for (position, url) in urls.iter().enumerate() {
                if url.transport() != first.transport() {
                    let message = format!("expected the scheme of the first address, `{first}`, found `{url}`");
                    found.add(at(position), message);
                } else if urls[..position].contains(url) {
                    found.add(at(position), format!("expected each address once, found `{url}` again"));
                }
            }
        }
        (_, None) => {}
    }
}

/// Fields of HTTP that belong to the upgrade itself (RFC 6455, section 4.1).
const OWN_HEADERS: [&str; 4] = ["host", "upgrade", "connection", "content-length"];

fn check_headers(broker: &BrokerSpec, found: &mut Findings) {
    let at = "/spec/broker/headers";
    if let Some(url) = broker.addresses().iter().find(|url| !url.transport().is_websocket()) {
        if !broker.headers.is_empty() {
            found.add(at, format!("expected `ws://` or `wss://` in `url`, found `{url}`, which sends no HTTP"));
        }
        return;
    }
    for (name, value) in &broker.headers {
        let at = format!("{at}/{}", pointer_step(name));
        let lower = name.to_ascii_lowercase();
        // A token and visible text (RFC 9110, sections 5.1 and 5.5): nothing that could begin another field.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            found.add(&at, format!("expected the name of an HTTP field, found `{name}`"));
        } else if OWN_HEADERS.contains(&&*lower) || lower.starts_with("sec-websocket-") {
            found.add(&at, format!("`{name}` belongs to the upgrade itself"));
        }
        if value.contains(['{', '}']) {
            found.add(&at, "expected a value without `{` and `}`: it is the same for all devices".to_owned());
        }
        if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            found.add(&at, "expected a value of visible ASCII characters and blanks".to_owned());
        }
    }
}

fn check_tls(broker: &BrokerSpec, found: &mut Findings) {
    let Some(tls) = &broker.tls else { return };
    let at = "/spec/broker/tls";
    if let Some(url) = broker.addresses().iter().find(|url| !url.transport().is_secure()) {
        found.add(at, format!("expected `mqtts://` or `wss://` in `url`, found `{url}`, which has no TLS"));
    }
    let Tls { ca, certificate, key, ca_secret_name, secret_name, server_name: _, insecure_skip_verify, alpn } = tls;
    if let Some(position) = alpn.iter().position(|name| !(1..=255).contains(&name.len())) {
        found.add(format!("{at}/alpn/{position}"), "expected a name of 1 to 255 bytes (RFC 7301)");
    }
    if ca.is_some() && ca_secret_name.is_some() {
        found.add(at, "expected one of `ca` and `caSecretName`, found both");
    }
    if secret_name.is_some() && (certificate.is_some() || key.is_some()) {
        found.add(at, "expected `secretName`, or `certificate` and `key`, found both");
    }
    if certificate.is_some() != key.is_some() {
        let (there, missing) = if key.is_none() { ("certificate", "key") } else { ("key", "certificate") };
        found.add(at, format!("expected `{missing}` beside `{there}`, found none"));
    }
    if *insecure_skip_verify && (ca.is_some() || ca_secret_name.is_some()) {
        found.add(
            format!("{at}/insecureSkipVerify"),
            "expected no authority beside it, which nobody would ask, found one",
        );
    }
}

fn check_shares(groups: &[Group], found: &mut Findings) {
    let mut names = BTreeSet::new();
    for (position, group) in groups.iter().enumerate() {
        if !names.insert(&group.name) {
            let message = format!("expected a name of its own for each group, found `{}` again", group.name);
            found.add(format!("/spec/groups/{position}/name"), message);
        }
    }
    let shares: Vec<_> = groups.iter().map(|group| group.share).collect();
    if let Err(error) = Membership::new(&shares) {
        found.add("/spec/groups", error.to_string());
    }
}

fn unknown_model(name: &str, models: &BTreeMap<String, Model>) -> String {
    let known: Vec<_> = models.keys().map(|known| format!("`{known}`")).collect();
    let known = if known.is_empty() { String::new() } else { format!(" (here: {})", known.join(", ")) };
    format!("expected the name of a model, found `{name}`{known}")
}

fn check_group(
    fleet: &Fleet,
    group: &Group,
    model: &Model,
    client_id: Option<&Template>,
    at: &str,
    found: &mut Findings,
) {
    for problem in model::check_overrides(model, &group.streams) {
        found.add(format!("{at}/streams{}", problem.path), problem.message);
    }
    for (name, stream) in &model.streams {
        let stream = group.stream(name, stream);
        // Where it stands: in the group if that changes it, else in the model.
        let changed = group.streams.get(name);
        let place = |is_changed: bool, field: &str| {
            let above = if is_changed { at.to_owned() } else { format!("/spec/models/{}", pointer_step(&group.model)) };
            format!("{above}/streams/{}/{field}", pointer_step(name))
        };
        let stamp = (stream.stamp == StampMode::Property).then_some(());
        let is_stamp_changed = changed.is_some_and(|change| change.stamp.is_some());
        found.needs_5(place(is_stamp_changed, "stamp"), fleet.spec.protocol(), stamp.as_ref());
        let are_properties_changed = changed.is_some_and(|change| change.properties.is_some());
        found.needs_5(place(are_properties_changed, "properties"), fleet.spec.protocol(), stream.properties.as_ref());
    }
    let Some(client_id) = client_id.filter(|_| fleet.spec.observe != Observe::None) else { return };
    for (name, stream) in &model.streams {
        let stream = group.stream(name, stream);
        // That a topic names no device at all is the model's own affair.
        let is_judged =
            stream.stamp != StampMode::None && stream.topic.identifies_device(&Template::default_client_id());
        if is_judged && !stream.topic.identifies_device(client_id) {
            let message = format!(
                "the topic `{}` of stream `{name}` does not say which device sent a message, as the client id has no \
                 `{{index}}`; write `{{index}}` for `{{id}}`, or set `observe: none`",
                stream.topic.as_str()
            );
            found.add(format!("{at}/model"), message);
        }
        if stream.stamp != StampMode::None && stream.topic.as_str().starts_with('$') {
            let is_topic_changed = group.streams.get(name).is_some_and(|change| change.topic.is_some());
            let above =
                if is_topic_changed { at.to_owned() } else { format!("/spec/models/{}", pointer_step(&group.model)) };
            let message = "brokers keep topics with `$` in front to themselves (MQTT-4.7.2-1), so that nobody can follow \
                           them: say `stamp: none`, or `observe: none` for the fleet";
            found.add(format!("{above}/streams/{}/topic", pointer_step(name)), message);
        }
    }
}

/// Rules of topic names: MQTT-4.7.1-1 (no wildcards), MQTT-4.7.3-1 and -2 (not empty, no null).
fn check_topic(pointer: &str, topic: &Template, found: &mut Findings) {
    let text = topic.as_str();
    if text.is_empty() {
        found.add(pointer, "expected a topic, found nothing");
    } else if topic.literals().any(|literal| literal.contains(['+', '#', '\0'])) {
        found.add(pointer, format!("expected a topic without `+`, `#` and null characters, found `{text}`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Problems, read};

    const MODELS: &str = "
  models:
    thermometer:
      signals: {celsius: {kind: uniform, range: [0, 30]}}
      streams:
        state: {topic: '{fleet}/{index}/{stream}', interval: 10s, payload: {json: {celsius: '{celsius}'}}}
        alarm: {topic: '{fleet}/{index}/{stream}', trigger: {change: {signal: celsius}}, payload: {json: {celsius: '{celsius}'}}}
";

    pub(super) fn complaints(spec: &str) -> String {
        let text =
            format!("apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: demo}}\nspec:\n{spec}{MODELS}");
        let (fleet, tree) = match read::<Fleet>("f", &text) {
            Ok(read) => read,
            Err(problems) => return problems.to_string(),
        };
        Problems::locate("f", &tree, check(&fleet)).map_or_else(|problems| problems.to_string(), |()| "none".into())
    }

    #[test]
    fn a_right_fleet_has_no_problems() {
        assert_eq!(complaints("  devices: 10\n  groups: [{name: a, model: thermometer}]"), "none");
    }

    #[test]
    fn all_breaches_come_at_once() {
        insta::assert_snapshot!(complaints("  devices: 10
  clientId: sensor
  lossAfter: 0s
  connect: {keepAlive: 1500ms, backoff: {base: 10s, cap: 1s}, will: {topic: '{fleet}/+', payload: '{what}'}}
  broker:
    url: mqtt://localhost
    credentials: {username: '{id}', passwordFile: a, passwordEnv: B}
  groups:
    - {name: a, share: 50%, model: thermometer, streams: {state: {interval: 1s, jitter: 2s}, sate: {qos: 1}, alarm: {interval: 1s}}}
    - {name: a, share: 40%, model: barometer}"), @r"
        f:6:3: spec.clientId: expected `{index}` or `{uuid}`, so that each device has a name of its own, found `sensor`
        f:7:3: spec.lossAfter: expected more than no time, found `0s`
        f:8:13: spec.connect.keepAlive: expected whole seconds up to 65535s, found `1500ms`
        f:8:53: spec.connect.backoff.cap: expected at least the base, 10s, found `1s`
        f:8:70: spec.connect.will.topic: expected a topic without `+`, `#` and null characters, found `{fleet}/+`
        f:8:90: spec.connect.will.payload: `{what}` is no placeholder here; there are `{fleet}`, `{group}`, `{stream}`, `{index}`, `{index:05}`, `{id}` and `{uuid}`
        f:11:5: spec.broker.credentials: expected one of `passwordFile`, `passwordEnv` and `secretName`, found 2
        f:12:3: spec.groups: expected shares that add up to 100%, found 90%
        f:13:81: spec.groups[0].streams.state.jitter: jitter is at most the interval
        f:13:94: spec.groups[0].streams.sate: there is no stream `sate`, did you mean `state`? (there are `alarm`, `state`)
        f:13:118: spec.groups[0].streams.alarm.interval: the stream `alarm` follows a rule and has no interval
        f:14:8: spec.groups[1].name: expected a name of its own for each group, found `a` again
        f:14:29: spec.groups[1].model: expected the name of a model, found `barometer` (here: `thermometer`)
        ");
    }

    #[test]
    fn what_tls_needs_is_whole_and_no_more() {
        let of = |url: &str, tls: &str| {
            complaints(&format!(
                "  devices: 1\n  groups: [{{name: a, model: thermometer}}]\n  broker: {{url: '{url}', tls: {tls}}}"
            ))
        };
        assert_eq!(of("mqtts://b", "{ca: ca.pem, certificate: c.pem, key: k.pem, serverName: x}"), "none");
        assert_eq!(of("wss://b", "{caSecretName: ca, secretName: device}"), "none");
        insta::assert_snapshot!(of(
            "ws://b",
            "{ca: a, caSecretName: b, secretName: c, key: k, insecureSkipVerify: true}"
        ), @r"
        f:7:27: spec.broker.tls: expected `mqtts://` or `wss://` in `url`, found `ws://b:80/mqtt`, which has no TLS
        f:7:27: spec.broker.tls: expected one of `ca` and `caSecretName`, found both
        f:7:27: spec.broker.tls: expected `secretName`, or `certificate` and `key`, found both
        f:7:27: spec.broker.tls: expected `certificate` beside `key`, found none
        f:7:80: spec.broker.tls.insecureSkipVerify: expected no authority beside it, which nobody would ask, found one
        ");
    }

    #[test]
    fn a_fleet_has_one_address_or_several_of_one_kind() {
        let of = |broker: &str| {
            complaints(&format!("  devices: 1\n  groups: [{{name: a, model: thermometer}}]\n  broker: {broker}"))
        };
        assert_eq!(of("{urls: [a, 'b:1884']}"), "none");
        assert_eq!(of("{urls: ['mqtts://a', 'mqtts://b'], tls: {ca: ca.pem}}"), "none");
        insta::assert_snapshot!(of("{protocol: '5'}"), @"f:7:3: spec.broker: expected `url`, or `urls` for several addresses, or `access` alone for a broker of the fleet's own, found none of them");
        assert_eq!(of("{access: cluster}"), "none");
        insta::assert_snapshot!(of("{url: a, access: namespace}"), @"f:7:20: spec.broker.access: expected no address beside it: it is about the fleet's own broker");
        insta::assert_snapshot!(of("{access: cluster, protocol: '5'}"), @"f:7:3: spec.broker: expected `access` alone without an address: the fleet's own broker speaks MQTT 3.1.1 over TCP and has credentials of its own");
        insta::assert_snapshot!(of("{url: a, urls: [b]}"), @"f:7:20: spec.broker.urls: expected one of `url` and `urls`, found both");
        insta::assert_snapshot!(of("{urls: []}"), @"f:7:12: spec.broker.urls: expected at least 1, found fewer");
        insta::assert_snapshot!(of("{urls: [a, 'wss://b', 'mqtt://a:1883']}"), @r"
        f:7:22: spec.broker.urls[1]: expected the scheme of the first address, `mqtt://a:1883`, found `wss://b:443/mqtt`
        f:7:33: spec.broker.urls[2]: expected each address once, found `mqtt://a:1883` again
        ");
        let many: Vec<_> = (0..17).map(|number| format!("b{number}")).collect();
        insta::assert_snapshot!(of(&format!("{{urls: [{}]}}", many.join(", "))), @"f:7:12: spec.broker.urls: expected at most 16, found more");
    }

    #[test]
    fn what_only_mqtt_5_has_is_refused_in_3_1_1() {
        let spec = |protocol: &str| {
            format!(
                "  devices: 10
  broker: {{url: mqtt://localhost, protocol: {protocol}}}
  connect: {{session: persistent, sessionExpiry: 1h, topicAliases: 4, userProperties: {{site: lab}}, will: {{topic: t, payload: p, delay: 5s}}}}
  groups: [{{name: a, model: thermometer, streams: {{state: {{stamp: property, properties: {{contentType: application/json}}}}}}}}]"
            )
        };
        insta::assert_snapshot!(complaints(&spec("3.1.1")), @r"
        f:7:34: spec.connect.sessionExpiry: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        f:7:53: spec.connect.topicAliases: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        f:7:70: spec.connect.userProperties: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        f:7:128: spec.connect.will.delay: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        f:8:60: spec.groups[0].streams.state.stamp: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        f:8:77: spec.groups[0].streams.state.properties: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        ");
        assert_eq!(complaints(&spec("'5'")), "none");
        insta::assert_snapshot!(complaints(&spec("5")), @"f:6:35: spec.broker.protocol: expected one of `3.1.1`, `5`, found `5` without quotes");
    }

    #[test]
    fn fields_of_mqtt_5_have_their_own_laws() {
        insta::assert_snapshot!(complaints("  devices: 10
  broker: {url: mqtt://localhost, protocol: '5'}
  connect: {sessionExpiry: 1500ms, will: {topic: t, payload: p, delay: 500ms}}
  groups: [{name: a, model: thermometer, streams: {state: {stamp: property, properties: {expiry: 1500ms, responseTopic: 'a/+', user: {stamp: x}}}}}]"), @r"
        f:7:13: spec.connect.sessionExpiry: expected whole seconds up to 4294967294s, found `1500ms`
        f:7:13: spec.connect.sessionExpiry: expected `session: persistent`, since a clean session is not kept
        f:7:65: spec.connect.will.delay: expected whole seconds up to 4294967294s, found `500ms`
        f:8:90: spec.groups[0].streams.state.properties.expiry: expected whole seconds up to 4294967295s
        f:8:106: spec.groups[0].streams.state.properties.responseTopic: expected a topic without `+`, `#` and null characters
        f:8:135: spec.groups[0].streams.state.properties.user.stamp: the stamp travels under this name; rename it, or choose another way to stamp
        ");
    }

    #[test]
    fn an_observed_topic_names_its_device() {
        let spec = |observe: &str| {
            format!(
                "  devices: 10\n  clientId: '{{fleet}}-{{uuid}}'\n  observe: {observe}
  groups: [{{name: a, model: thermometer, streams: {{state: {{topic: 'x/{{id}}'}}}}}}]"
            )
        };
        insta::assert_snapshot!(complaints(&spec("all")), @"f:8:22: spec.groups[0].model: the topic `x/{id}` of stream `state` does not say which device sent a message, as the client id has no `{index}`; write `{index}` for `{id}`, or set `observe: none`");
        assert_eq!(complaints(&spec("none")), "none");
    }
}
