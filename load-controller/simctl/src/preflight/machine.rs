//! What this machine allows: open files, ports, memory, processors.

use std::{fs, io, ops::RangeInclusive};

use device_sim::transport::{self, Ports};
use load_controller::run::facts::Host;
use serde::Serialize;

/// What this machine allows a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    /// Files that a process may open.
    pub(crate) open_files: u64,
    /// Source ports of outgoing connections from one address; `None` where that cannot be read.
    pub(crate) ports: Option<RangeInclusive<u16>>,
    /// Whether connections may choose among their ports, so that the last one is found as fast as the first.
    pub(crate) chooses_ports: bool,
    /// Addresses that connections come from; 0 lets the system choose one.
    pub(crate) sources: usize,
    /// Memory that is free, within the control group's limit, in bytes; `None` where that cannot be read.
    pub(crate) memory_available: Option<u64>,
    /// Processors that this process may use.
    pub(crate) cpus: u32,
}

impl Machine {
    /// Reads the machine, and raises the limit of open files as far as it goes; `sources` addresses of it were named.
    pub(crate) fn read(sources: usize) -> io::Result<Self> {
        Ok(Self {
            open_files: raise_open_files()?,
            ports: transport::local_range(),
            chooses_ports: Ports::of_this_machine().is_some(),
            sources,
            memory_available: memory_available(),
            cpus: cpus(),
        })
    }
}

/// Raises the soft limit of open files to the hard one; workers inherit it.
fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = rlimit::Resource::NOFILE.get()?;
    if soft >= hard {
        return Ok(soft);
    }
    // Some systems name a hard limit that they do not grant; then the soft one stays.
    let raised = rlimit::increase_nofile_limit(hard).unwrap_or(soft);
    Ok(raised)
}

fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX))
}

/// What is free on the machine or left of the control group's limit, whichever is less.
fn memory_available() -> Option<u64> {
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| parse_meminfo(&text, "MemAvailable:"));
    let group = group_memory();
    match (free, group) {
        (Some(free), Some(group)) => Some(free.min(group)),
        (free, group) => free.or(group),
    }
}

/// What is left of the limit of the control group (version 2), if it has one.
fn group_memory() -> Option<u64> {
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

fn parse_meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// This machine as the report names it.
pub(crate) fn host() -> Host {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| parse_meminfo(&text, "MemTotal:"));
    Host {
        os: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        kernel,
        cpus: cpus(),
        memory_bytes: memory.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_files_are_understood() {
        let text = "MemTotal:       24684184 kB\nMemAvailable:   24196560 kB\n";
        assert_eq!(parse_meminfo(text, "MemAvailable:"), Some(24_196_560 * 1024));
        assert_eq!(parse_meminfo(text, "SwapFree:"), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read(0).unwrap();
        assert!(machine.open_files > 0 && machine.cpus > 0);
    }
}
