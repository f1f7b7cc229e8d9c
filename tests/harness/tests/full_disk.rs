//! A write without space fails as it does on a real full disk, and nothing else does.

use std::process::{Command, Output};

use tests::full_disk;

fn write_to(path: &std::path::Path, bytes: u64) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo started; head -c \"$1\" /dev/zero > \"$0\""]).arg(path).arg(bytes.to_string());
    command
}

fn run(mut command: Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.env("LC_ALL", "C").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stdout), "started\n");
    (status.success(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn a_tiny_disk_is_full_for_the_command_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let Ok(command) = full_disk::on_a_tiny_disk(&write_to(&file, 1), dir.path()) else {
        // Where the kernel allows no namespace, the rings use tiny files, proven below.
        return;
    };
    let (success, stderr) = run(command);
    assert!(!success && stderr.contains("No space left on device"), "{stderr}");
    assert!(run(write_to(&file, 1)).0, "the disk is full for others too");
}

#[test]
fn a_file_may_not_grow_past_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    assert!(run(full_disk::with_tiny_files(&write_to(&file, 4000), 4096)).0);
    let (success, stderr) = run(full_disk::with_tiny_files(&write_to(&file, 9000), 4096));
    assert!(!success && stderr.contains("File too large"), "{stderr}");
}
