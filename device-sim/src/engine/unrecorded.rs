//! What a worker that is gone may have sent after what is known of it: as much as the timetable gives.

use fleet_contract::{stats::Stats, time::Micros, units::Span};

use super::{blueprint::Blueprint, course::Course};
use crate::{fault::How, model::Scratch, record::Record};

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
    window.count_births(devices(), record, &mut stats);
    stats
}

/// What devices may have sent after `after` and before `until`.
pub(super) fn between(
    blueprint: &Blueprint,
    course: &Course,
    devices: impl Iterator<Item = u32>,
    after: Micros,
    until: Micros,
) -> Stats {
    Window { blueprint, course, scratch: Scratch::default() }.count(devices, after.after(Span(1)), until)
}

impl Window<'_> {
    /// When the next message of a device is due, from an instant on.
    fn next(&mut self, device: u32, from: Micros, until: Micros) -> Option<Micros> {
        let streams = self.blueprint.group_of(device).model.streams().len();
        (0..streams).filter_map(|stream| self.dues(device, stream, from, until).next()).min()
    }

    fn count(&mut self, devices: impl Iterator<Item = u32>, from: Micros, until: Micros) -> Stats {
        let (mut stats, course) = (Stats::default(), self.course);
        for device in devices {
            let group = self.blueprint.group_of(device);
            for (number, stream) in group.model.streams().iter().enumerate() {
                let qos = stream.qos();
                let faults = stream.faults(device, self.blueprint.start);
                for due in self.dues(device, number, from, until) {
                    let twice = faults.fates(due).filter(|fate| fate.how == How::Twice).count() as u64;
                    stats.messages[qos as usize].unrecorded += 1 + twice;
                    stats.groups.messages_mut(&group.name, stream.name(), qos).unrecorded += 1 + twice;
                    if let (Some(phase), _) = course.phases.at(due) {
                        let phase = stats.phases.entry(phase).or_default();
                        phase.groups.messages_mut(&group.name, stream.name(), qos).unrecorded += 1 + twice;
                    }
                }
            }
        }
        stats
    }

    /// When the messages of a stream of a device are due, from an instant on and before another.
    fn dues(&mut self, device: u32, number: usize, from: Micros, until: Micros) -> impl Iterator<Item = Micros> + '_ {
        let Self { blueprint, course, scratch } = self;
        let group = blueprint.group_index(device);
        let model = &blueprint.groups[group].model;
        let stream = &model.streams()[number];
        let pace = course.pace(group, number);
        let faults = stream.faults(device, blueprint.start);
        let mut at = from;
        std::iter::from_fn(move || {
            loop {
                let stay = course.population.stay(device, at)?;
                let from = at.max(stay.from);
                let due = stream.first_due(pace, device, from);
                let due = if due == Micros::NEVER { due } else { due.min(faults.flood_due(from)) };
                if due >= until {
                    return None;
                }
                at = due.after(Span(1));
                let is_there = due < stay.until;
                if is_there && !course.is_paused(due) && model.is_said(number, device, due, blueprint.start, scratch) {
                    return Some(due);
                }
            }
        })
    }

    /// Who was not connected may have connected since, and sent a birth message.
    fn count_births(&self, devices: impl Iterator<Item = u32>, record: &Record, stats: &mut Stats) {
        let mut away = record.stats.devices.desired.saturating_sub(record.stats.devices.connected);
        for device in devices {
            let group = self.blueprint.group_of(device);
            let Some(birth) = group.model.streams().last().filter(|stream| stream.is_birth() && away > 0) else {
                continue;
            };
            away -= 1;
            stats.messages[birth.qos() as usize].unrecorded += 1;
            stats.groups.messages_mut(&group.name, birth.name(), birth.qos()).unrecorded += 1;
        }
    }
}
