//! Messages: due, handed over, written. The hot path: no lock, no allocation, one write a device and turn.

use std::collections::VecDeque;

use fleet_contract::{
    fleet::Offline,
    lag,
    model::StampMode,
    stats::{Messages, Unwelcome},
    time::Micros,
    units::Span,
};

use super::{Buffers, Shard, agents::site, faults::BLACKHOLE};
use crate::{
    agent::{Agent, Made, Site},
    engine::{
        device::{Device, Queued, State, StreamState},
        slot::Slot,
        world::World,
    },
    index::StreamIndex,
    model::Seen,
    observe::{
        bodies::{self, Body},
        ledger::Following,
    },
    session::{
        InFlight, Message, Resend, Withheld,
        codec::{self, PacketId, Protocol, PublishFrame, Qos, v5::Alias},
    },
};

/// A message that is handed over later than this is a missed tick.
pub(in crate::engine) const MISSED: Span = Span::from_millis(100);

/// A device gets no more than so many bytes into one turn, so that the others are not late.
const TURN_BYTES: usize = 64 * 1024;

/// With so many bytes that its socket does not take, a device sends nothing more.
const UNSENT_MAX: usize = 64 * 1024;

/// Which sending of a message a PUBLISH is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// The first one.
    First,
    /// The same one again, by the rules of its quality of service: DUP says so (MQTT 3.1.1 and 5, 3.3.1.1).
    Resent,
    /// Another message with the same payload, by a fault.
    Another,
}

/// A message that was appended to `out`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoded {
    /// How many bytes its body has, the last ones.
    pub(super) body: usize,
    /// Whether a fault has spoilt it, so that nobody is to follow it.
    pub(super) is_spoilt: bool,
}

impl<W: World, A: Agent> Shard<W, A> {
    /// What a device does when its timer fires.
    pub(super) fn device_turn(&mut self, slot: Slot, now: Micros) {
        let device = &self.roster.devices[slot];
        if device.times.leave_at <= now && !matches!(device.state, State::Leaving | State::Closing | State::Absent) {
            self.leave(slot, now);
        }
        if self.roster.devices[slot].is_hit {
            self.end_again(slot, now);
            self.carry(slot, now);
        }
        match self.roster.devices[slot].state {
            State::Absent => return,
            State::Offline => {
                self.offer(slot, now);
                let device = &self.roster.devices[slot];
                if device.times.connect_at <= now && !device.is_queued && !self.stays_away(slot, now) {
                    return self.try_connect(slot, now);
                }
            }
            State::Opening => {
                if self.roster.devices[slot].times.since.after(self.blueprint.connect.timeout) <= now {
                    let connection = self.roster.devices[slot].connection.as_ref();
                    let reason = match connection {
                        _ if self.is_cut_off(slot) => BLACKHOLE,
                        Some(connection) => self.world.overdue(connection),
                        None => "connect_timeout",
                    };
                    return self.lost(slot, reason, now);
                }
                self.offer(slot, now);
            }
            State::Connecting | State::Up => {
                self.buffers.out.clear();
                if !self.expire_session(slot, now) {
                    // What has fallen due by now is not to wait for the next look at the timers.
                    if self.roster.devices[slot].state == State::Offline {
                        self.offer(slot, now);
                        self.set_timer(slot);
                    }
                    return;
                }
                self.offer(slot, now);
                if !self.write_out(slot, now) {
                    return;
                }
                if self.roster.devices[slot].session.is_recovering() || self.roster.devices[slot].queued() > 0 {
                    self.pump(slot, now);
                }
            }
            State::Leaving => {
                self.buffers.out.clear();
                if !self.expire_session(slot, now) || !self.write_out(slot, now) {
                    return;
                }
                self.settle(slot, now);
            }
            State::Closing => {
                if self.roster.devices[slot].times.since.after(CLOSE_PATIENCE) <= now {
                    return self.depart(slot, now);
                }
            }
        }
        if self.roster.devices[slot].state != State::Absent {
            self.set_timer(slot);
        }
    }

    /// The next instant at which a device has anything to do.
    pub(super) fn next_turn(&self, slot: Slot) -> Micros {
        let device = &self.roster.devices[slot];
        let dues = || self.rows(slot).iter().map(|stream| stream.next_due).min().unwrap_or(Micros::NEVER);
        let deadline = || device.session.deadline(&self.blueprint.session).unwrap_or(Micros::NEVER);
        let next = match device.state {
            State::Absent => return Micros::NEVER,
            State::Offline if device.is_queued => dues(),
            State::Offline => device.times.connect_at.min(dues()),
            State::Opening => device.times.since.after(self.blueprint.connect.timeout).min(dues()),
            State::Connecting | State::Up => deadline().min(dues()),
            State::Leaving => deadline().min(device.times.since.after(Span(self.blueprint.loss_after.0 + 1_000_000))),
            State::Closing => device.times.since.after(CLOSE_PATIENCE),
        };
        let next =
            if device.is_hit { next.min(self.faults.ends_again(slot)).min(self.faults.arrives(slot)) } else { next };
        if matches!(device.state, State::Leaving | State::Closing) { next } else { next.min(device.times.leave_at) }
    }

    /// Lets the session do what is due; false when it found the connection dead.
    fn expire_session(&mut self, slot: Slot, now: Micros) -> bool {
        let device = &mut self.roster.devices[slot];
        match device.session.expire(&self.blueprint.session, now, &mut self.buffers.out) {
            Ok(()) => true,
            Err(dead) => {
                self.end(slot, dead.into(), now);
                false
            }
        }
    }

    /// The timetable of a device begins with its first session. Event streams have none, but timers, which go on.
    pub(super) fn start_timetable(&mut self, slot: Slot, now: Micros) {
        let device = &self.roster.devices[slot];
        let (group, first, is_faulty) = (device.group, device.first_stream, device.is_faulty);
        for stream in StreamIndex::first(self.rows(slot).len()) {
            let at = first.plus(stream);
            let has_timetable = self.blueprint.group(group).model.stream(stream).has_timetable();
            if has_timetable && self.roster.streams[at].next_due == Micros::NEVER {
                let due = self.due_by_time(slot, stream, now);
                let last_due = due.before(self.course.pace(group, stream).interval(now)).min(now);
                let next_due = if is_faulty { self.or_flood(slot, stream, due, now) } else { due };
                let state = &mut self.roster.streams[at];
                (state.next_due, state.last_due) = (next_due, last_due);
            }
        }
        self.set_timer(slot);
    }

    /// Offers every message that has fallen due; what can be sent is appended to `out`.
    fn offer(&mut self, slot: Slot, now: Micros) {
        let first = self.roster.devices[slot].first_stream;
        for stream in StreamIndex::first(self.rows(slot).len()) {
            let at = first.plus(stream);
            while self.roster.streams[at].next_due <= now && self.buffers.out.len() < TURN_BYTES {
                let site = site(&self.blueprint, &self.roster, slot);
                let compiled = site.model.stream(stream);
                let pace = self.course.pace(self.roster.devices[slot].group, stream);
                let state = &mut self.roster.streams[at];
                if compiled.messages().is_some_and(|most| has_sent(most, state, &self.roster.devices[slot], stream)) {
                    state.next_due = Micros::NEVER;
                    break;
                }
                let due = state.next_due;
                let lag = now.since(due);
                let limit = || lag::limit(compiled.interval().map(|_| pace.interval(due)));
                let is_overdue = lag > lag::ALLOWED && lag > limit();
                state.last_due = due;
                let from = due.after(Span(1));
                let next_due = self.agents.agent.next_due(&site, stream, pace, from);
                state.next_due = next_due;
                let is_faulty = self.roster.devices[slot].is_faulty;
                if is_faulty {
                    self.roster.streams[at].next_due = self.or_flood(slot, stream, next_due, from);
                }
                let added = if is_faulty { self.flooded(slot, stream, due) } else { None };
                let is_said = self.is_said(slot, Queued { due, stream }, added.is_some());
                let silenced = if is_faulty && is_said { self.silenced(slot, stream, due) } else { None };
                if is_said && let Some(cause) = silenced.or(added) {
                    self.note_cause(slot, stream, cause);
                }
                if is_said && silenced.is_none() {
                    self.offer_one(slot, Queued { due, stream }, is_overdue, now);
                }
                if A::ANSWERS {
                    self.carry_out(slot, now);
                }
            }
        }
    }

    /// Whether a device says something that has fallen due, by its timetable or, if it is `added`, by a flood.
    #[inline]
    fn is_said(&mut self, slot: Slot, Queued { due, stream }: Queued, is_added: bool) -> bool {
        let is_paused = self.course.is_paused(due);
        if is_paused && !A::ANSWERS {
            return false;
        }
        if is_added {
            return !is_paused;
        }
        let site = site(&self.blueprint, &self.roster, slot);
        let (agent, memory) = self.agents.of(slot);
        let Buffers { scratch, effects, .. } = &mut self.buffers;
        agent.on_due(memory, &site, stream, due, scratch, effects) && !is_paused
    }

    /// Offers a message; `is_overdue` when it is later than its interval allows.
    pub(super) fn offer_one(&mut self, slot: Slot, queued: Queued, is_overdue: bool, now: Micros) {
        self.messages(slot, queued).offered += 1;
        let lag = now.since(queued.due);
        self.counted.lags.note(queued.due, lag);
        self.counted.stats.generator.missed_ticks += u64::from(lag >= MISSED);
        self.counted.stats.generator.overdue += u64::from(is_overdue);
        let device = &self.roster.devices[slot];
        if device.state != State::Up {
            return self.offer_offline(slot, queued);
        }
        if device.is_hit
            && let Some(number) = self.faults.cut_off(slot)
        {
            self.note_effect(number);
            return self.offer_offline(slot, queued);
        }
        // A queue is worked off in order; only QoS 0, which never queues, may pass it.
        let is_behind = self.roster.devices[slot].queued() > 0 && self.qos(slot, queued.stream) != Qos::AtMostOnce;
        if is_behind {
            return self.enqueue(slot, queued);
        }
        match self.hand_over(slot, queued, now) {
            Ok(()) => {}
            Err(Withheld::TooLarge) => self.messages(slot, queued).withheld += 1,
            Err(_) => self.enqueue(slot, queued),
        }
    }

    /// What falls due while a device is offline is withheld, or waits for its return.
    fn offer_offline(&mut self, slot: Slot, queued: Queued) {
        match self.blueprint.offline {
            Offline::Skip => {
                let count = self.messages(slot, queued);
                count.withheld += 1;
                count.withheld_offline += 1;
            }
            Offline::CatchUp { max } => {
                let queue = self.roster.devices[slot].queue.get_or_insert_default();
                queue.push_back(queued);
                let of_stream = queue.iter().filter(|other| other.stream == queued.stream).count();
                if of_stream > max as usize
                    && let Some(oldest) = queue.iter().position(|other| other.stream == queued.stream)
                    && let Some(oldest) = queue.remove(oldest)
                {
                    let count = self.messages(slot, oldest);
                    count.withheld += 1;
                    count.withheld_offline += 1;
                }
            }
        }
    }

    /// Puts a message behind those that wait; when the queue is full it is withheld.
    fn enqueue(&mut self, slot: Slot, queued: Queued) {
        let is_full = self.roster.devices[slot].queued() >= usize::from(self.blueprint.connect.queue);
        if is_full || self.qos(slot, queued.stream) == Qos::AtMostOnce {
            self.messages(slot, queued).withheld += 1;
        } else {
            self.roster.devices[slot].queue.get_or_insert_default().push_back(queued);
        }
    }

    /// Hands a message to the session and appends its packet to `out`.
    fn hand_over(&mut self, slot: Slot, queued: Queued, now: Micros) -> Result<(), Withheld> {
        let unsent = self.unsent(slot) + self.buffers.out.len();
        if unsent > UNSENT_MAX {
            return Err(Withheld::WindowFull);
        }
        let device = &mut self.roster.devices[slot];
        let Queued { due, stream } = queued;
        let qos = self.blueprint.group(device.group).model.stream(stream).qos();
        let at = device.stream(stream);
        let seq = self.roster.streams[at].row.next;
        let message = Message { stream, seq, due, qos };
        let packet_id = device.session.publish(&mut self.pool, &self.blueprint.session, message, now)?;
        let Some(encoded) = self.encode(slot, message, packet_id, Sending::First) else {
            self.retract(slot, packet_id);
            return Err(Withheld::TooLarge);
        };
        self.enter(slot, message, encoded, now);
        if self.roster.devices[slot].is_faulty {
            self.say_again(slot, message, now);
        }
        Ok(())
    }

    /// How many bytes of a device its socket has not taken, or are under way to it.
    pub(super) fn unsent(&self, slot: Slot) -> usize {
        let connection = self.roster.devices[slot].connection.as_ref();
        connection.map_or(0, |connection| self.world.unsent(connection)) + self.under_way(slot)
    }

    /// Enters a message that was handed over into the ledger; the last bytes of `out` are its body.
    fn enter(&mut self, slot: Slot, message: Message, encoded: Encoded, now: Micros) {
        let Encoded { body, is_spoilt } = encoded;
        let Message { stream, seq, due, qos } = message;
        let index = self.roster.index(slot);
        let device = &self.roster.devices[slot];
        let group = self.blueprint.group(device.group);
        let compiled = group.model.stream(stream);
        let can_follow = device.is_observed && compiled.is_followed() && !is_spoilt;
        let following = if can_follow {
            self.inlet(slot).watch.following(index, qos != Qos::AtMostOnce)
        } else {
            Following::Unobserved
        };
        if can_follow && compiled.stamp() == &StampMode::None {
            let digest = bodies::digest(&self.buffers.out[self.buffers.out.len() - body..]);
            let body = Body { digest, seq, due, sent: now };
            // As long as it is judged, and as long again for what is late.
            self.watched.bodies.sent(index, stream, body, Span(self.blueprint.loss_after.0.saturating_mul(2)));
        }
        // Sequences begin with 0 once in the life of a worker.
        self.counted.stats.retained += u64::from(compiled.is_retained() && seq == 0);
        let state = &mut self.roster.streams[device.stream(stream)];
        state.row.next = state.row.next.wrapping_add(1);
        let phase = self.counted.by_stream.mark(due);
        let count = &mut self.counted.by_stream.of(group, stream, due).messages;
        count.count_sent(body);
        if can_follow || is_spoilt && device.is_observed && compiled.is_followed() {
            state.row.sent(seq, now, following, qos == Qos::AtMostOnce, (phase, count));
        } else {
            count.unobserved += 1;
        }
    }

    /// The session forgets a message that was not written.
    pub(super) fn retract(&mut self, slot: Slot, packet_id: Option<PacketId>) {
        if let Some(packet_id) = packet_id {
            self.roster.devices[slot].session.retract(&mut self.pool, packet_id);
        }
    }

    /// Appends a PUBLISH: what a device sends is a pure function, of what was kept for the message where it has an agent that
    /// answers. So a message that is resent is simply made again.
    /// `None` when it is larger than the broker takes, then nothing was appended.
    pub(super) fn encode(
        &mut self,
        slot: Slot,
        message: Message,
        packet_id: Option<PacketId>,
        sending: Sending,
    ) -> Option<Encoded> {
        let Message { stream, seq, due, qos } = message;
        let dup = sending == Sending::Resent;
        let index = self.roster.index(slot);
        let options = &self.blueprint.session;
        let session = &mut self.roster.devices[slot].session;
        let alias = session.alias(stream, options);
        let size_max = session.maximum_packet_size();
        let model = &self.blueprint.group(self.roster.devices[slot].group).model;
        let start = self.buffers.out.len();
        let stamp = self.stamp(seq, due);
        let mut frame = PublishFrame::begin(&mut self.buffers.out, qos, model.stream(stream).is_retained(), dup);
        if !matches!(alias, Alias::Use(_)) {
            model.write_topic(stream, index, &mut self.buffers.out);
        }
        frame.end_topic(&mut self.buffers.out, packet_id);
        let properties = match options.protocol {
            Protocol::V311 => Ok(()),
            Protocol::V5 => frame.write_properties(&mut self.buffers.out, alias, |out| {
                model.write_properties(stream, index, &stamp, out)
            }),
        };
        let begin = self.buffers.out.len();
        let is_faulty = self.roster.devices[slot].is_faulty;
        let seen = if is_faulty { self.seen(slot, message) } else { Seen::truly(due) };
        let site = Site { group: self.roster.devices[slot].group, model, device: index, start: self.blueprint.start };
        let kept = self.agents.kept(slot, stream, due).unwrap_or_default();
        let (agent, Buffers { scratch, out, body: truth, .. }) = (&self.agents.agent, &mut self.buffers);
        agent.encode(&site, Made { stream, stamp: &stamp, seen, kept }, scratch, out);
        let mut is_wrong = is_faulty && seen != Seen::truly(due);
        if is_wrong {
            // Not each payload has the time or a value that changes.
            truth.clear();
            agent.encode(&site, Made::truly(stream, &stamp, kept), scratch, truth);
            is_wrong = out[begin..] != **truth;
        }
        let is_spoilt = is_faulty && self.spoil(slot, message, begin, is_wrong, sending != Sending::First);
        let body = self.buffers.out.len() - begin;
        match properties.and_then(|()| frame.finish(&mut self.buffers.out)) {
            Ok(packet) if packet.len() <= size_max => {
                if matches!(alias, Alias::Bind(_)) {
                    self.roster.devices[slot].session.bound(stream);
                }
                return Some(Encoded { body, is_spoilt });
            }
            Ok(packet) => self.note_too_large(slot, stream, packet.len() as u64, size_max as u64),
            // Topics and sizes were checked with the document.
            Err(error) => tracing::error!(device = index.number(), %error, "a message does not fit a packet"),
        }
        self.buffers.out.truncate(start);
        None
    }

    /// A message is larger than the broker takes; it never will be smaller.
    fn note_too_large(&mut self, slot: Slot, stream: StreamIndex, size: u64, limit: u64) {
        let name = self.blueprint.group(self.roster.devices[slot].group).model.stream(stream).name();
        match self.counted.stats.too_large.get_mut(name) {
            Some(known) => known.note(size, limit),
            None => self.counted.stats.too_large.entry(name.into()).or_default().note(size, limit),
        }
    }

    /// The broker has ended one more young connection of a device: of what it had in flight the largest is the likeliest
    /// reason.
    pub(super) fn note_unwelcome(&mut self, slot: Slot) {
        let site = site(&self.blueprint, &self.roster, slot);
        let (model, device) = (site.model, &self.roster.devices[slot]);
        let mut largest: Option<(StreamIndex, usize)> = None;
        for InFlight { stream, seq, due, .. } in device.session.unacknowledged(&self.pool) {
            let stamp = self.stamp(*seq, *due);
            let made = Made::truly(*stream, &stamp, self.agents.kept(slot, *stream, *due).unwrap_or_default());
            self.buffers.body.clear();
            model.write_topic(*stream, site.device, &mut self.buffers.body);
            self.agents.agent.encode(&site, made, &mut self.buffers.scratch, &mut self.buffers.body);
            if largest.is_none_or(|(_, size)| size < self.buffers.body.len()) {
                largest = Some((*stream, self.buffers.body.len()));
            }
        }
        let Some((stream, size)) = largest else { return };
        let name = model.stream(stream).name();
        let found = Unwelcome { connections: 1, largest: size as u64 };
        self.counted.stats.unwelcome.entry(name.into()).or_default().merge(&found);
    }

    /// Sends what the last connection left, then what waits, as far as the window and the turn allow.
    pub(super) fn pump(&mut self, slot: Slot, now: Micros) {
        if self.is_cut_off(slot) {
            return;
        }
        self.buffers.out.clear();
        while self.buffers.out.len() < TURN_BYTES
            && let Some(resend) = self.roster.devices[slot].session.next_resend(&mut self.pool)
        {
            match resend {
                Resend::Release(packet_id) => codec::write_pubrel(&mut self.buffers.out, packet_id),
                Resend::Publish(message) => {
                    let InFlight { stream, seq, due, qos, packet_id, dup, .. } = message;
                    let sending = if dup { Sending::Resent } else { Sending::First };
                    if self.encode(slot, Message { stream, seq, due, qos }, Some(packet_id), sending).is_some() {
                        self.messages(slot, Queued { due, stream }).resent += 1;
                    } else {
                        self.retract(slot, Some(packet_id));
                        self.messages(slot, Queued { due, stream }).abandoned += 1;
                    }
                }
            }
        }
        while self.buffers.out.len() < TURN_BYTES
            && let Some(queued) = self.roster.devices[slot].queue.as_ref().and_then(|queue| queue.front().copied())
        {
            match self.hand_over(slot, queued, now) {
                Ok(()) => {}
                Err(Withheld::TooLarge) => self.messages(slot, queued).withheld += 1,
                Err(_) => break,
            }
            self.pop_queue(slot);
        }
        if self.buffers.out.is_empty() {
            return;
        }
        self.roster.devices[slot].session.sent(now);
        let is_unfinished = self.buffers.out.len() >= TURN_BYTES;
        if self.write_out(slot, now) && is_unfinished {
            self.timers.wheel.set(slot, now);
        }
    }

    fn pop_queue(&mut self, slot: Slot) {
        if let Some(queue) = &mut self.roster.devices[slot].queue {
            queue.pop_front();
            // The usual device never queues: its memory goes with the last message.
            if queue.is_empty() && queue.capacity() > 64 {
                **queue = VecDeque::new();
            }
        }
    }

    fn qos(&self, slot: Slot, stream: StreamIndex) -> Qos {
        self.blueprint.group(self.roster.devices[slot].group).model.stream(stream).qos()
    }

    /// The counters in which a message belongs.
    pub(super) fn messages(&mut self, slot: Slot, message: Queued) -> &mut Messages {
        let group = self.blueprint.group(self.roster.devices[slot].group);
        &mut self.counted.by_stream.of(group, message.stream, message.due).messages
    }
}

/// Whether a device has sent as many messages of a stream as it is to send, those that wait included.
fn has_sent<C>(most: u32, state: &StreamState, device: &Device<C>, stream: StreamIndex) -> bool {
    let waiting = device.queue.iter().flat_map(|queue| queue.iter()).filter(|queued| queued.stream == stream);
    u64::from(state.row.next) + waiting.count() as u64 >= most.into()
}

/// How long a broker may take to close after DISCONNECT before we do.
const CLOSE_PATIENCE: Span = Span::from_secs(1);
