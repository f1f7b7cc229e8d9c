//! One task owns everything that is known of one fleet: its document, its plan, its workers and what they measured.
//!
//! Requests to reconcile, questions of FleetQueries, answers of workers and the tick of each second come to it one after
//! the other, so that there is nothing to lock.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use fleet_contract::{
    plan::Plan,
    stats::{PhaseStats, PhasesSum},
    time::Micros,
};
use kube::{
    Client,
    runtime::{controller::Action, reflector::ObjectRef},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

mod acts;
mod answer;
mod books;
mod causes;
mod limits;
mod load_test;
mod orphan;
mod reading;
mod reconcile;
mod telling;
mod writing;

use books::Books;
use causes::Causes;
pub use limits::Guard;
use limits::Limited;
use load_test::{Packed, Trial};
pub(super) use orphan::tell_of_missing_fleets;
use reconcile::Resolved;

use super::{
    Error, apply::Writer, document::Document, events::Events, load_test::Going, metrics::Metrics, note::Note,
    observe::Stores, plan::Images, refusal::Refusals, shortage::Shortage, status::Decided, tokens::Tokens, turn::Turns,
};
use crate::{
    api::{self, Address, Calls, calls::Answered},
    key::Key,
    report::Report,
    resource::{Fleet, FleetStatus, Owner, broker::Storage, fleet_query::PodReport},
    run::{Run, workers::Workers},
};

/// How often workers are read that somebody watches or that are on their way.
const CADENCE_WATCHED: Duration = Duration::from_secs(1);
/// How long a fleet counts as watched after somebody has asked for its report.
const WATCHED: Duration = Duration::from_secs(10);

/// What the tasks of all fleets share.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Writes to it.
    pub writer: Writer,
    /// The instruments.
    pub metrics: Metrics,
    /// How workers are spoken to.
    pub workers: api::Client,
    /// What time it is.
    pub clock: Arc<dyn Fn() -> Micros + Send + Sync>,
    /// The images of processes.
    pub images: Arc<Images>,
    /// What the volumes of new brokers are claimed from.
    pub storage: Option<Arc<Storage>>,
    /// What tokens and passwords are derived from.
    pub key: Key,
    /// Whose turn it is to roll out a release.
    pub turns: Arc<Turns>,
    /// The load tests that go on.
    pub going: Arc<Going>,
    /// What holds fleets to the administrator's limits.
    pub guard: Guard,
    /// Who this controller is, in events.
    pub identity: Arc<str>,
}

/// What may be asked of a fleet; each question carries the way of its answer.
#[derive(Debug)]
pub enum Request {
    /// Bring the cluster to what this Fleet says.
    Reconcile(oneshot::Sender<Result<Action, Failed>>),
    /// The report so far; `None` before there is a plan.
    Report(oneshot::Sender<Option<Box<Report>>>),
    /// The pods.
    Pods(oneshot::Sender<Vec<PodReport>>),
    /// How to reach the worker that runs a device; `None` when there is none.
    Owner(u32, oneshot::Sender<Option<Address>>),
    /// The plan; `None` before there is one.
    Plan(oneshot::Sender<Option<Plan>>),
}

/// A failure, and when to try again.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// What failed.
    pub error: Error,
    /// How long to wait.
    pub retry: Duration,
}

/// Everything that is known of one fleet.
pub(super) struct Task {
    context: Context,
    stores: Arc<Stores>,
    key: ObjectRef<Fleet>,
    /// The very fleet that is looked after, once there is one.
    met: Option<Met>,
    wish: Wish,
    /// The newest plan that is written.
    plan: Option<Plan>,
    kept: Kept,
    /// How far it has come, once there are a document and a plan.
    run: Option<Run>,
    /// What workers are asked just now.
    calls: Calls,
    /// Writes that the API server refuses.
    refusals: Refusals,
    limited: Limited,
    causes: Causes,
    shortage: Shortage,
    pace: Pace,
    told: Told,
}

/// A fleet that was met: one that is deleted and made again is another.
struct Met {
    owner: Owner,
    at: Instant,
    workers: Workers,
    /// What adds up phases that are over: one job at most.
    adding_up: JoinSet<PhasesSum>,
    /// What packs what is to be kept: one job at most, and none while phases are added up.
    packing: JoinSet<Books>,
    /// What it has packed, until that is written.
    books: Option<Box<Books>>,
    /// How they are spoken to.
    tokens: Tokens,
}

/// What the author of a fleet wants, and what was decided about it.
#[derive(Default)]
struct Wish {
    /// What the newest Fleet says.
    resolved: Option<Resolved>,
    /// The last document that was right.
    document: Option<Document>,
    decided: Option<Decided>,
    /// The load test that the fleet is busy with.
    trial: Option<Trial>,
    /// The UIDs and generations of those that are over, as long as the watch may not show it yet.
    tests_over: HashSet<(String, Option<i64>)>,
}

/// What the cluster keeps of a fleet and only its controller knows to be right.
#[derive(Default)]
struct Kept {
    /// The version of the object that holds the plan that we wrote or saw last.
    plan: Option<String>,
    /// The same of the totals.
    totals: Option<String>,
    /// Whether somebody has deleted the object with the totals.
    totals_are_gone: bool,
    /// What is kept of phases that are over.
    phases: BTreeMap<u32, KeptPhase>,
    /// When the Secret was last known to be there.
    secret_at: Option<Instant>,
}

/// What the cluster keeps of a phase.
struct KeptPhase {
    /// The version of its object.
    version: Option<String>,
    /// What it holds.
    stats: PhaseStats,
}

/// When what is to be done.
struct Pace {
    watched_until: Option<Instant>,
    next_pull: Instant,
    /// When the load test was looked at last.
    followed_at: Instant,
    /// Failures in a row, and when to try again.
    failures: u32,
    retry_at: Instant,
}

impl Pace {
    fn now() -> Self {
        let now = Instant::now();
        Self { watched_until: None, next_pull: now, followed_at: now, failures: 0, retry_at: now }
    }
}

/// What people were told.
struct Told {
    status: Option<FleetStatus>,
    status_at: Option<Instant>,
    /// Whether the status may differ from what was told.
    is_due: bool,
    /// Whether something cannot be read: the status stays as it is, until another look finds it readable or gone.
    is_stalled: bool,
    events: Events,
    /// What would be told again each time.
    standing: Vec<Note>,
}

/// Looks after a fleet until it is gone, or nobody asks any more.
pub(super) async fn look_after(
    context: Context,
    stores: Arc<Stores>,
    key: ObjectRef<Fleet>,
    mut requests: mpsc::Receiver<Request>,
) {
    let mut task = Task::new(context, stores, key);
    let mut ticks = tokio::time::interval(CADENCE_WATCHED);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => task.answer(request).await,
                None => break,
            },
            // A reading would change the books that are being packed.
            Some(answered) = next_answer(&mut task.calls), if !task.is_packing() => task.answered(answered).await,
            Some(made) = next_made(&mut task.met) => task.made(made).await,
            Some(packed) = next_report(&mut task.wish.trial) => task.reported(packed).await,
            at = ticks.tick() => if task.tick(at).await.is_break() {
                break;
            },
        }
    }
    task.context.turns.pass(&task.key);
    task.context.going.end(&task.key);
    task.context.guard.forget(&task.key);
    task.context.metrics.forget(task.key.namespace.as_deref().unwrap_or_default(), &task.key.name);
}

/// The next answer of a worker; never without any under way.
async fn next_answer(calls: &mut Calls) -> Option<Answered> {
    if calls.is_waiting() { calls.next().await } else { std::future::pending().await }
}

/// What a thread of its own has made for the books of a fleet.
enum Made {
    /// The sum of phases that are over.
    Sum(PhasesSum),
    /// The books, as they are kept.
    Books(Box<Books>),
}

/// What has been added up or packed; never where nothing is.
async fn next_made(met: &mut Option<Met>) -> Option<Made> {
    let Some(met) = met else { return std::future::pending().await };
    let made = tokio::select! {
        Some(sum) = met.adding_up.join_next() => sum.map(Made::Sum),
        Some(books) = met.packing.join_next() => books.map(|books| Made::Books(Box::new(books))),
        else => return std::future::pending().await,
    };
    made.inspect_err(|error| tracing::error!(%error, "adding up or packing what is to be kept has panicked")).ok()
}

/// The report of a test that is over; never where none is being made. One that could not be made is begun again by the next look.
async fn next_report(trial: &mut Option<Trial>) -> Option<Arc<Packed>> {
    match trial {
        Some(trial) if !trial.reporting.is_empty() => {
            let packed = trial.reporting.join_next().await?.map(Arc::new);
            packed.inspect_err(|error| tracing::error!(%error, "making the report of a load test has panicked")).ok()
        }
        _ => std::future::pending().await,
    }
}

impl Task {
    fn new(context: Context, stores: Arc<Stores>, key: ObjectRef<Fleet>) -> Self {
        let events = Events::new(Arc::clone(&context.identity));
        Self {
            calls: Calls::new(context.workers.clone()),
            context,
            stores,
            key,
            met: None,
            wish: Wish::default(),
            plan: None,
            kept: Kept::default(),
            run: None,
            refusals: Refusals::default(),
            limited: Limited::default(),
            causes: Causes::default(),
            shortage: Shortage::default(),
            pace: Pace::now(),
            told: Told {
                status: None,
                status_at: None,
                is_due: false,
                is_stalled: false,
                events,
                standing: Vec::new(),
            },
        }
    }

    fn now(&self) -> Micros {
        (self.context.clock)()
    }

    fn workers(&self) -> Option<&Workers> {
        self.met.as_ref().map(|met| &met.workers)
    }

    async fn answer(&mut self, request: Request) {
        // Whoever asked may be gone by now; then nobody misses the answer.
        match request {
            Request::Reconcile(answer) => {
                let outcome = self.timed_reconcile().await.map_err(|error| self.failed(error));
                if outcome.is_ok() {
                    self.pace.failures = 0;
                }
                drop(answer.send(outcome));
            }
            Request::Report(answer) => {
                self.watch();
                drop(answer.send(self.report().map(Box::new)));
            }
            Request::Pods(answer) => {
                self.watch();
                drop(answer.send(self.pods()));
            }
            Request::Owner(index, answer) => drop(answer.send(self.address_of(index))),
            Request::Plan(answer) => drop(answer.send(self.plan.clone())),
        }
    }

    async fn timed_reconcile(&mut self) -> Result<Action, Error> {
        let (start, spent) = (Instant::now(), self.context.writer.spent());
        let outcome = self.reconcile().await;
        let took = start.elapsed();
        let elsewhere = self.context.writer.spent().saturating_sub(spent);
        let metrics = &self.context.metrics;
        metrics.reconciles.inc();
        metrics.reconcile_seconds.observe(took.as_secs_f64());
        // What asked nobody has changed nothing: it would only hide how long a change takes.
        if !elsewhere.is_zero() {
            metrics.reconcile_own_seconds.observe(took.saturating_sub(elsewhere).as_secs_f64());
        }
        outcome
    }

    fn failed(&mut self, error: Error) -> Failed {
        self.pace.failures = self.pace.failures.saturating_add(1);
        let retry = error.backoff(self.pace.failures);
        self.count_failure(&error);
        if matches!(error, Error::Conflict { .. }) {
            tracing::debug!(fleet = %self.key, %error, "somebody was faster");
        } else {
            tracing::warn!(fleet = %self.key, %error, retry_seconds = retry.as_secs_f64(), "the fleet is not as it should be");
        }
        Failed { error, retry }
    }

    fn count_failure(&self, error: &Error) {
        let reason: &'static str = error.into();
        self.context.metrics.reconcile_errors.with_label_values(&[reason]).inc();
    }

    fn watch(&mut self) {
        self.pace.watched_until = Some(Instant::now() + WATCHED);
    }

    fn push(&mut self) {
        if let (Some(met), Some(plan)) = (&mut self.met, &self.plan) {
            self.calls.make(met.workers.to_push(plan));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
