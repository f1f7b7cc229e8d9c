//! Sessions that were lost and came back, by hundredths of a second: when was how much of a fleet back?
//!
//! That is a question about all workers together, so each of them hands over counts by instant, and the reader adds
//! them up. Only those of the last [`Sessions::WINDOW`] are handed over, because whoever reads keeps the earlier ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{time::Micros, units::Span};

/// Sessions that were lost, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sessions {
    /// Devices that have lost their session and are not back.
    pub away: u32,
    /// What happened in the last [`Sessions::WINDOW`], by the instant in hundredths of a second since the Unix epoch.
    pub changes: BTreeMap<u64, Change>,
    /// How long devices were away, all together, in microseconds; those that still are, up to `counted_at`.
    pub away_micros: u64,
    /// How long devices waited before their attempts to come back, by the fleet's own backoff, in microseconds.
    pub backoff_micros: u64,
    /// Up to when `away_micros` counts.
    #[serde(skip)]
    counted_at: Micros,
}

/// What happened to sessions within a hundredth of a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "[u32; 3]", from = "[u32; 3]")]
pub struct Change {
    /// Sessions that were lost.
    pub lost: u32,
    /// Devices that got theirs back.
    pub back: u32,
    /// Devices that left the fleet instead of coming back.
    pub left: u32,
}

impl From<Change> for [u32; 3] {
    fn from(change: Change) -> Self {
        [change.lost, change.back, change.left]
    }
}

impl From<[u32; 3]> for Change {
    fn from([lost, back, left]: [u32; 3]) -> Self {
        Self { lost, back, left }
    }
}

impl Change {
    /// Adds what happened elsewhere at the same time.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.back += other.back;
        self.left += other.left;
    }
}

impl Sessions {
    /// The length of an instant.
    pub const INSTANT: Span = Span(10_000);

    /// How long a change is handed over: longer than anybody waits between two readings.
    pub const WINDOW: Span = Span::from_secs(20);

    /// The instant that `at` lies in.
    pub const fn instant(at: Micros) -> u64 {
        at.0 / Self::INSTANT.0
    }

    /// A device has lost its session.
    pub fn lost(&mut self, now: Micros) {
        self.change(now, |change| change.lost += 1);
        self.away += 1;
    }

    /// A device has got its session back.
    pub fn back(&mut self, now: Micros) {
        self.change(now, |change| change.back += 1);
        self.away = self.away.saturating_sub(1);
    }

    /// A device leaves the fleet that had lost its session.
    pub fn left(&mut self, now: Micros) {
        self.change(now, |change| change.left += 1);
        self.away = self.away.saturating_sub(1);
    }

    /// Counts the time away up to `now`.
    pub fn count_until(&mut self, now: Micros) {
        self.away_micros += u64::from(self.away) * now.since(self.counted_at).0;
        self.counted_at = self.counted_at.max(now);
    }

    /// Closes the books: nobody of these comes back.
    pub fn end_epoch(&mut self, at: Micros) {
        let away = std::mem::take(&mut self.away);
        if away > 0 {
            self.change(at, |change| change.left += away);
        }
    }

    fn change(&mut self, now: Micros, note: impl FnOnce(&mut Change)) {
        self.count_until(now);
        note(self.changes.entry(Self::instant(now)).or_default());
        self.forget_old();
    }

    fn forget_old(&mut self) {
        let newest = self.changes.last_key_value().map_or(0, |(at, _)| *at);
        let oldest = newest.saturating_sub(Self::WINDOW.0 / Self::INSTANT.0);
        while self.changes.first_key_value().is_some_and(|(at, _)| *at < oldest) {
            self.changes.pop_first();
        }
    }

    /// What has happened from `start` on, of all that did since `before`.
    pub(super) fn since(&self, start: Micros, before: &Self) -> Self {
        Self {
            away: self.away,
            changes: self.changes.range(Self::instant(start)..).map(|(at, change)| (*at, *change)).collect(),
            away_micros: self.away_micros.saturating_sub(before.away_micros),
            backoff_micros: self.backoff_micros.saturating_sub(before.backoff_micros),
            counted_at: self.counted_at,
        }
    }

    /// Adds those of another worker or thread.
    pub fn merge(&mut self, other: &Self) {
        let Self { away, changes, away_micros, backoff_micros, counted_at } = other;
        self.away += away;
        for (at, change) in changes {
            self.changes.entry(*at).or_default().add(*change);
        }
        self.forget_old();
        self.away_micros += away_micros;
        self.backoff_micros += backoff_micros;
        self.counted_at = self.counted_at.max(*counted_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Micros {
        Micros(millis * 1_000)
    }

    #[test]
    fn what_happens_is_counted_by_instant_and_the_time_away_to_the_microsecond() {
        let mut sessions = Sessions::default();
        sessions.lost(millis(1_001));
        sessions.lost(millis(1_009));
        sessions.back(millis(1_101));
        sessions.left(millis(1_109));
        let expected =
            [(100, Change { lost: 2, ..Change::default() }), (110, Change { back: 1, left: 1, ..Change::default() })];
        assert_eq!(sessions.changes, expected.into());
        assert_eq!((sessions.away, sessions.away_micros), (0, 200_000));
        sessions.lost(millis(2_000));
        sessions.count_until(millis(3_000));
        assert_eq!((sessions.away, sessions.away_micros), (1, 1_200_000));
    }

    #[test]
    fn memory_is_bounded_by_the_window() {
        let mut sessions = Sessions::default();
        for second in 0..1_000 {
            sessions.lost(millis(second * 1_000));
            sessions.back(millis(second * 1_000 + 500));
        }
        assert_eq!((sessions.changes.len(), sessions.away), (41, 0));
        assert_eq!(sessions.away_micros, 500_000_000);
    }

    #[test]
    fn workers_add_up() {
        let mut one = Sessions::default();
        one.lost(millis(1_000));
        let mut other = Sessions::default();
        other.lost(millis(1_004));
        other.back(millis(1_500));
        one.merge(&other);
        assert_eq!(one.changes[&100].lost, 2);
        assert_eq!((one.away, one.away_micros), (1, 496_000));
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, r#"{"away":1,"changes":{"100":[2,0,0],"150":[0,1,0]},"awayMicros":496000,"backoffMicros":0}"#);
        one.end_epoch(millis(2_000));
        assert_eq!((one.away, one.changes[&200].left), (0, 1));
    }
}
