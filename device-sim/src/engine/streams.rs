//! What is counted and timed for each stream, by the stream's place among those of all groups; and how a reader gets it.

use std::sync::{Arc, Mutex};

use fleet_contract::stats::{Stats, StreamStats};

use super::{
    blueprint::{Blueprint, Group},
    lock,
};

/// The counters and times of all streams.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams {
    stats: Vec<StreamStats>,
    names: Arc<[Name]>,
}

/// A group and the name of one of its streams.
type Name = (Box<str>, Box<str>);

impl Streams {
    /// Nothing yet, for each stream of the fleet.
    pub(super) fn new(blueprint: &Blueprint) -> Self {
        let streams =
            || blueprint.groups.iter().flat_map(|group| group.model.streams().iter().map(move |it| (group, it)));
        Self {
            stats: streams().map(|(_, stream)| StreamStats::of(stream.qos())).collect(),
            names: streams().map(|(group, stream)| ((*group.name).into(), stream.name().into())).collect(),
        }
    }

    /// Stream number `stream` of a group.
    pub(super) fn of(&mut self, group: &Group, stream: u16) -> &mut StreamStats {
        &mut self.stats[group.first_stream + usize::from(stream)]
    }

    /// The stream at a place.
    pub(super) fn at(&mut self, place: usize) -> &mut StreamStats {
        &mut self.stats[place]
    }

    /// Counts all of them in what was measured.
    pub(super) fn add_to(&self, stats: &mut Stats) {
        for (stream, (group, name)) in self.stats.iter().zip(&*self.names) {
            stats.add_stream(group, name, stream);
        }
    }

    /// Nothing, for the same streams.
    fn emptied(&self) -> Self {
        let stats = self.stats.iter().map(|stream| StreamStats::of(stream.qos)).collect();
        Self { stats, names: Arc::clone(&self.names) }
    }

    /// Begins anew, and keeps the memory.
    fn clear(&mut self) {
        self.stats.iter_mut().for_each(StreamStats::clear);
    }

    /// Adds what another counted for the same streams.
    fn merge(&mut self, other: &Self) {
        if self.stats.is_empty() {
            *self = other.emptied();
        }
        for (mine, theirs) in self.stats.iter_mut().zip(&other.stats) {
            mine.merge(theirs);
        }
    }
}

/// Where a shard leaves what it has counted since it left something last. The histograms of many streams take a megabyte,
/// and copying it would hold the devices up: shard and reader exchange two of them instead.
#[derive(Debug, Default)]
pub(super) struct Exchange(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    /// Left by the shard, until the reader takes it.
    full: Option<Streams>,
    /// Left by the reader, for the shard to go on with.
    spare: Option<Streams>,
}

impl Exchange {
    /// The shard leaves what it has counted. What was left before, for a reader that did not wait, stays in it.
    pub(super) fn leave(&self, counted: &mut Streams) {
        let mut places = lock(&self.0);
        if let Some(full) = &mut places.full {
            full.merge(counted);
            return counted.clear();
        }
        let spare = places.spare.take().unwrap_or_else(|| counted.emptied());
        places.full = Some(std::mem::replace(counted, spare));
    }

    /// The reader adds what was left to `sum`.
    pub(super) fn take_into(&self, sum: &mut Streams) {
        let Some(mut full) = lock(&self.0).full.take() else { return };
        sum.merge(&full);
        full.clear();
        lock(&self.0).spare = Some(full);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use fleet_contract::{fleet::Qos, units::Span};

    use super::*;

    #[test]
    fn nothing_is_lost_between_shard_and_reader_whoever_is_late() {
        let names = [("cars".into(), "state".into())].into();
        let mut counted = Streams { stats: vec![StreamStats::of(Qos::AtLeastOnce)], names };
        let (exchange, mut sum) = (Exchange::default(), Streams::default());
        let mut all = 0;
        // Each row: how often the shard leaves something before the reader looks.
        for leaves in [1, 0, 3, 1, 2] {
            for _ in 0..leaves {
                all += 1;
                counted.at(0).messages.sent += 1;
                counted.at(0).latency.end_to_end.record(Span(100 * all));
                exchange.leave(&mut counted);
                assert_eq!(counted.at(0).messages.sent, 0);
            }
            exchange.take_into(&mut sum);
            let mut stats = Stats::default();
            sum.add_to(&mut stats);
            assert_eq!((stats.messages[1].sent, stats.latency.end_to_end.count()), (all, all));
        }
        assert_eq!(sum.at(0).latency.end_to_end.max(), Some(Span(100 * all)));
    }

    #[test]
    fn a_shard_of_many_streams_is_not_held_up_by_a_reader() {
        let stats = vec![StreamStats::of(Qos::AtLeastOnce); 25];
        let names = (0..25).map(|number| ("cars".into(), format!("s{number}").into())).collect();
        let mut counted = Streams { stats, names };
        let (exchange, mut sum) = (Exchange::default(), Streams::default());
        let held_up = (0..20).map(|_| {
            for (place, micros) in (0..25).flat_map(|place| (100..7_000).map(move |micros| (place, micros))) {
                counted.at(place).latency.end_to_end.record(Span(micros));
            }
            let start = Instant::now();
            exchange.leave(&mut counted);
            let took = start.elapsed();
            exchange.take_into(&mut sum);
            took
        });
        let shortest = held_up.min().unwrap();
        assert!(shortest <= Duration::from_micros(200), "{shortest:?}");
        assert_eq!(sum.at(24).latency.end_to_end.count(), 20 * 6_900);
    }
}
