//! Outages, as the series of connected devices shows them.
//!
//! A fleet that still grows has devices missing but no outage, so an outage is a fall: fewer devices are connected
//! than were before and are still wanted.
//! One that is over between two readings does not show here; the lost connections and the distribution of recovery
//! times count it all the same.

use std::collections::VecDeque;

use fleet_contract::{stats::Outage, time::Micros};
use serde::{Deserialize, Serialize};

/// The outages of a run; the newest [`Outages::KEPT`] are kept, all are counted.
#[derive(Debug, Clone, Default)]
pub struct Outages {
    kept: VecDeque<Episode>,
    count: u64,
    /// The most devices that were connected at once and are still wanted.
    held: u32,
    current: Option<Episode>,
}

/// An outage and the moment from which it got better.
#[derive(Debug, Clone, Copy)]
struct Episode {
    outage: Outage,
    /// The last reading with the most devices missing.
    worst: Micros,
}

/// An outage as the report shows it; all times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutageReport {
    /// The first reading with devices missing (RFC 3339).
    pub from: String,
    /// The first reading with all of them back; `None` while it lasts.
    pub until: Option<String>,
    /// When it began, since the start of the run.
    pub at_seconds: f64,
    /// How long it lasted, or has lasted.
    pub seconds: f64,
    /// How long nobody came back.
    pub gap_seconds: f64,
    /// From then until all were back; `None` while devices are missing.
    pub recovery_seconds: Option<f64>,
    /// The most devices that were missing at once.
    pub devices_missing_max: u32,
}

impl Outages {
    /// How many outages are kept with their figures.
    pub const KEPT: usize = 100;

    pub(super) const fn new() -> Self {
        Self { kept: VecDeque::new(), count: 0, held: 0, current: None }
    }

    /// Takes how many devices are wanted and connected at `at`.
    pub(super) fn push(&mut self, at: Micros, desired: u32, connected: u32) {
        self.held = self.held.max(connected).min(desired);
        let missing = self.held.saturating_sub(connected);
        match &mut self.current {
            None if missing > 0 => {
                self.count += 1;
                let outage = Outage { from: at, until: None, devices_missing_max: missing };
                self.current = Some(Episode { outage, worst: at });
            }
            None => {}
            Some(episode) if missing > 0 => episode.worsen(at, missing),
            Some(episode) => {
                let ended = Episode { outage: Outage { until: Some(at), ..episode.outage }, ..*episode };
                self.current = None;
                self.keep(ended);
            }
        }
    }

    fn keep(&mut self, episode: Episode) {
        if self.kept.len() == Self::KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(episode);
    }

    /// How many outages there were, kept or not.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The kept outages, the oldest first; the last one may still go on.
    pub fn outages(&self) -> impl Iterator<Item = Outage> + '_ {
        self.episodes().map(|episode| episode.outage)
    }

    /// The kept outages as the report shows them at `now`.
    #[cfg(test)]
    pub(crate) fn list(&self, now: Micros) -> Vec<OutageReport> {
        self.report(Micros(0), now)
    }

    /// The kept outages of a run that began at `start`, as its report shows them at `now`.
    pub fn report(&self, start: Micros, now: Micros) -> Vec<OutageReport> {
        self.episodes().map(|episode| episode.report(start, now)).collect()
    }

    fn episodes(&self) -> impl Iterator<Item = &Episode> {
        self.kept.iter().chain(&self.current)
    }
}

impl Episode {
    fn worsen(&mut self, at: Micros, missing: u32) {
        if missing >= self.outage.devices_missing_max {
            self.outage.devices_missing_max = missing;
            self.worst = at;
        }
    }

    fn report(&self, start: Micros, now: Micros) -> OutageReport {
        let Outage { from, until, devices_missing_max } = self.outage;
        OutageReport {
            from: from.to_string(),
            until: until.map(|until| until.to_string()),
            at_seconds: from.since(start).as_secs_f64(),
            seconds: self.outage.duration(now).as_secs_f64(),
            gap_seconds: self.worst.since(from).as_secs_f64(),
            recovery_seconds: until.map(|until| until.since(self.worst).as_secs_f64()),
            devices_missing_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::units::Span;

    use super::*;

    /// The outages of readings of (desired, connected), one a second: from, until and the most missing.
    #[track_caller]
    fn check(readings: &[(u32, u32)], expected: &[(u64, Option<u64>, u32)]) {
        let mut outages = Outages::new();
        for (second, (desired, connected)) in (0..).zip(readings) {
            outages.push(Micros(0).after(Span::from_secs(second)), *desired, *connected);
        }
        let seconds = |at: Micros| at.0 / 1_000_000;
        let found: Vec<_> = outages
            .outages()
            .map(|outage| (seconds(outage.from), outage.until.map(seconds), outage.devices_missing_max))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_growing_fleet_is_no_outage() {
        check(&[(100, 0), (100, 40), (100, 100), (500, 100), (500, 500)], &[]);
    }

    #[test]
    fn a_shrinking_fleet_is_no_outage() {
        check(&[(100, 100), (50, 100), (50, 70), (50, 50), (60, 55), (60, 60)], &[]);
    }

    #[test]
    fn a_fall_is_an_outage_until_all_are_back() {
        check(&[(9, 9), (9, 2), (9, 0), (9, 5), (9, 9), (9, 9)], &[(1, Some(4), 9)]);
    }

    #[test]
    fn an_outage_may_go_on() {
        check(&[(9, 9), (9, 9), (9, 4)], &[(2, None, 5)]);
    }

    #[test]
    fn an_outage_ends_when_nobody_is_wanted_any_more() {
        check(&[(9, 9), (9, 4), (4, 4)], &[(1, Some(2), 5)]);
    }

    #[test]
    fn gap_and_recovery_share_the_outage() {
        let mut outages = Outages::new();
        for (second, connected) in (0..).zip([9, 0, 0, 0, 4, 9]) {
            outages.push(Micros(0).after(Span::from_secs(second)), 9, connected);
        }
        let report = &outages.list(Micros(9_000_000))[0];
        assert_eq!((report.seconds, report.gap_seconds, report.recovery_seconds), (4.0, 2.0, Some(2.0)));
    }

    #[test]
    fn memory_is_bounded_and_all_are_counted() {
        let mut outages = Outages::new();
        for second in 0..=1_000 {
            outages.push(Micros(second), 9, if second % 2 == 0 { 9 } else { 0 });
        }
        assert_eq!((outages.outages().count(), outages.count()), (Outages::KEPT, 500));
    }
}
