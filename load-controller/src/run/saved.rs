//! What is kept of a run that is part of a longer one, so that another process goes on with it.

use fleet_contract::{clock::Offset, format::Format, load_test::Criterion, plan::Plan, time::Micros, units::Span};
use serde::{Deserialize, Serialize};

use super::{
    Before, Run,
    act::Acts,
    facts::{Asked, CutShort, RunFacts},
    phase::Phases,
    stage::Stage,
    timeline::Timeline,
};

/// All of a run that neither its workers nor its documents tell.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    /// From which format on it is understood.
    #[serde(default)]
    format: Format,
    /// The SHA-256 of the fleet's document, in hexadecimal.
    pub document_hash: String,
    /// When it begins.
    pub started: Micros,
    stage: Stage,
    cut_short: CutShort,
    notes: Vec<String>,
    /// Those that were skipped are as short as they were.
    phases: Phases,
    thresholds: Vec<Criterion>,
    before: Before,
    timeline: Timeline,
    #[serde(default)]
    acts: Acts,
    #[serde(default)]
    clock_farthest: Option<(String, Offset)>,
}

impl Saved {
    /// What is to be kept of a run.
    pub fn of(run: &Run) -> Self {
        let facts = run.facts();
        Self {
            format: Format::SECOND,
            document_hash: facts.document_hash.clone(),
            started: facts.started,
            stage: facts.stage,
            cut_short: facts.cut_short.clone(),
            notes: facts.notes.clone(),
            phases: facts.asked.phases.clone(),
            thresholds: facts.asked.thresholds.clone(),
            before: run.before().cloned().unwrap_or_default(),
            timeline: facts.timeline.clone(),
            acts: facts.acts.clone(),
            clock_farthest: facts.workers.clock_farthest.clone(),
        }
    }

    /// What was asked of it, under the name of its test.
    pub fn asked(&self, load_test: String) -> Asked {
        Asked {
            load_test: Some(load_test),
            duration: self.phases.last(),
            phases: self.phases.clone(),
            thresholds: self.thresholds.clone(),
            ..Asked::default()
        }
    }

    /// The run, going on; `facts` are what its documents and its plan tell.
    pub fn resume(self, facts: RunFacts, lead: Span, plan: &Plan, now: Micros) -> Run {
        let Self { started, stage, cut_short, notes, before, timeline, acts, clock_farthest, .. } = self;
        let mut facts = RunFacts { now, notes, cut_short, timeline, acts, ..facts.beginning_at(started, plan) };
        facts.workers.clock_farthest = clock_farthest;
        let mut run = Run::part(facts, lead, before);
        if !stage.follows_plan() {
            run.drain(now, plan);
        }
        run
    }
}
