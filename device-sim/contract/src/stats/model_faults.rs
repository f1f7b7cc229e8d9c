//! What the faults that models have by themselves have done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    fleet::Qos,
    series::{FOLDED, SERIES_MAX, kind::figures},
};

/// What they have done to the messages of each stream, by group and stream. Where more than [`SERIES_MAX`] streams have any, the
/// others of a group stand together by their quality of service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelFaults(BTreeMap<String, BTreeMap<String, ModelFaultCounts>>);

figures! {
    /// Messages of a stream by what its model's faults have done to them. One to which several have done something is in several
    /// counters.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    ModelFaultCounts {
        /// Sent with a spoilt payload.
        sum corrupt: u64,
        /// Sent once more: the second packets.
        sum duplicate: u64,
        /// Sent with what was true before.
        sum stale: u64,
        /// Not sent, because the sensor had stopped.
        sum silent: u64,
        /// Sent with values of a sensor that stuck.
        sum stuck: u64,
        /// Fallen due on top of the timetable.
        sum flood: u64,
    }
}

/// What a fault of a model does to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFault {
    /// See [`ModelFaultCounts::corrupt`].
    Corrupt,
    /// See [`ModelFaultCounts::duplicate`].
    Duplicate,
    /// See [`ModelFaultCounts::stale`].
    Stale,
    /// See [`ModelFaultCounts::silent`].
    Silent,
    /// See [`ModelFaultCounts::stuck`].
    Stuck,
    /// See [`ModelFaultCounts::flood`].
    Flood,
}

impl ModelFaultCounts {
    /// How many messages nobody was to follow, at most: those that were spoilt, and of those that were sent twice both.
    pub const fn unobserved(self) -> u64 {
        self.corrupt + self.stale + self.stuck + 2 * self.duplicate
    }
}

impl ModelFaults {
    /// Counts a message of a stream.
    pub fn note(&mut self, group: &str, stream: &str, qos: Qos, what: ModelFault) {
        let counts = self.of(group, stream, qos);
        *match what {
            ModelFault::Corrupt => &mut counts.corrupt,
            ModelFault::Duplicate => &mut counts.duplicate,
            ModelFault::Stale => &mut counts.stale,
            ModelFault::Silent => &mut counts.silent,
            ModelFault::Stuck => &mut counts.stuck,
            ModelFault::Flood => &mut counts.flood,
        } += 1;
    }

    fn of(&mut self, group: &str, stream: &str, qos: Qos) -> &mut ModelFaultCounts {
        let is_known = |name: &str| self.0.get(group).is_some_and(|streams| streams.contains_key(name));
        let name = if is_known(stream) || self.iter().count() < SERIES_MAX { stream } else { FOLDED[qos as usize] };
        if !is_known(name) {
            self.0.entry(group.into()).or_default().insert(name.into(), ModelFaultCounts::default());
        }
        self.0.get_mut(group).and_then(|streams| streams.get_mut(name)).expect("it was entered above")
    }

    /// Each stream to which they have done anything: its group, its name and what.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &ModelFaultCounts)> {
        self.0.iter().flat_map(|(group, streams)| {
            streams.iter().map(move |(stream, counts)| (group.as_str(), stream.as_str(), counts))
        })
    }

    /// Whether they have done nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they have done to all streams together.
    pub fn total(&self) -> ModelFaultCounts {
        let mut total = ModelFaultCounts::default();
        self.iter().for_each(|(_, _, counts)| total.merge(counts));
        total
    }

    /// Adds what they have done elsewhere.
    pub(super) fn merge(&mut self, other: &Self) {
        for (group, stream, counts) in other.iter() {
            self.0.entry(group.into()).or_default().entry(stream.into()).or_default().merge(counts);
        }
    }

    /// What has come since `before`.
    pub(super) fn without(&self, before: &Self) -> Self {
        let mut come = self.clone();
        for (group, streams) in &mut come.0 {
            for (stream, counts) in streams.iter_mut() {
                let earlier = before.0.get(group).and_then(|streams| streams.get(stream)).copied();
                *counts = counts.without(&earlier.unwrap_or_default());
            }
            streams.retain(|_, counts| *counts != ModelFaultCounts::default());
        }
        come.0.retain(|_, streams| !streams.is_empty());
        come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(notes: &[(&str, ModelFault)]) -> ModelFaults {
        let mut faults = ModelFaults::default();
        notes.iter().for_each(|(stream, what)| faults.note("cars", stream, Qos::AtLeastOnce, *what));
        faults
    }

    #[test]
    fn what_was_done_adds_up_and_comes_apart_again() {
        let one = noted(&[("a", ModelFault::Corrupt), ("a", ModelFault::Corrupt), ("b", ModelFault::Duplicate)]);
        let other = noted(&[("b", ModelFault::Stuck), ("b", ModelFault::Stale), ("c", ModelFault::Silent)]);
        let mut sum = one.clone();
        sum.merge(&other);
        let total = sum.total();
        assert_eq!(total, ModelFaultCounts { corrupt: 2, duplicate: 1, stale: 1, silent: 1, stuck: 1, flood: 0 });
        assert_eq!(total.unobserved(), 6);
        assert_eq!((sum.without(&one), sum.without(&sum)), (other, ModelFaults::default()));
    }

    #[test]
    fn more_streams_than_are_told_apart_stand_together() {
        let mut faults = ModelFaults::default();
        for number in 0..SERIES_MAX + 5 {
            faults.note("cars", &number.to_string(), Qos::AtMostOnce, ModelFault::Flood);
        }
        let folded = faults.iter().find(|(_, stream, _)| *stream == FOLDED[0]).unwrap();
        assert_eq!((faults.iter().count(), folded.2.flood), (SERIES_MAX + 1, 5));
        assert_eq!(faults.total().flood, SERIES_MAX as u64 + 5);
    }
}
