//! A run on this machine, from its first device to its verdict.
//!
//! One value owns everything that changes: plan, workers, totals, timeline. Signals, control requests and the second's
//! tick come to it one after the other, so there is nothing to lock.

use std::time::Duration;

use fleet_contract::{fault::Fault, plan::Plan, stats::Stats, time::Micros, units::Span};
use load_controller::{
    api::Calls,
    report::Report,
    run::{
        self, Step,
        act::{Outcome as Came, Target, drawn},
        change::Change,
        facts::RunFacts,
        workers::{TimesOf, Worker, Workers},
    },
};
use tokio::sync::mpsc;

use super::{
    control::Request,
    hook::{Hooks, Told},
    processes::Processes,
    signals::Signals,
};

/// How often the workers are read.
const TICK: Duration = Duration::from_secs(1);

/// How far ahead a change takes effect, so that every worker knows of it in time.
const LEAD: Span = Span::from_millis(100);

/// What a plan must not exceed from an instant on, first that of the start, then each that follows another one; `Err` says
/// why and what to do.
pub(crate) type Guard = Box<dyn Fn(Option<&Plan>, &Plan, Micros) -> Result<(), String> + Send + Sync>;

/// What time it is.
pub(crate) type Now = Box<dyn Fn() -> Micros + Send + Sync>;

/// A run in progress: what drives [`run::Run`] on this machine.
pub(crate) struct Run {
    /// How far it has come.
    state: run::Run,
    workers: Workers,
    processes: Processes,
    calls: Calls,
    now: Now,
    guard: Guard,
    devices_most: u32,
    hooks: Hooks,
}

/// What a run came to.
pub(crate) struct Outcome {
    /// Everything that was measured.
    pub(crate) stats: Stats,
    /// Everything else that is known.
    pub(crate) facts: RunFacts,
    /// The report, with its verdict.
    pub(crate) report: Report,
    /// The most devices that it had at any time, or was to have.
    pub(crate) devices_most: u32,
}

impl Run {
    /// A run of workers that have their devices.
    pub(crate) fn new(processes: Processes, now: Now, facts: RunFacts, guard: Guard) -> Self {
        let mut workers = Workers::default();
        workers.meet(processes.workers());
        let calls = Calls::new(processes.client().clone());
        let devices_most = processes.plan().devices_max(processes.plan().start);
        let (state, hooks) = (run::Run::new(facts, LEAD), Hooks::default());
        Self { state, workers, processes, calls, now, guard, devices_most, hooks }
    }

    /// Runs until it is told to stop or its duration is over, drains, and ends the workers.
    ///
    /// `show` gets a report after each reading.
    pub(crate) async fn drive(
        mut self,
        requests: &mut mpsc::Receiver<Request>,
        signals: &Signals,
        mut show: impl FnMut(&Report),
    ) -> anyhow::Result<Outcome> {
        let ended = tokio::select! {
            ended = self.until_drained(requests, signals, &mut show) => ended.map(|()| false),
            () = signals.abort.cancelled() => Ok(true),
        };
        let Self { state: mut run, workers, processes, now, devices_most, .. } = self;
        let plan = processes.plan().clone();
        match &ended {
            Ok(false) => processes.stop().await,
            Ok(true) | Err(_) => processes.abort().await,
        }
        run.end(now(), ended?);
        let stats = run.stats(&plan, &workers);
        let report = Report::new(&stats, run.facts());
        Ok(Outcome { stats, facts: run.facts().clone(), report, devices_most })
    }

    async fn until_drained(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        signals: &Signals,
        show: &mut impl FnMut(&Report),
    ) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (end, act) = (self.end(), self.next_act());
            let is_time = tokio::select! {
                _ = ticks.tick() => true,
                () = at(end) => true,
                () = at(act) => true,
                Some(request) = requests.recv() => {
                    self.answer(request, signals).await;
                    false
                }
                () = signals.drain.cancelled(), if self.state.follows_plan() => {
                    // A last look at the devices as they were before they left.
                    self.read().await?;
                    self.state.drain((self.now)(), self.processes.plan());
                    self.processes.drain().await;
                    show(&self.report());
                    // Mostly there is little left to settle: look more often than once a second.
                    ticks = tokio::time::interval(TICK / 5);
                    false
                }
            };
            if !is_time {
                continue;
            }
            match self.read().await? {
                Step::None => {}
                Step::Drain => signals.drain.cancel(),
                Step::End => return Ok(()),
            }
            // Before the start there is nothing to see.
            if self.state.facts().now > self.state.facts().started {
                show(&self.report());
            }
        }
    }

    /// How long it goes on, if that is known and it has not ended: the second's tick would let it run on for up to a second.
    fn end(&self) -> Option<Duration> {
        let facts = self.state.facts();
        let end = facts.started.after(facts.asked.duration?);
        let left = end.since((self.now)());
        (self.state.follows_plan() && left > Span::ZERO).then(|| left.as_duration())
    }

    /// How long it is until the next act begins, if one does.
    fn next_act(&self) -> Option<Duration> {
        Some(self.state.next_act()?.since((self.now)()).as_duration())
    }

    /// Begins the acts that are due, and takes note of commands that have ended.
    fn act(&mut self, now: Micros) {
        for (number, fault) in self.state.acts_due(now) {
            match fault {
                Fault::KillPods(kill) => {
                    let seed = self.state.facts().fleet.spec.seed;
                    let of = |worker: Worker| Target { name: worker.name, uid: worker.id };
                    let there = self.processes.workers().into_iter().map(of).collect();
                    let targets = drawn(there, kill.share, seed, number, |worker| &worker.name);
                    targets.iter().for_each(|target| self.processes.kill(&target.uid));
                    let ended: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
                    let done = Came::Done(ended.len() as u64);
                    self.state.act_begins(number, targets);
                    self.state.act_has_ended(number, ended);
                    self.state.act_ended(number, done);
                }
                Fault::Hook(hook) => {
                    self.state.act_begins(number, Vec::new());
                    let RunFacts { fleet, asked, .. } = self.state.facts();
                    let load_test = asked.load_test.clone().unwrap_or_default();
                    let (fleet, broker) = (fleet.metadata.name.clone(), self.state.facts().broker());
                    self.hooks.start(number, hook, &Told { load_test, fleet, broker });
                }
                _ => {}
            }
        }
        while let Some((number, outcome)) = self.hooks.ended() {
            self.state.act_ended(number, outcome);
        }
    }

    /// Reads all workers, replaces those that have ended, and says what comes next.
    async fn read(&mut self) -> anyhow::Result<Step> {
        self.calls.make(self.workers.to_read(TimesOf::All));
        self.hear().await;
        self.processes.replace_dead(&self.workers).await?;
        self.meet();
        if let Some(plan) = run::Run::without_kept_phases(self.processes.plan(), &self.workers) {
            self.processes.follow(plan);
        }
        self.push().await;
        let now = (self.now)();
        let step = self.state.tick(now, self.processes.plan(), &mut self.workers);
        self.act(now);
        if let Some(plan) = self.state.steer(now, self.processes.plan(), &self.workers) {
            self.processes.follow(plan);
            self.push().await;
        }
        Ok(step)
    }

    /// Takes in the answers to all that was asked.
    async fn hear(&mut self) {
        while self.calls.is_waiting() {
            if let Some(answered) = self.calls.next().await {
                // Who does not answer is counted, and replaced in the end.
                let _ = self.workers.answered(answered);
            }
        }
    }

    /// Takes over which workers there are; here nothing outlives this process, so that books are closed at once.
    fn meet(&mut self) {
        self.workers.meet(self.processes.workers());
        if let Some(closing) = self.workers.closing() {
            self.workers.close(closing);
        }
    }

    /// Gives the plan to all that run an older one.
    async fn push(&mut self) {
        self.calls.make(self.workers.to_push(self.processes.plan()));
        self.hear().await;
    }

    fn report(&self) -> Report {
        Report::of(&self.state, self.processes.plan(), &self.workers)
    }

    fn stats(&self) -> Stats {
        self.state.stats(self.processes.plan(), &self.workers)
    }

    async fn answer(&mut self, request: Request, signals: &Signals) {
        // Whoever asked may be gone by now; then nobody misses the answer.
        match request {
            Request::Report(answer) => drop(answer.send(Box::new(self.report()))),
            Request::Fleet(answer) => drop(answer.send(Box::new(self.state.facts().fleet.clone()))),
            Request::Plan(answer) => drop(answer.send(self.processes.plan().clone())),
            Request::Owner(index, answer) => {
                let is_known = index < self.processes.plan().devices_max((self.now)());
                let owner = self.workers.member(self.processes.owner(index)).filter(|_| is_known);
                drop(answer.send(owner.and_then(|member| member.worker.address.clone())));
            }
            Request::Metrics(answer) => {
                let name = &self.state.facts().fleet.metadata.name;
                let rendered = device_sim::metrics::render(name, &self.stats());
                drop(answer.send(rendered.map_err(|error| error.to_string())));
            }
            Request::IsReady(answer) => {
                let devices = self.stats().devices;
                answer.send(devices.desired > 0 && devices.connected >= devices.desired).unwrap_or_default();
            }
            Request::Stop(answer) => {
                signals.drain.cancel();
                answer.send(()).unwrap_or(());
            }
            Request::Abort(answer) => {
                signals.drain.cancel();
                signals.abort.cancel();
                answer.send(()).unwrap_or(());
            }
            Request::Skip(answer) => {
                let now = (self.now)();
                let skipped = self.state.skip(self.processes.plan(), now);
                if let Ok(plan) = &skipped {
                    self.processes.follow(plan.clone());
                    self.state.follow(plan, now);
                    self.push().await;
                }
                // Those of whoever looks at once are of the phase that begins.
                drop(answer.send(skipped.map(|_| ())));
            }
            Request::Change(change, answer) => {
                let changed = self.change(&change).await;
                drop(answer.send(changed));
            }
        }
    }

    /// Changes the plan from soon on; `Err` says why not, and then nothing has changed.
    async fn change(&mut self, change: &Change) -> Result<Plan, String> {
        let now = (self.now)();
        let tentative = self.state.planned(self.processes.plan(), change, now)?;
        (self.guard)(Some(self.processes.plan()), &tentative, now)?;
        // Workers that it needs must be there when it takes effect, else their devices come late.
        self.processes.reserve(tentative.devices_max(now)).await.map_err(|error| format!("{error:#}"))?;
        self.meet();
        let now = (self.now)();
        let plan = self.state.planned(self.processes.plan(), change, now)?;
        self.devices_most = self.devices_most.max(plan.devices_max(now));
        self.processes.follow(plan.clone());
        self.state.follow(&plan, now);
        self.state.changed(change, now);
        self.push().await;
        Ok(plan)
    }
}

/// Waits so long, or for ever.
async fn at(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
