//! A broker that drops, doubles and reorders messages, cuts connections off and crashes: each figure of the ledger is that of its log.

pub(super) mod broker;

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::Value;
use tests::{
    report::Report,
    run::{Ended, Run},
    simctl::Simctl,
    turn::Turns,
};

use super::{check_schema, workers::signal};
use broker::{Adversary, Habits};

const FLEET: &str = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: prey}
spec:
  devices: 0
  lossAfter: 4s
  observe: all
  connect: {rate: 500/s, session: persistent, keepAlive: 20s, backoff: {base: 50ms, cap: 200ms}}
  groups: [{name: all, model: prey}]
  models:
    prey:
      signals: {x: {kind: counter, rate: 1}}
      streams:
        zero: {topic: '{fleet}/{index}/zero', interval: 130ms, qos: 0, payload: {json: {x: '{x}'}}}
        one: {topic: '{fleet}/{index}/one', interval: 150ms, qos: 1, payload: {json: {x: '{x}'}}}
        two: {topic: '{fleet}/{index}/two', interval: 170ms, qos: 2, payload: {json: {x: '{x}'}}}
";

/// A broker in one process with the tests of all others answers late if several fleets are at several of its kind.
static TURNS: Turns = Turns::new();

/// Starts a run at such a broker, with an observer that is subscribed.
///
/// One worker, so that there is one observer, and one order in which it gets what the broker forwards.
fn start(broker: &Adversary, more: &[&str]) -> Run {
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("fleet.yaml"), FLEET).unwrap();
    let run = Run::start_at(simctl, &[&["-f", "fleet.yaml", "--broker", &broker.url()], more].concat()).unwrap();
    run.wait_until("the observer is subscribed", |report| report.count("observer.subscribed") == 1).unwrap();
    run
}

/// Runs a fleet that grows and shrinks against such a broker, and compares.
#[track_caller]
fn check(habits: Habits) {
    let _turn = TURNS.alone();
    let broker = Adversary::start(habits);
    let run = start(&broker, &[]);
    // Nobody waits until all are connected: at such a broker they never are for long.
    run.must(&["scale", "20", "--no-wait"]).unwrap();
    run.wait_for_messages(1_000).unwrap();
    run.must(&["scale", "40", "--no-wait"]).unwrap();
    run.wait_for_messages(4_000).unwrap();
    run.must(&["scale", "10", "--no-wait"]).unwrap();
    run.wait_for_messages(5_000).unwrap();
    run.must(&["scale", "30", "--no-wait"]).unwrap();
    run.wait_for_messages(7_000).unwrap();
    let ended = run.stop().unwrap();
    let report = &ended.report;
    report.expect_conservation();
    for qos in 0..3_u8 {
        let counts = broker.counts(qos);
        let of = |key: &str| report.count(&format!("messages.by_qos.{qos}.{key}"));
        println!("FIGURE seed {}, QoS {qos}: {counts:?}", habits.seed);
        let found = broker::Counts {
            sent: of("sent"),
            delivered: of("delivered"),
            lost: of("lost"),
            duplicated: of("duplicated"),
            reordered: of("reordered"),
        };
        assert_eq!(found, counts, "seed {}, QoS {qos}, against the broker's log, in {report}", habits.seed);
        // A device that leaves gives up in the end what its broker does not answer.
        let acknowledged = if qos == 0 { 0 } else { counts.sent - of("abandoned") };
        report.expect(&format!("messages.by_qos.{qos}.acknowledged"), acknowledged);
        report.claim("less than one in a hundred is given up", of("abandoned") * 100 < counts.sent.max(100));
        report.expect(&format!("messages.by_qos.{qos}.unobserved"), 0);
    }
    let seen = broker.counts(0);
    report.claim("there was much to find", seen.lost > 10 && seen.duplicated > 10 && seen.reordered > 5);
    let lost: u64 = report.sum("connections.lost");
    report.claim(&format!("connections were cut, {} and {lost} times", broker.cuts()), broker.cuts() > 10);
    ended.expect_verdict("failed", 99);
}

#[test]
fn each_figure_is_that_of_the_brokers_log() {
    check(Habits { seed: 1, drops: 15, doubles: 20, holds: 20, cuts: 4, crashes_each: 0 });
}

#[test]
fn and_with_another_seed_and_worse_habits() {
    check(Habits { seed: 2, drops: 60, doubles: 60, holds: 60, cuts: 8, crashes_each: 0 });
}

/// What a report of a run says whose observer was away now and then: what went meanwhile is unobserved or unknown, and nothing is
/// called delivered, lost or sent twice that the broker's log does not have.
#[track_caller]
fn check_interrupted(broker: &Adversary, report: &Report) {
    report.expect_conservation();
    for qos in 0..3_u8 {
        let counts = broker.counts(qos);
        let of = |key: &str| report.count(&format!("messages.by_qos.{qos}.{key}"));
        let [sent, unrecorded, delivered] = ["sent", "unrecorded", "delivered"].map(of);
        let open = of("unobserved") + of("unknown");
        println!(
            "FIGURE QoS {qos}: {counts:?}, {sent} sent, {unrecorded} more may have been, {delivered} delivered, {open} open"
        );
        report.claim(
            &format!("{sent} <= {} <= {sent} + {unrecorded} at QoS {qos}", counts.sent),
            sent <= counts.sent && counts.sent <= sent + unrecorded,
        );
        report.claim(
            &format!("{delivered} <= {} <= {delivered} + {open} + {unrecorded} at QoS {qos}", counts.delivered),
            delivered <= counts.delivered && counts.delivered <= delivered + open + unrecorded,
        );
        report.claim(
            &format!("at most {} doubled and {} overtaken at QoS {qos}", counts.duplicated, counts.reordered),
            of("duplicated") <= counts.duplicated && of("reordered") <= counts.reordered,
        );
    }
}

/// What is called lost by name never went to the observer.
#[track_caller]
fn check_lost(broker: &Adversary, report: &Report, files: &Path) {
    let lost: Vec<Value> = fs::read_to_string(files.join("lost.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    report.claim("some were lost", lost.len() > 5);
    for message in &lost {
        check_schema("lost", message);
        let topic = format!("prey/{}/{}", message["device"], message["stream"].as_str().unwrap());
        let seq = u32::try_from(message["seq"].as_u64().unwrap()).unwrap();
        assert!(!broker.has_forwarded(&topic, seq), "{message} was forwarded, and is called lost in {report}");
    }
}

/// A run at such a broker that grows, and is disturbed by `disturb` in its middle.
fn interrupted(habits: Habits, disturb: impl Fn(&Run)) -> (Adversary, Ended, tempfile::TempDir) {
    let _turn = TURNS.alone();
    let broker = Adversary::start(habits);
    let files = tempfile::tempdir().unwrap();
    let run = start(&broker, &["--report", files.path().join("out").to_str().unwrap()]);
    run.must(&["scale", "30", "--no-wait"]).unwrap();
    run.wait_for_messages(2_000).unwrap();
    disturb(&run);
    run.wait_for_messages(7_000).unwrap();
    (broker, run.stop().unwrap(), files)
}

#[test]
fn what_a_crashing_broker_loses_is_lost_unknown_or_unobserved() {
    let habits = Habits { seed: 3, drops: 15, doubles: 20, holds: 0, cuts: 2, crashes_each: 1_500 };
    let (broker, ended, files) = interrupted(habits, |_| ());
    ended.report.claim("it has crashed", broker.crashes() >= 3);
    ended.report.claim("the observer was away", ended.report.sum("connections.lost") > 50);
    check_interrupted(&broker, &ended.report);
    check_lost(&broker, &ended.report, &files.path().join("out"));
    ended.expect_verdict("failed", 99);
}

#[test]
fn a_worker_that_is_killed_at_such_a_broker_leaves_figures_that_its_log_bears_out() {
    let habits = Habits { seed: 4, drops: 15, doubles: 20, holds: 20, cuts: 4, crashes_each: 0 };
    let (broker, ended, _files) = interrupted(habits, |run| {
        let [worker] = run.workers().unwrap()[..] else { panic!("one worker runs all") };
        signal(worker, Signal::KILL);
        run.wait_until("the loss is noticed", |report| report.count("generator.workers_lost") == 1).unwrap();
    });
    let report = &ended.report;
    let kinds: Vec<&str> = report.list("events").iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["scale", "worker_lost"], "{report}");
    check_interrupted(&broker, report);
}
