//! A broker that drops, doubles and reorders messages and cuts connections off: each figure of the ledger is that of its log.

pub(super) mod broker;

use std::fs;

use tests::{run::Run, simctl::Simctl};

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

/// Runs a fleet that grows and shrinks against such a broker, and compares.
#[track_caller]
fn check(habits: Habits) {
    let broker = Adversary::start(habits);
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("fleet.yaml"), FLEET).unwrap();
    // One worker, so that there is one observer, and one order in which it gets what the broker forwards.
    let run = Run::start_at(simctl, &["-f", "fleet.yaml", "--broker", &broker.url()]).unwrap();
    run.wait_until("the observer is subscribed", |report| report.count("observer.subscribed") == 1).unwrap();
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
    check(Habits { seed: 1, drops: 15, doubles: 20, holds: 20, cuts: 4 });
}

#[test]
fn and_with_another_seed_and_worse_habits() {
    check(Habits { seed: 2, drops: 60, doubles: 60, holds: 60, cuts: 8 });
}
