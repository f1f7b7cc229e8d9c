//! Hundreds of devices at each quality of service: what was sent is delivered, once and in order.

use tests::peer::{Access, Make};

use crate::fleet::Fleet;

fn check(make: Make, qos: u8) {
    let broker = make.lend(Access::Open).unwrap();
    let (name, reading) = (format!("delivery-{qos}"), format!("interval: 1s, jitter: 0s, qos: {qos}"));
    let run = Fleet { name: &name, devices: 0, spec: "  lossAfter: 30s\n", reading: &reading, subscriptions: "" }
        .start(&broker.url());
    run.scale_under_observation(500).unwrap();
    run.wait_until("2,500 messages are delivered", |report| report.count("messages.delivered") >= 2_500).unwrap();
    let ended = run.stop().unwrap();
    let report = &ended.report;
    report.expect("connections.accepted", 500);
    report.expect("messages.duplicated", 0);
    report.expect("messages.withheld", 0);
    report.expect_all_delivered();
    let sent = report.count("messages.sent");
    report.expect("messages.delivered", sent);
    report.expect("messages.acknowledged", if qos == 0 { 0 } else { sent });
    ended.expect_passed();
}

pub(crate) fn at_qos_0(make: Make) {
    check(make, 0);
}

pub(crate) fn at_qos_1(make: Make) {
    check(make, 1);
}

pub(crate) fn at_qos_2(make: Make) {
    check(make, 2);
}

/// The largest body that a document may ask for is no fault of the broker's.
pub(crate) fn of_a_body_of_one_mebibyte(make: Make) {
    for protocol in ["3.1.1", "5"] {
        let broker = make.lend(Access::Open).unwrap();
        let spec = format!("  broker: {{url: mqtt://localhost, protocol: '{protocol}'}}\n");
        let name = format!("camera-{}", protocol.len());
        let reading = "interval: 500ms, jitter: 0s, qos: 1, size: 1MiB";
        let fleet = Fleet { name: &name, devices: 1, spec: &spec, reading, subscriptions: "" };
        let run = fleet.start(&broker.url());
        run.wait_for_messages(5).unwrap();
        let ended = run.stop().unwrap();
        ended.report.expect_all_delivered();
        ended.expect_passed();
    }
}
