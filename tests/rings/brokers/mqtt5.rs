//! MQTT 5 with a broker that speaks it: what was sent is delivered, the stamp travels beside the body, and the broker's
//! own limits are kept.

use std::fs;

use rumqttc::v5::{
    Client, Event, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, Publish},
    },
};
use tests::{
    mosquitto::{Mosquitto, Settings},
    run::Run,
    simctl::Simctl,
};

use super::PATIENCE;

/// A fleet whose messages carry their stamp as a user property.
fn fleet(qos: u8, devices: u32) -> Simctl {
    let simctl = Simctl::new().unwrap();
    let document = format!(
        "\
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: lab}}
spec:
  devices: {devices}
  broker: {{url: mqtt://localhost, protocol: '5'}}
  connect: {{rate: 500/s, keepAlive: 10s, session: persistent, sessionExpiry: 1h, userProperties: {{site: lab}}, backoff: {{base: 200ms, cap: 1s}}}}
  groups:
    - name: room
      share: 100%
      model: thermometer
      streams:
        reading:
          interval: 500ms
          jitter: 0s
          qos: {qos}
          stamp: property
          properties: {{contentType: application/json, expiry: 60s, responseTopic: '{{fleet}}/{{index}}/answer', user: {{who: '{{id}}'}}}}
"
    );
    fs::write(simctl.dir().join("fleet.yaml"), document).unwrap();
    simctl
}

fn check(qos: u8) {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let url = broker.url();
    let args = ["-f", "fleet.yaml", "--broker", &url, "--duration", "10s"];
    let ended = Run::start_at(fleet(qos, 500), &args).unwrap().end(PATIENCE).unwrap();
    let report = &ended.report;
    report.expect("devices.connected", 500);
    report.expect("connections.accepted", 500);
    report.expect("messages.duplicated", 0);
    report.expect("messages.withheld", 0);
    report.expect_all_delivered();
    let sent = report.count("messages.sent");
    report.claim("at least ten messages of each device were sent", sent >= 5_000);
    report.expect("messages.delivered", sent);
    report.expect("messages.acknowledged", if qos == 0 { 0 } else { sent });
    ended.expect_passed();
}

#[test]
fn at_qos_0() {
    check(0);
}

#[test]
fn at_qos_1() {
    check(1);
}

#[test]
fn at_qos_2() {
    check(2);
}

/// The next two messages of one device: the second one comes by its alias, and must read the same.
fn two_messages(broker: &Mosquitto) -> Vec<Publish> {
    let (reader, mut connection) = Client::new(MqttOptions::new("reader", "127.0.0.1", broker.port()), 16);
    reader.subscribe("#", QoS::AtMostOnce).unwrap();
    let mut found = Vec::new();
    while found.len() < 2 {
        let event = connection.recv_timeout(PATIENCE).expect("no event in time").expect("the connection broke");
        if let Event::Incoming(Packet::Publish(publish)) = event {
            found.push(publish);
        }
    }
    found
}

#[test]
fn a_subscriber_sees_the_properties_and_an_untouched_body() {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let run = Run::start_at(fleet(1, 1), &["-f", "fleet.yaml", "--broker", &broker.url()]).unwrap();
    run.wait_for_messages(2).unwrap();
    for publish in two_messages(&broker) {
        assert!(publish.topic.starts_with(b"lab/"), "{publish:?}");
        assert!(!publish.payload.windows(7).any(|bytes| bytes == b"\"stamp\""), "{publish:?}");
        let properties = publish.properties.unwrap();
        assert_eq!(properties.content_type.as_deref(), Some("application/json"));
        assert_eq!(properties.response_topic.as_deref(), Some("lab/0/answer"));
        assert!(properties.message_expiry_interval.is_some_and(|seconds| (50..=60).contains(&seconds)));
        let user = |name: &str| properties.user_properties.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        assert_eq!(user("who").map(String::as_str), Some("lab-0"));
        assert_eq!(user("stamp").map(String::len), Some(45));
    }
    run.stop().unwrap().expect_passed();
}

#[test]
fn a_broker_that_was_stopped_and_started_loses_nothing() {
    let mut broker = Mosquitto::start(Settings::new().unwrap().persistent()).unwrap();
    let run = Run::start_at(fleet(1, 100), &["-f", "fleet.yaml", "--broker", &broker.url()]).unwrap();
    run.wait_for_devices(100).unwrap();
    run.wait_for_messages(400).unwrap();
    assert!(broker.stop().unwrap().success());
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
