//! The report: everything that a run measured, as one value with many formats.
//!
//! Times are in seconds, sizes in bytes, instants in RFC 3339; `null` stands where nothing is known.
//! The keys are stable: `simctl run -o json` and `simctl status -o json` print this value.

pub mod csv;
mod document;
mod figures;
pub mod files;
mod format;
pub mod hgrm;
pub mod hlog;
pub mod html;
pub mod json;
pub mod junit;
mod lost;
pub mod markdown;
pub mod text;
mod thin;

use std::collections::BTreeMap;

use fleet_contract::{
    fleet::{Observe, Protocol, SessionKind},
    model::StampMode,
    plan::Plan,
    series::{Distribution, END_TO_END, FOLDED, PUBLISH_ACK, SERIES_MAX},
    stats::Stats,
    units::Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::run::timeline::Event;
pub use figures::{
    Bytes, Connections, Counts, Devices, FaultFigures, Generator, GroupFigures, LostInReport, Manifest, Messages,
    ModelFaultFigures, Observer, OfflineDetection, OutageList, PhaseFigures, Received, StreamFigures, ThresholdFigures,
    TimelineInReport, Times,
};

use figures::Row;

use crate::{
    run::{
        Run,
        facts::{CutShort, RunFacts},
        fault,
        stage::Stage,
        threshold,
        verdict::{ExitCode, FailOn, Reason, Verdict, judge},
        workers::Workers,
    },
    words,
};

/// Everything that a run measured.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Report {
    /// What the run proved; `pending` while it goes on.
    pub verdict: Verdict,
    /// Why it did not pass, the heaviest reason first.
    pub reasons: Vec<Reason>,
    /// How far the run has come.
    #[serde(rename = "phase")]
    pub stage: Stage,
    /// How long it has lasted, in seconds.
    pub elapsed_seconds: f64,
    /// How long of that messages were offered, in seconds: all but pauses and the drain.
    pub running_seconds: f64,
    /// How long of that the fleet was paused, in seconds, to a reading.
    #[serde(default)]
    pub paused_seconds: f64,
    /// Devices by state; of a run that drains or has ended, as they were when the drain began.
    pub devices: Devices,
    /// What became of the messages.
    pub messages: Messages,
    /// Messages and times by group and, in it, by stream; empty where workers of release 0.1 measured.
    #[serde(default)]
    pub groups: BTreeMap<String, GroupFigures>,
    /// The phases that were asked for, in their order; a message is in the one in which it fell due.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseFigures>,
    /// The faults of these phases that have begun, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultFigures>,
    /// What faults that streams have by themselves have done, by group and stream; streams without any are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model_faults: Vec<ModelFaultFigures>,
    /// What must come of the run, and what came of it; empty where nothing was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<ThresholdFigures>,
    /// What the devices' own subscriptions brought; `None` of a fleet that does not subscribe.
    #[serde(default)]
    pub received: Option<Received>,
    /// Distributions of times.
    pub latency: Times,
    /// What became of the wills of devices that went without a word; `None` of a fleet whose wills nobody follows.
    #[serde(default)]
    pub offline_detection: Option<OfflineDetection>,
    /// Sessions that were accepted after an earlier one was lost.
    pub reconnects: u64,
    /// Connections made, lost and refused.
    pub connections: Connections,
    /// Times in which connected devices fell away.
    pub outages: OutageList,
    /// What else happened to the run, in its order: changes by hand, pauses, workers that ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// Bytes of MQTT.
    pub bytes: Bytes,
    /// What the observer saw beside the messages of this run.
    pub observer: Observer,
    /// How the generator itself fared.
    pub generator: Generator,
    /// The first messages that were lost, by name.
    pub lost_messages: Vec<LostInReport>,
    /// What the reader must know to read the figures rightly.
    pub notes: Vec<String>,
    /// What is needed to understand and to repeat the run.
    pub manifest: Manifest,
    /// The run second by second.
    pub timeline: TimelineInReport,
}

impl Report {
    /// How many lost messages stand in the report itself; all that are kept stand in the file `lost.jsonl`.
    pub const LOST_MAX: usize = 20;

    /// What became of the wills of the run and, behind it, of the devices that each fault has hit; each with its name.
    fn detections(&self) -> impl Iterator<Item = (&str, &OfflineDetection)> {
        let of_run = self.offline_detection.iter().map(|found| ("whole run", found));
        let faults = self.faults.iter();
        of_run.chain(faults.filter_map(|fault| Some((fault.name.as_str(), fault.offline_detection.as_ref()?))))
    }

    /// The report of what was read so far of a run.
    pub fn of(run: &Run, plan: &Plan, workers: &Workers) -> Self {
        Self::new(&run.stats(plan, workers), run.facts())
    }

    /// The report of what was measured, and its verdict by the default rules.
    pub fn new(stats: &Stats, facts: &RunFacts) -> Self {
        let thresholds = threshold::judge(stats, facts);
        let (verdict, reasons) = judge(stats, facts, &thresholds);
        Self {
            verdict,
            reasons,
            stage: facts.stage,
            elapsed_seconds: facts.elapsed().as_secs_f64(),
            running_seconds: facts.running().as_secs_f64(),
            paused_seconds: facts.timeline.paused().as_secs_f64(),
            devices: Devices::new(facts.devices(stats)),
            messages: Messages::new(stats, facts.observe()),
            groups: GroupFigures::by_name(&stats.groups, facts.observe()),
            phases: PhaseFigures::of_all(stats, facts),
            faults: FaultFigures::of_all(stats, facts),
            model_faults: ModelFaultFigures::of_all(stats),
            thresholds: thresholds.iter().map(ThresholdFigures::new).collect(),
            received: Received::new(&stats.received, &facts.fleet),
            latency: Times::of_fleet(&stats.latency),
            offline_detection: OfflineDetection::of_run(stats),
            reconnects: stats.connections.reconnects,
            connections: Connections::new(&stats.connections),
            outages: OutageList::new(facts, &stats.sessions),
            events: facts.timeline.events().list().to_vec(),
            bytes: Bytes::new(stats.bytes),
            observer: Observer::new(&stats.observer, facts.observe()),
            generator: Generator::new(stats, facts),
            lost_messages: stats.lost.iter().take(Self::LOST_MAX).map(LostInReport::new).collect(),
            notes: notes(stats, facts),
            manifest: Manifest::new(facts),
            timeline: TimelineInReport::new(&facts.timeline),
        }
    }

    /// The latency that is looked at first: to the observer where there is one, else to the acknowledgement.
    pub fn shown_latency(&self) -> Distribution {
        if self.latency.of(&END_TO_END).count > 0 { END_TO_END } else { PUBLISH_ACK }
    }

    /// Its streams: group, name and figures.
    pub fn streams(&self) -> impl Iterator<Item = (&str, &str, &StreamFigures)> {
        self.groups.iter().flat_map(|(group, figures)| {
            figures.streams.iter().map(move |(stream, figures)| (group.as_str(), stream.as_str(), figures))
        })
    }

    /// The same as people read it: a group that has several streams stands before them with their sum.
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.groups.iter().flat_map(|(group, figures)| figures.rows(group))
    }

    /// How a process ends that has made this report.
    pub const fn exit_code(&self) -> ExitCode {
        self.verdict.exit_code()
    }

    /// So many a second, over the time in which messages were offered.
    pub fn rate(&self, count: u64) -> f64 {
        if self.running_seconds > 0.0 { count as f64 / self.running_seconds } else { 0.0 }
    }
}

/// What stands in no counter, or not in its own.
fn left_out(stats: &Stats, facts: &RunFacts) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |is_so: bool, text: String| {
        if is_so {
            notes.push(text);
        }
    };
    let is_folded = |(_, name, _): (&str, &str, &_)| FOLDED.contains(&name);
    let in_phases = stats.phases.values().flat_map(|phase| phase.groups.streams());
    note(
        stats.groups.streams().chain(in_phases).any(is_folded),
        format!(
            "there are more streams, in all and by phase, than the {SERIES_MAX} that a worker tells apart, or more times than there \
             is room to keep: some stand together, by group and quality of service, and a threshold of one of them finds nothing"
        ),
    );
    let more = facts.timeline.events().more();
    note(more > 0, format!("{} happened after those that are listed", words::counted(more.into(), "event", "events")));
    let paused = facts.timeline.paused().as_secs_f64();
    note(
        paused > 0.0,
        format!("messages were held back for {}: what fell due then is in no counter", words::time(paused)),
    );
    let untimed = times_taken_along(stats, facts);
    note(
        untimed > 0,
        format!(
            "workers that were lost took the end-to-end times of {} along: percentiles and thresholds are about the other {}",
            words::counted(untimed, "delivered message", "delivered messages"),
            words::count(stats.latency.end_to_end.count())
        ),
    );
    // Those of workers that are counted themselves are in `away`.
    let away = Span(stats.sessions.away_micros).as_secs_f64();
    let missing = facts.timeline.missing_device_seconds() - away;
    // Pods come and go; processes of this machine are replaced when they die.
    let were_replaced = facts.workers.lost.count > 0 || facts.program.host.os == "kubernetes";
    note(
        were_replaced && missing >= 1.0,
        format!(
            "devices of workers that were replaced were missing for {missing:.0} device-seconds: what fell due on them is in no \
             counter, and their return in no recovery"
        ),
    );
    notes
}

/// How many messages were delivered and have no time, because it ended with its worker: what a worker counts is recorded as it goes,
/// what it times is known by its readings alone.
fn times_taken_along(stats: &Stats, facts: &RunFacts) -> u64 {
    // Of a load test that goes on, or was aborted, some times are only not told yet.
    let is_told =
        facts.asked.load_test.is_none() || facts.stage == Stage::Ended && facts.cut_short != CutShort::Aborted;
    if facts.workers.lost.count == 0 || !is_told {
        return 0;
    }
    let spec = &facts.fleet.spec;
    // A counter in the body tells no instant.
    let has_no_times = |group: &str, stream: &str| {
        let group = spec.groups.iter().find(|found| found.name == group);
        let of_model = group.and_then(|group| Some((group, spec.models.get(&group.model)?.streams.get(stream)?)));
        of_model.is_some_and(|(group, of_model)| matches!(group.stream(stream, of_model).stamp, StampMode::Counter(_)))
    };
    let never_timed = stats.groups.streams().filter(|(group, stream, _)| has_no_times(group, stream));
    let never_timed: u64 = never_timed.map(|(_, _, counted)| counted.messages.delivered).sum();
    stats.all_messages().delivered.saturating_sub(never_timed + stats.latency.end_to_end.count())
}

/// The notes of the run, and what the figures themselves call for.
fn notes(stats: &Stats, facts: &RunFacts) -> Vec<String> {
    let all = stats.all_messages();
    // What was spoilt or doubled on purpose nobody was to observe.
    let unobserved = all.unobserved.saturating_sub(fault::spoilt(stats, facts));
    let mut notes = facts.notes.clone();
    notes.extend(left_out(stats, facts));
    let mut note = |is_so: bool, text: String| {
        if is_so {
            notes.push(text);
        }
    };
    note(
        facts.observe() == Observe::None,
        "nobody observed: acknowledgements decide, and what was delivered, lost, duplicated or reordered is unknown"
            .into(),
    );
    note(
        facts.observe() != Observe::None && all.unknown > 0,
        format!("the fate of {} is unknown: the observer or a worker was away", words::messages(all.unknown)),
    );
    note(
        all.unrecorded > 0,
        format!(
            "up to {} may have been sent by killed workers after what they had recorded: they are in no other counter, and \
             the times since the last readings of these workers are lost",
            words::messages(all.unrecorded)
        ),
    );
    note(
        facts.workers.lost.unbounded > 0,
        format!(
            "what {} sent after their last readings is not known, so that there may be more",
            words::counted(facts.workers.lost.unbounded.into(), "killed worker", "killed workers")
        ),
    );
    note(
        facts.observe() == Observe::All && unobserved > 0,
        format!("{} went unobserved: nobody was subscribed when they were sent", words::messages(unobserved)),
    );
    note(
        stats.messages[0].lost > 0 && !facts.asked.fail_on.contains(&FailOn::Lost),
        format!(
            "{} of QoS 0 were lost, which QoS 0 allows; `simctl run --fail-on lost` makes that a failure",
            words::messages(stats.messages[0].lost)
        ),
    );
    let spec = &facts.fleet.spec;
    let left = facts.observers_left();
    note(
        !left.is_empty() && !facts.at_broker.is_cleaned,
        format!(
            "observers of killed workers have left sessions at the broker, which goes on queueing for them until somebody \
             connects with a clean session and their client id, as `simctl clean --observer` does: {}",
            left.join(", ")
        ),
    );
    let is_kept = spec.connect.session == SessionKind::Persistent && spec.protocol() == Protocol::V311;
    let has_left = facts.stage == Stage::Ended
        && !facts.at_broker.is_embedded
        && !facts.at_broker.is_cleaned
        && stats.connections.accepted > 0;
    note(
        is_kept && has_left,
        format!(
            "the sessions of {} stay at the broker, which goes on queueing for them: MQTT 3.1.1 ends a persistent session \
             only by a clean one of the same client id, as `simctl clean` does",
            words::devices(facts.devices(stats).desired)
        ),
    );
    note(
        has_left && stats.retained > 0,
        format!(
            "{} stay at the broker, which gives them to each new subscriber until they are replaced, or removed by \
             `simctl clean`",
            words::counted(stats.retained, "retained message", "retained messages")
        ),
    );
    for (run, count) in &stats.observer.other_runs {
        let seen = words::messages(*count);
        note(
            true,
            format!(
                "{seen} of another run ({run}) arrived from the same devices: are two runs using this fleet's name?"
            ),
        );
    }
    notes
}

#[cfg(test)]
mod tests;
