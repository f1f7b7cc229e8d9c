//! Pods end without a warning, by whoever drives the run.

use fleet_contract::fault::{KillPods, Pods};

use super::Kind;

impl Kind for KillPods {
    fn is_act(&self) -> bool {
        true
    }

    fn ends_workers(&self) -> bool {
        self.pods == Pods::Workers
    }
}
