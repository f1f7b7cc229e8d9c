//! What became of the devices that lost their sessions by a fault, fault by fault.

use std::collections::BTreeMap;

use fleet_contract::{
    stats::{Change, Faults, Sessions},
    time::Micros,
};
use serde::{Deserialize, Serialize};

use super::{
    outages::{BackSeconds, Outages, more},
    returns::Returns,
};

/// The recoveries of a run, by the number of the fault; of as many faults as statistics tell of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recoveries(BTreeMap<u32, Recovery>);

/// What became of the devices that lost their sessions by one fault.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recovery {
    /// What readings may still add to, by instant.
    recent: BTreeMap<u64, Change>,
    /// The first instant that is not in `returns`.
    walked_until: u64,
    returns: Returns,
}

/// A recovery as it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recovered {
    /// Sessions that were lost, of devices that are still wanted; one that a device lost again counts again.
    pub lost: u64,
    /// Of these: those that are back.
    pub back: u64,
    /// When shares of them were back.
    pub seconds: BackSeconds,
}

impl Recoveries {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes what faults have done by `at`.
    pub(super) fn push(&mut self, at: Micros, faults: &Faults) {
        for (number, fault) in faults.iter() {
            self.0.entry(number).or_default().push(at, &fault.sessions);
        }
        while self.0.len() > Faults::KEPT {
            self.0.pop_first();
        }
    }

    /// What became of those that lost their sessions by a fault; times count from `since`.
    pub fn of(&self, number: u32, since: Micros) -> Recovered {
        self.0.get(&number).map(|recovery| recovery.at(since)).unwrap_or_default()
    }
}

impl Recovery {
    fn push(&mut self, at: Micros, sessions: &Sessions) {
        for (instant, change) in sessions.changes.range(self.walked_until..) {
            more(self.recent.entry(*instant).or_default(), *change);
        }
        let until = Sessions::instant(at).saturating_sub(Outages::OPEN);
        while let Some(first) = self.recent.first_entry()
            && *first.key() < until
        {
            let (instant, change) = first.remove_entry();
            self.returns.take(instant, change);
            self.walked_until = instant + 1;
        }
    }

    fn at(&self, since: Micros) -> Recovered {
        let mut returns = self.returns.clone();
        self.recent.iter().for_each(|(instant, change)| returns.take(*instant, *change));
        let after = |instant: u64| Micros(instant * Sessions::INSTANT.0).since(since).as_secs_f64();
        Recovered {
            lost: returns.lost(),
            back: returns.back(),
            seconds: BackSeconds::of(|percent| returns.back_at(percent).map(after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Micros {
        Micros(1_700_000_000_000_000 + millis * 1_000)
    }

    #[test]
    fn each_fault_has_a_recovery_of_its_own_however_late_it_is_read() {
        for pause in [500_usize, 12_000] {
            let (mut recoveries, mut faults) = (Recoveries::new(), Faults::default());
            for (number, begins) in [(1, 1_000), (2, 3_000)] {
                let sessions = &mut faults.of(number).sessions;
                (0..10).for_each(|_| sessions.lost(at(begins)));
                (1..=10).for_each(|device| sessions.back(at(begins + u64::from(number) * device * 200)));
            }
            faults.of(2).sessions.lost(at(9_000));
            (0..60_000_u64).step_by(pause).skip(1).for_each(|now| recoveries.push(at(now), &faults));
            let first = recoveries.of(1, at(1_000));
            assert_eq!((first.lost, first.back), (10, 10));
            let seconds = BackSeconds { p50: Some(1.0), p90: Some(1.8), p95: Some(2.0), p100: Some(2.0) };
            assert_eq!(first.seconds, seconds);
            let second = recoveries.of(2, at(3_500));
            assert_eq!((second.lost, second.back, second.seconds.p50), (11, 10, Some(1.9)));
            assert_eq!(second.seconds.p100, None);
        }
        assert_eq!(Recoveries::new().of(7, at(0)), Recovered::default());
    }

    #[test]
    fn a_device_that_is_back_before_the_fault_lets_go_took_no_time() {
        let (mut recoveries, mut faults) = (Recoveries::new(), Faults::default());
        faults.of(1).sessions.lost(at(1_000));
        faults.of(1).sessions.back(at(1_200));
        recoveries.push(at(2_000), &faults);
        assert_eq!(recoveries.of(1, at(5_000)).seconds.p100, Some(0.0));
    }
}
