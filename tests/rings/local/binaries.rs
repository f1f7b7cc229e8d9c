//! What the other tests start has been built and answers.

use std::{fs, process::Command};

use tests::{full_disk, process::Process, project, simctl};

use super::PATIENCE;

#[test]
fn every_binary_explains_itself() {
    for name in ["simctl", "device-sim", "broker", "null-broker"] {
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new(project::binary(name).unwrap());
        let process = Process::spawn(name, command.arg("--help"), logs.path()).unwrap();
        let help = simctl::finish(process, PATIENCE).unwrap();
        assert!(help.code == Some(0) && help.stdout.contains("Usage:"), "{name}: {help:?}");
    }
}

/// What somebody downloads who wants to try it.
#[test]
fn the_program_for_a_laptop_is_at_most_40_mib() {
    let size = fs::metadata(project::binary("simctl").unwrap()).unwrap().len();
    println!("FIGURE simctl has {:.1} MiB", size as f64 / f64::from(1 << 20));
    assert!(size <= 40 << 20 || !cfg!(target_arch = "x86_64"), "{size} bytes");
}

#[test]
fn a_broker_whose_volume_is_full_does_not_start_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(project::binary("broker").unwrap());
    command.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data"]).arg(folder.path());
    let (mut command, expected) = match full_disk::on_a_tiny_disk(&command, folder.path()) {
        Ok(command) => (command, "No space left on device"),
        Err(_) => (full_disk::with_tiny_files(&command, 1024), "File too large"),
    };
    let process = Process::spawn("full", &mut command, folder.path()).unwrap();
    let finished = simctl::finish(process, PATIENCE).unwrap();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("cannot write 1 MiB to the folder"), "{finished:?}");
    assert!(finished.stderr.contains(expected), "{finished:?}");
}
