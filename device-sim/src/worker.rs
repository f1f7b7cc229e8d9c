//! A worker: an engine once there is an assignment, and everything that may be asked of it.

mod before;
mod mounted;
mod refusal;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fleet_contract::{
    fleet::Fleet,
    plan::{Plan, Shard},
    stats::{Epoch, Generator, Stats, WorkerStats},
    time::Micros,
    worker::{Assignment, DeviceStatus, PULL_PATIENCE, settle_bound},
};
use tokio::{sync::watch, time::timeout};

pub use refusal::Refusal;

use before::Before;

use crate::{
    args::Given,
    clock::Clock,
    engine::{Engine, Options},
    generator::Meter,
    metrics, record, state,
};

/// From one look at a mounted plan to the next; kubelet itself takes up to a minute to bring a change.
const MOUNTED_LOOK: Duration = Duration::from_secs(10);

/// How often a draining worker looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// The devices of this process, once there are any, and what the API may ask of them.
#[derive(Debug)]
pub(crate) struct Worker {
    options: Options,
    state: Option<PathBuf>,
    meter: Meter,
    running: RwLock<Option<Arc<Running>>>,
    /// Held while an engine starts or a plan is taken over, so that two requests cannot do so at once.
    changing: tokio::sync::Mutex<()>,
    /// Whether the devices have been told to leave.
    is_draining: AtomicBool,
    /// Whether somebody has been given the final statistics.
    is_pulled: watch::Sender<bool>,
}

#[derive(Debug)]
struct Running {
    engine: Engine,
    fleet: Fleet,
    shard: Shard,
    clock: Clock,
    /// Whether the first connect round is over; from then on whatever happens is not the worker's start any more.
    is_ready: AtomicBool,
    before: Mutex<Before>,
}

impl Worker {
    pub(crate) fn new(options: Options, state: Option<PathBuf>) -> Self {
        Self {
            meter: Meter::new(options.clock),
            options,
            state,
            running: RwLock::new(None),
            changing: tokio::sync::Mutex::new(()),
            is_draining: AtomicBool::new(false),
            is_pulled: watch::Sender::new(false),
        }
    }

    /// Runs what was given by file, if anything was, and follows its plan; returns only with the reason why it cannot.
    pub(crate) async fn run_given(&self, given: Option<Given>) -> Refusal {
        let Some(Given { assignment, plan }) = given else { return std::future::pending().await };
        if let Err(refusal) = self.assign(assignment).await {
            return refusal;
        }
        let Some(path) = plan else { return std::future::pending().await };
        let mut mounted = mounted::Mounted::new(path);
        let mut looks = tokio::time::interval(MOUNTED_LOOK);
        loop {
            looks.tick().await;
            match mounted.look() {
                Ok(None) => {}
                // One that is no newer changes nothing.
                Ok(Some(plan)) => {
                    let version = plan.version;
                    match self.set_plan(plan).await {
                        Ok(running) => tracing::debug!(mounted = version, running, "the mounted plan was read"),
                        Err(refusal) => tracing::warn!(%refusal, "the mounted plan was not taken over"),
                    }
                }
                Err(error) => tracing::warn!(%error, "the mounted plan cannot be read"),
            }
        }
    }

    /// Starts the devices of `assignment`, at the newest plan that is known; returns the version that runs.
    ///
    /// The same assignment again only brings its plan; another one is refused.
    pub(crate) async fn assign(&self, assignment: Assignment) -> Result<u64, Refusal> {
        let _changing = self.changing.lock().await;
        if let Some(running) = self.running() {
            running.check_same(&assignment)?;
            return self.take_plan(running, assignment.plan).await;
        }
        let (options, path) = (self.options.clone(), self.state.clone());
        let running = blocking(move || Running::start(assignment, &options, path)).await??;
        let version = running.engine.plan().version;
        tracing::info!(fleet = running.fleet.metadata.name, first = running.shard.first, version, "devices start");
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(running));
        Ok(version)
    }

    /// Takes `plan` over if it is newer; returns the version that runs.
    pub(crate) async fn set_plan(&self, plan: Plan) -> Result<u64, Refusal> {
        let _changing = self.changing.lock().await;
        let running = self.running().ok_or(Refusal::NoAssignment)?;
        self.take_plan(running, plan).await
    }

    async fn take_plan(&self, running: Arc<Running>, plan: Plan) -> Result<u64, Refusal> {
        let path = self.state.clone();
        blocking(move || {
            let current = running.engine.plan();
            if plan.run != current.run {
                return Err(Refusal::OtherRun { running: current.run, asked: plan.run });
            }
            // Kept first: a worker that dies in between comes back with the newer one.
            if let Some(path) = path.filter(|_| plan.version > current.version) {
                state::save(&path, &plan)?;
            }
            running.engine.set_plan(plan);
            Ok(running.engine.plan().version)
        })
        .await?
    }

    /// A complete reading of all that was measured; the final one of a drained worker counts as pulled.
    ///
    /// The reader has closed the books of all epochs up to `ended`.
    pub(crate) async fn stats(&self, ended: Micros) -> Result<WorkerStats, Refusal> {
        let mut reading = self.reading().await?;
        if let Some(running) = self.running() {
            reading.before = blocking(move || running.before(ended)).await?;
        }
        if reading.is_drained {
            self.is_pulled.send_replace(true);
        }
        Ok(reading)
    }

    async fn reading(&self) -> Result<WorkerStats, Refusal> {
        let running = self.running().ok_or(Refusal::NoAssignment)?;
        let mut reading = blocking(move || running.engine.stats()).await?;
        self.meter.read(&mut reading.stats.generator);
        Ok(reading)
    }

    /// What a worker in this place may have sent after `after` and before `until`.
    pub(crate) async fn unrecorded(&self, after: Micros, until: Micros) -> Result<Stats, Refusal> {
        let running = self.running().ok_or(Refusal::NoAssignment)?;
        blocking(move || running.engine.unrecorded_between(after, until)).await
    }

    /// What is known of device `index`.
    pub(crate) async fn device(&self, index: u32) -> Result<DeviceStatus, Refusal> {
        let running = self.running().ok_or(Refusal::NoAssignment)?;
        let shard = running.shard;
        let status = blocking(move || running.engine.device(index)).await?;
        status.ok_or(Refusal::NoDevice { index, first: shard.first, last: shard.end().saturating_sub(1) })
    }

    /// Lets the devices settle and leave; without any there is nothing to do.
    pub(crate) async fn drain(&self) -> Result<(), Refusal> {
        self.is_draining.store(true, Relaxed);
        match self.running() {
            Some(running) => blocking(move || running.engine.drain()).await,
            None => Ok(()),
        }
    }

    /// Everything in Prometheus' text format; before there are devices only what concerns the process.
    pub(crate) async fn metrics(&self) -> Result<String, Refusal> {
        let Some(running) = self.running() else {
            let mut generator = Generator::default();
            self.meter.read(&mut generator);
            return Ok(metrics::render("", &Stats { generator, ..Stats::default() })?);
        };
        let stats = self.reading().await?.stats;
        Ok(blocking(move || metrics::render(&running.fleet.metadata.name, &stats)).await??)
    }

    /// Whether the devices have had their chance to connect, and stay.
    pub(crate) async fn check_ready(&self) -> Result<(), Refusal> {
        if self.is_draining.load(Relaxed) {
            return Err(Refusal::Draining);
        }
        let running = self.running().ok_or(Refusal::NoAssignment)?;
        if running.is_ready.load(Relaxed) {
            return Ok(());
        }
        blocking(move || running.check_round()).await?
    }

    /// Whether nothing is broken that only a restart can mend.
    pub(crate) fn check_alive(&self) -> Result<(), Refusal> {
        match self.running() {
            Some(running) if running.engine.is_broken() => Err(Refusal::Broken("a thread that has ended".into())),
            _ => Ok(()),
        }
    }

    /// Drains, and waits until somebody has pulled the final statistics, if there may be somebody.
    pub(crate) async fn finish(&self, may_be_pulled: bool) {
        self.is_draining.store(true, Relaxed);
        let Some(running) = self.running() else { return };
        let longest = settle_bound(&running.fleet.spec).as_duration();
        if timeout(longest, self.drained()).await.is_err() {
            tracing::warn!(seconds = longest.as_secs(), "the drain takes too long and is given up");
        }
        if may_be_pulled {
            let mut is_pulled = self.is_pulled.subscribe();
            if timeout(PULL_PATIENCE.as_duration(), is_pulled.wait_for(|is_pulled| *is_pulled)).await.is_err() {
                tracing::warn!("nobody has pulled the final statistics");
            }
        }
    }

    /// Returns when every device has left; the engine has no voice of its own, so that it is asked now and then.
    async fn drained(&self) {
        if let Err(error) = self.drain().await {
            tracing::error!(%error, "the engine cannot drain");
        }
        let mut looks = tokio::time::interval(DRAIN_LOOK);
        loop {
            looks.tick().await;
            if self.reading().await.is_ok_and(|reading| reading.is_drained) {
                return;
            }
        }
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Running {
    fn start(mut assignment: Assignment, options: &Options, path: Option<PathBuf>) -> Result<Self, Refusal> {
        if let Some(path) = path {
            if let Some(kept) = state::load(&path)? {
                assignment.plan = state::newest(assignment.plan, kept);
            }
            state::save(&path, &assignment.plan)?;
        }
        let clock = options.clock.ahead_by(assignment.plan.ahead);
        let folder = options.records.as_deref();
        let found = folder.map(|folder| record::read(folder, clock.epoch()));
        let predecessors =
            folder.and_then(|folder| record::predecessors(folder, clock.epoch()).ok()).unwrap_or_default();
        let engine = Engine::start(&assignment, &Options { clock, predecessors, ..options.clone() })?;
        let before = folder.zip(found).map(|(folder, found)| Before::find(folder, found?, &engine, clock.epoch()));
        let before = before.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "what earlier workers in this place had counted cannot be read");
            None
        });
        let Assignment { fleet, shard, .. } = assignment;
        let before = Mutex::new(before.unwrap_or_default());
        Ok(Self { engine, fleet, shard, clock, is_ready: AtomicBool::new(false), before })
    }

    /// What earlier workers had counted, but for the epochs up to `ended`.
    fn before(&self, ended: Micros) -> Vec<Epoch> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        before.forget(ended);
        before.epochs().to_vec()
    }

    fn check_same(&self, assignment: &Assignment) -> Result<(), Refusal> {
        if self.fleet == assignment.fleet && self.shard == assignment.shard {
            return Ok(());
        }
        let name = |fleet: &Fleet, shard: Shard| format!("{} from device {}", fleet.metadata.name, shard.first);
        Err(Refusal::OtherFleet {
            running: name(&self.fleet, self.shard),
            asked: name(&assignment.fleet, assignment.shard),
        })
    }

    /// Whether the first connect round is over: each device was tried, or the time for it has passed.
    fn check_round(&self) -> Result<(), Refusal> {
        let until = self.engine.round_ends();
        if self.clock.now() < until {
            let devices = self.shard.share_of(self.engine.plan().devices_wanted());
            match self.engine.untried() {
                Some(0) => {}
                Some(untried) => return Err(Refusal::Connecting { devices, untried, until }),
                None => return Err(Refusal::Busy),
            }
        }
        self.is_ready.store(true, Relaxed);
        Ok(())
    }
}

/// Runs what may wait for the engine's threads beside the API's one.
async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(ask).await.map_err(|error| Refusal::Broken(error.to_string()))
}
