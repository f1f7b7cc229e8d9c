//! One task owns everything that is known of one fleet: its document, its plan, its workers and what they measured.
//!
//! Requests to reconcile, questions over HTTP, answers of workers and the second's tick come to it one after the other,
//! so that there is nothing to lock.

use std::{sync::Arc, time::Duration};

use fleet_contract::{plan::Plan, time::Micros};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Client, Resource as _,
    runtime::{controller::Action, reflector::ObjectRef},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior},
};

mod answer;
mod reading;
mod telling;

pub use answer::PodReport;

use super::{
    Error,
    apply::Writer,
    document::{self, Document},
    events,
    metrics::Metrics,
    note::Note,
    observe::{Observed, Stores, observe},
    plan::{self, Images, Situation, Steps},
    status::Decided,
};
use crate::{
    report::Report,
    resource::{Fleet, FleetStatus, Owner, broker::Storage},
    timeline::Timeline,
    workers::{self, Address, Workers},
};

/// How often workers are read that somebody watches or that are on their way.
const CADENCE_WATCHED: Duration = Duration::from_secs(1);
/// How long a fleet counts as watched after somebody has asked for its report.
const WATCHED: Duration = Duration::from_secs(10);
/// How old a library of models may be.
const LIBRARY_AGE: Duration = Duration::from_mins(1);

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
    pub workers: workers::Client,
    /// The images of processes.
    pub images: Arc<Images>,
    /// What the volumes of new brokers are claimed from.
    pub storage: Option<Arc<Storage>>,
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

/// The document of a Fleet, and from what it was made.
struct Resolved {
    generation: Option<i64>,
    library: Option<String>,
    at: Instant,
    /// What is wrong, if anything is.
    problems: Vec<String>,
}

/// Everything that is known of one fleet.
pub(super) struct Task {
    context: Context,
    stores: Arc<Stores>,
    key: ObjectRef<Fleet>,
    owner: Option<Owner>,
    resolved: Option<Resolved>,
    /// The last document that was right.
    document: Option<Document>,
    plan: Option<Plan>,
    /// The version of the object that holds the plan that we wrote or saw last.
    plan_object: Option<String>,
    totals_object: Option<String>,
    /// Whether somebody has deleted the object with the totals.
    totals_are_gone: bool,
    workers: Option<Workers>,
    met_at: Instant,
    token: Option<Arc<str>>,
    decided: Option<Decided>,
    timeline: Option<Timeline>,
    workers_lost: u32,
    quota: Option<(Instant, Option<String>)>,
    watched_until: Option<Instant>,
    next_pull: Instant,
    status: Option<FleetStatus>,
    status_at: Option<Instant>,
    status_is_due: bool,
    /// What was told and would be told again each time.
    told: Vec<Note>,
    failures: u32,
    retry_at: Instant,
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
            Some(answered) = next_answer(&mut task.workers) => task.answered(answered).await,
            at = ticks.tick() => if task.tick(at).await.is_break() {
                break;
            },
        }
    }
    task.context.metrics.forget(task.key.namespace.as_deref().unwrap_or_default(), &task.key.name);
}

/// The next answer of a worker; never without any under way.
async fn next_answer(workers: &mut Option<Workers>) -> Option<workers::Answered> {
    match workers {
        Some(workers) if workers.is_waiting() => workers.next().await,
        _ => std::future::pending().await,
    }
}

fn now() -> Micros {
    Micros(u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0))
}

/// Whether a version of an object is later than another one: a watch may still show what was before our own write.
///
/// Versions of one object are numbers that grow
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
fn is_later(version: Option<&str>, other: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(|text| text.parse::<u128>().ok());
    number(version) > number(other)
}

impl Task {
    fn new(context: Context, stores: Arc<Stores>, key: ObjectRef<Fleet>) -> Self {
        Self {
            context,
            stores,
            key,
            owner: None,
            resolved: None,
            document: None,
            plan: None,
            plan_object: None,
            totals_object: None,
            totals_are_gone: false,
            workers: None,
            met_at: Instant::now(),
            token: None,
            decided: None,
            timeline: None,
            workers_lost: 0,
            quota: None,
            watched_until: None,
            next_pull: Instant::now(),
            status: None,
            status_at: None,
            status_is_due: false,
            told: Vec::new(),
            failures: 0,
            retry_at: Instant::now(),
        }
    }

    async fn answer(&mut self, request: Request) {
        // Whoever asked may be gone by now; then nobody misses the answer.
        match request {
            Request::Reconcile(answer) => {
                let outcome = self.timed_reconcile().await.map_err(|error| self.failed(error));
                if outcome.is_ok() {
                    self.failures = 0;
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
        self.failures = self.failures.saturating_add(1);
        let retry = error.backoff(self.failures);
        let reason: &'static str = (&error).into();
        self.context.metrics.reconcile_errors.with_label_values(&[reason]).inc();
        if matches!(error, Error::Conflict { .. }) {
            tracing::debug!(fleet = %self.key, %error, "somebody was faster");
        } else {
            tracing::warn!(fleet = %self.key, %error, retry_seconds = retry.as_secs_f64(), "the fleet is not as it should be");
        }
        Failed { error, retry }
    }

    /// Observes, decides, applies; the status follows when the workers have been told.
    async fn reconcile(&mut self) -> Result<Action, Error> {
        let Some(fleet) = self.stores.fleets.get(&self.key) else { return Ok(Action::await_change()) };
        if fleet.metadata.deletion_timestamp.is_some() {
            // Its objects go with it; making them anew would only keep the garbage collector busy.
            return Ok(Action::await_change());
        }
        let owner = Owner::of(&fleet).ok_or(Error::NotStored)?;
        self.meet(&owner).await?;
        self.resolve(&fleet, &owner).await?;
        let observed = self.look(&owner);
        let Some(document) = self.document.clone().filter(|_| self.problems().is_empty()) else {
            // What already runs goes on.
            self.status_is_due = true;
            self.write_status_of(&fleet, &owner, &observed).await?;
            return Ok(Action::requeue(LIBRARY_AGE));
        };
        let steps = plan::decide(&Situation {
            fleet: &fleet,
            owner: &owner,
            document: &document,
            observed: &observed,
            plan: self.plan.as_ref(),
            images: &self.context.images,
            storage: self.context.storage.as_deref(),
            now: now(),
        });
        let look_again = steps.look_again;
        self.apply(&fleet, &owner, &document, &observed, steps).await?;
        self.status_is_due = true;
        if !self.is_waiting() {
            self.write_status_of(&fleet, &owner, &observed).await?;
        }
        let library = document.fleet.spec.models_from.as_ref().map(|_| LIBRARY_AGE);
        Ok(look_again.into_iter().chain(library).min().map_or_else(Action::await_change, Action::requeue))
    }

    /// Starts to look after this very fleet; one that was deleted and made again is another.
    async fn meet(&mut self, owner: &Owner) -> Result<(), Error> {
        if self.owner.as_ref() == Some(owner) && self.workers.is_some() {
            return Ok(());
        }
        let (ended, version) = self.context.writer.read_totals(owner).await?;
        *self = Self::new(self.context.clone(), Arc::clone(&self.stores), self.key.clone());
        self.workers = Some(Workers::resume(self.context.workers.clone(), ended));
        self.totals_object = version;
        self.owner = Some(owner.clone());
        Ok(())
    }

    /// Makes the document anew when the Fleet or its library may have changed.
    async fn resolve(&mut self, fleet: &Fleet, owner: &Owner) -> Result<(), Error> {
        let generation = fleet.metadata.generation;
        let named = fleet.spec.get("modelsFrom").and_then(|from| from.get("configMap")?.as_str());
        let same = self.resolved.as_ref().filter(|resolved| resolved.generation == generation);
        if same.is_some_and(|resolved| named.is_none() || resolved.at.elapsed() < LIBRARY_AGE) {
            return Ok(());
        }
        let library = match named {
            Some(name) => self.context.writer.library(owner, name).await?,
            None => None,
        };
        let version = library.as_ref().and_then(kube::ResourceExt::resource_version);
        if let Some(resolved) = self.resolved.as_mut().filter(|resolved| resolved.generation == generation) {
            resolved.at = Instant::now();
            if resolved.library == version {
                return Ok(());
            }
        }
        // The image of the document decides with it about the revision.
        let image = fleet.spec.get("pod").and_then(|pod| pod.get("image")?.as_str());
        let image = image.unwrap_or(&self.context.images.worker);
        let problems = match document::resolve(fleet, owner, library.as_ref(), image) {
            Ok(document) => {
                self.document = Some(document);
                Vec::new()
            }
            Err(problems) => problems,
        };
        self.resolved = Some(Resolved { generation, library: version, at: Instant::now(), problems });
        Ok(())
    }

    fn problems(&self) -> &[String] {
        self.resolved.as_ref().map_or(&[], |resolved| &resolved.problems)
    }

    /// What the watches show; takes over pods, token, and a plan that another controller may have written.
    fn look(&mut self, owner: &Owner) -> Observed {
        let mut observed = observe(&self.stores, owner);
        if let Some(token) = &observed.token
            && self.token.as_deref() != Some(token)
        {
            self.token = Some(Arc::from(token.as_str()));
        }
        self.take_plan(&mut observed);
        self.totals_are_gone = self.totals_object.is_some() && !observed.has_totals;
        if let Some(workers) = &mut self.workers {
            let is_somebody_new = workers.meet(&observed.pods, self.token.as_ref());
            if is_somebody_new {
                self.next_pull = Instant::now();
            }
        }
        observed
    }

    /// Takes over a plan that succeeds ours. What anybody else has put in its place counts as none, and is written anew.
    fn take_plan(&mut self, observed: &mut Observed) {
        let succeeds = |plan: &Plan| {
            let is_ours = |known: &Plan| (plan.run, plan.start) == (known.run, known.start);
            self.plan.as_ref().is_none_or(|known| is_ours(known) && plan.version >= known.version)
        };
        if let Some((plan, version)) = observed.plan.as_ref().filter(|(plan, _)| succeeds(plan)) {
            self.plan = Some(plan.clone());
            self.plan_object.clone_from(version);
        } else if is_later(observed.plan_object.as_deref(), self.plan_object.as_deref()) {
            observed.plan = None;
            self.plan_object.clone_from(&observed.plan_object);
        }
    }

    /// Applies the steps. Plan before pods: who grows finds its numbers, who shrinks lets its devices leave in order.
    async fn apply(
        &mut self,
        fleet: &Fleet,
        owner: &Owner,
        document: &Document,
        observed: &Observed,
        steps: Steps,
    ) -> Result<(), Error> {
        let writer = self.context.writer.clone();
        if observed.token.is_none() {
            self.token = Some(writer.token(owner, self.token.clone()).await?);
        }
        writer.revision(owner, &steps.revision, document).await?;
        for object in &steps.objects {
            writer.object(object).await?;
        }
        if steps.is_new_plan {
            self.plan_object = writer.plan(owner, &steps.plan, self.plan_object.clone()).await?;
            self.plan = Some(steps.plan.clone());
            self.next_pull = Instant::now();
        }
        // Those that already run need not wait for anybody.
        self.push();
        if let Some(stateful_set) = &steps.stateful_set {
            writer.stateful_set(stateful_set).await?;
        }
        for pod in &steps.forces {
            writer.force(owner, pod).await?;
        }
        for name in &steps.forgets {
            writer.forget(owner, name).await?;
        }
        if steps.deletes_broker {
            writer.delete_broker(owner).await?;
        }
        self.decided = Some(Decided {
            replicas: steps.replicas,
            revision: steps.revision.number,
            size: steps.size,
            broker_devices_max: steps.broker_devices_max,
        });
        self.told.retain(|known| steps.notes.contains(known));
        self.tell(fleet, steps.notes).await;
        Ok(())
    }

    /// Tells what is new; a warning that each look brings again is told once.
    async fn tell(&mut self, fleet: &Fleet, notes: Vec<Note>) {
        let about = fleet.object_ref(&());
        for note in notes {
            let is_standing = note.reason == "UnfitAutoscaler" || note.reason == "PodForced";
            if is_standing && self.told.contains(&note) {
                continue;
            }
            events::tell(&self.context.writer, &self.context.identity, &about, &note).await;
            if is_standing {
                self.told.push(note);
            }
        }
    }

    fn is_waiting(&self) -> bool {
        self.workers.as_ref().is_some_and(Workers::is_waiting)
    }

    fn watch(&mut self) {
        self.watched_until = Some(Instant::now() + WATCHED);
    }

    fn push(&mut self) {
        if let (Some(workers), Some(plan)) = (&mut self.workers, &self.plan) {
            workers.push(plan);
        }
    }
}
