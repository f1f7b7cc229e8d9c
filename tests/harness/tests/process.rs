//! Children: output, signals, ends, and what they cost.

use std::{fs, process::Command, time::Duration};

use tests::{
    cores, eventually,
    process::{Process, Signal, Stream},
    usage,
};

use super::PATIENCE;

fn sh(script: &str) -> (tempfile::TempDir, Process) {
    let logs = tempfile::tempdir().unwrap();
    let process = Process::spawn("sh", Command::new("sh").args(["-c", script]), logs.path()).unwrap();
    (logs, process)
}

#[test]
fn a_line_is_awaited_and_seen_once() {
    let (_logs, mut process) = sh("echo one; echo two >&2; echo three; read _ < /dev/null; printf four");
    process.wait_for_line(Stream::Stdout, PATIENCE, |line| line == "three").unwrap();
    let last = process.wait_for_line(Stream::Stdout, PATIENCE, |line| line != "one").unwrap();
    assert_eq!(last, "four");
    assert!(process.wait(PATIENCE).unwrap().success());
    assert_eq!(process.output(Stream::Stdout).unwrap(), "one\nthree\nfour");
    assert_eq!(process.output(Stream::Stderr).unwrap(), "two\n");
}

#[test]
fn a_line_that_never_comes_is_told_with_the_output() {
    let (_logs, process) = sh("echo hello");
    let error = process.wait_for_line(Stream::Stdout, PATIENCE, |line| line == "other").unwrap_err().to_string();
    assert!(error.contains("ended its output") && error.contains("hello"), "{error}");
}

#[test]
fn a_process_past_its_deadline_is_an_error_and_lives() {
    let (_logs, mut process) = sh("exec sleep 60");
    let error = process.wait(Duration::from_millis(50)).unwrap_err().to_string();
    assert!(error.contains("still runs after 50ms"), "{error}");
    process.signal(Signal::STOP).unwrap();
    let state = || Ok(fs::read_to_string(format!("/proc/{}/stat", process.pid()))?.contains(") T ").then_some(()));
    eventually("the process is stopped", PATIENCE, state).unwrap();
    process.signal(Signal::CONT).unwrap();
    assert_eq!(process.terminate(PATIENCE).unwrap().code(), None);
    assert!(process.signal(Signal::TERM).is_err(), "an ended process took a signal");
}

#[test]
fn a_dropped_process_is_gone() {
    let (logs, process) = sh("exec sleep 60");
    let pid = process.pid();
    drop(process);
    assert_eq!(usage::cpu(pid).unwrap(), None);
    drop(logs);
}

#[test]
fn the_tree_of_a_process_is_counted_whole() {
    let (_logs, process) = sh("(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; exec sleep 60) & wait");
    process.wait_for_line(Stream::Stdout, PATIENCE, |line| line == "done").unwrap();
    let [parent, children @ ..] = &*usage::tree(process.pid()).unwrap() else { panic!("an empty tree") };
    assert_eq!((*parent, children.len()), (process.pid(), 1));
    let own = usage::cpu(*parent).unwrap().unwrap();
    let whole = process.cpu().unwrap();
    assert!(whole.total() >= own.total() + Duration::from_millis(20), "{own:?} {whole:?}");
    let memory = process.memory().unwrap();
    assert!(memory.pss > usage::memory(*parent).unwrap().unwrap().pss, "{memory:?}");
    // The grandchild is ours too, and a dropped process ends only itself.
    Command::new("kill").arg(children[0].to_string()).status().unwrap();
}

#[test]
fn a_process_stays_on_its_core() {
    let core = *cores::available().unwrap().last().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "grep Cpus_allowed_list: /proc/self/status"]);
    let process = Process::spawn_on(core, "sh", &mut command, logs.path()).unwrap();
    let line = process.wait_for_line(Stream::Stdout, PATIENCE, |_| true).unwrap();
    let number = line.split_whitespace().last().unwrap();
    assert_eq!(format!("Core({number})"), format!("{core:?}"));
}
