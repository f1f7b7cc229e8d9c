//! The worker's program; all that it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use device_sim::{
    args::{Args, SettingsError},
    process,
    worker::Refusal,
};

/// What the shell sees when a document is wrong; simctl has the whole list.
const DOCUMENT: u8 = 104;

/// Runs a shard of a fleet of simulated devices
///
/// A worker is given its devices by file or over its API, and runs them until it is told to stop. On SIGTERM it
/// lets every message settle, disconnects its devices and serves its final statistics until they are pulled, for at
/// most five seconds. A second SIGTERM ends it at once.
///
/// Example: device-sim --api 127.0.0.1:9464 --assignment shard.json
#[derive(Debug, Parser)]
#[command(name = "device-sim", version)]
struct Program {
    #[command(flatten)]
    args: Args,
}

#[expect(clippy::print_stderr, reason = "a program says why it ends")]
fn main() -> ExitCode {
    match process::run(Program::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device-sim: {error:#}");
            ExitCode::from(code(&error))
        }
    }
}

fn code(error: &anyhow::Error) -> u8 {
    let is_wrong_file = error.downcast_ref().is_some_and(SettingsError::is_document);
    let is_wrong_fleet = error.downcast_ref().is_some_and(Refusal::is_document);
    if is_wrong_file || is_wrong_fleet { DOCUMENT } else { 1 }
}
