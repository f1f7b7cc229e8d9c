//! How many worker processes a fleet needs, and which devices each of them runs.

use crate::plan::Shard;

/// Open files that a worker needs beside one socket per device: observers (three each, of at most
/// [`BrokerSpec::ADDRESSES_MAX`](crate::fleet::BrokerSpec::ADDRESSES_MAX)), timers, its API, the standard streams.
pub const FILES_BESIDE_DEVICES: u64 = 64;

/// The division of a fleet among worker processes: worker n runs the n-th `size` devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    size: u32,
}

/// How many devices one process may hold if it may open so many files.
pub fn devices_per_process(open_files: u64) -> u32 {
    u32::try_from(open_files.saturating_sub(FILES_BESIDE_DEVICES)).unwrap_or(u32::MAX).max(1)
}

impl Split {
    /// The fewest workers that may hold `devices`, each with as many of them as the others.
    ///
    /// A single worker takes whatever comes up to `per_process`; growth beyond adds workers and moves no device.
    pub fn new(devices: u32, per_process: u32) -> Self {
        let per_process = per_process.max(1);
        let workers = devices.div_ceil(per_process);
        Self { size: if workers <= 1 { per_process } else { devices.div_ceil(workers) } }
    }

    /// How many workers a fleet of `devices` needs; one at least, so that a fleet of none can be scaled.
    pub fn workers(self, devices: u32) -> u32 {
        devices.div_ceil(self.size).max(1)
    }

    /// The devices of worker `ordinal`.
    pub const fn shard(self, ordinal: u32) -> Shard {
        Shard::of(ordinal, self.size)
    }

    /// The worker that runs device `index`.
    pub const fn owner(self, index: u32) -> u32 {
        index / self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(devices: u32, per_process: u32, expected: &[u32]) {
        let split = Split::new(devices, per_process);
        let shares: Vec<u32> =
            (0..split.workers(devices)).map(|ordinal| split.shard(ordinal).share_of(devices)).collect();
        assert_eq!(shares, expected);
        assert!(shares.iter().all(|share| *share <= per_process));
    }

    #[test]
    fn a_fleet_that_fits_has_one_worker() {
        check(0, 1_000, &[0]);
        check(1_000, 1_000, &[1_000]);
    }

    #[test]
    fn a_larger_fleet_is_spread_evenly() {
        check(1_001, 1_000, &[501, 500]);
        check(30_000, 19_936, &[15_000, 15_000]);
        check(499, 100, &[100, 100, 100, 100, 99]);
    }

    #[test]
    fn growth_adds_workers_and_moves_no_device() {
        let split = Split::new(100, 1_000);
        assert_eq!((split.workers(100), split.workers(2_500)), (1, 3));
        assert_eq!([0, 999, 1_000, 2_499].map(|index| split.owner(index)), [0, 0, 1, 2]);
    }

    #[test]
    fn open_files_bound_the_devices_of_a_process() {
        assert_eq!(devices_per_process(20_000), 19_936);
        assert_eq!(devices_per_process(10), 1);
    }
}
