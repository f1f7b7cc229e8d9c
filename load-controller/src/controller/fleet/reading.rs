//! Reading the workers of a fleet: when, what becomes of their answers, and how books are closed.

use std::time::Duration;

use fleet_contract::{
    stats::{Ended, SumOf},
    time::Micros,
};
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::{task::JoinSet, time::Instant};

use super::{Books, CADENCE_WATCHED, Kept, KeptPhase, Made, Task, books, load_test::Trial};
use crate::{
    api::{CallError, calls::Answered},
    controller::{
        Error, conditions,
        document::Document,
        note::Note,
        object::{Deletion, Key},
        observe::own,
        plan,
    },
    resource::{Owner, names},
    run::{
        Run,
        facts::{Asked, Host, Program, RunFacts},
        workers::{Closing, Member, TimesOf, Workers},
    },
};

/// How often workers are read whose devices have lost their broker: it may be away for a minute or for a day.
const CADENCE_MISSING: Duration = Duration::from_secs(5);
/// How often all others are read.
const CADENCE_IDLE: Duration = Duration::from_secs(15);

/// How long a load test waits for the last worker of a round.
const FOLLOW_WITHIN: Duration = Duration::from_secs(2);

impl Task {
    /// How often the workers are to be read now.
    pub(super) fn cadence(&self) -> Duration {
        let is_watched = self.pace.watched_until.is_some_and(|until| Instant::now() < until);
        let needs_a_look = |member: &Member| member.worker.is_ending || member.is_doubtful();
        let needs_a_look = self.workers().into_iter().flat_map(Workers::members).any(needs_a_look);
        let is_progressing = self
            .told
            .status
            .as_ref()
            .is_none_or(|status| conditions::holds(&status.conditions, conditions::RECONCILING));
        let is_missing = self.told.status.as_ref().is_some_and(|status| status.connected < status.devices);
        if is_watched || self.wish.trial.is_some() || needs_a_look || is_progressing || self.shortage.is_changing() {
            CADENCE_WATCHED
        } else if is_missing {
            CADENCE_MISSING
        } else {
            CADENCE_IDLE
        }
    }

    /// Whose times of single streams are read in this round: those of every worker where somebody needs them or they are few,
    /// or as much of a phase that is over; else they tell them in turn.
    fn times(&self, cadence: Duration) -> TimesOf {
        let now = self.now();
        let runs = self.run.iter().chain(self.wish.trial.as_ref().and_then(Trial::run));
        let wanted: Vec<_> = match (&self.plan, self.workers()) {
            (Some(plan), Some(workers)) => runs.filter_map(|run| run.wants_times(now, plan, workers)).collect(),
            _ => Vec::new(),
        };
        let seconds = usize::try_from(cadence.as_secs()).unwrap_or(usize::MAX);
        let workers = self.workers().map_or(0, |workers| workers.members().count());
        let affordable = TimesOf::affordable(now, workers, self.series_each(now), seconds);
        if affordable == TimesOf::All || wanted.contains(&TimesOf::All) {
            return TimesOf::All;
        }
        // Those of the load test are among the phases of the fleet's whole run.
        wanted.last().copied().unwrap_or(affordable)
    }

    /// The sums of times by which the load test may end now.
    fn sums(&self) -> Vec<SumOf> {
        let run = self.wish.trial.as_ref().and_then(Trial::run);
        run.zip(self.workers()).map(|(run, workers)| run.wants_sums(self.now(), workers)).unwrap_or_default()
    }

    /// How many series of times each worker tells: of each stream, in all and in each phase that has begun.
    fn series_each(&self, now: Micros) -> usize {
        let (Some(document), Some(plan)) = (&self.wish.document, &self.plan) else { return 0 };
        let spec = &document.fleet.spec;
        let models = spec.groups.iter().filter_map(|group| spec.models.get(&group.model));
        let streams: usize = models.map(|model| model.streams.len()).sum();
        streams * (1 + plan.phases().filter(|(begins, _)| *begins <= now).count())
    }

    /// Once a second: reads workers that are due, closes books, writes the status if it is due.
    ///
    /// Counts from the instant that the tick was meant for: by its own clock, each second one that comes a little
    /// sooner than the last would find that its time has not come, and leave a second out.
    pub(super) async fn tick(&mut self, at: Instant) -> std::ops::ControlFlow<()> {
        if self.stores.fleets.get(&self.key).is_none() {
            return std::ops::ControlFlow::Break(());
        }
        let cadence = self.cadence();
        self.pace.next_pull = self.pace.next_pull.min(at + cadence);
        if at >= self.pace.next_pull {
            self.pace.next_pull = at + cadence;
            let (times, sums) = (self.times(cadence), self.sums());
            if let Some(met) = &mut self.met {
                let calls = met.workers.to_read_with(times, &sums);
                self.context.metrics.pulls.inc_by(calls.len() as u64);
                self.calls.come_every(cadence);
                self.calls.make(calls);
            }
            // A pod that nobody can ask is known by its silence alone.
            self.told.is_due = true;
        }
        self.keep_up().await;
        // A worker that does not answer holds the others' round up.
        if self.pace.followed_at.elapsed() > FOLLOW_WITHIN {
            self.note_reading();
            self.keep_up_test().await;
        }
        std::ops::ControlFlow::Continue(())
    }

    /// Closes books and writes the status; after a failure not before its time.
    pub(super) async fn keep_up(&mut self) {
        if Instant::now() < self.pace.retry_at {
            return;
        }
        let settled = self.settle().await;
        match settled.and(self.write_status().await) {
            Ok(()) => self.pace.failures = 0,
            Err(error) => self.pace.retry_at = Instant::now() + self.failed(error).retry,
        }
    }

    /// Takes in an answer; with the last of a round the books are closed and the status is looked at.
    pub(super) async fn answered(&mut self, answered: Answered) {
        let Some(met) = &mut self.met else { return };
        let (ordinal, is_push) = (answered.ordinal, answered.is_push());
        let taken = met.workers.answered(answered);
        let metrics = &self.context.metrics;
        match (is_push, &taken) {
            (true, _) => metrics.pushes.with_label_values(&[if taken.is_ok() { "taken" } else { "failed" }]).inc(),
            (false, Err(error)) => metrics.pull_failures.with_label_values(&[<&str>::from(error)]).inc(),
            (false, Ok(())) => {}
        }
        if let Err(error @ CallError::Refused { .. }) = &taken {
            tracing::debug!(fleet = %self.key, %error, "a worker refuses");
        }
        // Whoever has come back with an older plan gets the newest one again; who has just refused it, at the next reading.
        // The others have not changed: to look at all of them after each answer costs the square of their number.
        if (!is_push || taken.is_ok())
            && let Some(plan) = &self.plan
        {
            self.calls.make(met.workers.to_push_one(ordinal, plan));
        }
        if self.calls.is_waiting() {
            return;
        }
        self.told.is_due = true;
        self.keep_up().await;
        self.note_reading();
        self.keep_up_test().await;
    }

    /// Goes on with the load test; after a failure not before its time.
    pub(super) async fn keep_up_test(&mut self) {
        if Instant::now() < self.pace.retry_at {
            return;
        }
        self.pace.followed_at = Instant::now();
        if let Err(error) = Box::pin(self.follow_test()).await {
            self.pace.retry_at = Instant::now() + self.failed(error).retry;
        }
    }

    /// Takes the sum of phases that are over, with which books are closed, or the books that are to be kept before.
    pub(super) async fn made(&mut self, made: Made) {
        if let Some(met) = &mut self.met {
            match made {
                Made::Sum(sum) => met.workers.added_up(sum),
                Made::Books(books) => met.books = Some(books),
            }
        }
        self.keep_up().await;
    }

    /// Whether what is to be kept is being packed.
    pub(super) fn is_packing(&self) -> bool {
        self.met.as_ref().is_some_and(|met| !met.packing.is_empty())
    }

    /// Keeps the sum of the epochs that have ended, and only then closes their books.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let thresholds = self.thresholds();
        let Some(met) = &mut self.met else { return Ok(()) };
        // What takes long is added up and packed on a thread of its own, and books wait for it.
        if !met.packing.is_empty() {
            return Ok(());
        }
        if met.adding_up.is_empty()
            && let Some(over) = met.workers.to_add_up()
        {
            met.adding_up.spawn_blocking(move || over.add_up());
        }
        if !met.adding_up.is_empty() {
            return Ok(());
        }
        let (owner, closing) = (met.owner.clone(), met.workers.closing());
        let key = Key::of::<ConfigMap>(names::totals(&owner.name));
        if closing.is_none() && !self.kept.totals_are_gone || !self.refusals.is_due(&key, 0, Instant::now()) {
            return Ok(());
        }
        let ended = closing.as_ref().map_or(met.workers.ended(), Closing::ended);
        let phases = self.kept.lacks(ended);
        let books = match met.books.take().filter(|books| books.are_of(ended, &phases)) {
            Some(books) => books,
            None if books::are_many(ended, &phases) => {
                let (owner, ended) = (owner.clone(), ended.clone());
                met.packing.spawn_blocking(move || Books::of(&owner, ended, &phases, &thresholds));
                return Ok(());
            }
            None => Box::new(Books::of(&owner, ended.clone(), &phases, &thresholds)),
        };
        let written = match self.keep_phases(&owner, &books).await {
            Ok(()) => {
                let totals = books::succeeding(&books.totals, self.kept.totals.clone());
                self.context.writer.keep(&owner, &totals).await
            }
            Err(error) => Err(error),
        };
        match self.unless_refused(&key, 0, written) {
            Ok(Some(version)) => self.kept.totals = version,
            Ok(None) => return Ok(()),
            Err(error @ Error::Conflict { .. }) => {
                // Somebody else has counted: what they kept counts, and the workers are read again.
                let read = self.read_kept(&owner).await;
                if matches!(read, Err(Error::Refused(_))) {
                    // The next look stalls the fleet.
                    self.met = None;
                }
                let (ended, kept) = read?;
                if let Some(met) = &mut self.met {
                    met.workers = Workers::resume(ended);
                    (met.adding_up, met.packing) = (JoinSet::new(), JoinSet::new());
                }
                (self.kept.totals, self.kept.phases) = (kept.totals, kept.phases);
                self.pace.next_pull = Instant::now();
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        self.kept.totals_are_gone = false;
        self.drop_phases(&owner, &books.ended).await?;
        let (Some(closing), Some(met)) = (closing, &mut self.met) else { return Ok(()) };
        let lost = closing.lost.clone();
        met.workers.close(closing);
        if !lost.is_empty()
            && let Some(fleet) = self.stores.fleets.get(&self.key)
        {
            self.tell(&fleet, vec![Note::lost(&lost)]).await;
        }
        self.forget_kept_phases(&owner).await
    }

    /// Keeps each phase that is over apart, before the totals say so.
    async fn keep_phases(&mut self, owner: &Owner, books: &Books) -> Result<(), Error> {
        for (number, stats, object) in &books.phases {
            let known = self.kept.phases.get(number).and_then(|known| known.version.clone());
            let object = books::succeeding(object, known);
            let version = self.context.writer.keep(owner, &object).await?;
            self.kept.phases.insert(*number, KeptPhase { version, stats: stats.clone() });
        }
        Ok(())
    }

    /// Deletes what is kept of phases that nobody needs any more.
    async fn drop_phases(&mut self, owner: &Owner, ended: &Ended) -> Result<(), Error> {
        let gone: Vec<u32> =
            self.kept.phases.keys().filter(|number| !ended.stats.phases.contains_key(number)).copied().collect();
        for number in gone {
            let object = own(&self.stores.config_maps, owner, &names::phase(&owner.name, number));
            if let Some(deletion) = object.as_deref().and_then(Deletion::of) {
                self.context.writer.delete(owner, &deletion).await?;
            }
            self.kept.phases.remove(&number);
        }
        Ok(())
    }

    /// What is kept of the fleet's totals, phases and all.
    pub(super) async fn read_kept(&self, owner: &Owner) -> Result<(Ended, Kept), Error> {
        let (mut ended, totals) = self.context.writer.read_totals(owner).await?;
        let apart = std::mem::take(&mut ended.phases_apart);
        let mut kept = Kept { totals, ..Kept::default() };
        for (number, stats, version) in self.context.writer.read_phases(owner, &apart).await? {
            ended.stats.phases.insert(number, stats.clone());
            kept.phases.insert(number, KeptPhase { version, stats });
        }
        Ok((ended, kept))
    }

    /// Workers need not tell what is kept.
    async fn forget_kept_phases(&mut self, owner: &Owner) -> Result<(), Error> {
        let (Some(plan), Some(met)) = (&self.plan, &self.met) else { return Ok(()) };
        if let Some(plan) = Run::without_kept_phases(plan, &met.workers) {
            self.write_plan(owner, &plan).await?;
            self.push();
        }
        Ok(())
    }

    /// Takes what has been read into the run.
    pub(super) fn note_reading(&mut self) {
        let now = self.now();
        self.begin_run();
        if let (Some(run), Some(met), Some(plan)) = (&mut self.run, &mut self.met, &self.plan) {
            // A fleet runs until it is deleted, so that no step follows.
            run.tick(now, plan, &mut met.workers);
        }
    }

    /// Begins the run, once there are a document and a plan, and takes over what has changed of them.
    pub(super) fn begin_run(&mut self) {
        let now = self.now();
        let (Some(plan), Some(Document { fleet, hash, has_own_broker, .. })) = (&self.plan, &self.wish.document) else {
            return;
        };
        let known = self.run.as_ref().map(Run::facts);
        if known.is_none_or(|facts| (facts.run, facts.started) != (plan.run, plan.start)) {
            let facts = RunFacts::new(fleet.clone(), hash.clone(), plan, Asked::default(), program());
            self.run = Some(Run::new(facts, plan::LEAD));
        }
        if let Some(run) = &mut self.run {
            run.adopt(fleet, hash, *has_own_broker);
            run.follow(plan, now);
        }
    }
}

/// What makes the load in a cluster.
pub(super) fn program() -> Program {
    Program {
        engine: "native".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        host: Host { os: "kubernetes".into(), ..Host::default() },
        ..Program::default()
    }
}
