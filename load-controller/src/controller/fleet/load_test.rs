//! The load test of a fleet: chosen, prepared for, begun, followed, and told of when it is over.

use std::sync::Arc;

use fleet_contract::{
    load_test::{Criterion, LoadTestSpec},
    plan::{Plan, Setting},
    time::Micros,
    units::Span,
};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource as _, ResourceExt as _};
use tokio::{
    task::JoinSet,
    time::{Duration, Instant},
};

use super::{Task, reading::program};
use crate::{
    controller::{
        Error, conditions,
        document::Document,
        load_test::{self, Hold, Progress, Stage, deadline},
        note::Note,
        observe::{Observed, observe},
        plan,
        reason::Reason,
        status::{outdated, timestamp},
    },
    limits::Claim,
    report::{Report, files},
    resource::{Fleet, LoadTest, LoadTestStatus, Owner, config_map, names},
    run::{
        self, Before, Run, Step,
        draft::Draft,
        facts::{Asked, RunFacts},
        phase::Phases,
        saved::Saved,
    },
};

/// How long a device that a curve lets come may take before it counts as missing.
const COMING: Span = Span::from_secs(5);

/// How often a test that waits for something outside of its fleet is looked at.
const WAIT_LOOK: Duration = Duration::from_secs(5);

/// How often a test is looked at that is about to begin.
const PREPARE_LOOK: Duration = Duration::from_secs(1);

/// How often figures alone are told.
const FIGURES_PAUSE: Duration = Duration::from_secs(2);

/// They are written so seldom that adding them up takes one part in so many of a processor.
const FIGURES_SHARE: u32 = 20;

/// How often what has been measured is kept, and how much longer that takes for each KiB of it.
const KEEP_PAUSE: Duration = Duration::from_secs(10);
const KEEP_PAUSE_OF_KIB: Duration = Duration::from_millis(250);

/// The test that a fleet is busy with.
pub(super) struct Trial {
    owner: Owner,
    about: ObjectReference,
    generation: Option<i64>,
    spec: LoadTestSpec,
    hold: Hold,
    pub(super) at: At,
    /// Its status, and that which was written last.
    status: LoadTestStatus,
    written: Option<LoadTestStatus>,
    written_at: Instant,
    /// How long its figures stand before they are written again, if nothing else is to be told.
    figures_pause: Duration,
    /// What makes its report: one job at most.
    pub(super) reporting: JoinSet<Packed>,
    /// That report, until it is written.
    report: Option<Arc<Packed>>,
}

/// The report of a test that is over, and its files as they are kept.
pub(super) struct Packed {
    report: Report,
    files: Vec<u8>,
}

impl Packed {
    fn of(draft: Draft) -> Self {
        let (stats, facts) = draft.add_up();
        let report = Report::new(&stats, &facts);
        let files = files::pack(&report, &stats, &facts);
        Self { report, files }
    }
}

pub(super) enum At {
    Preparing {
        since: Micros,
    },
    Going {
        run: Box<Run>,
        /// The version of the object that holds what was measured.
        version: Option<String>,
        keep_at: Instant,
    },
}

impl Trial {
    fn of(test: &LoadTest, owner: Owner, spec: LoadTestSpec, hold: Hold, at: At) -> Self {
        let known = test.status.clone().unwrap_or_default();
        let status = match at {
            At::Going { .. } => known,
            // It may have been wrong before it was edited.
            At::Preparing { .. } => LoadTestStatus { conditions: known.conditions, ..LoadTestStatus::default() },
        };
        let (generation, about) = (test.metadata.generation, test.object_ref(&()));
        Self {
            owner,
            about,
            generation,
            spec,
            hold,
            at,
            status,
            written: None,
            written_at: Instant::now(),
            figures_pause: FIGURES_PAUSE,
            reporting: JoinSet::new(),
            report: None,
        }
    }

    /// What the fleet is held to.
    pub(super) const fn hold(&self) -> Hold {
        match self.at {
            At::Preparing { .. } => self.hold,
            At::Going { .. } => self.hold.begun(),
        }
    }

    /// Who owns what is kept of it.
    pub(super) const fn owner(&self) -> &Owner {
        &self.owner
    }

    /// How far it has come, once it has begun.
    pub(super) const fn run(&self) -> Option<&Run> {
        match &self.at {
            At::Going { run, .. } => Some(run),
            At::Preparing { .. } => None,
        }
    }

    /// Whether its plan is the fleet's.
    pub(super) const fn goes_on(&self) -> bool {
        matches!(self.at, At::Going { .. })
    }
}

impl Task {
    /// Takes over what people have done to the fleet's tests, and goes on with one that another controller has begun.
    pub(super) async fn look_at_tests(&mut self, fleet: &Fleet) -> Result<(), Error> {
        let tests = self.tests();
        if let Some(trial) = &mut self.wish.trial {
            let its = tests.iter().find(|test| test.metadata.uid.as_deref() == Some(&trial.owner.uid));
            match its.map(|test| (test.metadata.generation, test.spec.typed())) {
                None => {
                    tracing::info!(fleet = %self.key, test = trial.owner.name, "the load test was deleted");
                    self.leave_test();
                }
                // What it asks for was edited before it began: it is looked at anew.
                Some((_, newest)) if !trial.goes_on() && newest.is_none_or(|newest| !newest.is_same(&trial.spec)) => {
                    self.leave_test();
                }
                Some((generation, newest)) => {
                    trial.generation = generation;
                    if let Some(LoadTestSpec { suspend, skip, abort, .. }) = newest.cloned() {
                        trial.spec = LoadTestSpec { suspend, skip, abort, ..trial.spec.clone() };
                    }
                }
            }
        }
        self.plan_test().await?;
        if self.wish.trial.is_none()
            && let Some(test) = tests.first().filter(|test| test.started().is_some())
        {
            self.resume_test(fleet, test).await?;
            self.plan_test().await?;
        }
        if !self.is_tested() && self.plan.as_ref().is_some_and(|plan| plan.phases().next().is_some()) {
            self.leave_phases();
        }
        Ok(())
    }

    /// Writes the phases of a test that goes on into the plan, where an earlier attempt has failed and there is time.
    async fn plan_test(&mut self) -> Result<(), Error> {
        let now = self.now();
        let (Some(trial), Some(met), Some(plan)) = (&self.wish.trial, &self.met, &self.plan) else { return Ok(()) };
        let Some(facts) = trial.run().map(Run::facts) else { return Ok(()) };
        let (phases, start) = (&facts.asked.phases, facts.started);
        // What comes behind the last one stays in the plan until the test is over.
        if plan.phases().any(|(_, number)| phases.numbers().start <= number) {
            return Ok(());
        }
        if now.after(plan::LEAD) < start {
            let (owner, mut next) = (met.owner.clone(), plan.clone());
            phases.plan(&mut next, &facts.fleet.spec, start);
            self.write_plan(&owner, &next).await?;
            self.push();
            return Ok(());
        }
        let why = format!("its phases could not be written into the plan before its start at {start}");
        self.tell_test(&Stage::Aborted(why)).await?;
        self.leave_test();
        Ok(())
    }

    /// The tests of this fleet that are not over, the next one first.
    fn tests(&mut self) -> Vec<Arc<LoadTest>> {
        let (namespace, name) = (self.key.namespace.as_deref(), self.key.name.as_str());
        let is_its = |test: &LoadTest| test.metadata.namespace.as_deref() == namespace && test.fleet() == Some(name);
        let mut tests = load_test::in_order(self.stores.load_tests.state_filter(is_its));
        let over = &mut self.wish.tests_over;
        let key = |test: &LoadTest| (test.metadata.uid.clone().unwrap_or_default(), test.metadata.generation);
        over.retain(|known| tests.iter().any(|test| key(test) == *known));
        tests.retain(|test| !over.contains(&key(test)));
        tests
    }

    /// What the fleet is held to by its test.
    pub(super) fn hold(&self) -> Option<Hold> {
        self.wish.trial.as_ref().map(Trial::hold)
    }

    /// What is wanted of its test; nothing without one.
    pub(super) fn thresholds(&self) -> Vec<Criterion> {
        self.wish.trial.as_ref().map_or_else(Vec::new, |trial| trial.spec.thresholds.clone())
    }

    /// Whether its load test goes on.
    pub(super) fn is_tested(&self) -> bool {
        self.wish.trial.as_ref().is_some_and(Trial::goes_on)
    }

    /// The devices that there are to be in the end, or now where a test says so.
    pub(super) fn devices_wanted(&self) -> u32 {
        let Some(plan) = &self.plan else { return 0 };
        if !self.is_tested() {
            return plan.devices_wanted();
        }
        // Those that come just now are not missing yet.
        let now = self.now();
        plan.devices(now).min(plan.devices(now.before(COMING)))
    }

    /// Says what keeps the fleet's tests from beginning, and brings the next one nearer to its start; when to look again.
    pub(super) async fn prepare_test(
        &mut self,
        fleet: &Fleet,
        observed: &Observed,
        document: Option<&Document>,
    ) -> Result<Option<Duration>, Error> {
        let tests = self.tests();
        if tests.is_empty() {
            return Ok(None);
        }
        let mut first = self.wish.trial.as_ref().map(|trial| trial.owner.clone());
        for test in &tests {
            let Some(owner) = Owner::of_test(test) else { continue };
            if first.as_ref().is_some_and(|first| *first == owner) {
                continue;
            }
            // What is wrong, held back or given up waits for nobody, and nobody for it.
            let stage = match (load_test::stands_alone(test), &first) {
                (Err(stage), _) => stage,
                (Ok(_), Some(first)) => Stage::Waiting(format!("load test {} of this fleet comes first", first.name)),
                (Ok(spec), None) => {
                    first = Some(owner);
                    self.choose_test(fleet, test, spec, document).await?;
                    continue;
                }
            };
            self.tell_of(test, &stage).await?;
        }
        let Some(trial) = &self.wish.trial else { return Ok(Some(WAIT_LOOK)) };
        let (At::Preparing { since }, Some(document)) = (&trial.at, document) else { return Ok(None) };
        let since = *since;
        let stage = match self.progress(observed).lacks() {
            _ if trial.spec.abort => Stage::Aborted("it was aborted before its start".into()),
            _ if trial.spec.suspend => Stage::Suspended,
            None => return self.begin_test(document).await.map(|()| Some(PREPARE_LOOK)),
            Some(lack) if self.now() > deadline(since, &document.fleet.spec, trial.hold.devices_most) => {
                Stage::CannotStart(format!("the fleet has taken too long: {lack}"))
            }
            Some(lack) => Stage::Preparing(lack),
        };
        let leaves = !matches!(stage, Stage::Preparing(_));
        self.tell_test(&stage).await?;
        if leaves {
            self.leave_test();
        }
        Ok(Some(PREPARE_LOOK))
    }

    /// Takes on the next test, if nothing stands against it.
    async fn choose_test(
        &mut self,
        fleet: &Fleet,
        test: &Arc<LoadTest>,
        spec: LoadTestSpec,
        document: Option<&Document>,
    ) -> Result<(), Error> {
        let Some(owner) = Owner::of_test(test) else { return Ok(()) };
        let stage = match self.may_begin(fleet, test, &spec, document) {
            Ok(hold) => {
                self.wish.trial = Some(Trial::of(test, owner, spec, hold, At::Preparing { since: self.now() }));
                return Ok(());
            }
            Err(stage) => stage,
        };
        self.tell_of(test, &stage).await
    }

    /// What a test holds its fleet to; `Err` says what stands against it.
    fn may_begin(
        &self,
        fleet: &Fleet,
        test: &LoadTest,
        spec: &LoadTestSpec,
        document: Option<&Document>,
    ) -> Result<Hold, Stage<'static>> {
        let Some(document) = document.filter(|_| self.problems().is_empty()) else {
            return Err(Stage::Waiting(format!("the document of fleet {} is not right yet", self.key.name)));
        };
        load_test::check(spec, Some(&document.fleet.spec)).map_err(Stage::CannotStart)?;
        load_test::check_acts(spec, document.has_own_broker).map_err(Stage::CannotStart)?;
        if document.fleet.spec.paused {
            return Err(Stage::Waiting(format!("fleet {} is paused; `simctl resume` lets it go on", self.key.name)));
        }
        let hold = Hold::before(&Phases::new(spec.phases.clone()), document.fleet.spec.devices);
        let claim = Claim { devices: hold.devices_most, ..self.claim(&document.fleet.spec) };
        if let Some(excess) = self.excess(fleet, claim) {
            return Err(Stage::CannotStart(excess));
        }
        let namespace = self.key.namespace.as_deref();
        let is_started = |test: &LoadTest| {
            test.metadata.namespace.as_deref() == namespace && test.started().is_some() && !test.is_complete()
        };
        let started = self.stores.load_tests.state_filter(is_started);
        let going = &self.context.going;
        going.begin(&self.key, &test.name_any(), spec.concurrency_policy, &started).map_err(Stage::Waiting)?;
        Ok(hold)
    }

    /// How far the fleet is on its way to where its test begins.
    fn progress(&self, observed: &Observed) -> Progress {
        let (Some(trial), Some(met), Some(plan)) = (&self.wish.trial, &self.met, &self.plan) else {
            return Progress { pods: (1, 0, 0), loaded: 0, devices: (0, 0, 0) };
        };
        let pods = self.wish.decided.map_or(1, |decided| decided.replicas);
        let counted = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let ready = observed.pods.iter().filter(|pod| pod.is_ready && !pod.is_terminating && pod.ordinal < pods);
        let runs = |version: Option<u64>| version.is_some_and(|running| running >= plan.version);
        let loaded = met.workers.members().filter(|member| member.answers() && runs(member.plan_version));
        let devices = met.workers.devices();
        let wanted = trial.hold.devices.unwrap_or(0);
        // Before the plan says so, what is connected says nothing.
        let loaded = if plan.devices_wanted() == wanted { counted(loaded.count()) } else { 0 };
        Progress {
            pods: (pods, counted(ready.count()), observed.stateful_set.as_deref().map_or(0, outdated)),
            loaded,
            devices: (wanted, devices.connected, devices.leaving),
        }
    }

    /// Begins the test that was prepared for: what it needs to go on is kept before anything says that it was started, and that
    /// before its plan is written, so that it never begins twice.
    async fn begin_test(&mut self, document: &Document) -> Result<(), Error> {
        let now = self.now();
        let (Some(trial), Some(met), Some(plan)) = (&mut self.wish.trial, &self.met, &self.plan) else { return Ok(()) };
        let in_plan = plan.phases().map(|(_, number)| number + 1).max().unwrap_or_default();
        let phases = Phases::numbered(trial.spec.phases.clone(), met.workers.next_phase().max(in_plan));
        let asked = Asked {
            load_test: Some(trial.owner.name.clone()),
            duration: phases.last(),
            phases: phases.clone(),
            thresholds: trial.spec.thresholds.clone(),
            ..Asked::default()
        };
        let start = now.after(load_test::START_LEAD);
        let facts = RunFacts::new(document.fleet.clone(), document.hash.clone(), plan, asked, program());
        let mut facts = facts.beginning_at(start, plan);
        facts.at_broker.is_embedded = document.has_own_broker;
        let mut run = Run::part(facts, plan::LEAD, Before::of(&met.workers));
        run.overlook_lost(&met.workers);
        let mut next = plan.clone();
        next.forget(now, document.fleet.spec.connect.rate);
        phases.plan(&mut next, &document.fleet.spec, start);
        let (fleet, fleet_owner) = (self.key.name.clone(), met.owner.clone());
        // An earlier attempt may have kept something, and begun nothing.
        let (_, version) = self.context.writer.read_load_test(&trial.owner).await?;
        let kept = config_map::load_test(&trial.owner, &fleet, &Saved::of(&run), version);
        let version = self.context.writer.keep(&trial.owner, &kept).await?;
        self.context.writer.mark_started(&trial.owner, &start.to_string()).await?;
        trial.status.revision = self.wish.decided.map(|decided| decided.revision);
        trial.at = At::Going { run: Box::new(run), version, keep_at: Instant::now() + KEEP_PAUSE };
        self.write_plan(&fleet_owner, &next).await?;
        self.push();
        let words = "its phases begin";
        self.tell_event(Note::load_test(false, Reason::Running, words)).await;
        self.tell_progress(true).await
    }

    /// Goes on with a test that was started before; one of which nothing is kept is over. What is kept and cannot be read is an
    /// error: the test waits for whoever can.
    async fn resume_test(&mut self, fleet: &Fleet, test: &Arc<LoadTest>) -> Result<(), Error> {
        let (Some(owner), Some(met)) = (Owner::of_test(test), &self.met) else { return Ok(()) };
        let fleet_owner = met.owner.clone();
        let (saved, version) = self.context.writer.read_load_test(&owner).await?;
        let spec = test.spec.typed().cloned();
        let (Some(saved), Some(spec)) = (saved, spec) else {
            let started = test.started().unwrap_or_default();
            let why =
                format!("it was started at {started}, and nothing is kept of that: a load test does not run twice");
            return self.tell_of(test, &Stage::Aborted(why)).await;
        };
        let plan = self.plan.clone().or_else(|| observe(&self.stores, &fleet_owner).plan.map(|(plan, _)| plan));
        let name = names::document(&fleet_owner.name, &saved.document_hash);
        let object = self.context.writer.library(&fleet_owner, &name).await?;
        let document = object.and_then(|object| Document::pinned(fleet, &fleet_owner, &object, &saved.document_hash));
        let (Some(plan), Some(document)) = (plan, document) else {
            let why = "what its fleet was when it began is kept nowhere any more".into();
            return self.tell_of(test, &Stage::Aborted(why)).await;
        };
        let asked = saved.asked(owner.name.clone());
        let phases = asked.phases.clone();
        let was_planned = plan.phases().any(|(_, number)| number >= phases.numbers().start);
        let now = self.now();
        let start = saved.started;
        if !was_planned && now.after(plan::LEAD) >= start {
            let why = format!("the controller went away as it began: its phases were not in the plan at {start}");
            return self.tell_of(test, &Stage::Aborted(why)).await;
        }
        let mut facts = RunFacts::new(document.fleet.clone(), document.hash.clone(), &plan, asked, program());
        facts.at_broker.is_embedded = document.has_own_broker;
        let mut run = saved.resume(facts, plan::LEAD, &plan, now);
        // Those that have ended before it was kept are among its events.
        if let Some(met) = &self.met {
            run.overlook_lost(&met.workers);
        }
        let hold = Hold::before(&Phases::new(spec.phases.clone()), document.fleet.spec.devices);
        let at = At::Going { run: Box::new(run), version, keep_at: Instant::now() };
        // It was begun, so that it is beside the others already.
        let policy = spec.concurrency_policy;
        self.context.going.resume(&self.key, &owner.name, policy);
        let generation = fleet.status.as_ref().and_then(|status| status.observed_generation);
        self.wish.go_back_to(document.clone(), generation);
        self.wish.trial = Some(Trial::of(test, owner, spec, hold, at));
        tracing::info!(fleet = %self.key, test = test.name_any(), "goes on with the load test");
        Ok(())
    }

    /// After each reading: goes on with the test, as far as it has come.
    pub(super) async fn follow_test(&mut self) -> Result<(), Error> {
        let now = self.now();
        let (Some(trial), Some(met), Some(plan)) = (&mut self.wish.trial, &mut self.met, &self.plan) else {
            return Ok(());
        };
        let At::Going { run, .. } = &mut trial.at else { return Ok(()) };
        if run.facts().stage == run::stage::Stage::Ended {
            return self.finish_test().await;
        }
        if now < run.facts().started {
            run.wait(&met.workers);
            return Ok(());
        }
        if trial.spec.abort {
            run.see(now, plan, &met.workers);
            run.end(now, true);
            self.end_hooks().await?;
            return self.finish_test().await;
        }
        let noted_before = noted(run);
        run.follow(plan, now);
        let mut changed = run.follows_plan().then(|| controlled(run, &trial.spec, plan, now)).flatten();
        match run.tick(now, plan, &mut met.workers) {
            Step::None => changed = changed.or_else(|| run.steer(now, plan, &met.workers)),
            Step::Drain => {
                run.drain(now, plan);
                let (facts, at) = (run.facts(), now.after(plan::LEAD));
                if at < facts.span().end {
                    changed = Some(facts.asked.phases.ended(plan, at));
                }
            }
            Step::End => {
                run.end(now, false);
                return self.finish_test().await;
            }
        }
        let is_change = changed.is_some();
        // That a worker has ended is found once: a controller that dies now is not to take it along.
        let has_happened = noted(run) > noted_before;
        if let Some(plan) = changed {
            let owner = met.owner.clone();
            self.keep_test(true).await?;
            self.write_plan(&owner, &plan).await?;
            self.push();
        } else {
            self.keep_test(has_happened).await?;
        }
        self.act(now).await?;
        self.tell_progress(is_change).await
    }

    /// Keeps what a test has measured, when it is time to.
    pub(super) async fn keep_test(&mut self, is_due: bool) -> Result<(), Error> {
        let Some(trial) = &mut self.wish.trial else { return Ok(()) };
        let At::Going { run, version, keep_at } = &mut trial.at else { return Ok(()) };
        if !is_due && Instant::now() < *keep_at {
            return Ok(());
        }
        let saved = Saved::of(run);
        let object = config_map::load_test(&trial.owner, &self.key.name, &saved, version.clone());
        let bytes = object.binary_data.iter().flatten().map(|(_, bytes)| bytes.0.len()).sum::<usize>();
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        *keep_at = Instant::now() + KEEP_PAUSE + KEEP_PAUSE_OF_KIB * kib;
        *version = self.context.writer.keep(&trial.owner, &object).await?;
        Ok(())
    }

    /// Has the report of a test that is over made on a thread of its own, while the fleet is looked after: of a thousand workers
    /// that takes a second. Once it is there it is written, if need be more than once.
    async fn finish_test(&mut self) -> Result<(), Error> {
        let (Some(trial), Some(met), Some(plan)) = (&mut self.wish.trial, &self.met, &self.plan) else { return Ok(()) };
        if let Some(packed) = trial.report.clone() {
            return self.write_report(&packed).await;
        }
        if let At::Going { run, .. } = &trial.at
            && trial.reporting.is_empty()
        {
            let draft = run.draft(plan, &met.workers);
            trial.reporting.spawn_blocking(move || Packed::of(draft));
        }
        Ok(())
    }

    /// Takes the report of a test that is over.
    pub(super) async fn reported(&mut self, packed: Arc<Packed>) {
        if let Some(trial) = &mut self.wish.trial {
            trial.report = Some(packed);
        }
        self.keep_up_test().await;
    }

    /// Writes the report of a test that is over, tells what came of it, and lets the fleet go.
    async fn write_report(&mut self, Packed { report, files }: &Packed) -> Result<(), Error> {
        let Some(trial) = &mut self.wish.trial else { return Ok(()) };
        let mut reports = Vec::new();
        for (part, bytes) in files.chunks(files::PART_MAX).enumerate() {
            let object = config_map::report(&trial.owner, &self.key.name, part, bytes);
            self.context.writer.create_own(&trial.owner, &object).await?;
            reports.push(object.name_any());
        }
        trial.status.reports = reports;
        trial.status.end = Some(self.context.clock.as_ref()().to_string());
        trial.status = load_test::figures(&trial.status, report, None);
        self.tell_test(&Stage::Over(report)).await?;
        self.leave_test();
        Ok(())
    }

    /// The fleet is its own again: its devices, and edits that have waited.
    fn leave_test(&mut self) {
        self.wish.leave_trial();
        self.context.going.end(&self.key);
        self.leave_phases();
    }

    /// Nobody needs what was measured in the phases that there were.
    fn leave_phases(&mut self) {
        let (Some(plan), Some(met)) = (&self.plan, &mut self.met) else { return };
        if let Some(last) = plan.phases().map(|(_, number)| number).max() {
            met.workers.forget_phases(last + 1);
        }
    }

    /// Tells how far the test has come.
    async fn tell_progress(&mut self, is_due: bool) -> Result<(), Error> {
        let now = self.now();
        let (Some(trial), Some(met), Some(plan)) = (&mut self.wish.trial, &self.met, &self.plan) else { return Ok(()) };
        let At::Going { run, .. } = &trial.at else { return Ok(()) };
        let phase = run.phase_at(now);
        let is_new = phase != trial.status.phase.as_deref();
        if !is_due && !is_new && trial.written_at.elapsed() < trial.figures_pause {
            return Ok(());
        }
        // kubectl shows instants to come as wrong ones.
        let started = run.facts().started;
        if now >= started {
            trial.status.start = Some(started.to_string());
        }
        let begins = Instant::now();
        let report = Report::of(run, plan, &met.workers);
        trial.figures_pause = FIGURES_PAUSE.max(FIGURES_SHARE * begins.elapsed());
        trial.status = load_test::figures(&trial.status, &report, phase);
        let stage = match run.facts().stage {
            run::stage::Stage::Paused => Stage::Paused(&report),
            stage if stage.follows_plan() => Stage::Running(&report),
            _ => Stage::Settling(&report),
        };
        self.tell_test(&stage).await
    }

    /// Tells how far the test is that the fleet is busy with.
    async fn tell_test(&mut self, stage: &Stage<'_>) -> Result<(), Error> {
        let now = timestamp(self.now());
        let Some(trial) = &mut self.wish.trial else { return Ok(()) };
        let words = stage.words();
        let was = reason_of(&trial.status);
        trial.status.observed_generation = trial.generation;
        trial.status.conditions = conditions::merge(&trial.status.conditions, &words, trial.generation, now);
        if trial.written.as_ref() != Some(&trial.status) {
            self.context.writer.load_test_status(&trial.owner, &trial.status).await?;
            trial.written = Some(trial.status.clone());
            trial.written_at = Instant::now();
        }
        if stage.is_over() {
            self.wish.tests_over.insert((trial.owner.uid.clone(), trial.generation));
        }
        let is_other = was.as_deref() != Some(words[0].reason.text());
        if stage.is_over() || is_other && matches!(stage, Stage::Settling(_)) {
            let is_warning = words.get(1).is_some_and(|passed| !passed.holds);
            self.tell_event(Note::load_test(is_warning, words[0].reason, &words[0].message)).await;
        }
        Ok(())
    }

    /// The same of one that it is not busy with.
    async fn tell_of(&mut self, test: &LoadTest, stage: &Stage<'_>) -> Result<(), Error> {
        let Some(owner) = Owner::of_test(test) else { return Ok(()) };
        let words = stage.words();
        let Some(status) = load_test::unfollowed(test, &words, stage.is_over(), self.now()) else { return Ok(()) };
        self.context.writer.load_test_status(&owner, &status).await?;
        if stage.is_over() {
            self.wish.tests_over.insert((owner.uid, test.metadata.generation));
            let note = Note::load_test(true, words[0].reason, &words[0].message);
            self.told.events.tell(&self.context.writer, &test.object_ref(&()), &note).await;
        }
        Ok(())
    }

    async fn tell_event(&mut self, note: Note) {
        if let Some(trial) = &self.wish.trial {
            self.told.events.tell(&self.context.writer, &trial.about, &note).await;
        }
    }
}

/// How many events are known of a run.
fn noted(run: &Run) -> usize {
    run.facts().timeline.events().list().len()
}

fn reason_of(status: &LoadTestStatus) -> Option<String> {
    Some(status.conditions.first()?.reason.clone())
}

/// The plan as somebody wants it to be by now: with the phase skipped that is to be, with messages held back or not.
fn controlled(run: &mut Run, spec: &LoadTestSpec, plan: &Plan, now: Micros) -> Option<Plan> {
    if plan.is_paused(Micros::NEVER) != spec.suspend {
        let mut changed = plan.clone();
        let rate = run.facts().fleet.spec.connect.rate;
        changed.set(now.after(plan::LEAD), Setting::Paused(spec.suspend));
        changed.forget(now, rate);
        return Some(changed);
    }
    let skip = spec.skip.as_deref()?;
    let goes_on = run.phase_at(now.after(plan::LEAD)) == Some(skip);
    goes_on.then(|| run.skip(plan, now).ok()).flatten()
}
