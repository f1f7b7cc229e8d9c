//! Wills at simctl's own broker, at one that publishes none, and of a worker that is killed.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use tests::{
    broker::Broker,
    run::{Ended, Run},
    simctl::Simctl,
};

use super::{
    PATIENCE,
    adversary::broker::{Adversary, Habits},
    workers::signal,
};

const PHASES: &str = "
    - {name: calm, duration: 2s, measure: true}
    - {name: cut, duration: 4s, faults: [{kind: disconnect, name: cut, share: 30%}]}
    - {name: said, duration: 2s, faults: [{kind: disconnect, by: disconnect, name: said, share: 30%}]}
";

const THRESHOLDS: &str = "wills_missing == 0, {expect: 'offline_detection.p99 < 2s', fault: cut}";

fn document(birth: &str) -> String {
    format!(
        "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: prey}}
spec:
  devices: 100
  lossAfter: 2s
  connect:
    rate: 500/s
    keepAlive: 20s
    backoff: {{base: 100ms, cap: 300ms}}
    will: {{topic: 'states/{{index}}', payload: 'offline {{id}}', qos: 1, retain: true}}
    {birth}
  groups: [{{name: all, model: prey}}]
  models:
    prey:
      signals: {{x: {{kind: counter, rate: 1}}}}
      streams: {{one: {{topic: '{{fleet}}/{{index}}/one', interval: 500ms, qos: 1, payload: {{json: {{x: '{{x}}'}}}}}}}}
---
apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {{name: hunt}}
spec:
  fleet: prey
  phases:{PHASES}
  thresholds: [{THRESHOLDS}]
"
    )
}

fn start(birth: &str, url: &str) -> Run {
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("hunt.yaml"), document(birth)).unwrap();
    Run::start_at(simctl, &["-f", "hunt.yaml", "--broker", url]).unwrap()
}

/// The devices that the fault `cut` has hit, and what the report says of their wills: expected, seen, missing, unexpected.
fn cut(ended: &Ended) -> (u64, [u64; 4]) {
    let faults = ended.report.list("faults");
    let fault = faults.iter().find(|fault| fault["name"] == "cut").unwrap();
    let count = |value: &Value| value.as_u64().unwrap();
    let keys = ["wills_expected", "wills_seen", "wills_missing", "wills_unexpected"];
    (count(&fault["devices"]), keys.map(|key| count(&fault["offline_detection"][key])))
}

fn outcomes(ended: &Ended) -> Vec<&str> {
    ended.report.list("thresholds").iter().filter_map(|threshold| threshold["outcome"].as_str()).collect()
}

#[test]
fn our_own_broker_publishes_each_will_and_retains_it_until_the_device_is_back() {
    let broker = Broker::start(&[]).unwrap();
    let birth = "birth: {topic: 'states/{index}', payload: 'online {id}', qos: 1, retain: true}";
    let ended = start(birth, &broker.url()).end(PATIENCE).unwrap();
    let (devices, found) = cut(&ended);
    let report = &ended.report;
    report.claim(&format!("each device has left its will: {found:?} of {devices}"), found == [devices, devices, 0, 0]);
    report.expect("offline_detection.wills_expected", devices);
    report.claim("topics were looked at", report.count("offline_detection.retained_right") >= devices);
    report.expect("offline_detection.retained_wrong", 0);
    report.expect("observer.foreign", 0);
    assert_eq!(outcomes(&ended), ["passed", "passed"]);
    ended.expect_passed();
}

#[test]
fn a_broker_that_swallows_wills_fails_the_thresholds() {
    let broker = Adversary::start(Habits { seed: 1, drops: 0, doubles: 0, holds: 0, cuts: 0, crashes_each: 0 });
    let ended = start("", &broker.url()).end(PATIENCE).unwrap();
    let (devices, found) = cut(&ended);
    ended.report.claim(&format!("no will has come: {found:?} of {devices}"), found == [devices, 0, devices, 0]);
    assert_eq!(outcomes(&ended), ["failed", "failed"]);
    ended.expect_verdict("failed", 99);
}

#[test]
fn of_a_killed_worker_nobody_knows_the_wills() {
    let broker = Broker::start(&[]).unwrap();
    let run = start("", &broker.url());
    run.wait_for_devices(100).unwrap();
    signal(run.workers().unwrap()[0], Signal::KILL);
    run.wait_until("another worker has taken over", |report| report.count("connections.accepted") >= 200).unwrap();
    let ended = run.end(PATIENCE).unwrap();
    let report = &ended.report;
    let [expected, seen, unknown] =
        ["expected", "seen", "unknown"].map(|key| report.count(&format!("offline_detection.wills_{key}")));
    report.claim(
        &format!("{expected} were owed, {seen} seen and {unknown} not"),
        expected == seen + unknown && unknown >= 100,
    );
    report.expect("offline_detection.wills_unexpected", 0);
}
