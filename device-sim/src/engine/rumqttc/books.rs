//! The books of one device: where it stands, its timetable, and which of its messages are where inside rumqttc.
//!
//! Only the device's task writes them; whoever asks for figures or a status reads them, so they have a lock, which
//! is free nearly always.

use std::collections::VecDeque;

use fleet_contract::{qos::Qos, time::Micros, units::Span};

use super::{Shared, Stripe};
use crate::{
    agent::{Agent as _, Telemetry},
    blueprint::{Blueprint, Group},
    engine::{
        course::Course,
        device::{Queued, State, Trouble},
    },
    index::{DeviceIndex, StreamIndex},
};

/// One device.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) index: DeviceIndex,
    pub(super) state: State,
    pub(super) trouble: Trouble,
    /// Since when it stands where it stands.
    pub(super) since: Micros,
    /// When the attempt to connect was meant to begin.
    pub(super) connect_at: Micros,
    /// When it leaves the fleet; [`Micros::NEVER`] while it belongs to it.
    pub(super) leave_at: Micros,
    /// When it lost its session, if it has not got it back; else [`Micros::NEVER`].
    pub(super) lost_at: Micros,
    /// Accepted sessions so far.
    pub(super) sessions: u32,
    /// Attempts in a row that failed.
    pub(super) attempts: u32,
    /// The label of its last error.
    pub(super) last_error: Option<&'static str>,
    pub(super) streams: Box<[Timetable]>,
    /// Messages that fell due while it was offline and wait for its return (`offline: catchUp`).
    pub(super) held: VecDeque<Queued>,
    /// Messages in rumqttc's channel, in their order.
    pub(super) waiting: VecDeque<Handed>,
    /// Messages of QoS 1 and 2 that the event loop has sent and the broker has not acknowledged.
    pub(super) in_flight: VecDeque<InFlight>,
}

/// Where a stream stands.
#[derive(Debug)]
pub(super) struct Timetable {
    /// When its next message falls due; [`Micros::NEVER`] before the first session.
    pub(super) next_due: Micros,
    /// When the one before fell due.
    pub(super) last_due: Micros,
    /// The sequence of its next message.
    pub(super) seq: u32,
}

/// A message that rumqttc has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handed {
    pub(super) due: Micros,
    pub(super) stream: StreamIndex,
    /// The length of its packet in bytes.
    pub(super) bytes: u64,
    pub(super) qos: Qos,
}

/// A message that was sent under a packet identifier.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) message: Handed,
    pub(super) packet_id: u16,
    pub(super) stage: Stage,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for PUBACK or PUBREC.
    Sent,
    /// As before, but its connection is gone: rumqttc will send it again.
    Lost,
    /// It waits for PUBCOMP.
    Released,
}

/// What a step of a device may use: everything for one instant.
pub(super) struct Turn<'a> {
    pub(super) shared: &'a Shared,
    pub(super) course: &'a Course,
    pub(super) stripe: &'a mut Stripe,
    pub(super) now: Micros,
}

impl Books {
    /// The books of a device that has yet to learn when it comes.
    pub(super) fn new(blueprint: &Blueprint, index: DeviceIndex) -> Self {
        let timetable = |_: &_| Timetable { next_due: Micros::NEVER, last_due: Micros(0), seq: 0 };
        Self {
            index,
            state: State::Absent,
            trouble: Trouble::None,
            since: Micros(0),
            connect_at: Micros::NEVER,
            leave_at: Micros::NEVER,
            lost_at: Micros::NEVER,
            sessions: 0,
            attempts: 0,
            last_error: None,
            streams: blueprint.group_of(index).model.streams().iter().map(timetable).collect(),
            held: VecDeque::new(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
        }
    }

    /// Takes over what the plan says of the device; `is_draining` bids it leave now.
    pub(super) fn follow(&mut self, turn: &mut Turn<'_>, is_draining: bool) {
        let blueprint = &turn.shared.blueprint;
        let stay = turn.course.population.stay(self.index.number(), turn.now);
        match stay {
            _ if is_draining => self.leave_at = self.leave_at.min(turn.now),
            Some(stay) if stay.from <= turn.now || self.state == State::Absent => {
                self.leave_at = stay.until;
                match self.state {
                    State::Absent => {
                        let jitter = blueprint.draws.jitter.of(self.index).at(0).below(blueprint.connect.jitter.0);
                        self.state = State::Offline;
                        let intended = turn.shared.share.intended(self.index, stay.from, &turn.course.population);
                        self.connect_at = intended.after(Span(jitter)).max(blueprint.start);
                        self.since = self.connect_at;
                    }
                    // It had not said DISCONNECT yet: it simply stays.
                    State::Leaving => self.state = State::Up,
                    _ => {}
                }
            }
            // Not now; if it comes later, it does so anew.
            _ => self.leave_at = self.leave_at.min(turn.now),
        }
        self.follow_paces(turn);
    }

    /// Where a stream's pace has changed, what is due next is due by the new one.
    fn follow_paces(&mut self, turn: &Turn<'_>) {
        let site = turn.shared.site(self.index);
        for ((stream, _), timetable) in site.model.indexed_streams().zip(&mut self.streams) {
            if timetable.next_due != Micros::NEVER {
                let from = turn.now.max(timetable.last_due.after(Span(1)));
                timetable.next_due = Telemetry.next_due(&site, stream, turn.course.pace(site.group, stream), from);
            }
        }
    }

    /// The timetable of a device begins with its first session.
    pub(super) fn start_timetable(&mut self, turn: &Turn<'_>) {
        let site = turn.shared.site(self.index);
        for ((stream, _), timetable) in site.model.indexed_streams().zip(&mut self.streams) {
            if timetable.next_due == Micros::NEVER {
                let pace = turn.course.pace(site.group, stream);
                timetable.next_due = Telemetry.next_due(&site, stream, pace, turn.now);
                timetable.last_due = timetable.next_due.before(pace.interval(turn.now)).min(turn.now);
            }
        }
    }

    /// Whether its first attempt to connect has ended, one way or the other, and it is to stay.
    pub(super) fn has_tried(&self) -> bool {
        !self.is_leaving() && (self.sessions > 0 || self.attempts > 0)
    }

    /// Whether it is on its way out of the fleet.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving | State::Closing)
    }

    /// Whether rumqttc has nothing of it any more.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// The next instant at which it has anything to do by itself.
    pub(super) fn next_turn(&self, loss_after: Span) -> Micros {
        match self.state {
            State::Leaving if self.is_settled() => Micros(0),
            State::Leaving | State::Closing => self.patience_ends(loss_after),
            _ => self.streams.iter().map(|stream| stream.next_due).min().unwrap_or(Micros::NEVER).min(self.leave_at),
        }
    }

    /// When a device that leaves goes, settled or not.
    pub(super) fn patience_ends(&self, loss_after: Span) -> Micros {
        self.since.after(loss_after).after(Span::from_secs(1))
    }

    pub(super) fn group<'a>(&self, turn: &Turn<'a>) -> &'a Group {
        turn.shared.blueprint.group_of(self.index)
    }
}
