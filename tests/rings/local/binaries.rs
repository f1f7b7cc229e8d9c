//! What the other tests start has been built and answers.

use std::process::Command;

use tests::{process::Process, project, simctl};

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
