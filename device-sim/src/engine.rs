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

mod builder;
mod causes;
mod course;
mod device;
mod driver;
mod pacer;
mod phases;
mod rumqttc;
mod shard;
mod slot;
mod streams;
#[cfg(test)]
mod tests;
mod unrecorded;
mod wheel;
mod world;

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fleet_contract::{
    allowed::AllowedBrokers,
    broker_url::BrokerUrl,
    fleet::BrokerSpec,
    plan::{Plan, Shard},
    stats::{Stats, WorkerStats},
    time::Micros,
    worker::{Assignment, DeviceStatus},
};
use mio::Waker;
use serde::{Deserialize, Serialize};

use course::Course;

use crate::{
    agent::{Agent, Telemetry},
    blueprint::{Blueprint, BlueprintError},
    clock::Clock,
    index::DeviceIndex,
    observe::{ObserverWatch, observer},
    record::Record,
    reload::Reloader,
    transport::{
        Ports, Route, RouteError,
        brokers::{Broker, Brokers},
        make_room,
        resolver::Resolver,
    },
};
use builder::Builder;
use driver::Driver;
use phases::Phases;
pub(crate) use shard::Slots;
use shard::{Command, Reading};
use streams::{Exchange, Tables};

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
    /// The addresses of this machine that devices connect from, each by its index; none lets the system choose.
    pub sources: Vec<IpAddr>,
    /// Where brokers may be; `None` where nobody limits that.
    pub allowed_brokers: Option<AllowedBrokers>,
    /// Where shards record what they have counted, for a successor of this process; nowhere without.
    pub records: Option<PathBuf>,
    /// When the processes began that were in this place before: the sessions of their observers are ended.
    pub predecessors: BTreeSet<Micros>,
    /// Whether the fleet ends with the drain: its devices do not come back elsewhere, as those of a pod do.
    pub ends_with_drain: bool,
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
    /// A client of rumqttc for each device, to compare with; it needs `observe: none`, and its devices only publish
    Rumqttc,
}

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The fleet cannot be compiled.
    #[error(transparent)]
    Blueprint(#[from] BlueprintError),
    /// The assignment names no broker.
    #[error("expected the address of a broker in `spec.broker.url` or `spec.broker.urls`, found none")]
    NoBroker,
    /// The operating system starts no thread that looks names up.
    #[error("failed to start the resolver of {url}: {source}")]
    Resolver {
        /// The broker's address.
        url: String,
        /// Why not.
        source: io::Error,
    },
    /// There is no way to the broker.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// rumqttc's clients are built without TLS and WebSocket, whose releases have known faults.
    #[error("expected `mqtt://` and no source addresses for the engine `rumqttc`, found {0}")]
    PlainOnly(String),
    /// rumqttc's clients follow no message to its delivery.
    #[error("expected `observe: none` for the engine `rumqttc`, which follows no messages, found `observe: {0}`")]
    CannotObserve(&'static str),
    /// rumqttc's clients of 3.1.1 are what is compared with.
    #[error("expected `broker.protocol: 3.1.1` for the engine `rumqttc`, found `5`")]
    CannotSpeak5,
    /// rumqttc's clients only publish.
    #[error(
        "expected no `subscriptions` for the engine `rumqttc`, whose devices only publish, found some in group `{0}`"
    )]
    CannotSubscribe(String),
    /// rumqttc's clients send what falls due, as it is.
    #[error("expected no `faults` in models for the engine `rumqttc`, which knows none, found some in group `{0}`")]
    CannotMisbehave(String),
    /// The operating system refuses a thread or a poll.
    #[error("the operating system does not give the engine what it needs: {0}")]
    System(#[from] io::Error),
}

/// The devices of a worker, running.
#[derive(Debug)]
pub struct Engine {
    course: Mutex<Arc<Course>>,
    blueprint: Arc<Blueprint>,
    shard: Shard,
    clock: Clock,
    /// The number of the last reading; held while one is taken, so that a later number never has an earlier reading.
    sequence: Mutex<u64>,
    /// When the first connect round is over, whatever has become of it.
    round_ends: Micros,
    driver: Box<dyn Driver>,
    /// Takes over changed passwords and certificates.
    reloader: Reloader,
}

/// The shards, and an observer for each address of the broker.
#[derive(Debug)]
struct Native {
    shards: Vec<Handle<Command>>,
    observers: Vec<Handle<observer::Command>>,
    /// Those that look at retained messages; each ends when no shard can ask it any more.
    lookers: Vec<JoinHandle<()>>,
    watches: Vec<Arc<ObserverWatch>>,
    slots: Vec<Slots>,
    /// Where each shard leaves what it counts by stream.
    exchanges: Vec<Arc<Exchange>>,
    last: Mutex<Last>,
    /// Whether the observers were told to leave because nothing is left to be judged.
    rests: AtomicBool,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Last {
    /// What each shard said last: one that is silent for a while takes nothing back.
    readings: Vec<Reading>,
    /// The sum of what all shards have left.
    tables: Tables,
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

    /// Whether the command was taken; one whose queue is full is not waited for.
    fn ask(&self, command: C) -> bool {
        self.commands.try_send(command).is_ok() && self.waker.wake().is_ok()
    }

    /// Whether the thread has ended before it was told to.
    fn is_broken(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
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
        Self::start_with(assignment, options, Telemetry)
    }

    /// Starts the devices of an assignment, whose agent decides what they say.
    fn start_with(assignment: &Assignment, options: &Options, agent: impl Agent) -> Result<Self, StartError> {
        let is_compared = options.kind == Kind::Rumqttc;
        if is_compared {
            rumqttc::limits::check(&assignment.fleet.spec)?;
        }
        let broker = assignment.fleet.spec.broker.as_ref().ok_or(StartError::NoBroker)?;
        let brokers = brokers(broker, options)?;
        let blueprint = Arc::new(Blueprint::compile_with(assignment, &agent)?);
        if is_compared {
            rumqttc::limits::check_models(&blueprint)?;
        }
        let builder = Builder {
            course: Arc::new(Course::new(Arc::new(assignment.plan.clone()), &blueprint)),
            brokers: Arc::new(brokers),
            clock: options.clock,
            started: options.clock.now(),
            threads: threads(options.threads),
            ends_with_drain: options.ends_with_drain,
            records: options.records.clone(),
            predecessors: options.predecessors.clone(),
            assignment,
            blueprint,
            agent,
        };
        builder.build(options.kind)
    }

    /// Takes a plan over; false when it is no newer than the one that runs.
    pub fn set_plan(&self, plan: Plan) -> bool {
        let mut current = lock(&self.course);
        if plan.version <= current.plan.version {
            return false;
        }
        let course = Arc::new(Course::new(Arc::new(plan), &self.blueprint));
        *current = Arc::clone(&course);
        let most = course.population.most(self.clock.now());
        make_room(self.shard.share_of(most));
        self.driver.set_course(&course, most);
        true
    }

    /// The plan that runs.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&lock(&self.course).plan)
    }

    /// What was measured since the start. Waits for each shard to finish its turn: some milliseconds.
    ///
    /// A shard that does not answer within two seconds is counted as it was when it last did, and as silent.
    pub fn stats(&self) -> WorkerStats {
        let begun = self.clock.now();
        let mut sequence = lock(&self.sequence);
        *sequence += 1;
        let course = Arc::clone(&lock(&self.course));
        let (mut stats, is_drained) = self.driver.reading(&course.phases);
        stats.generator.secrets_unusable = self.reloader.failures();
        WorkerStats {
            begun,
            is_drained,
            ..WorkerStats::new(self.clock.epoch(), *sequence, self.clock.now(), course.plan.version, stats)
        }
    }

    /// What the process that has left a record may have sent after it, before `until`.
    pub(crate) fn unrecorded_after(&self, record: &Record, until: Micros) -> Stats {
        let course = Arc::clone(&lock(&self.course));
        unrecorded::after_record(&self.blueprint, &course, record, until)
    }

    /// What a worker in this place may have sent after `after` and before `until`.
    pub fn unrecorded_between(&self, after: Micros, until: Micros) -> Stats {
        let course = Arc::clone(&lock(&self.course));
        let devices = self.shard.first..self.shard.end().min(course.population.most(after));
        unrecorded::between(&self.blueprint, &course, devices.map(DeviceIndex::new), after, until)
    }

    /// How many devices have been neither accepted nor refused, nor failed to connect, since the engine started;
    /// `None` when a shard does not answer within two seconds.
    pub fn untried(&self) -> Option<u32> {
        self.driver.untried()
    }

    /// The instant by which the first connect round had to be over: the last device's intended connect, the longest
    /// that it may be put off, and the longest that an attempt may take.
    pub const fn round_ends(&self) -> Micros {
        self.round_ends
    }

    /// Whether a thread has ended before it was told to; then its devices are gone for good.
    pub fn is_broken(&self) -> bool {
        self.driver.is_broken()
    }

    /// What is known of device `index`; `None` when it is none of this worker's.
    pub fn device(&self, index: u32) -> Option<DeviceStatus> {
        self.driver.device(DeviceIndex::new(index))
    }

    /// Lets every device settle its messages and say DISCONNECT; [`WorkerStats::is_drained`] tells when it is over.
    pub fn drain(&self) {
        self.driver.drain();
    }

    /// Ends all threads, whatever the devices are doing.
    pub fn stop(mut self) {
        self.driver.end();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.driver.end();
    }
}

impl Driver for Native {
    fn set_course(&self, course: &Arc<Course>, devices: u32) {
        // Before the devices: what they send first shall be seen.
        for observer in &self.observers {
            observer.send(observer::Command::Devices(devices));
        }
        for shard in &self.shards {
            shard.send(Command::Course(Arc::clone(course)));
        }
    }

    fn reading(&self, phases: &Phases) -> (Stats, bool) {
        let mut last = lock(&self.last);
        let Last { readings, tables } = &mut *last;
        readings.resize_with(self.shards.len(), Reading::default);
        let mut stats = Stats::default();
        let (mut shards, mut silent, mut is_drained) = (0, 0, true);
        for (answer, last) in self.ask_all(Command::Stats).into_iter().zip(readings) {
            match answer {
                Some(reading) => *last = *reading,
                None => silent += 1,
            }
            stats.merge(&last.stats);
            is_drained &= last.is_drained;
            shards += 1;
        }
        self.exchanges.iter().for_each(|exchange| exchange.take_into(tables));
        tables.end_phases(phases);
        tables.add_to(&mut stats, phases);
        stats.generator.shards = shards;
        stats.generator.shards_silent = silent;
        if is_drained && !self.rests.swap(true, Relaxed) {
            self.stop_observers();
        }
        stats.bytes.observed = 0;
        for watch in &self.watches {
            stats.observer.merge(&watch.stats());
            stats.bytes.observed += watch.bytes.load(Relaxed);
        }
        (stats, is_drained)
    }

    fn untried(&self) -> Option<u32> {
        self.ask_all(Command::Untried).into_iter().sum()
    }

    fn device(&self, index: DeviceIndex) -> Option<DeviceStatus> {
        let number = self.slots.iter().position(|slots| slots.slot(index).is_some())?;
        let (reply, answer) = mpsc::sync_channel(1);
        self.shards[number].send(Command::Device(index, reply));
        answer.recv_timeout(ANSWER_PATIENCE).ok().flatten().map(|status| *status)
    }

    fn is_broken(&self) -> bool {
        let are_to_live = !self.rests.load(Relaxed);
        self.shards.iter().any(Handle::is_broken) || are_to_live && self.observers.iter().any(Handle::is_broken)
    }

    fn drain(&self) {
        for shard in &self.shards {
            shard.send(Command::Drain);
        }
    }

    fn end(&mut self) {
        // The observers first, while the shards still take what they hand out.
        self.stop_observers();
        for observer in &mut self.observers {
            observer.join();
        }
        self.observers.clear();
        for shard in &self.shards {
            shard.send(Command::Stop);
        }
        for shard in &mut self.shards {
            shard.join();
        }
        self.shards.clear();
        for looker in self.lookers.drain(..) {
            if looker.join().is_err() {
                tracing::error!("a thread of the engine has panicked");
            }
        }
    }
}

impl Native {
    fn stop_observers(&self) {
        for observer in &self.observers {
            observer.send(observer::Command::Stop);
        }
    }

    /// Asks all shards at once, then collects the answers that come in time, in the shards' order.
    #[expect(clippy::disallowed_methods, reason = "threads answer in real time")]
    fn ask_all<T>(&self, command: impl Fn(SyncSender<T>) -> Command) -> Vec<Option<T>> {
        let ask = |shard: &Handle<Command>| {
            let (reply, answer) = mpsc::sync_channel(1);
            shard.ask(command(reply)).then_some(answer)
        };
        let answers: Vec<_> = self.shards.iter().map(ask).collect();
        let deadline = Instant::now() + ANSWER_PATIENCE;
        let patience = || deadline.saturating_duration_since(Instant::now());
        let in_time = |answer: mpsc::Receiver<T>| answer.recv_timeout(patience()).ok();
        answers.into_iter().map(|answer| answer.and_then(in_time)).collect()
    }
}

/// The addresses of a broker, each with the way there.
fn brokers(spec: &BrokerSpec, options: &Options) -> Result<Brokers, StartError> {
    let ports = Ports::of_this_machine();
    let broker = |url: &BrokerUrl| {
        let route = Route::new(url, spec)?.from_sources(&options.sources).over_ports(ports.clone());
        if options.kind == Kind::Rumqttc {
            rumqttc::limits::check_route(url, &route)?;
        }
        let route = Arc::new(route);
        let resolver = Resolver::start(url, options.allowed_brokers.as_ref(), &route)
            .map_err(|source| StartError::Resolver { url: url.to_string(), source })?;
        Ok(Broker { resolver, route })
    };
    let brokers: Vec<_> = spec.addresses().iter().map(broker).collect::<Result<_, StartError>>()?;
    if brokers.is_empty() { Err(StartError::NoBroker) } else { Ok(Brokers::new(brokers)) }
}

/// No holder of a lock leaves things half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many shards there are to be if so many are `asked` for; 0 leaves one core to the broker's answers and the observer.
pub fn threads(asked: usize) -> u32 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if asked == 0 { cores.saturating_sub(1).max(1) } else { asked };
    u32::try_from(threads.min(1_024)).unwrap_or(1)
}
