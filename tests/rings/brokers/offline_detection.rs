//! Devices that go without a word, and what a backend learns of it: the report's figures are those of a subscriber beside the fleet.

use std::{collections::BTreeSet, fs};

use rumqttc::{Client, Connection, Packet, Publish, QoS};
use serde_json::Value;
use tests::{
    peer::{Access, Make, Peer},
    run::{Ended, Run},
    simctl::Simctl,
};

use crate::{PATIENCE, client};

const DEVICES: u32 = 100;

/// Says to who listens that nothing more comes.
const LAST: &str = "last";

/// A fleet whose devices say in `states/NAME/INDEX` whether they are there, and a load test of it.
fn document(name: &str, connect: &str, birth: &str, phases: &str, thresholds: &str) -> String {
    format!(
        "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: {name}}}
spec:
  devices: {DEVICES}
  lossAfter: 5s
  connect:
    rate: 500/s
    # Longer than a busy broker takes to see that a connection has ended: who comes back before that has its session taken over.
    backoff: {{base: 1500ms, cap: 1500ms}}
    will: {{topic: 'states/{{fleet}}/{{index}}', payload: 'offline {{id}}', qos: 1, retain: true}}
    {birth}
    {connect}
  groups: [{{name: room, model: thermometer, streams: {{reading: {{interval: 1s, qos: 1}}}}}}]
---
apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {{name: cuts}}
spec:
  fleet: {name}
  phases:
    - {{name: calm, duration: 4s, measure: true}}
{phases}
  thresholds: [{thresholds}]
"
    )
}

/// Runs it at a broker; the states that a subscriber beside it was told while it ran.
fn run(broker: &dyn Peer, name: &str, text: &str) -> (Ended, Vec<Publish>) {
    let filter = format!("states/{name}/#");
    let (client, mut inbox) = client::subscribed(broker, &format!("{name}-heir"), &filter);
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("cuts.yaml"), text).unwrap();
    let run = Run::start_at(simctl, &["-f", "cuts.yaml", "--broker", &broker.url()]).unwrap();
    let ended = run.end(PATIENCE).unwrap();
    let told = until_last(&client, &mut inbox, name);
    (ended, told.into_iter().filter(|message| !message.retain).collect())
}

/// All messages that have come, up to one that says that nothing more comes.
fn until_last(client: &Client, inbox: &mut Connection, name: &str) -> Vec<Publish> {
    let last = format!("states/{name}/{LAST}");
    client.publish(&last, QoS::AtLeastOnce, false, "").unwrap();
    let mut messages = Vec::new();
    loop {
        let message = client::message(inbox);
        if message.topic == last {
            return messages;
        }
        messages.push(message);
    }
}

/// What the broker retains, by a client that has come just now.
fn retained(broker: &dyn Peer, name: &str) -> Vec<Publish> {
    let (client, mut connection) = client::connect(broker, &format!("{name}-late"));
    client.subscribe(format!("states/{name}/#"), QoS::AtLeastOnce).unwrap();
    let mut kept = Vec::new();
    client::wait_for(&mut connection, |packet| {
        match packet {
            Packet::Publish(message) => kept.push(message),
            Packet::SubAck(_) => return Some(()),
            _ => {}
        }
        None
    });
    // Some brokers bring them behind the answer.
    kept.extend(until_last(&client, &mut connection, name));
    kept.retain(|message| message.retain);
    kept
}

fn is_will(message: &Publish) -> bool {
    message.payload.starts_with(b"offline ")
}

fn topics(messages: &[Publish]) -> BTreeSet<String> {
    messages.iter().filter(|message| is_will(message)).map(|message| message.topic.clone()).collect()
}

/// What the report says of a fault.
fn fault<'a>(ended: &'a Ended, name: &str) -> &'a Value {
    let faults = ended.report.list("faults");
    faults.iter().find(|fault| fault["name"] == name).unwrap_or_else(|| panic!("no {name} in {}", ended.report))
}

fn count(figures: &Value, key: &str) -> u64 {
    figures[key].as_u64().unwrap_or_else(|| panic!("no {key} in {figures}"))
}

/// Each device that a fault has hit has left a will, and it came before its device was back.
#[track_caller]
fn check_all_seen(ended: &Ended, name: &str) -> u64 {
    let (fault, report) = (fault(ended, name), &ended.report);
    let found = &fault["offline_detection"];
    let devices = count(fault, "devices");
    let counts = ["wills_expected", "wills_seen", "wills_missing", "wills_unexpected"].map(|key| count(found, key));
    report.claim(&format!("{name} has hit about 30 of 100 devices, not {devices}"), (15..=45).contains(&devices));
    report.claim(&format!("each of them has left its will: {counts:?}"), counts == [devices, devices, 0, 0]);
    let [p50, p99, max] = ["p50", "p99", "max"].map(|key| found[key].as_f64().unwrap());
    println!("FIGURE {name}: {devices} wills, p50 {p50} s, p99 {p99} s, max {max} s");
    report.claim("they came soon, and the later ones later", p50 > 0.0 && p50 <= p99 && p99 <= max && max < 1.5);
    devices
}

pub(crate) fn each_will_is_timed_and_the_birth_message_takes_it_back(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let birth = "birth: {topic: 'states/{fleet}/{index}', payload: 'online {id} {seq}', qos: 1, retain: true}";
    let phases = "
    - {name: cut, duration: 5s, faults: [{kind: disconnect, name: cut, share: 30%}]}
    - {name: reset, duration: 5s, faults: [{kind: disconnect, by: reset, name: reset, share: 30%}]}
    - {name: said, duration: 5s, faults: [{kind: disconnect, by: disconnect, name: said, share: 30%}]}
    - {name: storm, duration: 5s, faults: [{kind: storm, name: storm, share: 30%, lasts: 2s}]}
";
    let thresholds = "wills_missing == 0, wills_unexpected == 0, {expect: retained_wrong == 0, fault: cut}, {expect: retained_wrong == 0, \
                      fault: reset}, {expect: 'offline_detection.p99 < 1500ms', fault: cut}, {expect: wills_missing == 0, fault: \
                      storm}, {expect: wills_expected == 0, fault: said}, {expect: wills_unexpected == 0, fault: said}";
    let (ended, told) = run(&*broker, "cuts", &document("cuts", "keepAlive: 10s", birth, phases, thresholds));
    let report = &ended.report;
    let owed: u64 = ["cut", "reset", "storm"].iter().map(|name| check_all_seen(&ended, name)).sum();
    let said = fault(&ended, "said");
    let found = ["wills_expected", "wills_seen", "wills_unexpected"].map(|key| count(&said["offline_detection"], key));
    report.claim("a DISCONNECT leaves no will", found == [0, 0, 0]);
    report.claim("and it was said", count(&said["offline_detection"], "wills_deleted") == count(said, "devices"));
    let wills = told.iter().filter(|message| is_will(message)).count() as u64;
    println!("FIGURE {owed} wills were owed, {wills} have come to a subscriber beside the fleet");
    report.expect("offline_detection.wills_expected", owed);
    report.expect("offline_detection.wills_seen", owed);
    report.expect("latency.offline_detection.count", owed);
    // Behind a DISCONNECT with answers under way the connection may be reset.
    let beside = report.count("offline_detection.wills_by_broker");
    report.claim("the report has seen what came", wills == owed + beside && beside < 3);
    // After each fault its devices were back for long enough to look.
    let looks = report.count("offline_detection.retained_right");
    report.claim(&format!("topics were looked at, {looks} times"), looks >= owed);
    report.expect("observer.foreign", 0);
    let kept = retained(&*broker, "cuts");
    assert_eq!(kept.len(), DEVICES as usize);
    // In a storm devices are back before a busy broker has seen that they were gone. mochi then publishes some wills behind the birth
    // messages of the new sessions, so that devices that are there are said to be gone: the report finds those that a new client does.
    let gone = topics(&kept).len() as u64;
    let wrong = report.count("offline_detection.retained_wrong");
    println!("FIGURE {gone} of {DEVICES} devices are there and said to be gone, the report has found {wrong}");
    report.claim("the report has found each of them, and few others", gone <= wrong && wrong <= 8);
    let by_storm = count(&fault(&ended, "storm")["offline_detection"], "retained_wrong");
    report.claim("all of them in the storm", by_storm == wrong);
    // A broker need not pass on what it cannot acknowledge any more (mochi does not), and a clean session sends nothing again.
    let [unknown, abandoned] = ["messages.unknown", "messages.abandoned"].map(|counter| report.count(counter));
    report.claim(&format!("{unknown} are unknown, all on connections that their devices ended"), unknown <= abandoned);
    report.expect_all_delivered_but(unknown);
    ended.expect_passed();
}

pub(crate) fn a_will_without_a_birth_message_stays(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let phases = "    - {name: cut, duration: 5s, faults: [{kind: disconnect, name: cut, share: 30%}]}";
    let thresholds = "{expect: retained_wrong == 0, fault: cut}";
    let (ended, told) = run(&*broker, "gone", &document("gone", "keepAlive: 10s", "", phases, thresholds));
    let devices = check_all_seen(&ended, "cut");
    ended.report.expect("offline_detection.retained_right", devices);
    let kept = retained(&*broker, "gone");
    assert_eq!(topics(&kept), topics(&told));
    assert_eq!(kept.len() as u64, devices);
    ended.expect_passed();
}

pub(crate) fn a_black_hole_is_noticed_by_the_keep_alive(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    // Mosquitto 2.0 looks at its keep-alives every five seconds.
    let phases = "    - {name: dark, duration: 18s, faults: [{kind: blackhole, name: dark, share: 30%, lasts: 15s}]}";
    let thresholds = "{expect: wills_missing == 0, fault: dark}, {expect: 'offline_detection.max < 12s', fault: dark}";
    let text = document("dark", "keepAlive: 2s", "", phases, thresholds).replace("lossAfter: 5s", "lossAfter: 10s");
    let (ended, told) = run(&*broker, "dark", &text);
    let (fault, report) = (fault(&ended, "dark"), &ended.report);
    let found = &fault["offline_detection"];
    let devices = count(fault, "devices");
    let counts = ["wills_expected", "wills_seen", "wills_missing"].map(|key| count(found, key));
    report.claim(&format!("each will has come, of {devices} devices: {counts:?}"), counts == [devices, devices, 0]);
    let [p50, max] = ["p50", "max"].map(|key| found[key].as_f64().unwrap());
    println!("FIGURE dark: {devices} wills, p50 {p50} s, max {max} s after the last byte could go");
    // At most the keep-alive has passed since the last packet, so that half of it is left; brokers look once in a while.
    report.claim("no sooner than half the keep-alive", p50 >= 1.0);
    assert_eq!(topics(&told).len() as u64, devices);
    ended.expect_passed();
}
