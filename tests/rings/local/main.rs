//! The local ring: `simctl` with real sockets and real faults, and nothing but this machine.
//!
//! `cargo xtask test local` runs it with optimized binaries. A failed claim shows the report and the seed that repeats
//! the run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod addresses;
mod binaries;
mod documents;
mod fleet;
mod load;
mod outages;
mod refusals;
mod report_files;
mod run;
mod sample;
mod scale;
mod second_terminal;
mod signals;
mod workers;

use std::time::Duration;

/// Far beyond what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);
