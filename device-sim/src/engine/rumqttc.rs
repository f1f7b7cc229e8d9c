//! The same fleet on rumqttc's `AsyncClient`, for an honest comparison: a tokio task, a client and an event loop a
//! device, with the blueprint, the agent of telemetry, the pace and the counters of the native engine.
//!
//! ```text
//!            orders ──► roster ──► device task ═══ client, event loop ═══► broker
//! Fleet ────┤                        │    │
//!            stats ◄── stripes ◄─────┘    └──► books ──► status
//! ```
//! What rumqttc does by itself stays as it is (no DUP on a resend, pings on a fixed clock, a flush a message). It
//! follows no message to its delivery: all that is sent counts as unobserved.

mod books;
mod device;
mod events;
pub(super) mod limits;
mod offer;
mod options;
mod roster;
mod status;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Acquire},
    },
    thread,
    time::Duration,
};

use fleet_contract::{
    plan::Shard,
    stats::{Devices, Stats},
    units::Span,
    worker::DeviceStatus,
};
use tokio::{
    runtime::Builder,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    course::Course, device::Trouble, driver::Driver, lock, pacer::Pacer, phases::Phases, shard::ShareOfRate,
    streams::Streams,
};
use crate::{
    agent::Site, blueprint::Blueprint, clock::Clock, index::DeviceIndex, model::Scratch, transport::brokers::Brokers,
};
use books::Books;

/// Stripes of counters for each thread: a device keeps to one, so that threads seldom wait for each other.
const STRIPES_PER_THREAD: usize = 4;

/// Connection attempts that may be under way at once for each thread, as many as a native shard may have.
const UNDER_WAY_PER_THREAD: usize = 100;

/// How long look-ups and the like may take to end with the runtime.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// What a fleet runs with, once for all its devices.
pub(super) struct Parts {
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) course: Arc<Course>,
    pub(super) shard: Shard,
    pub(super) share: ShareOfRate,
    pub(super) clock: Clock,
    pub(super) brokers: Arc<Brokers>,
    pub(super) threads: u32,
}

/// The devices of a worker on rumqttc, with the thread that owns their runtime.
#[derive(Debug)]
pub(super) struct Fleet {
    orders: watch::Sender<Orders>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the devices are told.
#[derive(Debug, Clone)]
struct Orders {
    course: Arc<Course>,
    is_draining: bool,
}

/// What all devices share.
#[derive(Debug)]
struct Shared {
    blueprint: Arc<Blueprint>,
    shard: Shard,
    share: ShareOfRate,
    threads: u32,
    clock: Clock,
    brokers: Arc<Brokers>,
    /// Held by the one attempt that is waiting for its instant.
    pacer: tokio::sync::Mutex<Pacer>,
    under_way: Semaphore,
    stripes: Box<[Mutex<Stripe>]>,
    /// The devices that run.
    devices: Mutex<BTreeMap<DeviceIndex, Arc<Mutex<Books>>>>,
    is_drained: AtomicBool,
}

/// Counters of some of the devices, and what is needed to make their messages.
#[derive(Debug)]
struct Stripe {
    stats: Stats,
    /// Messages and their times, by stream.
    by_stream: Streams,
    scratch: Scratch,
    /// The topic that is being written.
    topic: Vec<u8>,
    /// The payload that is being written.
    payload: Vec<u8>,
}

impl Stripe {
    fn new(by_stream: &Streams) -> Self {
        Self {
            stats: Stats::default(),
            by_stream: by_stream.clone(),
            scratch: Scratch::default(),
            topic: Vec::new(),
            payload: Vec::new(),
        }
    }
}

impl Fleet {
    /// Starts the runtime on a thread of its own, so that whoever stops the fleet may be in a runtime or in none.
    pub(super) fn start(parts: Parts) -> io::Result<Self> {
        let Parts { blueprint, course, shard, share, clock, brokers, threads } = parts;
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads as usize)
            .thread_name("rumqttc")
            .enable_io()
            .enable_time()
            .build()?;
        let by_stream = Streams::new(&blueprint, course.phases.clone());
        let shared = Arc::new(Shared {
            blueprint,
            shard,
            share,
            threads,
            clock,
            brokers,
            pacer: tokio::sync::Mutex::new(Pacer::new(share.under(&course.population, clock.now()))),
            under_way: Semaphore::new(UNDER_WAY_PER_THREAD * threads as usize),
            stripes: (0..STRIPES_PER_THREAD * threads as usize).map(|_| Mutex::new(Stripe::new(&by_stream))).collect(),
            devices: Mutex::default(),
            is_drained: AtomicBool::new(false),
        });
        let (orders, orders_end) = watch::channel(Orders { course, is_draining: false });
        let stop = CancellationToken::new();
        let (roster, stopped) = (roster::Roster::new(Arc::clone(&shared), orders_end), stop.clone());
        let thread = thread::Builder::new().name("roster".into()).spawn(move || {
            runtime.block_on(roster.run(stopped));
            runtime.shutdown_timeout(END_PATIENCE);
        })?;
        Ok(Self { orders, shared, stop, thread: Some(thread) })
    }

    fn devices(&self) -> Devices {
        let Orders { course, is_draining } = self.orders.borrow().clone();
        let now = self.shared.clock.now();
        let desired = if is_draining { 0 } else { self.shared.shard.share_of(course.population.at(now)) };
        let mut devices = Devices { desired, ..Devices::default() };
        let wanted = self.shared.shard.first..self.shared.shard.first + desired;
        for (index, books) in lock(&self.shared.devices).iter() {
            let books = lock(books);
            let is_to_leave = books.state.is_connected() && !wanted.contains(&index.number());
            devices.connected += u32::from(books.state.is_connected());
            devices.refused += u32::from(books.trouble == Trouble::Refused);
            devices.failed += u32::from(books.trouble == Trouble::Own);
            devices.leaving += u32::from(books.is_leaving() || is_to_leave);
        }
        devices
    }
}

impl Driver for Fleet {
    fn set_course(&self, course: &Arc<Course>, _: u32) {
        self.shared.stripes.iter().for_each(|stripe| lock(stripe).by_stream.follow(&course.phases));
        self.orders.send_modify(|orders| orders.course = Arc::clone(course));
    }

    fn drain(&self) {
        self.orders.send_modify(|orders| orders.is_draining = true);
    }

    fn reading(&self, _: &Phases) -> (Stats, bool) {
        // The counters last: whoever reads that a device is gone shall find what it counted.
        let is_drained = self.shared.is_drained.load(Acquire);
        let mut stats = Stats { devices: self.devices(), ..Stats::default() };
        for stripe in &self.shared.stripes {
            let mut stripe = lock(stripe);
            stripe.stats.sessions.count_until(self.shared.clock.now());
            stats.merge(&stripe.stats);
            stripe.by_stream.add_to(&mut stats);
        }
        stats.generator.shards = self.shared.threads;
        (stats, is_drained)
    }

    fn untried(&self) -> Option<u32> {
        // Those that have no task yet are among them.
        let most = self.orders.borrow().course.population.most(self.shared.clock.now());
        let wanted = self.shared.shard.share_of(most);
        let devices = lock(&self.shared.devices);
        let tried = devices.values().filter(|books| lock(books).has_tried()).count();
        Some(wanted.saturating_sub(u32::try_from(tried).unwrap_or(u32::MAX)))
    }

    fn is_broken(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }

    fn device(&self, index: DeviceIndex) -> Option<DeviceStatus> {
        let books = lock(&self.shared.devices).get(&index).map(Arc::clone)?;
        let run = self.orders.borrow().course.plan.run;
        Some(self.shared.status(&lock(&books), run))
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the rumqttc fleet has panicked");
        }
    }
}

impl Shared {
    /// What the agent is told of device `index`.
    fn site(&self, index: DeviceIndex) -> Site<'_> {
        let group = self.blueprint.group_index(index);
        Site { group, model: &self.blueprint.group(group).model, device: index, start: self.blueprint.start }
    }

    /// The counters of device `index`.
    fn stripe(&self, index: DeviceIndex) -> MutexGuard<'_, Stripe> {
        lock(&self.stripes[index.place() % self.stripes.len()])
    }
}

/// How long a task sleeps at most; tokio's timer has no "never".
const LONGEST_SLEEP: Span = Span::from_secs(3_600);
