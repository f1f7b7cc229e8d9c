//! The harness proves itself: what a ring relies on is shown here with real sockets and processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

mod arrows;
mod full_disk;
mod null_broker;
mod process;
mod proxy;

use std::time::Duration;

/// Far beyond what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(20);
