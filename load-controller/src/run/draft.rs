//! What the report of a run is made of, apart from the run: adding up what a thousand workers have measured takes a second, and is
//! done on a thread of its own while whoever drives the run goes on.

use fleet_contract::stats::{Measured, Stats};

use super::{Before, facts::RunFacts, part};

/// What a report is made of. Times of streams are shared with the workers' totals; all else is copied, and is little.
#[derive(Debug)]
pub struct Draft {
    pub(super) measured: Measured,
    pub(super) facts: RunFacts,
    pub(super) before: Option<Box<Before>>,
    pub(super) devices_wanted: Option<u32>,
}

impl Draft {
    /// What was measured and what else was known when the draft was taken.
    pub fn add_up(self) -> (Stats, RunFacts) {
        let Self { measured, facts, before, devices_wanted } = self;
        (part(measured.add_up(), &facts, before.as_deref(), devices_wanted), facts)
    }
}
