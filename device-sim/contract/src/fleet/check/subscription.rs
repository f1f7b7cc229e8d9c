//! What is wrong with what the devices of a group subscribe to.

use super::{Findings, Fleet, Group};
use crate::{
    fleet::{Protocol, RetainHandling, Subscription},
    template::{Names, Template},
    topic_filter,
};

/// The most bytes of a filter (MQTT-4.7.3-3).
const FILTER_MAX: usize = 65_535;

/// The last index that there can be, and so the one with the longest name.
const LAST_INDEX: u32 = 9_999_999;

/// Checks the subscriptions of the group at the pointer `at`; without a client id, as far as that goes.
pub(super) fn check(fleet: &Fleet, group: &Group, client_id: Option<&Template>, at: &str, found: &mut Findings) {
    let protocol = fleet.spec.protocol();
    let names = Names {
        fleet: &fleet.metadata.name,
        group: &group.name,
        stream: "",
        seed: fleet.spec.seed,
        first: fleet.spec.first_index,
    };
    let mut seen = Vec::new();
    for (position, subscription) in group.subscriptions.iter().enumerate() {
        let at = format!("{at}/subscriptions/{position}");
        check_options(subscription, protocol, &at, found);
        let topic = template(found, format!("{at}/topic"), &subscription.topic);
        let share = subscription.share.as_ref().map(|share| template(found, format!("{at}/share"), share));
        let (Some(topic), Some(client_id)) = (topic, client_id) else { continue };
        let name = |template: &Template| template.bind(&names, client_id).text(LAST_INDEX);
        let mut filter = name(&topic);
        check_topic(&topic, &filter, protocol, &format!("{at}/topic"), found);
        if let Some(share) = share {
            let Some(share) = share.as_ref().map(name) else { continue };
            check_share(&share, &format!("{at}/share"), found);
            filter = format!("$share/{share}/{filter}");
        }
        if filter.len() > FILTER_MAX {
            let message = format!("expected a filter of at most {FILTER_MAX} bytes, found {}", filter.len());
            found.add(format!("{at}/topic"), message);
        }
        if seen.contains(&filter) {
            let message = format!("expected each filter once in a group, found `{}` again", subscription.filter());
            found.add(format!("{at}/topic"), message);
        }
        seen.push(filter);
    }
}

/// The template of a name that has no stream.
fn template(found: &mut Findings, at: String, text: &str) -> Option<Template> {
    let template = found.template(&at, text)?;
    if template.uses_stream() {
        found.add(at, format!("expected no `{{stream}}`, as a subscription has no stream, found `{text}`"));
        return None;
    }
    Some(template)
}

fn check_options(subscription: &Subscription, protocol: Protocol, at: &str, found: &mut Findings) {
    // Destructured, so that what a new field needs cannot be forgotten.
    let Subscription { topic: _, qos: _, no_local, retain_as_published, retain_handling, share } = subscription;
    let set = |is_set: bool| is_set.then_some(());
    let is_handling_changed = *retain_handling != RetainHandling::default();
    found.needs_5(format!("{at}/noLocal"), protocol, set(*no_local).as_ref());
    found.needs_5(format!("{at}/retainAsPublished"), protocol, set(*retain_as_published).as_ref());
    found.needs_5(format!("{at}/retainHandling"), protocol, set(is_handling_changed).as_ref());
    found.needs_5(format!("{at}/share"), protocol, share.as_ref());
    if *no_local && share.is_some() {
        let message = "expected no `noLocal` beside `share`, which MQTT 5 forbids (MQTT-3.8.3-4), found both";
        found.add(format!("{at}/noLocal"), message);
    }
}

/// Rules of filters: MQTT-4.7.3-1 and -2 (not empty, no null), section 4.7.1 (wildcards).
fn check_topic(template: &Template, text: &str, protocol: Protocol, at: &str, found: &mut Findings) {
    if text.is_empty() {
        found.add(at, "expected a filter, found nothing");
    } else if text.contains('\0') {
        found.add(at, "expected a filter without null characters, found one");
    } else if !topic_filter::has_right_wildcards(text) {
        let expected = "expected `+` and `#` to fill their levels, and `#` in the last one";
        found.add(at, format!("{expected}, found `{template}`"));
    } else if protocol == Protocol::V5 && text.starts_with("$share/") {
        found.add(at, format!("expected the name of a shared subscription in `share`, found `{template}`"));
    }
}

/// Section 4.8.2: a name is not empty, and has neither `/` nor wildcards.
fn check_share(name: &str, at: &str, found: &mut Findings) {
    if name.is_empty() || name.contains(['/', '+', '#', '\0']) {
        found.add(at, format!("expected a name without `/`, `+`, `#` and null characters, found `{name}`"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::complaints;

    fn of(protocol: &str, subscriptions: &str) -> String {
        complaints(&format!(
            "  devices: 10\n  broker: {{url: mqtt://localhost, protocol: {protocol}}}\n  groups:\n    \
             - name: a\n      model: thermometer\n      subscriptions: [{subscriptions}]"
        ))
    }

    #[test]
    fn filters_are_templates_with_wildcards_and_options() {
        let filters = "{topic: 'commands/{id}', qos: 1}, {topic: 'all/+/{group}/#'}, {topic: $SYS/#}";
        assert_eq!(of("3.1.1", filters), "none");
        assert_eq!(of("3.1.1", "{topic: a, noLocal: false, retainHandling: send}"), "none");
        // Some brokers of 3.1.1 share it; for MQTT itself it is a filter like any other.
        assert_eq!(of("3.1.1", "{topic: $share/g/a}"), "none");
        let all = "{topic: a, qos: 2, noLocal: true, retainAsPublished: true, retainHandling: doNotSend}";
        assert_eq!(of("'5'", all), "none");
        assert_eq!(of("'5'", "{topic: a}, {topic: a, share: '{fleet}', retainHandling: sendIfNew}"), "none");
    }

    #[test]
    fn a_wrong_filter_is_told_where_it_stands() {
        let wrong = "{topic: ''}, {topic: 'a/{id}#'}, {topic: '#/{index}'}, {topic: 'a/{stream}'}";
        insta::assert_snapshot!(of("3.1.1", wrong), @r"
        f:10:24: spec.groups[0].subscriptions[0].topic: expected a filter, found nothing
        f:10:37: spec.groups[0].subscriptions[1].topic: expected `+` and `#` to fill their levels, and `#` in the last one, found `a/{id}#`
        f:10:57: spec.groups[0].subscriptions[2].topic: expected `+` and `#` to fill their levels, and `#` in the last one, found `#/{index}`
        f:10:79: spec.groups[0].subscriptions[3].topic: expected no `{stream}`, as a subscription has no stream, found `a/{stream}`
        ");
        insta::assert_snapshot!(of("3.1.1", "{topic: 'a/{id}'}, {topic: 'a/{fleet}-{index}', qos: 1}"), @"f:10:43: spec.groups[0].subscriptions[1].topic: expected each filter once in a group, found `a/{fleet}-{index}` again");
        insta::assert_snapshot!(of("3.1.1", "{topic: 'a/{device}'}"), @"f:10:24: spec.groups[0].subscriptions[0].topic: `{device}` is no placeholder here; there are `{fleet}`, `{group}`, `{stream}`, `{index}`, `{index:05}`, `{id}` and `{uuid}`");
        let shares = "{topic: $share/g/a}, {topic: a, share: ''}, {topic: a, share: 'x/{group}'}";
        insta::assert_snapshot!(of("'5'", shares), @r"
        f:10:24: spec.groups[0].subscriptions[0].topic: expected the name of a shared subscription in `share`, found `$share/g/a`
        f:10:55: spec.groups[0].subscriptions[1].share: expected a name without `/`, `+`, `#` and null characters, found ``
        f:10:78: spec.groups[0].subscriptions[2].share: expected a name without `/`, `+`, `#` and null characters, found `x/a`
        ");
        let long = "a".repeat(65_530);
        insta::assert_snapshot!(of("'5'", &format!("{{topic: {long}, share: group}}")), @"f:10:24: spec.groups[0].subscriptions[0].topic: expected a filter of at most 65535 bytes, found 65543");
        let many: Vec<_> = (0..17).map(|number| format!("{{topic: a/{number}}}")).collect();
        insta::assert_snapshot!(of("3.1.1", &many.join(", ")), @"f:10:7: spec.groups[0].subscriptions: expected at most 16, found more");
    }

    #[test]
    fn options_of_mqtt_5_are_refused_in_3_1_1() {
        let all = "{topic: a, noLocal: true, retainAsPublished: true, retainHandling: sendIfNew}, {topic: a, share: g}";
        insta::assert_snapshot!(of("3.1.1", all), @r"
        f:10:34: spec.groups[0].subscriptions[0].noLocal: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        f:10:49: spec.groups[0].subscriptions[0].retainAsPublished: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        f:10:74: spec.groups[0].subscriptions[0].retainHandling: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        f:10:113: spec.groups[0].subscriptions[1].share: MQTT 3.1.1 has no such thing; set `broker.protocol: '5'`, or leave it out
        ");
    }

    #[test]
    fn a_share_does_not_leave_own_messages_out() {
        insta::assert_snapshot!(of("'5'", "{topic: a, noLocal: true, share: g}"), @"f:10:34: spec.groups[0].subscriptions[0].noLocal: expected no `noLocal` beside `share`, which MQTT 5 forbids (MQTT-3.8.3-4), found both");
    }
}
