//! The brokers ring: real Mosquitto, from the distribution's package.
//!
//! `cargo xtask test brokers` runs it, and says NOT RUN where Mosquitto cannot be had.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod credentials;
mod delivery;
mod mosquitto;
mod mqtt5;
mod restarts;
mod transports;

use std::time::Duration;

/// Far beyond what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);
