//! Outages: from the first session that is lost until all are back, by hundredths of a second.
//!
//! Workers count sessions that were lost and came back by instant ([`Sessions`]). What no worker counts is noticed at a
//! reading, by the number of devices that are connected: the devices of a worker that has died, above all.
//! A fleet that still grows has devices missing but no outage.

mod episode;

use std::collections::{BTreeMap, VecDeque};

use fleet_contract::{
    stats::{Change, Devices, Sessions},
    time::Micros,
    units::Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use episode::{Episode, Walk};

/// The outages of a run; the newest [`Outages::KEPT`] are kept, all are counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outages {
    /// Those that are over, and that no reading changes any more.
    kept: VecDeque<Episode>,
    count: u64,
    /// The most devices that were connected at once and are still wanted.
    held: u32,
    /// What readings may still add to, by instant.
    recent: BTreeMap<u64, Happened>,
    /// What was before.
    walk: Walk,
    /// The first instant that is not in `walk`.
    walked_until: u64,
}

/// What happened at an instant.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Happened {
    /// As the workers count it.
    counted: Change,
    /// As the number of connected devices shows it.
    noticed: Change,
}

impl Happened {
    fn all(self) -> Change {
        let mut all = self.counted;
        all.add(self.noticed);
        all
    }
}

/// An outage as the report shows it; all times in seconds.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct OutageReport {
    /// When the first session was lost (RFC 3339).
    pub from: String,
    /// When all were back; `None` while it lasts.
    pub until: Option<String>,
    /// When it began, since the start of the run.
    pub at_seconds: f64,
    /// How long it lasted, or has lasted.
    pub seconds: f64,
    /// How long nobody came back while the most devices were missing.
    pub gap_seconds: f64,
    /// From then until all were back; `None` while devices are missing.
    pub recovery_seconds: Option<f64>,
    /// The most devices that were missing at once.
    pub devices_missing_max: u32,
    /// Devices that fell away and were still wanted; one that fell away again counts again.
    #[serde(default)]
    pub devices_lost: u32,
    /// Of these: those that are back.
    #[serde(default)]
    pub devices_back: u32,
    /// How long it took, from its beginning, until so many of all that fell away were back.
    #[serde(default)]
    pub back_seconds: BackSeconds,
}

/// When shares of the devices that fell away were back, in seconds; `None` for a share that is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct BackSeconds {
    /// Half of them.
    pub p50: Option<f64>,
    /// Nine of ten.
    pub p90: Option<f64>,
    /// 19 of 20.
    pub p95: Option<f64>,
    /// All of them.
    pub p100: Option<f64>,
}

impl BackSeconds {
    /// From how long it took until so many hundredths were back.
    pub(super) fn of(after: impl Fn(u64) -> Option<f64>) -> Self {
        Self { p50: after(50), p90: after(90), p95: after(95), p100: after(100) }
    }
}

impl Outages {
    /// How many outages are kept with their figures.
    pub const KEPT: usize = 100;

    /// How long a reading may still add to what was before it: workers hand over what happened within
    /// [`Sessions::WINDOW`], and are not all read at once.
    pub(super) const OPEN: u64 = Sessions::WINDOW.0 / Sessions::INSTANT.0 * 5 / 4;

    pub(super) const fn new() -> Self {
        Self { kept: VecDeque::new(), count: 0, held: 0, recent: BTreeMap::new(), walk: Walk::new(), walked_until: 0 }
    }

    /// Devices that were connected, are wanted, and are not there.
    pub(super) const fn missing(&self, devices: Devices) -> u32 {
        self.held.saturating_sub(devices.connected)
    }

    /// Takes how many devices are wanted and connected at `at`, and what became of sessions.
    pub(super) fn push(&mut self, at: Micros, devices: Devices, sessions: &Sessions) {
        for (instant, change) in sessions.changes.range(self.walked_until..) {
            more(&mut self.recent.entry(*instant).or_default().counted, *change);
        }
        self.held = self.held.max(devices.connected).min(devices.desired);
        let missing = self.missing(devices).max(sessions.away);
        self.notice(Sessions::instant(at), missing);
        self.walk_on(Sessions::instant(at).saturating_sub(Self::OPEN));
    }

    /// Makes what is known of the past add up to the devices that are missing now.
    fn notice(&mut self, now: u64, missing: u32) {
        let known = self.recent.values().fold(self.walk.missing(), |known, happened| known + net(happened.all()));
        let unknown = i64::from(missing) - known;
        if unknown == 0 {
            return;
        }
        let noticed = &mut self.recent.entry(now.max(self.walked_until)).or_default().noticed;
        let number = u32::try_from(unknown.unsigned_abs()).unwrap_or(u32::MAX);
        if unknown > 0 {
            noticed.lost += number;
        } else {
            noticed.back += number;
        }
    }

    fn walk_on(&mut self, until: u64) {
        while let Some(first) = self.recent.first_entry()
            && *first.key() < until
        {
            let (instant, happened) = first.remove_entry();
            if let Some(ended) = self.walk.take(instant, happened.all()) {
                self.count += 1;
                if self.kept.len() == Self::KEPT {
                    self.kept.pop_front();
                }
                self.kept.push_back(ended);
            }
            self.walked_until = instant + 1;
        }
    }

    /// Those that are not over, or that the next reading may change.
    fn open(&self) -> Vec<Episode> {
        let mut walk = self.walk.clone();
        let mut open: Vec<Episode> =
            self.recent.iter().filter_map(|(instant, happened)| walk.take(*instant, happened.all())).collect();
        open.extend(walk.current());
        open
    }

    /// How many outages there were in a run that began at `start`, and the kept ones as its report shows them at `now`.
    pub fn report(&self, start: Micros, now: Micros) -> (u64, Vec<OutageReport>) {
        let open = self.open();
        let surplus = (self.kept.len() + open.len()).saturating_sub(Self::KEPT);
        let newest = self.kept.iter().chain(&open).skip(surplus);
        (self.count + open.len() as u64, newest.map(|episode| episode.report(start, now)).collect())
    }
}

/// Takes what a later reading knows of an instant: of one that has just begun the next reading knows more; none knows less.
pub(super) fn more(known: &mut Change, told: Change) {
    *known =
        Change { lost: known.lost.max(told.lost), back: known.back.max(told.back), left: known.left.max(told.left) };
}

/// By how many more devices are missing.
fn net(change: Change) -> i64 {
    i64::from(change.lost) - i64::from(change.back) - i64::from(change.left)
}

/// The seconds from one instant to another.
fn seconds(from: u64, until: u64) -> f64 {
    Span(until.saturating_sub(from) * Sessions::INSTANT.0).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(millis: u64) -> Micros {
        Micros(1_700_000_000_000_000 + millis * 1_000)
    }

    const fn devices(desired: u32, connected: u32) -> Devices {
        Devices { desired, connected, refused: 0, failed: 0, leaving: 0 }
    }

    fn report(outages: &Outages, now: u64) -> Vec<OutageReport> {
        outages.report(at(0), at(now)).1
    }

    fn count(outages: &Outages) -> u64 {
        outages.report(at(0), at(0)).0
    }

    /// The outages of readings of (desired, connected), one a second, of workers that count no sessions: from, until
    /// and the most missing.
    #[track_caller]
    fn check(readings: &[(u32, u32)], expected: &[(f64, Option<f64>, u32)]) {
        let mut outages = Outages::new();
        for (second, (desired, connected)) in (0..).zip(readings) {
            outages.push(at(second * 1_000), devices(*desired, *connected), &Sessions::default());
        }
        let found: Vec<_> = report(&outages, 60_000)
            .into_iter()
            .map(|it| (it.at_seconds, it.until.map(|_| it.at_seconds + it.seconds), it.devices_missing_max))
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
    fn devices_of_a_worker_that_died_are_noticed_at_a_reading() {
        check(&[(9, 9), (9, 2), (9, 0), (9, 5), (9, 9), (9, 9)], &[(1.0, Some(4.0), 9)]);
        check(&[(9, 9), (9, 9), (9, 4)], &[(2.0, None, 5)]);
        check(&[(9, 9), (9, 4), (4, 4)], &[(1.0, Some(2.0), 5)]);
    }

    #[test]
    fn an_outage_is_as_long_as_its_sessions_were_away() {
        let (mut outages, mut sessions) = (Outages::new(), Sessions::default());
        outages.push(at(0), devices(20, 20), &sessions);
        (0..20).for_each(|device| sessions.lost(at(1_330 + device)));
        outages.push(at(2_000), devices(20, 0), &sessions);
        (0..10).for_each(|_| sessions.back(at(3_500)));
        outages.push(at(4_000), devices(20, 10), &sessions);
        (0..9).for_each(|_| sessions.back(at(4_200)));
        outages.push(at(5_000), devices(20, 19), &sessions);
        let found = &report(&outages, 6_000)[0];
        let back = BackSeconds { p50: Some(2.17), p90: Some(2.87), p95: Some(2.87), p100: None };
        assert_eq!(found.back_seconds, back);
        assert_eq!((found.devices_lost, found.devices_back, found.devices_missing_max), (20, 19, 20));
        assert_eq!((found.seconds, found.recovery_seconds), (4.67, None));
        sessions.back(at(6_500));
        outages.push(at(7_000), devices(20, 20), &sessions);
        let found = &report(&outages, 60_000)[0];
        assert_eq!((found.at_seconds, found.seconds, found.gap_seconds), (1.33, 5.17, 2.17));
        assert_eq!((found.back_seconds.p100, found.recovery_seconds), (Some(5.17), Some(3.0)));
    }

    #[test]
    fn one_between_two_readings_is_seen() {
        let (mut outages, mut sessions) = (Outages::new(), Sessions::default());
        outages.push(at(0), devices(2, 2), &sessions);
        sessions.lost(at(300));
        sessions.back(at(700));
        outages.push(at(1_000), devices(2, 2), &sessions);
        let found = &report(&outages, 1_000)[0];
        assert_eq!((count(&outages), found.seconds), (1, 0.4));
    }

    #[test]
    fn a_device_that_leaves_is_not_waited_for() {
        let (mut outages, mut sessions) = (Outages::new(), Sessions::default());
        outages.push(at(0), devices(2, 2), &sessions);
        sessions.lost(at(300));
        sessions.lost(at(300));
        sessions.back(at(500));
        outages.push(at(1_000), devices(1, 1), &sessions);
        sessions.left(at(1_400));
        outages.push(at(2_000), devices(1, 1), &sessions);
        let found = &report(&outages, 2_000)[0];
        let counts = (found.devices_lost, found.devices_back);
        assert_eq!((counts, found.back_seconds.p100, found.seconds), ((1, 1), Some(0.2), 1.1));
    }

    #[test]
    fn memory_is_bounded_and_all_are_counted() {
        let (mut outages, mut sessions) = (Outages::new(), Sessions::default());
        for second in 0..1_000 {
            sessions.lost(at(second * 1_000 + 100));
            sessions.back(at(second * 1_000 + 200));
            outages.push(at((second + 1) * 1_000), devices(1, 1), &sessions);
        }
        assert_eq!((report(&outages, 2_000_000).len(), count(&outages)), (Outages::KEPT, 1_000));
        assert!(outages.recent.len() <= 60, "{}", outages.recent.len());
    }

    proptest! {
        /// Workers that are read at different times, and seldom, tell of the same outages.
        #[test]
        fn how_often_workers_are_read_changes_nothing(
            losses in prop::collection::vec((0_u64..40_000, 1_u64..15_000), 1..40),
            pause in 200_u64..15_000,
        ) {
            let found = |pause: u64| {
                let mut outages = Outages::new();
                let both = |(device, (lost, away)): (usize, &(u64, u64))| {
                    [(*lost, device, true), (lost + away, device, false)]
                };
                let mut events: Vec<(u64, usize, bool)> = losses.iter().enumerate().flat_map(both).collect();
                events.sort_unstable();
                let mut workers = [Sessions::default(), Sessions::default()];
                outages.push(at(0), devices(40, 40), &Sessions::default());
                let (mut now, mut next) = (0, 0);
                while now < 60_000 {
                    now += pause;
                    while let Some((when, device, is_lost)) = events.get(next).filter(|(when, ..)| *when <= now) {
                        let worker = &mut workers[device % 2];
                        if *is_lost { worker.lost(at(*when)) } else { worker.back(at(*when)) }
                        next += 1;
                    }
                    let mut all = workers[0].clone();
                    all.merge(&workers[1]);
                    let away = workers.iter().fold(0_u32, |away, worker| away + worker.away);
                    outages.push(at(now), devices(40, 40 - away.min(40)), &all);
                }
                report(&outages, 90_000)
            };
            prop_assert_eq!(found(pause), found(100));
        }
    }
}
