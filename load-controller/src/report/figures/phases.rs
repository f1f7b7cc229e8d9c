//! Messages and times by phase.

use std::collections::BTreeMap;

use fleet_contract::{
    stats::{PhaseStats, Stats},
    units::Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counts, GroupFigures, Times};
use crate::run::{facts::RunFacts, phase::Spanned};

/// What fell due in one phase.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct PhaseFigures {
    /// Its name.
    pub name: String,
    /// When it begins, in seconds since the start of the run.
    pub at_seconds: f64,
    /// How long it is to last, in seconds.
    pub seconds: f64,
    /// How long it has lasted, in seconds, without pauses.
    #[serde(default)]
    pub lasted_seconds: f64,
    /// Whether its rates and times count where a threshold names no phase.
    #[serde(default)]
    pub measured: bool,
    /// What became of its messages.
    #[serde(flatten)]
    pub counts: Counts,
    /// Its times.
    pub latency: Times,
    /// Its messages and times by group and, in it, by stream.
    pub groups: BTreeMap<String, GroupFigures>,
}

impl PhaseFigures {
    /// Those of each phase that was asked for.
    pub(in crate::report) fn of_all(stats: &Stats, facts: &RunFacts) -> Vec<Self> {
        let nothing = PhaseStats::default();
        let figures = |Spanned { number, phase, after }: Spanned<'_>| {
            let measured = stats.phases.get(&number).unwrap_or(&nothing);
            let (messages, latency) = measured.total();
            Self {
                name: phase.name.clone(),
                at_seconds: after.as_secs_f64(),
                seconds: phase.duration.as_secs_f64(),
                lasted_seconds: facts.offered_within(after, Span(after.0 + phase.duration.0)),
                measured: phase.measure,
                counts: Counts::new(messages, facts.observe()),
                latency: Times::of_fleet(&latency),
                groups: GroupFigures::by_name(&measured.groups, facts.observe()),
            }
        };
        facts.asked.phases.spanned().map(figures).collect()
    }
}
