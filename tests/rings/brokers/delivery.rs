//! A thousand devices at each quality of service: what was sent is delivered.

use tests::{
    mosquitto::{Mosquitto, Settings},
    run::to_the_end,
};

use super::PATIENCE;

fn check(qos: &str) {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let url = broker.url();
    let args = ["--model", "thermometer", "--interval", "2s", "--devices", "1000", "--duration", "10s"];
    let ended = to_the_end(&[&args[..], &["--qos", qos, "--broker", &url]].concat(), PATIENCE).unwrap();
    let report = &ended.report;
    report.expect("devices.connected", 1_000);
    report.expect("connections.accepted", 1_000);
    report.expect("messages.duplicated", 0);
    report.expect("messages.withheld", 0);
    report.expect_all_delivered();
    let sent = report.count("messages.sent");
    report.claim("at least three messages of each device were sent", sent >= 3_000);
    report.expect("messages.delivered", sent);
    report.expect("messages.acknowledged", if qos == "0" { 0 } else { sent });
    ended.expect_passed();
}

#[test]
fn at_qos_0() {
    check("0");
}

#[test]
fn at_qos_1() {
    check("1");
}

#[test]
fn at_qos_2() {
    check("2");
}
