//! Awaits a condition of another process with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Time between two probes: short against every deadline, long against the cost of a probe.
const PAUSE: Duration = Duration::from_millis(20);

/// Probes until `probe` yields a value, and returns it.
///
/// For conditions that nobody announces (a figure in another process's status). What announces itself, such as
/// a line of output or an exit, is awaited with [`Process`](crate::process::Process).
///
/// # Errors
/// When nothing came `within` the deadline; the message names `what` was awaited. A probe's own error ends the
/// wait at once.
pub fn eventually<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() >= within {
            bail!("not within {within:?}: {what}");
        }
        thread::sleep(PAUSE);
    }
}
