//! The worker processes of a run: started from simctl's own program, fed, read and replaced when they die.
//!
//! They are the local twin of pods: each has its shard, gets assignment and plan over its API and hands over its
//! statistics there. A worker lives as long as the pipe to its standard input: when this process dies, however it
//! dies, its workers drain and end by themselves.

use std::{
    collections::VecDeque,
    ffi::OsString,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use fleet_contract::{
    plan::Plan,
    split::Split,
    stats::{Totals, WorkerStats},
    worker::{ALLOCATOR, Assignment},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, ChildStdin, Command},
    task::JoinSet,
    time::Instant,
};

use super::{client::Client, socket::Claim};
use crate::exit::Failure;

/// How long a worker may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// How long a worker may take to end at once.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

/// How long a worker may take to end once it is told to.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Readings that a worker may miss in a row before it counts as hung and is replaced.
const SILENT_MAX: u32 = 10;

/// How often a worker may die in a row without a minute between; then something is wrong that a restart cannot mend.
const DEATHS_MAX: u32 = 5;

/// A worker that has run so long has recovered from earlier deaths.
const STEADY: Duration = Duration::from_mins(1);

/// The last lines of its log that are shown when a worker dies.
const LOG_LINES: usize = 12;

/// How a worker is started, but for its socket.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The program: simctl itself.
    pub(crate) program: PathBuf,
    /// What comes before `--api`.
    pub(crate) arguments: Vec<OsString>,
}

/// All workers of a run.
#[derive(Debug)]
pub(crate) struct Workers {
    launch: Launch,
    claim: Claim,
    split: Split,
    /// What each worker gets, but for the shard; its plan is the newest.
    assignment: Assignment,
    list: Vec<Worker>,
    is_draining: bool,
}

#[derive(Debug)]
struct Worker {
    ordinal: u32,
    child: Child,
    /// Held open as long as the worker shall live.
    stdin: Option<ChildStdin>,
    client: Client,
    log: Log,
    born: Instant,
    deaths: u32,
    silent: u32,
    plan_version: u64,
    is_over: bool,
}

impl Workers {
    /// Starts as many workers as the devices of the plan need; `make_plan` is asked when they listen.
    pub(crate) async fn start(
        launch: Launch,
        claim: Claim,
        split: Split,
        assignment: Assignment,
        make_plan: impl FnOnce() -> Plan,
    ) -> anyhow::Result<Self> {
        let count = split.workers(assignment.plan.devices_max(assignment.plan.start));
        let mut workers = Self { launch, claim, split, assignment, list: Vec::new(), is_draining: false };
        let mut list = (0..count).map(|ordinal| workers.spawn(ordinal)).collect::<Result<Vec<_>, _>>()?;
        for worker in &mut list {
            worker.listens().await?;
        }
        workers.assignment.plan = make_plan();
        for worker in &mut list {
            workers.assign(worker).await?;
        }
        workers.list = list;
        Ok(workers)
    }

    /// The plan that all of them are to run.
    pub(crate) const fn plan(&self) -> &Plan {
        &self.assignment.plan
    }

    /// How to reach the worker that runs device `index`.
    pub(crate) fn owner(&self, index: u32) -> Option<Client> {
        self.list.get(self.split.owner(index) as usize).map(|worker| worker.client.clone())
    }

    /// Whether nobody has anything left to do.
    pub(crate) fn are_drained(&self) -> bool {
        self.list.iter().all(|worker| worker.is_over)
    }

    /// Starts the workers that so many devices need beyond the present ones; without devices in the plan yet, they wait.
    pub(crate) async fn reserve(&mut self, devices: u32) -> anyhow::Result<()> {
        for ordinal in u32::try_from(self.list.len())?..self.split.workers(devices) {
            let mut worker = self.spawn(ordinal)?;
            worker.listens().await?;
            self.assign(&mut worker).await?;
            self.list.push(worker);
        }
        Ok(())
    }

    /// Takes a newer plan over.
    pub(crate) async fn apply(&mut self, plan: Plan) {
        self.assignment.plan = plan;
        self.push_plan().await;
    }

    /// Reads all workers into `totals`; replaces those that have ended, and pushes the plan to those that are behind.
    pub(crate) async fn pull(&mut self, totals: &mut Totals) -> anyhow::Result<()> {
        let mut readings = JoinSet::new();
        for (position, worker) in self.list.iter().enumerate().filter(|(_, worker)| !worker.is_gone()) {
            let client = worker.client.clone();
            readings.spawn(async move { (position, client.get::<WorkerStats>("/v1/stats").await) });
        }
        while let Some(read) = readings.join_next().await {
            let (position, reading) = read.context("a reading was cut off")?;
            let worker = &mut self.list[position];
            match reading {
                Ok(reading) => {
                    // One thread that hangs is as bad as a worker that does.
                    worker.silent = if reading.stats.generator.shards_silent == 0 { 0 } else { worker.silent + 1 };
                    worker.plan_version = reading.plan_version;
                    worker.is_over = reading.is_drained;
                    totals.take(worker.ordinal, reading);
                }
                Err(_) => worker.silent += 1,
            }
        }
        for position in 0..self.list.len() {
            self.replace_if_dead(position, totals).await?;
        }
        self.push_plan().await;
        Ok(())
    }

    /// Asks all workers to drain; from now on none is replaced.
    pub(crate) async fn drain(&mut self) {
        self.is_draining = true;
        for worker in &self.list {
            // One that does not listen any more is noticed by the next reading.
            drop(worker.client.post("/v1/drain").await);
        }
    }

    /// Ends all workers, by force those that do not end by themselves.
    pub(crate) async fn stop(mut self) {
        for worker in &mut self.list {
            worker.stdin = None;
        }
        for worker in &mut self.list {
            if tokio::time::timeout(END_PATIENCE, worker.child.wait()).await.is_err() {
                drop(worker.child.kill().await);
            }
        }
    }

    /// Ends all workers without waiting for a message: they have a moment to take their observers' sessions away from the
    /// broker, which would go on queueing for them.
    pub(crate) async fn abort(mut self) {
        for worker in &mut self.list {
            // The first reason to end makes a worker drain, the second one ends it.
            worker.stdin = None;
            if let Some(pid) = worker.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
                // One that has ended meanwhile needs no signal.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        for worker in &mut self.list {
            if tokio::time::timeout(ABORT_PATIENCE, worker.child.wait()).await.is_err() {
                drop(worker.child.kill().await);
            }
        }
    }

    fn spawn(&self, ordinal: u32) -> anyhow::Result<Worker> {
        let socket = self.claim.worker_socket(ordinal);
        let mut api = OsString::from("unix:");
        api.push(&socket);
        let mut child = Command::new(&self.launch.program)
            .args(&self.launch.arguments)
            .arg("--api")
            .arg(api)
            // Meant for a worker that somebody starts by hand.
            .env_remove("SIMCTL_ASSIGNMENT")
            .env_remove("SIMCTL_PLAN")
            .env_remove("SIMCTL_ORDINAL")
            .env_remove("SIMCTL_STATE")
            .env(ALLOCATOR.0, ALLOCATOR.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // The terminal's Ctrl-C is for us alone: workers are drained, not interrupted.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {} as a worker", self.launch.program.display()))?;
        Ok(Worker {
            ordinal,
            stdin: child.stdin.take(),
            log: Log::follow(child.stderr.take()),
            child,
            client: Client::new(socket),
            born: Instant::now(),
            deaths: 0,
            silent: 0,
            plan_version: 0,
            is_over: false,
        })
    }

    async fn assign(&self, worker: &mut Worker) -> anyhow::Result<()> {
        let shard = self.split.shard(worker.ordinal);
        let assignment = Assignment { shard, ..self.assignment.clone() };
        worker
            .client
            .put("/v1/assignment", &assignment)
            .await
            .with_context(|| format!("worker {} did not take its devices{}", worker.ordinal, worker.log.tail()))?;
        worker.plan_version = assignment.plan.version;
        Ok(())
    }

    async fn push_plan(&mut self) {
        for worker in self.list.iter_mut().filter(|worker| !worker.is_over) {
            if worker.plan_version < self.assignment.plan.version
                && worker.client.put("/v1/plan", &self.assignment.plan).await.is_ok()
            {
                worker.plan_version = self.assignment.plan.version;
            }
        }
    }

    async fn replace_if_dead(&mut self, position: usize, totals: &mut Totals) -> anyhow::Result<()> {
        let worker = &mut self.list[position];
        if worker.is_gone() || (worker.child.try_wait()?.is_none() && worker.silent < SILENT_MAX) {
            return Ok(());
        }
        drop(worker.child.kill().await);
        let (ordinal, log) = (worker.ordinal, worker.log.tail());
        let deaths = if worker.born.elapsed() >= STEADY { 1 } else { worker.deaths + 1 };
        totals.end(ordinal);
        if self.is_draining {
            // It may have ended because it was done; only one that was not is missed.
            totals.lose(u32::from(!worker.is_over));
            worker.stdin = None;
            worker.is_over = true;
            return Ok(());
        }
        totals.lose(1);
        if deaths > DEATHS_MAX {
            return Err(Failure::invalid(format!("worker {ordinal} died {deaths} times in a row{log}")).into());
        }
        let mut worker = self.spawn(ordinal)?;
        worker.deaths = deaths;
        worker.listens().await?;
        self.assign(&mut worker).await?;
        self.list[position] = worker;
        Ok(())
    }
}

impl Worker {
    /// Whether its process has been seen to end and is not to be replaced.
    const fn is_gone(&self) -> bool {
        self.is_over && self.stdin.is_none()
    }

    /// Waits until the worker listens.
    async fn listens(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while self.client.ping("/healthz").await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("worker {} ended at its start: {status}{}", self.ordinal, self.log.tail());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "worker {} did not listen within {START_PATIENCE:?}{}",
                self.ordinal,
                self.log.tail()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

/// The last lines that a worker wrote to its standard error.
#[derive(Debug)]
struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Ends with the worker, whose end of the pipe closes.
    _reader: JoinSet<()>,
}

impl Log {
    fn follow(stderr: Option<ChildStderr>) -> Self {
        let lines = Arc::<Mutex<VecDeque<String>>>::default();
        let mut reader = JoinSet::new();
        if let Some(stderr) = stderr {
            let kept = Arc::clone(&lines);
            reader.spawn(async move {
                let mut stderr = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = stderr.next_line().await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() == LOG_LINES {
                        kept.pop_front();
                    }
                    kept.push_back(line);
                }
            });
        }
        Self { lines, _reader: reader }
    }

    /// The lines as the end of an error message; nothing when there are none.
    fn tail(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = lines.iter().map(|line| format!("\n  {line}")).collect();
        format!("; it said:{}", lines.concat())
    }
}
