//! Who belongs to the fleet: devices come and go as the plan says, and nobody else is touched.

use std::sync::Arc;

use fleet_contract::{time::Micros, units::Span};

use serde::{Deserialize, Serialize};

use super::{Shard, wills::Over};
use crate::{
    agent::Agent,
    engine::{
        course::Course,
        device::{Device, State, StreamState, Trouble},
        slot::{Devices, Slot, SlotSet, StreamAt, StreamStates},
        world::World,
    },
    index::{DeviceIndex, StreamIndex},
    session::{Pool, Session, codec::Protocol},
};

/// Which devices a shard runs: every `step`-th of the worker's from `first` on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Slots {
    pub(crate) first: u32,
    pub(crate) step: u32,
    pub(crate) end: u32,
}

impl Slots {
    /// The device in `slot`.
    pub(in crate::engine) const fn index(self, slot: Slot) -> DeviceIndex {
        DeviceIndex::new(self.first + slot.number() * self.step)
    }

    /// The slot of device `index`, if the device is one of the shard's.
    pub(in crate::engine) const fn slot(self, index: DeviceIndex) -> Option<Slot> {
        let number = index.number();
        if number < self.first || number >= self.end || !(number - self.first).is_multiple_of(self.step) {
            return None;
        }
        Some(Slot::new(((number - self.first) / self.step) as usize))
    }

    /// The devices of a fleet of so many that fall to the shard.
    pub(in crate::engine) fn indices(self, devices: u32) -> impl Iterator<Item = DeviceIndex> {
        (self.first..self.end.min(devices)).step_by(self.step.max(1) as usize).map(DeviceIndex::new)
    }

    /// How many of a fleet of `devices` fall to the shard.
    pub(in crate::engine) fn count(self, devices: u32) -> u32 {
        devices.min(self.end).saturating_sub(self.first).div_ceil(self.step)
    }
}

/// A broker that has not answered a SUBSCRIBE after so long, when the device leaves, is not going to.
const ANSWER_PATIENCE: Span = Span::from_secs(2);

/// The devices of a shard and their streams.
pub(super) struct Roster<C> {
    pub(super) slots: Slots,
    pub(super) devices: Devices<C>,
    pub(super) streams: StreamStates,
    /// The devices that have begun to connect, and have not gone yet.
    pub(super) begun: SlotSet,
    /// Of the devices that left from the end, the next one to come back last: where their sequences go on, because a
    /// sequence is used once in an epoch.
    departed: Vec<u32>,
}

impl<C> Roster<C> {
    pub(super) const fn new(slots: Slots) -> Self {
        Self {
            slots,
            devices: Devices::new(),
            streams: StreamStates::new(),
            begun: SlotSet::new(),
            departed: Vec::new(),
        }
    }

    /// Which device is in a slot.
    pub(super) const fn index(&self, slot: Slot) -> DeviceIndex {
        self.slots.index(slot)
    }

    /// The slot of a device, if it is one of the shard's and there.
    pub(super) fn slot(&self, index: DeviceIndex) -> Option<Slot> {
        self.slots.slot(index).filter(|slot| slot.place() < self.devices.len())
    }

    /// A stream of a device.
    pub(super) fn stream(&self, slot: Slot, stream: StreamIndex) -> &StreamState {
        &self.streams[self.devices[slot].stream(stream)]
    }

    /// Adds a device with so many streams, which go on where those of the device before it in this slot have ended.
    fn add(&mut self, device: impl FnOnce(StreamAt) -> Device<C>, streams: usize) {
        self.devices.push(device(self.streams.next()));
        for _ in 0..streams {
            self.streams.push(StreamState::starting_at(self.departed.pop().unwrap_or(0)));
        }
    }

    /// Takes the last device out; how many streams it had.
    fn remove_last(&mut self) -> Option<usize> {
        let device = self.devices.pop()?;
        let gone = self.streams.split_off(device.first_stream).rev();
        let count = gone.len();
        self.departed.extend(gone.map(|stream| stream.row.next));
        Some(count)
    }

    /// Gives memory back that is far more than they need.
    fn trim(&mut self) {
        if self.devices.trim() {
            self.streams.shrink_to_fit();
        }
    }
}

impl<W: World, A: Agent> Shard<W, A> {
    /// Follows another plan from now on. Who comes and goes, and when, is looked at only where that has changed.
    pub(super) fn take_course(&mut self, course: Arc<Course>, now: Micros) {
        // A growth may make much of the fleet of what was little, and the other way round.
        self.attempts.pacer.set_rate(self.attempts.share.under(&course.population, now));
        self.counted.by_stream.follow(&course.phases);
        let before = std::mem::replace(&mut self.course, course);
        let is_same_population = before.population == self.course.population;
        let is_same_pace = before.has_paces_of(&self.course);
        self.follow_faults();
        self.set_pace(now);
        if self.life.is_draining {
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
        let wanted = self.roster.slots.count(self.course.population.most(now)) as usize;
        while self.roster.devices.len() < wanted {
            self.add_device();
        }
        self.timers.wheel.resize(self.roster.devices.len());
        for slot in self.roster.devices.slots() {
            self.follow_presence(slot, now);
            self.set_timer(slot);
        }
    }

    /// Where a stream's pace has changed, what is due next is due by the new one.
    fn follow_paces(&mut self, now: Micros) {
        for slot in self.roster.devices.slots() {
            self.reschedule(slot, now);
            self.set_timer(slot);
        }
    }

    /// Finds anew what each stream of a device is due next, from `now` on.
    fn reschedule(&mut self, slot: Slot, now: Micros) {
        let device = &self.roster.devices[slot];
        for (stream, compiled) in self.blueprint.group(device.group).model.indexed_streams() {
            let at = device.stream(stream);
            let state = &self.roster.streams[at];
            // A factor of 0 lets nothing fall due, however long the timetable has run.
            let is_halted = compiled.is_periodic() && device.has_timetable();
            if state.next_due != Micros::NEVER || is_halted {
                let from = now.max(state.last_due.after(Span(1)));
                self.roster.streams[at].next_due = self.due_from(slot, stream, from);
            }
        }
    }

    fn add_device(&mut self) {
        let index = self.roster.index(self.roster.devices.next());
        let group = self.blueprint.group_index(index);
        let streams = self.blueprint.group(group).model.streams().len();
        let now = self.world.now();
        let first_packet_id = self.first_packet_id(index, now);
        let is_observed = self.blueprint.is_observed(index);
        let slot = self.roster.devices.next();
        self.roster.add(|first| Device::new(group, first, is_observed, first_packet_id), streams);
        self.come(slot, now);
        // Faults that last hit those, too, that come later.
        self.impose(slot, now);
    }

    /// Where the packet identifiers of a session begin that begins anew: elsewhere in each process, and each time that a device comes
    /// back to one that its broker may have kept, as [`Session::starting_at`] wants it.
    fn first_packet_id(&self, index: DeviceIndex, now: Micros) -> u16 {
        let first = self.blueprint.draws.packet_ids.of(index).at(now.0).below(65_536);
        u16::try_from(first).unwrap_or(1)
    }

    /// Takes over when a device is there.
    fn follow_presence(&mut self, slot: Slot, now: Micros) {
        let index = self.roster.index(slot);
        let stay = self.course.population.stay(index.number(), now);
        let device = &mut self.roster.devices[slot];
        let Some(stay) = stay.filter(|stay| stay.from <= now || device.is_yet_to_come(now)) else {
            // Now it is not there. What comes later is looked at once it has left.
            if device.times.leave_at > now {
                device.times.leave_at = now;
            }
            return;
        };
        device.times.leave_at = stay.until;
        match device.state {
            // It had not said DISCONNECT yet: it simply stays. While it was leaving nothing fell due.
            State::Leaving => {
                device.stay();
                self.reschedule(slot, now);
            }
            _ if device.is_yet_to_come(now) => {
                let jitter = self.blueprint.draws.jitter.of(index).at(0).below(self.blueprint.connect.jitter.0);
                self.roster.begun.remove(slot);
                let intended = self.attempts.share.intended(index, stay.from, &self.course.population);
                device.come(intended.after(Span(jitter)).max(self.blueprint.start));
            }
            _ => {}
        }
    }

    /// The device leaves: it offers nothing more, and goes when its messages are settled.
    pub(super) fn leave(&mut self, slot: Slot, now: Micros) {
        self.withhold_queue(slot);
        let device = &mut self.roster.devices[slot];
        device.times.leave_at = device.times.leave_at.min(now);
        match device.state {
            State::Up => {
                if device.times.since.after(ANSWER_PATIENCE) <= now {
                    self.counted.stats.received.unanswered += device.session.unanswered_filters() as u64;
                }
                device.leave(now);
                self.settle(slot, now);
            }
            State::Offline | State::Opening | State::Connecting => self.depart(slot, now),
            State::Leaving | State::Closing | State::Absent => {}
        }
    }

    /// Says DISCONNECT once every message of a leaving device is judged, or will not be any more.
    pub(super) fn settle(&mut self, slot: Slot, now: Micros) {
        let device = &self.roster.devices[slot];
        if device.state != State::Leaving {
            return;
        }
        let patience = self.blueprint.loss_after.0 + 1_000_000;
        let is_out_of_patience = device.times.since.after(Span(patience)) <= now;
        let is_sent = device.connection.as_ref().is_none_or(|connection| self.world.unsent(connection) == 0);
        let is_written = is_sent && (self.under_way(slot) == 0 || self.is_cut_off(slot));
        let is_settled = is_written
            && device.session.in_flight() == 0
            && self.rows(slot).iter().all(|stream| stream.row.is_settled());
        if !is_settled && !is_out_of_patience {
            return;
        }
        self.buffers.out.clear();
        let is_for_good = !self.life.is_draining || self.life.ends_with_drain;
        let session = &mut self.roster.devices[slot].session;
        // MQTT 3.1.1 would have it connect once more, with a clean session, for the broker to forget this one.
        let can_end = self.blueprint.session.protocol == Protocol::V5 && !self.blueprint.session.clean;
        if !(is_for_good && can_end && session.end(now, &mut self.buffers.out).is_ok()) {
            session.disconnect(now, &mut self.buffers.out);
        }
        self.note_session_over(slot, Over::Said, now);
        self.roster.devices[slot].close();
        self.counted.stats.devices.connected -= 1;
        self.abandon(slot);
        if self.write_out(slot, now) {
            self.hurry(slot, now);
            // The broker closes (MQTT-3.14.4-2); our side says already that nothing follows.
            let is_cut_off = self.is_cut_off(slot);
            let connection = self.roster.devices[slot].connection.as_mut().filter(|_| !is_cut_off);
            if connection.is_some_and(|connection| self.world.finish(connection).is_err()) {
                self.depart(slot, now);
            }
        }
        self.set_timer(slot);
    }

    /// The device is gone: nothing of it stays but ledger rows that are not judged yet.
    pub(super) fn depart(&mut self, slot: Slot, now: Micros) {
        let device = &mut self.roster.devices[slot];
        if matches!(device.state, State::Opening | State::Connecting) {
            self.attempts.pacer.release();
        }
        if device.state == State::Connecting {
            self.note_session_over(slot, Over::Theirs, now);
        }
        let device = &mut self.roster.devices[slot];
        if device.state.is_connected() {
            self.counted.stats.devices.connected -= 1;
        }
        device.is_queued = false;
        device.session.lost(now);
        device.session.give_up(&mut self.pool);
        self.drop_connection(slot);
        self.set_trouble(slot, Trouble::None);
        self.withhold_queue(slot);
        self.abandon(slot);
        let device = &mut self.roster.devices[slot];
        device.go(now);
        if std::mem::replace(&mut device.times.lost_at, Micros::NEVER) != Micros::NEVER {
            self.counted.stats.sessions.left(now);
        }
        self.note_left(slot, now);
        self.roster.begun.remove(slot);
        let first_packet_id = self.first_packet_id(self.roster.index(slot), now);
        self.roster.devices[slot].session = Session::starting_at(first_packet_id);
        for stream in self.rows_mut(slot) {
            stream.next_due = Micros::NEVER;
        }
        self.begin_anew(slot, now);
        self.timers.wheel.clear(slot);
        if !self.life.is_draining {
            // The plan may have it come again.
            self.follow_presence(slot, now);
            if self.roster.devices[slot].state != State::Absent {
                self.set_timer(slot);
            }
        }
    }

    /// Gives the memory of departed devices at the end of the shard back.
    pub(super) fn trim(&mut self) {
        let wanted = if self.life.is_draining {
            0
        } else {
            self.roster.slots.count(self.course.population.most(self.world.now())) as usize
        };
        let before = self.roster.devices.len();
        while self.roster.devices.len() > wanted
            && let Some(last) = self.roster.devices.last()
            && self.roster.devices[last].state == State::Absent
            && self.rows(last).iter().all(|stream| stream.row.is_settled())
            && let Some(streams) = self.roster.remove_last()
        {
            self.agents.remove_last(last);
            self.faults.forget(last);
            self.watched.bodies.forget(self.roster.index(last), streams);
        }
        if self.roster.devices.len() < before {
            self.timers.wheel.resize(self.roster.devices.len());
            self.roster.trim();
            self.agents.trim();
        }
        self.trim_pool();
    }

    /// Gives the memory of messages back that those who stay cannot have in flight.
    fn trim_pool(&mut self) {
        if self.pool.is_oversized_for(self.roster.devices.len() * usize::from(self.blueprint.session.window)) {
            let mut pool = Pool::with_capacity(self.pool.len());
            for device in self.roster.devices.iter_mut() {
                device.session.move_messages(&mut self.pool, &mut pool);
            }
            self.pool = pool;
        }
    }

    /// Everybody leaves.
    pub(super) fn drain(&mut self, now: Micros) {
        self.life.is_draining = true;
        self.drain_wills(now);
        for slot in self.roster.devices.slots() {
            if self.roster.devices[slot].state != State::Absent {
                self.leave(slot, now);
            }
            if self.roster.devices[slot].state != State::Absent {
                self.set_timer(slot);
            }
        }
        self.trim();
    }

    /// Counts what waits in the queue of a device as withheld.
    pub(super) fn withhold_queue(&mut self, slot: Slot) {
        let Some(queue) = self.roster.devices[slot].queue.take() else { return };
        for queued in *queue {
            self.messages(slot, queued).withheld += 1;
        }
        self.let_go(slot);
    }

    /// The streams of a device.
    pub(super) fn rows(&self, slot: Slot) -> &[StreamState] {
        let device = &self.roster.devices[slot];
        let count = self.blueprint.group(device.group).model.streams().len();
        self.roster.streams.of(device.first_stream, count)
    }

    /// The streams of a device.
    pub(super) fn rows_mut(&mut self, slot: Slot) -> &mut [StreamState] {
        let device = &self.roster.devices[slot];
        let count = self.blueprint.group(device.group).model.streams().len();
        self.roster.streams.of_mut(device.first_stream, count)
    }
}
