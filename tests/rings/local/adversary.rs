//! A broker that drops, doubles and reorders messages, cuts connections off and crashes: each figure of the ledger is that of its log.

pub(super) mod broker;

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::Value;
use tests::{
    eventually,
    report::Report,
    run::{Ended, Run},
    simctl::Simctl,
    turn::Turns,
};

use super::{PATIENCE, check_schema, workers::signal};
use broker::{Adversary, Habits, Of};

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
        let (counts, answered) = (broker.counts(qos, Of::All), broker.answered(qos, Of::All));
        let of = |key: &str| report.count(&format!("messages.by_qos.{qos}.{key}"));
        println!("FIGURE seed {}, QoS {qos}: {counts:?}, {answered} answered", habits.seed);
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
        check_answered(report, qos, answered, of("acknowledged") + of("abandoned"));
        report.expect(&format!("messages.by_qos.{qos}.unobserved"), 0);
    }
    let seen = broker.counts(0, Of::All);
    report.claim("there was much to find", seen.lost > 10 && seen.duplicated > 10 && seen.reordered > 5);
    let lost: u64 = report.sum("connections.lost");
    report.claim(&format!("connections were cut, {} and {lost} times", broker.cuts()), broker.cuts() > 10);
    ended.expect_verdict("failed", 99);
}

/// What is called acknowledged is what the broker has answered to the end. All that it has written comes before the end of a
/// connection does, so that both are the same number where nothing was given up. A device that is killed, or leaves before its
/// time, reads nothing more: with the messages of which it knew no answer, there are `most`.
#[track_caller]
fn check_answered(report: &Report, qos: u8, answered: u64, most: u64) {
    let acknowledged = report.count(&format!("messages.by_qos.{qos}.acknowledged"));
    report.claim(
        &format!("{acknowledged} <= {answered} answered <= {most} at QoS {qos}"),
        acknowledged <= answered && answered <= most,
    );
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
        let counts = broker.counts(qos, Of::All);
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
        check_answered(report, qos, broker.answered(qos, Of::All), sent + unrecorded);
    }
}

/// The reading of a worker whose devices have all left, and of whose messages nothing is open.
fn settled(run: &Run) -> Value {
    run.must(&["scale", "0", "--no-wait"]).unwrap();
    let is_settled = |reading: &Value| {
        let devices = &reading["stats"]["devices"];
        let are_gone = ["desired", "connected", "leaving"].iter().all(|state| devices[*state] == 0);
        are_gone && (0..3).all(|qos| in_flight(reading, qos) == 0)
    };
    let read = || Ok(Some(run.reading("prey", 0)?).filter(is_settled));
    eventually("all devices have left", PATIENCE, read).unwrap()
}

/// A counter of a reading; those that are 0 are left out.
fn counted(reading: &Value, qos: usize, key: &str) -> u64 {
    reading["stats"]["messages"][qos][key].as_u64().unwrap_or(0)
}

/// How many messages of a reading are observed and not judged.
fn in_flight(reading: &Value, qos: usize) -> u64 {
    let of = |key: &str| counted(reading, qos, key);
    of("observed").saturating_sub(of("delivered") + of("lost") + of("unknown"))
}

/// What a worker has measured that began in the middle of a run is what the log has with its epoch: exactly what it has sent. Its
/// observer subscribes beside its devices, so what went before is unobserved.
#[track_caller]
fn check_successor(broker: &Adversary, reading: &Value) {
    let epoch = reading["epoch"].as_u64().unwrap();
    for qos in 0..3_u8 {
        let (counts, answered) = (broker.counts(qos, Of::Epoch(epoch)), broker.answered(qos, Of::Epoch(epoch)));
        let of = |key: &str| counted(reading, qos.into(), key);
        println!("FIGURE successor, QoS {qos}: {counts:?}, {answered} answered");
        assert!(counts.sent > 100, "it has sent too little to compare: {counts:?}");
        let told = format!(
            "at QoS {qos}: {counts:?}, {answered} answered, in {}",
            reading["stats"]["messages"][usize::from(qos)]
        );
        assert_eq!(of("sent"), counts.sent, "{told}");
        let (delivered, unseen) = (of("delivered"), of("unobserved") + of("unknown"));
        assert!(delivered <= counts.delivered && counts.delivered <= delivered + unseen, "{told}");
        assert!(of("duplicated") <= counts.duplicated && of("reordered") <= counts.reordered, "{told}");
        let acknowledged = of("acknowledged");
        assert!(acknowledged <= answered && answered <= acknowledged + of("abandoned"), "{told}");
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

/// A run at such a broker that grows, is disturbed by `disturb` in its middle, and of which `look` takes something along before it is
/// stopped.
fn interrupted<T>(
    habits: Habits,
    disturb: impl Fn(&Run),
    look: impl Fn(&Run) -> T,
) -> (Adversary, Ended, tempfile::TempDir, T) {
    let _turn = TURNS.alone();
    let broker = Adversary::start(habits);
    let files = tempfile::tempdir().unwrap();
    let run = start(&broker, &["--report", files.path().join("out").to_str().unwrap()]);
    run.must(&["scale", "30", "--no-wait"]).unwrap();
    run.wait_for_messages(2_000).unwrap();
    disturb(&run);
    run.wait_for_messages(7_000).unwrap();
    let looked = look(&run);
    (broker, run.stop().unwrap(), files, looked)
}

#[test]
fn what_a_crashing_broker_loses_is_lost_unknown_or_unobserved() {
    let habits = Habits { seed: 3, drops: 15, doubles: 20, holds: 0, cuts: 2, crashes_each: 1_500 };
    let (broker, ended, files, ()) = interrupted(habits, |_| (), |_| ());
    ended.report.claim("it has crashed", broker.crashes() >= 3);
    ended.report.claim("the observer was away", ended.report.sum("connections.lost") > 50);
    check_interrupted(&broker, &ended.report);
    check_lost(&broker, &ended.report, &files.path().join("out"));
    ended.expect_verdict("failed", 99);
}

#[test]
fn a_worker_that_is_killed_at_such_a_broker_leaves_figures_that_its_log_bears_out() {
    let habits = Habits { seed: 4, drops: 15, doubles: 20, holds: 20, cuts: 4, crashes_each: 0 };
    let kill = |run: &Run| {
        let [worker] = run.workers().unwrap()[..] else { panic!("one worker runs all") };
        signal(worker, Signal::KILL);
        run.wait_until("the loss is noticed", |report| report.count("generator.workers_lost") == 1).unwrap();
    };
    let (broker, ended, _files, successor) = interrupted(habits, kill, settled);
    let report = &ended.report;
    let kinds: Vec<&str> = report.list("events").iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["scale", "worker_lost", "scale"], "{report}");
    check_interrupted(&broker, report);
    check_successor(&broker, &successor);
}
