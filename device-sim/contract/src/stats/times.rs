//! The times of single streams, apart from all else: they are most of a reading, and seldom needed.
//!
//! A worker whose reader wants no more hands over counters and the times of the fleet; the reader then keeps those of the streams
//! that it was told last.

use std::{collections::BTreeMap, sync::Arc};

use super::{Latency, Stats, StreamStats, SumOf};
use crate::{series::Groups, time::Micros};

/// What a worker said of the times of its streams, by group and stream; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    /// When it said so of all of them.
    at: Micros,
    /// When it said so last of the phases below a number.
    of_phases: (u32, Micros),
    groups: Arc<Groups>,
    phases: BTreeMap<u32, Arc<Groups>>,
}

impl Times {
    /// What was taken out of a reading by [`Stats::split_times`].
    pub(super) fn new(at: Micros, times: Stats) -> Self {
        let phases = times.phases.into_iter().map(|(number, phase)| (number, Arc::new(phase.groups))).collect();
        Self { at, of_phases: (0, at), groups: Arc::new(times.groups), phases }
    }

    /// The same, with what was known before of which phases are over.
    pub(super) fn after(mut self, before: Option<&Self>) -> Self {
        self.of_phases.0 = before.map_or(0, Self::phases_told);
        self
    }

    /// The phases below this number are over, and their times were asked for to be kept.
    pub(super) const fn phases_told(&self) -> u32 {
        self.of_phases.0
    }

    /// Takes what the worker has said of the phases below `number` alone.
    pub(super) fn take_phases(&mut self, at: Micros, times: Stats, number: u32) {
        let told = Self::new(at, times);
        self.of_phases = (number, at);
        self.phases.extend(told.phases.into_iter().filter(|(told, _)| *told < number));
    }

    /// When it said so of everything, or of a phase.
    pub(super) fn told(&self, phase: Option<u32>) -> Micros {
        let (number, at) = self.of_phases;
        if phase.is_some_and(|phase| phase < number) { at.max(self.at) } else { self.at }
    }

    /// A sum of them, as they were told last.
    pub(super) fn sum_of(&self, of: &SumOf) -> Latency {
        let groups = match of.phase {
            None => Some(&self.groups),
            Some(number) => self.phases.get(&number),
        };
        groups.map_or_else(Latency::default, |groups| of.over(groups))
    }

    /// Those of many workers, as one.
    pub(super) fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Box<Stats> {
        let mut sum = Box::<Stats>::default();
        all.into_iter().for_each(|times| times.add_to(&mut sum));
        sum
    }

    /// Adds them where their counters are.
    pub(super) fn add_to(&self, stats: &mut Stats) {
        stats.groups.merge(&self.groups);
        add_phases(&self.phases, stats);
    }

    /// Forgets the phases below `number`.
    pub(super) fn forget_phases(&mut self, number: u32) {
        self.phases = self.phases.split_off(&number);
    }

    /// Moves the phases below `number` to `stats`.
    pub(super) fn move_phases_to(&mut self, stats: &mut Stats, number: u32) {
        let still_open = self.phases.split_off(&number);
        add_phases(&std::mem::replace(&mut self.phases, still_open), stats);
    }
}

fn add_phases(phases: &BTreeMap<u32, Arc<Groups>>, stats: &mut Stats) {
    for (number, groups) in phases {
        stats.phases.entry(*number).or_default().groups.merge(groups);
    }
}

impl Stats {
    /// Takes the times of single streams out.
    #[must_use]
    pub fn split_times(&mut self) -> Self {
        let mut times = Self { groups: split(&mut self.groups), ..Self::default() };
        for (number, phase) in &mut self.phases {
            times.phases.entry(*number).or_default().groups = split(&mut phase.groups);
        }
        times
    }
}

fn split(groups: &mut Groups) -> Groups {
    let mut times = Groups::default();
    let names: Vec<(String, String)> =
        groups.streams().map(|(group, stream, _)| (group.to_owned(), stream.to_owned())).collect();
    for ((group, stream), stats) in names.iter().zip(groups.streams_mut()) {
        let latency = std::mem::take(&mut stats.latency);
        times.replace(group, stream, StreamStats { latency, ..StreamStats::of(stats.qos) });
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fleet::Qos, units::Span};

    #[test]
    fn times_are_taken_out_and_come_back_by_a_merge() {
        let mut stats = Stats::default();
        for (stream, sent) in [("state", 3), ("event", 5)] {
            let mut counted = StreamStats::of(Qos::AtLeastOnce);
            counted.messages.sent = sent;
            (0..sent).for_each(|_| counted.latency.end_to_end.record(Span(7)));
            stats.add_stream("cars", stream, &counted);
            stats.phases.entry(4).or_default().groups.add("cars", stream, &counted);
        }
        stats.phases.get_mut(&4).unwrap().latency.connect.record(Span(1));
        let whole = stats.clone();
        let times = stats.split_times();
        assert!(stats.groups.streams().all(|(_, _, it)| it.latency.end_to_end.is_empty() && it.messages.sent > 0));
        assert_eq!((stats.latency.end_to_end.count(), stats.phases[&4].latency.connect.count()), (8, 1));
        assert_eq!((times.all_messages().sent, times.latency.end_to_end.count()), (0, 0));
        stats.merge(&times);
        assert_eq!(stats, whole);
    }
}
