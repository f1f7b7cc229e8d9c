//! What a load test does beside its devices: it kills workers, and runs commands of its author's.

use std::fs;

use tests::{
    broker::Broker,
    run::{Ended, Run},
    simctl::Simctl,
};

use super::PATIENCE;

/// Begins a run of two workers of ten devices each, with these phases and thresholds.
fn start(broker: &str, phases: &str, thresholds: &str) -> Run {
    let text = format!(
        "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: lab}}
spec:
  devices: 20
  lossAfter: 5s
  {broker}
  connect: {{rate: 500/s, backoff: {{base: 200ms, cap: 500ms}}}}
  groups: [{{name: all, model: thermometer, streams: {{reading: {{interval: 200ms, jitter: 0s, qos: 1}}}}}}]
---
apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {{name: acts}}
spec:
  fleet: lab
  phases: [{phases}]
  thresholds: [{thresholds}]
"
    );
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("acts.yaml"), text).unwrap();
    let args = ["-f", "acts.yaml", "--devices-per-worker", "10", "--allow-commands"];
    Run::start_at(simctl, &args).unwrap()
}

fn run(phases: &str, thresholds: &str) -> Ended {
    start("", phases, thresholds).end(PATIENCE).unwrap()
}

/// A figure of the only fault.
fn figure(ended: &Ended, key: &str) -> u64 {
    ended.report.list("faults")[0][key].as_u64().unwrap()
}

#[test]
fn one_of_two_workers_is_killed_and_its_devices_come_back() {
    let phases = "{name: calm, duration: 2s}, {name: kill, duration: 8s, faults: [{kind: kill-pods, share: 50%}]}";
    let ended = run(phases, "{expect: recovery.max < 8s, fault: kill-pods}");
    let report = &ended.report;
    report.expect_conservation();
    assert_eq!((figure(&ended, "effects"), figure(&ended, "devices")), (1, 10), "{report}");
    assert_eq!((figure(&ended, "sessions_lost"), figure(&ended, "sessions_back")), (10, 10), "{report}");
    report.expect("generator.workers_lost", 1);
    report.claim("it was asked for", !report.has_reason("worker_lost"));
    report.claim("its threshold has what to judge", report.list("thresholds")[0]["outcome"] == "passed");
    println!(
        "FIGURE the devices of a killed worker are back, by the report: {}",
        report.list("faults")[0]["back_seconds"]
    );
    ended.expect_passed();
}

#[test]
fn a_command_restarts_the_broker_and_the_devices_come_back() {
    let mut broker = Broker::start(&[]).unwrap();
    let hook = format!("{{kind: hook, name: restart, command: [sh, -c, 'kill -KILL {}']}}", broker.pid());
    let phases = format!(
        "{{name: calm, duration: 2s}}, {{name: restart, duration: 6s, faults: [{hook}]}}, {{name: after, duration: 1s}}"
    );
    let url = format!("broker: {{url: '{}'}}", broker.url());
    let run = start(&url, &phases, "{expect: recovery.max < 6s, fault: restart}");
    broker.start_again().unwrap();
    let ended = run.end(PATIENCE).unwrap();
    let report = &ended.report;
    report.expect_conservation();
    assert_eq!((figure(&ended, "effects"), figure(&ended, "devices")), (1, 20), "{report}");
    assert_eq!((figure(&ended, "sessions_lost"), figure(&ended, "sessions_back")), (20, 20), "{report}");
    report.claim("its threshold has what to judge", report.list("thresholds")[0]["outcome"] == "passed");
    report.expect("reconnects", 20);
}

#[test]
fn a_command_that_fails_makes_a_run_invalid_and_says_why() {
    let hook = "{kind: hook, name: break, command: [sh, -c, 'echo no such broker >&2; exit 3']}";
    let ended = run(&format!("{{name: calm, duration: 2s, faults: [{hook}]}}"), "lost == 0");
    ended.expect_verdict("invalid", 96);
    let report = &ended.report;
    assert!(report.has_reason("fault_without_effect"), "{report}");
    let failure = report.list("faults")[0]["failure"].as_str().unwrap().to_owned();
    assert!(failure.contains("exit status: 3") && failure.contains("no such broker"), "{failure}");
}
