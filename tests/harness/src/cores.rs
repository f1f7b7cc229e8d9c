//! Which core a process runs on, so that a generator and its sink do not share one.

use std::{
    process::{Child, Command},
    thread,
};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The number of a core, as the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core(usize);

/// The cores that this process may run on, ascending.
pub fn available() -> Result<Vec<Core>> {
    let set = sched_getaffinity(None).context("the cores of this process are unknown")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).map(Core).collect())
}

/// Starts `command` on one core; its threads and children stay there too.
///
/// # Errors
/// When the core may not be used, or the command does not start.
pub fn spawn_on(core: Core, command: &mut Command) -> Result<Child> {
    // A child inherits the cores of the thread that starts it, so a thread of its own is bound, not ours.
    thread::scope(|scope| scope.spawn(|| bind_and_spawn(core, command)).join())
        .map_err(|_| anyhow!("the thread that starts a process on a core panicked"))?
}

fn bind_and_spawn(core: Core, command: &mut Command) -> Result<Child> {
    let mut only = CpuSet::new();
    only.set(core.0);
    sched_setaffinity(None, &only).with_context(|| format!("core {} may not be used", core.0))?;
    Ok(command.spawn()?)
}
