//! What a worker that is gone may have sent after what is known of it: as much as the timetable gives.

use fleet_contract::{stats::Stats, time::Micros, units::Span};

use super::course::Course;
use crate::{
    blueprint::Blueprint,
    fault::{Aimed, Conditions, How, Region},
    index::{DeviceIndex, StreamIndex},
    model::Scratch,
    record::Record,
};

/// A shard that has anything to record does so before it sends what is due later than this after the first message: most of it
/// is its pace, the rest is for a first message that was late.
const RECORDED_WITHIN: Span = Span::from_millis(80);

/// What falls due in a window for some devices.
struct Window<'a> {
    blueprint: &'a Blueprint,
    course: &'a Course,
    scratch: Scratch,
}

/// What the shard of a record may have sent after it, before `until`.
///
/// The first message after a record makes the shard write the next one soon, so that it died within that time of it; if no
/// message was due, it may have died at any time later.
pub(super) fn after_record(blueprint: &Blueprint, course: &Course, record: &Record, until: Micros) -> Stats {
    let devices = || record.slots.indices(course.population.most(record.offered_until));
    let mut window = Window { blueprint, course, scratch: Scratch::default() };
    let from = record.offered_until.after(Span(1));
    let next = devices().filter_map(|device| window.next(device, from, until)).min();
    let mut stats = next.map_or_else(Stats::default, |next| {
        window.count(devices(), from, until.min(next.max(record.at).after(RECORDED_WITHIN)))
    });
    let away = record.stats.devices.desired.saturating_sub(record.stats.devices.connected);
    window.count_births(devices(), away, &mut stats);
    stats
}

/// What devices may have sent after `after` and before `until`. Each of them may have connected meanwhile.
pub(super) fn between(
    blueprint: &Blueprint,
    course: &Course,
    devices: impl Iterator<Item = DeviceIndex> + Clone,
    after: Micros,
    until: Micros,
) -> Stats {
    let mut window = Window { blueprint, course, scratch: Scratch::default() };
    let mut stats = window.count(devices.clone(), after.after(Span(1)), until);
    window.count_births(devices, u32::MAX, &mut stats);
    stats
}

/// A fault of the plan that hits a device, and what it sets for it.
struct Hit<'a> {
    fault: &'a Aimed,
    conditions: Conditions,
}

impl Hit<'_> {
    /// When a message of a stream is due that a flood adds, at `from` or later.
    fn flood_due(&self, stream: StreamIndex, from: Micros) -> Micros {
        let floods = self.conditions.floods.iter().filter(|flood| flood.stream == stream);
        let due = floods.map(|flood| flood.due(from)).min().unwrap_or(Micros::NEVER);
        if due < self.fault.strike.until { due } else { Micros::NEVER }
    }

    /// How often a message of a stream is sent once more, as far as the fault has not ended by then.
    fn again(&self, stream: StreamIndex, due: Micros) -> u64 {
        let fates = self.conditions.spoils.iter().filter_map(|spoil| spoil.fate(stream, due));
        if due < self.fault.strike.until { fates.filter(|fate| fate.how == How::Twice).count() as u64 } else { 0 }
    }
}

impl<'a> Window<'a> {
    /// When the next message of a device is due, from an instant on.
    fn next(&mut self, device: DeviceIndex, from: Micros, until: Micros) -> Option<Micros> {
        let hits = self.hits(device, from, until);
        let streams = self.blueprint.group_of(device).model.indexed_streams();
        streams.filter_map(|(stream, _)| self.dues(device, stream, &hits, from, until).next()).min()
    }

    /// The faults of the plan that hit a device from one instant to another.
    fn hits(&mut self, device: DeviceIndex, from: Micros, until: Micros) -> Vec<Hit<'a>> {
        let Self { blueprint, course, ref mut scratch } = *self;
        let group = blueprint.group_index(device);
        let model = &blueprint.group(group).model;
        let lasts = |fault: &&Aimed| fault.strike.at < until && fault.strike.until > from;
        let faults = course.faults().iter().map(|fault| &**fault).filter(lasts);
        let mut hits = Vec::new();
        for fault in faults.filter(|fault| fault.hits(device, group)) {
            let is_within = |region: &Region| region.has(device, group, model, scratch);
            if fault.region().is_none_or(is_within) {
                let mut conditions = Conditions::default();
                fault.impose(device, model, &mut conditions);
                hits.push(Hit { fault, conditions });
            }
        }
        hits
    }

    fn count(&mut self, devices: impl Iterator<Item = DeviceIndex>, from: Micros, until: Micros) -> Stats {
        let (mut stats, course) = (Stats::default(), self.course);
        for device in devices {
            let group = self.blueprint.group_of(device);
            let hits = self.hits(device, from, until);
            for (stream, compiled) in group.model.indexed_streams() {
                let qos = compiled.qos();
                let faults = compiled.faults(device, self.blueprint.start);
                for due in self.dues(device, stream, &hits, from, until) {
                    let by_model = faults.fates(due).filter(|fate| fate.how == How::Twice).count() as u64;
                    let sent = 1 + by_model + hits.iter().map(|hit| hit.again(stream, due)).sum::<u64>();
                    stats.messages[qos as usize].unrecorded += sent;
                    stats.groups.messages_mut(&group.name, compiled.name(), qos).unrecorded += sent;
                    if let (Some(phase), _) = course.phases.at(due) {
                        let phase = stats.phases.entry(phase).or_default();
                        phase.groups.messages_mut(&group.name, compiled.name(), qos).unrecorded += sent;
                    }
                }
            }
        }
        stats
    }

    /// When the messages of a stream of a device are due, from an instant on and before another.
    fn dues<'b>(
        &'b mut self,
        device: DeviceIndex,
        stream: StreamIndex,
        hits: &'b [Hit<'_>],
        from: Micros,
        until: Micros,
    ) -> impl Iterator<Item = Micros> + 'b {
        let Self { blueprint, course, scratch } = self;
        let group = blueprint.group_index(device);
        let model = &blueprint.group(group).model;
        let compiled = model.stream(stream);
        let pace = course.pace(group, stream);
        let faults = compiled.faults(device, blueprint.start);
        let mut at = from;
        std::iter::from_fn(move || {
            loop {
                let stay = course.population.stay(device.number(), at)?;
                let from = at.max(stay.from);
                let due = compiled.first_due(pace, device, from);
                let added = hits.iter().map(|hit| hit.flood_due(stream, from)).min().unwrap_or(Micros::NEVER);
                let due = if due == Micros::NEVER { due } else { due.min(added).min(faults.flood_due(from)) };
                if due >= until {
                    return None;
                }
                at = due.after(Span(1));
                let is_there = due < stay.until && !course.is_paused(due);
                if is_there && (due == added || model.is_said(stream, device, due, blueprint.start, scratch)) {
                    return Some(due);
                }
            }
        })
    }

    /// Who was not connected may have connected since, and sent a birth message.
    fn count_births(&self, devices: impl Iterator<Item = DeviceIndex>, mut away: u32, stats: &mut Stats) {
        for device in devices {
            let group = self.blueprint.group_of(device);
            let Some(birth) = group.model.birth().filter(|_| away > 0) else { continue };
            let birth = group.model.stream(birth);
            away -= 1;
            stats.messages[birth.qos() as usize].unrecorded += 1;
            stats.groups.messages_mut(&group.name, birth.name(), birth.qos()).unrecorded += 1;
        }
    }
}
