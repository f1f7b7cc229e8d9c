//! Phases that are over, and all that was measured, added up apart from the totals: of a thousand workers with many streams that
//! takes more than a second, in which readings go on.

use std::collections::BTreeMap;

use super::{PhaseStats, Stats, times::Times};
use crate::time::Micros;

/// What each worker has told of phases that are over. Times are shared with the totals, not copied.
#[derive(Debug)]
pub struct PhasesOver {
    /// The phases are those below this number.
    pub(super) below: u32,
    /// Those below this one were kept already.
    pub(super) kept: u32,
    /// The epochs of the workers, by ordinal.
    pub(super) epochs: BTreeMap<u32, Micros>,
    /// Counters and times of each.
    pub(super) told: Vec<(BTreeMap<u32, PhaseStats>, Times)>,
}

/// Their sum.
#[derive(Debug)]
pub struct PhasesSum {
    pub(super) below: u32,
    pub(super) kept: u32,
    pub(super) epochs: BTreeMap<u32, Micros>,
    pub(super) phases: BTreeMap<u32, PhaseStats>,
}

impl PhasesOver {
    /// Adds them up.
    pub fn add_up(self) -> PhasesSum {
        let Self { below, kept, epochs, told } = self;
        let mut sum = Stats::default();
        for (phases, mut times) in told {
            sum.add_phases(&phases);
            times.move_phases_to(&mut sum, below);
        }
        PhasesSum { below, kept, epochs, phases: sum.packed().phases }
    }
}

/// All that workers have measured: the sum of their counters, and the times of their streams, which are shared with the totals.
#[derive(Debug)]
pub struct Measured {
    pub(super) counters: Stats,
    pub(super) times: Vec<Times>,
}

impl Measured {
    /// Adds it up: what [`Totals::sum`](super::Totals::sum) was when it was taken.
    pub fn add_up(self) -> Stats {
        let Self { counters: mut sum, times } = self;
        sum.merge(&Times::sum(&times));
        sum
    }
}

impl PhasesSum {
    /// It has the phases below this number.
    pub const fn below(&self) -> u32 {
        self.below
    }
}
