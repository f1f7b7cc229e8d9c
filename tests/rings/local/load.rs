//! Thousands of devices: as many connect as were asked for.

use std::time::Duration;

use tests::{
    null_broker::{NullBroker, Settings},
    run::Run,
    simctl::Simctl,
};

use super::PATIENCE;

#[test]
fn two_thousand_devices_connect_to_the_embedded_broker_and_drain() {
    let args = ["--model", "thermometer", "--interval", "5s", "--devices", "2000", "--connect-rate", "1000/s"];
    let run = Run::start(&args).unwrap();
    run.wait_for_devices(2_000).unwrap();
    run.wait_for_messages(2_000).unwrap();
    let ended = run.stop().unwrap();
    ended.report.expect("devices.connected", 2_000);
    ended.report.expect("connections.accepted", 2_000);
    ended.report.expect_all_delivered();
    ended.expect_verdict("passed", 0);
}

#[test]
fn five_thousand_devices_hold_their_sessions() {
    let logs = tempfile::tempdir().unwrap();
    let null = NullBroker::start(Settings::default(), logs.path()).unwrap();
    let url = null.url();
    let args = ["--model", "thermometer", "--interval", "10s", "--qos", "1", "--devices", "5000"];
    let more = ["--connect-rate", "2000/s", "--observe", "none", "--broker", &url];
    let run = Run::start(&[&args[..], &more].concat()).unwrap();
    run.wait_for_devices(5_000).unwrap();
    null.wait_for_sessions(5_000, PATIENCE).unwrap();
    run.wait_for_messages(1_000).unwrap();
    let ended = run.stop().unwrap();
    ended.report.expect("devices.connected", 5_000);
    ended.report.expect("connections.accepted", 5_000);
    let sent = ended.report.count("messages.sent");
    ended.report.expect("messages.acknowledged", sent);
    ended.report.expect("messages.delivered", serde_json::Value::Null);
    let counters = null.wait_for_sessions(0, Duration::from_secs(10)).unwrap();
    ended.report.expect("messages.sent", counters.get("qos1"));
    ended.expect_verdict("passed", 0);
}

#[test]
fn above_its_limit_the_embedded_broker_is_refused_with_the_remedy() {
    let simctl = Simctl::new().unwrap();
    let refused = simctl.call(&["run", "--devices", "5000", "--duration", "5s"], PATIENCE).unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for word in ["embedded broker", "--broker", "mosquitto"] {
        assert!(refused.stderr.contains(word), "{word:?} is not in {refused:?}");
    }
    assert!(refused.stdout.is_empty(), "{refused:?}");
}

#[test]
fn a_running_fleet_does_not_outgrow_the_embedded_broker() {
    let run = Run::start(&["--devices", "10"]).unwrap();
    let refused = run.call(&["scale", "5000"]).unwrap();
    assert!(refused.code == Some(1) && refused.stderr.contains("--broker"), "{refused:?}");
    run.wait_for_devices(10).unwrap();
    run.wait_for_messages(10).unwrap();
    run.stop().unwrap().report.expect("reconnects", 0);
}
