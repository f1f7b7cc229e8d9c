//! The generator's own faults: a worker that is killed, and one that is held up.

use std::{thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tests::{
    null_broker::{self, NullBroker, Routing},
    run::{Run, to_the_end},
    simctl::Simctl,
};

use super::{PATIENCE, fleet::STEADY};

/// Sends a signal to a worker process.
pub(super) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn a_fleet_spread_over_processes_counts_as_one() {
    let args = ["--devices", "100", "--devices-per-worker", "30", "--duration", "5s"];
    let ended = to_the_end(&[&STEADY[..], &args].concat(), PATIENCE).unwrap();
    ended.expect_passed();
    ended.report.expect("generator.workers", 4);
    ended.report.expect("connections.accepted", 100);
    ended.report.expect_all_delivered();
}

#[test]
fn a_killed_worker_is_restarted_and_what_nobody_knows_is_unknown() {
    let args = ["--devices", "60", "--devices-per-worker", "30"];
    let run = Run::start(&[&STEADY[..], &args].concat()).unwrap();
    run.wait_for_devices(60).unwrap();
    run.wait_for_messages(120).unwrap();
    let workers = run.workers().unwrap();
    assert_eq!(workers.len(), 2);
    signal(workers[0], Signal::KILL);
    run.wait_until("the loss is noticed", |report| report.count("generator.workers_lost") == 1).unwrap();
    let back = run.wait_for_devices(60).unwrap();
    run.wait_for_messages(back.count("messages.sent") + 120).unwrap();
    let replaced = run.workers().unwrap();
    assert!(replaced.len() == 2 && !replaced.contains(&workers[0]) && replaced.contains(&workers[1]), "{replaced:?}");
    let ended = run.stop().unwrap();
    ended.expect_verdict("invalid", 96);
    let report = &ended.report;
    report.claim("the reason is named", report.has_reason("worker_lost"));
    report.expect("connections.accepted", 90);
    report.expect("messages.lost", 0);
    report.expect("messages.in_flight", 0);
    report.expect_conservation();
}

#[test]
fn what_a_killed_worker_may_have_sent_is_bounded_by_its_record() {
    const KILLS: u64 = 4;
    for (qos, routing) in [("0", Routing::Discard), ("1", Routing::Echo)] {
        let place = Simctl::new().unwrap();
        let sink = NullBroker::start(null_broker::Settings { routing, ..Default::default() }, place.dir()).unwrap();
        let observe = if routing == Routing::Echo { "all" } else { "none" };
        let args = ["--model", "thermometer", "--interval", "100ms", "--qos", qos, "--observe", observe];
        let fleet = ["--devices", "60", "--devices-per-worker", "30", "--broker", &sink.url()];
        let run = Run::start_at(place, &[&args[..], &fleet].concat()).unwrap();
        run.wait_for_devices(60).unwrap();
        for kill in 1..=KILLS {
            let sent = run.report().unwrap().count("messages.sent");
            run.wait_for_messages(sent + 300).unwrap();
            let workers = run.workers().unwrap();
            signal(workers[usize::try_from(kill % 2).unwrap()], Signal::KILL);
            run.wait_until("the loss is noticed", |report| report.count("generator.workers_lost") == kill).unwrap();
            run.wait_for_devices(60).unwrap();
        }
        let ended = run.stop().unwrap();
        ended.expect_verdict("invalid", 96);
        let report = &ended.report;
        let taken = sink.counters().unwrap().messages();
        let (sent, unrecorded) = (report.count("messages.sent"), report.count("messages.unrecorded"));
        println!(
            "FIGURE {KILLS} kills at QoS {qos}: {sent} sent, {taken} at the broker, up to {unrecorded} more may have been"
        );
        report.claim("what is in the report was sent", sent <= taken);
        report.claim(&format!("the broker's {taken} are bounded"), taken <= sent + unrecorded);
        // 30 devices send 300 messages a second.
        report.claim("the bound is that of a tenth of a second", unrecorded <= KILLS * 30 + 10);
        if routing == Routing::Echo {
            report.expect_conservation();
        }
    }
}

#[test]
fn a_generator_that_was_held_up_is_late_and_says_so() {
    let run = Run::start(&[&STEADY[..], &["--devices", "100"]].concat()).unwrap();
    run.wait_for_devices(100).unwrap();
    run.wait_for_messages(100).unwrap();
    let workers = run.workers().unwrap();
    workers.iter().for_each(|pid| signal(*pid, Signal::STOP));
    // The fault itself, not a wait for something: the engine stands still for two seconds.
    thread::sleep(Duration::from_secs(2));
    workers.iter().for_each(|pid| signal(*pid, Signal::CONT));
    let after = run.report().unwrap();
    run.wait_for_messages(after.count("messages.sent") + 300).unwrap();
    let ended = run.stop().unwrap();
    let report = &ended.report;
    report.claim("the delay is recorded", report.seconds("latency.schedule_lag.max") > 1.0);
    report.claim("missed ticks are counted", report.count("generator.missed_ticks") > 0);
    report.claim("the reason is named", report.has_reason("schedule_lag"));
    report.expect("reconnects", 0);
    report.expect_all_delivered();
    ended.expect_verdict("invalid", 96);
}
