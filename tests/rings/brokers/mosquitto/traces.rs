//! What a run leaves at a broker that keeps sessions: nothing that goes on queueing, or a word about it.

use std::net::SocketAddr;

use tests::{
    eventually,
    mosquitto::{Mosquitto, Settings},
    process::Stream,
    proxy::{Proxy, Traffic, Which},
};

use crate::{PATIENCE, client, fleet::Fleet};

const DEVICES: u32 = 5;

/// The `spec` of a fleet whose sessions persist.
fn spec(protocol: &str) -> String {
    format!(
        "  broker: {{url: mqtt://localhost, protocol: '{protocol}'}}\n  connect: {{rate: 200/s, session: persistent}}\n"
    )
}

#[test]
fn devices_that_leave_for_good_end_their_sessions() {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let (spec, reading) = (spec("5"), "interval: 500ms, qos: 1");
    let fleet = Fleet { name: "tidy", devices: DEVICES, spec: &spec, reading, subscriptions: "" };
    let run = fleet.start(&broker.url());
    run.wait_for_devices(DEVICES.into()).unwrap();
    run.must(&["scale", "2"]).unwrap();
    run.wait_until("three have left", |report| report.count("devices.connected") == 2).unwrap();
    assert!(!client::has_session(&broker, "tidy-4"), "a session of one that left by the plan");
    let ended = run.stop().unwrap();
    assert!(!client::has_session(&broker, "tidy-0"), "a session of one that left with the run");
    ended.expect_passed();
}

/// MQTT 3.1.1 §3.1.2.4 ends such a session by a clean one alone.
#[test]
fn sessions_that_stay_are_told() {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let (spec, reading) = (spec("3.1.1"), "interval: 500ms, qos: 1");
    let fleet = Fleet { name: "stays", devices: DEVICES, spec: &spec, reading, subscriptions: "" };
    let run = fleet.start(&broker.url());
    run.wait_for_devices(DEVICES.into()).unwrap();
    let ended = run.stop().unwrap();
    assert!(client::has_session(&broker, "stays-0"));
    let notes = ended.report.list("notes").iter().filter_map(|note| note.as_str());
    let told = notes.filter(|note| note.starts_with("the sessions of 5 devices stay at the broker")).count();
    ended.report.claim("the report says so", told == 1);
    ended.expect_passed();
}

#[test]
fn an_aborted_run_leaves_no_session_of_its_observer() {
    for protocol in ["3.1.1", "5"] {
        let broker = Mosquitto::start(Settings::new().unwrap().with("connection_messages", true)).unwrap();
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], broker.port()))).unwrap();
        let spec = format!("  broker: {{url: mqtt://localhost, protocol: '{protocol}'}}\n");
        let fleet =
            Fleet { name: "cut", devices: DEVICES, spec: &spec, reading: "interval: 500ms, qos: 1", subscriptions: "" };
        let run = fleet.start(&proxy.url());
        run.wait_for_devices(DEVICES.into()).unwrap();
        // What is under way cannot settle, so the drain lasts until it is cut short; the broker still hears what is said.
        proxy.set_traffic(Which::All, Traffic::Unanswered).unwrap();
        let ended = run.abort().unwrap();
        ended.expect_verdict("aborted", 105);
        proxy.set_traffic(Which::All, Traffic::Forward).unwrap();
        eventually("the proxy has passed all on", PATIENCE, || Ok((proxy.connections()? == 0).then_some(()))).unwrap();
        let log = broker.process().output(Stream::Stderr).unwrap();
        let begin = format!("cut-observer-{}-0-", ended.report.text("manifest.run"));
        let id = log.split_whitespace().find(|word| word.starts_with(&begin)).unwrap();
        assert!(!client::has_session(&broker, id), "{id} in {protocol}");
    }
}
