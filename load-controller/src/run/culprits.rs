//! Which worker is the cause of what makes a run invalid: a sum over all of them does not tell.

use std::collections::BTreeMap;

use fleet_contract::{
    stats::{Stats, WorkerStats},
    time::Micros,
};
use serde::{Deserialize, Serialize};

use super::{
    verdict::{Rule, THROTTLED_SHARE_MAX},
    workers::Workers,
};
use crate::words;

/// What is held against each worker, by its ordinal.
pub type Marks = BTreeMap<u32, Mark>;

/// What is held against a worker.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Its process; another one begins anew.
    epoch: Micros,
    /// Messages that it handed over too late.
    overdue: u64,
    /// Scheduling periods, and those with throttling.
    periods: u64,
    throttled: u64,
    /// Messages of which nobody knows whether they arrived.
    unjudged: u64,
}

impl Mark {
    fn of(reading: &WorkerStats) -> Self {
        let Stats { generator, .. } = &reading.stats;
        let all = reading.stats.all_messages();
        Self {
            epoch: reading.epoch,
            overdue: generator.overdue,
            periods: generator.cpu_periods,
            throttled: generator.cpu_periods_throttled,
            unjudged: all.unobserved + all.unknown,
        }
    }

    /// What has come since `before`.
    fn since(self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.epoch == self.epoch) else { return self };
        Self {
            overdue: self.overdue.saturating_sub(before.overdue),
            periods: self.periods.saturating_sub(before.periods),
            throttled: self.throttled.saturating_sub(before.throttled),
            unjudged: self.unjudged.saturating_sub(before.unjudged),
            ..self
        }
    }
}

/// What is held against the workers by now.
pub fn marks(workers: &Workers) -> Marks {
    workers.readings().map(|(ordinal, reading)| (ordinal, Mark::of(reading))).collect()
}

/// For each rule that one of several workers has broken most: who, and how much of it.
pub fn find(workers: &Workers, before: &Marks) -> BTreeMap<Rule, String> {
    let readings: Vec<_> = workers.readings().collect();
    let mut found = BTreeMap::new();
    if readings.len() < 2 {
        return found;
    }
    let since = |ordinal: u32, reading: &WorkerStats| Mark::of(reading).since(before.get(&ordinal));
    let name = |ordinal: u32| {
        workers.member(ordinal).map_or_else(|| format!("worker {ordinal}"), |member| member.worker.name.clone())
    };
    let mut blame = |rule: Rule, of: &dyn Fn(u32, &WorkerStats) -> u64| {
        let counts = readings.iter().map(|(ordinal, reading)| (of(*ordinal, reading), *ordinal));
        let (all, worst) = counts.fold((0, (0, 0)), |(all, worst), one| (all + one.0, worst.max(one)));
        if worst.0 > 0 {
            let (most, all) = (words::count(worst.0), words::count(all));
            found.insert(rule, format!("most of it by {}: {most} of {all}", name(worst.1)));
        }
    };
    blame(Rule::ScheduleLag, &|ordinal, reading| since(ordinal, reading).overdue);
    blame(Rule::MostlyUnobserved, &|ordinal, reading| since(ordinal, reading).unjudged);
    blame(Rule::NothingObserved, &|ordinal, reading| since(ordinal, reading).unjudged);
    let missing = |reading: &WorkerStats| {
        let devices = reading.stats.devices;
        u64::from(devices.desired.saturating_sub(devices.connected))
    };
    blame(Rule::DevicesMissing, &|_, reading| missing(reading));
    blame(Rule::RampUnfinished, &|_, reading| missing(reading));
    let share = |ordinal: u32, reading: &WorkerStats| {
        let Mark { periods, throttled, .. } = since(ordinal, reading);
        if periods == 0 { 0.0 } else { throttled as f64 / periods as f64 }
    };
    let shares = readings.iter().map(|(ordinal, reading)| (share(*ordinal, reading), *ordinal));
    if let Some((share, worst)) = shares.max_by(|one, other| one.0.total_cmp(&other.0))
        && share > THROTTLED_SHARE_MAX
    {
        found.insert(Rule::CpuThrottled, format!("the most by {}, in {}", name(worst), words::share(share)));
    }
    let offset = |reading: &WorkerStats| reading.stats.generator.clock_offset_micros.unsigned_abs();
    if let Some((worst, _)) = readings.iter().max_by_key(|(_, reading)| offset(reading)) {
        found.insert(Rule::ClockStepped, format!("that of {}", name(*worst)));
    }
    found
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::{
        api::calls::{Answer, Answered},
        run::workers::Worker,
    };

    fn workers(overdue: &[u64]) -> Workers {
        let mut workers = Workers::default();
        let ordinals = || (0..).zip(overdue);
        let worker = |ordinal: u32| Worker::running(ordinal, format!("lab-{ordinal}"), None);
        workers.meet(ordinals().map(|(ordinal, _)| worker(ordinal)).collect());
        for (ordinal, overdue) in ordinals() {
            let mut stats = Stats::default();
            stats.generator.overdue = *overdue;
            let reading = WorkerStats::new(Micros(1), 1, Micros(2), 1, stats);
            let answer = Answer::Reading(Ok(Box::new(reading)));
            workers.answered(Answered { ordinal, id: ordinal.to_string(), answer }).unwrap();
        }
        workers
    }

    #[test]
    fn the_worst_of_several_is_named_with_its_part_and_what_was_before_does_not_count() {
        let late = |overdue: &[u64], before: &[u64]| {
            find(&workers(overdue), &marks(&workers(before))).get(&Rule::ScheduleLag).cloned()
        };
        assert_eq!(late(&[3, 90, 7], &[]).unwrap(), "most of it by lab-1: 90 of 100");
        assert_eq!(late(&[3, 90, 7], &[0, 90, 1]).unwrap(), "most of it by lab-2: 6 of 9");
        assert_eq!((late(&[5], &[]), late(&[0, 0], &[])), (None, None));
    }
}
