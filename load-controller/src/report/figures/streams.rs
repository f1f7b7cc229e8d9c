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

impl GroupFigures {
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
