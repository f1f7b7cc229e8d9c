//! The plan: a start instant and a timeline of changes, past and future, from which every worker derives the same timetable.
//!
//! What changes live (devices, intervals, rates, pauses, faults) travels only here; what a device *is* stands in the
//! document. Each quantity is a function of time: [`Population`] says how many devices there are, [`Pace`] how fast a stream
//! goes. They are compiled once for each version of the plan.

mod pace;
mod population;
mod warp;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use pace::Pace;
pub use population::{Population, Stay};
use warp::{Ramp, Warp};

use crate::{
    fault::{self, Fault},
    fleet::FleetSpec,
    format::Format,
    time::Micros,
    units::{Factor, Rate, Share, Span},
};

/// What the devices of a run do, and when.
///
/// A worker runs the plan with the highest version that it has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// From which format on it is understood.
    #[serde(default, skip_serializing_if = "Format::is_first")]
    format: Format,
    /// Grows by one with each change.
    pub version: u64,
    /// Tells the messages of this run from those of any other.
    pub run: u32,
    /// The instant that all timetables count from.
    pub start: Micros,
    /// How far the run's clock is ahead of the wall clock, in microseconds: not 0 where a run plays another date. It never
    /// changes within a run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ahead: i64,
    /// How many faults there have been, for the next one to have a number of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    faults: u32,
    /// The earliest first.
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
    /// The number of devices of the fleet after some time, and a straight line from what it is to there.
    Ramp {
        /// The number in the end.
        to: u32,
        /// How long it takes.
        over: Span,
    },
    /// Whether the devices hold their messages back, with their sessions up.
    Paused(bool),
    /// The interval of the periodic streams of this name, or of all of them.
    Interval {
        /// The stream; `None` means each periodic stream.
        stream: Option<String>,
        /// The new interval, more than zero; `None` goes back to the document's.
        interval: Option<Span>,
    },
    /// How much faster periodic streams go than their intervals say. What names a stream goes before what names a group, and
    /// that before what names neither.
    Rate {
        /// The group; `None` means each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// The stream; `None` means each periodic stream.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
        /// The factor in the end; `None` leaves it to what is less specific, or to the intervals themselves.
        factor: Option<Factor>,
        /// How long it takes from what it is to there, in a straight line.
        over: Span,
    },
    /// At this instant connections are closed without a word; other faults are a matter of [`Setting::Fault`].
    Disconnect {
        /// How many of the devices are hit.
        share: Share,
        /// Which fault of the run it is: with the seed it decides whom it hits, whoever runs them.
        number: u32,
    },
    /// From this instant on something goes wrong with some of the devices.
    Fault {
        /// Which fault of the run it is.
        number: u32,
        /// How long it lasts; no time if it is over as soon as it has begun.
        #[serde(default, skip_serializing_if = "is_zero")]
        lasts: Span,
        /// What goes wrong, and with whom.
        fault: Fault,
    },
    /// What falls due belongs to the phase of this number, which grows with each phase of the run.
    Phase(u32),
}

impl Setting {
    /// The format that brought it.
    const fn format(&self) -> Format {
        match self {
            Self::Devices(_) | Self::Paused(_) | Self::Interval { .. } => Format::FIRST,
            Self::Ramp { .. } | Self::Rate { .. } | Self::Disconnect { .. } | Self::Phase(_) => Format::SECOND,
            Self::Fault { .. } => Format::THIRD,
        }
    }
}

/// A fault at its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// When it begins.
    pub at: Micros,
    /// When it ends: `at` if it is over as soon as it has begun.
    pub until: Micros,
    /// Which fault of the run it is: with the seed it decides whom it hits, whoever runs them.
    pub number: u32,
    /// What goes wrong, and with whom.
    pub fault: Fault,
}

/// The fields of a fleet's specification that change while it runs and travel in the plan alone; see [`Plan::follow`].
pub const LIVE: [&str; 3] = ["devices", "paused", "intervals"];

/// How long something must have been over before it is forgotten: whoever is late may still have to know of it.
const FORGOTTEN_AFTER: Span = Span::from_secs(60);

impl Plan {
    /// A plan of `devices` devices from `start` on.
    pub fn new(run: u32, start: Micros, devices: u32) -> Self {
        Self {
            format: Format::FIRST,
            version: 1,
            run,
            start,
            ahead: 0,
            faults: 0,
            changes: vec![Change { at: start, set: Setting::Devices(devices) }],
        }
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
        let mut ahead = Self { ahead: micros, ..self };
        ahead.format = ahead.format_lowest();
        ahead
    }

    /// The lowest format that can express what the plan holds. Release 0.1 knows neither another date nor a number of faults.
    fn format_lowest(&self) -> Format {
        let alone = if self.ahead == 0 && self.faults == 0 { Format::FIRST } else { Format::SECOND };
        self.changes.iter().map(|change| change.set.format()).fold(alone, Format::max)
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
        let is_any = self.version > before;
        if is_any {
            self.forget(at, spec.connect.rate);
        }
        is_any
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
                _ => {}
            }
        }
        (all, single)
    }

    /// Adds a setting from `at` on, from the start on at the soonest, behind those of the same instant.
    pub fn set(&mut self, at: Micros, set: Setting) {
        self.version += 1;
        self.format = self.format.max(set.format());
        let at = at.max(self.start);
        let place = self.changes.partition_point(|change| change.at <= at);
        self.changes.insert(place, Change { at, set });
    }

    /// Forgets what is over and makes no difference any more, so that a plan does not grow with its age; `now` is the present, and
    /// no instant of a change that is to come: what lies before that has yet to happen.
    pub fn forget(&mut self, now: Micros, rate: Rate) {
        self.forget_before(now.before(FORGOTTEN_AFTER), rate);
    }

    /// Forgets what is over if the plan is of an older format then, which an older release can read; whether it is.
    pub fn go_back(&mut self, now: Micros, rate: Rate) -> bool {
        if self.format.is_first() {
            return false;
        }
        let mut forgetful = self.clone();
        forgetful.forget(now, rate);
        let goes_back = forgetful.format < self.format;
        if goes_back {
            *self = Self { version: self.version + 1, ..forgetful };
        }
        goes_back
    }

    /// Cuts the connections of a share of the devices at `at`.
    pub fn disconnect(&mut self, at: Micros, share: Share) {
        self.format = self.format.max(Format::SECOND);
        self.faults += 1;
        self.set(at, Setting::Disconnect { share, number: self.faults });
    }

    /// Adds a fault of a number of its own, from `at` on; it lasts so long.
    pub fn strike(&mut self, at: Micros, number: u32, fault: &Fault, lasts: Span) {
        let setting = match fault.as_cut() {
            Some(share) => Setting::Disconnect { share, number },
            None => Setting::Fault { number, lasts, fault: fault.clone() },
        };
        self.set(at, setting);
    }

    /// How many devices the phases before `number` leave behind.
    pub fn devices_before_phase(&self, number: u32) -> u32 {
        let mut before = self.clone();
        let is_its = |change: &Change| matches!(change.set, Setting::Phase(phase) if phase >= number);
        let end = self.changes.iter().position(is_its).unwrap_or(self.changes.len());
        before.changes.truncate(end);
        before.devices_wanted()
    }

    /// Takes back what was to be from `at` on; faults end then.
    pub fn take_back(&mut self, at: Micros) {
        self.version += 1;
        self.changes.retain(|change| change.at < at);
        for change in &mut self.changes {
            if let Setting::Fault { lasts, .. } = &mut change.set {
                *lasts = (*lasts).min(at.since(change.at));
            }
        }
        self.format = self.format_lowest();
    }

    /// The factor that was set for exactly these streams, at `at`; `None` where none was, or it was taken back.
    pub fn factor(&self, group: Option<&str>, stream: Option<&str>, at: Micros) -> Option<Factor> {
        let set = self.changes.iter().take_while(|change| change.at <= at).filter_map(|change| match &change.set {
            Setting::Rate { group: of, stream: named, factor, .. }
                if (of.as_deref(), named.as_deref()) == (group, stream) =>
            {
                Some(*factor)
            }
            _ => None,
        });
        set.last().flatten()
    }

    /// Changes the factors that are to be set for exactly these streams behind `after` and before `until`; where one is taken
    /// back, it stays so.
    pub fn change_factors(
        &mut self,
        (group, stream): (Option<&str>, Option<&str>),
        (after, until): (Micros, Micros),
        changed: impl Fn(Factor) -> Factor,
    ) {
        self.version += 1;
        for change in self.changes.iter_mut().filter(|change| after < change.at && change.at < until) {
            if let Setting::Rate { group: of, stream: named, factor: Some(factor), .. } = &mut change.set
                && (of.as_deref(), named.as_deref()) == (group, stream)
            {
                *factor = changed(*factor);
            }
        }
    }

    /// Lets the streams go by their intervals again from `at` on; whether any had a factor.
    ///
    /// The rates stay in the plan, for how far the timetables are depends on them. So a plan that ever had one is of format 2.
    pub fn reset_rates(&mut self, at: Micros) -> bool {
        let mut set = BTreeMap::new();
        for change in &self.changes {
            if let Setting::Rate { group, stream, factor, .. } = &change.set {
                set.insert((group.clone(), stream.clone()), *factor);
            }
        }
        set.retain(|_, factor| factor.is_some());
        let is_any = !set.is_empty();
        for (group, stream) in set.into_keys() {
            self.set(at, Setting::Rate { group, stream, factor: None, over: Span::ZERO });
        }
        is_any
    }

    /// When each phase begins that somebody still has to measure, the earliest first; what falls due before belongs to none.
    pub fn phases(&self) -> impl Iterator<Item = (Micros, u32)> + '_ {
        self.changes.iter().filter_map(|change| match change.set {
            Setting::Phase(number) => Some((change.at, number)),
            _ => None,
        })
    }

    /// Forgets the phases below `number`, because what was measured in them is kept; whether there were any.
    pub fn end_phases(&mut self, number: u32) -> bool {
        let is_over = |change: &Change| matches!(change.set, Setting::Phase(phase) if phase < number);
        let is_any = self.changes.iter().any(is_over);
        self.version += u64::from(is_any);
        self.changes.retain(|change| !is_over(change));
        self.format = self.format_lowest();
        is_any
    }

    /// Forgets what makes no difference to anything from `now` on.
    fn forget_before(&mut self, now: Micros, rate: Rate) {
        let (over, devices) = self.population(rate).settled(now);
        // Who has come by several changes may not be counted as if all had come from the start on, unless that is over, too.
        let comes_to_the_same = self.start.after(rate.time_for(devices.into())) <= now;
        if over > 1 && comes_to_the_same {
            let mut left = over;
            self.changes.retain(|change| {
                let is_over = left > 0 && change.set.devices().is_some();
                left -= usize::from(is_over);
                !is_over
            });
            self.changes.insert(0, Change { at: self.start, set: Setting::Devices(devices) });
        }
        let all = std::mem::take(&mut self.changes);
        let is_replaced = |index: usize| {
            let newer = all[index + 1..].iter().filter(|newer| newer.at <= now);
            newer.into_iter().any(|newer| newer.set.replaces(&all[index].set))
        };
        let is_kept = |index: &usize| {
            let change: &Change = &all[*index];
            let is_past_fault = change.strike().is_some_and(|strike| strike.until <= now);
            !is_past_fault && !is_replaced(*index)
        };
        self.changes = (0..all.len()).filter(is_kept).map(|index| all[index].clone()).collect();
        self.format = self.format_lowest();
    }

    /// How many devices there are at any time, and when each of them is, if devices connect at `rate`.
    pub fn population(&self, rate: Rate) -> Population {
        let devices = |change: &Change| {
            let (to, over) = change.set.devices()?;
            Some(population::Change { at: change.at, to, over })
        };
        Population::new(self.changes.iter().filter_map(devices), rate)
    }

    /// How many devices the fleet has at `at`.
    pub fn devices(&self, at: Micros) -> u32 {
        self.population(Rate::ONE).at(at)
    }

    /// How many devices the fleet has when all changes have taken effect.
    pub fn devices_wanted(&self) -> u32 {
        self.population(Rate::ONE).last()
    }

    /// The most devices that this plan has at any time from `from` on.
    pub fn devices_max(&self, from: Micros) -> u32 {
        self.population(Rate::ONE).most(from)
    }

    /// Whether the fleet is paused at `at`.
    pub fn is_paused(&self, at: Micros) -> bool {
        let earlier = self.pauses().take_while(|(from, _)| *from <= at);
        earlier.last().is_some_and(|(_, is_paused)| is_paused)
    }

    /// When it is paused from, and when it goes on, the earliest first.
    pub fn pauses(&self) -> impl Iterator<Item = (Micros, bool)> + '_ {
        self.changes.iter().filter_map(|change| match change.set {
            Setting::Paused(is_paused) => Some((change.at, is_paused)),
            _ => None,
        })
    }

    /// The faults, the earliest first.
    pub fn strikes(&self) -> impl Iterator<Item = Strike> + '_ {
        self.changes.iter().filter_map(Change::strike)
    }

    /// How fast a periodic stream of a group goes whose document says `interval`.
    pub fn pace(&self, group: &str, stream: &str, interval: Span) -> Pace {
        let set = self.changes.iter().filter_map(|change| match &change.set {
            Setting::Interval { stream: name, interval: set } if name.as_deref().is_none_or(|name| name == stream) => {
                Some((change.at, set.unwrap_or(interval)))
            }
            _ => None,
        });
        Pace::new([(self.start, interval)].into_iter().chain(set), Warp::new(self.ramps(group, stream)))
    }

    /// The factor of a stream: at each time that of the most specific setting that names it.
    fn ramps(&self, group: &str, stream: &str) -> Vec<Ramp> {
        let mut ramps: Vec<Ramp> = Vec::new();
        let mut held: [Option<Ramp>; 4] = [None; 4];
        for change in &self.changes {
            let Setting::Rate { group: wanted_group, stream: wanted, factor, over } = &change.set else { continue };
            let is_meant = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
            if !is_meant(wanted_group, group) || !is_meant(wanted, stream) {
                continue;
            }
            let at = change.at;
            let from = ramps.last().map_or(Factor::ONE, |ramp| ramp.factor(at));
            let specific = usize::from(wanted_group.is_some()) + 2 * usize::from(wanted.is_some());
            held[specific] = factor.map(|to| Ramp { at, from, to, over: *over });
            let now = held.iter().rev().flatten().next().copied();
            let now = now.map_or(Ramp { at, from: Factor::ONE, to: Factor::ONE, over: Span::ZERO }, |ramp| {
                // One that was hidden goes on from where it is by now.
                let over = Span(ramp.over.0.saturating_sub(at.since(ramp.at).0));
                Ramp { at, from: ramp.factor(at), to: ramp.to, over }
            });
            ramps.push(now);
        }
        ramps
    }
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

impl Change {
    /// The fault that it is, if it is one.
    fn strike(&self) -> Option<Strike> {
        let (number, lasts, fault) = match &self.set {
            Setting::Disconnect { share, number } => {
                (*number, Span::ZERO, Fault::Disconnect(fault::Disconnect::of(*share)))
            }
            Setting::Fault { number, lasts, fault } => (*number, *lasts, fault.clone()),
            _ => return None,
        };
        Some(Strike { at: self.at, until: self.at.after(lasts), number, fault })
    }
}

impl Setting {
    /// The number of devices that it sets, and how long it takes.
    const fn devices(&self) -> Option<(u32, Span)> {
        match self {
            Self::Devices(devices) => Some((*devices, Span::ZERO)),
            Self::Ramp { to, over } => Some((*to, *over)),
            _ => None,
        }
    }

    /// Whether this setting, coming later, leaves nothing of `other`. Numbers of devices and rates are another matter.
    fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Paused(_), Self::Paused(_)) | (Self::Interval { stream: None, .. }, Self::Interval { .. }) => true,
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
mod tests;
