//! Makes the threads of an engine, with all that connects them.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicBool, mpsc},
    thread::{self, JoinHandle},
};

use fleet_contract::{
    fleet::Observe,
    time::Micros,
    units::Span,
    worker::{Assignment, observer_client_id},
};
use mio::{Poll, Waker};

use super::{
    COMMANDS_MAX, Engine, Handle, Kind, Native, StartError,
    course::Course,
    driver::Driver,
    rumqttc,
    shard::{self, Command, Inlet, Shard, ShareOfRate, Slots},
    streams::Exchange,
    world::Net,
};
use crate::{
    agent::Agent,
    blueprint::{Blueprint, Group},
    clock::Clock,
    observe::{
        Arrivals, ObserverWatch, observer,
        retained::{self, LOOKS_MAX, Look},
    },
    record::Files,
    reload::Reloader,
    transport::{brokers::Brokers, make_room},
};

/// Batches of arrivals that may wait for a shard, of each observer; then the observer waits.
const ARRIVALS_MAX: usize = 64;

/// What the first connect round may take beyond its timetable: the engine's own threads are late, too.
const ROUND_MARGIN: Span = Span::from_secs(1);

/// Everything that is shared while the threads of an engine are made.
pub(super) struct Builder<'a, A> {
    /// What decides what devices say; each shard has its own.
    pub(super) agent: A,
    pub(super) assignment: &'a Assignment,
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) course: Arc<Course>,
    pub(super) brokers: Arc<Brokers>,
    pub(super) clock: Clock,
    /// When the engine began to start.
    pub(super) started: Micros,
    pub(super) threads: u32,
    pub(super) ends_with_drain: bool,
    /// Where shards record what they have counted.
    pub(super) records: Option<PathBuf>,
    /// When the processes began that were in this place before.
    pub(super) predecessors: BTreeSet<Micros>,
}

impl<A: Agent> Builder<'_, A> {
    /// Starts the threads of an engine.
    pub(super) fn build(self, kind: Kind) -> Result<Engine, StartError> {
        let shard = self.assignment.shard;
        make_room(shard.share_of(self.most()));
        let driver: Box<dyn Driver> = match kind {
            Kind::Native => Box::new(self.native()?),
            Kind::Rumqttc => Box::new(self.rumqttc()?),
        };
        let round_ends = self.round_ends();
        let reloader = Reloader::start(self.blueprint.reloads().chain(self.brokers.reloads()).collect())?;
        let (course, blueprint) = (Mutex::new(self.course), self.blueprint);
        Ok(Engine {
            course,
            blueprint,
            shard,
            clock: self.clock,
            sequence: Mutex::new(0),
            round_ends,
            driver,
            reloader,
        })
    }

    /// The most devices that the fleet has at any time from now on.
    fn most(&self) -> u32 {
        self.course.population.most(self.clock.now())
    }

    fn native(&self) -> io::Result<Native> {
        let mut native = Native {
            shards: Vec::new(),
            observers: Vec::new(),
            lookers: Vec::new(),
            watches: (0..self.brokers.count()).map(|_| Arc::default()).collect(),
            exchanges: (0..self.threads).map(|_| Arc::default()).collect(),
            last: Mutex::default(),
            rests: AtomicBool::new(false),
            slots: (0..self.threads).map(|number| self.slots(number)).collect(),
        };
        // Of each observer: the ways to all shards.
        let mut outlets: Vec<Vec<observer::Outlet>> = native.watches.iter().map(|_| Vec::new()).collect();
        let (looks, looks_end): (Vec<_>, Vec<_>) = native.watches.iter().map(|_| self.looks()).unzip();
        for (slots, exchange) in native.slots.iter().zip(&native.exchanges) {
            let handle = self.start_shard(*slots, Arc::clone(exchange), &native.watches, &looks, &mut outlets)?;
            native.shards.push(handle);
        }
        if self.blueprint.observe != Observe::None {
            for (broker, looks) in looks_end.into_iter().enumerate() {
                native
                    .lookers
                    .extend(looks.map(|looks| self.start_looker(broker, looks, &outlets[broker])).transpose()?);
            }
            for (broker, (outlets, watch)) in outlets.into_iter().zip(&native.watches).enumerate() {
                native.observers.push(self.start_observer(broker, outlets, watch)?);
            }
        }
        Ok(native)
    }

    fn rumqttc(&self) -> io::Result<rumqttc::Fleet> {
        rumqttc::Fleet::start(rumqttc::Parts {
            blueprint: Arc::clone(&self.blueprint),
            course: Arc::clone(&self.course),
            shard: self.assignment.shard,
            share: self.share_of_rate(1),
            clock: self.clock,
            brokers: Arc::clone(&self.brokers),
            threads: self.threads,
        })
    }

    fn slots(&self, number: u32) -> Slots {
        let shard = self.assignment.shard;
        Slots { first: shard.first.saturating_add(number), step: self.threads, end: shard.end() }
    }

    /// The fleet's connect rate is shared by its workers and their threads.
    fn share_of_rate(&self, threads: u32) -> ShareOfRate {
        ShareOfRate {
            rate: self.blueprint.connect.rate,
            worker: self.assignment.shard,
            threads,
            epoch: self.clock.epoch(),
            started: self.started,
        }
    }

    fn round_ends(&self) -> Micros {
        let connect = &self.blueprint.connect;
        let last = self.share_of_rate(1).last_connect(&self.course.population).max(self.course.plan.start);
        last.after(connect.jitter).after(connect.timeout).after(ROUND_MARGIN)
    }

    /// Starts a shard, and adds the way to it to each observer's outlets.
    fn start_shard(
        &self,
        slots: Slots,
        exchange: Arc<Exchange>,
        watches: &[Arc<ObserverWatch>],
        looks: &[Option<mpsc::SyncSender<Look>>],
        outlets: &mut [Vec<observer::Outlet>],
    ) -> io::Result<Handle<Command>> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), shard::WAKE)?);
        let alarm = shard::Alarm::new(&poll)?;
        let (commands, commands_end) = mpsc::sync_channel(COMMANDS_MAX);
        let mut inlets = Vec::new();
        for ((watch, looks), outlets) in watches.iter().zip(looks).zip(outlets) {
            let (arrivals, arrivals_end) = mpsc::sync_channel::<Arrivals>(ARRIVALS_MAX);
            let (used_arrivals, used) = mpsc::sync_channel(ARRIVALS_MAX);
            inlets.push(Inlet::new(arrivals_end, used_arrivals, Arc::clone(watch), looks.clone()));
            outlets.push(observer::Outlet { arrivals, used, waker: Arc::clone(&waker), batch: Vec::new() });
        }
        // Without a place for it the devices run all the same.
        let record = |folder: &PathBuf| {
            let files = Files::create(folder, self.clock.epoch(), slots.first);
            files.inspect_err(|error| tracing::warn!(%error, "what is counted cannot be recorded")).ok()
        };
        let parts = shard::Parts {
            agent: self.agent.clone(),
            records: self.records.as_ref().and_then(record),
            blueprint: Arc::clone(&self.blueprint),
            course: Arc::clone(&self.course),
            slots,
            ends_with_drain: self.ends_with_drain,
            share: self.share_of_rate(self.threads),
            world: Net::new(self.clock, poll, alarm, Arc::clone(&self.brokers)),
            commands: commands_end,
            exchange,
            inlets,
            has_predecessor: !self.predecessors.is_empty(),
        };
        let thread = spawn(&format!("shard-{}", slots.first), move || Shard::new(parts).run())?;
        Ok(Handle { commands, waker, thread: Some(thread) })
    }

    /// The way to a looker, where there are retained wills to look at.
    fn looks(&self) -> (Option<mpsc::SyncSender<Look>>, Option<mpsc::Receiver<Look>>) {
        let is_looked_at = |group: &Group| group.will.as_ref().is_some_and(|will| will.is_looked_at);
        if self.blueprint.observe == Observe::None || !self.blueprint.groups.iter().any(is_looked_at) {
            return (None, None);
        }
        let (looks, looks_end) = mpsc::sync_channel(LOOKS_MAX);
        (Some(looks), Some(looks_end))
    }

    /// Starts who looks at the retained messages of the broker at that position.
    fn start_looker(
        &self,
        broker: usize,
        looks: mpsc::Receiver<Look>,
        outlets: &[observer::Outlet],
    ) -> io::Result<JoinHandle<()>> {
        let (first, run, epoch) = (self.assignment.shard.first, self.course.plan.run, self.clock.epoch());
        let client_id = retained::client_id(&observer_client_id(&self.blueprint.name, run, first, epoch, broker));
        let parts = retained::Parts {
            blueprint: Arc::clone(&self.blueprint),
            brokers: Arc::clone(&self.brokers),
            broker,
            client_id,
            looks,
            outlets: outlets.iter().map(|outlet| (outlet.arrivals.clone(), Arc::clone(&outlet.waker))).collect(),
            first,
        };
        spawn(&format!("looker-{broker}"), move || {
            parts.run();
            Ok(())
        })
    }

    /// Starts the observer of the broker at that position.
    fn start_observer(
        &self,
        broker: usize,
        outlets: Vec<observer::Outlet>,
        watch: &Arc<ObserverWatch>,
    ) -> io::Result<Handle<observer::Command>> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), observer::WAKE)?);
        let (commands, commands_end) = mpsc::sync_channel(COMMANDS_MAX);
        let parts = observer::Parts {
            blueprint: Arc::clone(&self.blueprint),
            run: self.course.plan.run,
            predecessors: self.predecessors.clone(),
            shard: self.assignment.shard,
            devices: self.most(),
            clock: self.clock,
            poll,
            brokers: Arc::clone(&self.brokers),
            broker,
            commands: commands_end,
            outlets,
            watch: Arc::clone(watch),
        };
        let thread = spawn(&format!("observer-{broker}"), move || observer::Observer::new(parts).run())?;
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
