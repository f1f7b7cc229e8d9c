//! What is known of a run beside its statistics.

use std::{collections::BTreeMap, ops::Range};

use fleet_contract::{
    clock::Offset,
    fleet::{BrokerSpec, Fleet, Observe, Protocol},
    load_test::Criterion,
    plan::Plan,
    stats::{Devices, Ended, Gap, Stats},
    time::Micros,
    units::Span,
    worker::observer_client_id,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    act::Acts,
    phase::Phases,
    stage::Stage,
    timeline::Timeline,
    verdict::{FailOn, Rule},
};

/// Everything that a report says and that no worker measured.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// The resolved document.
    pub fleet: Fleet,
    /// SHA-256 of the resolved document, in hexadecimal.
    pub document_hash: String,
    /// What is known of its broker beside the address.
    pub at_broker: AtBroker,
    /// Tells the messages of this run from those of any other.
    pub run: u32,
    /// How far the run has come; only one that has ended is judged.
    pub stage: Stage,
    /// The instant that all timetables count from.
    pub started: Micros,
    /// Now, or the end of the run.
    pub now: Micros,
    /// What was asked of the run beside the document.
    pub asked: Asked,
    /// What made the load.
    pub program: Program,
    /// The shortest interval of any periodic stream, live changes included.
    pub shortest_interval: Option<Span>,
    /// What the reader must know, such as what a stream's native counter cannot prove.
    pub notes: Vec<String>,
    /// Whether something ended the run before its time.
    pub cut_short: CutShort,
    /// One entry a second.
    pub timeline: Timeline,
    /// What is known of its workers one by one.
    pub workers: AboutWorkers,
    /// What it has done to pods and brokers.
    pub acts: Acts,
}

/// What is known of the broker of a run beside its address.
#[derive(Debug, Clone, Copy, Default)]
pub struct AtBroker {
    /// Whether it was started for this run.
    pub is_embedded: bool,
    /// Whether what the run left there was removed.
    pub is_cleaned: bool,
}

/// What is known of the workers of a run one by one.
#[derive(Debug, Clone, Default)]
pub struct AboutWorkers {
    /// How many devices each runs at most: the first one of worker `n` is device `n` times that.
    pub devices_each: u32,
    /// Processes that ended unasked.
    pub lost: LostWorkers,
    /// Of what workers may have broken: who has most.
    pub culprits: BTreeMap<Rule, String>,
    /// How far the clock of each, by name, is from that of who reads them; empty where all run on one machine.
    pub clocks: BTreeMap<String, Offset>,
    /// Whose clock may have been farthest so far, and how far.
    pub clock_farthest: Option<(String, Offset)>,
}

impl AboutWorkers {
    /// Takes how far clocks are off now.
    pub fn see_clocks<'a>(&mut self, found: impl IntoIterator<Item = (&'a str, Offset)>) {
        self.clocks = found.into_iter().map(|(name, offset)| (name.to_owned(), offset)).collect();
        let farthest = self.clocks.iter().max_by_key(|(_, offset)| offset.at_most());
        let known = self.clock_farthest.as_ref().map(|(_, offset)| offset.at_most());
        if let Some((name, offset)) = farthest.filter(|(_, offset)| Some(offset.at_most()) > known) {
            self.clock_farthest = Some((name.clone(), *offset));
        }
    }
}

impl LostWorkers {
    /// Those that have ended since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            count: self.count.saturating_sub(before.count),
            unbounded: self.unbounded.saturating_sub(before.unbounded),
            observers: self.observers.iter().filter(|left| !before.observers.contains(left)).copied().collect(),
        }
    }
}

/// What ended a run before its time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CutShort {
    /// Nothing.
    #[default]
    No,
    /// Whoever ran it, before it had drained.
    Aborted,
    /// A threshold that says so, which failed: how.
    Threshold(String),
}

/// Worker processes that ended unasked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostWorkers {
    /// How many.
    pub count: u32,
    /// Of these: those of which nobody knows how much they may have sent after they were read last.
    pub unbounded: u32,
    /// Some whose observers may have left a session at the broker.
    pub observers: Vec<Gap>,
}

impl From<&Ended> for LostWorkers {
    fn from(ended: &Ended) -> Self {
        Self {
            count: ended.workers_lost,
            unbounded: u32::try_from(ended.gaps.len()).unwrap_or(u32::MAX),
            observers: ended.observers_left.clone(),
        }
    }
}

/// What was asked of a run beside the document.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The name of the load test, if it is one.
    pub load_test: Option<String>,
    /// How long it runs; `None` means until it is stopped.
    pub duration: Option<Span>,
    /// The parts of it that are measured apart.
    pub phases: Phases,
    /// How many devices there are before a phase says otherwise, if that is not what the document says.
    pub devices: Option<u32>,
    /// Whether it ends once every device has sent all that it is to send.
    pub ends_when_sent: bool,
    /// What makes it fail beside the default rules.
    pub fail_on: Vec<FailOn>,
    /// What must come of it.
    pub thresholds: Vec<Criterion>,
}

/// What made the load.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The engine that ran the devices.
    pub engine: String,
    /// The version of the program.
    pub version: String,
    /// The command line; empty in a cluster.
    pub command: Vec<String>,
    /// The machine.
    pub host: Host,
    /// How many files one process may open; 0 where that is not known.
    pub open_files_limit: u64,
}

impl RunFacts {
    /// Those of a run of `fleet` by `plan` that begins.
    pub fn new(fleet: Fleet, document_hash: String, plan: &Plan, asked: Asked, program: Program) -> Self {
        Self {
            shortest_interval: shortest_interval(&fleet, plan, plan.start),
            workers: AboutWorkers { devices_each: fleet.spec.devices_per_pod, ..AboutWorkers::default() },
            fleet,
            document_hash,
            at_broker: AtBroker::default(),
            run: plan.run,
            stage: Stage::under(plan, plan.start),
            started: plan.start,
            now: plan.start,
            asked,
            program,
            notes: Vec::new(),
            cut_short: CutShort::No,
            timeline: Timeline::new(plan.start),
            acts: Acts::default(),
        }
    }

    /// The same of a run that begins at `start`, within that of its plan.
    #[must_use]
    pub fn beginning_at(self, start: Micros, plan: &Plan) -> Self {
        let shortest_interval = shortest_interval(&self.fleet, plan, start);
        Self { shortest_interval, started: start, now: start, timeline: Timeline::new(start), ..self }
    }

    /// When it begins and when it ends, as far as that is known.
    pub fn span(&self) -> Range<Micros> {
        let end = self.asked.duration.map_or(Micros::NEVER, |duration| self.started.after(duration));
        self.started..end
    }

    /// The client ids of observers that may have left a session at the broker: their processes were killed. One of MQTT 5
    /// expires.
    pub fn observers_left(&self) -> Vec<String> {
        let spec = &self.fleet.spec;
        if spec.observe == Observe::None || spec.protocol() == Protocol::V5 {
            return Vec::new();
        }
        // A worker has an observer for each address.
        let brokers = spec.broker.as_ref().map_or(1, |broker| broker.addresses().len().max(1));
        let client_ids = |gap: &Gap| {
            let (first, epoch) = (gap.ordinal.saturating_mul(self.workers.devices_each), gap.epoch);
            let client_id = |broker| observer_client_id(&self.fleet.metadata.name, self.run, first, epoch, broker);
            (0..brokers).map(client_id).collect::<Vec<_>>()
        };
        self.workers.lost.observers.iter().flat_map(client_ids).collect()
    }

    /// Which devices were observed.
    pub const fn observe(&self) -> Observe {
        self.fleet.spec.observe
    }

    /// The broker's address, or all of them with commas between; without credentials.
    pub fn broker(&self) -> String {
        self.fleet.spec.broker.as_ref().map(BrokerSpec::names).unwrap_or_default()
    }

    /// How long the run has lasted.
    pub const fn elapsed(&self) -> Span {
        self.now.since(self.started)
    }

    /// How long messages have been offered, pauses included.
    pub fn offered_for(&self) -> Span {
        let drains_from = self.timeline.running_until().filter(|_| !self.stage.follows_plan());
        // The last reading before the drain may have come later than its end.
        drains_from.map_or(self.now, |from| from.min(self.span().end)).since(self.started)
    }

    /// How many seconds of a stretch of the run have been, without pauses and the drain.
    pub fn offered_within(&self, after: Span, until: Span) -> f64 {
        let [after, until] = [after, until.min(self.offered_for())].map(Span::as_secs_f64);
        let paused = self.timeline.points().iter().filter(|point| point.paused_seconds > 0.0).map(|point| {
            let within = (point.at + point.seconds).min(until) - point.at.max(after);
            point.paused_seconds * (within / point.seconds).clamp(0.0, 1.0)
        });
        (until - after - paused.sum::<f64>()).max(0.0)
    }

    /// How long of that it was neither paused nor draining.
    pub fn running(&self) -> Span {
        Span(self.offered_for().0.saturating_sub(self.timeline.paused().0))
    }

    /// Its devices: those of now, and once it drains, when they leave by intent, those that it had before.
    pub fn devices(&self, stats: &Stats) -> Devices {
        self.timeline.devices().filter(|_| !self.stage.follows_plan()).unwrap_or(stats.devices)
    }

    /// Takes the intervals of a plan in, from an instant on.
    pub(super) fn see_intervals(&mut self, plan: &Plan, from: Micros) {
        let shortest = shortest_interval(&self.fleet, plan, from);
        self.shortest_interval = self.shortest_interval.into_iter().chain(shortest).min();
    }
}

/// The shortest interval of any periodic stream from `from` on.
fn shortest_interval(fleet: &Fleet, plan: &Plan, from: Micros) -> Option<Span> {
    let intervals = fleet.spec.groups.iter().flat_map(|group| {
        let streams = fleet.spec.models.get(&group.model).into_iter().flat_map(|model| &model.streams);
        streams.filter_map(|(name, stream)| {
            let interval = group.stream(name, stream).interval?;
            Some(plan.pace(&group.name, name, interval).shortest(from))
        })
    });
    intervals.min()
}

/// The machine that generated the load.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Host {
    /// The operating system and its processor architecture.
    pub os: String,
    /// The version of its kernel.
    pub kernel: String,
    /// How many processors the process may use.
    pub cpus: u32,
    /// Its memory, in bytes.
    pub memory_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::facts;

    #[test]
    fn a_killed_worker_has_left_an_observer_at_each_address() {
        let mut facts = facts();
        facts.workers.devices_each = 100;
        facts.workers.lost.observers = vec![Gap { ordinal: 2, epoch: Micros(0x2a), from: Micros(0) }];
        let mut left = |urls: &[&str]| {
            let addresses = urls.iter().map(|url| url.parse().unwrap()).collect();
            facts.fleet.spec.broker = Some(BrokerSpec::at(addresses));
            facts.observers_left()
        };
        assert_eq!(left(&["mqtt://one"]), ["demo-observer-7f3a21c0-200-2a"]);
        let of_two = ["demo-observer-7f3a21c0-200-2a", "demo-observer-7f3a21c0-200-2a-1"];
        assert_eq!(left(&["mqtt://one", "mqtt://two"]), of_two);
    }
}
