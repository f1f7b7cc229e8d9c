//! The processes in the containers of our own nodes, found from outside: the nodes' namespaces are part of this machine.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// The process of a program in the pod with that UID; kubelet names the pod's control group after it.
///
/// # Errors
/// When there is none.
pub fn process_of(uid: &str, program: &str) -> Result<u32> {
    let group = format!("pod{uid}");
    let mut numbers = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_wanted = |number: &u32| {
        let of = |file: &str| fs::read_to_string(Path::new("/proc").join(number.to_string()).join(file));
        of("comm").is_ok_and(|name| program.starts_with(name.trim_end()) && !name.trim_end().is_empty())
            && of("cgroup").is_ok_and(|groups| groups.contains(&group))
    };
    numbers.find(is_wanted).with_context(|| format!("{program} does not run in the pod {uid}"))
}

/// Ends the process of a program in a pod as the kernel does when memory runs out: it gets no chance to say goodbye.
/// Returns which one it was.
///
/// # Errors
/// When there is no such process.
pub fn kill(uid: &str, program: &str) -> Result<u32> {
    signal(uid, program, Signal::KILL)
}

/// Stops the process of a program in a pod until it is killed, so that it cannot answer the signal by which kubelet asks it to
/// leave.
///
/// # Errors
/// When there is no such process.
pub fn freeze(uid: &str, program: &str) -> Result<()> {
    signal(uid, program, Signal::STOP).map(|_| ())
}

/// Sends a signal to the process of a program in a pod, and returns which one it was.
fn signal(uid: &str, program: &str, signal: Signal) -> Result<u32> {
    let number = process_of(uid, program)?;
    let process = i32::try_from(number).ok().and_then(Pid::from_raw).context("no number of a process")?;
    kill_process(process, signal).with_context(|| format!("{program} in the pod {uid}"))?;
    Ok(number)
}
