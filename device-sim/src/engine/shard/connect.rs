//! Connections: begun at their instant and at the fleet's pace, lost, and made again.

use std::collections::VecDeque;

use fleet_contract::{time::Micros, units::Span};

use super::Shard;
use crate::{
    engine::{
        causes,
        device::{State, Trouble},
        world::{NotOpened, World},
    },
    session::{Refusal, backoff},
    transport::{self, NoAddress, Written},
};

/// A connection that the broker ends so soon after it accepted it counts as a failure for the backoff.
pub(in crate::engine) const YOUNG: Span = Span::from_secs(5);

/// After so many connections in a row that ended young, or were not made, what is in flight is looked at for the reason.
const UNWELCOME_ATTEMPTS: u16 = 2;

/// Handshakes of TLS and WebSocket that go on in one turn, so that what they compute delays nobody's messages.
const HANDSHAKES_PER_TURN: usize = 4;

impl<W: World> Shard<W> {
    /// Begins to connect, or queues if the pace of the fleet does not allow it yet.
    pub(super) fn try_connect(&mut self, slot: usize, now: Micros) {
        let device = &self.devices[slot];
        let is_first = device.sessions == 0 && device.attempts == 0;
        let is_taken = if is_first {
            self.pacer.take_due(device.connect_at, now).is_ok()
        } else {
            // Whoever waits already goes first.
            self.connect_queue.is_empty() && self.pacer.take(now).is_ok()
        };
        if is_taken {
            return self.open(slot, now);
        }
        self.devices[slot].is_queued = true;
        self.connect_queue.push_back(u32::try_from(slot).expect("a shard has fewer than 2^32 devices"));
        self.set_timer(slot);
    }

    /// Lets those begin to connect whose turn it is by now.
    pub(super) fn admit(&mut self) {
        while let Some(slot) = self.connect_queue.front().map(|slot| *slot as usize) {
            let now = self.world.now();
            // It may have left the fleet meanwhile.
            let is_waiting = self.devices.get(slot).is_some_and(|device| device.is_queued);
            if is_waiting && self.pacer.take(now).is_err() {
                return;
            }
            self.connect_queue.pop_front();
            if is_waiting {
                self.devices[slot].is_queued = false;
                self.open(slot, now);
            }
        }
        if self.connect_queue.capacity() > 1_024 {
            self.connect_queue = VecDeque::new();
        }
    }

    /// When the next one may begin; where too many attempts are under way, the end of one of them will tell.
    pub(super) fn admits_at(&self) -> Micros {
        if self.connect_queue.is_empty() { Micros::NEVER } else { self.pacer.ready_at().unwrap_or(Micros::NEVER) }
    }

    fn open(&mut self, slot: usize, now: Micros) {
        let index = self.slots.index(slot);
        match self.world.open(index, self.devices[slot].attempts, slot) {
            Ok(connection) => {
                let device = &mut self.devices[slot];
                device.connection = Some(connection);
                device.state = State::Opening;
                device.since = now;
                self.set_timer(slot);
            }
            Err(NotOpened::NoAddress(none)) => {
                self.pacer.release();
                self.without_address(slot, none, now);
            }
            Err(NotOpened::Failed(error)) => {
                self.pacer.release();
                self.connect_failed(slot, error.label(), trouble(&error), now);
            }
        }
    }

    /// The socket can be written: the connection is decided, or what waits can go.
    pub(super) fn writable(&mut self, slot: usize) {
        let now = self.world.now();
        if self.devices[slot].state == State::Opening {
            return self.opening(slot, now);
        }
        let Some(connection) = &mut self.devices[slot].connection else { return };
        match self.world.flush(connection) {
            Ok(Written::Some) => {}
            Ok(Written::All) => self.flushed(slot, now),
            Err(error) => self.lost(slot, error.label(), now),
        }
    }

    fn flushed(&mut self, slot: usize, now: Micros) {
        match self.devices[slot].state {
            State::Up => self.pump(slot, now),
            State::Leaving => self.settle(slot, now),
            _ => {}
        }
    }

    /// Something has happened on a connection that is being made; what takes computing waits for its turn.
    pub(super) fn opening(&mut self, slot: usize, now: Micros) {
        match &self.devices[slot].connection {
            Some(connection) if self.world.is_layered(connection) => self.handshakes.push_back(slot),
            Some(_) => self.opened(slot, now),
            None => {}
        }
    }

    /// Lets some of the handshakes go on for which something has come.
    pub(super) fn take_handshakes(&mut self) {
        for _ in 0..HANDSHAKES_PER_TURN {
            let Some(slot) = self.handshakes.pop_front() else { return };
            // It may have failed, or gone, meanwhile.
            if self.devices.get(slot).is_some_and(|device| device.state == State::Opening) {
                self.opened(slot, self.world.now());
            }
        }
    }

    fn opened(&mut self, slot: usize, now: Micros) {
        let Some(connection) = &mut self.devices[slot].connection else { return };
        match self.world.establish(connection) {
            Ok(false) => {}
            Ok(true) => {
                if self.world.is_layered(connection) {
                    // What came behind the handshake has been announced already.
                    self.unread.push(slot);
                }
                self.send_connect(slot, now);
            }
            Err(error) => self.lost(slot, error.label(), now),
        }
    }

    fn send_connect(&mut self, slot: usize, now: Micros) {
        let index = self.slots.index(slot);
        let identity = self.blueprint.device(index);
        self.out.clear();
        let device = &mut self.devices[slot];
        match device.session.connect(&identity.connect(), &self.blueprint.session, now, &mut self.out) {
            Ok(()) => {
                device.state = State::Connecting;
                if self.write_out(slot, now) {
                    self.set_timer(slot);
                }
            }
            // Only an identity that no CONNECT can carry: the document was checked for it.
            Err(_) => self.lost(slot, "invalid_identity", now),
        }
    }

    /// The broker has accepted the session.
    pub(super) fn connected(&mut self, slot: usize, session_present: bool, now: Micros) {
        self.pacer.release();
        let device = &mut self.devices[slot];
        self.stats.connections.accepted += 1;
        self.stats.latency.connect.record(now.since(device.connect_at));
        let lost_at = std::mem::replace(&mut device.lost_at, Micros::NEVER);
        if lost_at != Micros::NEVER {
            self.stats.connections.reconnects += 1;
            self.stats.latency.recovery.record(now.since(lost_at));
            self.stats.sessions.back(now);
        }
        device.sessions += 1;
        device.state = State::Up;
        device.since = now;
        self.stats.devices.connected += 1;
        self.set_trouble(slot, Trouble::None);
        self.abandon(slot);
        self.start_timetable(slot, now);
        if !self.offer_birth(slot, now) {
            return;
        }
        if !self.subscribe(slot, session_present, now) {
            return;
        }
        self.pump(slot, now);
        if self.devices[slot].leave_at <= now {
            self.leave(slot, now);
        }
    }

    /// The broker has refused the session.
    pub(super) fn refused(&mut self, slot: usize, refusal: Refusal, now: Micros) {
        let code: &'static str = refusal.into();
        causes::add(&mut self.stats.connections.refused, code, 1);
        self.pacer.release();
        self.devices[slot].session.lost(now);
        self.devices[slot].connection = None;
        self.set_trouble(slot, Trouble::Refused);
        self.retry(slot, code, now);
    }

    /// The connection is gone, whatever the reason; the device connects again unless it was leaving.
    pub(super) fn lost(&mut self, slot: usize, reason: &'static str, now: Micros) {
        let is_taken_over = reason == CLOSED && self.inlet(slot).watch.has_rival();
        let device = &mut self.devices[slot];
        match device.state {
            State::Offline | State::Absent => return,
            State::Closing => return self.depart(slot, now),
            State::Opening | State::Connecting => {
                self.pacer.release();
                device.connection = None;
                device.session.lost(now);
                return self.connect_failed(slot, reason, Trouble::None, now);
            }
            State::Up | State::Leaving => {}
        }
        let is_young = device.since.after(YOUNG) >= now;
        if is_young && device.attempts >= UNWELCOME_ATTEMPTS && device.session.in_flight() > 0 && !is_taken_over {
            self.note_unwelcome(slot);
        }
        let device = &mut self.devices[slot];
        let reason = if is_taken_over { "session_taken_over" } else { reason };
        causes::add(&mut self.stats.connections.lost, reason, 1);
        self.stats.devices.connected -= 1;
        self.world.lost(self.slots.index(slot));
        device.connection = None;
        device.session.lost(now);
        let is_leaving = device.state == State::Leaving;
        // A session that ends at once is no success; else two runs with the same ids would race for ever.
        if !is_young {
            device.attempts = 0;
        }
        device.since = now;
        device.state = State::Offline;
        if is_leaving {
            self.depart(slot, now);
        } else {
            device.lost_at = now;
            self.stats.sessions.lost(now);
            self.retry(slot, reason, now);
        }
    }

    fn connect_failed(&mut self, slot: usize, reason: &'static str, trouble: Trouble, now: Micros) {
        causes::add(&mut self.stats.connections.failed, reason, 1);
        self.set_trouble(slot, trouble);
        self.world.lost(self.slots.index(slot));
        self.retry(slot, reason, now);
    }

    /// The broker's name has no address yet. The wait does not grow, because a broker that is being set up is not one
    /// that needs relief.
    fn without_address(&mut self, slot: usize, none: NoAddress, now: Micros) {
        if none != NoAddress::Unresolved {
            return self.connect_failed(slot, none.cause(), Trouble::Own, now);
        }
        let attempts = std::mem::take(&mut self.devices[slot].attempts);
        self.connect_failed(slot, none.cause(), Trouble::None, now);
        self.devices[slot].attempts = attempts;
    }

    /// Puts the next attempt off, longer after each failure.
    fn retry(&mut self, slot: usize, reason: &'static str, now: Micros) {
        let index = self.slots.index(slot);
        let device = &mut self.devices[slot];
        // Of the instant, not of the seed alone: after each restart the waits shall differ.
        let draw = self.blueprint.waits.of(index).at(now.0);
        let wait = backoff::delay(&self.blueprint.connect.backoff, u32::from(device.attempts), draw.0);
        device.state = State::Offline;
        device.last_error = Some(reason);
        device.attempts = device.attempts.saturating_add(1);
        device.connect_at = now.after(wait);
        if device.lost_at != Micros::NEVER {
            self.stats.sessions.backoff_micros += wait.0;
        }
        self.set_timer(slot);
    }

    /// Notes why a device is not connected.
    pub(super) fn set_trouble(&mut self, slot: usize, trouble: Trouble) {
        let before = std::mem::replace(&mut self.devices[slot].trouble, trouble);
        for (kind, step) in [(before, -1), (trouble, 1)] {
            let gauge = match kind {
                Trouble::None => continue,
                Trouble::Refused => &mut self.stats.devices.refused,
                Trouble::Own => &mut self.stats.devices.failed,
            };
            *gauge = gauge.saturating_add_signed(step);
        }
    }

    /// Takes out what the session has given up.
    pub(super) fn abandon(&mut self, slot: usize) {
        while let Some(message) = self.devices[slot].session.abandon(&mut self.pool) {
            self.messages(slot, message.stream).abandoned += 1;
        }
    }

    /// Writes `out` to the device; false when its connection was lost over it.
    pub(super) fn write_out(&mut self, slot: usize, now: Micros) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let Some(connection) = &mut self.devices[slot].connection else { return false };
        self.stats.bytes.sent += self.out.len() as u64;
        match self.world.write(connection, &self.out) {
            Ok(Written::All) => true,
            Ok(Written::Some) => {
                self.stats.generator.buffer_full += 1;
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
