//! The worker processes of a run: started from simctl's own program, given their devices, and replaced when they die.
//!
//! They are the local twin of pods: each has its shard, gets assignment and plan over its API and hands over its
//! statistics there. A worker lives as long as the pipe to its standard input: when this process dies, however it
//! dies, its workers drain and end by themselves.

use std::{ffi::OsString, path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context;
use fleet_contract::{
    plan::Plan,
    split::Split,
    worker::{ALLOCATOR, Assignment},
    worker_api::{ASSIGNMENT, DRAIN, HEALTHZ},
};
use load_controller::{
    api::{Address, Client, client::json},
    run::workers::{Member, Worker, Workers},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, ChildStdin, Command},
    time::Instant,
};

use super::{log::Log, socket::Claim};
use crate::exit::Failure;

/// How long a worker may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// How long a worker may take to end at once.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

/// How long a worker may take to end once it is told to.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Readings that a worker may miss in a row before it counts as hung and is replaced.
const MISSED_MAX: u32 = 10;

/// How often a worker may die in a row without a minute between; then something is wrong that a restart cannot mend.
const DEATHS_MAX: u32 = 5;

/// A worker that has run so long has recovered from earlier deaths.
const STEADY: Duration = Duration::from_mins(1);

/// How a worker is started, but for its socket.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The program: simctl itself.
    pub(crate) program: PathBuf,
    /// What comes before `--api`.
    pub(crate) arguments: Vec<OsString>,
}

/// All worker processes of a run.
#[derive(Debug)]
pub(crate) struct Processes {
    launch: Launch,
    claim: Claim,
    split: Split,
    client: Client,
    /// What each worker gets, but for the shard; its plan is the newest.
    assignment: Assignment,
    list: Vec<Process>,
    is_draining: bool,
}

#[derive(Debug)]
struct Process {
    worker: Worker,
    address: Address,
    child: Child,
    /// Held open as long as the worker shall live.
    stdin: Option<ChildStdin>,
    log: Log,
    born: Instant,
    deaths: u32,
}

impl Processes {
    /// Starts as many workers as the devices of the plan need; `make_plan` is asked when they listen.
    pub(crate) async fn start(
        launch: Launch,
        claim: Claim,
        split: Split,
        assignment: Assignment,
        make_plan: impl FnOnce() -> Plan,
    ) -> anyhow::Result<Self> {
        let count = split.workers(assignment.plan.devices_max(assignment.plan.start));
        let (client, list) = (Client::default(), Vec::new());
        let mut processes = Self { launch, claim, split, client, assignment, list, is_draining: false };
        let mut list = (0..count).map(|ordinal| processes.spawn(ordinal)).collect::<Result<Vec<_>, _>>()?;
        for process in &mut list {
            process.listens(&processes.client).await?;
        }
        processes.assignment.plan = make_plan();
        for process in &mut list {
            processes.assign(process).await?;
        }
        processes.list = list;
        Ok(processes)
    }

    /// The plan that all of them are to run.
    pub(crate) const fn plan(&self) -> &Plan {
        &self.assignment.plan
    }

    /// Takes a newer plan over, which those that are started from now on get at once.
    pub(crate) fn follow(&mut self, plan: Plan) {
        self.assignment.plan = plan;
    }

    /// The ordinal of the worker that runs device `index`.
    pub(super) const fn owner(&self, index: u32) -> u32 {
        self.split.owner(index)
    }

    /// How they are spoken to.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// The workers that there are.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        self.list.iter().map(|process| process.worker.clone()).collect()
    }

    /// Starts the workers that so many devices need beyond the present ones; without devices in the plan yet, they wait.
    pub(super) async fn reserve(&mut self, devices: u32) -> anyhow::Result<()> {
        for ordinal in u32::try_from(self.list.len())?..self.split.workers(devices) {
            let mut process = self.spawn(ordinal)?;
            process.listens(&self.client).await?;
            self.assign(&mut process).await?;
            self.list.push(process);
        }
        Ok(())
    }

    /// Replaces the workers that have ended, and those that hang by what `known` tells of them; of a run that drains they
    /// are gone.
    pub(super) async fn replace_dead(&mut self, known: &Workers) -> anyhow::Result<()> {
        for position in (0..self.list.len()).rev() {
            let process = &mut self.list[position];
            let missed = known.member(process.worker.ordinal).map_or(0, Member::missed);
            if process.child.try_wait()?.is_none() && missed < MISSED_MAX {
                continue;
            }
            drop(process.child.kill().await);
            if self.is_draining {
                self.list.remove(position);
            } else {
                self.list[position] = self.successor(position).await?;
            }
        }
        Ok(())
    }

    /// Kills a worker, which is replaced as any that has died.
    pub(super) fn kill(&mut self, id: &str) {
        let meant = self.list.iter_mut().find(|process| process.worker.id == id);
        // One that has ended meanwhile is as good.
        let _ = meant.map(|process| process.child.start_kill());
    }

    /// Asks all workers to drain; from now on none is replaced.
    pub(crate) async fn drain(&mut self) {
        self.is_draining = true;
        for process in &self.list {
            // One that does not listen any more is noticed by the next reading.
            drop(self.client.post(&process.address, DRAIN).await);
        }
    }

    /// Ends all workers, by force those that do not end by themselves.
    pub(crate) async fn stop(mut self) {
        for process in &mut self.list {
            process.stdin = None;
        }
        for process in &mut self.list {
            if tokio::time::timeout(END_PATIENCE, process.child.wait()).await.is_err() {
                drop(process.child.kill().await);
            }
        }
    }

    /// Ends all workers without waiting for a message: they have a moment to take their observers' sessions away from the
    /// broker, which would go on queueing for them.
    pub(crate) async fn abort(mut self) {
        for process in &mut self.list {
            // The first reason to end makes a worker drain, the second one ends it.
            process.stdin = None;
            if let Some(pid) = process.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
                // One that has ended meanwhile needs no signal.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        for process in &mut self.list {
            if tokio::time::timeout(ABORT_PATIENCE, process.child.wait()).await.is_err() {
                drop(process.child.kill().await);
            }
        }
    }

    fn spawn(&mut self, ordinal: u32) -> anyhow::Result<Process> {
        let socket = self.claim.worker_socket(ordinal);
        let mut api = OsString::from("unix:");
        api.push(&socket);
        let mut child = Command::new(&self.launch.program)
            .args(&self.launch.arguments)
            .arg("--api")
            .arg(api)
            .arg("--records")
            .arg(self.claim.worker_records(ordinal)?)
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
        let address = Address::Unix(socket.into());
        // Its successor finds its records, and is the same worker in a new epoch.
        let worker = Worker::running(ordinal, format!("worker {ordinal}"), Some(address.clone()));
        let (stdin, log, born) = (child.stdin.take(), Log::follow(child.stderr.take()), Instant::now());
        Ok(Process { worker, address, child, stdin, log, born, deaths: 0 })
    }

    async fn assign(&self, process: &mut Process) -> anyhow::Result<()> {
        let Process { worker, address, log, .. } = process;
        let shard = self.split.shard(worker.ordinal);
        let assignment = Assignment { shard, ..self.assignment.clone() };
        let put = self.client.put(address, ASSIGNMENT, json(&assignment)).await;
        put.with_context(|| format!("{} did not take its devices{}", worker.name, log.tail()))?;
        worker.plan_version = Some(assignment.plan.version);
        Ok(())
    }

    /// The worker that takes the place of one that has ended.
    async fn successor(&mut self, position: usize) -> anyhow::Result<Process> {
        let Process { worker, log, born, deaths, .. } = &self.list[position];
        let deaths = if born.elapsed() >= STEADY { 1 } else { deaths + 1 };
        if deaths > DEATHS_MAX {
            return Err(Failure::invalid(format!("{} died {deaths} times in a row{}", worker.name, log.tail())).into());
        }
        let mut process = self.spawn(worker.ordinal)?;
        process.deaths = deaths;
        process.listens(&self.client).await?;
        self.assign(&mut process).await?;
        Ok(process)
    }
}

impl Process {
    /// Waits until the worker listens.
    async fn listens(&mut self, client: &Client) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        let name = &self.worker.name;
        while client.ping(&self.address, HEALTHZ).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("{name} ended at its start: {status}{}", self.log.tail());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "{name} did not listen within {START_PATIENCE:?}{}",
                self.log.tail()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}
