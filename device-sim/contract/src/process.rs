//! What Linux says of a process in `/proc/PID/` (proc(5)), as the processes read it of themselves.

/// A tick of `/proc/PID/stat`: Linux shows user space a hundredth of a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds in user space and in the kernel, from `stat` (fields 14 and 15).
pub fn cpu_seconds(stat: &str) -> Option<(f64, f64)> {
    Some((ticks(stat, 14)?, ticks(stat, 15)?))
}

/// When the process started, in seconds since 1970: from its `stat` (field 22), which counts from the boot, and the line
/// `btime 1700000000` of `/proc/stat`.
pub fn start_seconds(stat: &str, system_stat: &str) -> Option<f64> {
    let boot = system_stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + ticks(stat, 22)?)
}

/// Bytes of memory, from a line of `status` such as `VmRSS: 1234 kB` (resident) or `VmSize: 1234 kB` (virtual).
pub fn memory_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// How many files the process may open, from the line `Max open files 1024 4096 files` of `limits`; `None` where there
/// is no limit.
pub fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// A field of `stat` that counts ticks, in seconds; the first one is number 1.
fn ticks(stat: &str, number: usize) -> Option<f64> {
    // The second field is the name of the program in parentheses, and may hold both blanks and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let field = fields.split_ascii_whitespace().nth(number.checked_sub(3)?)?;
    Some(field.parse::<f64>().ok()? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a b) c)) S 1 42 42 0 -1 4194304 1100 0 0 0 250 50 0 0 20 0 3 0 12345 1000000 900";

    #[test]
    fn times_are_found_behind_any_name() {
        assert_eq!(cpu_seconds(STAT), Some((2.5, 0.5)));
        assert_eq!(cpu_seconds("nonsense"), None);
        assert_eq!(start_seconds(STAT, "cpu 1 2 3\nbtime 1700000000\nprocesses 7\n"), Some(1_700_000_123.45));
        assert_eq!(start_seconds(STAT, "cpu 1 2 3\n"), None);
    }

    #[test]
    fn memory_is_in_kibibytes() {
        let status = "VmPeak:\t 9 kB\nVmSize:\t    4096 kB\nVmRSS:\t    2048 kB\nThreads: 1\n";
        assert_eq!(memory_bytes(status, "VmRSS"), Some(2 * 1024 * 1024));
        assert_eq!(memory_bytes(status, "VmSize"), Some(4 * 1024 * 1024));
        assert_eq!(memory_bytes(status, "Vm"), None);
    }

    #[test]
    fn the_limit_of_files_is_the_one_that_binds() {
        let limits = |soft: &str| format!("Max processes   5 6 processes\nMax open files   {soft}   4096   files\n");
        assert_eq!(open_files_max(&limits("1024")), Some(1024));
        assert_eq!(open_files_max(&limits("unlimited")), None);
    }
}
