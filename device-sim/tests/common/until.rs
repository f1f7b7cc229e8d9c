//! A condition on an engine's statistics, awaited with a deadline.

#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

use std::time::{Duration, Instant};

use device_sim::engine::Engine;
use fleet_contract::stats::{Latencies, Stats, WorkerStats};

/// Waits until the statistics of an engine say so.
#[track_caller]
pub(crate) fn until(engine: &Engine, what: &str, is_so: impl Fn(&WorkerStats) -> bool) -> Stats {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let reading = engine.stats();
        if is_so(&reading) {
            return reading.stats;
        }
        assert!(Instant::now() < deadline, "{what} did not come about: {:#?}", without_histograms(reading.stats));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn without_histograms(mut stats: Stats) -> Stats {
    stats.latency = Latencies::default();
    stats
}
