//! Messages that faults spoil, double, or add to the timetable.
//!
//! Nobody follows what is spoilt or doubled on purpose: whatever a broker makes of it, it is not its fault.

use fleet_contract::{stats::ModelFault, time::Micros, units::Span};

use super::{
    Shard,
    agents::site,
    faults::Faults,
    publish::{Encoded, Sending},
};
use crate::{
    agent::Agent,
    blueprint::Blueprint,
    engine::{device::Queued, slot::Slot, world::World},
    fault::{self, Cause, Fate, Flood, How, OfDevice},
    index::{DeviceIndex, GroupIndex, StreamIndex},
    model::Seen,
    session::Message,
};

impl<C> Faults<C> {
    /// What becomes of a message of a device: by its own faults first, then by those that hit the device.
    fn fates<'a>(&'a self, own: OfDevice<'a>, slot: Slot, message: Message) -> impl Iterator<Item = Fate> + 'a {
        let spoils = self.hit(slot).map_or(&[][..], |hit| &hit.conditions.spoils);
        let lasting = spoils.iter().filter(move |spoil| self.lasts(spoil.number, message.due));
        own.fates(message.due).chain(lasting.filter_map(move |spoil| spoil.fate(message.stream, message.due)))
    }

    /// The flood of a stream by a fault that hits the device.
    fn flood(&self, slot: Slot, stream: StreamIndex) -> Option<&Flood> {
        self.hit(slot)?.conditions.floods.iter().find(|flood| flood.stream == stream)
    }

    /// When a flood by a fault that hits the device is due, at `from` or later.
    fn flood_due(&self, slot: Slot, stream: StreamIndex, from: Micros) -> Micros {
        self.flood(slot, stream).map_or(Micros::NEVER, |flood| flood.due(from))
    }
}

impl<W: World, A: Agent> Shard<W, A> {
    /// Spoils the payload of a message, which begins at `begin` of `out` and `is_wrong` already where the device sees the world or
    /// the time wrongly; whether nobody is to follow it. What it does to one that is sent again does not count.
    pub(super) fn spoil(&mut self, slot: Slot, message: Message, begin: usize, is_wrong: bool, is_again: bool) -> bool {
        let device = (self.roster.index(slot), self.roster.devices[slot].group);
        let Self { faults, blueprint, buffers, counted, .. } = self;
        let mut is_spoilt = false;
        for fate in faults.fates(own_faults(blueprint, device, message.stream), slot, message) {
            let is_done = fate.spoil(&mut buffers.out, begin, is_wrong);
            // One that is sent twice counts when it is sent again.
            is_spoilt |= is_done || fate.how == How::Twice;
            if is_done && !is_again {
                counted.note_cause(blueprint, fate.cause, device.1, message.stream);
            }
        }
        is_spoilt
    }

    /// What a device with faults sees when it makes a message.
    pub(super) fn seen(&self, slot: Slot, message: Message) -> Seen {
        fault::seen(message.due, self.faults.fates(self.own_faults(slot, message.stream), slot, message))
    }

    /// The faults that a stream of a device has by itself.
    fn own_faults(&self, slot: Slot, stream: StreamIndex) -> OfDevice<'_> {
        own_faults(&self.blueprint, (self.roster.index(slot), self.roster.devices[slot].group), stream)
    }

    /// When a stream of a device is due next, at `from` or later: by its timetable, or by a flood. What has no timetable, or one
    /// that stands still, is not flooded.
    pub(super) fn due_from(&self, slot: Slot, stream: StreamIndex, from: Micros) -> Micros {
        let due = self.due_by_time(slot, stream, from);
        if self.roster.devices[slot].is_faulty { self.or_flood(slot, stream, due, from) } else { due }
    }

    /// When a stream of a device is due next by its timetable alone, at `from` or later. An event stream keeps its timer.
    pub(super) fn due_by_time(&self, slot: Slot, stream: StreamIndex, from: Micros) -> Micros {
        let group = self.roster.devices[slot].group;
        let site = site(&self.blueprint, &self.roster, slot);
        if !site.model.stream(stream).has_timetable() {
            return self.roster.stream(slot, stream).next_due;
        }
        self.agents.agent.next_due(&site, stream, self.course.pace(group, stream), from)
    }

    /// The earlier one of `due`, when a stream is due next by its timetable, and the next message of a flood at `from` or later.
    pub(super) fn or_flood(&self, slot: Slot, stream: StreamIndex, due: Micros, from: Micros) -> Micros {
        if due == Micros::NEVER {
            return due;
        }
        let own = self.own_faults(slot, stream).flood_due(from);
        due.min(own).min(self.faults.flood_due(slot, stream, from))
    }

    /// The flood by which a message of a stream is due at `due`, if it is one of a flood.
    pub(super) fn flooded(&self, slot: Slot, stream: StreamIndex, due: Micros) -> Option<Cause> {
        if let Some(flood) = self.faults.flood(slot, stream).filter(|flood| flood.is_due(due)) {
            return Some(Cause::Plan(flood.number));
        }
        let is_own = self.own_faults(slot, stream).flood_due(due) == due;
        is_own.then_some(Cause::Model(ModelFault::Flood))
    }

    /// The fault by which a message of a stream is not sent that is due at `due`, if it is one.
    pub(super) fn silenced(&self, slot: Slot, stream: StreamIndex, due: Micros) -> Option<Cause> {
        let is_own = self.own_faults(slot, stream).is_silent(due);
        let own = is_own.then_some(Cause::Model(ModelFault::Silent));
        self.faults.silent(slot, stream).map(Cause::Plan).or(own)
    }

    /// A fault has done something to a message of a stream.
    pub(super) fn note_cause(&mut self, slot: Slot, stream: StreamIndex, cause: Cause) {
        let group = self.roster.devices[slot].group;
        self.counted.note_cause(&self.blueprint, cause, group, stream);
    }

    /// Sends a message once more for each fault by which it is to be sent twice, as far as there is room. Each counts as one of its
    /// own.
    pub(super) fn say_again(&mut self, slot: Slot, message: Message, now: Micros) {
        let mut place = 0;
        loop {
            let fates = self.faults.fates(self.own_faults(slot, message.stream), slot, message);
            let Some(fate) = fates.filter(|fate| fate.how == How::Twice).nth(place) else { return };
            place += 1;
            self.say_once_more(slot, message, fate.cause, now);
        }
    }

    fn say_once_more(&mut self, slot: Slot, message: Message, cause: Cause, now: Micros) {
        let session = &mut self.roster.devices[slot].session;
        let Ok(packet_id) = session.publish(&mut self.pool, &self.blueprint.session, message, now) else { return };
        let Some(Encoded { body, .. }) = self.encode(slot, message, packet_id, Sending::Another) else {
            return self.retract(slot, packet_id);
        };
        self.note_cause(slot, message.stream, cause);
        let count = self.messages(slot, Queued { due: message.due, stream: message.stream });
        count.offered += 1;
        count.count_sent(body);
        count.unobserved += 1;
    }

    /// Sets when the streams of a device are due that a flood has begun or ended for.
    pub(super) fn follow_floods(&mut self, slot: Slot, before: &[Flood], now: Micros) {
        let first = self.roster.devices[slot].first_stream;
        for stream in StreamIndex::first(self.rows(slot).len()) {
            let state = &self.roster.streams[first.plus(stream)];
            let is_flooded = self.faults.flood(slot, stream).is_some();
            let was_flooded = before.iter().any(|flood| flood.stream == stream);
            // It has said all, or has not begun.
            if state.next_due == Micros::NEVER || !is_flooded && !was_flooded {
                continue;
            }
            let from = state.last_due.after(Span(1));
            // What a flood would have said before it began for this device, or while the timetable stood still, is not made up for.
            let flooded_from = from.max(now.min(state.next_due));
            let due = self.or_flood(slot, stream, self.due_by_time(slot, stream, from), flooded_from);
            self.roster.streams[first.plus(stream)].next_due = due;
        }
    }
}

/// The faults that a stream has by itself of a device, given by its index and its group.
fn own_faults(blueprint: &Blueprint, (index, group): (DeviceIndex, GroupIndex), stream: StreamIndex) -> OfDevice<'_> {
    blueprint.group(group).model.stream(stream).faults(index, blueprint.start)
}
