//! The soak: 10,000 devices and real Mosquitto for minutes, from the committed documents and configuration.
//!
//! `cargo xtask test soak` runs it; `cargo xtask test` alone does not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use tests::{
    mosquitto::{Mosquitto, Settings},
    project,
    run::{Ended, to_the_end},
    turn::Turns,
};

const DEVICES: u64 = 10_000;

/// Each takes the whole of a small machine.
static TURNS: Turns = Turns::new();

/// Runs a document of this folder at a Mosquitto of its own.
fn run(document: &str, more: &[&str]) -> Ended {
    let _turn = TURNS.alone();
    let broker = Mosquitto::start(Settings::new().unwrap().persistent()).unwrap();
    let (url, document) = (broker.url(), project::root().join("tests/rings/soak").join(document));
    let args = [&["-f", document.to_str().unwrap(), "--broker", &url], more].concat();
    to_the_end(&args, Duration::from_mins(7)).unwrap()
}

#[test]
fn ten_thousand_devices_deliver_all_for_five_minutes() {
    let ended = run("fleet.yaml", &["--duration", "5m"]);
    let report = &ended.report;
    println!("{report}");
    report.expect("devices.connected", DEVICES);
    report.expect("connections.accepted", DEVICES);
    report.expect("reconnects", 0);
    report.expect("messages.withheld", 0);
    report.expect_all_delivered();
    let sent = report.count("messages.sent");
    // 0.1 messages a second of each for five minutes, less the twenty seconds in which they connect.
    report.claim("the timetable was kept", sent >= 280_000);
    report.expect("messages.delivered", sent);
    report.expect("messages.acknowledged", sent);
    ended.expect_passed();
}

#[test]
fn ten_thousand_devices_come_back_from_a_storm_with_all_their_messages() {
    let ended = run("storm.yaml", &[]);
    let report = &ended.report;
    println!("{report}");
    report.expect("devices.connected", DEVICES);
    let [storm] = report.list("faults") else { panic!("one fault was asked for: {report}") };
    for key in ["devices", "effects", "sessions_lost", "sessions_back"] {
        assert_eq!(storm[key], DEVICES, "{key} of {storm}");
    }
    // Mosquitto may refuse some of those who come at once, and they try again.
    report.claim("each device has had two sessions", report.count("connections.accepted") >= 2 * DEVICES);
    println!("FIGURE 50, 95 and 100 % back after {} s", storm["back_seconds"]);
    report.expect_all_delivered();
    // What was in flight at QoS 1 when a session was lost is sent again, and may come twice (MQTT 3.1.1, §4.3.2).
    let resent = report.count("messages.resent");
    report.claim("only what was sent again came twice", report.count("messages.duplicated") <= resent);
    ended.expect_passed();
}
