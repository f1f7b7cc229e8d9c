//! What comes back: acknowledgements from the broker, arrivals from the observer.

use fleet_contract::{stats::Messages, time::Micros};

use super::{READ_MAX, Shard, connect::CLOSED};
use crate::{
    engine::{causes, device::State, world::World},
    observe::{
        Arrival, Arrivals, Mark,
        bodies::{self, Body},
        ledger::{Judgement, Row},
    },
    session::{
        Event, InFlight, Message, Refusal,
        codec::{self, ProtocolError, v5::Reason},
        said,
    },
    transport::Read,
};

/// With more bytes than this that the broker does not take, a device gives its connection up: its own messages stop
/// far below, so that what grows so much are answers to a broker that asks and does not read.
const UNREAD_MAX: usize = 4 * 1024 * 1024;

/// Of so many devices a shard keeps what the broker said to them.
const SAID_MAX: usize = 256;

impl<W: World> Shard<W> {
    /// Reads once, and again in the next turn if there may be more: a talkative broker must not delay the others.
    pub(super) fn readable(&mut self, slot: usize) {
        let Some(device) = self.devices.get_mut(slot) else { return };
        if device.state == State::Opening {
            return self.opening(slot, self.world.now());
        }
        let Some(connection) = &mut device.connection else { return };
        let mut inbox = std::mem::take(&mut self.inbox);
        let most = inbox.len().min(self.world.kept(connection) + self.world.inbox(READ_MAX));
        let read = self.world.read(connection, &mut inbox[..most]);
        // Only who subscribes gets messages that it answers with nothing.
        if !self.blueprint.groups[usize::from(device.group)].subscriptions.is_empty() {
            self.world.acknowledge(connection);
        }
        let now = self.world.now();
        match read {
            Ok(Read::Drained(length)) => self.received(slot, &inbox[..length], now),
            Ok(Read::More(length)) => {
                self.received(slot, &inbox[..length], now);
                self.unread.push(slot);
            }
            Ok(Read::Closed(length)) => {
                self.received(slot, &inbox[..length], now);
                self.lost(slot, CLOSED, now);
            }
            Err(error) => self.lost(slot, error.label(), now),
        }
        self.inbox = inbox;
        let unsent = self.devices[slot].connection.as_ref().map_or(0, |connection| self.world.unsent(connection));
        if unsent > UNREAD_MAX {
            self.lost(slot, "answers_unread", now);
        }
    }

    fn received(&mut self, slot: usize, bytes: &[u8], now: Micros) {
        self.stats.bytes.received += bytes.len() as u64;
        let packet_max = self.blueprint.connect.packet_max() as usize;
        let mut rest = bytes;
        let mut is_freed = false;
        self.out.clear();
        loop {
            match codec::read(rest, self.blueprint.session.protocol, packet_max) {
                Ok(None) => break,
                Ok(Some((packet, length))) => {
                    rest = &rest[length..];
                    if let Some((reason, text)) = said::by_broker(&packet) {
                        causes::add_text(&mut self.stats.connections.said, &format!("{reason}: {text}"));
                        self.note_said(slot, text);
                    }
                    let device = &mut self.devices[slot];
                    match device.session.receive(&mut self.pool, &self.blueprint.session, packet, now, &mut self.out) {
                        Ok(Event::Acknowledged(message)) => {
                            self.acknowledged(slot, message, now);
                            is_freed = true;
                        }
                        Ok(Event::Rejected(_, reason)) => {
                            self.rejected(reason);
                            is_freed = true;
                        }
                        Ok(Event::Disconnected(reason)) => return self.disconnected(slot, reason, now),
                        Ok(Event::Received(publish)) => self.took(&publish),
                        Ok(Event::Repeated(_)) => self.stats.received.redelivered += 1,
                        Ok(Event::Subscribed { codes, .. }) => self.subscribed(slot, codes),
                        Ok(Event::Connected { session_present }) => {
                            if let Some(reason) = self.unmet(slot) {
                                return self.decline(slot, reason, now);
                            }
                            self.note_receive_maximum(slot);
                            self.connected(slot, session_present, now);
                            self.out.clear();
                        }
                        Ok(Event::Refused(refusal)) => return self.refused(slot, refusal, now),
                        Ok(Event::Unsolicited(_)) => self.stats.connections.unsolicited += 1,
                        Ok(_) => {}
                        Err(error) => return self.lost(slot, (&error).into(), now),
                    }
                }
                Err(error) => {
                    if let ProtocolError::TooLarge { size, max } = error {
                        self.stats.received.too_large.note(size as u64, max as u64);
                    }
                    return self.lost(slot, (&error).into(), now);
                }
            }
        }
        if let Some(connection) = &mut self.devices[slot].connection {
            self.world.keep(connection, rest);
        }
        if !self.write_out(slot, now) {
            return;
        }
        if is_freed {
            match self.devices[slot].state {
                State::Up if self.devices[slot].queued() > 0 || self.devices[slot].session.is_recovering() => {
                    self.pump(slot, now);
                }
                State::Leaving => self.settle(slot, now),
                _ => {}
            }
        }
    }

    /// Keeps what the broker said to a device, of some devices.
    fn note_said(&mut self, slot: usize, text: String) {
        let index = self.slots.index(slot);
        if self.said.len() < SAID_MAX || self.said.contains_key(&index) {
            self.said.insert(index, text);
        }
    }

    fn acknowledged(&mut self, slot: usize, message: InFlight, now: Micros) {
        let InFlight { stream, seq, due, .. } = message;
        let group = &self.blueprint.groups[usize::from(self.devices[slot].group)];
        self.by_stream.of(group, stream).messages.acknowledged += 1;
        self.acknowledgements.note(group.first_stream + usize::from(stream), now.since(due));
        let at = self.devices[slot].streams as usize + usize::from(stream);
        self.streams[at].row.acknowledged(seq);
    }

    /// MQTT 5: the broker does not take a message. It is not sent again, for the answer would be the same.
    fn rejected(&mut self, reason: Reason) {
        causes::add(&mut self.stats.rejected, reason.into(), 1);
    }

    /// MQTT 5: the broker has said why it ends the connection, or only that it does.
    fn disconnected(&mut self, slot: usize, reason: Reason, now: Micros) {
        let reason = if reason == Reason::Success { CLOSED } else { reason.into() };
        self.lost(slot, reason, now);
    }

    /// MQTT 5: what a device needs and the broker has just said that it does not do.
    fn unmet(&self, slot: usize) -> Option<Reason> {
        let device = &self.devices[slot];
        let terms = device.session.terms()?;
        let model = &self.blueprint.groups[usize::from(device.group)].model;
        if model.highest_qos() > terms.maximum_qos {
            return Some(Reason::QosNotSupported);
        }
        (model.retains() && !terms.is_retain_available).then_some(Reason::RetainNotSupported)
    }

    /// MQTT 5: notes that the broker allows less in flight than the document.
    fn note_receive_maximum(&mut self, slot: usize) {
        let allowed = self.devices[slot].session.terms().map_or(u16::MAX, |terms| terms.receive_maximum);
        if allowed < self.blueprint.session.window && self.stats.receive_maximum.is_none_or(|known| allowed < known) {
            self.stats.receive_maximum = Some(allowed);
        }
    }

    /// Leaves a broker whose terms do not do; it counts as a refusal, since no other attempt would end otherwise.
    fn decline(&mut self, slot: usize, reason: Reason, now: Micros) {
        self.devices[slot].session.disconnect(now, &mut self.out);
        if self.write_out(slot, now) {
            self.refused(slot, Refusal::Reason(reason), now);
        }
    }

    /// Judges what the observers have seen.
    pub(super) fn take_arrivals(&mut self) {
        for broker in 0..self.inlets.len() {
            while let Ok(arrivals) = self.inlets[broker].arrivals.try_recv() {
                match arrivals {
                    Arrivals::Messages(mut batch) => {
                        for arrival in batch.drain(..) {
                            self.arrived(arrival);
                        }
                        // The observer makes a new one if it does not get this one back.
                        drop(self.inlets[broker].used.try_send(batch));
                    }
                    Arrivals::Lost => self.judge_rows(broker, Row::observer_lost),
                    Arrivals::Back { session_present, at } => {
                        self.inlets[broker].since = at;
                        if !session_present {
                            self.judge_rows(broker, Row::observer_forgotten);
                        }
                    }
                }
            }
        }
    }

    fn arrived(&mut self, arrival: Arrival) {
        let Arrival { device, stream, mark, at, may_repeat } = arrival;
        let Some(slot) = self.slots.slot(device).filter(|slot| *slot < self.devices.len()) else {
            self.stats.observer.foreign += 1;
            return;
        };
        let group = &self.blueprint.groups[usize::from(self.devices[slot].group)];
        let compiled = &group.model.streams()[usize::from(stream)];
        let qos = compiled.qos();
        let (seq, due, body) = match mark {
            Mark::Stamp { seq, due, body } => (seq, Some(due), body),
            Mark::Counter(seq) => (seq, None, None),
            Mark::Body(digest) => match self.bodies.arrived(device, stream, digest) {
                Some(Body { seq, due, .. }) => (seq, Some(due), None),
                // The will, which the broker sends, has the topic of the birth message.
                None if compiled.is_birth() => return,
                None => {
                    self.stats.observer.foreign += 1;
                    return;
                }
            },
        };
        let stats = self.by_stream.of(group, stream);
        let row = &mut self.streams[self.devices[slot].streams as usize + usize::from(stream)].row;
        let lost = &self.lost_memory;
        let is_lost = || lost.contains(device, stream, seq);
        if may_repeat && row.is_judged(seq) && !is_lost() {
            return;
        }
        match row.arrived(seq, is_lost, &mut stats.messages) {
            Judgement::Delivered { .. } => {
                if let Some(due) = due {
                    stats.latency.end_to_end.record(at.since(due));
                }
                if let (Some(due), Some(body)) = (due, body) {
                    self.compare(slot, Message { stream, seq, due, qos }, body);
                }
                if self.devices[slot].state == State::Leaving {
                    self.settle(slot, at);
                }
            }
            Judgement::Foreign => self.stats.observer.foreign += 1,
            Judgement::Duplicate | Judgement::Late | Judgement::Unfollowed => {}
        }
    }

    /// Compares the body of a message that has arrived with what was sent, which is made once more.
    fn compare(&mut self, slot: usize, message: Message, digest: u64) {
        let Message { stream, seq, due, .. } = message;
        let index = self.slots.index(slot);
        let model = &self.blueprint.groups[usize::from(self.devices[slot].group)].model;
        let stamp = self.stamp(seq, due);
        self.body.clear();
        model.write_payload(
            usize::from(stream),
            index,
            self.blueprint.start,
            &stamp,
            &mut self.scratch,
            &mut self.body,
        );
        self.stats.observer.compared += 1;
        self.stats.observer.changed += u64::from(bodies::digest(&self.body) != digest);
    }

    /// Lets all rows of the devices of a broker know what has become of its observer.
    fn judge_rows(&mut self, broker: usize, judge: impl Fn(&mut Row, &mut Messages)) {
        for slot in 0..self.devices.len() {
            if self.world.broker(self.slots.index(slot)) != broker {
                continue;
            }
            let device = &self.devices[slot];
            let group = &self.blueprint.groups[usize::from(device.group)];
            for number in 0..group.model.streams().len() {
                let row = &mut self.streams[device.streams as usize + number].row;
                judge(row, &mut self.by_stream.at(group.first_stream + number).messages);
            }
        }
    }
}
