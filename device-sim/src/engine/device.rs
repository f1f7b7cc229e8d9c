//! One device of a shard: where it stands, and what it has yet to do.

use std::collections::VecDeque;

use fleet_contract::time::Micros;

use super::slot::StreamAt;
use crate::{
    index::{GroupIndex, StreamIndex},
    observe::ledger::Row,
    session::Session,
};

/// One device. A hundred thousand of them fit into a machine, so what few devices need is boxed.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "an idle device is to hold one word, not four")]
#[expect(clippy::struct_excessive_bools, reason = "each is looked at alone")]
pub(super) struct Device<C> {
    pub(super) session: Session,
    pub(super) connection: Option<C>,
    /// Messages that wait for a place in flight, or for the connection to come back.
    pub(super) queue: Option<Box<VecDeque<Queued>>>,
    pub(super) times: Times,
    /// Where its streams begin among those of the shard.
    pub(super) first_stream: StreamAt,
    pub(super) counts: Counts,
    pub(super) group: GroupIndex,
    /// Changed by its methods alone.
    pub(super) state: State,
    pub(super) trouble: Trouble,
    pub(super) is_observed: bool,
    /// Whether it is in the queue of those that the fleet's pace does not let connect yet.
    pub(super) is_queued: bool,
    /// Whether the broker has answered what its group subscribes to, in the session that it keeps of the device.
    pub(super) is_subscribed: bool,
    /// Whether a fault that lasts has set conditions for it.
    pub(super) is_hit: bool,
    /// Whether that is so, or its model has faults by itself: all that messages of other devices pay for faults is the look at this.
    pub(super) is_faulty: bool,
    /// The label of its last error.
    pub(super) last_error: Option<&'static str>,
}

/// How its attempts to connect went so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Accepted sessions.
    pub(super) sessions: u32,
    /// Attempts in a row that failed.
    pub(super) attempts: u16,
    /// Sessions in a row that the broker ended young.
    pub(super) young_ends: u8,
}

/// When a device does what.
#[derive(Debug)]
pub(super) struct Times {
    /// When the attempt to connect was meant to begin.
    pub(super) connect_at: Micros,
    /// When it leaves the fleet; [`Micros::NEVER`] while nobody knows.
    pub(super) leave_at: Micros,
    /// Since when it stands where it stands.
    pub(super) since: Micros,
    /// When it lost its session, if it has not got it back; else [`Micros::NEVER`].
    pub(super) lost_at: Micros,
}

/// Where a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum State {
    /// It waits to connect.
    Offline,
    /// Its TCP connection is being made.
    Opening,
    /// Its CONNECT waits for the CONNACK.
    Connecting,
    /// Its session is accepted, and it keeps its timetable.
    Up,
    /// It offers nothing any more and waits for its messages to settle.
    Leaving,
    /// It has said DISCONNECT.
    Closing,
    /// It does not belong to the fleet.
    Absent,
}

impl State {
    /// Whether the broker holds an accepted session of the device.
    pub(super) const fn is_connected(self) -> bool {
        matches!(self, Self::Up | Self::Leaving)
    }

    /// Whether a device that stands here may stand there next. Each attempt to connect that fails ends offline, be it one that
    /// could not begin; and one that the network has swallowed begins anew.
    const fn leads_to(self, next: Self) -> bool {
        match self {
            Self::Offline => matches!(next, Self::Offline | Self::Opening | Self::Absent),
            Self::Opening => matches!(next, Self::Opening | Self::Connecting | Self::Offline | Self::Absent),
            Self::Connecting => matches!(next, Self::Up | Self::Offline | Self::Absent),
            Self::Up => matches!(next, Self::Leaving | Self::Offline),
            Self::Leaving => matches!(next, Self::Up | Self::Closing | Self::Offline),
            Self::Closing => matches!(next, Self::Absent),
            Self::Absent => matches!(next, Self::Offline),
        }
    }
}

/// Why a device is not connected, if it is not merely on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// The broker refused it.
    Refused,
    /// The generator could not even try (no port, no file).
    Own,
}

/// A message that fell due and waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    pub(super) due: Micros,
    pub(super) stream: StreamIndex,
}

/// One stream of one device.
#[derive(Debug)]
pub(super) struct StreamState {
    /// When its next message falls due; [`Micros::NEVER`] before the first session.
    pub(super) next_due: Micros,
    /// When the one before fell due.
    pub(super) last_due: Micros,
    pub(super) row: Row,
}

impl StreamState {
    /// A stream whose next message has the sequence `next`.
    pub(super) fn starting_at(next: u32) -> Self {
        Self { next_due: Micros::NEVER, last_due: Micros(0), row: Row::after(next) }
    }
}

impl<C> Device<C> {
    pub(super) fn new(group: GroupIndex, first_stream: StreamAt, is_observed: bool, first_packet_id: u16) -> Self {
        Self {
            session: Session::starting_at(first_packet_id),
            connection: None,
            queue: None,
            times: Times { connect_at: Micros::NEVER, leave_at: Micros(0), since: Micros(0), lost_at: Micros::NEVER },
            first_stream,
            counts: Counts::default(),
            group,
            state: State::Absent,
            trouble: Trouble::None,
            is_observed,
            is_queued: false,
            is_subscribed: false,
            is_hit: false,
            is_faulty: false,
            last_error: None,
        }
    }

    /// It comes to the fleet, and is to connect at `at`.
    pub(super) fn come(&mut self, at: Micros) {
        self.stand(State::Offline);
        self.counts.attempts = 0;
        self.times.connect_at = at;
        self.times.since = at;
    }

    /// It begins to connect, though the network may swallow what it says.
    pub(super) fn open(&mut self, now: Micros) {
        self.stand(State::Opening);
        self.times.since = now;
    }

    /// It sends its CONNECT.
    pub(super) fn ask(&mut self) {
        self.stand(State::Connecting);
    }

    /// The broker has accepted its session.
    pub(super) fn enter(&mut self, now: Micros) {
        self.stand(State::Up);
        self.counts.sessions += 1;
        self.times.since = now;
    }

    /// Its session is gone.
    pub(super) fn lose(&mut self, now: Micros) {
        self.stand(State::Offline);
        self.times.since = now;
    }

    /// It is to try again at `at`.
    pub(super) fn put_off(&mut self, reason: &'static str, at: Micros) {
        self.stand(State::Offline);
        self.last_error = Some(reason);
        self.counts.attempts = self.counts.attempts.saturating_add(1);
        self.times.connect_at = at;
    }

    /// It is to leave, once its messages have settled.
    pub(super) fn leave(&mut self, now: Micros) {
        self.stand(State::Leaving);
        self.times.since = now;
    }

    /// It was about to leave, and stays.
    pub(super) fn stay(&mut self) {
        self.stand(State::Up);
    }

    /// It says DISCONNECT.
    pub(super) fn close(&mut self) {
        self.stand(State::Closing);
    }

    /// It does not belong to the fleet any more.
    pub(super) fn go(&mut self, now: Micros) {
        self.stand(State::Absent);
        self.times.since = now;
    }

    fn stand(&mut self, next: State) {
        debug_assert!(self.state.leads_to(next), "{:?} does not lead to {next:?}", self.state);
        self.state = next;
    }

    /// Where a stream of it is among those of the shard.
    pub(super) const fn stream(&self, stream: StreamIndex) -> StreamAt {
        self.first_stream.plus(stream)
    }

    /// Whether its timetable has begun, with its first session.
    pub(super) fn has_timetable(&self) -> bool {
        self.times.lost_at != Micros::NEVER || self.state == State::Up
    }

    /// Whether it has not begun to connect since it came to the fleet, or is not there.
    pub(super) fn is_yet_to_come(&self, now: Micros) -> bool {
        let has_not_begun =
            self.counts.attempts == 0 && self.times.lost_at == Micros::NEVER && self.times.connect_at > now;
        self.state == State::Absent || self.state == State::Offline && has_not_begun
    }

    /// Whether the fleet waits for its first attempt to connect to end, one way or the other.
    pub(super) fn is_untried(&self) -> bool {
        self.state != State::Absent && self.counts.sessions == 0 && self.counts.attempts == 0
    }

    /// How many messages wait in its queue.
    pub(super) fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Connection;

    #[test]
    fn a_device_and_a_stream_stay_small() {
        let size = size_of::<Device<Connection>>();
        assert!(size <= 184, "a device takes {size} bytes");
        assert!(size_of::<StreamState>() <= 64, "a stream takes {} bytes", size_of::<StreamState>());
    }
}
