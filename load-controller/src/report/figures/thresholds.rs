//! What must come of a run, and what came of it.

use fleet_contract::{
    fleet::Qos,
    threshold::{Bound, Threshold},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::threshold::{self, Found, Judgement, Outcome};

/// A threshold, where it is looked at, and what was found there.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct ThresholdFigures {
    /// The threshold, such as `end_to_end.p99 < 250ms`.
    pub expect: Threshold,
    /// The phase; `null` where it is about several of them, or about the whole run.
    pub phase: Option<String>,
    /// The fault whose recovery or wills it is about; `null` where it is about no single one.
    #[serde(default)]
    pub fault: Option<String>,
    /// The group; `null` for all.
    pub group: Option<String>,
    /// The stream; `null` for all.
    pub stream: Option<String>,
    /// The quality of service; `null` for all.
    pub qos: Option<Qos>,
    /// Whether it is met, as far as it is judged.
    pub outcome: Outcome,
    /// What was found: a count, so many a second, or a time in seconds; `null` where nothing was measured, or where it is
    /// unbounded.
    pub found: Option<f64>,
    /// Whether messages without an answer reach so far into the distribution that it has no such time.
    pub unbounded: bool,
    /// Of how many messages, or other things.
    pub samples: u64,
    /// Both in one sentence.
    pub message: String,
}

impl ThresholdFigures {
    pub(in crate::report) fn new(judgement: &Judgement<'_>) -> Self {
        let Judgement { criterion, phase, found, samples, outcome, .. } = judgement;
        let in_unit = |figure: f64| match criterion.expect.bound {
            Bound::Time(_) => figure / 1e6,
            Bound::Count(_) | Bound::PerSecond(_) => figure,
        };
        Self {
            expect: criterion.expect.clone(),
            phase: phase.map(str::to_owned),
            fault: criterion.fault.clone(),
            group: criterion.group.clone(),
            stream: criterion.stream.clone(),
            qos: criterion.qos,
            outcome: *outcome,
            found: match found {
                Found::Figure(figure) => Some(in_unit(*figure)),
                Found::Unbounded | Found::Nothing => None,
            },
            unbounded: *found == Found::Unbounded,
            samples: *samples,
            message: judgement.to_string(),
        }
    }

    /// Its name: the threshold, and where it is looked at.
    pub fn name(&self) -> String {
        format!("{} {}", self.expect, self.place()).trim_end().to_owned()
    }

    /// `in phase steady, group taxi`; empty where it looks at everything.
    pub fn place(&self) -> String {
        let names = [&self.phase, &self.fault, &self.group, &self.stream];
        threshold::place(names.map(Option::as_deref), self.qos)
    }

    /// What was found, in words.
    pub fn shown(&self) -> &str {
        self.message.rsplit_once(", found ").map_or("", |(_, found)| found)
    }
}
