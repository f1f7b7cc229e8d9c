//! Running, paused, draining, ended: what everything that is told of a run depends on.

use fleet_contract::{plan::Plan, time::Micros};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Stage {
    /// Devices come, publish and are scaled.
    Running,
    /// Devices hold their messages back, with their sessions up.
    Paused,
    /// Nothing is offered any more; messages settle and devices leave.
    Draining,
    /// All is over.
    Ended,
}

impl Stage {
    /// That of a run at `at` that nobody has ended.
    pub fn under(plan: &Plan, at: Micros) -> Self {
        if plan.is_paused(at) { Self::Paused } else { Self::Running }
    }

    /// Whether the fleet still follows its plan, paused or not.
    pub const fn follows_plan(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}
