//! How the process itself fares: CPU time, memory, open files, whether its CPU was throttled and whether its clock is right.
//!
//! The numbers come from Linux's `/proc` and the control group (version 1 or 2); elsewhere they stay zero.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicI64, Ordering::Relaxed},
};

use fleet_contract::{process, stats::Generator};

use crate::clock::Clock;

/// Reads how the process fares since the meter was made.
#[derive(Debug)]
pub struct Meter {
    proc: PathBuf,
    /// The control groups whose CPU limit may bind the process, the innermost first.
    cpu_stats: Vec<PathBuf>,
    /// What the control group had counted before.
    before: Periods,
    /// The clock of the devices.
    clock: Clock,
    /// Its largest difference from the wall clock that was read so far, in microseconds.
    clock_offset: AtomicI64,
}

/// Scheduling periods of a control group with a CPU limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Periods {
    all: u64,
    throttled: u64,
}

impl Meter {
    /// A meter of this process, whose devices have this clock.
    pub fn new(clock: Clock) -> Self {
        Self::at(Path::new("/"), clock)
    }

    /// A meter that finds `proc` and `sys` under `root`.
    fn at(root: &Path, clock: Clock) -> Self {
        let proc = root.join("proc/self");
        let groups = fs::read_to_string(proc.join("cgroup")).unwrap_or_default();
        let cpu_stats = cpu_stats(&groups).into_iter().map(|path| root.join("sys/fs/cgroup").join(path)).collect();
        let (before, clock_offset) = (Periods::default(), AtomicI64::new(0));
        let mut meter = Self { proc, cpu_stats, before, clock, clock_offset };
        meter.before = meter.periods();
        meter
    }

    /// Fills in what belongs to the process; what the engine counts (threads, ticks, buffers) is left alone.
    pub fn read(&self, generator: &mut Generator) {
        let read = |name| fs::read_to_string(self.proc.join(name)).unwrap_or_default();
        let (user, system) = process::cpu_seconds(&read("stat")).unwrap_or_default();
        let periods = self.periods();
        generator.workers = 1;
        generator.cpu_user_seconds = user;
        generator.cpu_system_seconds = system;
        generator.memory_bytes = process::memory_bytes(&read("status"), "VmRSS").unwrap_or_default();
        generator.open_files = open_files(&self.proc.join("fd"));
        generator.cpu_periods = periods.all.saturating_sub(self.before.all);
        generator.cpu_periods_throttled = periods.throttled.saturating_sub(self.before.throttled);
        generator.see_clock_offset(self.clock_offset.load(Relaxed));
        generator.see_clock_offset(self.clock.offset_micros());
        self.clock_offset.store(generator.clock_offset_micros, Relaxed);
    }

    /// Those of the innermost group that has a limit.
    fn periods(&self) -> Periods {
        let read = |path: &PathBuf| fs::read_to_string(path).ok().and_then(|text| periods(&text));
        self.cpu_stats.iter().filter_map(read).find(|periods| periods.all > 0).unwrap_or_default()
    }
}

/// Open files, from the directory that lists them: its size since Linux 6.2 (proc(5)), which costs nothing; before that
/// its entries, 10 ms of CPU for 20,000.
fn open_files(list: &Path) -> u64 {
    match fs::metadata(list).map_or(0, |list| list.len()) {
        0 => fs::read_dir(list).map_or(0, |files| files.count() as u64),
        files => files,
    }
}

/// The files `cpu.stat` under `/sys/fs/cgroup` that may hold the process's limit, from `/proc/PID/cgroup`.
///
/// A limit of any group above binds as well, so all ancestors are named; inside a container the mount may begin at
/// the container's own group, whose file is then the last one.
fn cpu_stats(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let mounts: &[&str] = match controllers {
            "" => &["", "unified/"],
            list if list.split(',').any(|controller| controller == "cpu") => &["cpu/", "cpu,cpuacct/"],
            _ => continue,
        };
        for mount in mounts {
            let mut group = path.trim_matches('/');
            while !group.is_empty() {
                files.push(format!("{mount}{group}/cpu.stat"));
                group = group.rsplit_once('/').map_or("", |(parent, _)| parent);
            }
            files.push(format!("{mount}cpu.stat"));
        }
    }
    files
}

/// Periods with and without throttling, from `cpu.stat` of either version of control groups.
fn periods(stat: &str) -> Option<Periods> {
    let value = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    };
    Some(Periods { all: value("nr_periods")?, throttled: value("nr_throttled")? })
}

#[cfg(test)]
mod tests {
    use fleet_contract::time::Micros;

    use super::*;

    #[test]
    fn a_process_is_bound_by_all_groups_above() {
        insta::assert_snapshot!(cpu_stats("0::/kubepods/pod7/c1\n").join("\n"), @r"
        kubepods/pod7/c1/cpu.stat
        kubepods/pod7/cpu.stat
        kubepods/cpu.stat
        cpu.stat
        unified/kubepods/pod7/c1/cpu.stat
        unified/kubepods/pod7/cpu.stat
        unified/kubepods/cpu.stat
        unified/cpu.stat
        ");
        insta::assert_snapshot!(cpu_stats("8:memory:/x\n4:cpu,cpuacct:/docker/c1\n").join("\n"), @r"
        cpu/docker/c1/cpu.stat
        cpu/docker/cpu.stat
        cpu/cpu.stat
        cpu,cpuacct/docker/c1/cpu.stat
        cpu,cpuacct/docker/cpu.stat
        cpu,cpuacct/cpu.stat
        ");
    }

    #[test]
    fn throttling_reads_the_same_in_both_versions() {
        let expected = Some(Periods { all: 100, throttled: 7 });
        assert_eq!(periods("nr_periods 100\nnr_throttled 7\nthrottled_time 81\n"), expected);
        assert_eq!(periods("usage_usec 5\nuser_usec 3\nnr_periods 100\nnr_throttled 7\nthrottled_usec 1\n"), expected);
        assert_eq!(periods("usage_usec 5\nuser_usec 3\nsystem_usec 2\n"), None);
    }

    #[test]
    fn only_what_happens_after_the_start_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/cgroup", "0::/pod/inner\n");
        write("sys/fs/cgroup/pod/inner/cpu.stat", "nr_periods 0\nnr_throttled 0\n");
        write("sys/fs/cgroup/pod/cpu.stat", "nr_periods 50\nnr_throttled 20\n");
        let meter = Meter::at(root.path(), Clock::new());
        write("sys/fs/cgroup/pod/cpu.stat", "nr_periods 60\nnr_throttled 21\n");
        let mut generator = Generator::default();
        meter.read(&mut generator);
        assert_eq!((generator.cpu_periods, generator.cpu_periods_throttled), (10, 1));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_files() {
        let mut generator = Generator { missed_ticks: 3, ..Generator::default() };
        let _files: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        Meter::new(Clock::new()).read(&mut generator);
        assert!(generator.memory_bytes > 1 << 20 && generator.open_files > 100, "{generator:?}");
        assert_eq!((generator.workers, generator.missed_ticks), (1, 3));
    }

    #[test]
    fn a_machine_that_slept_is_in_every_reading() {
        let (root, slept) = (tempfile::tempdir().unwrap(), 120_000_000);
        let now = Clock::new().now();
        let meter = Meter::at(root.path(), Clock::at(Micros(now.0 - slept)));
        for _ in 0..2 {
            let mut generator = Generator::default();
            meter.read(&mut generator);
            let offset = generator.clock_offset_micros.unsigned_abs();
            assert!((slept..slept + 10_000_000).contains(&offset) && generator.clock_offset_micros > 0, "{offset}");
        }
    }
}
