//! MQTT 5 with a broker that speaks it: what was sent is delivered, the stamp travels beside the body, and the broker's
//! own limits are kept.

use std::time::{Duration, Instant};

use rumqttc::v5::{
    Client, Event, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, Publish},
    },
};
use tests::{
    peer::{Access, Make, Peer},
    run::Run,
    simctl::Simctl,
};

use crate::{PATIENCE, fleet::Fleet};

const SPEC: &str = "  broker: {url: mqtt://localhost, protocol: '5'}\n  lossAfter: 30s\n  connect: {rate: 500/s, \
                    keepAlive: 10s, session: persistent, sessionExpiry: 1h, userProperties: {site: lab}, backoff: \
                    {base: 200ms, cap: 1s}}\n";

/// A fleet whose messages carry their stamp as a user property.
fn fleet(name: &str, qos: u8, devices: u32) -> Simctl {
    let reading = format!(
        "interval: 1s, jitter: 0s, qos: {qos}, stamp: property, properties: {{contentType: application/json, expiry: \
         60s, responseTopic: '{{fleet}}/{{index}}/answer', user: {{who: '{{id}}'}}}}"
    );
    Fleet { name, devices, spec: SPEC, reading: &reading, subscriptions: "" }.place()
}

fn check(make: Make, qos: u8) {
    let broker = make.lend(Access::Open).unwrap();
    let args = ["-f", "fleet.yaml", "--broker", &broker.url()];
    let run = Run::start_at(fleet(&format!("lab-{qos}"), qos, 0), &args).unwrap();
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

/// The next two messages of one device: the second one comes by its alias, and must read the same.
fn two_messages(broker: &dyn Peer) -> Vec<Publish> {
    let (reader, mut connection) = Client::new(MqttOptions::new("reader", "127.0.0.1", broker.port()), 16);
    reader.subscribe("seen/#", QoS::AtMostOnce).unwrap();
    let mut found = Vec::new();
    while found.len() < 2 {
        let event = connection.recv_timeout(PATIENCE).expect("no event in time").expect("the connection broke");
        if let Event::Incoming(Packet::Publish(publish)) = event {
            found.push(publish);
        }
    }
    found
}

pub(crate) fn a_subscriber_sees_the_properties_and_an_untouched_body(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let run = Run::start_at(fleet("seen", 1, 1), &["-f", "fleet.yaml", "--broker", &broker.url()]).unwrap();
    run.wait_for_messages(2).unwrap();
    for publish in two_messages(&*broker) {
        assert!(!publish.payload.windows(8).any(|bytes| bytes == b"\"stamp\":"), "{publish:?}");
        let properties = publish.properties.unwrap();
        assert_eq!(properties.content_type.as_deref(), Some("application/json"));
        assert_eq!(properties.response_topic.as_deref(), Some("seen/0/answer"));
        assert!(properties.message_expiry_interval.is_some_and(|seconds| (50..=60).contains(&seconds)));
        let user = |name: &str| properties.user_properties.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        assert_eq!(user("who").map(String::as_str), Some("seen-0"));
        assert_eq!(user("stamp").map(String::len), Some(45));
    }
    run.stop().unwrap().expect_passed();
}

pub(crate) fn a_broker_that_was_stopped_and_started_loses_nothing(make: Make) {
    let mut broker = make.start().unwrap();
    let run = Run::start_at(fleet("lab", 1, 100), &["-f", "fleet.yaml", "--broker", &broker.url()]).unwrap();
    run.wait_for_devices(100).unwrap();
    run.wait_for_messages(400).unwrap();
    broker.stop().unwrap();
    run.wait_until("all devices are offline", |report| report.count("devices.connected") == 0).unwrap();
    broker.start_again().unwrap();
    let back = run.wait_for_devices(100).unwrap();
    run.wait_for_messages(back.count("messages.sent") + 400).unwrap();
    let ended = run.stop().unwrap();
    ended.report.expect("reconnects", 100);
    ended.report.expect("messages.abandoned", 0);
    ended.report.expect("messages.lost_acknowledged", 0);
    ended.report.expect_all_delivered();
    ended.expect_passed();
}

/// The broker says that another client has taken the session over (0x8E), and the device lets it have the session for ten seconds.
/// Mosquitto 2.0.11 only closes.
pub(crate) fn a_device_whose_session_was_taken_over_waits_ten_seconds(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let place = fleet("taken-5", 0, 10);
    let run = Run::start_at(place, &["-f", "fleet.yaml", "--broker", &broker.url()]).unwrap();
    run.wait_for_devices(10).unwrap();
    run.wait_for_messages(20).unwrap();
    let mut options = MqttOptions::new("taken-5-0", "127.0.0.1", broker.port());
    options.set_clean_start(false);
    let (_client, mut rival) = Client::new(options, 10);
    let has_session = rival.iter().any(|event| matches!(event, Ok(Event::Incoming(Packet::ConnAck(_)))));
    assert!(has_session, "the rival is connected");
    let taken = Instant::now();
    // Who has taken it stays connected, and does not take it back.
    let back = run.wait_until("the device is back", |report| report.count("reconnects") == 1).unwrap();
    back.expect("connections.lost.session_taken_over", 1);
    let away = taken.elapsed();
    println!("FIGURE the device was back {away:.1?} after its session had been taken over");
    assert!(away >= Duration::from_secs(10) && away < Duration::from_secs(20), "{away:?}");
    let ended = run.stop().unwrap();
    ended.report.expect("devices.connected", 10);
    ended.report.expect_all_delivered();
}

/// A reason code that MQTT 5 does not have in a PUBACK is a protocol error: the device leaves, and counts why.
pub(crate) fn an_acknowledgement_against_the_standard_ends_the_session_by_name(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let run = Run::start_at(fleet("odd", 1, 10), &["-f", "fleet.yaml", "--broker", &broker.url()]).unwrap();
    run.wait_until("each device has left once", |report| {
        report.get("connections.lost.reason").is_ok_and(|count| count.as_u64() >= Some(10))
    })
    .unwrap();
    let ended = run.stop().unwrap();
    ended.report.expect_conservation();
    ended.report.expect("messages.acknowledged", 0);
}
