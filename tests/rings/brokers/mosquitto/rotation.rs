//! A password that changes at the broker and, later, in the file of a running fleet.

use std::fs;

use tests::{
    mosquitto::{Installation, Mosquitto, Settings},
    peer::{PASSWORD, USER},
    process::Signal,
    run::Run,
};

use crate::fleet::{Fleet, PERSISTENT};

/// At SIGHUP Mosquitto reads its passwords anew, and ends the connections of all that it would refuse now: there is no
/// harder way to rotate one.
#[test]
fn a_password_that_rotates_under_load_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passwords");
    let installation = Installation::find_or_unpack().unwrap();
    installation.write_password_file(&file, USER, PASSWORD).unwrap();
    let broker = Mosquitto::start(Settings::new().unwrap().persistent().password_file(&file)).unwrap();

    let fleet = Fleet {
        name: "rotation",
        devices: 100,
        spec: PERSISTENT,
        reading: "interval: 500ms, qos: 1",
        subscriptions: "",
    };
    let simctl = fleet.place();
    let password = simctl.dir().join("password");
    fs::write(&password, PASSWORD).unwrap();
    let url = broker.url();
    let login = ["--username", USER, "--password-file", "password"];
    let run = Run::start_at(simctl, &[&["-f", "fleet.yaml", "--broker", &url][..], &login].concat()).unwrap();
    run.wait_for_devices(100).unwrap();
    run.wait_for_messages(400).unwrap();

    installation.write_password_file(&file, USER, "another").unwrap();
    broker.process().signal(Signal::HUP).unwrap();
    run.wait_until("the old password is refused", |report| report.count("devices.refused") == 100).unwrap();
    fs::write(&password, "another").unwrap();
    let back = run.wait_for_devices(100).unwrap();
    run.wait_for_messages(back.count("messages.sent") + 400).unwrap();
    let ended = run.stop().unwrap();
    let report = &ended.report;
    report.expect("reconnects", 100);
    report.expect("messages.abandoned", 0);
    report.expect("messages.lost", 0);
    report.expect("messages.acknowledged", report.count("messages.sent"));
    report.expect_all_delivered();
    ended.expect_passed();
}
