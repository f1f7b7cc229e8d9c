//! The files of the report, and a disk that has no room for them.

use std::fs;

use tests::{
    full_disk,
    process::Process,
    simctl::{self, Finished, Simctl},
};

use super::{PATIENCE, check_schema};

const RUN: [&str; 7] = ["run", "--devices", "20", "--duration", "3s", "--report", "out"];

#[test]
fn the_report_is_written_where_it_was_asked_for() {
    let simctl = Simctl::new().unwrap();
    let finished = simctl.call(&RUN, PATIENCE).unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let names: Vec<String> = fs::read_dir(simctl.dir().join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(simctl.dir().join("out/report.json")).unwrap()).unwrap();
    assert_eq!((&json["verdict"], &json["devices"]["connected"]), (&"passed".into(), &20.into()), "{names:?}");
    check_schema("report", &json);
    let again = simctl.call(&["run", "-f", "out/fleet.yaml", "--duration", "1s"], PATIENCE).unwrap();
    assert_eq!(again.code, Some(0), "its own broker is started again: {again:?}");
}

#[test]
fn a_report_is_claimed_before_the_run_and_not_overwritten_unasked() {
    let simctl = Simctl::new().unwrap();
    let finished = simctl.call(&RUN, PATIENCE).unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let report = || fs::read(simctl.dir().join("out/report.json")).unwrap();
    let first = report();
    let refused = simctl.call(&RUN, PATIENCE).unwrap();
    assert!(refused.code == Some(2) && refused.stderr.contains("say --force to replace it"), "{refused:?}");
    assert!(refused.stdout.is_empty() && !refused.stderr.contains("broker mqtt"), "{refused:?}");
    assert!(report() == first, "the report has changed");
    let replaced = simctl.call(&[&RUN[..], &["--force"]].concat(), PATIENCE).unwrap();
    assert!(replaced.code == Some(0) && report() != first, "{replaced:?}");
    fs::write(simctl.dir().join("file"), "").unwrap();
    let args = ["run", "--devices", "20", "--duration", "3s", "--report", "file/out"];
    let nowhere = simctl.call(&args, PATIENCE).unwrap();
    assert!(nowhere.code == Some(2) && nowhere.stdout.is_empty(), "{nowhere:?}");
    assert!(nowhere.stderr.contains("file/out, found: Not a directory"), "{nowhere:?}");
}

/// A full disk is an error that is told, and takes nothing else away.
#[track_caller]
fn expect_the_summary_and_an_error(finished: &Finished) {
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stdout.contains("20 of 20 connected") && finished.stdout.contains("verdict"), "{finished:?}");
    assert!(finished.stderr.contains("out"), "the error names no file: {finished:?}");
}

#[test]
fn a_full_disk_is_told_and_the_summary_is_printed() {
    let simctl = Simctl::new().unwrap();
    let out = simctl.dir().join("out");
    fs::create_dir(&out).unwrap();
    let Ok(mut command) = full_disk::on_a_tiny_disk(&simctl.command(&RUN), &out) else {
        // Where the kernel allows no namespace, the next test stands for this one.
        return;
    };
    let process = Process::spawn("full", &mut command, simctl.dir()).unwrap();
    let finished = simctl::finish(process, PATIENCE).unwrap();
    expect_the_summary_and_an_error(&finished);
    assert!(finished.stderr.contains("No space left on device"), "{finished:?}");
}

#[test]
fn a_file_that_cannot_grow_is_told_and_the_summary_is_printed() {
    let simctl = Simctl::new().unwrap();
    let mut command = full_disk::with_tiny_files(&simctl.command(&RUN), 1024);
    let process = Process::spawn("tiny", &mut command, simctl.dir()).unwrap();
    let finished = simctl::finish(process, PATIENCE).unwrap();
    expect_the_summary_and_an_error(&finished);
    assert!(finished.stderr.contains("File too large"), "{finished:?}");
}
