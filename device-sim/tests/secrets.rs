//! Passwords and certificates that change while a fleet runs: from the next CONNECT on, and nothing is lost.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

#[path = "common/authority.rs"]
mod authority;
#[expect(dead_code, reason = "nobody asks here what the front has seen")]
#[path = "common/front.rs"]
mod front;
#[expect(dead_code, reason = "fleets here have a broker of their own making, and keep their plan")]
#[path = "common/run.rs"]
mod run;
#[expect(dead_code, reason = "the broker here has a front of its own")]
#[path = "common/site.rs"]
mod site;

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use authority::Authority;
use broker::{Config, Users};
use device_sim::{
    clock::Clock,
    engine::{Engine, Kind, Options},
    session::{
        Refusal,
        codec::{Connect, Protocol},
    },
    transport::{Route, introduce},
};
use fleet_contract::{
    fleet::{Credentials, Tls},
    stats::Stats,
};
use front::{Front, Speaks};
use run::{Run, TestBroker, assignment, until};
use site::{NOW, broker_at, trusting};

const DEVICES: u32 = 20;

/// More than the files are looked at again in: 20 devices send 500 messages a second.
const SEVERAL_LOOKS: u64 = 1_500;

/// The files of a broker's users and of a fleet's passwords, and what runs with them.
struct Secrets {
    folder: tempfile::TempDir,
}

impl Secrets {
    fn new() -> Self {
        let secrets = Self { folder: tempfile::tempdir().unwrap() };
        secrets.admit(&["old"]);
        secrets.set("devices", "old");
        secrets.set("observer", "old");
        secrets
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file at once, as kubelet and careful people do.
    fn set(&self, name: &str, content: &str) {
        fs::write(self.path("new"), content).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// The broker takes these passwords of devices and observer, and no others.
    fn admit(&self, passwords: &[&str]) {
        let lines = passwords.iter().map(|password| format!("devices:{password}\nobserver:{password}\n"));
        self.set("users", &lines.collect::<String>());
    }

    fn users(&self) -> Users {
        Users::read(&self.path("users")).unwrap()
    }

    fn broker(&self) -> TestBroker {
        TestBroker::of(Config { users: Some(self.users()), data: Some(self.path("data")), ..Config::default() })
    }

    fn run(&self, kind: Kind, extra: &str) -> Run {
        let (broker, clock) = (self.broker(), Clock::new());
        let mut assignment = assignment(broker.address, DEVICES, extra, &clock);
        let spec = &mut assignment.fleet.spec;
        spec.broker.as_mut().unwrap().credentials = Some(self.credentials("devices"));
        spec.observer.credentials = Some(self.credentials("observer"));
        Run::of(broker, clock, kind, 2, &assignment)
    }

    fn credentials(&self, name: &str) -> Credentials {
        let password_file = Some(self.path(name).display().to_string());
        Credentials { username: name.into(), password_file, password_env: None, secret_name: None }
    }
}

/// Takes the session of a device away with this password, as soon as the broker takes it.
fn take_session(run: &Run, device: u32, password: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Some(refusal) = sign_in(run, &format!("f-{device}"), password) {
        assert!(Instant::now() < deadline, "{password}: {refusal:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn sign_in(run: &Run, client_id: &str, password: &str) -> Option<Refusal> {
    let password = Some(password.as_bytes());
    let connect = Connect { client_id, user: Some("devices"), password, ..Connect::default() };
    introduce(&Route::default(), run.broker.address, Protocol::V311, &connect, Duration::from_secs(10)).unwrap()
}

/// All was acknowledged, but for what was given up with a session that was taken away: a QoS 2 message that waits for its PUBCOMP then
/// cannot be sent again, because the broker has forgotten that it has it.
#[track_caller]
fn expect_nothing_lost(stats: &Stats, were_sessions_taken: bool) {
    for (qos, messages) in stats.messages.iter().enumerate().skip(1) {
        assert!(messages.sent > 100, "{messages:?}");
        assert_eq!(messages.lost, 0, "{messages:?}");
        assert_eq!(messages.acknowledged + messages.abandoned, messages.sent, "{messages:?}");
        assert!(messages.abandoned == 0 || qos == 2 && were_sessions_taken, "{messages:?}");
    }
}

const PATIENT: &str =
    "  connect: {session: persistent, backoff: {base: 100ms, cap: 500ms}}\n  offline: {catchUp: {max: 1000}}\n";

#[test]
fn a_password_that_rotates_with_a_grace_period_refuses_nobody() {
    let secrets = Secrets::new();
    let run = secrets.run(Kind::Native, PATIENT);
    run.until_connected(DEVICES);
    run.until_sent(500);
    secrets.admit(&["old", "new"]);
    secrets.set("devices", "new\n");
    secrets.set("observer", "new\n");
    let before = run.engine.stats().stats.all_messages().sent;
    run.until_sent(before + SEVERAL_LOOKS);
    secrets.admit(&["new"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while sign_in(&run, "other", "old").is_none() {
        assert!(Instant::now() < deadline, "the broker still takes the old password");
        thread::sleep(Duration::from_millis(20));
    }
    for device in 0..5 {
        take_session(&run, device, "new");
    }
    run.until("five devices are back", |reading| {
        reading.stats.connections.reconnects == 5 && reading.stats.devices.connected == DEVICES
    });
    let stats = run.drain();
    assert!(stats.connections.refused.is_empty(), "{:?}", stats.connections);
    assert_eq!(stats.connections.accepted, u64::from(DEVICES) + 5, "who is connected stays connected");
    expect_nothing_lost(&stats, true);
}

#[test]
fn a_password_that_rotates_without_a_grace_period_costs_time_alone() {
    let secrets = Secrets::new();
    let run = secrets.run(Kind::Native, PATIENT);
    run.until_connected(DEVICES);
    run.until_sent(500);
    secrets.admit(&["new"]);
    for device in 0..5 {
        take_session(&run, device, "new");
    }
    run.until("the old password is refused", |reading| reading.stats.devices.refused == 5);
    assert_eq!(run.engine.stats().stats.devices.connected, DEVICES - 5);
    secrets.set("devices", "new");
    run.until_connected(DEVICES);
    let stats = run.drain();
    assert_eq!(stats.connections.reconnects, 5);
    expect_nothing_lost(&stats, true);
}

#[test]
fn devices_and_observer_return_to_a_broker_with_other_passwords() {
    let secrets = Secrets::new();
    let mut run = secrets.run(Kind::Native, PATIENT);
    run.until_connected(DEVICES);
    run.until_sent(500);
    run.broker.stop();
    run.until("the loss of all connections", |reading| reading.stats.devices.connected == 0);
    secrets.admit(&["new"]);
    run.broker.config.users = Some(secrets.users());
    run.broker.resume();
    run.until("the old password is refused", |reading| reading.stats.devices.refused == DEVICES);
    secrets.set("devices", "new");
    secrets.set("observer", "new");
    run.until_connected(DEVICES);
    run.until("the observer is back", |reading| reading.stats.observer.subscribed == 1);
    let before = run.engine.stats().stats.all_messages().sent;
    run.until_sent(before + 1_000);
    let stats = run.drain();
    assert_eq!(stats.observer.losses, 1);
    expect_nothing_lost(&stats, false);
}

#[test]
fn a_file_that_cannot_be_used_keeps_the_old_password_and_is_counted_once() {
    let secrets = Secrets::new();
    let run = secrets.run(Kind::Native, PATIENT);
    run.until_connected(DEVICES);
    secrets.set("devices", "\n");
    fs::remove_file(secrets.path("observer")).unwrap();
    run.until("both are counted", |reading| reading.stats.generator.secrets_unusable.len() == 2);
    let before = run.engine.stats().stats.all_messages().sent;
    run.until_sent(before + SEVERAL_LOOKS);
    take_session(&run, 0, "old");
    run.until("the device is back", |reading| reading.stats.connections.reconnects == 1);
    let stats = run.drain();
    let counts: Vec<_> = stats.generator.secrets_unusable.into_iter().collect();
    assert_eq!(counts, [("empty".into(), 1), ("not_found".into(), 1)]);
    assert!(stats.connections.refused.is_empty(), "{:?}", stats.connections.refused);
}

#[test]
fn the_comparison_engine_uses_the_changed_password_too() {
    let secrets = Secrets::new();
    let run = secrets.run(Kind::Rumqttc, &format!("{PATIENT}  observe: none\n"));
    run.until_connected(DEVICES);
    secrets.admit(&["new"]);
    take_session(&run, 0, "new");
    run.until("the old password is refused", |reading| !reading.stats.connections.refused.is_empty());
    secrets.set("devices", "new");
    run.until_connected(DEVICES);
    run.engine.stop();
}

#[test]
fn a_changed_certificate_is_shown_from_the_next_connect_on() {
    let (authority, other) = (Authority::new(), Authority::new());
    let broker = TestBroker::start();
    let server = Authority::server(&authority.sign("127.0.0.1", NOW), Some(&authority));
    let front = Front::start(broker.address, Speaks { tls: Some(Arc::new(server)), ..Speaks::default() });
    let (certificate, key) = other.write(&other.sign("device", NOW));
    let tls = Tls { certificate: Some(certificate.clone()), key: Some(key.clone()), ..trusting(&authority) };
    let clock = Clock::new();
    let mut assignment = assignment(broker.address, 3, &format!("{PATIENT}  observe: none\n"), &clock);
    assignment.fleet.spec.broker = Some(broker_at(&format!("mqtts://{}", front.address), Some(tls)));
    let options = Options { kind: Kind::Native, threads: 1, clock, ..Options::default() };
    let engine = Engine::start(&assignment, &options).unwrap();
    until(&engine, "the certificate is refused", |reading| {
        reading.stats.connections.failed.contains_key("tls_client_certificate_refused")
    });
    let (changed, changed_key) = authority.write(&authority.sign("device", NOW));
    fs::copy(changed, certificate).unwrap();
    fs::copy(changed_key, key).unwrap();
    until(&engine, "every device connected", |reading| reading.stats.devices.connected == 3);
    engine.stop();
}
