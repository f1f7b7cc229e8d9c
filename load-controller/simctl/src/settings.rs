//! What was meant: the document with what flags and variables change of it, checked.

use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{BrokerSpec, Credentials, Fleet, FleetSpec, Group, Observe, Protocol, Qos},
    load_test::{Criterion, LoadTest},
    model::StampMode,
    units::{Rate, Share, Span},
};
use load_controller::run::phase::Phases;

use crate::{
    document::{self, Document},
    exit::Failure,
    flags::FleetFlags,
    library,
};

/// The most devices, and the most messages a second, that a broker on another machine gets unasked.
const UNASKED_MAX: u32 = 1_000;

/// A fleet that is ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The document, flags included.
    pub(crate) document: Document,
    /// Whether somebody has written a document for it.
    pub(crate) has_document: bool,
    /// Whether simctl itself runs the broker.
    pub(crate) is_embedded: bool,
    /// The load test, if the document holds one.
    pub(crate) load_test: Option<LoadTest>,
    /// The parts of the run that are measured apart.
    pub(crate) phases: Phases,
    /// What must come of the run.
    pub(crate) thresholds: Vec<Criterion>,
    /// How many devices there are before a phase says otherwise, if that is not what the fleet has in the end.
    pub(crate) devices_before: Option<u32>,
    /// How many devices there are when the run begins; the fleet has as many as there are at any time.
    pub(crate) devices_first: u32,
}

impl Settings {
    /// The fleet that document and flags describe; without a document the one of `simctl example`.
    ///
    /// A document that leaves the number of devices open is an error without `--devices`: 0 devices would show nothing,
    /// and any other number would be load that no person has asked for.
    pub(crate) fn new(flags: &FleetFlags) -> Result<Self, Failure> {
        let document = match &flags.file {
            Some(file) => document::read(file, flags.fleet.as_deref())?,
            None => document::from_text("demo", library::EXAMPLES[0].1, None)?,
        };
        Self::of(document, None, flags)
    }

    /// The same, with the load test that the document holds; `load_test` is the name of the one that is meant, and
    /// `are_commands_allowed` if it may run commands.
    pub(crate) fn to_run(
        flags: &FleetFlags,
        load_test: Option<&str>,
        are_commands_allowed: bool,
    ) -> Result<Self, Failure> {
        let Some(file) = &flags.file else { return Self::new(flags) };
        let (document, load_test) =
            document::read_to_run(file, load_test, flags.fleet.as_deref(), are_commands_allowed)?;
        Self::of(document, load_test, flags)
    }

    fn of(mut document: Document, load_test: Option<LoadTest>, flags: &FleetFlags) -> Result<Self, Failure> {
        let says_devices = |test: &LoadTest| test.spec.phases.iter().any(|phase| phase.devices.is_some());
        let is_said = load_test.as_ref().is_some_and(says_devices);
        if is_said && flags.devices.is_some() {
            return Err(Failure::usage(
                "expected the load test to say how many devices there are, found --devices as well",
            ));
        }
        if let (Some(file), None, true) = (&flags.file, flags.devices, document.leaves_devices_open && !is_said) {
            return Err(Failure::usage(format!(
                "{} leaves the number of devices open: expected --devices N beside it, or `devices` in its spec",
                file.display()
            )));
        }
        if document.fleet.spec.has_own_broker() {
            // `access` is for a cluster: the embedded broker is reached from this machine alone.
            document.fleet.spec.broker = None;
        }
        if apply(flags, &mut document.fleet)? {
            document.settle()?;
            apply_to_streams(flags, &mut document.fleet);
            document.settle()?;
        }
        let ramp = flags.devices.and_then(|devices| devices.ramp);
        Ok(Self {
            devices_first: ramp.map_or(document.fleet.spec.devices, |ramp| ramp.from),
            document,
            has_document: flags.file.is_some(),
            is_embedded: false,
            load_test,
            phases: Phases::default(),
            thresholds: Vec::new(),
            devices_before: None,
        })
    }

    /// The fleet.
    pub(crate) const fn fleet(&self) -> &Fleet {
        &self.document.fleet
    }

    /// Enters the broker that simctl runs itself.
    pub(crate) fn embed(&mut self, broker: BrokerSpec) {
        self.document.fleet.spec.broker = Some(broker);
        self.is_embedded = true;
    }

    /// What the reader of a report must know of the document: streams whose messages cannot be recognised for certain.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let client_id = self.fleet().spec.client_id.parse().ok();
        for group in &self.fleet().spec.groups {
            let Some(model) = self.fleet().spec.models.get(&group.model) else { continue };
            for (name, stream) in &model.streams {
                let stream = group.stream(name, stream);
                let is_followed = client_id.as_ref().is_some_and(|client_id| stream.can_be_followed(client_id));
                let what = match stream.stamp {
                    StampMode::Field | StampMode::Property => continue,
                    StampMode::Counter(field) => format!(
                        "is recognised by its own counter `{field}`: messages of another run cannot be told apart, \
                         and end-to-end latency is not known"
                    ),
                    StampMode::None if is_followed => {
                        "is recognised by topic and body, as it has no stamp: of equal bodies \
                         the one sent first counts as arrived, and messages of another run cannot be told apart"
                            .into()
                    }
                    StampMode::None => {
                        "has no stamp, and its topic is the broker's own or does not name the device: what \
                         becomes of its messages is not followed"
                            .into()
                    }
                };
                notes.push(format!("stream {name} of group {} {what}", group.name));
            }
        }
        notes
    }

    /// Refuses a password that only a cluster has.
    pub(crate) fn check_passwords(&self) -> Result<(), Failure> {
        let spec = &self.fleet().spec;
        let devices = spec.broker.as_ref().and_then(|broker| broker.credentials.as_ref());
        let both = [("broker", devices), ("observer", spec.observer.credentials.as_ref())];
        let name = |credentials: &Credentials| credentials.secret_name.clone();
        let found = both.into_iter().find_map(|(owner, it)| Some((owner, it.and_then(name)?)));
        let Some((owner, secret)) = found else { return Ok(()) };
        let flags = if owner == "broker" { ", or say --username NAME and --password-file FILE" } else { "" };
        Err(Failure::document(format!(
            "spec.{owner}.credentials.secretName: a run on this machine reads no Secrets, not even `{secret}` in the same \
             file: write `passwordFile` or `passwordEnv` in its place{flags}"
        )))
    }

    /// Lets each device send so many messages of each stream.
    pub(crate) fn send_each(&mut self, messages: u32) {
        let spec = &mut self.document.fleet.spec;
        for group in &mut spec.groups {
            for name in spec.models.get(&group.model).into_iter().flat_map(|model| model.streams.keys()) {
                group.streams.entry(name.clone()).or_default().messages = Some(messages);
            }
        }
    }

    /// Divides the run into phases.
    pub(crate) fn divide(&mut self, phases: Phases) {
        let spec = &mut self.document.fleet.spec;
        // That of a document without `devices` is no number that anybody has asked for.
        self.devices_before = Some(spec.devices).filter(|_| !phases.is_empty());
        self.devices_first = phases.devices_first(self.devices_first).unwrap_or(self.devices_first);
        spec.devices = self.devices_first.max(phases.devices_most(self.devices_first).unwrap_or(spec.devices));
        self.phases = phases;
    }

    /// Follows no message to its delivery.
    pub(crate) const fn observe_nothing(&mut self) {
        self.document.fleet.spec.observe = Observe::None;
    }

    /// The broker that was named, if one was: its addresses.
    pub(crate) fn broker(&self) -> Option<&[BrokerUrl]> {
        self.fleet().spec.broker.as_ref().map(BrokerSpec::addresses)
    }
}

/// Changes the document as the flags say; whether any did.
fn apply(flags: &FleetFlags, fleet: &mut Fleet) -> Result<bool, Failure> {
    // Destructured, so that a new flag cannot be forgotten.
    let FleetFlags {
        file,
        fleet: _,
        devices,
        model,
        interval,
        qos,
        broker,
        protocol,
        tls,
        username,
        password_file,
        seed,
        first_index,
        connect_rate,
        observe,
    } = flags;
    let spec = &mut fleet.spec;
    spec.devices = devices.map_or(spec.devices, |devices| devices.most);
    spec.seed = seed.unwrap_or(spec.seed);
    spec.first_index = first_index.unwrap_or(spec.first_index);
    spec.connect.rate = match connect_rate {
        Some(rate) => *rate,
        None if file.is_none() => unhurried(spec.connect.rate, spec.devices),
        None => spec.connect.rate,
    };
    spec.observe = observe.unwrap_or(spec.observe);
    if let Some(model) = model {
        let name = model.to_lowercase();
        let (share, model) = (Some(Share::ALL), model.clone());
        spec.groups = vec![Group { name, share, model, streams: [].into(), subscriptions: Vec::new() }];
    }
    if !broker.is_empty() {
        match &mut spec.broker {
            Some(present) => present.set_addresses(broker.clone()),
            none => *none = Some(BrokerSpec::at(broker.clone())),
        }
    }
    match protocol {
        Some(Protocol::V311) if spec.broker.is_none() => {}
        Some(protocol) => named(spec, "--protocol 5: the embedded broker speaks 3.1.1")?.protocol = *protocol,
        None => {}
    }
    if tls.is_given() {
        let broker = named(spec, "the flags of TLS: the embedded broker has none")?;
        tls.apply(broker.tls.get_or_insert_default());
    }
    if let Some(username) = username {
        let broker = named(spec, "--username: the embedded broker lets everybody in")?;
        broker.credentials = Some(Credentials {
            username: username.clone(),
            password_file: password_file.as_ref().map(|file| file.display().to_string()),
            password_env: None,
            secret_name: None,
        });
    }
    Ok(devices.is_some()
        || seed.is_some()
        || first_index.is_some()
        || connect_rate.is_some()
        || observe.is_some()
        || model.is_some()
        || !broker.is_empty()
        || protocol.is_some()
        || tls.is_given()
        || username.is_some()
        || interval.is_some()
        || qos.is_some())
}

/// The broker that a flag is about; `flag` says which one, and why the embedded broker does not do.
fn named<'s>(spec: &'s mut FleetSpec, flag: &str) -> Result<&'s mut BrokerSpec, Failure> {
    spec.broker.as_mut().ok_or_else(|| Failure::usage(format!("expected --broker beside {flag}")))
}

/// The rate of a fleet that nobody wrote a document for: as fast as it takes to connect within a minute.
fn unhurried(rate: Rate, devices: u32) -> Rate {
    const FIRST_ROUND_SECONDS: u32 = 60;
    let needed = Rate::per_second(devices.div_ceil(FIRST_ROUND_SECONDS).into());
    needed.filter(|needed| *needed > rate).unwrap_or(rate)
}

/// Changes all streams as the flags say; for that the models must be known.
fn apply_to_streams(flags: &FleetFlags, fleet: &mut Fleet) {
    for group in &mut fleet.spec.groups {
        let Some(model) = fleet.spec.models.get(&group.model) else { continue };
        for (name, stream) in &model.streams {
            let interval = flags.interval.filter(|_| stream.interval.is_some());
            set_stream(group, name, stream.jitter, interval, flags.qos);
        }
    }
}

fn set_stream(group: &mut Group, name: &str, jitter: Span, interval: Option<Span>, qos: Option<Qos>) {
    if interval.is_none() && qos.is_none() {
        return;
    }
    let change = group.streams.entry(name.into()).or_default();
    change.qos = qos.or(change.qos);
    if let Some(interval) = interval {
        change.interval = Some(interval);
        // A jitter that fitted the longer interval must fit the shorter one.
        let jitter = change.jitter.unwrap_or(jitter);
        if jitter > interval {
            change.jitter = Some(interval);
        }
    }
}

/// Whether so much load may go to this broker unasked; `Err` says what to do.
pub(crate) fn guard(
    broker: Option<&[BrokerUrl]>,
    is_asked_for: bool,
    devices: u32,
    messages_per_second: f64,
) -> Result<(), String> {
    let elsewhere = broker.and_then(|addresses| addresses.iter().find(|url| !url.is_loopback()));
    let Some(url) = elsewhere else { return Ok(()) };
    if is_asked_for || (devices <= UNASKED_MAX && messages_per_second <= f64::from(UNASKED_MAX)) {
        return Ok(());
    }
    Err(format!(
        "{url} is not on this machine, so it gets at most {UNASKED_MAX} devices and {UNASKED_MAX} messages a second unasked, \
         found {devices} devices and {messages_per_second:.0} messages a second; if that broker is yours to load, \
         say --yes or write a document (`simctl example > fleet.yaml`)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::TlsFlags;

    #[track_caller]
    fn settled(flags: &FleetFlags) -> Fleet {
        Settings::new(flags).unwrap().document.fleet
    }

    #[test]
    fn a_shorter_interval_shortens_the_jitter_of_the_model() {
        let flags = FleetFlags {
            model: Some("thermometer".into()),
            interval: Some(Span::from_millis(100)),
            ..FleetFlags::default()
        };
        let settings = Settings::new(&flags).unwrap();
        let change = &settings.fleet().spec.groups[0].streams["reading"];
        assert_eq!((change.interval, change.jitter), (flags.interval, flags.interval));
    }

    #[test]
    fn without_anything_there_are_a_hundred_mixed_devices() {
        let fleet = settled(&FleetFlags::default());
        assert_eq!((fleet.spec.devices, fleet.spec.broker), (100, None));
        assert!(fleet.spec.groups.len() >= 3);
    }

    #[test]
    fn flags_win_over_the_document() {
        let fleet = settled(&FleetFlags {
            devices: Some(7.into()),
            seed: Some(9),
            qos: Some(Qos::ExactlyOnce),
            interval: Some(Span::from_millis(250)),
            model: Some("thermometer".into()),
            broker: vec!["mqtt://[::1]:1885".parse().unwrap()],
            ..FleetFlags::default()
        });
        let group = &fleet.spec.groups[0];
        assert_eq!((fleet.spec.devices, fleet.spec.seed, fleet.spec.groups.len()), (7, 9, 1));
        assert_eq!(fleet.spec.broker.unwrap().names(), "mqtt://[::1]:1885");
        for (name, stream) in &fleet.spec.models["thermometer"].streams {
            let meant = group.stream(name, stream);
            assert_eq!(meant.qos, Qos::ExactlyOnce);
            assert_eq!(meant.interval, stream.interval.map(|_| Span::from_millis(250)));
        }
    }

    #[test]
    fn a_large_fleet_without_a_document_connects_within_a_minute() {
        let rate = |flags: &FleetFlags| settled(flags).spec.connect.rate.to_string();
        let of = |devices: u32| FleetFlags { devices: Some(devices.into()), ..FleetFlags::default() };
        assert_eq!(rate(&of(100_000)), "1667/s");
        assert_eq!(rate(&of(100)), rate(&FleetFlags::default()));
        assert_eq!(rate(&FleetFlags { connect_rate: Rate::per_second(10.0), ..of(100_000) }), "10/s");
    }

    #[test]
    fn an_unknown_model_is_a_bad_document() {
        let failure =
            Settings::new(&FleetFlags { model: Some("submarine".into()), ..FleetFlags::default() }).unwrap_err();
        assert!(
            failure.to_string().starts_with("spec.groups[0].model: expected the name of a model, found `submarine`")
        );
        assert_eq!(failure.code, load_controller::run::verdict::ExitCode::Document);
    }

    #[test]
    fn a_transport_keeps_what_the_document_says_of_tls() {
        let text = "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  devices: 1\n  \
                    broker: {url: 'mqtts://a', tls: {ca: ca.pem}}\n  groups: [{name: g, model: thermometer}]";
        let mut fleet = document::from_text("f", text, None).unwrap().fleet;
        let flags = FleetFlags { broker: vec!["wss://b/x".parse().unwrap()], ..FleetFlags::default() };
        assert!(apply(&flags, &mut fleet).unwrap());
        let broker = fleet.spec.broker.unwrap();
        assert_eq!((broker.names().as_str(), broker.tls.unwrap().ca.as_deref()), ("wss://b:443/x", Some("ca.pem")));
    }

    #[test]
    fn tls_and_version_come_from_flags_alone() {
        let tls = TlsFlags { server_name: Some("b.example".into()), ..TlsFlags::default() };
        let at = |url: &str| FleetFlags {
            broker: vec![url.parse().unwrap()],
            protocol: Some(Protocol::V5),
            tls: tls.clone(),
            ..FleetFlags::default()
        };
        let broker = settled(&at("mqtts://127.0.0.1")).spec.broker.unwrap();
        assert_eq!((broker.protocol, broker.tls.unwrap().server_name.as_deref()), (Protocol::V5, Some("b.example")));
        let refused = |flags: &FleetFlags| Settings::new(flags).unwrap_err().to_string();
        let plain = refused(&at("mqtt://127.0.0.1"));
        assert!(plain.contains("expected `mqtts://` or `wss://` in `url`, found `mqtt://127.0.0.1:1883`"), "{plain}");
        let embedded = refused(&FleetFlags { tls: tls.clone(), ..FleetFlags::default() });
        assert_eq!(embedded, "expected --broker beside the flags of TLS: the embedded broker has none");
        let version = |protocol| FleetFlags { protocol: Some(protocol), ..FleetFlags::default() };
        assert!(refused(&version(Protocol::V5)).starts_with("expected --broker beside --protocol 5"));
        assert_eq!(settled(&version(Protocol::V311)).spec.broker, None);
    }

    #[test]
    fn a_run_says_what_to_write_instead_of_a_secret() {
        let directory = crate::fixture::directory(&[("f.yaml", library::example("own-broker").unwrap())]);
        let flags = FleetFlags { file: Some(directory.path().join("f.yaml")), ..FleetFlags::default() };
        let refused = Settings::new(&flags).unwrap().check_passwords().unwrap_err().to_string();
        assert!(refused.starts_with("spec.broker.credentials.secretName: a run on this machine reads no Secrets"));
        assert!(refused.ends_with("or say --username NAME and --password-file FILE"), "{refused}");
        let username = FleetFlags { username: Some("me".into()), ..flags };
        assert!(Settings::new(&username).unwrap().check_passwords().is_ok());
    }

    #[test]
    fn a_broker_elsewhere_is_not_flooded_unasked() {
        let [here, elsewhere]: [BrokerUrl; 2] =
            ["mqtt://127.0.0.1", "mqtt://broker.example"].map(|url| url.parse().unwrap());
        let (here, elsewhere) = (Some(&[here.clone()][..]), Some(&[here, elsewhere][..]));
        assert!(guard(elsewhere, false, 1_000, 1_000.0).is_ok());
        assert!(guard(elsewhere, false, 1_001, 1.0).is_err());
        assert!(guard(elsewhere, false, 1, 1_001.0).is_err());
        assert!(guard(elsewhere, true, 100_000, 100_000.0).is_ok());
        assert!(guard(here, false, 100_000, 100_000.0).is_ok());
        assert!(guard(None, false, 100_000, 100_000.0).is_ok());
    }
}
