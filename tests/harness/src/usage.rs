//! CPU time and memory of a process and all it started, read from `/proc`, from outside.
//!
//! A generator that measures itself may be wrong about itself; and `simctl` spreads a fleet over worker
//! processes. So the bench asks the kernel and sums over the tree.

use std::{collections::HashMap, fs, io, ops::AddAssign, time::Duration};

use anyhow::{Context, Result};

/// One tick of `/proc/PID/stat`: Linux shows 100 a second to every program, whatever the kernel counts with.
const TICK: Duration = Duration::from_millis(10);

/// CPU time used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// In the process's own code.
    pub user: Duration,
    /// In the kernel on its behalf: system calls, and on loopback the receiver's input path.
    pub system: Duration,
}

impl Cpu {
    /// User and system time together.
    pub fn total(self) -> Duration {
        self.user + self.system
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }
}

impl AddAssign for Cpu {
    fn add_assign(&mut self, other: Cpu) {
        self.user += other.user;
        self.system += other.system;
    }
}

/// Memory in use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident: every page that the process can reach without a fault.
    pub rss: u64,
    /// Proportional: as resident, but a page shared by n processes counts 1/n. The honest one for a tree.
    pub pss: u64,
}

impl AddAssign for Memory {
    fn add_assign(&mut self, other: Memory) {
        self.rss += other.rss;
        self.pss += other.pss;
    }
}

/// CPU time of `pid` and all its living descendants.
///
/// A descendant that has ended takes its time with it: measure while the workers live.
pub fn cpu_of_tree(pid: u32) -> Result<Cpu> {
    sum_over_tree(pid, cpu)
}

/// Memory of `pid` and all its living descendants.
pub fn memory_of_tree(pid: u32) -> Result<Memory> {
    sum_over_tree(pid, memory)
}

/// `pid` and all its living descendants, parents first.
pub fn tree(pid: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").context("/proc is not readable")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = Stat::read(child)? {
            children.entry(stat.parent).or_default().push(child);
        }
    }
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(parent) = tree.get(next) {
        tree.extend(children.remove(parent).unwrap_or_default());
        next += 1;
    }
    Ok(tree)
}

/// CPU time of one process; `None` when it has ended.
pub fn cpu(pid: u32) -> Result<Option<Cpu>> {
    Ok(Stat::read(pid)?.map(|stat| stat.cpu))
}

/// Memory of one process; `None` when it has ended.
pub fn memory(pid: u32) -> Result<Option<Memory>> {
    let Some(rollup) = read(&format!("/proc/{pid}/smaps_rollup"))? else {
        return Ok(None);
    };
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    // A process that is ending has no memory left, and then no such lines.
    Ok(field("Rss:").zip(field("Pss:")).map(|(rss, pss)| Memory { rss: rss * 1024, pss: pss * 1024 }))
}

fn sum_over_tree<T: Default + AddAssign>(pid: u32, one: impl Fn(u32) -> Result<Option<T>>) -> Result<T> {
    let mut sum = one(pid)?.with_context(|| format!("process {pid} has ended"))?;
    for descendant in tree(pid)?.into_iter().skip(1) {
        if let Some(used) = one(descendant)? {
            sum += used;
        }
    }
    Ok(sum)
}

/// The fields of `/proc/PID/stat` that matter here.
struct Stat {
    parent: u32,
    cpu: Cpu,
}

impl Stat {
    fn read(pid: u32) -> Result<Option<Stat>> {
        let Some(text) = read(&format!("/proc/{pid}/stat"))? else {
            return Ok(None);
        };
        Stat::parse(&text).map(Some).with_context(|| format!("/proc/{pid}/stat is not understood: {text}"))
    }

    /// Field 4 is the parent, 14 and 15 are user and system ticks (`man 5 proc_pid_stat`).
    fn parse(text: &str) -> Option<Stat> {
        // The second field is the command in brackets and may itself hold spaces and brackets.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u32>().ok();
        Some(Stat { parent: field(4)?, cpu: Cpu { user: TICK * field(14)?, system: TICK * field(15)? } })
    }
}

/// The text of a `/proc` file, `None` when its process has ended.
fn read(path: &str) -> Result<Option<String>> {
    // ESRCH: the process ended between opening and reading.
    let ended = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
    };
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if ended(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{path} is not readable")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = Stat::parse("7 (a) b) (c) S 3 7 7 0 -1 4194560 90 0 0 0 250 40 0 0 20 0 1 0 1 2 3").unwrap();
        assert_eq!(stat.parent, 3);
        assert_eq!(stat.cpu, Cpu { user: Duration::from_millis(2_500), system: Duration::from_millis(400) });
    }

    #[test]
    fn this_process_uses_memory_and_an_ended_one_is_none() {
        let memory_used = memory(std::process::id()).unwrap().unwrap();
        assert!(memory_used.rss >= memory_used.pss && memory_used.pss > 100_000, "{memory_used:?}");
        assert_eq!(cpu(u32::MAX >> 1).unwrap(), None);
    }
}
