//! The phases of a plan, as a worker asks for them.

use std::{ops::Range, sync::Arc};

use fleet_contract::time::Micros;

/// The number of a phase; `None` before the first one, and where a plan names none.
pub(super) type Phase = Option<u32>;

/// When each phase begins that somebody still has to measure, and its number; the earliest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Phases(Arc<[(Micros, u32)]>);

impl FromIterator<(Micros, u32)> for Phases {
    fn from_iter<T: IntoIterator<Item = (Micros, u32)>>(phases: T) -> Self {
        Self(phases.into_iter().collect())
    }
}

impl Phases {
    /// The phase of what falls due at `due`, and the microseconds of which it is the phase, too.
    pub(super) fn at(&self, due: Micros) -> (Phase, Range<u64>) {
        let begun = self.0.partition_point(|(begin, _)| *begin <= due);
        let end = self.0.get(begun).map_or(u64::MAX, |(begin, _)| begin.0);
        match begun.checked_sub(1).map(|last| self.0[last]) {
            Some((begin, number)) => (Some(number), begin.0..end),
            None => (None, 0..end),
        }
    }

    /// The number of `phase`, if it is one of these.
    pub(super) fn number(&self, phase: Phase) -> Option<u32> {
        phase.filter(|number| self.numbers().any(|(_, known)| known == *number))
    }

    /// Their beginnings and numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (Micros, u32)> + '_ {
        self.0.iter().copied()
    }
}
