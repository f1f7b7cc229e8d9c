//! One shard of the engine: a thread with its devices, its timers, its sockets and its counters.
//!
//! Nothing here is shared with another thread but by messages, so the publish path has no lock. A turn of the loop
//! takes what has happened (commands, arrivals, readiness), then what has fallen due, and sleeps until the next
//! timer. Each step is a file of its own.

mod agents;
mod connect;
mod counted;
mod drive;
mod faults;
mod link;
mod noted;
mod pace;
mod publish;
mod receive;
mod recorder;
mod roster;
mod spoil;
mod status;
mod subscribe;
mod sweep;
mod takeover;
mod timers;
mod watched;
mod wills;

use std::{
    hint::black_box,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
};

use fleet_contract::{
    cost::SHORTEST_PAUSE, stamp::Stamp, stats::Stats, time::Micros, units::Span, worker::DeviceStatus,
};
use mio::Token;

use agents::Agents;
use connect::Attempts;
pub(super) use connect::{CLOSED, ShareOfRate, YOUNG};
use counted::Counted;
use drive::Ready;
use faults::Faults;
pub(super) use pace::Alarm;
pub(super) use publish::MISSED;
use recorder::Recorder;
use roster::Roster;
pub(crate) use roster::Slots;
use takeover::Contest;
use timers::Timers;
pub(super) use watched::Inlet;
use watched::Watched;

use super::{
    course::Course,
    slot::Slot,
    streams::{Exchange, Streams},
    world::World,
};
use crate::{
    agent::{Agent, Effects, Telemetry},
    blueprint::Blueprint,
    index::DeviceIndex,
    model::Scratch,
    record::Files,
    session::Pool,
};

/// So many devices are looked at together before their turns come: as many as a cache of some 100 KiB holds.
const WARMED: usize = 64;

/// The token that wakes the loop; the devices' tokens are their slots.
pub(super) const WAKE: Token = Token(usize::MAX);

/// What the engine asks of a shard.
#[derive(Debug)]
pub(super) enum Command {
    /// Follow this plan from now on.
    Course(Arc<Course>),
    /// Hand over the statistics.
    Stats(SyncSender<Box<Reading>>),
    /// Tell how many devices have not tried to connect yet.
    Untried(SyncSender<u32>),
    /// Tell what is known of a device.
    Device(DeviceIndex, SyncSender<Option<Box<DeviceStatus>>>),
    /// Stop offering, settle, disconnect.
    Drain,
    /// Leave the loop now.
    Stop,
}

/// What a shard measured, without messages and their times: those are in its [`Exchange`].
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) stats: Stats,
    /// Whether every device has left and every message is judged.
    pub(super) is_drained: bool,
}

/// What a shard is made of.
pub(super) struct Parts<W, A> {
    pub(super) agent: A,
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) course: Arc<Course>,
    pub(super) slots: Slots,
    /// Whether the devices are gone for good after a drain.
    pub(super) ends_with_drain: bool,
    pub(super) share: ShareOfRate,
    pub(super) world: W,
    pub(super) commands: Receiver<Command>,
    /// Where what is counted by stream is left.
    pub(super) exchange: Arc<Exchange>,
    /// One for each of the brokers, in their order.
    pub(super) inlets: Vec<Inlet>,
    /// Whether an earlier process is known to have been in this place.
    pub(super) has_predecessor: bool,
    /// Where it records what it has counted.
    pub(super) records: Option<Files>,
}

/// One shard of the engine. Each part owns what it is about; what concerns several is a step of the shard.
pub(super) struct Shard<W: World, A: Agent = Telemetry> {
    agents: Agents<A>,
    blueprint: Arc<Blueprint>,
    course: Arc<Course>,
    world: W,
    roster: Roster<W::Connection>,
    timers: Timers,
    attempts: Attempts,
    contest: Contest,
    /// The faults that the plan has.
    faults: Faults<W::Connection>,
    pool: Pool,
    buffers: Buffers,
    watched: Watched,
    counted: Counted,
    recorder: Recorder,
    life: Life,
}

/// Memory that each device uses for as long as its turn takes.
struct Buffers {
    scratch: Scratch,
    /// What an agent wants, until that is done.
    effects: Effects,
    /// What is about to be written to one device.
    out: Vec<u8>,
    /// The body of a message that is made once more.
    body: Vec<u8>,
    /// What arrives at one device by a slow link.
    carried: Vec<u8>,
    /// What was just read from one device.
    inbox: Box<[u8]>,
    /// Sockets that may hold more than one read took.
    unread: Vec<Slot>,
}

/// What a shard is told, and how far it is on its way to its end.
struct Life {
    commands: Receiver<Command>,
    is_draining: bool,
    /// Whether the devices are gone for good after a drain.
    ends_with_drain: bool,
    is_stopped: bool,
}

/// A device reads about so many bytes in a turn, so that the others are not late.
const READ_MAX: usize = 64 * 1024;

impl<W: World, A: Agent> Shard<W, A> {
    pub(super) fn new(parts: Parts<W, A>) -> Self {
        let Parts { agent, blueprint, course, slots, ends_with_drain, share, world, commands, .. } = parts;
        let Parts { exchange, inlets, has_predecessor, records, .. } = parts;
        let now = world.now();
        let rate = share.under(&course.population, now);
        let timers = Timers::new(now, pace::pace_under(&course, now));
        let faults = Faults::after(&course, now);
        let counted = Counted::new(Streams::new(&blueprint, course.phases.clone()), exchange);
        // Taken from the system as it is used: the usual device reads no more than the first pages.
        let inbox = vec![0; world.inbox(READ_MAX + blueprint.connect.packet_max() as usize)].into();
        Self {
            agents: Agents::new(agent),
            blueprint,
            course,
            world,
            roster: Roster::new(slots),
            timers,
            attempts: Attempts::new(share, rate),
            contest: Contest::new(now),
            faults,
            pool: Pool::new(),
            buffers: Buffers {
                scratch: Scratch::default(),
                effects: Effects::default(),
                out: Vec::with_capacity(64 * 1024),
                body: Vec::new(),
                carried: Vec::new(),
                inbox,
                unread: Vec::new(),
            },
            watched: Watched::new(inlets, has_predecessor, now),
            counted,
            recorder: Recorder::new(records, now),
            life: Life { commands, is_draining: false, ends_with_drain, is_stopped: false },
        }
    }

    /// The first thing that it does.
    fn begin(&mut self) {
        self.follow_population(self.world.now());
    }

    /// Does all that there is to do: what has happened to connections, what is asked of it, and what has fallen due.
    fn turn(&mut self, ready: &[Ready]) {
        if self.recorder.is_on() {
            self.begin_recorded_turn(!ready.is_empty());
        }
        self.take_commands();
        self.take_arrivals();
        self.take_ready(ready);
        self.take_handshakes();
        // However late a turn is: what falls due once a fault has begun is said under it, and what fell due before its end, too.
        self.begin_faults_in_time();
        self.take_timers();
        self.admit();
        self.end_faults_in_time();
        self.sweep();
    }

    /// How long there is nothing to do by itself; `None` when there is something at once.
    fn idle(&self, now: Micros) -> Option<Span> {
        let next = self.watched.sweep_at.min(self.attempts.next()).min(self.faults.at()).min(self.recorder.due());
        let waits = self.attempts.handshakes.is_empty() && !self.faults.is_rushing();
        let is_free = self.buffers.unread.is_empty() && waits;
        is_free.then(|| self.timers.idle(now, next))
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.life.commands.try_recv() {
            let now = self.world.now();
            match command {
                Command::Course(course) => {
                    self.recorder.note_change(now);
                    self.take_course(course, now);
                }
                Command::Stats(reply) => {
                    self.contest.read(now);
                    // Whoever asked may have given up waiting.
                    drop(reply.try_send(Box::new(self.reading(now))));
                }
                Command::Untried(reply) => drop(reply.try_send(self.untried())),
                Command::Device(index, reply) => drop(reply.try_send(self.device_status(index).map(Box::new))),
                Command::Drain => {
                    self.recorder.note_change(now);
                    self.drain(now);
                }
                Command::Stop => self.life.is_stopped = true,
            }
        }
    }

    fn take_ready(&mut self, ready: &[Ready]) {
        for slot in std::mem::take(&mut self.buffers.unread) {
            self.readable(slot);
        }
        for &Ready { slot, is_readable, is_writable, is_ending } in ready {
            // A device may have gone in an earlier step of this turn.
            if self.roster.devices.get(slot).is_none_or(|device| device.connection.is_none()) {
                continue;
            }
            if is_writable {
                self.writable(slot);
            }
            if is_readable {
                self.readable(slot);
            }
            if is_ending && self.roster.devices.get(slot).is_some_and(|device| device.connection.is_some()) {
                // Behind what was read there is the end, which is not announced again.
                self.buffers.unread.push(slot);
            }
        }
        self.counted.acknowledgements.record_in(&mut self.counted.by_stream);
    }

    fn take_timers(&mut self) {
        let begun = self.world.now();
        let fired = self.timers.turn(begun);
        if !fired.is_empty() {
            self.recorder.note_change(begun);
        }
        for batch in fired.chunks(WARMED) {
            self.warm(batch);
            for &slot in batch {
                // Each device gets the time of its own turn, so that the lag of the last one is not hidden.
                let now = self.world.now();
                if self.recorder.due() <= now {
                    self.record_in_time(now);
                }
                self.device_turn(slot, now);
            }
            self.counted.lags.record_in(&mut self.counted.by_stream);
        }
        self.timers.done(fired);
        // A timer fires with the tick of the wheel that follows.
        self.recorder.offered(begun.before(SHORTEST_PAUSE));
    }

    /// What is heard of the observer of the device's broker.
    fn inlet(&self, slot: Slot) -> &Inlet {
        &self.watched.inlets[self.world.broker(self.roster.slots.index(slot))]
    }

    /// Brings what the turns of these devices need into the processor's cache.
    ///
    /// Each write to a socket drives much of the shard's memory out of it, and the first look at a device then waits for
    /// main memory. Looks that do not depend on each other wait at the same time.
    fn warm(&self, batch: &[Slot]) {
        let look = |&slot: &Slot| {
            let device = &self.roster.devices[slot];
            let stream = self.roster.streams.get(device.first_stream);
            let connection = device.connection.as_ref().map_or(0, |connection| self.world.unsent(connection));
            let session = device.session.since().0 ^ u64::from(device.session.in_flight());
            device.times.leave_at.0
                ^ device.times.since.0
                ^ session
                ^ connection as u64
                ^ stream.map_or(0, |stream| stream.next_due.0)
        };
        black_box(batch.iter().map(look).fold(0, u64::wrapping_add));
    }

    /// The stamp of a message.
    fn stamp(&self, seq: u32, due: Micros) -> Stamp {
        Stamp { run: self.course.plan.run, epoch: self.world.epoch(), seq, due }
    }

    /// Sets the timer of a device to the next instant at which it has anything to do.
    fn set_timer(&mut self, slot: Slot) {
        let at = self.next_turn(slot);
        self.timers.wheel.set(slot, at);
    }
}

#[cfg(test)]
mod tests;
