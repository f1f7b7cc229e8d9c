//! Packets above a limit, of the document or of the broker, and a window that the broker keeps narrow: none of it
//! passes without a word.

use std::{fs, net::SocketAddr, time::Duration};

use serde_json::Value;
use tests::{
    mosquitto::{Mosquitto, Settings},
    proxy::Proxy,
    report::Report,
    run::{Ended, Run},
    simctl::Simctl,
};

use crate::{PATIENCE, client, fleet::Fleet};

const DEVICES: u32 = 5;

/// What is kept for every device that subscribes, in bytes.
const FIRMWARE: usize = 200_000;

/// What became of a fleet whose devices all get the firmware.
#[track_caller]
fn updated(name: &str, protocol: &str, connect: &str) -> Ended {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    client::retain(&broker, "all/firmware", vec![0; FIRMWARE]);
    let spec = format!(
        "  broker: {{url: mqtt://localhost, protocol: '{protocol}'}}\n  connect: {{rate: 200/s, session: persistent, \
         backoff: {{base: 200ms, cap: 1s}}{connect}}}\n"
    );
    let subscriptions = "{topic: all/firmware, qos: 1}";
    let fleet = Fleet { name, devices: DEVICES, spec: &spec, reading: "interval: 500ms, qos: 1", subscriptions };
    let args = ["-f", "fleet.yaml", "--broker", &broker.url(), "--duration", "4s"];
    Run::start_at(fleet.place(), &args).unwrap().end(PATIENCE).unwrap()
}

#[test]
fn a_firmware_reaches_every_device() {
    for protocol in ["3.1.1", "5"] {
        let ended = updated("ota", protocol, "");
        ended.report.expect("received.messages", DEVICES);
        ended.report.expect("received.payload_bytes", u64::from(DEVICES) * FIRMWARE as u64);
        ended.report.expect("connections.lost", serde_json::json!({}));
        ended.expect_passed();
    }
}

/// MQTT 3.1.1 has no way to tell the broker: the limit is the fleet's own, and so is the fault.
#[test]
fn what_is_above_the_documents_limit_makes_the_run_invalid_by_name() {
    let ended = updated("narrow", "3.1.1", ", maxPacket: 64KiB");
    let report = &ended.report;
    report.expect("received.messages", 0);
    report.expect("received.too_large.limit_bytes", 64 * 1024);
    report.claim("the firmware is the largest", report.count("received.too_large.largest_bytes") > FIRMWARE as u64);
    report.claim("the verdict names it", report.has_reason("packets_too_large"));
    ended.expect_verdict("invalid", 96);
}

const CAMERA: &str = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: camera}
spec:
  devices: 3
  broker: {url: mqtt://localhost, protocol: '5'}
  connect: {rate: 200/s}
  groups: [{name: camera, model: camera}]
  models:
    camera:
      signals: {number: {kind: counter, rate: 1}}
      streams:
        image: {topic: '{fleet}/{id}/image', interval: 1s, qos: 1, size: 4KiB, payload: {json: {number: '{number}'}}}
        state: {topic: '{fleet}/{id}/state', interval: 500ms, qos: 1, payload: {json: {number: '{number}'}}}
";

/// MQTT-3.2.2-15: it may not be sent, and a run without it has not sent what it was to send.
#[test]
fn a_stream_above_the_brokers_maximum_fails_by_name() {
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("fleet.yaml"), CAMERA).unwrap();
    let broker = Mosquitto::start(Settings::new().unwrap().with("max_packet_size", 1_000)).unwrap();
    let args = ["-f", "fleet.yaml", "--broker", &broker.url(), "--duration", "3s"];
    let ended = Run::start_at(simctl, &args).unwrap().end(PATIENCE).unwrap();
    let report = &ended.report;
    report.expect("messages.too_large.image.limit_bytes", 1_000);
    report.claim("images were withheld", report.count("messages.too_large.image.packets") >= 6);
    report.claim(
        "and nothing else",
        report.count("messages.withheld") == report.count("messages.too_large.image.packets"),
    );
    report.claim("the verdict names it", report.has_reason("messages_too_large"));
    report.expect_all_delivered();
    ended.expect_verdict("failed", 99);
}

/// MQTT 3.1.1 knows no such answer: the broker closes, and must be sent the same message again (MQTT-4.4.0-1).
#[test]
fn a_message_that_a_broker_of_3_1_1_answers_by_closing_is_named() {
    let simctl = Simctl::new().unwrap();
    let connect = "connect: {rate: 200/s, session: persistent, backoff: {base: 100ms, cap: 200ms}}";
    let document = CAMERA.replace("protocol: '5'", "protocol: 3.1.1").replace("connect: {rate: 200/s}", connect);
    fs::write(simctl.dir().join("fleet.yaml"), document).unwrap();
    let broker = Mosquitto::start(Settings::new().unwrap().with("max_packet_size", 1_000)).unwrap();
    let args = ["-f", "fleet.yaml", "--broker", &broker.url()];
    let run = Run::start_at(simctl, &args).unwrap();
    let is_accused = |report: &Report| {
        let times = report.get("messages.unwelcome.image.connections").ok().and_then(Value::as_u64);
        times.is_some_and(|times| times >= 3)
    };
    run.wait_until("the image is accused", is_accused).unwrap();
    let ended = run.stop().unwrap();
    let report = &ended.report;
    report.claim("the size is known", report.count("messages.unwelcome.image.largest_bytes") > 4_096);
    report
        .claim("no other stream is accused", report.get("messages.unwelcome").unwrap().as_object().unwrap().len() == 1);
    report.claim("the verdict names it", report.has_reason("messages_unwelcome"));
    ended.expect_verdict("failed", 99);
}

/// One message in flight and an answer that takes half a second are two messages a second, of ten that are due.
#[test]
fn a_receive_maximum_that_holds_most_back_fails_by_name() {
    let broker = Mosquitto::start(Settings::new().unwrap().with("max_inflight_messages", 1)).unwrap();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], broker.port()))).unwrap();
    proxy.set_delay(Duration::from_millis(250)).unwrap();
    let spec = "  broker: {url: mqtt://localhost, protocol: '5'}\n  connect: {rate: 200/s, queue: 2}\n";
    let reading = "interval: 100ms, jitter: 0s, qos: 1";
    let fleet = Fleet { name: "patient", devices: DEVICES, spec, reading, subscriptions: "" };
    let args = ["-f", "fleet.yaml", "--broker", &proxy.url(), "--duration", "5s"];
    let ended = Run::start_at(fleet.place(), &args).unwrap().end(PATIENCE).unwrap();
    let report = &ended.report;
    report.claim("most are withheld", 2 * report.count("messages.withheld") > report.count("messages.offered"));
    let reason = report.list("reasons").iter().find(|reason| reason["name"] == "withheld");
    let message = reason.and_then(|reason| reason["message"].as_str()).unwrap_or_default();
    report.claim("the reason names the broker's limit", message.contains("1 message in flight (receive maximum)"));
    ended.expect_verdict("failed", 99);
}
