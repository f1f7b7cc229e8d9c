//! Who belongs to the fleet: devices come and go as the plan says, and nobody else is touched.

use std::sync::Arc;

use fleet_contract::{time::Micros, units::Span};

use super::{Shard, pace};
use crate::{
    engine::{
        course::Course,
        device::{Device, State, StreamState, Trouble},
        world::World,
    },
    session::{Pool, Session, codec::Protocol},
};

/// What a connection that the plan has cut is called.
const DISCONNECT_FAULT: &str = "disconnect_fault";

/// A broker that has not answered a SUBSCRIBE after so long, when the device leaves, is not going to.
const ANSWER_PATIENCE: Span = Span::from_secs(2);

impl<W: World> Shard<W> {
    /// Follows another plan from now on. Who comes and goes, and when, is looked at only where that has changed.
    pub(super) fn take_course(&mut self, course: Arc<Course>, now: Micros) {
        // A growth may make much of the fleet of what was little, and the other way round.
        self.pacer.set_rate(self.share.under(&course.population, now));
        self.pace = pace::pace_under(&course, now);
        let before = std::mem::replace(&mut self.course, course);
        let is_same_population = before.population == self.course.population;
        let is_same_pace = before.has_paces_of(&self.course);
        self.next_disconnect = self.course.next_disconnect(self.disconnected_at);
        if self.is_draining {
            return;
        }
        if !is_same_population {
            self.follow_population(now);
        }
        if !is_same_pace {
            self.follow_paces(now);
        }
    }

    /// Takes over what the plan says of each device.
    pub(super) fn follow_population(&mut self, now: Micros) {
        let wanted = self.slots.count(self.course.population.most(now)) as usize;
        while self.devices.len() < wanted {
            self.add_device();
        }
        self.wheel.resize(self.devices.len());
        for slot in 0..self.devices.len() {
            self.follow_presence(slot, now);
            self.set_timer(slot);
        }
    }

    /// Where a stream's pace has changed, what is due next is due by the new one.
    fn follow_paces(&mut self, now: Micros) {
        for slot in 0..self.devices.len() {
            self.reschedule(slot, now);
            self.set_timer(slot);
        }
    }

    /// Finds anew what each stream of a device is due next, from `now` on.
    fn reschedule(&mut self, slot: usize, now: Micros) {
        let index = self.slots.index(slot);
        let device = &self.devices[slot];
        let group = usize::from(device.group);
        for (number, stream) in self.blueprint.groups[group].model.streams().iter().enumerate() {
            let state = &mut self.streams[device.streams as usize + number];
            // A factor of 0 lets nothing fall due, however long the timetable has run.
            let is_halted = stream.is_periodic() && device.has_timetable();
            if state.next_due != Micros::NEVER || is_halted {
                let from = now.max(state.last_due.after(Span(1)));
                state.next_due = stream.first_due(self.course.pace(group, number), index, from);
            }
        }
    }

    fn add_device(&mut self) {
        let index = self.slots.index(self.devices.len());
        let streams = u32::try_from(self.streams.len()).expect("a shard has fewer than 2^32 streams");
        let group = u8::try_from(self.blueprint.group_index(index)).expect("there are at most 255 groups");
        let model = &self.blueprint.groups[usize::from(group)].model;
        let departed = &mut self.departed;
        self.streams.extend(model.streams().iter().map(|_| StreamState::starting_at(departed.pop().unwrap_or(0))));
        // Different in each process, as `Session::starting_at` wants it.
        let first_packet_id = self.blueprint.packet_ids.of(index).at(self.world.epoch().0).below(65_536);
        let first_packet_id = u16::try_from(first_packet_id).unwrap_or(1);
        self.devices.push(Device::new(group, streams, self.blueprint.is_observed(index), first_packet_id));
    }

    /// Takes over when a device is there.
    fn follow_presence(&mut self, slot: usize, now: Micros) {
        let index = self.slots.index(slot);
        let stay = self.course.population.stay(index, now);
        let device = &mut self.devices[slot];
        let Some(stay) = stay.filter(|stay| stay.from <= now || device.is_yet_to_come(now)) else {
            // Now it is not there. What comes later is looked at once it has left.
            if device.leave_at > now {
                device.leave_at = now;
            }
            return;
        };
        device.leave_at = stay.until;
        match device.state {
            // It had not said DISCONNECT yet: it simply stays. While it was leaving nothing fell due.
            State::Leaving => {
                device.state = State::Up;
                self.reschedule(slot, now);
            }
            _ if device.is_yet_to_come(now) => {
                let jitter = self.blueprint.jitter.of(index).at(0).below(self.blueprint.connect.jitter.0);
                device.state = State::Offline;
                device.attempts = 0;
                let intended = self.share.intended(index, stay.from, &self.course.population);
                device.connect_at = intended.after(Span(jitter)).max(self.blueprint.start);
                device.since = device.connect_at;
            }
            _ => {}
        }
    }

    /// Cuts the connections of those whom the plan has hit by now.
    pub(super) fn disconnect_in_time(&mut self) {
        let now = self.world.now();
        while let Some(disconnect) = self.next_disconnect.filter(|disconnect| disconnect.at <= now) {
            let drawn = self.blueprint.hit_by(disconnect);
            for slot in 0..self.devices.len() {
                if self.devices[slot].state == State::Up && drawn(self.slots.index(slot)) {
                    self.lost(slot, DISCONNECT_FAULT, now);
                }
            }
            self.disconnected_at = disconnect.at;
            self.next_disconnect = self.course.next_disconnect(disconnect.at);
        }
    }

    /// The device leaves: it offers nothing more, and goes when its messages are settled.
    pub(super) fn leave(&mut self, slot: usize, now: Micros) {
        self.withhold_queue(slot);
        let device = &mut self.devices[slot];
        device.leave_at = device.leave_at.min(now);
        match device.state {
            State::Up => {
                if device.since.after(ANSWER_PATIENCE) <= now {
                    self.stats.received.unanswered += device.session.unanswered_filters() as u64;
                }
                device.state = State::Leaving;
                device.since = now;
                self.settle(slot, now);
            }
            State::Offline | State::Opening | State::Connecting => self.depart(slot, now),
            State::Leaving | State::Closing | State::Absent => {}
        }
    }

    /// Says DISCONNECT once every message of a leaving device is judged, or will not be any more.
    pub(super) fn settle(&mut self, slot: usize, now: Micros) {
        let device = &self.devices[slot];
        if device.state != State::Leaving {
            return;
        }
        let patience = self.blueprint.loss_after.0 + 1_000_000;
        let is_out_of_patience = device.since.after(Span(patience)) <= now;
        let is_written = device.connection.as_ref().is_none_or(|connection| self.world.unsent(connection) == 0);
        let is_settled = is_written
            && device.session.in_flight() == 0
            && self.rows(slot).iter().all(|stream| stream.row.is_settled());
        if !is_settled && !is_out_of_patience {
            return;
        }
        self.out.clear();
        let is_for_good = !self.is_draining || self.ends_with_drain;
        let session = &mut self.devices[slot].session;
        // MQTT 3.1.1 would have it connect once more, with a clean session, for the broker to forget this one.
        let can_end = self.blueprint.session.protocol == Protocol::V5 && !self.blueprint.session.clean;
        if !(is_for_good && can_end && session.end(now, &mut self.out).is_ok()) {
            session.disconnect(now, &mut self.out);
        }
        self.devices[slot].state = State::Closing;
        self.stats.devices.connected -= 1;
        self.abandon(slot);
        if self.write_out(slot, now) {
            // The broker closes (MQTT-3.14.4-2); our side says already that nothing follows.
            let connection = self.devices[slot].connection.as_mut();
            if connection.is_some_and(|connection| self.world.finish(connection).is_err()) {
                self.depart(slot, now);
            }
        }
        self.set_timer(slot);
    }

    /// The device is gone: nothing of it stays but ledger rows that are not judged yet.
    pub(super) fn depart(&mut self, slot: usize, now: Micros) {
        let device = &mut self.devices[slot];
        if matches!(device.state, State::Opening | State::Connecting) {
            self.pacer.release();
        }
        if device.state.is_connected() {
            self.stats.devices.connected -= 1;
        }
        device.connection = None;
        device.is_queued = false;
        device.session.lost(now);
        device.session.give_up(&mut self.pool);
        self.set_trouble(slot, Trouble::None);
        self.withhold_queue(slot);
        self.abandon(slot);
        let device = &mut self.devices[slot];
        device.state = State::Absent;
        device.since = now;
        if std::mem::replace(&mut device.lost_at, Micros::NEVER) != Micros::NEVER {
            self.stats.sessions.left(now);
        }
        device.session = Session::new();
        for stream in self.rows_mut(slot) {
            stream.next_due = Micros::NEVER;
        }
        self.wheel.clear(slot);
        if !self.is_draining {
            // The plan may have it come again.
            self.follow_presence(slot, now);
            if self.devices[slot].state != State::Absent {
                self.set_timer(slot);
            }
        }
    }

    /// Gives the memory of departed devices at the end of the shard back.
    pub(super) fn trim(&mut self) {
        let wanted =
            if self.is_draining { 0 } else { self.slots.count(self.course.population.most(self.world.now())) as usize };
        let before = self.devices.len();
        while self.devices.len() > wanted
            && self.devices.last().is_some_and(|device| device.state == State::Absent)
            && self.rows(self.devices.len() - 1).iter().all(|stream| stream.row.is_settled())
        {
            if let Some(device) = self.devices.pop() {
                let gone = self.streams.drain(device.streams as usize..).rev();
                self.bodies.forget(self.slots.index(self.devices.len()), gone.len());
                self.departed.extend(gone.map(|stream| stream.row.next));
            }
        }
        if self.devices.len() < before {
            self.wheel.resize(self.devices.len());
            if self.devices.capacity() > 2 * self.devices.len() + 1_024 {
                self.devices.shrink_to_fit();
                self.streams.shrink_to_fit();
            }
        }
        self.trim_pool();
    }

    /// Gives the memory of messages back that those who stay cannot have in flight.
    fn trim_pool(&mut self) {
        if self.pool.is_oversized_for(self.devices.len() * usize::from(self.blueprint.session.window)) {
            let mut pool = Pool::with_capacity(self.pool.len());
            for device in &mut self.devices {
                device.session.move_messages(&mut self.pool, &mut pool);
            }
            self.pool = pool;
        }
    }

    /// Everybody leaves.
    pub(super) fn drain(&mut self, now: Micros) {
        self.is_draining = true;
        for slot in 0..self.devices.len() {
            if self.devices[slot].state != State::Absent {
                self.leave(slot, now);
            }
            if self.devices[slot].state != State::Absent {
                self.set_timer(slot);
            }
        }
        self.trim();
    }

    /// Counts what waits in the queue of a device as withheld.
    pub(super) fn withhold_queue(&mut self, slot: usize) {
        let Some(queue) = self.devices[slot].queue.take() else { return };
        for queued in *queue {
            self.messages(slot, queued.stream).withheld += 1;
        }
    }

    /// The streams of a device.
    pub(super) fn rows(&self, slot: usize) -> &[StreamState] {
        let device = &self.devices[slot];
        let count = self.blueprint.groups[usize::from(device.group)].model.streams().len();
        &self.streams[device.streams as usize..][..count]
    }

    /// The streams of a device.
    pub(super) fn rows_mut(&mut self, slot: usize) -> &mut [StreamState] {
        let device = &self.devices[slot];
        let count = self.blueprint.groups[usize::from(device.group)].model.streams().len();
        &mut self.streams[device.streams as usize..][..count]
    }
}
