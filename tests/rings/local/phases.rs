//! The parts of a run that are measured apart.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::{report::Report, run::Run};

use super::{PATIENCE, fleet::place};

fn phase(report: &Report, number: usize) -> &Value {
    &report.list("phases")[number]
}

fn count(report: &Report, number: usize, key: &str) -> u64 {
    phase(report, number)[key].as_u64().unwrap()
}

#[test]
fn phases_add_up_to_the_run_whoever_is_killed_in_between() {
    let simctl = place("  connect: {rate: 1000/s}");
    let args = [
        "--interval",
        "500ms",
        "--qos",
        "1",
        "--phase",
        "come:0..50/2s",
        "--phase",
        "stay:12s",
        "--phase",
        "go:50..20/2s",
    ];
    let run = Run::start_at(simctl, &[&["-f", "fleet.yaml"][..], &args].concat()).unwrap();
    // The first phase ends after 2 s; 3 s later its messages are judged, and what was measured is kept.
    let kept = run.wait_until("the first phase is settled", |report| report.seconds("elapsed_seconds") > 8.0).unwrap();
    let come = phase(&kept, 0).clone();
    kept.claim("devices came in the first phase alone", come["latency"]["connect"]["count"] == 50);
    kept.claim("they sent some messages in it", count(&kept, 0, "offered") > 50);
    assert_eq!(count(&kept, 2, "offered"), 0);
    let [worker] = run.workers().unwrap()[..] else { panic!("expected one worker") };
    kill_process(Pid::from_raw(i32::try_from(worker).unwrap()).unwrap(), Signal::KILL).unwrap();

    let ended = run.end(PATIENCE).unwrap();
    ended.expect_verdict("invalid", 96);
    let report = &ended.report;
    report.expect_conservation();
    report.claim("a dead worker takes nothing of a kept phase along", *phase(report, 0) == come);
    report.claim("its successor connects in the second", phase(report, 1)["latency"]["connect"]["count"] == 50);
    for key in ["offered", "sent", "delivered", "unknown", "withheld", "payload_bytes"] {
        let sum: u64 = (0..3).map(|number| count(report, number, key)).sum();
        // What falls due behind the last phase, until the devices leave, is in none.
        let behind = report.count(&format!("messages.{key}")).checked_sub(sum);
        report.claim(&format!("{key} add up, {behind:?} behind"), behind.is_some_and(|behind| behind <= sum / 50 + 20));
    }
    let of_group = phase(report, 1)["groups"]["room"]["streams"]["reading"]["sent"].as_u64();
    report.claim("streams are told apart", of_group == Some(count(report, 1, "sent")));
    report.claim("the last devices are those of the last phase", report.count("devices.desired") == 20);
}
