//! Messages and times by group and stream.

use std::collections::BTreeMap;

use fleet_contract::{
    fleet::{Observe, Qos},
    series::total,
    stats::{Groups, StreamStats},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counts, Times};

/// The messages and times of one group.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct GroupFigures {
    /// What became of its messages, of any quality of service.
    #[serde(flatten)]
    pub counts: Counts,
    /// Its times, over all of its streams.
    pub latency: Times,
    /// Its streams, by name.
    pub streams: BTreeMap<String, StreamFigures>,
}

/// The messages and times of one stream of a group.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct StreamFigures {
    /// The quality of service of its messages.
    pub qos: Qos,
    /// What became of its messages.
    #[serde(flatten)]
    pub counts: Counts,
    /// Its times.
    pub latency: Times,
}

/// The messages and times of a group that has several streams, or of one stream: a line of the tables for people.
pub(in crate::report) struct Row<'a> {
    /// The group.
    pub(in crate::report) group: &'a str,
    /// The stream and the quality of service of its messages; of a group, whose streams may be of several, none.
    pub(in crate::report) stream: Option<(&'a str, Qos)>,
    /// What became of the messages.
    pub(in crate::report) counts: &'a Counts,
    /// Their times.
    pub(in crate::report) latency: &'a Times,
}

impl Row<'_> {
    /// What the row is about: `group`, or `group/stream`.
    pub(in crate::report) fn name(&self) -> String {
        self.stream.map_or_else(|| self.group.to_owned(), |(stream, _)| format!("{}/{stream}", self.group))
    }
}

impl GroupFigures {
    /// Its streams under its own name, and before them itself where it has several: a group of one stream is that stream.
    pub(in crate::report) fn rows<'a>(&'a self, group: &'a str) -> impl Iterator<Item = Row<'a>> {
        let itself = Row { group, stream: None, counts: &self.counts, latency: &self.latency };
        let of_stream = move |(name, figures): (&'a String, &'a StreamFigures)| Row {
            group,
            stream: Some((name.as_str(), figures.qos)),
            counts: &figures.counts,
            latency: &figures.latency,
        };
        (self.streams.len() > 1).then_some(itself).into_iter().chain(self.streams.iter().map(of_stream))
    }

    /// The figures of each group, by name.
    pub(in crate::report) fn by_name(groups: &Groups, observe: Observe) -> BTreeMap<String, Self> {
        let named = |(name, streams): (&str, _)| (name.to_owned(), Self::new(streams, observe));
        groups.iter().map(named).collect()
    }

    fn new(streams: &BTreeMap<String, StreamStats>, observe: Observe) -> Self {
        let (messages, latencies) = total(streams.values());
        let of_stream = |(name, stream): (&String, &StreamStats)| {
            let figures = StreamFigures {
                qos: stream.qos,
                counts: Counts::new(stream.messages, observe),
                latency: Times::of_stream(&stream.latency),
            };
            (name.clone(), figures)
        };
        Self {
            counts: Counts::new(messages, observe),
            latency: Times::of_stream(&latencies),
            streams: streams.iter().map(of_stream).collect(),
        }
    }
}
