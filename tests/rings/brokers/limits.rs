//! A broker without QoS 2 and without shared subscriptions: in MQTT 5 its CONNACK says so, and a device keeps to that;
//! in MQTT 3.1.1 it does less than it was asked for, and the report shows how much.

use tests::{
    peer::{Access, Make},
    run::{Ended, Run},
};

use crate::{PATIENCE, fleet::Fleet};

const DEVICES: u32 = 5;

/// What became, after three seconds at a broker of this make, of a fleet that speaks this protocol.
#[track_caller]
fn ran(make: Make, name: &str, [protocol, connect, reading, subscriptions]: [&str; 4]) -> Ended {
    let broker = make.lend(Access::Open).unwrap();
    let spec =
        format!("  broker: {{url: mqtt://localhost, protocol: '{protocol}'}}\n  connect: {{rate: 200/s, {connect}}}\n");
    let fleet = Fleet { name, devices: DEVICES, spec: &spec, reading, subscriptions };
    let args = ["-f", "fleet.yaml", "--broker", &broker.url(), "--duration", "3s"];
    Run::start_at(fleet.place(), &args).unwrap().end(PATIENCE).unwrap()
}

/// MQTT 5 §3.2.2.3.4: nothing above the broker's maximum may be sent, so there is nothing for the fleet to do.
pub(crate) fn a_fleet_of_qos_2_leaves_and_says_why(make: Make) {
    let ended = ran(make, "above", ["5", "keepAlive: 10s", "interval: 500ms, qos: 2", ""]);
    let report = &ended.report;
    report.expect("devices.refused", DEVICES);
    report.expect("connections.accepted", 0);
    report.expect("messages.sent", 0);
    let refused = report.get("connections.refused").unwrap().as_object().unwrap();
    report.claim("the reason is the quality of service alone", refused.keys().eq(["qos_not_supported"]));
    report.claim("the verdict names it", report.has_reason("devices_refused"));
    ended.expect_verdict("failed", 99);
}

/// It is in the CONNECT, before the broker has said its maximum: the broker refuses it (MQTT-3.2.2-12).
pub(crate) fn a_will_of_qos_2_is_refused_by_name(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let spec = "  broker: {url: mqtt://localhost, protocol: '5'}\n  connect: {will: {topic: 'wills/above/{index}', payload: \
                gone, qos: 2}}\n";
    let fleet =
        Fleet { name: "bequest", devices: DEVICES, spec, reading: "interval: 500ms, qos: 1", subscriptions: "" };
    let args = ["run", "-f", "fleet.yaml", "--broker", &broker.url(), "--duration", "3s"];
    let refused = fleet.place().call(&args, PATIENCE).unwrap();
    assert_eq!(refused.code, Some(99), "{refused:?}");
    let said = ["refuses the device `bequest-0`", "qos_not_supported", "remedy: lower the `qos`"];
    assert!(said.iter().all(|said| refused.stderr.contains(said)), "{refused:?}");
}

pub(crate) fn a_share_is_refused_and_the_other_filters_are_granted(make: Make) {
    let subscriptions = "{topic: 'work/#', qos: 1, share: '{fleet}'}, {topic: 'alone/{index}', qos: 1}";
    let ended = ran(make, "alone", ["5", "keepAlive: 10s", "interval: 500ms, qos: 1", subscriptions]);
    ended.report.expect("received.subscriptions_granted", DEVICES);
    ended
        .report
        .expect("received.subscriptions_refused", serde_json::json!({"shared_subscriptions_not_supported": DEVICES}));
    ended.report.expect_all_delivered();
    ended.report.claim("the verdict names it", ended.report.has_reason("subscriptions_refused"));
    ended.expect_verdict("failed", 99);
}

/// MQTT 3.1.1 §4.3.3 has the answer to QoS 2 be a PUBREC: the PUBACK of QoS 1 acknowledges nothing.
pub(crate) fn what_is_answered_as_qos_1_is_never_acknowledged(make: Make) {
    let ended = ran(make, "waiting", ["3.1.1", "keepAlive: 10s", "interval: 500ms, qos: 2", ""]);
    let report = &ended.report;
    report.expect("messages.acknowledged", 0);
    report.expect("connections.unsolicited_acknowledgements", report.count("messages.sent"));
    report.expect_all_delivered();
    report.claim("the verdict names it", report.has_reason("never_acknowledged"));
    ended.expect_verdict("failed", 99);
}
