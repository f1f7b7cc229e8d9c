//! Messages that faults spoil, double, or add to the timetable.
//!
//! Nobody follows what is spoilt or doubled on purpose: whatever a broker makes of it, it is not its fault.

use fleet_contract::{time::Micros, units::Span};

use super::{Shard, faults::Faults, publish::Encoded};
use crate::{
    engine::{device::Queued, slot::Slot, world::World},
    fault::{self, Flood, How, Spoil},
    model::Seen,
    session::Message,
};

impl<C> Faults<C> {
    fn spoils(&self, slot: Slot) -> &[Spoil] {
        self.hit(slot).map_or(&[], |hit| &hit.conditions.spoils)
    }

    /// What a device that is hit sees when it makes a message.
    pub(super) fn seen(&self, slot: Slot, message: Message) -> Seen {
        let mut seen = Seen::truly(message.due);
        for spoil in self.spoils(slot).iter().filter(|spoil| spoil.means(message.stream, message.seq).is_some()) {
            match spoil.how {
                How::Old(age) => {
                    seen.world = message.due.before(age);
                    seen.clock = seen.clock.before(age);
                }
                How::Clock(clock) => seen.clock = clock.shows(seen.clock),
                How::Corrupt(_) | How::Twice => {}
            }
        }
        seen
    }

    /// The flood of a stream.
    pub(super) fn flood(&self, slot: Slot, stream: u16) -> Option<Flood> {
        self.hit(slot)?.conditions.floods.iter().find(|flood| flood.stream == stream).copied()
    }
}

impl<W: World> Shard<W> {
    /// Spoils the payload of a message, which begins at `begin` of `out`; whether nobody is to follow it. What it does to one that
    /// is sent again does not count.
    pub(super) fn spoil(&mut self, slot: Slot, message: Message, begin: usize, is_again: bool) -> bool {
        let mut is_spoilt = false;
        for place in 0..self.faults.spoils(slot).len() {
            let spoil = self.faults.spoils(slot)[place];
            let Some(draw) = spoil.means(message.stream, message.seq) else { continue };
            let is_done = match spoil.how {
                How::Corrupt(how) => fault::spoil(how, &mut self.buffers.out, begin, draw),
                How::Old(_) | How::Clock(_) => true,
                // It counts when it is said again.
                How::Twice => {
                    is_spoilt = true;
                    false
                }
            };
            is_spoilt |= is_done;
            if is_done && !is_again {
                self.note_effect(spoil.number);
            }
        }
        is_spoilt
    }

    /// Sends a message once more that is to be sent twice, if there is room for it. It counts as one of its own.
    pub(super) fn say_again(&mut self, slot: Slot, message: Message, now: Micros) {
        let is_meant = |spoil: &&Spoil| spoil.how == How::Twice && spoil.means(message.stream, message.seq).is_some();
        let Some(number) = self.faults.spoils(slot).iter().find(is_meant).map(|spoil| spoil.number) else { return };
        let session = &mut self.roster.devices[slot].session;
        let Ok(packet_id) = session.publish(&mut self.pool, &self.blueprint.session, message, now) else { return };
        let Some(Encoded { body, .. }) = self.encode(slot, message, packet_id, true) else {
            return self.retract(slot, packet_id);
        };
        self.note_effect(number);
        let count = self.messages(slot, Queued { due: message.due, stream: message.stream });
        count.offered += 1;
        count.count_sent(body);
        count.unobserved += 1;
    }

    /// Sets when the streams of a device are due that a flood has begun or ended for.
    pub(super) fn follow_floods(&mut self, slot: Slot, before: &[Flood], now: Micros) {
        let index = self.roster.index(slot);
        let device = &self.roster.devices[slot];
        let (group, first) = (usize::from(device.group), device.stream(0));
        let streams = self.blueprint.groups[group].model.streams();
        for (number, stream) in (0..).zip(streams) {
            let flood = self.faults.flood(slot, number);
            if flood.is_none() && before.iter().all(|flood| flood.stream != number) {
                continue;
            }
            let state = &mut self.roster.streams[first.plus(number)];
            // It has said all, or has not begun.
            if state.next_due == Micros::NEVER {
                continue;
            }
            let from = state.last_due.after(Span(1));
            let due = stream.first_due(self.course.pace(group, usize::from(number)), index, from);
            state.next_due = flood.map_or(due, |flood| due.min(flood.due(from.max(now))));
        }
    }
}
