//! What a device does where somebody else connects with its client id, and takes its session over.
//!
//! A broker of MQTT 5 says so: DISCONNECT 0x8E (MQTT-3.1.4-3). One of MQTT 3.1.1 only closes, as it may for many reasons.
//! Either way a device that takes its session back at once only loses it again, so it waits. Whether the whole worker is to
//! leave is its observer's to see, by the stamp of a newer process. Where nothing observes, nobody who reads this worker's
//! figures, and sessions that most of its devices lose over and over, tell as much: the devices then stay away until somebody
//! reads again.

use fleet_contract::{time::Micros, units::Span};

use super::{
    Shard,
    connect::{CLOSED, YOUNG},
    wills::Over,
};
use crate::{
    agent::Agent,
    engine::{device::State, slot::Slot, world::World},
};

/// What the loss of a session to another connection with its client id is called, as MQTT 5 does (0x8E).
const TAKEN_OVER: &str = "session_taken_over";

/// What the end of a connection is called whose broker closes while bytes of the device are on their way.
const RESET: &str = "connection_reset";

/// How long a device whose session was taken over lets the other one have it.
const WAIT: Span = Span::from_secs(10);

/// A session that the broker ends before this age may have been taken over: by another that has waited for [`WAIT`], too.
const CONTESTED: Span = Span(WAIT.0 + YOUNG.0);

/// So many of them in a row make a device contested.
const CONTESTED_ENDS: u8 = 2;

/// After so long without a reading, nobody counts on this process any more.
const UNREAD: Span = Span::from_secs(30);

/// How long a count of the contested devices holds.
const COUNTED_FOR: Span = Span::from_secs(1);

/// Whether others seem to run the devices of a shard.
#[derive(Debug)]
pub(super) struct Contest {
    /// When anybody has read the statistics last.
    read_at: Micros,
    /// Whether most devices were contested, and when that was counted.
    is_lost: bool,
    counted_at: Micros,
}

impl Contest {
    /// None yet.
    pub(super) const fn new(now: Micros) -> Self {
        Self { read_at: now, is_lost: false, counted_at: Micros(0) }
    }

    /// Somebody reads the statistics.
    pub(super) const fn read(&mut self, now: Micros) {
        self.read_at = now;
        self.counted_at = Micros(0);
    }
}

impl<W: World, A: Agent> Shard<W, A> {
    /// The other side, or the network, has ended the connection; the device connects again unless it was leaving.
    pub(super) fn lost(&mut self, slot: Slot, reason: &'static str, now: Micros) {
        let device = &self.roster.devices[slot];
        let is_up = device.state.is_connected();
        let age = now.since(device.times.since);
        let is_closed = is_up && matches!(reason, CLOSED | RESET);
        // What waits for an answer may be why the broker has closed.
        let may_be_taken_over = is_closed && device.session.in_flight() == 0;
        let is_taken_over = reason == TAKEN_OVER || is_closed && self.inlet(slot).watch.has_rival();
        if is_up && !is_taken_over {
            self.note_if_unwelcome(slot, now);
        }
        let device = &mut self.roster.devices[slot];
        if is_up {
            let is_contested = age <= CONTESTED && (may_be_taken_over || is_taken_over);
            device.counts.young_ends = if is_contested { device.counts.young_ends.saturating_add(1) } else { 0 };
        }
        let is_young_again = may_be_taken_over && age <= YOUNG && device.counts.young_ends >= CONTESTED_ENDS;
        self.end_as(slot, if is_taken_over { TAKEN_OVER } else { reason }, Over::Theirs, now);
        if is_taken_over || is_young_again {
            self.put_off(slot, now.after(WAIT));
        }
    }

    /// Whether a device that wants to connect is to stay away, because another process seems to run it.
    pub(super) fn stays_away(&mut self, slot: Slot, now: Micros) -> bool {
        let is_contested = self.roster.devices[slot].counts.young_ends >= CONTESTED_ENDS;
        let stays_away = is_contested && self.contest.read_at.after(UNREAD) <= now && self.has_lost_most(slot, now);
        if stays_away {
            self.put_off(slot, now.after(WAIT));
        }
        stays_away
    }

    /// Whether most devices are contested, several of them, and no observer looks who has them: a single one may be a
    /// stranger's.
    fn has_lost_most(&mut self, slot: Slot, now: Micros) -> bool {
        if self.inlet(slot).watch.is_subscribed() {
            return false;
        }
        if self.contest.counted_at.after(COUNTED_FOR) <= now {
            let devices = self.roster.devices.iter().filter(|(_, device)| device.counts.sessions > 0);
            let (contested, all) = devices.fold((0_usize, 0), |(contested, all), (_, device)| {
                (contested + usize::from(device.counts.young_ends >= CONTESTED_ENDS), all + 1)
            });
            self.contest.is_lost = contested > 1 && contested * 2 > all;
            self.contest.counted_at = now;
        }
        self.contest.is_lost
    }

    /// Whoever takes a session back at once only loses it again.
    fn put_off(&mut self, slot: Slot, until: Micros) {
        let device = &mut self.roster.devices[slot];
        if device.state == State::Offline {
            device.times.connect_at = device.times.connect_at.max(until);
            self.set_timer(slot);
        }
    }
}
