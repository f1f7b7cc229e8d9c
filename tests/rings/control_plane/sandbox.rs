//! Nothing of a sandbox outlives the test, whatever becomes of that.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tests::{
    debian::Packages,
    eventually,
    process::{Process, Stream},
    sandbox::Sandbox,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Tells the test that it is the process that is to be killed.
const HOLDER: &str = "SANDBOX_HOLDER";

fn sandbox() -> Sandbox {
    Sandbox::start("sandbox-test", &Packages::unpack(&["iproute2"]).unwrap()).unwrap()
}

#[test]
fn a_sandbox_ends_with_a_test_that_is_killed() {
    if env::var_os(HOLDER).is_some() {
        hold();
    }
    let logs = tempfile::tempdir().unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "sandbox::a_sandbox_ends_with_a_test_that_is_killed"]).env(HOLDER, "yes");
    let mut holder = Process::spawn("holder", &mut command, logs.path()).unwrap();
    let line = holder.wait_for_line(Stream::Stdout, PATIENCE, |line| line.contains("holds ")).unwrap();
    let (_, held) = line.split_once("holds ").unwrap();
    let (init, state) = held.split_once(' ').unwrap();
    let (init, state) = (Path::new("/proc").join(init), PathBuf::from(state));
    assert!(init.exists() && state.exists(), "{line}");

    holder.kill().unwrap();
    let gone = || Ok((!init.exists() && !state.exists()).then_some(()));
    eventually("process 1 and the directory are gone", PATIENCE, gone).unwrap();
}

/// The process that is killed: it holds a sandbox in which a program does not listen to signals.
fn hold() -> ! {
    let sandbox = sandbox();
    let mut stubborn = Command::new("bash");
    stubborn.args(["-c", "trap '' HUP INT TERM; sleep 600"]);
    let _stubborn = Process::spawn("stubborn", &mut sandbox.inside(&stubborn), &sandbox.logs()).unwrap();
    println!("holds {} {}", sandbox.init(), sandbox.state().display());
    loop {
        std::thread::park();
    }
}

#[test]
fn process_one_reaps_what_others_leave_behind() {
    let sandbox = sandbox();
    // The shell ends at once, and its child, a little later, is process 1's.
    sandbox.run("bash", &["-c", "sleep 0.2 > /dev/null 2>&1 &"]).unwrap();
    // One that ends between the look and the read, such as the orphan, has nothing to show.
    let processes = || sandbox.run("bash", &["-c", "cat /proc/[0-9]*/stat 2> /dev/null || true"]);
    assert!(processes().unwrap().contains("(sleep)"));
    let is_reaped = || Ok((!processes()?.contains("(sleep)")).then_some(()));
    eventually("the orphan is reaped", PATIENCE, is_reaped).unwrap();
}

#[test]
fn commands_inside_have_their_directory_and_their_environment() {
    let sandbox = sandbox();
    let mut command = Command::new("bash");
    command.args(["-c", "echo $GREETING; pwd"]).env("GREETING", "hello").current_dir(sandbox.state());
    let output = tests::command::text(&mut sandbox.inside(&command)).unwrap();
    assert_eq!(output, format!("hello\n{}\n", sandbox.state().display()));
}

#[test]
fn a_sandbox_that_was_told_to_end_has_left_nothing() {
    let mut sandbox = sandbox();
    let (init, state) = (Path::new("/proc").join(sandbox.init().to_string()), sandbox.state());
    let group = Path::new("/sys/fs/cgroup").join(first_hierarchy()).join(sandbox.control_group());
    std::fs::create_dir_all(group.join("child")).unwrap();
    sandbox.end().unwrap();
    assert!(!init.exists() && !state.exists() && !group.exists());
}

/// A place for control groups: version 1 has a folder for each controller, version 2 is the folder.
fn first_hierarchy() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "." } else { "memory" }
}
