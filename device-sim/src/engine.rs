//! Runs the devices of a shard of a fleet: one real MQTT session each, on as few threads as there are cores.
//!
//! ```text
//!            plan ──► shard 0 ═══ sockets ═══► broker
//! Engine ──┤          shard 1 ═══ sockets ═══►   │
//!            stats ◄──  ▲ ▲                      │
//!                       │ └── arrivals ── observer ◄
//! ```
//! The engine's threads are ordinary ones with a `mio` loop; nothing of tokio runs here. Only [`Kind::Rumqttc`], which
//! is there to compare with, has a tokio runtime of its own.

pub(crate) mod blueprint;
mod device;
mod pacer;
mod rumqttc;
mod shard;
mod wheel;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fleet_contract::{
    fleet::Observe,
    plan::Plan,
    stats::{Stats, WorkerStats},
    worker::{Assignment, DeviceStatus},
};
use mio::{Poll, Waker};
use serde::{Deserialize, Serialize};

pub use blueprint::BlueprintError;

use crate::{
    clock::Clock,
    observe::{Arrivals, ObserverWatch, observer},
    transport::resolver::Resolver,
};
use blueprint::Blueprint;
use shard::{Command, Reading, Shard, ShareOfRate, Slots};

/// Batches of arrivals that may wait for a shard; then the observer waits.
const ARRIVALS_MAX: usize = 64;

/// Commands that may wait for a shard; then whoever asks waits.
const COMMANDS_MAX: usize = 64;

/// How long a shard may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// How an engine runs, beside what it runs.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// What runs the devices.
    pub kind: Kind,
    /// Threads with a loop each; 0 leaves one core to others.
    pub threads: usize,
    /// The one clock of the process.
    pub clock: Clock,
}

/// What runs the devices. As text and in documents `native` or `rumqttc`.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    clap::ValueEnum,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Kind {
    /// The engine of this crate
    #[default]
    Native,
    /// A client of rumqttc for each device, to compare with; it needs `observe: none`
    Rumqttc,
}

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The fleet cannot be compiled.
    #[error(transparent)]
    Blueprint(#[from] BlueprintError),
    /// The assignment names no broker.
    #[error("expected the address of a broker in `spec.broker.url`, found none")]
    NoBroker,
    /// The broker's name cannot be resolved.
    #[error("expected a broker at {url}: {source}")]
    Resolve {
        /// Its address.
        url: String,
        /// Why not.
        source: io::Error,
    },
    /// rumqttc's clients follow no message to its delivery.
    #[error("expected `observe: none` for the engine `rumqttc`, which follows no messages, found `observe: {0}`")]
    CannotObserve(&'static str),
    /// The operating system refuses a thread or a poll.
    #[error("the operating system does not give the engine what it needs: {0}")]
    System(#[from] io::Error),
}

/// The devices of a worker, running.
#[derive(Debug)]
pub struct Engine {
    plan: Mutex<Arc<Plan>>,
    clock: Clock,
    sequence: AtomicU64,
    driver: Driver,
}

/// What runs the devices.
#[derive(Debug)]
enum Driver {
    Native(Native),
    Rumqttc(rumqttc::Fleet),
}

/// The shards and the observer.
#[derive(Debug)]
struct Native {
    shards: Vec<Handle<Command>>,
    observer: Option<Handle<observer::Command>>,
    watch: Arc<ObserverWatch>,
    slots: Vec<Slots>,
}

/// A thread of the engine, and how to speak to it.
#[derive(Debug)]
struct Handle<C> {
    commands: SyncSender<C>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl<C> Handle<C> {
    /// Whether the command was taken: a thread that has ended takes none.
    fn send(&self, command: C) -> bool {
        self.commands.send(command).is_ok() && self.waker.wake().is_ok()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of the engine has panicked");
        }
    }
}

impl Engine {
    /// Starts the devices of an assignment.
    pub fn start(assignment: &Assignment, options: &Options) -> Result<Self, StartError> {
        check_observe(options.kind, assignment.fleet.spec.observe)?;
        let url = assignment.fleet.spec.broker.as_ref().map(|broker| &broker.url).ok_or(StartError::NoBroker)?;
        let resolver = Resolver::start(url).map_err(|source| StartError::Resolve { url: url.to_string(), source })?;
        let blueprint = Arc::new(Blueprint::compile(assignment)?);
        let builder = Builder {
            plan: Arc::new(assignment.plan.clone()),
            watch: Arc::new(ObserverWatch::default()),
            resolver: Arc::new(resolver),
            clock: options.clock,
            threads: threads(options.threads),
            assignment,
            blueprint,
        };
        builder.build(options.kind)
    }

    /// Takes a plan over; false when it is no newer than the one that runs.
    pub fn set_plan(&self, plan: Plan) -> bool {
        let mut current = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if plan.version <= current.version {
            return false;
        }
        let plan = Arc::new(plan);
        *current = Arc::clone(&plan);
        match &self.driver {
            Driver::Native(native) => native.set_plan(&plan),
            Driver::Rumqttc(fleet) => fleet.set_plan(plan),
        }
        true
    }

    /// The plan that runs.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was measured since the start. Waits for each shard to finish its turn: some milliseconds.
    pub fn stats(&self) -> WorkerStats {
        let (stats, is_drained) = match &self.driver {
            Driver::Native(native) => native.reading(),
            Driver::Rumqttc(fleet) => fleet.reading(),
        };
        WorkerStats {
            epoch: self.clock.epoch(),
            sequence: self.sequence.fetch_add(1, Relaxed) + 1,
            at: self.clock.now(),
            plan_version: self.plan().version,
            is_drained,
            stats,
        }
    }

    /// What is known of device `index`; `None` when it is none of this worker's.
    pub fn device(&self, index: u32) -> Option<DeviceStatus> {
        match &self.driver {
            Driver::Native(native) => native.device(index),
            Driver::Rumqttc(fleet) => fleet.device(index),
        }
    }

    /// Lets every device settle its messages and say DISCONNECT; [`WorkerStats::is_drained`] tells when it is over.
    pub fn drain(&self) {
        match &self.driver {
            Driver::Native(native) => native.drain(),
            Driver::Rumqttc(fleet) => fleet.drain(),
        }
    }

    /// Ends all threads, whatever the devices are doing.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        match &mut self.driver {
            Driver::Native(native) => native.end(),
            Driver::Rumqttc(fleet) => fleet.end(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

impl Native {
    fn set_plan(&self, plan: &Arc<Plan>) {
        // Before the devices: what they send first shall be seen.
        if let Some(observer) = &self.observer {
            observer.send(observer::Command::Devices(plan.devices_wanted()));
        }
        for shard in &self.shards {
            shard.send(Command::Plan(Arc::clone(plan)));
        }
    }

    fn reading(&self) -> (Stats, bool) {
        let mut stats = Stats::default();
        let mut is_drained = true;
        for answer in self.ask_all(Command::Stats) {
            let Reading { stats: of_shard, is_drained: of_shard_drained } = *answer;
            stats.merge(&of_shard);
            is_drained &= of_shard_drained;
        }
        stats.observer = self.watch.stats();
        stats.bytes.observed = self.watch.bytes.load(Relaxed);
        (stats, is_drained)
    }

    fn device(&self, index: u32) -> Option<DeviceStatus> {
        let number = self.slots.iter().position(|slots| slots.slot(index).is_some())?;
        let (reply, answer) = mpsc::sync_channel(1);
        self.shards[number].send(Command::Device(index, reply));
        answer.recv_timeout(ANSWER_PATIENCE).ok().flatten().map(|status| *status)
    }

    fn drain(&self) {
        for shard in &self.shards {
            shard.send(Command::Drain);
        }
    }

    fn end(&mut self) {
        // The observer first, while the shards still take what it hands out.
        if let Some(mut observer) = self.observer.take() {
            observer.send(observer::Command::Stop);
            observer.join();
        }
        for shard in &self.shards {
            shard.send(Command::Stop);
        }
        for shard in &mut self.shards {
            shard.join();
        }
        self.shards.clear();
    }

    /// Asks all shards at once, then collects the answers.
    fn ask_all<T>(&self, command: impl Fn(SyncSender<T>) -> Command) -> Vec<T> {
        let ask = |shard: &Handle<Command>| {
            let (reply, answer) = mpsc::sync_channel(1);
            shard.send(command(reply));
            answer
        };
        let answers: Vec<Receiver<T>> = self.shards.iter().map(ask).collect();
        answers.into_iter().filter_map(|answer| answer.recv_timeout(ANSWER_PATIENCE).ok()).collect()
    }
}

/// Everything that is shared while the threads of an engine are made.
struct Builder<'a> {
    assignment: &'a Assignment,
    blueprint: Arc<Blueprint>,
    plan: Arc<Plan>,
    watch: Arc<ObserverWatch>,
    resolver: Arc<Resolver>,
    clock: Clock,
    threads: u32,
}

impl Builder<'_> {
    fn build(self, kind: Kind) -> Result<Engine, StartError> {
        let driver = match kind {
            Kind::Native => Driver::Native(self.native()?),
            Kind::Rumqttc => Driver::Rumqttc(self.rumqttc()?),
        };
        Ok(Engine { plan: Mutex::new(self.plan), clock: self.clock, sequence: AtomicU64::new(0), driver })
    }

    fn native(&self) -> io::Result<Native> {
        let mut native = Native {
            shards: Vec::new(),
            observer: None,
            watch: Arc::clone(&self.watch),
            slots: (0..self.threads).map(|number| self.slots(number)).collect(),
        };
        let mut outlets = Vec::new();
        for slots in &native.slots.clone() {
            let (handle, outlet) = self.start_shard(*slots)?;
            native.shards.push(handle);
            outlets.push(outlet);
        }
        if self.blueprint.observe != Observe::None {
            native.observer = Some(self.start_observer(outlets)?);
        }
        Ok(native)
    }

    fn rumqttc(&self) -> io::Result<rumqttc::Fleet> {
        rumqttc::Fleet::start(rumqttc::Parts {
            blueprint: Arc::clone(&self.blueprint),
            plan: Arc::clone(&self.plan),
            shard: self.assignment.shard,
            rate: self.share_of_rate(1).under(&self.plan),
            clock: self.clock,
            resolver: Arc::clone(&self.resolver),
            threads: self.threads,
        })
    }

    fn slots(&self, number: u32) -> Slots {
        let shard = self.assignment.shard;
        Slots { first: shard.first.saturating_add(number), step: self.threads, end: shard.end() }
    }

    /// The fleet's connect rate is shared by its workers and their threads.
    fn share_of_rate(&self, threads: u32) -> ShareOfRate {
        ShareOfRate { rate: self.blueprint.connect.rate, worker: self.assignment.shard, threads }
    }

    fn start_shard(&self, slots: Slots) -> io::Result<(Handle<Command>, observer::Outlet)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), shard::WAKE)?);
        let (commands, commands_end) = mpsc::sync_channel(COMMANDS_MAX);
        let (arrivals, arrivals_end) = mpsc::sync_channel::<Arrivals>(ARRIVALS_MAX);
        let (used_arrivals, used) = mpsc::sync_channel(ARRIVALS_MAX);
        let parts = shard::Parts {
            blueprint: Arc::clone(&self.blueprint),
            plan: Arc::clone(&self.plan),
            slots,
            share: self.share_of_rate(self.threads),
            clock: self.clock,
            poll,
            resolver: Arc::clone(&self.resolver),
            commands: commands_end,
            arrivals: arrivals_end,
            used_arrivals,
            observer: Arc::clone(&self.watch),
        };
        let thread = spawn(&format!("shard-{}", slots.first), move || Shard::new(parts).run())?;
        let outlet = observer::Outlet { arrivals, used, waker: Arc::clone(&waker), batch: Vec::new() };
        Ok((Handle { commands, waker, thread: Some(thread) }, outlet))
    }

    fn start_observer(&self, outlets: Vec<observer::Outlet>) -> io::Result<Handle<observer::Command>> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), observer::WAKE)?);
        let (commands, commands_end) = mpsc::sync_channel(COMMANDS_MAX);
        let parts = observer::Parts {
            blueprint: Arc::clone(&self.blueprint),
            run: self.plan.run,
            shard: self.assignment.shard,
            devices: self.plan.devices_wanted(),
            clock: self.clock,
            poll,
            resolver: Arc::clone(&self.resolver),
            commands: commands_end,
            outlets,
            watch: Arc::clone(&self.watch),
        };
        let thread = spawn("observer", move || observer::Observer::new(parts).run())?;
        Ok(Handle { commands, waker, thread: Some(thread) })
    }
}

fn spawn(name: &str, run: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<JoinHandle<()>> {
    let label = name.to_owned();
    thread::Builder::new().name(name.into()).spawn(move || {
        if let Err(error) = run() {
            tracing::error!(thread = label, %error, "a thread of the engine has ended");
        }
    })
}

fn check_observe(kind: Kind, observe: Observe) -> Result<(), StartError> {
    match (kind, observe) {
        (Kind::Native, _) | (Kind::Rumqttc, Observe::None) => Ok(()),
        (Kind::Rumqttc, Observe::All) => Err(StartError::CannotObserve("all")),
        (Kind::Rumqttc, Observe::Sample) => Err(StartError::CannotObserve("sample")),
    }
}

/// How many shards there are to be: all cores but one, which the broker's answers and the observer need.
fn threads(asked: usize) -> u32 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if asked == 0 { cores.saturating_sub(1).max(1) } else { asked };
    u32::try_from(threads.min(1_024)).unwrap_or(1)
}
