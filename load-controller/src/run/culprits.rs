//! Which worker is the cause of what makes a run invalid: a sum over all of them does not tell. One that runs on this machine alone
//! is not named.

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

/// A worker with fewer scheduling periods than this is not judged by its share of throttled ones: a minute of work, since the start
/// of a pod that has come in the place of another takes more of its CPU than all that follows.
const PERIODS_MIN: u64 = 600;

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
    /// Of these: by 100 ms or more. An earlier release has not recorded it: nobody knows then when a worker missed them, and none
    /// is blamed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
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
            missed: Some(generator.missed_ticks),
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
            missed: self.missed.zip(before.missed).map(|(now, before)| now.saturating_sub(before)),
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

/// For each rule that workers may have broken: who has most, and how much of it.
pub fn find(workers: &Workers, before: &Marks) -> BTreeMap<Rule, String> {
    let readings: Vec<_> = workers.readings().collect();
    let mut found = BTreeMap::new();
    let are_elsewhere = workers.members().any(|member| member.worker.node.is_some());
    if readings.len() < 2 && !are_elsewhere {
        return found;
    }
    let since = |ordinal: u32, reading: &WorkerStats| Mark::of(reading).since(before.get(&ordinal));
    let name = |ordinal: u32| {
        workers.member(ordinal).map_or_else(|| format!("worker {ordinal}"), |member| member.worker.name.clone())
    };
    let blame = |what: &str, of: &dyn Fn(u32, &WorkerStats) -> u64| {
        let counts = readings.iter().map(|(ordinal, reading)| (of(*ordinal, reading), *ordinal));
        let (all, worst) = counts.fold((0, (0, 0)), |(all, worst), one| (all + one.0, worst.max(one)));
        match (worst.0, name(worst.1)) {
            (0, _) => None,
            (most, name) if most == all => Some(format!("all {what} by {name}")),
            (most, name) => Some(format!("most {what} by {name}: {} of {}", words::count(most), words::count(all))),
        }
    };
    let overdue = blame("of it", &|ordinal, reading| since(ordinal, reading).overdue);
    let missed = blame("of the missed ticks", &|ordinal, reading| since(ordinal, reading).missed.unwrap_or_default());
    let late: Vec<_> = overdue.into_iter().chain(missed).collect();
    if !late.is_empty() {
        found.insert(Rule::ScheduleLag, late.join(", "));
    }
    let unjudged = blame("of it", &|ordinal, reading| since(ordinal, reading).unjudged);
    let missing = |reading: &WorkerStats| {
        let devices = reading.stats.devices;
        u64::from(devices.desired.saturating_sub(devices.connected))
    };
    let missing = blame("of it", &|_, reading| missing(reading));
    let failed = blame("of it", &|_, reading| reading.stats.devices.failed.into());
    let culprits = [
        (Rule::MostlyUnobserved, unjudged.clone()),
        (Rule::NothingObserved, unjudged),
        (Rule::DevicesMissing, missing.clone()),
        (Rule::RampUnfinished, missing),
        (Rule::DevicesFailed, failed),
    ];
    found.extend(culprits.into_iter().filter_map(|(rule, culprit)| Some((rule, culprit?))));
    let share = |ordinal: u32, reading: &WorkerStats| {
        let Mark { periods, throttled, .. } = since(ordinal, reading);
        if periods < PERIODS_MIN { 0.0 } else { throttled as f64 / periods as f64 }
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
    use fleet_contract::stats::Generator;

    use super::*;
    use crate::{
        api::calls::{Answer, Answered},
        run::workers::Worker,
    };

    /// Workers with such statistics, on another machine or on this one.
    fn workers_of(stats: Vec<Stats>, node: Option<&str>) -> Workers {
        let mut workers = Workers::default();
        let worker = |ordinal: u32| {
            let running = Worker::running(ordinal, format!("lab-{ordinal}"), None);
            Worker { node: node.map(Into::into), ..running }
        };
        let count = u32::try_from(stats.len()).unwrap();
        workers.meet((0..count).map(worker).collect());
        for (ordinal, stats) in (0..).zip(stats) {
            let reading = WorkerStats::new(Micros(1), 1, Micros(2), 1, stats);
            let answer = Answer::Reading(Ok(Box::new(reading)));
            workers.answered(Answered { ordinal, id: ordinal.to_string(), answer }).unwrap();
        }
        workers
    }

    fn workers(overdue: &[u64]) -> Workers {
        let generator = |overdue: &u64| Generator { overdue: *overdue, ..Generator::default() };
        let stats = overdue.iter().map(|overdue| Stats { generator: generator(overdue), ..Stats::default() });
        workers_of(stats.collect(), None)
    }

    #[test]
    fn the_worst_of_several_is_named_with_its_part_and_what_was_before_does_not_count() {
        let late = |overdue: &[u64], before: &[u64]| {
            find(&workers(overdue), &marks(&workers(before))).get(&Rule::ScheduleLag).cloned()
        };
        assert_eq!(late(&[3, 90, 7], &[]).unwrap(), "most of it by lab-1: 90 of 100");
        assert_eq!(late(&[3, 90, 7], &[0, 90, 1]).unwrap(), "most of it by lab-2: 6 of 9");
        assert_eq!(late(&[0, 5], &[]).unwrap(), "all of it by lab-1");
        assert_eq!((late(&[5], &[]), late(&[0, 0], &[])), (None, None));
    }

    #[test]
    fn one_alone_is_named_where_it_is_a_pod() {
        let alone = || Stats { generator: Generator { overdue: 5, ..Generator::default() }, ..Stats::default() };
        let named = |node| find(&workers_of(vec![alone()], node), &Marks::new()).get(&Rule::ScheduleLag).cloned();
        assert_eq!((named(Some("node-1")).as_deref(), named(None)), (Some("all of it by lab-0"), None));
    }

    #[test]
    fn who_missed_ticks_may_be_another_than_who_was_late() {
        let of = |overdue, missed_ticks| {
            let generator = Generator { overdue, missed_ticks, ..Generator::default() };
            Stats { generator, ..Stats::default() }
        };
        let found = find(&workers_of(vec![of(90, 1), of(10, 3)], None), &Marks::new());
        let expected = "most of it by lab-0: 90 of 100, most of the missed ticks by lab-1: 3 of 4";
        assert_eq!(found[&Rule::ScheduleLag], expected);
    }

    #[test]
    fn nobody_is_blamed_for_missed_ticks_that_were_not_recorded_before_the_run() {
        let of = |overdue, missed_ticks| {
            let generator = Generator { overdue, missed_ticks, ..Generator::default() };
            Stats { generator, ..Stats::default() }
        };
        let mut kept = serde_json::to_value(marks(&workers_of(vec![of(90, 1), of(10, 3)], None))).unwrap();
        for mark in kept.as_object_mut().unwrap().values_mut() {
            // As an earlier release has written it.
            assert!(mark.as_object_mut().unwrap().remove("missed").is_some());
        }
        let kept: Marks = serde_json::from_value(kept).unwrap();
        let found = find(&workers_of(vec![of(95, 2), of(10, 9)], None), &kept);
        assert_eq!(found[&Rule::ScheduleLag], "all of it by lab-0");
        // Who has begun since has missed them since.
        let of_one = Marks::from([(0, kept[&0])]);
        let found = find(&workers_of(vec![of(95, 2), of(10, 9)], None), &of_one);
        assert_eq!(found[&Rule::ScheduleLag], "most of it by lab-1: 10 of 15, all of the missed ticks by lab-1");
    }

    #[test]
    fn who_cannot_run_devices_is_named() {
        let of = |failed| {
            let mut stats = Stats::default();
            stats.devices.failed = failed;
            stats
        };
        let found = find(&workers_of(vec![of(2), of(0), of(6)], None), &Marks::new());
        assert_eq!(found[&Rule::DevicesFailed], "most of it by lab-2: 6 of 8");
    }

    #[test]
    fn a_throttled_worker_of_many_is_named_once_it_has_worked_for_a_while() {
        let throttled = |periods, throttled: u64| {
            let of = |cpu_periods, cpu_periods_throttled| {
                let generator = Generator { cpu_periods, cpu_periods_throttled, ..Generator::default() };
                Stats { generator, ..Stats::default() }
            };
            let all = (0..100).map(|worker| if worker == 7 { of(periods, throttled) } else { of(1_000, 0) });
            find(&workers_of(all.collect(), None), &Marks::new()).get(&Rule::CpuThrottled).cloned()
        };
        assert_eq!(throttled(1_000, 300).unwrap(), "the most by lab-7, in 30.0 %");
        assert_eq!((throttled(1_000, 50), throttled(500, 400)), (None, None));
    }
}
