//! Connections: begun at their instant and at the fleet's pace, lost, and made again.

use std::collections::VecDeque;

use fleet_contract::{
    plan::{self, Population},
    time::Micros,
    units::{Rate, Span},
};

use super::{Shard, wills::Over};
use crate::{
    agent::Agent,
    engine::{
        causes,
        device::{Queued, State, Trouble},
        pacer::Pacer,
        slot::Slot,
        world::{NotOpened, World},
    },
    index::DeviceIndex,
    session::{Refusal, backoff},
    transport::{self, NoAddress, Written},
};

/// A connection that the broker ends so soon after it accepted it counts as a failure for the backoff.
pub(in crate::engine) const YOUNG: Span = Span::from_secs(5);

/// After so many connections in a row that ended young, or were not made, what is in flight is looked at for the reason.
const UNWELCOME_ATTEMPTS: u16 = 2;

/// Handshakes of TLS and WebSocket that go on in one turn, so that what they compute delays nobody's messages.
const HANDSHAKES_PER_TURN: usize = 4;

/// The part of the fleet's connect rate that falls to a shard.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct ShareOfRate {
    /// The fleet's rate.
    pub(in crate::engine) rate: Rate,
    /// The devices of the worker.
    pub(in crate::engine) worker: plan::Shard,
    /// The threads that the worker's devices are spread over.
    pub(in crate::engine) threads: u32,
    /// The start of the process.
    pub(in crate::engine) epoch: Micros,
    /// The start of its engine.
    pub(in crate::engine) started: Micros,
}

impl ShareOfRate {
    /// The part from `now` on: as large as the worker's part of the devices, divided by its threads.
    pub(in crate::engine) fn under(self, population: &Population, now: Micros) -> Rate {
        let devices = population.most(now).max(1);
        let share = f64::from(self.worker.share_of(devices).max(1)) / f64::from(devices);
        Rate::per_second(self.rate.get() * share / f64::from(self.threads)).unwrap_or(self.rate)
    }

    /// When this process means to connect device `index`, which the plan has come at `planned`.
    ///
    /// What was planned for a time before the process (it was restarted, or started late) it makes up for from its
    /// start on, at its share of the rate: neither at once nor as late as the timetable of the whole fleet would be.
    pub(in crate::engine) fn intended(self, index: DeviceIndex, planned: Micros, population: &Population) -> Micros {
        if planned >= self.epoch {
            return planned;
        }
        let pace = Self { threads: 1, ..self }.under(population, self.started);
        self.started.after(pace.time_for(u64::from(index.number().saturating_sub(self.worker.first))))
    }

    /// The last instant at which this process means to connect a device for the first time; its start if there is none.
    pub(in crate::engine) fn last_connect(self, population: &Population) -> Micros {
        let most = population.most(self.started);
        let indices = self.worker.first..self.worker.first + self.worker.share_of(most);
        let intended = indices.filter_map(|number| {
            let stay = population.stay(number, self.started)?;
            Some(self.intended(DeviceIndex::new(number), stay.from, population))
        });
        intended.fold(self.started, Micros::max)
    }
}

/// The attempts of a shard's devices to connect.
pub(super) struct Attempts {
    pub(super) share: ShareOfRate,
    pub(super) pacer: Pacer,
    /// The devices that the pacer has put off, in the order in which they asked; holds each of the shard's once.
    queue: VecDeque<Slot>,
    /// Connections that are being made and whose handshakes can go on; at most one entry for each readiness.
    pub(super) handshakes: VecDeque<Slot>,
}

impl Attempts {
    /// None yet, at `rate`.
    pub(super) fn new(share: ShareOfRate, rate: Rate) -> Self {
        Self { share, pacer: Pacer::new(rate), queue: VecDeque::new(), handshakes: VecDeque::new() }
    }

    /// When the next of those that wait may begin; never if nobody waits, or only for others to be done.
    pub(super) fn next(&self) -> Micros {
        if self.queue.is_empty() { Micros::NEVER } else { self.pacer.ready_at().unwrap_or(Micros::NEVER) }
    }
}

impl<W: World, A: Agent> Shard<W, A> {
    /// Begins to connect, or queues if the pace of the fleet does not allow it yet.
    pub(super) fn try_connect(&mut self, slot: Slot, now: Micros) {
        self.roster.begun.insert(slot);
        let device = &self.roster.devices[slot];
        if device.is_hit && self.rushes(slot) {
            return self.rush(slot);
        }
        let is_first = device.counts.sessions == 0 && device.counts.attempts == 0;
        let is_taken = if is_first {
            self.attempts.pacer.take_due(device.times.connect_at, now).is_ok()
        } else {
            // Whoever waits already goes first.
            self.attempts.queue.is_empty() && self.attempts.pacer.take(now).is_ok()
        };
        if is_taken {
            return self.open(slot, now);
        }
        self.roster.devices[slot].is_queued = true;
        self.attempts.queue.push_back(slot);
        self.set_timer(slot);
    }

    /// Lets those begin to connect whose turn it is by now.
    pub(super) fn admit(&mut self) {
        self.admit_rush();
        while let Some(slot) = self.attempts.queue.front().copied() {
            let now = self.world.now();
            // It may have left the fleet meanwhile.
            let is_waiting = self.roster.devices.get(slot).is_some_and(|device| device.is_queued);
            if is_waiting && self.attempts.pacer.take(now).is_err() {
                return;
            }
            self.attempts.queue.pop_front();
            if is_waiting {
                self.roster.devices[slot].is_queued = false;
                self.open(slot, now);
            }
        }
        if self.attempts.queue.capacity() > 1_024 {
            self.attempts.queue = VecDeque::new();
        }
    }

    pub(super) fn open(&mut self, slot: Slot, now: Micros) {
        if self.swallow_attempt(slot, now) {
            return;
        }
        let index = self.roster.index(slot);
        match self.world.open(index, self.roster.devices[slot].counts.attempts, slot) {
            Ok(connection) => {
                let device = &mut self.roster.devices[slot];
                device.connection = Some(connection);
                device.open(now);
                self.set_timer(slot);
            }
            Err(NotOpened::NoAddress(none)) => {
                self.attempts.pacer.release();
                self.without_address(slot, none, now);
            }
            Err(NotOpened::Failed(error)) => {
                self.attempts.pacer.release();
                self.connect_failed(slot, error.label(), trouble(&error), now);
            }
        }
    }

    /// The socket can be written: the connection is decided, or what waits can go.
    pub(super) fn writable(&mut self, slot: Slot) {
        let now = self.world.now();
        if self.is_cut_off(slot) {
            return;
        }
        if self.roster.devices[slot].state == State::Opening {
            return self.opening(slot, now);
        }
        let Some(connection) = &mut self.roster.devices[slot].connection else { return };
        match self.world.flush(connection) {
            Ok(Written::Some) => {}
            Ok(Written::All) => self.flushed(slot, now),
            Err(error) => self.lost(slot, error.label(), now),
        }
    }

    fn flushed(&mut self, slot: Slot, now: Micros) {
        match self.roster.devices[slot].state {
            State::Up => self.pump(slot, now),
            State::Leaving => self.settle(slot, now),
            _ => {}
        }
    }

    /// Something has happened on a connection that is being made; what takes computing waits for its turn.
    pub(super) fn opening(&mut self, slot: Slot, now: Micros) {
        match &self.roster.devices[slot].connection {
            Some(connection) if self.world.is_layered(connection) => self.attempts.handshakes.push_back(slot),
            Some(_) => self.opened(slot, now),
            None => {}
        }
    }

    /// Lets some of the handshakes go on for which something has come.
    pub(super) fn take_handshakes(&mut self) {
        for _ in 0..HANDSHAKES_PER_TURN {
            let Some(slot) = self.attempts.handshakes.pop_front() else { return };
            // It may have failed, or gone, meanwhile.
            if self.roster.devices.get(slot).is_some_and(|device| device.state == State::Opening) {
                self.opened(slot, self.world.now());
            }
        }
    }

    fn opened(&mut self, slot: Slot, now: Micros) {
        if self.is_cut_off(slot) {
            return;
        }
        let Some(connection) = &mut self.roster.devices[slot].connection else { return };
        match self.world.establish(connection) {
            Ok(false) => {}
            Ok(true) => {
                if self.world.is_layered(connection) {
                    // What came behind the handshake has been announced already.
                    self.buffers.unread.push(slot);
                }
                self.send_connect(slot, now);
            }
            Err(error) => self.lost(slot, error.label(), now),
        }
    }

    fn send_connect(&mut self, slot: Slot, now: Micros) {
        let index = self.roster.index(slot);
        let is_impostor = self.roster.devices[slot].is_hit && self.faults.wrong_password(slot).is_some();
        let identity = if is_impostor { self.blueprint.impostor(index) } else { self.blueprint.device(index) };
        let identity = match self.agents.will(slot) {
            Some(payload) => identity.with_will(payload),
            None => identity,
        };
        self.buffers.out.clear();
        let device = &mut self.roster.devices[slot];
        match device.session.connect(&identity.connect(), &self.blueprint.session, now, &mut self.buffers.out) {
            Ok(()) => {
                device.ask();
                if self.write_out(slot, now) {
                    self.set_timer(slot);
                }
            }
            // Only an identity that no CONNECT can carry: the document was checked for it.
            Err(_) => self.lost(slot, "invalid_identity", now),
        }
    }

    /// The broker has accepted the session.
    pub(super) fn connected(&mut self, slot: Slot, session_present: bool, now: Micros) {
        self.attempts.pacer.release();
        let device = &mut self.roster.devices[slot];
        self.counted.stats.connections.accepted += 1;
        let meant = device.times.connect_at;
        self.counted.by_stream.latency(meant).connect.record(now.since(meant));
        let lost_at = std::mem::replace(&mut device.times.lost_at, Micros::NEVER);
        if lost_at == Micros::NEVER {
            self.note_first(slot, now);
        } else {
            self.counted.stats.connections.reconnects += 1;
            self.counted.by_stream.latency(lost_at).recovery.record(now.since(lost_at));
            self.counted.stats.sessions.back(now);
            self.note_back(slot, now.since(lost_at), now);
        }
        self.roster.devices[slot].enter(now);
        self.counted.stats.devices.connected += 1;
        self.set_trouble(slot, Trouble::None);
        self.abandon(slot);
        self.start_timetable(slot, now);
        self.note_session_begun(slot, session_present, now);
        if !self.greet(slot, session_present, now) {
            return;
        }
        self.plan_look(slot, lost_at != Micros::NEVER, now);
        if !self.subscribe(slot, session_present, now) {
            return;
        }
        self.pump(slot, now);
        if self.roster.devices[slot].times.leave_at <= now {
            self.leave(slot, now);
        }
    }

    /// The broker has refused the session.
    pub(super) fn refused(&mut self, slot: Slot, refusal: Refusal, now: Micros) {
        let code: &'static str = refusal.into();
        causes::add(&mut self.counted.stats.connections.refused, code, 1);
        self.attempts.pacer.release();
        self.roster.devices[slot].session.lost(now);
        self.drop_connection(slot);
        self.note_turned_away(slot);
        self.set_trouble(slot, Trouble::Refused);
        self.retry(slot, code, now);
        self.tell_lost(slot, now);
    }

    /// A broker that does not let a device in who signs in with a wrong password does what the fault is for.
    fn note_turned_away(&mut self, slot: Slot) {
        if self.roster.devices[slot].is_hit
            && let Some(number) = self.faults.wrong_password(slot)
        {
            self.note_effect(number);
        }
    }

    /// Notes that a broker ends one young session after the other while something is in flight.
    pub(super) fn note_if_unwelcome(&mut self, slot: Slot, now: Micros) {
        let device = &self.roster.devices[slot];
        let is_young = device.times.since.after(YOUNG) >= now;
        if is_young && device.counts.attempts >= UNWELCOME_ATTEMPTS && device.session.in_flight() > 0 {
            self.note_unwelcome(slot);
        }
    }

    /// The device ends its connection without a word.
    pub(super) fn end(&mut self, slot: Slot, reason: &'static str, now: Micros) {
        self.end_as(slot, reason, Over::Closed, now);
    }

    /// The connection is gone, whoever has ended it: of one that the device ends itself nothing in flight is the reason.
    pub(super) fn end_as(&mut self, slot: Slot, reason: &'static str, over: Over, now: Micros) {
        let index = self.roster.index(slot);
        let device = &mut self.roster.devices[slot];
        match device.state {
            State::Offline | State::Absent => return,
            State::Closing => return self.depart(slot, now),
            State::Opening | State::Connecting => {
                let was_asked = device.state == State::Connecting;
                self.attempts.pacer.release();
                device.session.lost(now);
                if was_asked {
                    // The broker may have accepted the session.
                    self.note_session_over(slot, Over::Theirs, now);
                    // Some brokers answer a wrong password with nothing. Who gave up is no sign of it.
                    if matches!(over, Over::Theirs) {
                        self.note_turned_away(slot);
                    }
                }
                self.drop_connection(slot);
                self.connect_failed(slot, reason, Trouble::None, now);
                if was_asked {
                    self.tell_lost(slot, now);
                }
                return;
            }
            State::Up | State::Leaving => {}
        }
        self.note_session_over(slot, over, now);
        let device = &self.roster.devices[slot];
        let is_young = device.times.since.after(YOUNG) >= now;
        causes::add(&mut self.counted.stats.connections.lost, reason, 1);
        self.counted.stats.devices.connected -= 1;
        self.world.lost(index);
        self.roster.devices[slot].session.lost(now);
        self.drop_connection(slot);
        let device = &mut self.roster.devices[slot];
        let is_leaving = device.state == State::Leaving;
        // A session that ends at once is no success; else two runs with the same ids would race for ever.
        if !is_young {
            device.counts.attempts = 0;
        }
        device.lose(now);
        if is_leaving {
            self.depart(slot, now);
        } else {
            device.times.lost_at = now;
            self.counted.stats.sessions.lost(now);
            self.note_lost(slot, now);
            self.retry(slot, reason, now);
            self.tell_lost(slot, now);
        }
    }

    fn connect_failed(&mut self, slot: Slot, reason: &'static str, trouble: Trouble, now: Micros) {
        causes::add(&mut self.counted.stats.connections.failed, reason, 1);
        self.set_trouble(slot, trouble);
        self.world.lost(self.roster.index(slot));
        self.retry(slot, reason, now);
    }

    /// The broker's name has no address yet. The wait does not grow, because a broker that is being set up is not one
    /// that needs relief.
    fn without_address(&mut self, slot: Slot, none: NoAddress, now: Micros) {
        if none != NoAddress::Unresolved {
            return self.connect_failed(slot, none.cause(), Trouble::Own, now);
        }
        let attempts = std::mem::take(&mut self.roster.devices[slot].counts.attempts);
        self.connect_failed(slot, none.cause(), Trouble::None, now);
        self.roster.devices[slot].counts.attempts = attempts;
    }

    /// Puts the next attempt off, longer after each failure.
    fn retry(&mut self, slot: Slot, reason: &'static str, now: Micros) {
        let index = self.roster.index(slot);
        let device = &mut self.roster.devices[slot];
        // Of the instant, not of the seed alone: after each restart the waits shall differ.
        let draw = self.blueprint.draws.waits.of(index).at(now.0);
        let is_end = device.state == State::Offline && device.times.lost_at == now;
        let by_fault = if device.is_hit { self.faults.wait(slot, is_end) } else { None };
        let by_backoff = || backoff::delay(&self.blueprint.connect.backoff, u32::from(device.counts.attempts), draw.0);
        let wait = by_fault.unwrap_or_else(by_backoff);
        device.put_off(reason, now.after(wait));
        if device.times.lost_at != Micros::NEVER {
            self.counted.stats.sessions.backoff_micros += wait.0;
        }
        self.set_timer(slot);
    }

    /// Notes why a device is not connected.
    pub(super) fn set_trouble(&mut self, slot: Slot, trouble: Trouble) {
        let before = std::mem::replace(&mut self.roster.devices[slot].trouble, trouble);
        self.counted.trade(before, trouble);
    }

    /// Takes out what the session has given up.
    pub(super) fn abandon(&mut self, slot: Slot) {
        while let Some(message) = self.roster.devices[slot].session.abandon(&mut self.pool) {
            let queued = Queued { due: message.due, stream: message.stream };
            self.messages(slot, queued).abandoned += 1;
        }
        self.let_go(slot);
    }

    /// Writes `out` to the device; false when its connection was lost over it.
    pub(super) fn write_out(&mut self, slot: Slot, now: Micros) -> bool {
        if self.buffers.out.is_empty() {
            return true;
        }
        if self.roster.devices[slot].is_hit && self.hold_back(slot, now) {
            return true;
        }
        self.write_now(slot, now)
    }

    /// The same, whatever its link is like.
    pub(super) fn write_now(&mut self, slot: Slot, now: Micros) -> bool {
        if self.buffers.out.is_empty() {
            return true;
        }
        let Some(connection) = &mut self.roster.devices[slot].connection else { return false };
        self.counted.stats.bytes.sent += self.buffers.out.len() as u64;
        match self.world.write(connection, &self.buffers.out) {
            Ok(Written::All) => true,
            Ok(Written::Some) => {
                self.counted.stats.generator.buffer_full += 1;
                true
            }
            Err(error) => {
                self.lost(slot, error.label(), now);
                false
            }
        }
    }
}

/// What a connection that the broker has ended is called.
pub(in crate::engine) const CLOSED: &str = "closed_by_broker";

/// Whether the generator itself could not do better.
fn trouble(error: &transport::Error) -> Trouble {
    if error.is_own() { Trouble::Own } else { Trouble::None }
}
