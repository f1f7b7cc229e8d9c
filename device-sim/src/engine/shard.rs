//! One shard of the engine: a thread with its devices, its timers, its sockets and its counters.
//!
//! Nothing here is shared with another thread but by messages, so the publish path has no lock. A turn of the loop
//! takes what has happened (commands, arrivals, readiness), then what has fallen due, and sleeps until the next
//! timer. Each step is a file of its own.

mod connect;
mod drive;
mod noted;
mod pace;
mod publish;
mod receive;
mod roster;
mod status;
mod subscribe;
mod sweep;

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
};

use fleet_contract::{
    plan::{self, Disconnect, Population},
    stamp::Stamp,
    stats::Stats,
    time::Micros,
    units::{Rate, Span},
    worker::DeviceStatus,
};
use mio::Token;

pub(super) use connect::{CLOSED, YOUNG};
use drive::Ready;
use noted::{Noted, NotedByStream};
pub(super) use pace::Alarm;
pub(super) use publish::MISSED;

use super::{
    blueprint::Blueprint,
    course::Course,
    device::{Device, StreamState},
    pacer::Pacer,
    streams::{Exchange, Streams},
    wheel::Wheel,
    world::World,
};
use crate::{
    model::Scratch,
    observe::{Arrival, Arrivals, ObserverWatch, bodies::Bodies, ledger::LostMemory},
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
    Device(u32, SyncSender<Option<Box<DeviceStatus>>>),
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
pub(super) struct Parts<W> {
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
}

/// What a shard hears of the observer of one broker; of nobody if nothing is observed.
pub(super) struct Inlet {
    arrivals: Receiver<Arrivals>,
    /// Where batches go that are empty again.
    used: SyncSender<Vec<Arrival>>,
    watch: Arc<ObserverWatch>,
    /// Since when the observer is back; a message that was sent before may still come.
    since: Micros,
}

impl Inlet {
    /// An inlet whose observer has not been away yet.
    pub(super) const fn new(
        arrivals: Receiver<Arrivals>,
        used: SyncSender<Vec<Arrival>>,
        watch: Arc<ObserverWatch>,
    ) -> Self {
        Self { arrivals, used, watch, since: Micros(0) }
    }
}

/// Which devices a shard runs: every `step`-th of the worker's from `first` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots {
    pub(super) first: u32,
    pub(super) step: u32,
    pub(super) end: u32,
}

impl Slots {
    /// The device in `slot`.
    #[expect(clippy::cast_possible_truncation, reason = "a shard has fewer than 2^32 devices")]
    pub(super) const fn index(self, slot: usize) -> u32 {
        self.first + slot as u32 * self.step
    }

    /// The slot of device `index`, if the device is one of the shard's.
    pub(super) const fn slot(self, index: u32) -> Option<usize> {
        if index < self.first || index >= self.end || !(index - self.first).is_multiple_of(self.step) {
            return None;
        }
        Some(((index - self.first) / self.step) as usize)
    }

    /// How many of a fleet of `devices` fall to the shard.
    pub(super) fn count(self, devices: u32) -> u32 {
        devices.min(self.end).saturating_sub(self.first).div_ceil(self.step)
    }
}

/// The part of the fleet's connect rate that falls to a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShareOfRate {
    /// The fleet's rate.
    pub(super) rate: Rate,
    /// The devices of the worker.
    pub(super) worker: plan::Shard,
    /// The threads that the worker's devices are spread over.
    pub(super) threads: u32,
    /// The start of the process.
    pub(super) epoch: Micros,
    /// The start of its engine.
    pub(super) started: Micros,
}

impl ShareOfRate {
    /// The part from `now` on: as large as the worker's part of the devices, divided by its threads.
    pub(super) fn under(self, population: &Population, now: Micros) -> Rate {
        let devices = population.most(now).max(1);
        let share = f64::from(self.worker.share_of(devices).max(1)) / f64::from(devices);
        Rate::per_second(self.rate.get() * share / f64::from(self.threads)).unwrap_or(self.rate)
    }

    /// When this process means to connect device `index`, which the plan has come at `planned`.
    ///
    /// What was planned for a time before the process (it was restarted, or started late) it makes up for from its
    /// start on, at its share of the rate: neither at once nor as late as the timetable of the whole fleet would be.
    pub(super) fn intended(self, index: u32, planned: Micros, population: &Population) -> Micros {
        if planned >= self.epoch {
            return planned;
        }
        let pace = Self { threads: 1, ..self }.under(population, self.started);
        self.started.after(pace.time_for(u64::from(index.saturating_sub(self.worker.first))))
    }

    /// The last instant at which this process means to connect a device for the first time; its start if there is none.
    pub(super) fn last_connect(self, population: &Population) -> Micros {
        let most = population.most(self.started);
        let indices = self.worker.first..self.worker.first + self.worker.share_of(most);
        let intended = indices.filter_map(|index| {
            let stay = population.stay(index, self.started)?;
            Some(self.intended(index, stay.from, population))
        });
        intended.fold(self.started, Micros::max)
    }
}

/// One shard of the engine.
pub(super) struct Shard<W: World> {
    blueprint: Arc<Blueprint>,
    course: Arc<Course>,
    slots: Slots,
    world: W,
    commands: Receiver<Command>,
    inlets: Vec<Inlet>,
    wheel: Wheel,
    /// When timers were looked at last.
    turned_at: Micros,
    /// How long after that the next look is.
    pace: Span,
    pacer: Pacer,
    /// The devices that the pacer has put off, in the order in which they asked; holds each of the shard's once.
    connect_queue: VecDeque<u32>,
    share: ShareOfRate,
    devices: Vec<Device<W::Connection>>,
    streams: Vec<StreamState>,
    /// Of the devices that left from the end, the next one to come back last: where their sequences go on, because a
    /// sequence is used once in an epoch.
    departed: Vec<u32>,
    pool: Pool,
    scratch: Scratch,
    /// What is about to be written to one device.
    out: Vec<u8>,
    /// The body of a message that is made once more.
    body: Vec<u8>,
    /// What was just read from one device.
    inbox: Box<[u8]>,
    /// Timers that have just fired.
    fired: Vec<u32>,
    /// Sockets that may hold more than one read took.
    unread: Vec<usize>,
    /// Connections that are being made and whose handshakes can go on; at most one entry for each readiness.
    handshakes: VecDeque<usize>,
    lost_memory: LostMemory,
    /// What the broker said last to some of the devices, by index.
    said: BTreeMap<u32, String>,
    /// What was sent without a stamp.
    bodies: Bodies,
    /// How late the messages of this batch of turns are.
    lags: Noted,
    /// How long the acknowledgements of this turn took.
    acknowledgements: NotedByStream,
    stats: Stats,
    /// Messages and their times, by stream, since they were left for a reader last.
    by_stream: Streams,
    exchange: Arc<Exchange>,
    /// The next cut of connections.
    next_disconnect: Option<Disconnect>,
    /// When connections were cut last; what was to be cut before the shard began is past.
    disconnected_at: Micros,
    /// The next slot whose ledger rows are looked at.
    sweep_from: usize,
    sweep_at: Micros,
    is_draining: bool,
    ends_with_drain: bool,
    is_stopped: bool,
}

/// A device reads about so many bytes in a turn, so that the others are not late.
const READ_MAX: usize = 64 * 1024;

impl<W: World> Shard<W> {
    pub(super) fn new(parts: Parts<W>) -> Self {
        let Parts { blueprint, course, slots, ends_with_drain, share, world, commands, exchange, inlets } = parts;
        let now = world.now();
        let rate = share.under(&course.population, now);
        let pace = pace::pace_under(&course, now);
        let next_disconnect = course.next_disconnect(now);
        let by_stream = Streams::new(&blueprint);
        // Taken from the system as it is used: the usual device reads no more than the first pages.
        let inbox = vec![0; world.inbox(READ_MAX + blueprint.connect.packet_max() as usize)].into();
        Self {
            blueprint,
            course,
            slots,
            world,
            commands,
            inlets,
            wheel: Wheel::new(now),
            turned_at: now,
            pace,
            pacer: Pacer::new(rate),
            connect_queue: VecDeque::new(),
            share,
            devices: Vec::new(),
            streams: Vec::new(),
            departed: Vec::new(),
            pool: Pool::new(),
            scratch: Scratch::default(),
            out: Vec::with_capacity(64 * 1024),
            body: Vec::new(),
            inbox,
            fired: Vec::new(),
            unread: Vec::new(),
            handshakes: VecDeque::new(),
            lost_memory: LostMemory::default(),
            said: BTreeMap::new(),
            bodies: Bodies::default(),
            lags: Noted::default(),
            acknowledgements: NotedByStream::default(),
            stats: Stats::default(),
            by_stream,
            exchange,
            next_disconnect,
            disconnected_at: now,
            sweep_from: 0,
            sweep_at: now,
            is_draining: false,
            ends_with_drain,
            is_stopped: false,
        }
    }

    /// The first thing that it does.
    fn begin(&mut self) {
        self.follow_population(self.world.now());
    }

    /// Does all that there is to do: what has happened to connections, what is asked of it, and what has fallen due.
    fn turn(&mut self, ready: &[Ready]) {
        self.take_commands();
        self.take_arrivals();
        self.take_ready(ready);
        self.take_handshakes();
        self.take_timers();
        self.admit();
        self.disconnect_in_time();
        self.sweep();
    }

    /// How long there is nothing to do by itself; `None` when there is something at once.
    fn idle(&self, now: Micros) -> Option<Span> {
        let next = self.sweep_at.min(self.admits_at()).min(self.next_disconnect.map_or(Micros::NEVER, |next| next.at));
        let idle = self.wheel.idle(now).min(next.since(now)).min(Span::from_secs(1));
        let is_free = self.unread.is_empty() && self.handshakes.is_empty();
        is_free.then(|| idle.max(self.turned_at.after(self.pace).since(now)))
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            let now = self.world.now();
            match command {
                Command::Course(course) => self.take_course(course, now),
                // Whoever asked may have given up waiting.
                Command::Stats(reply) => drop(reply.try_send(Box::new(self.reading(now)))),
                Command::Untried(reply) => drop(reply.try_send(self.untried())),
                Command::Device(index, reply) => drop(reply.try_send(self.device_status(index).map(Box::new))),
                Command::Drain => self.drain(now),
                Command::Stop => self.is_stopped = true,
            }
        }
    }

    fn take_ready(&mut self, ready: &[Ready]) {
        for slot in std::mem::take(&mut self.unread) {
            self.readable(slot);
        }
        for &Ready { slot, is_readable, is_writable } in ready {
            // A device may have gone in an earlier step of this turn.
            if self.devices.get(slot).is_none_or(|device| device.connection.is_none()) {
                continue;
            }
            if is_writable {
                self.writable(slot);
            }
            if is_readable {
                self.readable(slot);
            }
        }
        self.acknowledgements.record_in(&mut self.by_stream);
    }

    fn take_timers(&mut self) {
        let mut fired = std::mem::take(&mut self.fired);
        self.turned_at = self.world.now();
        self.wheel.turn(self.turned_at, &mut fired);
        for batch in fired.chunks(WARMED) {
            self.warm(batch);
            for &slot in batch {
                // Each device gets the time of its own turn, so that the lag of the last one is not hidden.
                self.device_turn(slot as usize, self.world.now());
            }
            self.lags.record_in(&mut self.stats.latency.schedule_lag);
        }
        fired.clear();
        self.fired = fired;
    }

    /// What is heard of the observer of the device's broker.
    fn inlet(&self, slot: usize) -> &Inlet {
        &self.inlets[self.world.broker(self.slots.index(slot))]
    }

    /// Brings what the turns of these devices need into the processor's cache.
    ///
    /// Each write to a socket drives much of the shard's memory out of it, and the first look at a device then waits for
    /// main memory. Looks that do not depend on each other wait at the same time.
    fn warm(&self, batch: &[u32]) {
        let look = |&slot: &u32| {
            let device = &self.devices[slot as usize];
            let stream = self.streams.get(device.streams as usize);
            let connection = device.connection.as_ref().map_or(0, |connection| self.world.unsent(connection));
            let session = device.session.since().0 ^ u64::from(device.session.in_flight());
            device.leave_at.0
                ^ device.since.0
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
    fn set_timer(&mut self, slot: usize) {
        let at = self.next_turn(slot);
        self.wheel.set(slot, at);
    }
}

#[cfg(test)]
mod tests;
