//! The plan: a start instant and a timeline of changes, from which every worker derives the same timetable.
//!
//! What changes live (devices, intervals, pause) travels only here; what a device *is* stands in the document.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    fleet::FleetSpec,
    time::Micros,
    units::{Rate, Span},
};

/// What the devices of a run do, and when.
///
/// A worker runs the plan with the highest version that it has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// Grows by one with each change.
    pub version: u64,
    /// Tells the messages of this run from those of any other.
    pub run: u32,
    /// The instant that all timetables count from.
    pub start: Micros,
    /// How far the run's clock is ahead of the wall clock, in microseconds: not 0 where a run plays another date. It never
    /// changes within a run.
    #[serde(default, skip_serializing_if = "is_now")]
    pub ahead: i64,
    changes: Vec<Change>,
}

/// A setting, from an instant on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    at: Micros,
    set: Setting,
}

/// What a plan can change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Setting {
    /// The number of devices of the fleet.
    Devices(u32),
    /// Whether the devices hold their messages back, with their sessions up.
    Paused(bool),
    /// The interval of the periodic streams of this name, or of all of them.
    Interval {
        /// The stream; `None` means each periodic stream.
        stream: Option<String>,
        /// The new interval, more than zero; `None` goes back to the document's.
        interval: Option<Span>,
    },
}

/// When a device is meant to connect, and when to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It belongs to the fleet and connects at this instant.
    From(Micros),
    /// It does not belong to the fleet (any more), and leaves at this instant at the latest.
    Until(Micros),
}

impl Plan {
    /// A plan of `devices` devices from `start` on.
    pub fn new(run: u32, start: Micros, devices: u32) -> Self {
        Self { version: 1, run, start, ahead: 0, changes: vec![Change { at: start, set: Setting::Devices(devices) }] }
    }

    /// The plan of a fleet from `start` on.
    pub fn of(run: u32, start: Micros, spec: &FleetSpec) -> Self {
        let mut plan = Self::new(run, start, spec.devices);
        plan.follow(start, spec);
        plan
    }

    /// The same for a clock that is so many microseconds ahead of the wall clock.
    #[must_use]
    pub fn ahead_by(self, micros: i64) -> Self {
        Self { ahead: micros, ..self }
    }

    /// Adds what is needed so that from `at` on the live numbers are those of `spec`; whether anything was.
    pub fn follow(&mut self, at: Micros, spec: &FleetSpec) -> bool {
        let before = self.version;
        if self.devices_wanted() != spec.devices {
            self.set(at, Setting::Devices(spec.devices));
        }
        if self.is_paused(Micros::NEVER) != spec.paused {
            self.set(at, Setting::Paused(spec.paused));
        }
        self.follow_intervals(at, &spec.intervals);
        self.version > before
    }

    fn follow_intervals(&mut self, at: Micros, wanted: &BTreeMap<String, Span>) {
        let all = wanted.get(FleetSpec::ALL_STREAMS).copied();
        if self.intervals_set().0 != all {
            // It forgets those of single streams, which follow again below.
            self.set(at, Setting::Interval { stream: None, interval: all });
        }
        let (_, set) = self.intervals_set();
        let names: BTreeSet<&String> = set.keys().chain(wanted.keys()).collect();
        for name in names.into_iter().filter(|name| *name != FleetSpec::ALL_STREAMS) {
            let interval = wanted.get(name).copied().or(all);
            if set.get(name).copied().unwrap_or(all) != interval {
                self.set(at, Setting::Interval { stream: Some(name.clone()), interval });
            }
        }
    }

    /// The intervals that hold in the end: that of each periodic stream, and those of single ones.
    fn intervals_set(&self) -> (Option<Span>, BTreeMap<String, Option<Span>>) {
        let (mut all, mut single) = (None, BTreeMap::new());
        for change in &self.changes {
            match &change.set {
                Setting::Interval { stream: None, interval } => {
                    all = *interval;
                    single.clear();
                }
                Setting::Interval { stream: Some(name), interval } => drop(single.insert(name.clone(), *interval)),
                Setting::Devices(_) | Setting::Paused(_) => {}
            }
        }
        (all, single)
    }

    /// Adds a setting from `at` on; an instant before the last change counts as that change's.
    ///
    /// What the change makes needless is forgotten, so that a plan does not grow with its age.
    pub fn set(&mut self, at: Micros, set: Setting) {
        let at = self.changes.last().map_or(at, |last| last.at.max(at));
        self.version += 1;
        self.changes.push(Change { at, set });
        self.forget();
    }

    /// Keeps the two newest numbers of devices (a growth needs to know from where) and the newest of all else.
    fn forget(&mut self) {
        let all = std::mem::take(&mut self.changes);
        let superseded = |index: usize| {
            let newer = all[index + 1..].iter().filter(|later| later.set.replaces(&all[index].set)).count();
            newer >= if matches!(all[index].set, Setting::Devices(_)) { 2 } else { 1 }
        };
        self.changes = (0..all.len()).filter(|index| !superseded(*index)).map(|index| all[index].clone()).collect();
    }

    /// How many devices the fleet has at `at`.
    pub fn devices(&self, at: Micros) -> u32 {
        self.device_steps().take_while(|(from, _)| *from <= at).last().map_or(0, |(_, devices)| devices)
    }

    /// How many devices the fleet has when all changes have taken effect.
    pub fn devices_wanted(&self) -> u32 {
        self.devices(Micros::NEVER)
    }

    /// The most devices that this plan has at any time.
    pub fn devices_max(&self) -> u32 {
        self.device_steps().map(|(_, devices)| devices).max().unwrap_or(0)
    }

    /// Whether the fleet is paused at `at`.
    pub fn is_paused(&self, at: Micros) -> bool {
        self.changes
            .iter()
            .take_while(|change| change.at <= at)
            .filter_map(|change| if let Setting::Paused(paused) = change.set { Some(paused) } else { None })
            .fold(None, |_, paused| Some(paused))
            .unwrap_or(false)
    }

    /// Interval and anchor of a periodic stream: what the plan says last, or `document` from the start on.
    pub fn interval(&self, stream: &str, document: Span) -> (Micros, Span) {
        self.changes
            .iter()
            .filter_map(|change| match &change.set {
                Setting::Interval { stream: name, interval } if name.as_deref().is_none_or(|name| name == stream) => {
                    Some((change.at, interval.unwrap_or(document)))
                }
                _ => None,
            })
            .next_back()
            .unwrap_or((self.start, document))
    }

    /// When device `index` comes or goes, if devices connect at `rate`.
    ///
    /// Device i of a growth from A to B at T comes at T + (i - A) / rate, and of a shrinkage it leaves at
    /// T + (A - 1 - i) / rate: the last one first. So whoever runs it, it comes at the same instant.
    pub fn presence(&self, index: u32, rate: Rate) -> Presence {
        let mut before = 0;
        let mut presence = Presence::Until(self.start);
        for (at, devices) in self.device_steps() {
            if before <= index && index < devices {
                presence = Presence::From(at.after(rate.time_for(u64::from(index - before))));
            } else if devices <= index && index < before {
                presence = Presence::Until(at.after(rate.time_for(u64::from(before - 1 - index))));
            }
            before = devices;
        }
        presence
    }

    fn device_steps(&self) -> impl Iterator<Item = (Micros, u32)> + '_ {
        self.changes.iter().filter_map(|change| {
            if let Setting::Devices(devices) = change.set { Some((change.at, devices)) } else { None }
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_now(ahead: &i64) -> bool {
    *ahead == 0
}

impl Setting {
    /// Whether this setting, coming later, leaves nothing of `other`.
    fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Devices(_), Self::Devices(_))
            | (Self::Paused(_), Self::Paused(_))
            | (Self::Interval { stream: None, .. }, Self::Interval { .. }) => true,
            (Self::Interval { stream: later, .. }, Self::Interval { stream: earlier, .. }) => later == earlier,
            _ => false,
        }
    }
}

/// The contiguous range of device indices that a worker runs: `first` to `first + devices - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shard {
    /// The first index.
    pub first: u32,
    /// How many indices, whether there are devices for them (yet) or not.
    pub devices: u32,
}

impl Shard {
    /// Shard number `ordinal` of those of `size` indices each.
    pub const fn of(ordinal: u32, size: u32) -> Self {
        Self { first: ordinal.saturating_mul(size), devices: size }
    }

    /// One past the last index.
    pub const fn end(self) -> u32 {
        self.first.saturating_add(self.devices)
    }

    /// Whether `index` belongs to the shard.
    pub const fn contains(self, index: u32) -> bool {
        self.first <= index && index < self.end()
    }

    /// How many devices of a fleet of `devices` fall into the shard.
    pub fn share_of(self, devices: u32) -> u32 {
        devices.clamp(self.first, self.end()) - self.first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Micros = Micros(1_000_000);

    fn at(seconds: u64) -> Micros {
        START.after(Span::from_secs(seconds))
    }

    #[test]
    fn a_growth_connects_its_devices_at_the_rate() {
        let rate = Rate::per_second(10.0).unwrap();
        let mut plan = Plan::new(1, START, 100);
        plan.set(at(60), Setting::Devices(120));
        assert_eq!(plan.presence(5, rate), Presence::From(START.after(Span::from_millis(500))));
        assert_eq!(plan.presence(105, rate), Presence::From(at(60).after(Span::from_millis(500))));
        assert_eq!((plan.devices(at(59)), plan.devices(at(60))), (100, 120));
    }

    #[test]
    fn a_shrinkage_takes_the_tail_and_the_last_device_first() {
        let rate = Rate::per_second(10.0).unwrap();
        let mut plan = Plan::new(1, START, 100);
        plan.set(at(60), Setting::Devices(50));
        assert_eq!(plan.presence(49, rate), Presence::From(START.after(Span::from_millis(4_900))));
        assert_eq!(plan.presence(99, rate), Presence::Until(at(60)));
        assert_eq!(plan.presence(50, rate), Presence::Until(at(60).after(Span::from_millis(4_900))));
    }

    #[test]
    fn an_interval_of_all_streams_replaces_those_of_single_ones() {
        let mut plan = Plan::new(1, START, 1);
        let second = Span::from_secs(1);
        plan.set(at(1), Setting::Interval { stream: Some("state".into()), interval: Some(Span::from_millis(500)) });
        assert_eq!(plan.interval("state", second), (at(1), Span::from_millis(500)));
        assert_eq!(plan.interval("event", second), (START, second));
        plan.set(at(2), Setting::Interval { stream: None, interval: Some(Span::from_millis(200)) });
        assert_eq!(plan.interval("state", second), (at(2), Span::from_millis(200)));
        assert_eq!(plan.changes.len(), 2);
    }

    fn spec(live: &str) -> FleetSpec {
        serde_json::from_str(&format!(r#"{{"groups": [], {live}}}"#)).unwrap()
    }

    #[test]
    fn a_plan_follows_the_live_numbers_of_a_document() {
        let mut plan = Plan::of(1, START, &spec(r#""devices": 7, "intervals": {"state": "2s"}"#));
        let second = Span::from_secs(1);
        assert_eq!((plan.devices(START), plan.interval("state", second).1), (7, Span::from_secs(2)));
        assert!(!plan.clone().follow(at(1), &spec(r#""devices": 7, "intervals": {"state": "2s"}"#)));
        let changed = spec(r#""devices": 9, "paused": true, "intervals": {"*": "3s", "event": "4s"}"#);
        assert!(plan.follow(at(1), &changed) && !plan.follow(at(2), &changed));
        assert_eq!((plan.devices(at(1)), plan.is_paused(at(1)), plan.is_paused(START)), (9, true, false));
        assert_eq!(["state", "event"].map(|name| plan.interval(name, second).1), [3, 4].map(Span::from_secs));
        assert!(plan.follow(at(3), &spec(r#""devices": 9, "intervals": {"*": "3s"}"#)));
        assert_eq!((plan.interval("event", second).1, plan.is_paused(at(3))), (Span::from_secs(3), false));
        assert!(plan.follow(at(4), &spec(r#""devices": 9"#)));
        assert_eq!(["state", "event"].map(|name| plan.interval(name, second).1), [second; 2]);
    }

    #[test]
    fn a_pause_holds_until_it_is_lifted() {
        let mut plan = Plan::new(1, START, 1);
        plan.set(at(5), Setting::Paused(true));
        assert!(!plan.is_paused(at(4)) && plan.is_paused(at(5)));
        plan.set(at(9), Setting::Paused(false));
        assert!(!plan.is_paused(at(9)));
    }

    #[test]
    fn a_shard_knows_its_share_of_any_fleet() {
        let shard = Shard::of(2, 100);
        assert_eq!([0, 150, 200, 250, 300, 999].map(|devices| shard.share_of(devices)), [0, 0, 0, 50, 100, 100]);
        assert!(shard.contains(200) && shard.contains(299) && !shard.contains(300));
    }

    proptest! {
        #[test]
        fn scaling_touches_only_the_devices_that_come_or_go(
            steps in prop::collection::vec(0_u32..200, 1..12), index in 0_u32..200
        ) {
            let rate = Rate::per_second(50.0).unwrap();
            let mut plan = Plan::new(1, START, steps[0]);
            for (number, pair) in steps.windows(2).enumerate() {
                let before = plan.presence(index, rate);
                plan.set(at(60 * (number as u64 + 1)), Setting::Devices(pair[1]));
                let touched = (pair[0] <= index) != (pair[1] <= index);
                let is_member = matches!(plan.presence(index, rate), Presence::From(_));
                prop_assert_eq!(is_member, index < pair[1]);
                if !touched && is_member && number == 0 {
                    prop_assert_eq!(plan.presence(index, rate), before);
                }
            }
            prop_assert!(plan.changes.len() <= 2);
        }
    }
}
