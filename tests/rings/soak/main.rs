//! The soak: 10,000 devices and real Mosquitto for five minutes, from the committed document and configuration.
//!
//! `cargo xtask test soak` runs it; `cargo xtask test` alone does not.

use std::time::Duration;

use tests::{
    mosquitto::{Mosquitto, Settings},
    project,
    run::to_the_end,
};

#[test]
fn ten_thousand_devices_deliver_all_for_five_minutes() {
    let broker = Mosquitto::start(Settings::new().unwrap().persistent()).unwrap();
    let (url, document) = (broker.url(), project::root().join("tests/rings/soak/fleet.yaml"));
    let args = ["-f", document.to_str().unwrap(), "--broker", &url, "--duration", "5m"];
    let ended = to_the_end(&args, Duration::from_mins(7)).unwrap();
    let report = &ended.report;
    println!("{report}");
    report.expect("devices.connected", 10_000);
    report.expect("connections.accepted", 10_000);
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
