//! What was counted and timed for each stream, by the stream's place among those of all groups.

use std::sync::Arc;

use fleet_contract::stats::{Stats, StreamStats};

use super::blueprint::{Blueprint, Group};

/// The counters and times of all streams, of one thread.
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
}
