//! What went wrong on purpose, and how long it took until all was well again.

use fleet_contract::{
    stats::{FaultStats, Stats, Summary},
    units::{Share, Span},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
            let FaultStats { devices, recovery, .. } = stats.faults.get(number).unwrap_or(&nothing);
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
                devices: *devices,
                effects: fault::effects(stats, facts, spanned),
                failure: facts.acts.failure(number).map(str::to_owned),
                sessions_lost: lost,
                sessions_back: back,
                lets_go_seconds: lets_go.as_secs_f64(),
                back_seconds: seconds,
                recovery: recovery.summary(),
                latency_bound_seconds: bound.map(Span::as_secs_f64),
                latency_back_seconds: bound.and_then(calm),
            }
        };
        faults.iter().map(figures).collect()
    }
}
