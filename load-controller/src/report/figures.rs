//! The parts of a report, each made from what was measured.

mod counts;
mod faults;
mod offline_detection;
mod phases;
mod streams;
mod thresholds;
mod times;

use std::{cmp::Reverse, collections::BTreeMap};

use fleet_contract::{
    clock::Offset,
    fleet::{Fleet, Observe},
    stats::{self, LostMessage, Stats},
    units::Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::{
    facts::{Host, RunFacts},
    timeline::{OutageReport, Point, Timeline},
    verdict::FailOn,
};

pub use counts::Counts;
pub use faults::{FaultFigures, ModelFaultFigures};
pub use offline_detection::OfflineDetection;
pub use phases::PhaseFigures;
pub(in crate::report) use streams::Row;
pub use streams::{GroupFigures, StreamFigures};
pub use thresholds::ThresholdFigures;
pub use times::Times;

/// Devices by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Devices {
    /// Those that the plan wants.
    pub desired: u32,
    /// Those with an accepted session.
    pub connected: u32,
    /// Wanted and not connected.
    pub missing: u32,
    /// Of the missing: refused by the broker at their last attempt.
    pub refused: u32,
    /// Of the missing: failed for a reason of the generator's own.
    pub failed: u32,
    /// Not wanted any more and not gone yet: they wait for their turn to leave, or for their messages to settle.
    pub leaving: u32,
}

impl Devices {
    pub(super) const fn new(devices: stats::Devices) -> Self {
        let stats::Devices { desired, connected, refused, failed, leaving } = devices;
        Self { desired, connected, missing: desired.saturating_sub(connected), refused, failed, leaving }
    }

    /// The states beside connected in which there are devices, by name.
    pub fn in_other_states(self) -> impl Iterator<Item = (&'static str, u32)> {
        let Self { desired: _, connected: _, missing: _, refused, failed, leaving } = self;
        let states = [("refused", refused), ("failed", failed), ("leaving", leaving)];
        states.into_iter().filter(|(_, devices)| *devices > 0)
    }
}

/// What became of the messages of all qualities of service, and of each.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Messages {
    /// All together.
    #[serde(flatten)]
    pub all: Counts,
    /// Those of QoS 0, 1 and 2.
    pub by_qos: [Counts; 3],
    /// MQTT 5: those of QoS 1 and 2 that the broker rejected, by its reason; they are sent and never acknowledged.
    #[serde(default)]
    pub rejected: BTreeMap<String, u64>,
    /// MQTT 5: those above the broker's maximum packet size, by their stream; they are withheld.
    #[serde(default)]
    pub too_large: BTreeMap<String, Oversize>,
    /// Those that the broker most likely answers by ending the connection, by their stream.
    #[serde(default)]
    pub unwelcome: BTreeMap<String, Unwelcome>,
    /// Topics to which retained messages were published, at most.
    #[serde(default)]
    pub retained_topics: u64,
}

/// Messages that a broker seems to answer by ending the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Unwelcome {
    /// How many connections it ended.
    pub connections: u64,
    /// The largest message, topic and payload.
    pub largest_bytes: u64,
}

impl From<stats::Unwelcome> for Unwelcome {
    fn from(stats::Unwelcome { connections, largest }: stats::Unwelcome) -> Self {
        Self { connections, largest_bytes: largest }
    }
}

/// Packets above a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Oversize {
    /// How many.
    pub packets: u64,
    /// The largest of them.
    pub largest_bytes: u64,
    /// The limit.
    pub limit_bytes: u64,
}

impl From<stats::Oversize> for Oversize {
    fn from(stats::Oversize { packets, largest, limit }: stats::Oversize) -> Self {
        Self { packets, largest_bytes: largest, limit_bytes: limit }
    }
}

impl Messages {
    pub(super) fn new(stats: &Stats, observe: Observe) -> Self {
        let counts = |messages: &stats::Messages| Counts::new(*messages, observe);
        Self {
            all: counts(&stats.all_messages()),
            by_qos: stats.messages.each_ref().map(counts),
            rejected: stats.rejected.clone(),
            too_large: stats.too_large.iter().map(|(stream, above)| (stream.clone(), (*above).into())).collect(),
            unwelcome: stats.unwelcome.iter().map(|(stream, found)| (stream.clone(), (*found).into())).collect(),
            retained_topics: stats.retained,
        }
    }
}

/// What devices subscribed to, and the messages that came of it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Received {
    /// Messages of all qualities of service; one of QoS 2 counts once, however often the broker sends it.
    pub messages: u64,
    /// Those that came with QoS 0, 1 and 2.
    pub by_qos: [u64; 3],
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// PUBLISH packets that came again, with the DUP flag.
    pub redelivered: u64,
    /// Filters that the broker granted.
    pub subscriptions_granted: u64,
    /// Filters that the broker refused, by its reason.
    pub subscriptions_refused: BTreeMap<String, u64>,
    /// Filters that the broker had not answered when the device left.
    #[serde(default)]
    pub subscriptions_unanswered: u64,
    /// Packets above `connect.maxPacket`, which end their connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub too_large: Option<Oversize>,
}

impl Received {
    /// None of a fleet that does not subscribe, unless sessions from before brought anything.
    pub(super) fn new(received: &stats::Received, fleet: &Fleet) -> Option<Self> {
        let subscribes = fleet.spec.groups.iter().any(|group| !group.subscriptions.is_empty());
        let stats::Received { messages, payload_bytes, redelivered, granted, refused, unanswered, too_large } =
            received;
        (subscribes || *received != stats::Received::default()).then(|| Self {
            messages: messages.iter().sum(),
            by_qos: *messages,
            payload_bytes: *payload_bytes,
            redelivered: *redelivered,
            subscriptions_granted: *granted,
            subscriptions_refused: refused.clone(),
            subscriptions_unanswered: *unanswered,
            too_large: (too_large.packets > 0).then(|| (*too_large).into()),
        })
    }
}

/// Connections made, lost and refused; causes by name.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Connections {
    /// Accepted sessions.
    pub accepted: u64,
    /// Lost connections by cause.
    pub lost: BTreeMap<String, u64>,
    /// Attempts that failed, by cause.
    pub failed: BTreeMap<String, u64>,
    /// Refusals by the broker, by its code.
    pub refused: BTreeMap<String, u64>,
    /// Acknowledgements that nobody waited for.
    pub unsolicited_acknowledgements: u64,
    /// MQTT 5: what brokers said beside their reasons when they refused or ended a connection.
    #[serde(default)]
    pub said: BTreeMap<String, u64>,
}

impl Connections {
    pub(super) fn new(connections: &stats::Connections) -> Self {
        let stats::Connections { accepted, reconnects: _, lost, failed, refused, unsolicited, said } = connections;
        Self {
            accepted: *accepted,
            lost: lost.clone(),
            failed: failed.clone(),
            refused: refused.clone(),
            unsolicited_acknowledgements: *unsolicited,
            said: said.clone(),
        }
    }

    /// What is counted by cause, each with its name for people.
    pub(super) const fn by_cause(&self) -> [(&'static str, &BTreeMap<String, u64>); 4] {
        let Self { accepted: _, lost, failed, refused, unsolicited_acknowledgements: _, said } = self;
        [("lost", lost), ("failed", failed), ("refused", refused), ("said by the broker", said)]
    }
}

/// The outages of a run.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct OutageList {
    /// How many there were.
    pub count: u64,
    /// The newest of them, in their order.
    pub list: Vec<OutageReport>,
    /// How long devices were without the session that they had lost, all together.
    #[serde(default)]
    pub away_seconds: f64,
    /// Of this: how long they waited by the fleet's own backoff.
    #[serde(default)]
    pub backoff_seconds: f64,
    /// How long devices were missing that had been connected, all together, to a reading; those of workers that died among them.
    #[serde(default)]
    pub missing_device_seconds: f64,
}

impl OutageList {
    pub(super) fn new(facts: &RunFacts, sessions: &stats::Sessions) -> Self {
        let (count, list) = facts.timeline.outages().report(facts.started, facts.now);
        // A wait counts when it begins, and may be longer than the outage is so far.
        let (away, backoff) = (Span(sessions.away_micros), Span(sessions.backoff_micros.min(sessions.away_micros)));
        Self {
            count,
            list,
            away_seconds: away.as_secs_f64(),
            backoff_seconds: backoff.as_secs_f64(),
            missing_device_seconds: facts.timeline.missing_device_seconds(),
        }
    }

    /// How much of the time away was the fleet's own backoff; `None` where no session was lost.
    pub fn backoff_share(&self) -> Option<f64> {
        (self.away_seconds > 0.0).then(|| self.backoff_seconds / self.away_seconds)
    }
}

/// Bytes of MQTT, without TCP and IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Bytes {
    /// Written by the devices.
    pub sent: u64,
    /// Read by the devices.
    pub received: u64,
    /// Read by the observer.
    pub observed: u64,
}

impl Bytes {
    pub(super) const fn new(bytes: stats::Bytes) -> Self {
        let stats::Bytes { sent, received, observed } = bytes;
        Self { sent, received, observed }
    }
}

/// Who observed, and what they saw beside the messages of this run.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Observer {
    /// Which devices were to be observed.
    pub observe: Observe,
    /// Observers that are subscribed now.
    pub subscribed: u32,
    /// Observers that there should be now.
    pub wanted: u32,
    /// Times that an observer lost its connection.
    pub losses: u64,
    /// Messages that are not of this run.
    pub foreign: u64,
    /// Delivered messages whose body was compared with what was sent: one in 64 of those with a stamp, the first of
    /// each stream and device among them.
    #[serde(default)]
    pub compared: u64,
    /// Of the compared: those that had become another.
    #[serde(default)]
    pub changed: u64,
    /// Messages of other runs that publish as the same devices, by run id.
    pub other_runs: BTreeMap<String, u64>,
    /// Observers that have seen a newer process run the devices of their worker, which has left for it.
    #[serde(default)]
    pub superseded: u32,
    /// Why an observer could not subscribe, if so.
    pub error: Option<String>,
}

impl Observer {
    pub(super) fn new(observer: &stats::ObserverStats, observe: Observe) -> Self {
        let stats::ObserverStats {
            subscribed,
            wanted,
            losses,
            foreign,
            compared,
            changed,
            other_runs,
            superseded,
            error,
        } = observer.clone();
        Self { observe, subscribed, wanted, losses, foreign, compared, changed, other_runs, superseded, error }
    }
}

/// How the generator itself fared.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Generator {
    /// Worker processes now.
    pub workers: u32,
    /// Worker processes that ended unasked.
    pub workers_lost: u32,
    /// Engine threads now.
    pub shards: u32,
    /// Of the threads: those that did not answer the last reading, and are counted as they were before.
    #[serde(default)]
    pub shards_silent: u32,
    /// CPU time in user space.
    pub cpu_user_seconds: f64,
    /// CPU time in the kernel.
    pub cpu_system_seconds: f64,
    /// CPU time over elapsed time: 1 is one core kept busy.
    pub cpu_cores: f64,
    /// CPU time for a million sent messages; `None` while none is sent.
    pub cpu_seconds_per_million: Option<f64>,
    /// Resident memory now.
    pub memory_bytes: u64,
    /// The most resident memory of any reading.
    pub memory_bytes_max: u64,
    /// Open files now.
    pub open_files: u64,
    /// Messages that were handed over more than 100 ms late.
    pub missed_ticks: u64,
    /// Messages that were handed over later than 10 % of the interval that was in force when they were due, at least 5 and
    /// at most 100 ms.
    pub overdue: u64,
    /// Times that a socket took less than it was given.
    pub buffer_full: u64,
    /// The share of scheduling periods with CPU throttling, 0 to 1.
    pub cpu_throttled_share: f64,
    /// How far the wall clock was ahead of the devices' when they differed most, in seconds; negative where it was behind.
    pub clock_offset_seconds: f64,
}

impl Generator {
    pub(super) fn new(stats: &Stats, facts: &RunFacts) -> Self {
        let cpu_seconds = stats.generator.cpu_seconds();
        let stats::Generator {
            workers,
            shards,
            shards_silent,
            cpu_user_seconds,
            cpu_system_seconds,
            memory_bytes,
            open_files,
            missed_ticks,
            overdue,
            buffer_full,
            cpu_periods: _,
            cpu_periods_throttled: _,
            secrets_unusable: _,
            clock_offset_micros,
        } = stats.generator;
        let (elapsed, sent) = (facts.elapsed().as_secs_f64(), stats.all_messages().sent);
        Self {
            workers,
            workers_lost: facts.workers.lost.count,
            shards,
            shards_silent,
            cpu_user_seconds,
            cpu_system_seconds,
            cpu_cores: if elapsed > 0.0 { cpu_seconds / elapsed } else { 0.0 },
            cpu_seconds_per_million: (sent > 0).then(|| cpu_seconds * 1e6 / sent as f64),
            memory_bytes,
            memory_bytes_max: facts.timeline.memory_bytes_max().max(memory_bytes),
            open_files,
            missed_ticks,
            overdue,
            buffer_full,
            cpu_throttled_share: stats.generator.throttled_share(),
            clock_offset_seconds: clock_offset_micros as f64 / 1e6,
        }
    }
}

/// A message that did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct LostInReport {
    /// When it was handed to the session (RFC 3339).
    pub sent: String,
    /// The index of its device.
    pub device: u32,
    /// Its stream.
    pub stream: String,
    /// Its number within the stream and the epoch.
    pub seq: u32,
    /// Its quality of service.
    pub qos: u8,
    /// Whether the broker had acknowledged it.
    pub acknowledged: bool,
}

impl LostInReport {
    pub(super) fn new(message: &LostMessage) -> Self {
        let LostMessage { sent, device, stream, seq, qos, acknowledged, phase: _ } = message;
        Self {
            sent: sent.to_string(),
            device: *device,
            stream: stream.clone(),
            seq: *seq,
            qos: (*qos).into(),
            acknowledged: *acknowledged,
        }
    }
}

/// What is needed to understand and to repeat a run; it holds no secret.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Manifest {
    /// The name of the fleet.
    pub fleet: String,
    /// The name of the load test, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_test: Option<String>,
    /// SHA-256 of the resolved document.
    pub document_sha256: String,
    /// The seed of all that is random.
    pub seed: u64,
    /// The run's id, eight hexadecimal digits as in each message's stamp.
    pub run: String,
    /// When the run started (RFC 3339).
    pub started: String,
    /// When this report was made, or the run ended (RFC 3339).
    pub at: String,
    /// How long the run was asked to last; `None` means until it is stopped.
    pub duration_seconds: Option<f64>,
    /// The broker's address.
    pub broker: String,
    /// Whether that broker was started for this run.
    pub embedded_broker: bool,
    /// The engine that ran the devices.
    pub engine: String,
    /// The version of the program.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
    /// The machine that generated the load.
    pub host: Host,
    /// How many files one process may open.
    pub open_files_limit: u64,
    /// Which devices were observed.
    pub observe: Observe,
    /// How long a message may take before it is lost.
    pub loss_after_seconds: f64,
    /// The shortest interval of any periodic stream.
    pub shortest_interval_seconds: Option<f64>,
    /// By how much the clock of a worker may have differed from that of who read it, at most; zero where all run on one machine.
    /// A worker observes its own devices, so that each time is between two instants of one clock.
    pub clock_bound_seconds: f64,
    /// The clocks of the workers of a cluster, the farthest first; an answer of the controller has no more than 16. Empty where all
    /// run on one machine.
    #[serde(default)]
    pub clocks: Vec<WorkerClock>,
    /// What makes it fail beside the default rules.
    #[serde(default)]
    pub fail_on: Vec<FailOn>,
}

/// How far the clock of a worker is from that of who reads it, by the most exact of the last exchanges of four time stamps.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct WorkerClock {
    /// The worker's name.
    pub worker: String,
    /// By so many seconds it is ahead; negative where it is behind.
    pub ahead_seconds: f64,
    /// It is that exact, both ways, in seconds.
    pub bound_seconds: f64,
}

impl WorkerClock {
    fn new((worker, Offset { ahead, bound }): (&String, &Offset)) -> Self {
        Self { worker: worker.clone(), ahead_seconds: *ahead as f64 / 1e6, bound_seconds: bound.as_secs_f64() }
    }
}

impl Manifest {
    pub(super) fn new(facts: &RunFacts) -> Self {
        let farthest = facts.workers.clock_farthest.as_ref();
        let mut clocks: Vec<_> = facts.workers.clocks.iter().collect();
        clocks.sort_by_key(|(_, offset)| Reverse(offset.at_most()));
        Self {
            fleet: facts.fleet.metadata.name.clone(),
            load_test: facts.asked.load_test.clone(),
            document_sha256: facts.document_hash.clone(),
            seed: facts.fleet.spec.seed,
            run: format!("{:08x}", facts.run),
            started: facts.started.to_string(),
            at: facts.now.to_string(),
            duration_seconds: facts.asked.duration.map(Span::as_secs_f64),
            broker: facts.broker(),
            embedded_broker: facts.at_broker.is_embedded,
            engine: facts.program.engine.clone(),
            version: facts.program.version.clone(),
            command: facts.program.command.clone(),
            host: facts.program.host.clone(),
            open_files_limit: facts.program.open_files_limit,
            observe: facts.observe(),
            loss_after_seconds: facts.fleet.spec.loss_after.as_secs_f64(),
            shortest_interval_seconds: facts.shortest_interval.map(Span::as_secs_f64),
            clock_bound_seconds: farthest.map_or(0.0, |(_, offset)| offset.at_most().as_secs_f64()),
            clocks: clocks.into_iter().map(WorkerClock::new).collect(),
            fail_on: facts.asked.fail_on.clone(),
        }
    }
}

/// The run second by second, or coarser when it is long.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct TimelineInReport {
    /// How many readings a point holds; of percentiles the worst of them is shown.
    pub readings_per_point: u32,
    /// The points, the oldest first.
    pub points: Vec<Point>,
}

impl TimelineInReport {
    pub(super) fn new(timeline: &Timeline) -> Self {
        Self { readings_per_point: timeline.readings_per_point(), points: timeline.points().to_vec() }
    }
}
