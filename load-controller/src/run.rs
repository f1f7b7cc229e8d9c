//! A run, wherever it runs: how far it has come, what is to be done next, and what it came to. Pure: no clock, no I/O, no
//! Kubernetes.
//!
//! Two shells drive it: simctl's local run, whose workers are processes, and the controller's task of a fleet, whose workers
//! are pods. They ask the workers, and keep the plan where their workers find it; what the answers mean is decided here.
//!
//! | module | idea |
//! | --- | --- |
//! | [`workers`] | who there is, what each measured last, whose books are to be closed |
//! | [`stage`], [`facts`] | running, paused, draining, ended; and what else is known beside the measurements |
//! | [`phase`] | the parts of a run that are measured apart, and when one is over |
//! | [`act`] | what a test does to pods and brokers beside what its devices do |
//! | [`fault`] | what goes wrong on purpose, and how long it took until the run was whole again |
//! | `steering` | keeps a phase at the messages a second that it asks for |
//! | [`threshold`] | what somebody wants of a run, held against what it measured |
//! | [`change`] | what a plan becomes when somebody changes it |
//! | [`saved`] | what is kept of a run, so that another process goes on with it |
//! | [`draft`] | what its report is made of, where that is added up elsewhere |
//! | [`timeline`] | the run second by second, and the outages that it shows |
//! | [`culprits`] | which worker is the cause of what makes a run invalid |
//! | [`verdict`], [`conservation`] | what the run proved, and the laws that its counters must obey |
//!
//! ```text
//! readings ─► workers ─► tick ─► timeline, stage ─► step
//!                │
//!                └─► stats + facts ─► verdict ─► report
//! ```

pub mod act;
pub mod change;
pub mod conservation;
pub mod culprits;
pub mod draft;
pub mod facts;
pub mod fault;
pub mod phase;
pub mod saved;
pub mod stage;
mod steering;
pub mod threshold;
pub mod timeline;
pub mod verdict;
pub mod workers;

use std::collections::BTreeMap;

use fleet_contract::{
    fault::Fault,
    fleet::Fleet,
    plan::Plan,
    share::Membership,
    stats::{Groups, Stats, SumOf},
    time::Micros,
    units::Span,
};
use serde::{Deserialize, Serialize};

use act::{Outcome, Target};
use change::Change;
use culprits::Marks;
use draft::Draft;
use facts::{CutShort, LostWorkers, RunFacts};
use phase::Spanned;
use stage::Stage;
use steering::Steering;
use threshold::{Recent, Sums};
use timeline::{EventKind, Shard};
use workers::{TimesOf, Workers};

/// How long a drain may take beyond the time after which a message is lost.
const DRAIN_PATIENCE: Span = Span::from_secs(30);

/// How long workers may take to judge what is overdue.
const SETTLING: Span = Span::from_secs(1);

/// How far a run has come.
#[derive(Debug)]
pub struct Run {
    facts: RunFacts,
    /// How far ahead changes take effect, so that every worker knows of them in time.
    lead: Span,
    /// The version of the plan whose intervals the facts know.
    plan_version: u64,
    drain: Option<Drain>,
    steering: Steering,
    recent: Recent,
    /// How many workers had ended unasked when it took note of that last.
    lost_seen: u64,
    /// What was before, where it is part of a longer run.
    before: Option<Box<Before>>,
}

/// From when on messages settle, and when that has taken too long.
#[derive(Debug, Clone, Copy)]
struct Drain {
    from: Micros,
    deadline: Micros,
}

/// What was measured before a run that is part of a longer one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    stats: Stats,
    lost: LostWorkers,
    #[serde(default)]
    marks: Marks,
}

impl Before {
    /// What workers have measured by now.
    pub fn of(workers: &Workers) -> Self {
        // Messages and times of streams are told apart by their phases.
        let stats = Stats { groups: Groups::default(), phases: BTreeMap::new(), ..workers.counters() };
        Self { stats: stats.packed(), lost: workers.ended().into(), marks: culprits::marks(workers) }
    }
}

/// What a run needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it goes on.
    None,
    /// Its devices are to drain.
    Drain,
    /// All is over.
    End,
}

impl Run {
    /// A run of which nothing was read yet; changes of its plan take effect `lead` from now.
    pub fn new(facts: RunFacts, lead: Span) -> Self {
        Self {
            facts,
            lead,
            plan_version: 0,
            drain: None,
            steering: Steering::default(),
            recent: Recent::default(),
            lost_seen: 0,
            before: None,
        }
    }

    /// The same of a part of a longer run.
    pub fn part(facts: RunFacts, lead: Span, before: Before) -> Self {
        Self { before: Some(Box::new(before)), ..Self::new(facts, lead) }
    }

    /// The name of the phase that goes on.
    pub fn phase_at(&self, now: Micros) -> Option<&str> {
        let elapsed = now.since(self.facts.started);
        let goes_on = |phase: &Spanned<'_>| (phase.after..phase.until()).contains(&elapsed);
        self.facts.asked.phases.spanned().find(goes_on).map(|phase| phase.phase.name.as_str())
    }

    /// What was before it, where it is part of a longer run.
    pub fn before(&self) -> Option<&Before> {
        self.before.as_deref()
    }

    /// It has not begun yet, and what workers have measured by now was before it.
    pub fn wait(&mut self, workers: &Workers) {
        self.overlook_lost(workers);
        self.before = Some(Box::new(Before::of(workers)));
    }

    /// What is known of it.
    pub const fn facts(&self) -> &RunFacts {
        &self.facts
    }

    /// Whether it still follows its plan.
    pub const fn follows_plan(&self) -> bool {
        self.facts.stage.follows_plan()
    }

    /// Takes over a document that was changed.
    pub fn adopt(&mut self, fleet: &Fleet, document_hash: &str, embedded_broker: bool) {
        if self.facts.fleet != *fleet {
            self.facts.fleet = fleet.clone();
            // Its streams may have other intervals.
            self.plan_version = 0;
        }
        document_hash.clone_into(&mut self.facts.document_hash);
        self.facts.at_broker.is_embedded = embedded_broker;
    }

    /// Takes over a plan that may have changed.
    pub fn follow(&mut self, plan: &Plan, now: Micros) {
        self.look_at(plan, now);
        if plan.version != self.plan_version {
            self.plan_version = plan.version;
            self.facts.see_intervals(plan, now);
        }
    }

    /// The plan with a change from soon on; `Err` says why not.
    pub fn planned(&self, plan: &Plan, change: &Change, now: Micros) -> Result<Plan, String> {
        if !self.follows_plan() {
            return Err("the fleet is draining, so nothing can be changed any more".into());
        }
        let engine = &self.facts.program.engine;
        if change.is_fault() && engine != "native" {
            return Err(format!("the engine {engine} has no faults; expected `--engine native`"));
        }
        change.of(plan, &self.facts.fleet, now.after(self.lead))
    }

    /// Takes note of a change of the plan by hand.
    pub fn changed(&mut self, change: &Change, now: Micros) {
        if let Some((kind, message)) = change.event() {
            self.facts.timeline.note(now, kind, message);
        }
    }

    /// The plan with the phase that goes on being over soon, as if it had gone to its end; `Err` says why not.
    pub fn skip(&mut self, plan: &Plan, now: Micros) -> Result<Plan, String> {
        let at = now.after(self.lead);
        let phases = &self.facts.asked.phases;
        let cut = phases.cut_at(at.since(self.facts.started)).filter(|_| self.follows_plan());
        let Some((cut, number)) = cut else {
            return Err("expected a run with a phase that goes on, found none; `simctl stop` ends a run".into());
        };
        let plan = cut.skipped(phases, number, plan, &self.facts.fleet.spec, self.facts.started);
        let skipped = format!("the rest of phase {}", self.phase_at(at).unwrap_or_default());
        self.facts.timeline.note(now, EventKind::Skip, skipped);
        self.facts.asked.duration = cut.last();
        self.facts.asked.phases = cut;
        Ok(plan)
    }

    /// The plan with a correction of a rate that a phase asks for, if one is due; see `steering.rs`.
    pub fn steer(&mut self, now: Micros, plan: &Plan, workers: &Workers) -> Option<Plan> {
        let has_rates = self.facts.asked.phases.all().iter().any(|phase| phase.rate.is_some());
        if !has_rates || self.facts.stage != Stage::Running {
            return None;
        }
        let (stats, at) = (self.counters(plan, workers), now.after(self.lead));
        let RunFacts { fleet, started, asked, .. } = &self.facts;
        self.steering.correct(&asked.phases, *started, &fleet.spec, plan, &stats, (now, at))
    }

    /// The faults that are acts of whoever drives the run and have not begun, with when each does; none once it drains.
    fn acts_to_come(&self) -> impl Iterator<Item = (Micros, fault::Spanned<'_>)> {
        let faults = if self.follows_plan() { fault::spanned(&self.facts.asked.phases) } else { Vec::new() };
        let acts = faults.into_iter().filter(|it| it.fault.is_act() && !self.facts.acts.has(it.number));
        acts.map(|it| (self.facts.started.after(it.after), it))
    }

    /// When the next act begins.
    pub fn next_act(&self) -> Option<Micros> {
        self.acts_to_come().map(|(at, _)| at).min()
    }

    /// The acts that are to begin by now, with the numbers of their faults.
    pub fn acts_due(&self, now: Micros) -> Vec<(u32, Fault)> {
        let due = self.acts_to_come().filter(|(at, _)| *at <= now);
        due.map(|(_, it)| (it.number, it.fault.clone())).collect()
    }

    /// The fault of this number, if it is one of the run's.
    pub fn fault(&self, number: u32) -> Option<&Fault> {
        fault::spanned(&self.facts.asked.phases).into_iter().find(|it| it.number == number).map(|it| it.fault)
    }

    /// Takes note that an act begins, which is to end these pods.
    pub fn act_begins(&mut self, number: u32, pods: Vec<Target>) {
        self.facts.acts.begin(number, pods);
    }

    /// Takes note of the pods that an act has ended so far, by their names.
    pub fn act_has_ended(&mut self, number: u32, pods: Vec<String>) {
        self.facts.acts.has_ended(number, pods);
    }

    /// Takes note of what came of an act.
    pub fn act_ended(&mut self, number: u32, outcome: Outcome) {
        self.facts.acts.end(number, outcome);
    }

    /// Takes in what the workers have told up to `now`, and says what comes next.
    pub fn tick(&mut self, now: Micros, plan: &Plan, workers: &mut Workers) -> Step {
        self.see(now, plan, workers);
        self.see_lost(now, plan, workers);
        workers.end_phases(self.phases_over(plan, workers));
        let counters = workers.counters();
        // Of a part, the times are known by its streams; those of the whole fleet come with each reading.
        let latency = match &self.before {
            Some(before) => counters.latency.since(&before.stats.latency),
            None => counters.latency.clone(),
        };
        let mut seen = self.part_of(counters, plan);
        let of_part = std::mem::replace(&mut seen.latency, latency);
        self.facts.timeline.push(now, &seen, self.facts.stage);
        // A threshold reads what belongs to the part alone.
        seen.latency = of_part;
        self.step(now, plan, &seen, workers)
    }

    /// Takes note of the workers that have ended unasked, and counts the devices that are missing since.
    fn see_lost(&mut self, now: Micros, plan: &Plan, workers: &Workers) {
        for lost in workers.lost_since(self.lost_seen) {
            self.facts.timeline.lose(now, lost);
        }
        self.overlook_lost(workers);
        // Devices that leave by intent are not missing.
        if !self.follows_plan() {
            return;
        }
        let (devices, each) = (plan.devices(now), self.facts.workers.devices_each);
        self.facts.timeline.count_missing(now, |ordinal| {
            let member = workers.member(ordinal).filter(|member| member.answers());
            let wanted = devices.saturating_sub(ordinal.saturating_mul(each));
            Shard { connected: member.map_or(0, |member| member.devices.connected), wanted }
        });
    }

    /// Workers that have ended by now have ended before it.
    pub const fn overlook_lost(&mut self, workers: &Workers) {
        self.lost_seen = workers.lost_count();
    }

    /// The phases below this number are settled in the last reading of every worker: `lossAfter` after the end of a phase all
    /// of its messages are judged, but for those that devices still have to send.
    fn phases_over(&self, plan: &Plan, workers: &Workers) -> u32 {
        let is_settled = |(end, number): &(Micros, u32)| {
            workers.heard_until(Some(*number)).is_some_and(|heard| end.after(self.settling()) <= heard)
        };
        ends(plan).filter(is_settled).map(|(_, number)| number + 1).last().unwrap_or_default()
    }

    /// The times of single streams on which depends what comes next, if it does: of phases that are to be kept, or all of them with
    /// each reading from when the messages have settled, so that no counter is newer than its times in the end.
    pub fn wants_times(&self, now: Micros, plan: &Plan, workers: &Workers) -> Option<TimesOf> {
        if self.drain.is_some_and(|drain| drain.from.after(self.settling()) <= now) {
            return Some(TimesOf::All);
        }
        // Those that are about to be kept have been told, and stay as they were then.
        let kept = workers.next_phase();
        let to_be_kept = ends(plan).filter(|(end, number)| *number >= kept && end.after(self.settling()) <= now);
        to_be_kept.last().map(|(_, number)| TimesOf::Phases(number + 1))
    }

    /// The sums of times of streams by which a threshold may end the run now; those of phases that are kept are known.
    pub fn wants_sums(&self, now: Micros, workers: &Workers) -> Vec<SumOf> {
        if self.facts.stage != Stage::Running {
            return Vec::new();
        }
        let kept = workers.ended().phases_kept;
        let sums = threshold::sums_read(&self.facts, now.since(self.facts.started));
        sums.into_iter().filter(|of| of.phase.is_none_or(|number| number >= kept)).collect()
    }

    /// The same of all workers, kept or not, as far as each has told them with its counters.
    fn sums(&self, workers: &Workers) -> Sums {
        let sums = threshold::sums_read(&self.facts, self.facts.elapsed()).into_iter();
        sums.filter_map(|of| workers.sum_of(&of).map(|sum| (of, sum))).collect()
    }

    /// How long it takes until all is judged that was sent.
    const fn settling(&self) -> Span {
        Span(self.facts.fleet.spec.loss_after.0.saturating_add(SETTLING.0))
    }

    /// The plan without the phases whose figures are kept, if it has any of them: workers need not tell them any more.
    pub fn without_kept_phases(plan: &Plan, workers: &Workers) -> Option<Plan> {
        let mut plan = plan.clone();
        plan.end_phases(workers.ended().phases_kept).then_some(plan)
    }

    /// What comes next, as far as the clock and the last readings tell.
    fn step(&mut self, now: Micros, plan: &Plan, stats: &Stats, workers: &Workers) -> Step {
        let asked = &self.facts.asked;
        if let Some(Drain { from, deadline }) = self.drain {
            let is_over = match &self.before {
                None => workers.are_drained(),
                // Its devices go on with something else.
                Some(_) => workers.heard_until(None).is_some_and(|heard| from.after(self.settling()) <= heard),
            };
            if is_over {
                return Step::End;
            }
            if now < deadline {
                return Step::None;
            }
            self.facts.notes.push("the drain took too long and was cut off".into());
            return Step::End;
        }
        if self.facts.stage == Stage::Running
            && let Some(failed) = threshold::to_abort(stats, &self.sums(workers), &self.facts, &mut self.recent)
        {
            self.facts.cut_short = CutShort::Threshold(failed);
            return Step::Drain;
        }
        let is_over = asked.duration.is_some_and(|duration| now >= self.facts.started.after(duration));
        if is_over || asked.ends_when_sent && self.has_sent_all(plan, stats) { Step::Drain } else { Step::None }
    }

    /// From now on it drains: devices settle their messages and leave.
    pub fn drain(&mut self, now: Micros, plan: &Plan) {
        self.facts.stage = Stage::Draining;
        let spec = &self.facts.fleet.spec;
        let leaving = spec.connect.rate.time_for(u64::from(plan.devices_wanted()));
        let patience = spec.loss_after.0.saturating_add(leaving.0).saturating_add(DRAIN_PATIENCE.0);
        self.drain = Some(Drain { from: now, deadline: now.after(Span(patience)) });
    }

    /// It is over, cut short or not.
    pub fn end(&mut self, now: Micros, is_aborted: bool) {
        self.facts.stage = Stage::Ended;
        self.facts.now = now;
        if is_aborted {
            self.facts.cut_short = CutShort::Aborted;
        }
    }

    /// What all workers measured. How many devices are wanted the plan says: a worker that is away cannot, and the devices
    /// that it should run are missing.
    pub fn stats(&self, plan: &Plan, workers: &Workers) -> Stats {
        self.part_of(workers.sum(), plan)
    }

    /// As [`Run::stats`], but for the times of single streams, and so of a part but for all times of messages; each second's look
    /// does without them.
    fn counters(&self, plan: &Plan, workers: &Workers) -> Stats {
        self.part_of(workers.counters(), plan)
    }

    fn part_of(&self, stats: Stats, plan: &Plan) -> Stats {
        part(stats, &self.facts, self.before(), self.devices_wanted(plan))
    }

    /// The devices that the plan wants, as long as it is followed.
    fn devices_wanted(&self, plan: &Plan) -> Option<u32> {
        self.follows_plan().then(|| plan.devices(self.facts.now))
    }

    /// What its report is made of, so far; see [`Draft`].
    pub fn draft(&self, plan: &Plan, workers: &Workers) -> Draft {
        Draft {
            measured: workers.measured(),
            facts: self.facts.clone(),
            before: self.before.clone(),
            devices_wanted: self.devices_wanted(plan),
        }
    }

    /// Takes note of the time and of the workers that there are: what is told of the run from now on is as of `now`.
    pub fn see(&mut self, now: Micros, plan: &Plan, workers: &Workers) {
        self.facts.now = now;
        self.facts.workers.lost = workers.ended().into();
        if let Some(before) = &self.before {
            self.facts.workers.lost = self.facts.workers.lost.since(&before.lost);
        }
        if self.follows_plan() || self.before.is_some() {
            let nothing = Marks::new();
            self.facts.workers.culprits =
                culprits::find(workers, self.before.as_ref().map_or(&nothing, |before| &before.marks));
        }
        self.facts.workers.see_clocks(workers.clocks(now));
        self.look_at(plan, now);
    }

    /// Whether it is paused; from when it was told so, since a change takes effect in a moment.
    fn look_at(&mut self, plan: &Plan, now: Micros) {
        if !self.follows_plan() {
            return;
        }
        let before = std::mem::replace(&mut self.facts.stage, Stage::under(plan, now.after(self.lead)));
        match (before, self.facts.stage) {
            (Stage::Running, Stage::Paused) => {
                self.facts.timeline.note(now, EventKind::Pause, "messages are held back");
            }
            (Stage::Paused, Stage::Running) => {
                self.facts.timeline.note(now, EventKind::Resume, "messages are sent again");
            }
            _ => {}
        }
    }

    /// Whether as many messages were sent as the devices have to send.
    fn has_sent_all(&self, plan: &Plan, stats: &Stats) -> bool {
        let fleet = &self.facts.fleet;
        let births = if fleet.spec.connect.birth.is_some() { stats.connections.accepted } else { 0 };
        let meant = messages_meant(fleet, plan.devices_wanted());
        meant.is_some_and(|meant| stats.all_messages().sent >= meant + births)
    }
}

/// What belongs to a run, of all that its workers measured.
///
/// A load test has the messages of its phases, wherever it runs; with nothing before it, where it is all of the run. What falls due
/// behind the last phase, until its devices have left, nobody has asked for.
fn part(mut stats: Stats, facts: &RunFacts, before: Option<&Before>, devices_wanted: Option<u32>) -> Stats {
    let nothing = Stats::default();
    let is_test = facts.asked.load_test.is_some();
    if let Some(before) = before.map(|before| &before.stats).or(is_test.then_some(&nothing)) {
        stats = stats.part(facts.asked.phases.numbers(), facts.span(), before);
    }
    if let Some(wanted) = devices_wanted {
        stats.devices.desired = wanted;
    }
    stats
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

/// When each phase of a plan ends that another one follows, and its number.
fn ends(plan: &Plan) -> impl Iterator<Item = (Micros, u32)> + '_ {
    plan.phases().zip(plan.phases().skip(1)).map(|((_, number), (end, _))| (end, number))
}

#[cfg(test)]
mod tests;
