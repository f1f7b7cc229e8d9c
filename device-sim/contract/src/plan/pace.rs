//! How fast a periodic stream goes: its interval, which may change, and the factor on it.

use super::warp::Warp;
use crate::{
    time::Micros,
    units::{Factor, Span},
};

/// How fast a periodic stream goes, at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// From when on which interval holds, the earliest first; the timetable begins anew at each.
    intervals: Vec<(Micros, Span)>,
    warp: Warp,
}

impl Pace {
    /// The pace under these intervals, of which there is at least one.
    pub(super) fn new(intervals: impl IntoIterator<Item = (Micros, Span)>, warp: Warp) -> Self {
        Self { intervals: intervals.into_iter().collect(), warp }
    }

    /// The pace of what never changes.
    pub fn steady(start: Micros, interval: Span) -> Self {
        Self { intervals: vec![(start, interval)], warp: Warp::default() }
    }

    /// The first due instant at or after `from`. `due` says it for a timetable with this anchor and interval, in the time of
    /// the stream.
    pub fn first(&self, from: Micros, due: impl Fn(Micros, Span, Micros) -> Micros) -> Micros {
        if let ([(anchor, interval)], true) = (&*self.intervals, self.warp.is_real()) {
            return due(*anchor, *interval, from.max(*anchor));
        }
        let (start, _) = self.intervals[0];
        let mut from = from.max(start);
        let mut current = self.intervals.partition_point(|(at, _)| *at <= from) - 1;
        loop {
            let (anchor, interval) = self.intervals[current];
            let end = self.intervals.get(current + 1).map_or(Micros::NEVER, |(at, _)| *at);
            let found = if self.warp.is_real() {
                due(anchor, interval, from)
            } else {
                // What W has reached before is due before.
                let reached = self.warp.at(from.before(Span(1)));
                self.warp.when(due(self.warp.at(anchor), interval, reached.after(Span(1))))
            };
            if found < end || end == Micros::NEVER {
                return found;
            }
            from = end;
            current += 1;
        }
    }

    /// The interval at an instant, and the time that it takes there.
    pub fn interval(&self, at: Micros) -> Span {
        let current = self.intervals.partition_point(|(from, _)| *from <= at).saturating_sub(1);
        stretched(self.intervals[current].1, self.warp.factor(at))
    }

    /// The interval in the end.
    pub fn last(&self) -> Span {
        self.interval(Micros::NEVER)
    }

    /// The shortest interval from an instant on.
    pub fn shortest(&self, from: Micros) -> Span {
        let current = self.intervals.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        let shortest = self.intervals[current..].iter().map(|(_, interval)| *interval).min().unwrap_or_default();
        stretched(shortest, self.warp.factor_max(from))
    }
}

/// The time that an interval takes at a factor.
fn stretched(interval: Span, factor: Factor) -> Span {
    if factor == Factor::ONE {
        return interval;
    }
    match u64::from(factor.0) {
        0 => Span(u64::MAX),
        factor => {
            let micros = u128::from(interval.0) * u128::from(Factor::ONE.0) / u128::from(factor);
            Span(u64::try_from(micros).unwrap_or(u64::MAX).max(1))
        }
    }
}
