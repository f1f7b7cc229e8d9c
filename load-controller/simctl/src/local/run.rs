//! A run on this machine, from its first device to its verdict.
//!
//! One value owns everything that changes: plan, workers, totals, timeline. Signals, control requests and the second's
//! tick come to it one after the other, so there is nothing to lock.

use std::time::Duration;

use device_sim::clock::Clock;
use fleet_contract::{
    fleet::{BrokerSpec, Fleet, Group},
    plan::{Plan, Setting},
    share::Membership,
    stats::{Stats, Totals},
    time::Micros,
    units::Span,
};
use load_controller::{
    facts::{Host, RunFacts},
    phase::Phase,
    report::Report,
    timeline::Timeline,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{
    control::{Change, Request},
    signals::Signals,
    workers::Workers,
};
use crate::estimate::shortest_interval;

/// How often the workers are read.
const TICK: Duration = Duration::from_secs(1);

/// How far ahead a change takes effect, so that every worker knows of it in time.
const LEAD: Span = Span::from_millis(100);

/// How long a drain may take beyond the time after which a message is lost.
const DRAIN_PATIENCE: Span = Span::from_secs(30);

/// What a plan must not exceed from an instant on, first that of the start, then each that follows another one; `Err` says
/// why and what to do.
pub(crate) type Guard = Box<dyn Fn(Option<&Plan>, &Plan, Micros) -> Result<(), String> + Send + Sync>;

/// A run in progress.
pub(crate) struct Run {
    workers: Workers,
    clock: Clock,
    totals: Totals,
    facts: RunFacts,
    guard: Guard,
    /// Whether it drains once every device has sent all that it is to send.
    ends_when_sent: bool,
    drain_deadline: Option<Micros>,
}

/// What a run came to.
pub(crate) struct Outcome {
    /// Everything that was measured.
    pub(crate) stats: Stats,
    /// Everything else that is known.
    pub(crate) facts: RunFacts,
    /// The report, with its verdict.
    pub(crate) report: Report,
}

/// The facts of a run of `fleet` that starts at `start`, as far as the document tells them.
pub(crate) fn facts_of(fleet: &Fleet, start: Micros) -> RunFacts {
    RunFacts {
        document_hash: hash_of(fleet),
        run: 0,
        phase: Phase::Running,
        started: start,
        now: start,
        duration: None,
        broker: fleet.spec.broker.as_ref().map(BrokerSpec::names).unwrap_or_default(),
        embedded_broker: false,
        engine: "native".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        command: Vec::new(),
        host: Host::default(),
        open_files_limit: 0,
        observe: fleet.spec.observe,
        shortest_interval: shortest_interval(fleet),
        // Sender and observer of a message share one clock.
        clock_bound: Span::ZERO,
        fail_on: Vec::new(),
        notes: Vec::new(),
        aborted: false,
        timeline: Timeline::new(start),
        workers_lost: 0,
        fleet: fleet.clone(),
    }
}

/// SHA-256 of the resolved document, in hexadecimal.
fn hash_of(fleet: &Fleet) -> String {
    let text = serde_json::to_vec(fleet).expect("what was read from a document can be written as one");
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many messages so many devices send in all; `None` where a stream has no end.
fn messages_meant(fleet: &Fleet, devices: u32) -> Option<u64> {
    let shares: Vec<_> = fleet.spec.groups.iter().map(|group| group.share).collect();
    let membership = Membership::new(&shares).ok()?;
    let mut meant = 0;
    for (position, group) in fleet.spec.groups.iter().enumerate() {
        let model = fleet.spec.models.get(&group.model)?;
        let each = model.streams.iter().map(|(name, stream)| group.stream(name, stream).messages.map(u64::from));
        meant += u64::from(membership.count(position, devices)) * each.sum::<Option<u64>>()?;
    }
    Some(meant)
}

impl Run {
    /// A run of workers that have their devices.
    pub(crate) fn new(workers: Workers, clock: Clock, facts: RunFacts, guard: Guard) -> Self {
        let totals = Totals::default();
        Self { workers, clock, totals, facts, guard, ends_when_sent: false, drain_deadline: None }
    }

    /// The same run, which drains once every device has sent all that it is to send.
    pub(crate) fn ending_when_all_is_sent(self, ends_when_sent: bool) -> Self {
        Self { ends_when_sent, ..self }
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
        match ended {
            Ok(false) => {
                self.workers.stop().await;
                Ok(Self::conclude(&self.totals, self.facts, self.clock))
            }
            Ok(true) => {
                self.workers.abort().await;
                self.facts.aborted = true;
                Ok(Self::conclude(&self.totals, self.facts, self.clock))
            }
            Err(error) => {
                self.workers.abort().await;
                Err(error)
            }
        }
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
            tokio::select! {
                _ = ticks.tick() => {
                    self.read().await?;
                    // Before the start there is nothing to see.
                    if self.facts.now > self.facts.started {
                        show(&self.report());
                    }
                }
                Some(request) = requests.recv() => self.answer(request, signals).await,
                () = signals.drain.cancelled(), if self.facts.phase.follows_plan() => {
                    self.begin_drain().await?;
                    show(&self.report());
                    // Mostly there is little left to settle: look more often than once a second.
                    ticks = tokio::time::interval(TICK / 5);
                }
            }
            let now = self.clock.now();
            if self.facts.duration.is_some_and(|duration| now >= self.facts.started.after(duration)) {
                signals.drain.cancel();
            }
            if self.ends_when_sent && self.has_sent_all() {
                signals.drain.cancel();
            }
            match self.drain_deadline {
                Some(_) if self.workers.are_drained() => return Ok(()),
                Some(deadline) if now >= deadline => {
                    self.facts.notes.push("the drain took too long and was cut off".into());
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Whether as many messages were sent as the devices have to send.
    fn has_sent_all(&self) -> bool {
        let meant = messages_meant(&self.facts.fleet, self.workers.plan().devices_wanted());
        let stats = self.sum();
        let births = if self.facts.fleet.spec.connect.birth.is_some() { stats.connections.accepted } else { 0 };
        meant.is_some_and(|meant| stats.all_messages().sent >= meant + births)
    }

    /// Reads all workers into totals and timeline.
    async fn read(&mut self) -> anyhow::Result<()> {
        self.workers.pull(&mut self.totals).await?;
        self.facts.now = self.clock.now();
        self.look_at_plan();
        self.facts.workers_lost = self.totals.ended().workers_lost;
        self.facts.timeline.push(self.facts.now, &self.sum(), self.facts.phase);
        Ok(())
    }

    /// Whether it is paused; from when it was told so, since a change takes effect in a moment.
    fn look_at_plan(&mut self) {
        if self.facts.phase.follows_plan() {
            self.facts.phase = Phase::under(self.workers.plan(), self.clock.now().after(LEAD));
        }
    }

    /// What all workers measured. How many devices are wanted the plan says: a worker that is away cannot, and the
    /// devices that it should run are missing.
    fn sum(&self) -> Stats {
        let mut sum = self.totals.sum();
        if self.facts.phase.follows_plan() {
            sum.devices.desired = self.workers.plan().devices(self.facts.now);
        }
        sum
    }

    async fn begin_drain(&mut self) -> anyhow::Result<()> {
        // A last look at the devices as they were before they left.
        self.read().await?;
        self.facts.phase = Phase::Draining;
        let spec = &self.facts.fleet.spec;
        let leaving = spec.connect.rate.time_for(u64::from(self.workers.plan().devices_wanted()));
        let patience = spec.loss_after.0.saturating_add(leaving.0).saturating_add(DRAIN_PATIENCE.0);
        self.drain_deadline = Some(self.clock.now().after(Span(patience)));
        self.workers.drain().await;
        Ok(())
    }

    fn report(&self) -> Report {
        Report::new(&self.sum(), &self.facts)
    }

    async fn answer(&mut self, request: Request, signals: &Signals) {
        // Whoever asked may be gone by now; then nobody misses the answer.
        match request {
            Request::Report(answer) => drop(answer.send(Box::new(self.report()))),
            Request::Fleet(answer) => drop(answer.send(Box::new(self.facts.fleet.clone()))),
            Request::Plan(answer) => drop(answer.send(self.workers.plan().clone())),
            Request::Owner(index, answer) => {
                let is_known = index < self.workers.plan().devices_max(self.clock.now());
                drop(answer.send(if is_known { self.workers.owner(index) } else { None }));
            }
            Request::Metrics(answer) => {
                let name = &self.facts.fleet.metadata.name;
                let rendered = device_sim::metrics::render(name, &self.sum());
                drop(answer.send(rendered.map_err(|error| error.to_string())));
            }
            Request::IsReady(answer) => {
                let devices = self.sum().devices;
                answer.send(devices.desired > 0 && devices.connected >= devices.desired).unwrap_or_default();
            }
            Request::Stop(answer) => {
                signals.drain.cancel();
                answer.send(()).unwrap_or(());
            }
            Request::Change(change, answer) => {
                let changed = self.change(&change).await;
                drop(answer.send(changed));
            }
        }
    }

    /// Changes the plan from soon on; `Err` says why not, and then nothing has changed.
    async fn change(&mut self, change: &Change) -> Result<Plan, String> {
        if !self.facts.phase.follows_plan() {
            return Err("the fleet is draining, so nothing can be changed any more".into());
        }
        let tentative = self.planned(change)?;
        let now = self.clock.now();
        (self.guard)(Some(self.workers.plan()), &tentative, now)?;
        // Workers that it needs must be there when it takes effect, else their devices come late.
        self.workers.reserve(tentative.devices_max(now)).await.map_err(|error| format!("{error:#}"))?;
        let plan = self.planned(change)?;
        self.workers.apply(plan.clone()).await;
        self.look_at_plan();
        let shortest = shortest_under(&self.facts.fleet, &plan, now);
        self.facts.shortest_interval = self.facts.shortest_interval.into_iter().chain(shortest).min();
        Ok(plan)
    }

    /// The plan with a change from soon on.
    fn planned(&self, change: &Change) -> Result<Plan, String> {
        let mut plan = self.workers.plan().clone();
        let (at, rate) = (self.clock.now().after(LEAD), self.facts.fleet.spec.connect.rate);
        let setting = match change {
            Change::Devices { devices, over: None } => Setting::Devices(*devices),
            Change::Devices { devices, over: Some(over) } => Setting::Ramp { to: *devices, over: *over },
            Change::Paused { paused } => Setting::Paused(*paused),
            Change::Interval { stream, interval } => {
                self.check_interval(stream.as_deref(), *interval)?;
                Setting::Interval { stream: stream.clone(), interval: Some(*interval) }
            }
            Change::Rate { factor, stream, over } => {
                self.check_periodic(stream.as_deref())?;
                let over = over.unwrap_or_default();
                Setting::Rate { group: None, stream: stream.clone(), factor: Some(*factor), over }
            }
            Change::Disconnect { .. } if self.facts.engine != "native" => {
                return Err(format!("the engine {} has no faults; expected `--engine native`", self.facts.engine));
            }
            Change::Disconnect { disconnect } => {
                plan.disconnect(at, *disconnect, rate);
                return Ok(plan);
            }
        };
        plan.set(at, setting, rate);
        Ok(plan)
    }

    fn check_interval(&self, stream: Option<&str>, interval: Span) -> Result<(), String> {
        if interval == Span::ZERO {
            return Err("expected an interval of more than no time, found `0s`".into());
        }
        self.check_periodic(stream)
    }

    fn check_periodic(&self, stream: Option<&str>) -> Result<(), String> {
        let Some(wanted) = stream else { return Ok(()) };
        let periodic = periodic_streams(&self.facts.fleet);
        if periodic.iter().any(|name| name == wanted) {
            return Ok(());
        }
        Err(format!("expected a periodic stream of the fleet: {}; found `{wanted}`", periodic.join(", ")))
    }

    fn conclude(totals: &Totals, mut facts: RunFacts, clock: Clock) -> Outcome {
        facts.phase = Phase::Ended;
        facts.now = clock.now();
        let stats = totals.sum();
        let report = Report::new(&stats, &facts);
        Outcome { stats, facts, report }
    }
}

/// The names of the streams with an interval, each once.
fn periodic_streams(fleet: &Fleet) -> Vec<String> {
    let models = fleet.spec.groups.iter().filter_map(|group| fleet.spec.models.get(&group.model));
    let streams = models.flat_map(|model| &model.streams);
    let mut names: Vec<_> =
        streams.filter(|(_, stream)| stream.interval.is_some()).map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The shortest interval of any periodic stream from `now` on.
fn shortest_under(fleet: &Fleet, plan: &Plan, now: Micros) -> Option<Span> {
    let shortest = |group: &Group| {
        let streams = &fleet.spec.models.get(&group.model)?.streams;
        let paces = streams.iter().filter_map(|(name, stream)| {
            let interval = group.stream(name, stream).interval?;
            Some(plan.pace(&group.name, name, interval).shortest(now))
        });
        paces.min()
    };
    fleet.spec.groups.iter().filter_map(shortest).min()
}

#[cfg(test)]
mod tests {
    use fleet_contract::units::{Factor, Rate};

    use super::*;
    use crate::{document, estimate::Estimate, library};

    fn demo() -> document::Document {
        document::from_text("demo", library::EXAMPLES[0].1, None).unwrap()
    }

    #[test]
    fn the_rate_follows_devices_and_intervals() {
        let estimate = Estimate::new(&demo(), 20_000, 1).unwrap();
        let mut plan = Plan::new(1, Micros(1), estimate.devices);
        let rate = Rate::per_second(500.0).unwrap();
        let messages = |plan: &Plan| estimate.under(plan, Micros(4)).messages_per_second;
        let before = messages(&plan);
        assert!((before - estimate.messages_per_second).abs() < 1e-6);
        plan.set(Micros(2), Setting::Devices(estimate.devices * 3), rate);
        assert!((messages(&plan) - 3.0 * before).abs() < 1e-6);
        plan.set(Micros(3), Setting::Interval { stream: None, interval: Some(Span::from_millis(100)) }, rate);
        assert!(messages(&plan) > 10.0 * before);
        let mut faster = Plan::new(1, Micros(1), estimate.devices);
        let over = Span::from_secs(60);
        let factor = Some(Factor(5_000_000));
        faster.set(Micros(2), Setting::Rate { group: None, stream: None, factor, over }, rate);
        assert!(messages(&faster) > 2.0 * before, "what a ramp will have come to is guarded from its beginning");
    }

    #[test]
    fn streams_that_follow_a_rule_have_no_interval_to_set() {
        let periodic = periodic_streams(&demo().fleet);
        assert!(periodic.contains(&"reading".into()) && !periodic.contains(&"event".into()), "{periodic:?}");
    }

    #[test]
    fn the_same_document_has_the_same_hash() {
        let (one, mut other) = (demo().fleet, demo().fleet);
        assert_eq!(hash_of(&one), hash_of(&other));
        assert_eq!(hash_of(&one).len(), 64);
        other.spec.seed += 1;
        assert_ne!(hash_of(&one), hash_of(&other));
    }
}
