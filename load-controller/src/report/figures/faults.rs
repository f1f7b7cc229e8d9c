//! What went wrong on purpose, and how long it took until all was well again.

use fleet_contract::{
    stats::{FaultStats, ModelFaultCounts, Stats, Summary},
    units::{Share, Span},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OfflineDetection;
use crate::run::{
    facts::RunFacts,
    fault::{self, Spanned},
    timeline::{BackSeconds, Recovered},
};

/// A fault that has begun, and what it did.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct FaultFigures {
    /// Its name; its kind unless it has one.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The name of its phase.
    pub phase: String,
    /// When it begins, in seconds since the start of the run.
    pub at_seconds: f64,
    /// How long it is to last, in seconds; 0 for one that is over as soon as it has begun.
    pub seconds: f64,
    /// How many of the devices it is to hit.
    pub share: Share,
    /// The group whose devices it hits; `null` for each.
    pub group: Option<String>,
    /// The condition that the signals of a device had to meet when it began; left out where there was none.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Devices of the fleet that it has hit.
    pub devices: u64,
    /// What it has done to them: sessions ended, attempts to connect swallowed or spoilt, messages kept from falling due or from
    /// going, writes and reads made slower. Of `kill-pods` the pods that were ended; of `hook` 1 once its command has succeeded.
    pub effects: u64,
    /// Why nothing came of a `kill-pods` or a `hook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Sessions that were lost by it, of devices that are still wanted.
    pub sessions_lost: u64,
    /// Of these: those that devices have got back.
    pub sessions_back: u64,
    /// From when on devices could come back, in seconds since the start of the run: the end of a fault that holds them back as
    /// long as it lasts, the beginning of another.
    pub lets_go_seconds: f64,
    /// When so many of these sessions were back, since it let go.
    pub back_seconds: BackSeconds,
    /// How long each device was without its session.
    pub recovery: Summary,
    /// What became of the wills of the devices that it hit; `null` where nobody follows any.
    #[serde(default)]
    pub offline_detection: Option<OfflineDetection>,
    /// The lowest threshold of the end-to-end latency's 99th percentile, in seconds; `null` where there is none for all messages.
    pub latency_bound_seconds: Option<f64>,
    /// How long after it let go that latency was within its threshold again and stayed so for ten seconds, or until the next fault
    /// began; `null` if it did not, or nothing was asked for.
    pub latency_back_seconds: Option<f64>,
}

impl FaultFigures {
    /// Those of each fault that has begun.
    pub(in crate::report) fn of_all(stats: &Stats, facts: &RunFacts) -> Vec<Self> {
        let faults = fault::begun(facts);
        let behind = |fault: &Spanned<'_>| {
            let next = faults.iter().map(|other| other.after).find(|after| *after > fault.lets_go());
            next.unwrap_or(Span(u64::MAX))
        };
        let bound = fault::latency_bound(facts);
        let nothing = FaultStats::default();
        let figures = |spanned: &Spanned<'_>| {
            let Spanned { number, fault, phase, after, until } = *spanned;
            let lets_go = spanned.lets_go();
            let FaultStats { devices, recovery, wills, offline_detection, .. } =
                stats.faults.get(number).unwrap_or(&nothing);
            let Recovered { lost, back, seconds } =
                facts.timeline.recoveries().of(number, facts.started.after(lets_go));
            let calm = |bound| fault::calm_after(facts.timeline.points(), bound, lets_go, behind(spanned));
            let aim = fault.aim();
            Self {
                name: fault.name().to_owned(),
                kind: fault.kind().to_owned(),
                phase: phase.to_owned(),
                at_seconds: after.as_secs_f64(),
                seconds: Span(until.0 - after.0).as_secs_f64(),
                share: aim.share,
                group: aim.group.map(str::to_owned),
                condition: aim.condition.map(str::to_owned),
                devices: *devices,
                effects: fault::effects(stats, facts, spanned),
                failure: facts.acts.failure(number).map(str::to_owned),
                sessions_lost: lost,
                sessions_back: back,
                lets_go_seconds: lets_go.as_secs_f64(),
                back_seconds: seconds,
                recovery: recovery.summary(),
                offline_detection: OfflineDetection::new(wills, offline_detection),
                latency_bound_seconds: bound.map(Span::as_secs_f64),
                latency_back_seconds: bound.and_then(calm),
            }
        };
        faults.iter().map(figures).collect()
    }
}

/// What the faults that a stream has by itself have done to its messages. One to which several have done something is in several
/// counters.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ModelFaultFigures {
    /// The group.
    pub group: String,
    /// The stream; of more streams than are told apart those of a quality of service together.
    pub stream: String,
    /// Sent with a spoilt payload.
    pub corrupt: u64,
    /// Sent once more: the second packets.
    pub duplicate: u64,
    /// Sent with what was true before.
    pub stale: u64,
    /// Not sent, because the sensor had stopped.
    pub silent: u64,
    /// Sent with values of a sensor that stuck.
    pub stuck: u64,
    /// Fallen due on top of the timetable.
    pub flood: u64,
}

impl ModelFaultFigures {
    /// Those of each stream to which they have done anything.
    pub(in crate::report) fn of_all(stats: &Stats) -> Vec<Self> {
        let figures = |(group, stream, counts): (&str, &str, &ModelFaultCounts)| {
            let ModelFaultCounts { corrupt, duplicate, stale, silent, stuck, flood } = *counts;
            Self { group: group.into(), stream: stream.into(), corrupt, duplicate, stale, silent, stuck, flood }
        };
        stats.model_faults.iter().map(figures).collect()
    }

    /// What they have done, in the order of [`text::MODEL_FAULT`](crate::report::text).
    pub(in crate::report) const fn counts(&self) -> [u64; 6] {
        let Self { group: _, stream: _, corrupt, duplicate, stale, silent, stuck, flood } = self;
        [*corrupt, *duplicate, *stale, *silent, *stuck, *flood]
    }
}
