//! The arm64 ring: the programs for arm64, run by an emulator, beside those of this machine.
//!
//! `cargo xtask test arm64` builds and runs it, and says NOT RUN where there is no compiler or no emulator. An emulated
//! generator may be late, so its verdict may be that it cannot be trusted; its books must balance all the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod images;
mod programs;
mod worker;

use std::{sync::LazyLock, time::Duration};

use tests::{
    arm64::{self, Emulator},
    run::Run,
    simctl::{Finished, Simctl},
};

/// Far beyond what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(2);

static EMULATOR: LazyLock<Emulator> = LazyLock::new(|| Emulator::find_or_unpack().unwrap());

/// The `simctl` for arm64.
fn emulated() -> Simctl {
    Simctl::emulated(arm64::binary("simctl").unwrap(), &EMULATOR).unwrap()
}

/// What a call that succeeds leaves.
#[track_caller]
fn succeeds(simctl: &Simctl, args: &[&str]) -> Finished {
    let finished = simctl.call(args, PATIENCE).unwrap();
    assert_eq!(finished.code, Some(0), "simctl {args:?}: {finished:?}");
    finished
}

#[test]
fn a_fleet_of_fifty_loses_nothing() {
    let fleet = ["--model", "thermometer", "--devices", "50", "--interval", "1s", "--qos", "1"];
    let run = Run::start_at(emulated(), &fleet).unwrap();
    run.wait_for_devices(50).unwrap();
    run.wait_for_messages(500).unwrap();
    let report = run.stop().unwrap().report;
    report.expect("devices.connected", 50);
    report.expect("reconnects", 0);
    report.expect("messages.withheld", 0);
    report.expect_all_delivered();
    let sent = report.count("messages.sent");
    report.expect("messages.delivered", sent);
    report.expect("messages.acknowledged", sent);
    report.expect("messages.duplicated", 0);
    let verdict = report.text("verdict");
    report.claim("no promise was broken", verdict == "passed" || verdict == "invalid");
}

/// What a device sends depends on seed, document and instant, and not on the processor: the same bits of every signal, and so
/// the same bytes of every payload.
#[test]
fn the_same_seed_gives_the_same_bytes_on_both_processors() {
    let (here, there) = (Simctl::new().unwrap(), emulated());
    for model in ["robotaxi", "thermometer", "smart-meter", "street-light", "e-bike"] {
        let args = ["sample", "--model", model, "--devices", "9", "--seed", "11", "--duration", "90s"];
        let (ours, theirs) = (succeeds(&here, &args).stdout, succeeds(&there, &args).stdout);
        assert!(ours.lines().count() > 10, "{model}: {ours}");
        let difference = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
        assert_eq!(difference, None, "{model}");
        assert_eq!(ours.len(), theirs.len(), "{model}");
    }
}
