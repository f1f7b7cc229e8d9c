//! The table of series: each counter of messages and each distribution of times, named once.
//!
//! | what | where it is counted | rows |
//! | --- | --- | --- |
//! | [`Messages`] | for each stream | [`COUNTERS`] |
//! | [`Latencies`] | for the fleet, some for each stream, too | [`DISTRIBUTIONS`] |
//! | [`Devices`], [`Connections`], [`Bytes`] and others | for the fleet | their fields, each with its kind, and [`EXPORTED`](crate::metric::EXPORTED) |
//!
//! Messages and times are counted for each phase of a run, too, by the instant when a message fell due: [`PhaseStats`].
//!
//! Sums, metrics, JSON, CSV, text, HTML and dashboards iterate over the rows. A new counter is a line here and the place
//! where it is counted. Of the figures of the fleet sums, differences and metrics do; a report, whose keys are others than
//! those that travel, takes their structs apart.

pub(crate) mod kind;
pub(crate) mod whole;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use whole::{Bytes, Connections, Devices, Generator, ObserverStats, Received};

use crate::{
    fleet::Qos,
    metric::{Kind, Metric},
    stats::Latency,
};

/// The labels of a metric that tells streams apart.
const BY_STREAM: &[&str] = &["group", "stream", "qos"];

/// The labels of a metric that tells groups apart. Everything is counted for each stream, but a scrape of a fleet of
/// 5 × 5 streams shall stay below 64 KiB.
const BY_GROUP_AND_QOS: &[&str] = &["group", "qos"];

/// The labels of a distribution, which has 19 lines for each value of them.
const BY_GROUP: &[&str] = &["group"];

/// A counter of messages, in [`Messages`].
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    /// Its key in JSON, its column in CSV and, with spaces, its name for people.
    pub key: &'static str,
    /// Its metric; the help text says what is counted.
    pub metric: Metric,
    /// Who can know it.
    pub known: Known,
    /// What it means when it is not zero.
    pub meaning: Meaning,
    /// Its value.
    pub get: fn(&Messages) -> u64,
    /// Its place.
    get_mut: Option<fn(&mut Messages) -> &mut u64>,
}

/// Who can know a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The devices themselves.
    Always,
    /// Only an observer.
    Observed,
}

/// What a counter means when it is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The usual way of messages.
    Usual,
    /// A part of another counter, or of interest to few.
    Detail,
    /// Not as it should be, and not always a fault.
    Doubtful,
    /// A fault.
    Bad,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $constant:ident $key:ident: $known:ident, $meaning:ident, $labels:ident, $help:literal;)*) => {
        /// What became of messages. The laws: offered = sent + withheld; sent = observed + unobserved;
        /// observed = delivered + lost + unknown + in flight.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct Messages {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "is_zero")] pub $key: u64,)*
        }

        $(#[doc = $help] pub const $constant: Counter = Counter {
            key: stringify!($key),
            metric: Metric {
                name: concat!("simctl_messages_", stringify!($key), "_total"),
                help: $help,
                kind: Kind::Counter,
                labels: $labels,
            },
            known: Known::$known,
            meaning: Meaning::$meaning,
            get: |messages| messages.$key,
            get_mut: Some(|messages| &mut messages.$key),
        };)*

        /// The counters of messages, in the order in which they are shown; the last one follows from others.
        pub const COUNTERS: &[Counter] = &[$($constant,)* IN_FLIGHT];
    };
}

/// Most counters are 0, and a thousand readings a second are read.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Observed messages that are not judged yet.
pub const IN_FLIGHT: Counter = Counter {
    key: "in_flight",
    metric: Metric {
        name: "simctl_messages_in_flight",
        help: "Observed messages that are not judged yet.",
        kind: Kind::Gauge,
        labels: BY_GROUP_AND_QOS,
    },
    known: Known::Always,
    meaning: Meaning::Usual,
    get: Messages::in_flight,
    get_mut: None,
};

counters! {
    /// Fell due.
    OFFERED offered: Always, Usual, BY_STREAM, "Messages that fell due.";
    /// Not handed to a session: the device was offline or its queue was full.
    WITHHELD withheld: Always, Doubtful, BY_STREAM, "Messages that fell due and were not sent.";
    /// Of the withheld: because the device was offline.
    WITHHELD_OFFLINE withheld_offline: Always, Detail, BY_GROUP_AND_QOS, "Messages that fell due and were not sent because the device was offline.";
    /// Handed to a session.
    SENT sent: Always, Usual, BY_STREAM, "Messages handed to a session.";
    /// Bytes of the payloads of the sent.
    PAYLOAD_BYTES payload_bytes: Always, Detail, BY_STREAM, "Bytes of the payloads of messages handed to a session.";
    /// Of QoS 1 and 2: acknowledged by the broker.
    ACKNOWLEDGED acknowledged: Always, Usual, BY_STREAM, "Messages that the broker acknowledged.";
    /// Of QoS 1 and 2: given up with their clean session before they were acknowledged.
    ABANDONED abandoned: Always, Detail, BY_GROUP_AND_QOS, "Messages given up with their clean session.";
    /// Sent again after a reconnect.
    RESENT resent: Always, Detail, BY_GROUP_AND_QOS, "Messages sent again after a reconnect.";
    /// Followed to their delivery.
    OBSERVED observed: Always, Usual, BY_STREAM, "Messages that are followed to their delivery.";
    /// Not followed: outside the sample, or nobody was subscribed.
    UNOBSERVED unobserved: Always, Usual, BY_GROUP_AND_QOS, "Messages that nobody follows.";
    /// Arrived for the first time and in time.
    DELIVERED delivered: Observed, Usual, BY_STREAM, "Messages that arrived in time.";
    /// Did not arrive in time.
    LOST lost: Observed, Bad, BY_STREAM, "Messages that did not arrive in time.";
    /// Of the lost: acknowledged by the broker.
    LOST_ACKNOWLEDGED lost_acknowledged: Observed, Detail, BY_GROUP_AND_QOS, "Lost messages that the broker had acknowledged.";
    /// Nobody can know: the observer was away, or the worker's ledger ended.
    UNKNOWN unknown: Always, Doubtful, BY_STREAM, "Messages whose fate nobody can know.";
    /// Perhaps sent by a worker that was killed, after what it had last recorded; they are in no other counter.
    UNRECORDED unrecorded: Always, Detail, BY_GROUP_AND_QOS, "Messages that a killed worker may have sent after what it had last recorded.";
    /// Arrived after they were counted as lost; these stay lost.
    LATE late: Observed, Doubtful, BY_GROUP_AND_QOS, "Messages that arrived after they were counted as lost.";
    /// Arrived again.
    DUPLICATED duplicated: Observed, Doubtful, BY_STREAM, "Messages that arrived again.";
    /// Arrived after a later one of their stream.
    REORDERED reordered: Observed, Bad, BY_STREAM, "Messages that arrived after a later one of their stream.";
}

/// The counter of a key.
pub fn counter(key: &str) -> Option<&'static Counter> {
    COUNTERS.iter().find(|counter| counter.key == key)
}

impl PartialEq for Counter {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Counter {
    /// Its name for people.
    pub fn title(&self) -> String {
        self.key.replace('_', " ")
    }
}

impl Messages {
    /// The worker that counts them has ended: nobody will learn what becomes of those in flight, and what waited for its
    /// session was not sent, as far as is recorded.
    pub const fn end_epoch(&mut self) {
        self.unknown += self.in_flight();
        let waiting = self.offered.saturating_sub(self.sent + self.withheld);
        self.withheld += waiting;
        self.unrecorded += waiting;
    }

    /// Observed and not yet judged.
    pub const fn in_flight(&self) -> u64 {
        self.observed.saturating_sub(self.delivered + self.lost + self.unknown)
    }

    /// Counts a message that was handed to a session, with a payload of so many bytes.
    pub const fn count_sent(&mut self, payload: usize) {
        self.sent += 1;
        self.payload_bytes += payload as u64;
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for counter in COUNTERS {
            if let Some(mine) = counter.get_mut {
                *mine(self) += (counter.get)(other);
            }
        }
    }

    /// What was counted after `earlier` was copied from these counters.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut recent = *self;
        for counter in COUNTERS {
            if let Some(mine) = counter.get_mut {
                let count = mine(&mut recent);
                *count = count.saturating_sub((counter.get)(earlier));
            }
        }
        recent
    }

    /// The counters of these names and values; names that are unknown are left out.
    pub fn from_counts<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let mut messages = Self::default();
        for (key, count) in counts {
            if let Some(mine) = counter(key).and_then(|counter| counter.get_mut) {
                *mine(&mut messages) = count;
            }
        }
        messages
    }
}

/// A distribution of times, in [`Latencies`].
#[derive(Debug, Clone, Copy)]
pub struct Distribution {
    /// Its key in JSON and the beginning of its columns in CSV.
    pub key: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Its metric; the help text says what is timed.
    pub metric: Metric,
    /// For what it is timed.
    pub scope: Scope,
    /// Its value.
    pub get: fn(&Latencies) -> &Latency,
    get_mut: fn(&mut Latencies) -> &mut Latency,
}

impl PartialEq for Distribution {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Distribution {
    /// It alone, with nothing of the others.
    pub fn alone(&self, latency: Latency) -> Latencies {
        let mut latencies = Latencies::default();
        *(self.get_mut)(&mut latencies) = latency;
        latencies
    }
}

/// For what something is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// For the fleet as a whole.
    Fleet,
    /// For each stream, and so for each group and the fleet.
    Stream,
}

macro_rules! distributions {
    ($($(#[doc = $doc:literal])+ $constant:ident $key:ident: $scope:ident $labels:ident, $title:literal, $metric:literal, $help:literal;)*) => {
        /// Distributions of times; each latency counts from the instant that was intended.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct Latencies {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Latency::is_empty")] pub $key: Latency,)*
        }

        $(#[doc = $help] pub const $constant: Distribution = Distribution {
            key: stringify!($key),
            title: $title,
            metric: Metric { name: $metric, help: $help, kind: Kind::Histogram, labels: $labels },
            scope: Scope::$scope,
            get: |latencies| &latencies.$key,
            get_mut: |latencies| &mut latencies.$key,
        };)*

        /// The distributions, in the order in which they are shown.
        pub const DISTRIBUTIONS: &[Distribution] = &[$($constant),*];
    };
}

/// No label but the fleet's.
const OF_FLEET: &[&str] = &[];

distributions! {
    /// From the intended connect to the accepted session.
    CONNECT connect: Fleet OF_FLEET, "connect", "simctl_connect_seconds", "Time from the intended connect to the accepted session.";
    /// From due to the acknowledgement (PUBACK or PUBCOMP).
    PUBLISH_ACK publish_ack: Stream BY_GROUP, "publish to ack", "simctl_publish_ack_seconds", "Time from due to the acknowledgement.";
    /// From due to the observer.
    END_TO_END end_to_end: Stream BY_GROUP, "end to end", "simctl_end_to_end_seconds", "Time from due to the observer.";
    /// From due to the hand-over to the session: how late the generator itself was.
    SCHEDULE_LAG schedule_lag: Fleet OF_FLEET, "schedule lag", "simctl_schedule_lag_seconds", "How late the generator itself was.";
    /// From the loss of a connection to the next accepted session.
    RECOVERY recovery: Fleet OF_FLEET, "recovery", "simctl_recovery_seconds", "Time from a lost connection to the next accepted session.";
    /// From the end of a session without a DISCONNECT to its will at the observer.
    OFFLINE_DETECTION offline_detection: Fleet OF_FLEET, "offline detection", "simctl_offline_detection_seconds", "Time from the end of a session without a DISCONNECT to its will at the observer.";
}

impl Latencies {
    /// Adds what another recorded.
    pub fn merge(&mut self, other: &Self) {
        for distribution in DISTRIBUTIONS {
            (distribution.get_mut)(self).merge((distribution.get)(other));
        }
    }

    /// What was recorded after `earlier` was copied from these.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut recent = Self::default();
        for distribution in DISTRIBUTIONS {
            *(distribution.get_mut)(&mut recent) = (distribution.get)(self).since((distribution.get)(earlier));
        }
        recent
    }

    /// Forgets what was recorded; see [`Latency::clear`].
    pub fn clear(&mut self) {
        for distribution in DISTRIBUTIONS {
            (distribution.get_mut)(self).clear();
        }
    }

    /// The same in little memory; see [`Latency::packed`].
    #[must_use]
    pub fn packed(mut self) -> Self {
        for distribution in DISTRIBUTIONS {
            let latency = (distribution.get_mut)(&mut self);
            *latency = std::mem::take(latency).packed();
        }
        self
    }
}

/// What was counted and timed for one stream of one group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamStats {
    /// Its quality of service.
    pub qos: Qos,
    /// What became of its messages.
    pub messages: Messages,
    /// Its times: those of [`Scope::Stream`].
    pub latency: Latencies,
}

impl StreamStats {
    /// Nothing yet, of a stream of this quality of service.
    pub fn of(qos: Qos) -> Self {
        Self { qos, ..Self::default() }
    }

    /// Begins anew; see [`Latency::clear`].
    pub fn clear(&mut self) {
        self.messages = Messages::default();
        self.latency.clear();
    }

    /// Adds what another worker or thread counted for the same stream.
    pub fn merge(&mut self, other: &Self) {
        self.qos = other.qos;
        self.messages.merge(&other.messages);
        self.latency.merge(&other.latency);
    }
}

/// What was counted and timed for each stream, by group and name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Groups(BTreeMap<String, BTreeMap<String, StreamStats>>);

impl Groups {
    /// Adds what was counted for a stream.
    pub fn add(&mut self, group: &str, stream: &str, stats: &StreamStats) {
        let streams = match self.0.get_mut(group) {
            Some(streams) => streams,
            None => self.0.entry(group.to_owned()).or_default(),
        };
        match streams.get_mut(stream) {
            Some(mine) => mine.merge(stats),
            None => drop(streams.insert(stream.to_owned(), stats.clone())),
        }
    }

    /// Adds all that another counted.
    pub fn merge(&mut self, other: &Self) {
        for (group, stream, stats) in other.streams() {
            self.add(group, stream, stats);
        }
    }

    /// The streams: group, name and what was counted.
    pub fn streams(&self) -> impl Iterator<Item = (&str, &str, &StreamStats)> + '_ {
        self.0.iter().flat_map(|(group, streams)| {
            streams.iter().map(move |(stream, stats)| (group.as_str(), stream.as_str(), stats))
        })
    }

    /// The groups, each with its streams by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, StreamStats>)> + '_ {
        self.0.iter().map(|(group, streams)| (group.as_str(), streams))
    }

    /// Whether nothing was counted by stream.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same in little memory; see [`Latency::packed`].
    #[must_use]
    pub fn packed(mut self) -> Self {
        for stream in self.streams_mut() {
            stream.latency = std::mem::take(&mut stream.latency).packed();
        }
        self
    }

    /// The same with the times of all streams of a group together, by quality of service, as where there are more streams than are
    /// told apart ([`FOLDED`]); what was counted stays with its stream. Those that `is_apart` finds, by group and name, keep their own.
    #[must_use]
    pub fn with_times_folded(mut self, is_apart: impl Fn(&str, &str) -> bool) -> Self {
        for (group, streams) in &mut self.0 {
            let others = streams.iter_mut().filter(|(stream, _)| !is_apart(group, stream)).map(|(_, stats)| stats);
            for (name, folded) in fold_times(others) {
                streams.entry(name.to_owned()).or_insert_with(|| StreamStats::of(folded.qos)).latency = folded.latency;
            }
        }
        self
    }

    /// The same with the times of all groups together, in one of their own ([`FOLDED_GROUP`]): where there are so many groups that
    /// even the times of each are too much. Streams that `is_apart` finds, by group and name, keep their own.
    #[must_use]
    pub fn with_times_in_one_group(mut self, is_apart: impl Fn(&str, &str) -> bool) -> Self {
        let streams = self.0.iter_mut().flat_map(|(group, streams)| {
            streams.iter_mut().map(move |(stream, stats)| (group.as_str(), stream.as_str(), stats))
        });
        let others = streams.filter(|(group, stream, _)| !is_apart(group, stream)).map(|(_, _, stats)| stats);
        for (name, folded) in fold_times(others) {
            self.add(FOLDED_GROUP, name, &folded);
        }
        self
    }

    /// Puts a stream in the place of what was counted of it.
    pub(crate) fn replace(&mut self, group: &str, stream: &str, stats: StreamStats) {
        self.0.entry(group.to_owned()).or_default().insert(stream.to_owned(), stats);
    }

    /// The counters of a stream; none yet where nothing was counted.
    pub fn messages_mut(&mut self, group: &str, stream: &str, qos: Qos) -> &mut Messages {
        let streams = self.0.entry(group.to_owned()).or_default();
        &mut streams.entry(stream.to_owned()).or_insert_with(|| StreamStats::of(qos)).messages
    }

    /// The streams, to change what was counted.
    pub(crate) fn streams_mut(&mut self) -> impl Iterator<Item = &mut StreamStats> + '_ {
        self.0.values_mut().flat_map(BTreeMap::values_mut)
    }
}

/// The most streams, in all and in each phase that is open, that a worker tells apart by name.
pub const SERIES_MAX: usize = 1_024;

/// What stands in the place of a group's streams of a quality of service, where there are more.
pub const FOLDED: [&str; 3] = ["all of QoS 0", "all of QoS 1", "all of QoS 2"];

/// The group of what stands in the place of all groups.
pub const FOLDED_GROUP: &str = "all groups";

/// Takes the times out of these streams and puts them together by quality of service, each under its name in [`FOLDED`]; those
/// without any are left out.
fn fold_times<'a>(streams: impl IntoIterator<Item = &'a mut StreamStats>) -> Vec<(&'static str, StreamStats)> {
    let mut folded: [StreamStats; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce].map(StreamStats::of);
    for stream in streams {
        folded[stream.qos as usize].latency.merge(&std::mem::take(&mut stream.latency));
    }
    FOLDED.into_iter().zip(folded).filter(|(_, folded)| folded.latency != Latencies::default()).collect()
}

/// What was counted and timed of what fell due in one phase of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PhaseStats {
    /// By group and stream.
    pub groups: Groups,
    /// The times of [`Scope::Fleet`]: those of connects that were meant to be in this phase, and how late its messages were.
    pub latency: Latencies,
}

impl PhaseStats {
    /// Adds what another worker or thread counted in the same phase.
    pub fn merge(&mut self, other: &Self) {
        self.groups.merge(&other.groups);
        self.latency.merge(&other.latency);
    }

    /// The same in little memory; see [`Latency::packed`].
    #[must_use]
    pub fn packed(self) -> Self {
        Self { groups: self.groups.packed(), latency: self.latency.packed() }
    }

    /// The messages and times of the whole fleet.
    pub fn total(&self) -> (Messages, Latencies) {
        let (messages, mut latency) = total(self.groups.streams().map(|(_, _, stats)| stats));
        latency.merge(&self.latency);
        (messages, latency)
    }
}

/// The messages and times of several streams together, whatever their quality of service.
pub fn total<'a>(streams: impl IntoIterator<Item = &'a StreamStats>) -> (Messages, Latencies) {
    let mut sum = (Messages::default(), Latencies::default());
    for stream in streams {
        sum.0.merge(&stream.messages);
        sum.1.merge(&stream.latency);
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::{
        stats::{Stats, WorkerStats},
        time::Micros,
        units::Span,
    };

    #[test]
    fn each_row_is_its_own() {
        let rows: BTreeSet<_> = COUNTERS.iter().map(|counter| counter.key).collect();
        assert_eq!(rows.len(), COUNTERS.len());
        for counter in COUNTERS {
            let Some(get_mut) = counter.get_mut else { continue };
            let mut messages = Messages::default();
            *get_mut(&mut messages) = 7;
            assert_eq!((counter.get)(&messages), 7, "{}", counter.key);
            assert_eq!(messages, Messages::from_counts([(counter.key, 7)]), "{}", counter.key);
        }
        for distribution in DISTRIBUTIONS {
            let mut latencies = Latencies::default();
            (distribution.get_mut)(&mut latencies).record(Span(9));
            let count = |other: &Distribution| (other.get)(&latencies).count();
            assert_eq!(DISTRIBUTIONS.iter().map(count).sum::<u64>(), count(distribution), "{}", distribution.key);
        }
    }

    #[test]
    fn what_came_since_is_added_again() {
        let earlier = Messages { offered: 3, sent: 2, ..Messages::default() };
        let later = Messages { offered: 9, sent: 7, delivered: 1, ..Messages::default() };
        let mut sum = later.since(&earlier);
        assert_eq!(sum, Messages { offered: 6, sent: 5, delivered: 1, ..Messages::default() });
        sum.merge(&earlier);
        assert_eq!(sum, later);
    }

    /// Times as a busy broker has them, in microseconds: log-normal around 1.5 ms, with one in a thousand up to a second late.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from microseconds to seconds")]
    fn times(seed: u64) -> impl Iterator<Item = Span> {
        let mut state = seed;
        let mut draw = move || {
            // Knuth's MMIX generator; twelve uniform draws make a normal one.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        std::iter::repeat_with(move || {
            let normal = (0..12).map(|_| draw()).sum::<f64>() - 6.0;
            let late = if draw() < 0.001 { draw() * 1e6 } else { 0.0 };
            Span((1_500.0 * (0.5 * normal).exp() + late) as u64)
        })
    }

    /// A thread's streams, each with so many times in each of its distributions.
    fn measured(streams: u64, times_each: usize) -> Vec<StreamStats> {
        let stream = |seed| {
            let mut stream = StreamStats::of(Qos::AtLeastOnce);
            stream.messages.sent = 1_000_000_000;
            for (distribution, seed) in DISTRIBUTIONS.iter().filter(|row| row.scope == Scope::Stream).zip(seed..) {
                let latency = (distribution.get_mut)(&mut stream.latency);
                times(seed).take(times_each).for_each(|time| latency.record(time));
            }
            stream
        };
        (0..streams).map(|number| stream(10 * number)).collect()
    }

    /// What travels when a reader asks for all: compressed, as the API of a worker does for every reader that takes it.
    fn wire(reading: &WorkerStats) -> usize {
        let mut wire = GzEncoder::new(Vec::new(), Compression::fast());
        serde_json::to_writer(&mut wire, reading).unwrap();
        wire.finish().unwrap().len()
    }

    /// Counts five groups of five streams in what was measured, and the times of the fleet.
    fn count(stats: &mut Stats, streams: &[StreamStats]) {
        for (group, stream, counted) in named(streams).streams() {
            stats.add_stream(group, stream, counted);
        }
        streams.iter().for_each(|stream| stats.latency.schedule_lag.merge(&stream.latency.publish_ack));
    }

    fn named(streams: &[StreamStats]) -> Groups {
        let mut groups = Groups::default();
        for (number, stream) in streams.iter().enumerate() {
            groups.add(&format!("group-{}", number / 5), &format!("stream-{}", number % 5), stream);
        }
        groups
    }

    /// The readings of a worker of five groups of five streams: without phases, and with two phases that are open.
    fn readings(times_each: usize) -> [WorkerStats; 2] {
        let streams = measured(50, times_each);
        let reading =
            |stats| WorkerStats::new(Micros(1_772_366_400_000_000), 1, Micros(1_772_366_700_000_000), 1, stats);
        let (mut steady, mut phased) = (Stats::default(), Stats::default());
        count(&mut steady, &streams[..25]);
        for (number, of_phase) in (0..).zip(streams.chunks(25)) {
            count(&mut phased, of_phase);
            let mut phase = PhaseStats { groups: named(of_phase), latency: Latencies::default() };
            of_phase.iter().for_each(|stream| phase.latency.schedule_lag.merge(&stream.latency.publish_ack));
            phased.phases.insert(number, phase);
        }
        [steady, phased].map(reading)
    }

    #[test]
    fn a_reading_of_five_groups_of_five_streams_is_small_on_the_wire() {
        // How many times each stream has in each phase; what a reading may take without phases, with two, and with two when
        // it is brief. The more times, the more of them are told apart.
        let rows = [(2_000, [128, 256, 64]), (20_000, [192, 480, 64]), (100_000, [256, 704, 64])];
        for (times_each, limits) in rows {
            let [steady, phased] = readings(times_each);
            let brief = phased.clone().brief(None);
            let sizes = [&steady, &phased, &brief].map(wire);
            println!("25 streams, {times_each} times each: {sizes:?} bytes without phases, with two, and brief");
            assert!(sizes.iter().zip(limits).all(|(size, limit)| *size <= limit << 10), "{times_each}: {sizes:?}");
        }
    }

    #[test]
    fn the_same_stream_of_two_threads_is_one() {
        let one = StreamStats { messages: Messages { sent: 2, ..Messages::default() }, ..StreamStats::default() };
        let (mut mine, mut theirs) = (Groups::default(), Groups::default());
        mine.add("cars", "state", &one);
        theirs.add("cars", "state", &one);
        theirs.add("cars", "event", &one);
        theirs.add("bikes", "state", &one);
        mine.merge(&theirs);
        let sent: Vec<_> = mine.streams().map(|(group, stream, stats)| (group, stream, stats.messages.sent)).collect();
        assert_eq!(sent, [("bikes", "state", 2), ("cars", "event", 2), ("cars", "state", 4)]);
        let text = serde_json::to_string(&mine).unwrap();
        assert_eq!(serde_json::from_str::<Groups>(&text).unwrap(), mine);
        assert_eq!(total(mine.streams().map(|(_, _, stats)| stats)).0.sent, 8);
    }
}
