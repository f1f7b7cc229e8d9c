//! A command of the author's runs, by whoever drives the run.

use fleet_contract::fault::Hook;

use super::Kind;

impl Kind for Hook {
    fn is_act(&self) -> bool {
        true
    }
}
