//! What is under way on the link of a device that a fault makes slow: put there, and carried on when its time has come.

use fleet_contract::{cost::SHORTEST_PAUSE, time::Micros};

use super::{Shard, faults::Hit, pace};
use crate::{
    agent::Agent,
    engine::{device::State, slot::Slot, world::World},
    link::{Lane, SEGMENT, Way},
};

/// So many bytes that come are taken from the network before a device reads them.
const AHEAD_MAX: usize = 64 * 1024;

/// What is under way on the link of a device.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) up: Lane,
    down: Lane,
    /// The beginning of a packet that has arrived, and whose end is under way.
    partial: Vec<u8>,
    /// Whether the socket may hold more than was taken from it.
    is_unread: bool,
}

impl Link {
    /// When the next bytes arrive at either end.
    pub(super) fn next(&self) -> Micros {
        self.up.next().min(self.down.next())
    }

    /// Forgets what is under way.
    pub(super) fn clear(&mut self) {
        self.up.clear();
        self.down.clear();
        self.partial.clear();
        self.is_unread = false;
    }

    /// How many bytes there is room for on the way down.
    fn room(&self, way: &Way) -> usize {
        match (way.reads_ahead, self.down.len()) {
            (true, taken) => AHEAD_MAX.saturating_sub(taken),
            (false, 0) => SEGMENT,
            (false, _) => 0,
        }
    }
}

impl<W: World, A: Agent> Shard<W, A> {
    /// How often the timers are looked at: what is under way arrives between two messages.
    pub(super) fn set_pace(&mut self, now: Micros) {
        let pace = pace::pace_under(&self.course, now);
        self.timers.pace = if self.faults.slow_links() { SHORTEST_PAUSE } else { pace };
    }

    /// How many bytes of a device are under way to the broker.
    pub(super) fn under_way(&self, slot: Slot) -> usize {
        if !self.roster.devices[slot].is_hit {
            return 0;
        }
        self.faults.hit(slot).map_or(0, |hit| hit.link.up.len())
    }

    /// Keeps what is in `out` from going at once, of a device whose link is slow or swallows all; whether it is such a one.
    pub(super) fn hold_back(&mut self, slot: Slot, now: Micros) -> bool {
        let Some(hit) = self.faults.hit_mut(slot) else { return false };
        let (cut_off, way) = (hit.conditions.cut_off, hit.conditions.up);
        if cut_off.is_none() && way.is_free() {
            return false;
        }
        hit.link.up.put(&self.buffers.out, &way, now);
        match cut_off {
            Some(number) => self.note_effect(number),
            None => way.numbers().for_each(|number| self.note_effect(number)),
        }
        self.set_timer(slot);
        true
    }

    /// How many bytes may be read from the socket of a device; one that must not now is read when there is room again.
    pub(super) fn room(&mut self, slot: Slot) -> usize {
        let Some(hit) = self.faults.hit_mut(slot) else { return usize::MAX };
        if hit.conditions.down.is_free() {
            return usize::MAX;
        }
        let room = hit.link.room(&hit.conditions.down);
        hit.link.is_unread = room == 0;
        room
    }

    /// Takes what was read from the socket of a device: at once, or by its link.
    pub(super) fn take_in(&mut self, slot: Slot, bytes: &[u8], now: Micros) {
        let Some(hit) = self.slow_reader(slot).filter(|_| !bytes.is_empty()) else {
            return self.received(slot, bytes, now);
        };
        let way = hit.conditions.down;
        hit.link.down.put(bytes, &way, now);
        way.numbers().for_each(|number| self.note_effect(number));
        self.set_timer(slot);
    }

    /// Keeps the beginning of a packet until its end comes.
    pub(super) fn keep(&mut self, slot: Slot, partial: &[u8]) {
        if let Some(hit) = self.slow_reader(slot) {
            hit.link.partial.extend_from_slice(partial);
        } else if let Some(connection) = &mut self.roster.devices[slot].connection {
            self.world.keep(connection, partial);
        }
    }

    /// What holds for a device to which what comes takes longer.
    fn slow_reader(&mut self, slot: Slot) -> Option<&mut Hit> {
        if !self.roster.devices[slot].is_hit {
            return None;
        }
        self.faults.hit_mut(slot).filter(|hit| !hit.conditions.down.is_free())
    }

    /// Carries on what has arrived at either end of the link of a device; all of it where the link is as ever.
    pub(super) fn carry(&mut self, slot: Slot, now: Micros) {
        let Some(hit) = self.faults.hit(slot).filter(|hit| hit.conditions.cut_off.is_none()) else { return };
        let (up, down) = (hit.conditions.up.is_free(), hit.conditions.down.is_free());
        self.carry_up(slot, up, now);
        self.carry_down(slot, down, now);
    }

    /// Lets all arrive that is under way on the link of a device, unless no byte goes at all.
    pub(super) fn hurry(&mut self, slot: Slot, now: Micros) {
        if self.faults.hit(slot).is_some_and(|hit| hit.conditions.cut_off.is_none()) {
            self.carry_up(slot, true, now);
            self.carry_down(slot, true, now);
        }
    }

    fn carry_up(&mut self, slot: Slot, is_all: bool, now: Micros) {
        let Some(hit) = self.faults.hit_mut(slot) else { return };
        self.buffers.out.clear();
        if is_all {
            hit.link.up.take_all(&mut self.buffers.out);
        } else {
            hit.link.up.take(now, &mut self.buffers.out);
        }
        self.write_now(slot, now);
    }

    fn carry_down(&mut self, slot: Slot, is_all: bool, now: Micros) {
        let Some(hit) = self.faults.hit_mut(slot) else { return };
        if hit.link.down.next() > now && !is_all {
            return;
        }
        let mut carried = std::mem::take(&mut self.buffers.carried);
        carried.clear();
        carried.append(&mut hit.link.partial);
        if is_all {
            hit.link.down.take_all(&mut carried);
        } else {
            hit.link.down.take(now, &mut carried);
        }
        let is_unread = std::mem::take(&mut hit.link.is_unread);
        // It may have lost its connection meanwhile.
        let is_there =
            matches!(self.roster.devices[slot].state, State::Connecting | State::Up | State::Leaving | State::Closing);
        if is_there && !carried.is_empty() {
            self.received(slot, &carried, now);
        }
        self.buffers.carried = carried;
        if is_unread && self.roster.devices[slot].connection.is_some() {
            self.buffers.unread.push(slot);
        }
    }
}
