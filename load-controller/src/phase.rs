//! Running, draining, ended: what everything that is told of a run depends on.

use serde::{Deserialize, Serialize};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Devices come, publish and are scaled.
    Running,
    /// Nothing is offered any more; messages settle and devices leave.
    Draining,
    /// All is over.
    Ended,
}
