//! What comes back: acknowledgements from the broker, arrivals from the observer.

use fleet_contract::time::Micros;

use super::{READ_MAX, Shard, agents::site, connect::CLOSED};
use crate::{
    agent::{Agent, Made},
    engine::{causes, device::State, slot::Slot, streams::StreamCounts, world::World},
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

impl<W: World, A: Agent> Shard<W, A> {
    /// Reads once, and again in the next turn if there may be more: a talkative broker must not delay the others.
    pub(super) fn readable(&mut self, slot: Slot) {
        let Some(device) = self.roster.devices.get(slot) else { return };
        if device.is_hit && self.is_cut_off(slot) {
            return;
        }
        let device = &mut self.roster.devices[slot];
        if device.state == State::Opening {
            return self.opening(slot, self.world.now());
        }
        let room = if device.is_hit { self.room(slot) } else { usize::MAX };
        if room == 0 {
            return;
        }
        let device = &mut self.roster.devices[slot];
        let Some(connection) = &mut device.connection else { return };
        let mut inbox = std::mem::take(&mut self.buffers.inbox);
        let most = inbox.len().min(self.world.kept(connection) + self.world.inbox(READ_MAX.min(room)));
        let read = self.world.read(connection, &mut inbox[..most]);
        // Only who subscribes gets messages that it answers with nothing.
        if A::ANSWERS || !self.blueprint.group(device.group).subscriptions.is_empty() {
            self.world.acknowledge(connection);
        }
        let now = self.world.now();
        match read {
            Ok(Read::Drained(length)) => self.take_in(slot, &inbox[..length], now),
            Ok(Read::More(length)) => {
                self.take_in(slot, &inbox[..length], now);
                self.buffers.unread.push(slot);
            }
            Ok(Read::Closed(length)) => {
                self.take_in(slot, &inbox[..length], now);
                self.hurry(slot, now);
                self.lost(slot, CLOSED, now);
            }
            Err(error) => self.lost(slot, error.label(), now),
        }
        self.buffers.inbox = inbox;
        if self.unsent(slot) > UNREAD_MAX {
            self.end(slot, "answers_unread", now);
        }
    }

    pub(super) fn received(&mut self, slot: Slot, bytes: &[u8], now: Micros) {
        self.counted.stats.bytes.received += bytes.len() as u64;
        let packet_max = self.blueprint.connect.packet_max() as usize;
        let mut rest = bytes;
        let mut is_freed = false;
        self.buffers.out.clear();
        loop {
            match codec::read(rest, self.blueprint.session.protocol, packet_max) {
                Ok(None) => break,
                Ok(Some((packet, length))) => {
                    rest = &rest[length..];
                    if let Some((reason, text)) = said::by_broker(&packet) {
                        causes::add_text(&mut self.counted.stats.connections.said, &format!("{reason}: {text}"));
                        self.counted.note_said(self.roster.index(slot), text);
                    }
                    let device = &mut self.roster.devices[slot];
                    match device.session.receive(
                        &mut self.pool,
                        &self.blueprint.session,
                        packet,
                        now,
                        &mut self.buffers.out,
                    ) {
                        Ok(Event::Acknowledged(message)) => {
                            self.acknowledged(slot, message, now);
                            is_freed = true;
                        }
                        Ok(Event::Rejected(_, reason)) => {
                            self.rejected(reason);
                            is_freed = true;
                        }
                        Ok(Event::Disconnected(reason)) => return self.disconnected(slot, reason, now),
                        Ok(Event::Received(publish)) => {
                            self.took(&publish);
                            self.hear(slot, &publish, now);
                        }
                        Ok(Event::Repeated(_)) => self.counted.stats.received.redelivered += 1,
                        Ok(Event::Subscribed { codes, .. }) => self.subscribed(slot, codes),
                        Ok(Event::Connected { session_present }) => {
                            if let Some(reason) = self.unmet(slot) {
                                return self.decline(slot, reason, now);
                            }
                            self.note_receive_maximum(slot);
                            self.connected(slot, session_present, now);
                            self.buffers.out.clear();
                        }
                        Ok(Event::Refused(refusal)) => return self.refused(slot, refusal, now),
                        Ok(Event::Unsolicited(_)) => self.counted.stats.connections.unsolicited += 1,
                        Ok(_) => {}
                        Err(error) => return self.end(slot, (&error).into(), now),
                    }
                }
                Err(error) => {
                    if let ProtocolError::TooLarge { size, max } = error {
                        self.counted.stats.received.too_large.note(size as u64, max as u64);
                    }
                    return self.end(slot, (&error).into(), now);
                }
            }
        }
        self.keep(slot, rest);
        if !self.write_out(slot, now) {
            return;
        }
        if is_freed {
            self.let_go(slot);
            match self.roster.devices[slot].state {
                State::Up
                    if self.roster.devices[slot].queued() > 0 || self.roster.devices[slot].session.is_recovering() =>
                {
                    self.pump(slot, now);
                }
                State::Leaving => self.settle(slot, now),
                _ => {}
            }
        }
    }

    fn acknowledged(&mut self, slot: Slot, message: InFlight, now: Micros) {
        let InFlight { stream, seq, due, .. } = message;
        let group = self.blueprint.group(self.roster.devices[slot].group);
        self.counted.by_stream.of(group, stream, due).messages.acknowledged += 1;
        self.counted.acknowledgements.note(group.place_of(stream), due, now.since(due));
        let at = self.roster.devices[slot].stream(stream);
        self.roster.streams[at].row.acknowledged(seq);
    }

    /// MQTT 5: the broker does not take a message. It is not sent again, for the answer would be the same.
    fn rejected(&mut self, reason: Reason) {
        causes::add(&mut self.counted.stats.rejected, reason.into(), 1);
    }

    /// MQTT 5: the broker has said why it ends the connection, or only that it does.
    fn disconnected(&mut self, slot: Slot, reason: Reason, now: Micros) {
        let reason = if reason == Reason::Success { CLOSED } else { reason.into() };
        self.lost(slot, reason, now);
    }

    /// MQTT 5: what a device needs and the broker has just said that it does not do.
    fn unmet(&self, slot: Slot) -> Option<Reason> {
        let device = &self.roster.devices[slot];
        let terms = device.session.terms()?;
        let model = &self.blueprint.group(device.group).model;
        if model.highest_qos() > terms.maximum_qos {
            return Some(Reason::QosNotSupported);
        }
        (model.retains() && !terms.is_retain_available).then_some(Reason::RetainNotSupported)
    }

    /// MQTT 5: notes that the broker allows less in flight than the document.
    fn note_receive_maximum(&mut self, slot: Slot) {
        let allowed = self.roster.devices[slot].session.terms().map_or(u16::MAX, |terms| terms.receive_maximum);
        if allowed < self.blueprint.session.window
            && self.counted.stats.receive_maximum.is_none_or(|known| allowed < known)
        {
            self.counted.stats.receive_maximum = Some(allowed);
        }
    }

    /// Leaves a broker whose terms do not do; it counts as a refusal, since no other attempt would end otherwise.
    fn decline(&mut self, slot: Slot, reason: Reason, now: Micros) {
        self.roster.devices[slot].session.disconnect(now, &mut self.buffers.out);
        if self.write_out(slot, now) {
            self.refused(slot, Refusal::Reason(reason), now);
        }
    }

    /// Judges what the observers have seen.
    pub(super) fn take_arrivals(&mut self) {
        for broker in 0..self.watched.inlets.len() {
            while let Ok(arrivals) = self.watched.inlets[broker].arrivals.try_recv() {
                match arrivals {
                    Arrivals::Messages(mut batch) => {
                        if let Some(last) = batch.last() {
                            self.recorder.note_change(last.at);
                        }
                        for arrival in batch.drain(..) {
                            self.arrived(arrival);
                        }
                        // The observer makes a new one if it does not get this one back.
                        drop(self.watched.inlets[broker].used.try_send(batch));
                    }
                    Arrivals::Looked(found) => found.into_iter().for_each(|found| self.looked(found)),
                    Arrivals::Superseded => self.drain(self.world.now()),
                    Arrivals::Lost => {
                        self.judge_rows(broker, |row, counts| row.observer_lost(counts));
                        self.wills_without_observer(broker, false);
                    }
                    Arrivals::Back { session_present, at } => {
                        self.watched.inlets[broker].since = at;
                        if !session_present {
                            self.judge_rows(broker, |row, counts| row.observer_forgotten(counts));
                            self.wills_without_observer(broker, true);
                        }
                        self.wills_with_observer(broker, at);
                    }
                }
            }
        }
    }

    fn arrived(&mut self, arrival: Arrival) {
        let Arrival { device, stream, mark, at, may_repeat } = arrival;
        if matches!(mark, Mark::Will) {
            return self.will_arrived(device, at, may_repeat);
        }
        let Some(slot) = self.roster.slot(device) else {
            self.counted.stats.observer.foreign += 1;
            return;
        };
        let group = self.blueprint.group(self.roster.devices[slot].group);
        let compiled = group.model.stream(stream);
        let qos = compiled.qos();
        let (seq, due, body) = match mark {
            Mark::Stamp { seq, due, body } => (seq, Some(due), body),
            Mark::Counter(seq) => (seq, None, None),
            Mark::Will => return,
            Mark::Body(digest) => match self.watched.bodies.arrived(device, stream, digest) {
                Some(Body { seq, due, .. }) => (seq, Some(due), None),
                // A will that is not followed may have the topic of the birth message.
                None if compiled.is_birth() => return,
                None => {
                    self.counted.stats.observer.foreign += 1;
                    return;
                }
            },
        };
        let place = group.place_of(stream);
        let phase = self.counted.by_stream.mark(due.unwrap_or(at));
        let row = &mut self.roster.streams[self.roster.devices[slot].stream(stream)].row;
        let lost = &self.watched.lost_memory;
        let is_lost = || lost.contains(device, stream, seq);
        if may_repeat && row.is_judged(seq) && !is_lost() {
            return;
        }
        match row.arrived(seq, is_lost, phase, &mut self.counted.by_stream.counts(place)) {
            Judgement::Delivered { .. } => {
                if let Some(due) = due {
                    self.counted.by_stream.at(place, due).latency.end_to_end.record(at.since(due));
                }
                if let (Some(due), Some(body)) = (due, body) {
                    self.compare(slot, Message { stream, seq, due, qos }, body);
                }
                if self.roster.devices[slot].state == State::Leaving {
                    self.settle(slot, at);
                }
            }
            Judgement::Foreign => self.counted.stats.observer.foreign += 1,
            Judgement::Duplicate | Judgement::Late | Judgement::Unfollowed => {}
        }
    }

    /// Compares the body of a message that has arrived with what was sent, which is made once more.
    fn compare(&mut self, slot: Slot, message: Message, digest: u64) {
        let Message { stream, seq, due, .. } = message;
        let stamp = self.stamp(seq, due);
        let site = site(&self.blueprint, &self.roster, slot);
        if site.model.stream(stream).is_event() {
            // What it was made of may be gone.
            return;
        }
        let (agent, buffers) = (&self.agents.agent, &mut self.buffers);
        buffers.body.clear();
        agent.encode(&site, Made::truly(stream, &stamp, &[]), &mut buffers.scratch, &mut buffers.body);
        self.counted.stats.observer.compared += 1;
        self.counted.stats.observer.changed += u64::from(bodies::digest(&self.buffers.body) != digest);
    }

    /// Lets all rows of the devices of a broker know what has become of its observer.
    fn judge_rows(&mut self, broker: usize, judge: impl Fn(&mut Row, &mut StreamCounts<'_>)) {
        for slot in self.roster.devices.slots() {
            if self.world.broker(self.roster.index(slot)) != broker {
                continue;
            }
            let device = &self.roster.devices[slot];
            let group = self.blueprint.group(device.group);
            for (stream, _) in group.model.indexed_streams() {
                let row = &mut self.roster.streams[device.stream(stream)].row;
                judge(row, &mut self.counted.by_stream.counts(group.place_of(stream)));
            }
        }
    }
}
