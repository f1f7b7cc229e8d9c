//! What a run measured: counters and histograms, cumulative, and the one way to add them up.
//!
//! Shards of an engine, worker processes and pods all hand over a [`Stats`]; [`Stats::merge`] is used for each of
//! these sums, so that a percentile over a cluster is as exact as one over a thread.

mod faults;
mod latency;
mod model_faults;
mod over;
mod part;
mod sessions;
mod sums;
mod times;
mod wills;

use std::{collections::BTreeMap, sync::OnceLock};

use serde::{Deserialize, Serialize};

pub use faults::{FaultStats, Faults};
pub use latency::{Latency, Summary};
pub use model_faults::{ModelFault, ModelFaultCounts, ModelFaults};
pub use over::{Measured, PhasesOver, PhasesSum};
pub use sessions::{Change, Sessions};
pub use sums::{Sum, SumOf};
use times::Times;
pub use wills::{
    RETAINED_RIGHT, RETAINED_WRONG, WILLS, WILLS_BY_BROKER, WILLS_DELETED, WILLS_EXPECTED, WILLS_LATE, WILLS_MISSING,
    WILLS_SEEN, WILLS_UNEXPECTED, WILLS_UNKNOWN, WillCounter, Wills,
};

pub use crate::series::{
    Bytes, Connections, Devices, Generator, Groups, Latencies, Messages, ObserverStats, PhaseStats, Received,
    StreamStats,
};
use crate::{clock::Exchange, fleet::Qos, format::Format, series::kind::by_cause, time::Micros};

/// What one worker hands over: numbered within its epoch, so that a lost or repeated pull does no harm.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStats {
    /// From which format on it is understood.
    #[serde(default)]
    pub format: Format,
    /// The start of the worker process.
    pub epoch: Micros,
    /// Grows with each reading within an epoch.
    pub sequence: u64,
    /// When the worker began to take it; 0 of one of release 0.1.
    #[serde(default)]
    pub begun: Micros,
    /// When the reading was taken.
    pub at: Micros,
    /// When it was asked for and when it came, by the clock of who asked, where that is another machine's.
    #[serde(skip)]
    pub asked: Option<(Micros, Micros)>,
    /// The version of the plan that the worker runs.
    pub plan_version: u64,
    /// Whether the worker has finished: every device has left and every message is settled.
    pub is_drained: bool,
    /// Whether it leaves the times of single streams out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_brief: bool,
    /// Of a brief one: the number of a phase. Of the phases below it the times are there all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times_below: Option<u32>,
    /// Of a brief one: the sums of times that the reader has asked for, as fresh as the counters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sums: Vec<Sum>,
    /// What it measured since its epoch.
    pub stats: Stats,
    /// What earlier workers in its place have recorded, the oldest first, as far as no reader has told that their books are
    /// closed.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub before: Vec<Epoch>,
}

impl WorkerStats {
    /// A whole reading, taken at `at`, of a worker that goes on.
    pub const fn new(epoch: Micros, sequence: u64, at: Micros, plan_version: u64, stats: Stats) -> Self {
        Self {
            format: Format::FIRST,
            epoch,
            sequence,
            begun: at,
            at,
            asked: None,
            plan_version,
            is_drained: false,
            is_brief: false,
            times_below: None,
            sums: Vec::new(),
            stats,
            before: Vec::new(),
        }
    }

    /// The same without the times of single streams, but for those of the phases below a number.
    #[must_use]
    pub fn brief(mut self, times_below: Option<u32>) -> Self {
        let mut times = self.stats.split_times();
        if let Some(number) = times_below {
            drop(times.phases.split_off(&number));
            self.stats.add_phases(&times.phases);
        }
        Self { is_brief: true, times_below, ..self }
    }

    /// As brief, with these sums of times.
    #[must_use]
    pub fn summed(self, sums: Vec<SumOf>, times_below: Option<u32>) -> Self {
        let sums = sums.into_iter().map(|of| Sum { times: of.within(&self.stats), of }).collect();
        Self { sums, ..self.brief(times_below) }
    }

    /// What the reading says of the worker's clock.
    pub fn exchange(&self) -> Option<Exchange> {
        let (sent, received) = self.asked.filter(|_| self.begun > Micros(0))?;
        Some(Exchange { sent, begun: self.begun, done: self.at, received })
    }
}

/// What a worker that has ended had recorded, found by its successor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Epoch {
    /// The start of that worker process.
    pub epoch: Micros,
    /// When it recorded something last.
    pub at: Micros,
    /// Whether it had drained.
    pub is_drained: bool,
    /// Its counters, with what it may have sent since `at` as [`Messages::unrecorded`]; no times and no names of messages.
    pub stats: Stats,
}

/// A worker that has ended, and of which nobody knows yet what it may have sent after its last reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// Its place.
    pub ordinal: u32,
    /// The start of its process.
    pub epoch: Micros,
    /// When it was read last.
    pub from: Micros,
}

/// What was measured since the start, by one shard or by many.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Devices by state, now.
    pub devices: Devices,
    /// Messages by what became of them, for QoS 0, 1 and 2: the sums over the streams of `groups`.
    pub messages: [Messages; 3],
    /// Messages and times by group and stream; empty of a worker of release 0.1.
    #[serde(skip_serializing_if = "Groups::is_empty")]
    pub groups: Groups,
    /// The same by phase, of the phases that the plan names; see [`Plan::phases`](crate::plan::Plan::phases).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<u32, PhaseStats>,
    /// MQTT 5: messages of QoS 1 and 2 that the broker rejected, by its reason. They are sent, and never acknowledged.
    pub rejected: BTreeMap<String, u64>,
    /// MQTT 5: messages above the broker's maximum packet size, by their stream. They are withheld (MQTT-3.2.2-15).
    pub too_large: BTreeMap<String, Oversize>,
    /// The largest message in flight when a broker ended the connection of one device soon after it was made, for the third
    /// time in a row or more, by its stream: most likely the broker does not take it.
    pub unwelcome: BTreeMap<String, Unwelcome>,
    /// Topics to which retained messages were published. A worker that starts again counts anew.
    pub retained: u64,
    /// MQTT 5: the lowest receive maximum of a broker that was below the fleet's own `inFlight`.
    pub receive_maximum: Option<u16>,
    /// What the devices' own subscriptions brought.
    pub received: Received,
    /// Bytes of MQTT, both ways.
    pub bytes: Bytes,
    /// Distributions of times, over all streams.
    pub latency: Latencies,
    /// Connections: made, lost and refused.
    pub connections: Connections,
    /// Sessions that were lost and came back, by instant.
    pub sessions: Sessions,
    /// What faults have done.
    #[serde(skip_serializing_if = "Faults::is_empty")]
    pub faults: Faults,
    /// What the faults that models have by themselves have done.
    #[serde(skip_serializing_if = "ModelFaults::is_empty")]
    pub model_faults: ModelFaults,
    /// What became of wills.
    #[serde(skip_serializing_if = "Wills::is_empty")]
    pub wills: Wills,
    /// What the observer saw beside the messages of this run.
    pub observer: ObserverStats,
    /// How the generator itself fared.
    pub generator: Generator,
    /// The first messages that were lost, for the report; at most [`Stats::LOST_MAX`].
    pub lost: Vec<LostMessage>,
}

/// Packets above a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Oversize {
    /// How many.
    pub packets: u64,
    /// The largest of them, in bytes.
    pub largest: u64,
    /// The limit, in bytes; the lowest where there were several.
    pub limit: u64,
}

impl Oversize {
    /// Counts a packet of so many bytes.
    pub fn note(&mut self, size: u64, limit: u64) {
        self.merge(&Self { packets: 1, largest: size, limit });
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let Self { packets, largest, limit } = *other;
        if packets == 0 {
            return;
        }
        self.limit = if self.packets == 0 { limit } else { self.limit.min(limit) };
        self.packets += packets;
        self.largest = self.largest.max(largest);
    }
}

/// Messages that a broker seems to answer by ending the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Unwelcome {
    /// How many connections it ended.
    pub connections: u64,
    /// The largest message, in bytes of topic and payload.
    pub largest: u64,
}

impl Unwelcome {
    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        let Self { connections, largest } = *other;
        self.connections += connections;
        self.largest = self.largest.max(largest);
    }
}

/// A message that did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostMessage {
    /// When it was handed to the session.
    pub sent: Micros,
    /// Its device.
    pub device: u32,
    /// Its stream.
    pub stream: String,
    /// Its number within the stream and the epoch.
    pub seq: u32,
    /// Its quality of service.
    pub qos: Qos,
    /// Whether the broker had acknowledged it.
    pub acknowledged: bool,
    /// The number of the phase in which it fell due, where it counts in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<u32>,
}

impl Stats {
    /// How many lost messages are kept by name.
    pub const LOST_MAX: usize = 1_000;

    /// The messages of all qualities of service together.
    pub fn all_messages(&self) -> Messages {
        let mut all = Messages::default();
        for messages in &self.messages {
            all.merge(messages);
        }
        all
    }

    /// Adds what another measured: counters and histograms are summed, never averaged.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            devices,
            messages,
            groups,
            phases,
            rejected,
            too_large,
            unwelcome,
            retained,
            receive_maximum,
            received,
            bytes,
            latency,
            connections,
            sessions,
            faults,
            model_faults,
            wills,
            observer,
            generator,
            lost,
        } = other;
        self.groups.merge(groups);
        self.add_phases(phases);
        by_cause::add(&mut self.rejected, rejected);
        for (stream, oversize) in too_large {
            self.too_large.entry(stream.clone()).or_default().merge(oversize);
        }
        for (stream, messages) in unwelcome {
            self.unwelcome.entry(stream.clone()).or_default().merge(messages);
        }
        self.retained += retained;
        self.receive_maximum = self.receive_maximum.into_iter().chain(*receive_maximum).min();
        self.received.merge(received);
        self.devices.merge(devices);
        for (mine, theirs) in self.messages.iter_mut().zip(messages) {
            mine.merge(theirs);
        }
        self.bytes.merge(bytes);
        self.latency.merge(latency);
        self.connections.merge(connections);
        self.sessions.merge(sessions);
        self.faults.merge(faults);
        self.model_faults.merge(model_faults);
        self.wills.merge(wills);
        self.observer.merge(observer);
        self.generator.merge(generator);
        self.lost.extend_from_slice(lost);
        self.lost.sort();
        self.lost.truncate(Self::LOST_MAX);
    }

    /// Counts a stream, in its group and in the whole.
    pub fn add_stream(&mut self, group: &str, stream: &str, stats: &StreamStats) {
        self.messages[stats.qos as usize].merge(&stats.messages);
        self.latency.merge(&stats.latency);
        self.groups.add(group, stream, stats);
    }

    /// Adds messages that a killed worker may have sent.
    pub fn add_unrecorded(&mut self, other: &Self) {
        for (mine, theirs) in self.messages.iter_mut().zip(&other.messages) {
            mine.unrecorded += theirs.unrecorded;
        }
        add_unrecorded(&mut self.groups, &other.groups);
        for (number, phase) in &other.phases {
            add_unrecorded(&mut self.phases.entry(*number).or_default().groups, &phase.groups);
        }
    }

    /// These counters, later ones of the same worker, with the times and the names that were read of it before.
    #[must_use]
    pub fn after(mut self, read: Self) -> Self {
        let times = |mine: &mut Groups, theirs: &Groups| {
            for (group, stream, stats) in theirs.streams() {
                let messages = *mine.messages_mut(group, stream, stats.qos);
                mine.replace(group, stream, StreamStats { messages, ..stats.clone() });
            }
        };
        times(&mut self.groups, &read.groups);
        for (number, phase) in read.phases {
            let mine = self.phases.entry(number).or_default();
            times(&mut mine.groups, &phase.groups);
            mine.latency = phase.latency;
        }
        Self { latency: read.latency, lost: read.lost, sessions: read.sessions, ..self }
    }

    fn add_phases(&mut self, phases: &BTreeMap<u32, PhaseStats>) {
        for (number, phase) in phases {
            self.phases.entry(*number).or_default().merge(phase);
        }
    }

    /// The same in little memory, with distributions as [`Latency::packed`]: for what is kept and seldom added to.
    #[must_use]
    pub fn packed(self) -> Self {
        let phases = self.phases.into_iter().map(|(number, phase)| (number, phase.packed())).collect();
        Self {
            latency: self.latency.packed(),
            groups: self.groups.packed(),
            faults: self.faults.packed(),
            phases,
            ..self
        }
    }

    /// Closes the books of a worker that was last read at `at`: what is in flight is unknown, and nobody is connected.
    pub fn end_epoch(&mut self, at: Micros) {
        self.sessions.end_epoch(at);
        self.faults.end_epoch(at);
        self.wills.end_epoch();
        let of_phases = self.phases.values_mut().flat_map(|phase| phase.groups.streams_mut());
        let of_streams = self.groups.streams_mut().chain(of_phases).map(|stream| &mut stream.messages);
        self.messages.iter_mut().chain(of_streams).for_each(Messages::end_epoch);
        self.devices = Devices::default();
        self.observer.subscribed = 0;
        self.observer.wanted = 0;
        self.generator.memory_bytes = 0;
        self.generator.open_files = 0;
        self.generator.workers = 0;
        self.generator.shards = 0;
        self.generator.shards_silent = 0;
    }
}

fn add_unrecorded(mine: &mut Groups, theirs: &Groups) {
    for (group, stream, stats) in theirs.streams() {
        mine.messages_mut(group, stream, stats.qos).unrecorded += stats.messages.unrecorded;
    }
}

/// The totals of many workers over many epochs.
///
/// The reading of a worker replaces its earlier reading of the same epoch; with a new epoch the earlier one is
/// closed and kept. So pulls may be lost or repeated, and workers may die and come back.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// The last readings, without the times of single streams, and their sum once somebody has asked for it.
    current: BTreeMap<u32, WorkerStats>,
    sum_of_current: OnceLock<Box<Stats>>,
    /// Those, as each worker has told them last, and their sum once somebody has asked for it.
    times: BTreeMap<u32, Times>,
    sum_of_times: OnceLock<Box<Stats>>,
    ended: Ended,
}

/// What ended epochs have measured: all of [`Totals`] that no worker can tell again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ended {
    /// From which format on it is understood.
    pub format: Format,
    /// Their sum.
    pub stats: Stats,
    /// The last one of each worker that is in the sum.
    pub epochs: BTreeMap<u32, Micros>,
    /// The epoch of each worker that was being read when this was kept. Who goes on from here and finds another one in its
    /// place knows that its books are missing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub open: BTreeMap<u32, Micros>,
    /// Workers that ended without draining.
    pub workers_lost: u32,
    /// The phases below this number are whole, in `stats`: what a worker still says of one of them is not added again.
    #[serde(skip_serializing_if = "is_zero")]
    pub phases_kept: u32,
    /// Of these: those that whoever keeps this keeps apart, by their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases_apart: Vec<u32>,
    /// Workers that took along what they had sent after their last reading, until a successor has told how much that was at
    /// most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The last of all such workers: their observers have left sessions at the broker, if it keeps them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observers_left: Vec<Gap>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(is: &bool) -> bool {
    !*is
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Totals {
    /// How many observers that have left a session are kept by name.
    pub const OBSERVERS_LEFT_MAX: usize = 16;

    /// Goes on from what was kept when it was counted last.
    pub fn resume(ended: Ended) -> Self {
        Self { ended, ..Self::default() }
    }

    /// What has to be kept so that a successor can [`Totals::resume`].
    pub const fn ended(&self) -> &Ended {
        &self.ended
    }

    /// Takes the reading of worker `ordinal`; an older one than the last, or one of an ended epoch, does nothing.
    pub fn take(&mut self, ordinal: u32, mut reading: WorkerStats) {
        // Its plan is older than what was kept since.
        reading.stats.phases = reading.stats.phases.split_off(&self.ended.phases_kept);
        if self.ended.epochs.get(&ordinal).is_some_and(|ended| reading.epoch <= *ended) {
            return;
        }
        if self
            .current
            .get(&ordinal)
            .is_some_and(|last| (reading.epoch, reading.sequence) <= (last.epoch, last.sequence))
        {
            return;
        }
        if self.is_orphaned_by(ordinal, &reading) {
            self.end_orphan(ordinal);
        }
        for epoch in std::mem::take(&mut reading.before) {
            self.end_by(ordinal, epoch);
        }
        if self.current.get(&ordinal).is_some_and(|last| last.epoch < reading.epoch) {
            self.end(ordinal);
        }
        self.hold_phases(ordinal, &mut reading);
        match (reading.is_brief, reading.times_below) {
            (true, None) => {}
            (true, Some(number)) => {
                let told = reading.stats.split_times();
                self.times.entry(ordinal).or_default().take_phases(reading.at, told, number);
                self.sum_of_times = OnceLock::new();
            }
            (false, _) => {
                let told = reading.stats.split_times();
                let before = self.times.remove(&ordinal);
                self.times.insert(ordinal, Times::new(reading.at, told).after(before.as_ref()));
                self.sum_of_times = OnceLock::new();
            }
        }
        self.sum_of_current = OnceLock::new();
        self.current.insert(ordinal, reading);
    }

    /// Phases that are over and were told with their times stay as they were then, until they are kept: else newer counters would be
    /// kept with older times.
    fn hold_phases(&self, ordinal: u32, reading: &mut WorkerStats) {
        let (Some(last), Some(times)) = (self.current.get(&ordinal), self.times.get(&ordinal)) else { return };
        let told_now = if reading.is_brief { reading.times_below.unwrap_or_default() } else { u32::MAX };
        let told = times.phases_told();
        for (number, phase) in last.stats.phases.range(told_now.min(told)..told) {
            reading.stats.phases.insert(*number, phase.clone());
        }
    }

    /// Takes the last reading of worker `ordinal` out, with the times of its streams.
    fn take_out(&mut self, ordinal: u32) -> Option<WorkerStats> {
        let mut last = self.current.remove(&ordinal)?;
        self.sum_of_current = OnceLock::new();
        if let Some(times) = self.times.remove(&ordinal) {
            times.add_to(&mut last.stats);
            self.sum_of_times = OnceLock::new();
        }
        Some(last)
    }

    /// Up to when everything of every worker is known whose books are open, the times of its streams among it, or as much of a
    /// phase; `None` where there is no worker.
    pub fn known_until(&self, phase: Option<u32>) -> Option<Micros> {
        let known = |ordinal: &u32| self.times.get(ordinal).map_or(Micros(0), |times| times.told(phase));
        self.current.keys().map(known).min()
    }

    /// A sum of times over all workers and epochs, each worker's as of the reading that its counters are of; `None` where one that
    /// has counted something did not tell it with that.
    pub fn sum_of(&self, of: &SumOf) -> Option<Latency> {
        let mut sum = of.within(&self.ended.stats);
        if of.phase.is_some_and(|number| number < self.ended.phases_kept) {
            return Some(sum);
        }
        for (ordinal, reading) in &self.current {
            let with_counters = |times: &&Times| times.told(of.phase) >= reading.at;
            if let Some(told) = reading.sums.iter().find(|told| told.of == *of) {
                sum.merge(&told.times);
            } else if let Some(times) = self.times.get(ordinal).filter(with_counters) {
                sum.merge(&times.sum_of(of));
            } else if of.has_messages(&reading.stats) {
                return None;
            }
        }
        Some(sum)
    }

    /// The epochs that a reading of worker `ordinal` tells of and whose books are not closed.
    pub fn unread<'a>(&self, ordinal: u32, reading: &'a WorkerStats) -> impl Iterator<Item = &'a Epoch> + use<'a> {
        let ended = self.ended.epochs.get(&ordinal).copied();
        reading.before.iter().filter(move |found| ended.is_none_or(|ended| found.epoch > ended))
    }

    /// The epoch of worker `ordinal` that was being read when the totals were kept, and that has not been read since.
    pub fn orphan(&self, ordinal: u32) -> Option<Micros> {
        let open = *self.ended.open.get(&ordinal)?;
        let has_ended = self.ended.epochs.get(&ordinal).is_some_and(|ended| *ended >= open);
        (!has_ended && !self.current.contains_key(&ordinal)).then_some(open)
    }

    /// Whether a reading tells that such an epoch is over, without telling what became of it.
    pub fn is_orphaned_by(&self, ordinal: u32, reading: &WorkerStats) -> bool {
        self.orphan(ordinal)
            .is_some_and(|orphan| reading.epoch > orphan && !reading.before.iter().any(|found| found.epoch == orphan))
    }

    /// Closes the books of such an epoch. Who read them has kept nothing, so that all of its messages are missing.
    pub fn end_orphan(&mut self, ordinal: u32) {
        if let Some(epoch) = self.orphan(ordinal) {
            self.leave_gap(Gap { ordinal, epoch, from: epoch });
            self.ended.epochs.insert(ordinal, epoch);
        }
    }

    /// The epochs whose books are open.
    fn open(&self) -> BTreeMap<u32, Micros> {
        let orphans = self.ended.open.keys().filter_map(|ordinal| Some((*ordinal, self.orphan(*ordinal)?)));
        orphans.chain(self.current.iter().map(|(ordinal, reading)| (*ordinal, reading.epoch))).collect()
    }

    /// Whether other books are open than when the totals were kept.
    pub fn has_opened(&self) -> bool {
        self.ended.open != self.open()
    }

    /// Notes which books are open, to be kept.
    pub fn note_open(&mut self) {
        self.ended.open = self.open();
    }

    /// Closes the books of an epoch with what its successor has found, if they are not closed yet.
    fn end_by(&mut self, ordinal: u32, found: Epoch) {
        if self.ended.epochs.get(&ordinal).is_some_and(|ended| found.epoch <= *ended) {
            return;
        }
        let Epoch { epoch, at, stats, .. } = found;
        // What is read now is of a process that came later.
        let is_another = self.current.get(&ordinal).is_some_and(|last| last.epoch > epoch);
        let last = if is_another { None } else { self.take_out(ordinal) };
        let stats = match last {
            // What was read of it was later than what it had recorded.
            Some(last) if last.epoch == epoch && last.at > at => {
                let mut read = last.stats;
                read.add_unrecorded(&stats);
                read
            }
            Some(last) if last.epoch == epoch => stats.after(last.stats),
            Some(last) => {
                self.end_with(ordinal, last);
                stats
            }
            None => stats,
        };
        self.count(ordinal, epoch, at, stats);
    }

    fn count(&mut self, ordinal: u32, epoch: Micros, at: Micros, mut stats: Stats) {
        stats.end_epoch(at);
        stats.phases.retain(|number, _| *number >= self.ended.phases_kept);
        self.ended.stats.merge(&stats);
        self.ended.epochs.insert(ordinal, epoch);
    }

    /// A worker that was made at `created` has gone and was never read: all of its messages are missing.
    pub fn miss(&mut self, ordinal: u32, created: Option<Micros>) {
        self.ended.gaps.extend(created.map(|created| Gap { ordinal, epoch: created, from: created }));
    }

    /// Takes what a worker may have sent at most after it was read last.
    pub fn fill(&mut self, gap: Gap, unrecorded: &Stats) {
        if let Some(known) = self.ended.gaps.iter().position(|known| *known == gap) {
            self.ended.gaps.remove(known);
            self.ended.stats.add_unrecorded(unrecorded);
        }
    }

    /// Keeps what all workers have measured in the phases below `number`.
    pub fn keep_phases(&mut self, number: u32) {
        for reading in self.current.values_mut() {
            let still_open = reading.stats.phases.split_off(&number);
            let over = std::mem::replace(&mut reading.stats.phases, still_open);
            self.ended.stats.add_phases(&over);
        }
        for times in self.times.values_mut() {
            times.move_phases_to(&mut self.ended.stats, number);
        }
        self.sum_of_current = OnceLock::new();
        self.sum_of_times = OnceLock::new();
        self.ended.phases_kept = self.ended.phases_kept.max(number);
    }

    /// What there is of the phases below `number`, to be added up elsewhere.
    pub fn phases_over(&self, number: u32) -> PhasesOver {
        let told = self.current.iter().map(|(ordinal, reading)| {
            let phases = reading.stats.phases.range(..number).map(|(number, phase)| (*number, phase.clone())).collect();
            (phases, self.times.get(ordinal).cloned().unwrap_or_default())
        });
        PhasesOver {
            below: number,
            kept: self.ended.phases_kept,
            epochs: self.current.iter().map(|(ordinal, reading)| (*ordinal, reading.epoch)).collect(),
            told: told.collect(),
        }
    }

    /// Whether a sum is of workers whose books are open all the same, and of phases that nobody has kept since.
    pub fn fits(&self, sum: &PhasesSum) -> bool {
        let is_open = |(ordinal, epoch): (&u32, &Micros)| {
            self.current.get(ordinal).is_some_and(|reading| reading.epoch == *epoch)
        };
        sum.kept == self.ended.phases_kept && sum.epochs.iter().all(is_open)
    }

    /// As [`Totals::keep_phases`], with a sum that fits: what its workers have said of its phases since is left out, and workers
    /// that came since are added.
    pub fn keep_sum(&mut self, sum: &PhasesSum) {
        for ordinal in sum.epochs.keys() {
            self.drop_phases(*ordinal, sum.below);
        }
        self.ended.stats.add_phases(&sum.phases);
        self.keep_phases(sum.below);
    }

    fn drop_phases(&mut self, ordinal: u32, below: u32) {
        if let Some(reading) = self.current.get_mut(&ordinal) {
            reading.stats.phases = reading.stats.phases.split_off(&below);
            self.sum_of_current = OnceLock::new();
        }
        if let Some(times) = self.times.get_mut(&ordinal) {
            times.forget_phases(below);
            self.sum_of_times = OnceLock::new();
        }
    }

    /// Forgets what was measured in the phases below `number`: whoever asked for them has it.
    pub fn forget_phases(&mut self, number: u32) {
        for ordinal in self.current.keys().copied().collect::<Vec<_>>() {
            self.drop_phases(ordinal, number);
        }
        self.ended.stats.phases = self.ended.stats.phases.split_off(&number);
    }

    /// Closes the books of worker `ordinal`, which has ended.
    pub fn end(&mut self, ordinal: u32) {
        if let Some(last) = self.take_out(ordinal) {
            self.end_with(ordinal, last);
        }
    }

    fn end_with(&mut self, ordinal: u32, last: WorkerStats) {
        if !last.is_drained {
            self.leave_gap(Gap { ordinal, epoch: last.epoch, from: last.at });
        }
        self.count(ordinal, last.epoch, last.at, last.stats);
    }

    fn leave_gap(&mut self, gap: Gap) {
        self.ended.gaps.push(gap);
        self.ended.observers_left.push(gap);
        let too_many = self.ended.observers_left.len().saturating_sub(Self::OBSERVERS_LEFT_MAX);
        self.ended.observers_left.drain(..too_many);
    }

    /// Counts workers that ended without draining: the fate of their last messages is unknown.
    pub fn lose(&mut self, workers: u32) {
        self.ended.workers_lost += workers;
    }

    /// The same in little memory; see [`Stats::packed`].
    #[must_use]
    pub fn packed(self) -> Self {
        Self { ended: Ended { stats: self.ended.stats.packed(), ..self.ended }, ..self }
    }

    /// The last readings of the workers whose books are open, by ordinal.
    pub fn workers(&self) -> impl Iterator<Item = (u32, &WorkerStats)> {
        self.current.iter().map(|(ordinal, reading)| (*ordinal, reading))
    }

    /// The last reading of worker `ordinal`.
    pub fn worker(&self, ordinal: u32) -> Option<&WorkerStats> {
        self.current.get(&ordinal)
    }

    /// The sum over all workers and epochs.
    pub fn sum(&self) -> Stats {
        let mut sum = self.sum_without_times();
        sum.merge(self.sum_of_times());
        sum
    }

    /// As [`Totals::sum`], but for the times of single streams of workers whose books are open, which are most of the work.
    pub fn sum_without_times(&self) -> Stats {
        let mut sum = self.ended.stats.clone();
        sum.merge(self.sum_of_current.get_or_init(|| {
            let mut sum = Box::<Stats>::default();
            self.current.values().for_each(|reading| sum.merge(&reading.stats));
            sum
        }));
        sum
    }

    /// What [`Totals::sum`] adds up, to be added up elsewhere; with these devices.
    pub fn measured(&self, devices: Devices) -> Measured {
        let counters = Stats { devices, ..self.sum_without_times() };
        Measured { counters, times: self.times.values().cloned().collect() }
    }

    fn sum_of_times(&self) -> &Stats {
        self.sum_of_times.get_or_init(|| Times::sum(self.times.values()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    fn reading(epoch: u64, sequence: u64, sent: u64, delivered: u64) -> WorkerStats {
        let mut stats = Stats::default();
        stats.messages[1] = Messages { offered: sent, sent, observed: sent, delivered, ..Messages::default() };
        stats.devices.connected = 10;
        WorkerStats::new(Micros(epoch), sequence, Micros(0), 1, stats)
    }

    /// A reading of one stream, with as many times as messages, in all and in phase 2; brief ones have counters alone.
    fn timed(sequence: u64, sent: u64, is_brief: bool) -> WorkerStats {
        let mut stream = StreamStats::of(Qos::AtLeastOnce);
        stream.messages.sent = sent;
        (0..sent).for_each(|_| stream.latency.end_to_end.record(Span(7)));
        let mut timed = reading(1, sequence, 0, 0);
        timed.stats = Stats::default();
        timed.stats.add_stream("cars", "state", &stream);
        timed.stats.phases.entry(2).or_default().groups.add("cars", "state", &stream);
        timed.at = Micros(sequence);
        if is_brief { timed.brief(None) } else { timed }
    }

    #[test]
    fn a_brief_reading_keeps_the_times_of_streams_and_books_are_closed_with_them() {
        let mut totals = Totals::default();
        totals.take(0, timed(1, 10, false));
        totals.take(0, timed(2, 25, true));
        let found = |stats: &Stats| {
            let of = |groups: &Groups| {
                groups.streams().map(|(_, _, it)| (it.messages.sent, it.latency.end_to_end.count())).collect::<Vec<_>>()
            };
            (stats.latency.end_to_end.count(), of(&stats.groups), of(&stats.phases[&2].groups))
        };
        let expected = (25, vec![(25, 10)], vec![(25, 10)]);
        assert_eq!((found(&totals.sum()), totals.known_until(None)), (expected.clone(), Some(Micros(1))));
        let mut closed = totals.clone();
        closed.end(0);
        assert_eq!((found(&closed.sum()), closed.known_until(None)), (expected, None));
        totals.take(0, timed(3, 30, false));
        totals.keep_phases(3);
        assert_eq!(
            (found(&totals.sum()), totals.known_until(None)),
            ((30, vec![(30, 30)], vec![(30, 30)]), Some(Micros(3)))
        );
    }

    #[test]
    fn a_phase_that_is_over_is_told_without_the_times_of_others() {
        let mut totals = Totals::default();
        totals.take(0, timed(1, 10, false));
        totals.take(0, timed(2, 25, false).brief(Some(2)));
        let times = |totals: &Totals| {
            let sum = totals.sum();
            let count = |groups: &Groups| groups.streams().map(|(_, _, it)| it.latency.end_to_end.count()).sum::<u64>();
            (count(&sum.groups), count(&sum.phases[&2].groups), sum.all_messages().sent)
        };
        assert_eq!(
            (times(&totals), totals.known_until(Some(2))),
            ((10, 10, 25), Some(Micros(1))),
            "phase 2 is not below 2"
        );
        totals.take(0, timed(3, 30, false).brief(Some(3)));
        assert_eq!(times(&totals), (10, 30, 30));
        assert_eq!([None, Some(2), Some(3)].map(|phase| totals.known_until(phase).unwrap().0), [1, 3, 1]);
        totals.keep_phases(3);
        totals.take(0, timed(4, 31, true));
        assert_eq!(times(&totals), (10, 30, 31), "what was kept stays as it was");
        totals.end(0);
        assert_eq!(times(&totals), (10, 30, 31));
    }

    #[test]
    fn a_phase_that_was_told_stays_as_it_was_whatever_counters_come_before_it_is_kept() {
        let of_phase = |totals: &Totals| {
            let (messages, latency) = totals.sum().phases[&2].total();
            (messages.sent, latency.end_to_end.count())
        };
        let mut totals = Totals::default();
        totals.take(0, timed(1, 10, false));
        totals.take(0, timed(2, 25, true));
        assert_eq!(of_phase(&totals), (25, 10), "it goes on");
        totals.take(0, timed(3, 30, false).brief(Some(3)));
        totals.take(0, timed(4, 31, true));
        assert_eq!((of_phase(&totals), totals.sum().all_messages().sent), ((30, 30), 31));
        // All of it is told again.
        totals.take(0, timed(5, 33, false));
        totals.take(0, timed(6, 34, true));
        totals.keep_phases(3);
        assert_eq!((of_phase(&totals), totals.sum().all_messages().sent), ((33, 33), 34));
    }

    #[test]
    fn phases_that_are_added_up_elsewhere_are_kept_as_they_were_then() {
        let mut totals = Totals::default();
        totals.take(0, timed(1, 10, false));
        totals.take(1, timed(1, 4, false));
        let mut at_once = totals.clone();
        let sum = totals.phases_over(3).add_up();
        let of_phase = |totals: &Totals| {
            let (messages, latency) = totals.sum().phases[&2].total();
            (messages.sent, latency.end_to_end.count())
        };
        // Readings go on, and a worker comes.
        totals.take(0, timed(2, 11, false));
        assert!(totals.fits(&sum));
        let mut kept = totals.clone();
        kept.keep_sum(&sum);
        at_once.keep_phases(3);
        assert_eq!((of_phase(&kept), kept.ended().phases_kept), (of_phase(&at_once), 3));
        assert_eq!((of_phase(&kept), kept.sum().all_messages().sent), ((14, 14), 15));
        assert!(!kept.fits(&sum), "it is kept");
        totals.take(2, timed(1, 5, false));
        let mut kept = totals.clone();
        kept.keep_sum(&sum);
        assert_eq!(of_phase(&kept), (19, 19));
        totals.end(1);
        assert!(!totals.fits(&sum), "its books have what is in the sum");
    }

    #[test]
    fn what_is_added_up_elsewhere_is_the_sum_of_then() {
        let mut totals = Totals::default();
        totals.take(0, timed(1, 10, false));
        totals.take(1, timed(1, 4, false));
        totals.end(1);
        totals.take(1, WorkerStats { epoch: Micros(2), ..timed(2, 7, false) });
        totals.take(0, timed(2, 25, true));
        let devices = Devices { connected: 3, ..Devices::default() };
        let (at_once, measured) = (Stats { devices, ..totals.sum() }, totals.measured(devices));
        totals.take(0, timed(3, 30, false));
        assert_eq!(measured.add_up(), at_once);
        assert_ne!(totals.sum().all_messages(), at_once.all_messages());
    }

    #[test]
    fn a_sum_is_as_fresh_as_the_counters_or_unknown() {
        let of = |phase: u32| SumOf {
            distribution: "end_to_end".into(),
            phase: Some(phase),
            group: None,
            stream: Some("state".into()),
            qos: None,
        };
        let offered = |mut reading: WorkerStats| {
            let phases = reading.stats.phases.values_mut();
            phases.flat_map(|phase| phase.groups.streams_mut()).for_each(|it| it.messages.offered = it.messages.sent);
            reading
        };
        let known = |totals: &Totals| totals.sum_of(&of(2)).map(|times| times.count());
        let mut totals = Totals::default();
        totals.take(0, offered(timed(1, 10, false)));
        totals.take(1, offered(timed(1, 4, false)).summed(vec![of(2)], None));
        assert_eq!(known(&totals), Some(14));
        totals.take(0, offered(timed(2, 25, true)));
        assert_eq!(known(&totals), None, "the times of an earlier reading");
        totals.take(0, offered(timed(3, 26, false)).brief(Some(3)));
        assert_eq!(known(&totals), Some(30));
        totals.take(0, offered(timed(4, 27, false)).summed(vec![of(2)], None));
        assert_eq!((known(&totals), totals.sum_of(&of(7)).map(|times| times.count())), (Some(31), Some(0)));
        totals.take(0, offered(timed(5, 30, false)));
        totals.take(1, offered(timed(2, 5, false)));
        totals.keep_phases(3);
        totals.take(1, offered(timed(3, 9, true)));
        assert_eq!(known(&totals), Some(35), "what is kept");
    }

    #[test]
    fn a_repeated_or_late_reading_does_no_harm() {
        let mut totals = Totals::default();
        totals.take(0, reading(1, 1, 5, 5));
        totals.take(0, reading(1, 2, 9, 9));
        totals.take(0, reading(1, 2, 9, 9));
        totals.take(0, reading(1, 1, 5, 5));
        assert_eq!(totals.sum().messages[1].sent, 9);
    }

    #[test]
    fn what_a_dead_worker_had_in_flight_is_unknown() {
        let mut totals = Totals::default();
        totals.take(0, reading(1, 7, 10, 8));
        totals.take(0, reading(2, 1, 3, 3));
        let sum = totals.sum();
        assert_eq!((sum.messages[1].sent, sum.messages[1].delivered, sum.messages[1].unknown), (13, 11, 2));
        assert_eq!(sum.messages[1].in_flight(), 0);
        assert_eq!(sum.devices.connected, 10);
    }

    #[test]
    fn a_successor_counts_on_and_nothing_twice() {
        let mut totals = Totals::default();
        totals.take(0, reading(1, 7, 10, 8));
        totals.take(0, reading(2, 1, 3, 3));
        let kept = serde_json::to_string(totals.ended()).unwrap();
        let mut successor = Totals::resume(serde_json::from_str(&kept).unwrap());
        successor.take(0, reading(1, 8, 10, 9));
        assert_eq!(successor.sum().messages[1].sent, 10, "an ended epoch stays as it was closed");
        successor.take(0, reading(2, 2, 5, 5));
        assert_eq!(successor.sum().messages[1].sent, 15);
    }

    /// Adds a phase with so many sent messages to a reading.
    fn with_phase(mut reading: WorkerStats, number: u32, sent: u64) -> WorkerStats {
        let messages = Messages { sent, ..Messages::default() };
        let phase = reading.stats.phases.entry(number).or_default();
        phase.groups.add("cars", "state", &StreamStats { messages, ..StreamStats::default() });
        reading
    }

    fn sent_in(totals: &Totals, number: u32) -> u64 {
        totals.sum().phases.get(&number).map_or(0, |phase| phase.total().0.sent)
    }

    #[test]
    fn a_phase_is_kept_once_whatever_workers_still_say_of_it() {
        let mut totals = Totals::default();
        totals.take(0, with_phase(with_phase(reading(1, 1, 9, 9), 0, 5), 1, 4));
        totals.take(1, with_phase(reading(1, 1, 7, 7), 0, 7));
        totals.keep_phases(1);
        assert_eq!((sent_in(&totals, 0), sent_in(&totals, 1)), (12, 4));
        // One that has not heard of it yet, and one that begins again.
        totals.take(0, with_phase(with_phase(reading(1, 2, 11, 11), 0, 5), 1, 6));
        totals.take(1, with_phase(reading(2, 1, 3, 3), 1, 3));
        assert_eq!((sent_in(&totals, 0), sent_in(&totals, 1)), (12, 9));
        let kept = serde_json::to_string(totals.ended()).unwrap();
        let successor = Totals::resume(serde_json::from_str(&kept).unwrap());
        assert_eq!((successor.ended().phases_kept, sent_in(&successor, 0)), (1, 12));
    }

    /// What a successor finds of an epoch, recorded at an instant, with messages that may have been sent since.
    fn found(epoch: u64, at: u64, sent: u64, unrecorded: u64) -> Epoch {
        let mut stats = Stats::default();
        stats.messages[1] = Messages { offered: sent, sent, observed: sent, unrecorded, ..Messages::default() };
        Epoch { epoch: Micros(epoch), at: Micros(at), is_drained: false, stats }
    }

    fn with_before(mut reading: WorkerStats, before: &[Epoch]) -> WorkerStats {
        reading.before = before.to_vec();
        reading
    }

    #[test]
    fn what_a_successor_finds_closes_the_books_of_the_dead_once() {
        let mut totals = Totals::default();
        let mut read = reading(1, 1, 10, 8);
        read.stats.latency.connect.record(Span(5));
        totals.take(0, read);
        // Of epoch 2 nobody has read anything.
        let before = [found(1, 9, 14, 3), found(2, 20, 6, 1)];
        totals.take(0, with_before(reading(3, 1, 2, 2), &before));
        totals.take(0, with_before(reading(3, 2, 4, 4), &before));
        let sum = totals.sum();
        let Messages { sent, unrecorded, unknown, delivered, .. } = sum.messages[1];
        assert_eq!((sent, unrecorded, unknown, delivered), (14 + 6 + 4, 4, 20, 4));
        assert_eq!((sum.latency.connect.count(), totals.ended().gaps.len()), (1, 0));
        // A successor of the reader counts nothing again.
        let mut next = Totals::resume(totals.ended().clone());
        next.take(0, with_before(reading(3, 3, 5, 5), &before));
        assert_eq!(next.sum().messages[1].sent, 25);
    }

    #[test]
    fn a_reading_that_is_later_than_the_record_is_not_taken_back() {
        let mut totals = Totals::default();
        let mut read = reading(1, 1, 10, 8);
        read.at = Micros(30);
        totals.take(0, read);
        totals.take(0, with_before(reading(2, 1, 0, 0), &[found(1, 29, 9, 3)]));
        assert_eq!((totals.sum().messages[1].sent, totals.sum().messages[1].unrecorded), (10, 3));
    }

    #[test]
    fn a_worker_that_took_its_record_along_leaves_a_gap_until_it_is_bounded() {
        let mut totals = Totals::default();
        totals.take(4, reading(1, 1, 10, 8));
        totals.end(4);
        let [gap] = totals.ended().gaps[..] else { panic!("{:?}", totals.ended().gaps) };
        assert_eq!(gap, Gap { ordinal: 4, epoch: Micros(1), from: Micros(0) });
        let bound = found(1, 0, 0, 25).stats;
        totals.fill(gap, &bound);
        totals.fill(gap, &bound);
        assert_eq!((totals.sum().messages[1].unrecorded, totals.ended().gaps.len()), (25, 0));
        assert_eq!(totals.ended().observers_left, [gap]);
    }

    #[test]
    fn whom_an_earlier_reader_had_read_is_missed() {
        let mut totals = Totals::default();
        (0..4).for_each(|ordinal| totals.take(ordinal, reading(5, 1, 10, 8)));
        assert!(totals.has_opened());
        totals.note_open();
        let mut next = Totals::resume(totals.ended().clone());
        assert!(!next.has_opened(), "the same as were kept");
        // The first goes on; of the second its successor tells; that of the third, and whoever looks for the fourth, do not.
        next.take(0, reading(5, 2, 12, 12));
        next.take(1, with_before(reading(7, 1, 1, 1), &[found(5, 9, 14, 3)]));
        next.take(2, reading(7, 1, 1, 1));
        assert_eq!((2..4).map(|ordinal| next.orphan(ordinal)).collect::<Vec<_>>(), [None, Some(Micros(5))]);
        next.end_orphan(3);
        let gap = |ordinal| Gap { ordinal, epoch: Micros(5), from: Micros(5) };
        assert_eq!(next.ended().gaps, [gap(2), gap(3)]);
        next.note_open();
        let open: Vec<_> = next.ended().open.iter().map(|(ordinal, epoch)| (*ordinal, epoch.0)).collect();
        assert_eq!(open, [(0, 5), (1, 7), (2, 7)]);
        // Nothing of it twice, neither by who counts on nor by a reading that comes late.
        next.end_orphan(3);
        next.take(3, reading(5, 9, 10, 10));
        assert_eq!((next.ended().gaps.len(), next.sum().messages[1].sent), (2, 12 + 14 + 1 + 1));
    }

    #[test]
    fn what_waited_in_a_dead_worker_may_have_been_sent() {
        let mut messages = Messages { offered: 10, sent: 6, withheld: 1, observed: 6, ..Messages::default() };
        messages.end_epoch();
        assert_eq!((messages.withheld, messages.unrecorded, messages.unknown), (4, 3, 6));
    }

    #[test]
    fn what_shards_received_is_added_up() {
        let refused = |reason: &str| BTreeMap::from([(reason.to_owned(), 2)]);
        let of = |reason| Received {
            messages: [1, 2, 3],
            payload_bytes: 40,
            redelivered: 1,
            granted: 5,
            refused: refused(reason),
            unanswered: 1,
            too_large: Oversize::default(),
        };
        let mut sum = Stats { received: of("quota_exceeded"), ..Stats::default() };
        sum.merge(&Stats { received: of("not_authorized"), ..Stats::default() });
        let refused = [refused("not_authorized"), refused("quota_exceeded")].into_iter().flatten().collect();
        let expected = Received {
            messages: [2, 4, 6],
            payload_bytes: 80,
            redelivered: 2,
            granted: 10,
            refused,
            unanswered: 2,
            too_large: Oversize::default(),
        };
        assert_eq!(sum.received, expected);
    }

    #[test]
    fn of_limits_the_lowest_counts_and_of_packets_the_largest() {
        let of = |largest, limit, receive_maximum| {
            let above = Oversize { packets: 1, largest, limit };
            Stats { too_large: [("image".to_owned(), above)].into(), receive_maximum, ..Stats::default() }
        };
        let mut sum = Stats::default();
        for stats in [of(2_000, 1_000, None), of(4_000, 3_000, Some(8)), of(1_500, 1_400, Some(2)), Stats::default()] {
            sum.merge(&stats);
        }
        assert_eq!(sum.too_large["image"], Oversize { packets: 3, largest: 4_000, limit: 1_000 });
        assert_eq!(sum.receive_maximum, Some(2));
    }

    #[test]
    fn stats_survive_json() {
        let mut stats = reading(1, 1, 5, 4).stats;
        stats.latency.publish_ack.record(Span(1_500));
        let text = serde_json::to_string(&stats).unwrap();
        assert_eq!(serde_json::from_str::<Stats>(&text).unwrap(), stats);
    }
}
