//! Brings the cluster to what a Fleet says: observes, decides, applies.

use std::{sync::Arc, time::Duration};

use fleet_contract::plan::Plan;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::controller::Action;
use tokio::{task::JoinSet, time::Instant};

use super::{Met, Task, Wish, load_test::Trial, writing::SECRET_AGE};
use crate::{
    controller::{
        Error, conditions,
        document::{self, Document},
        object::Key,
        observe::{Observed, Reply, WorkerPod, observe},
        plan::{self, Situation, Turn},
        reason::Reason,
        refusal::Refusal,
        status,
        tokens::Tokens,
    },
    key::Purpose,
    resource::{Fleet, Owner, names},
    run::workers::Workers,
};

/// How old a library of models may be, and how old while the document that needs it is wrong: somebody may be making it.
const LIBRARY_AGE: Duration = Duration::from_mins(1);
const LIBRARY_AGE_WHILE_WRONG: Duration = Duration::from_secs(5);

/// When a fleet of which something cannot be read is looked at again: somebody may have removed it.
const STALLED_FOR: Duration = Duration::from_secs(10);

/// When a fleet that was too late for its turn tries again.
const TURN_LOOK: Duration = Duration::from_secs(1);

/// The document of a Fleet, and from what it was made.
pub(super) struct Resolved {
    generation: Option<i64>,
    names_library: bool,
    library: Option<String>,
    at: Instant,
    /// What is wrong, if anything is.
    problems: Vec<String>,
}

impl Resolved {
    /// How old it may be; `None` where only the Fleet itself can change it.
    fn age_max(&self) -> Option<Duration> {
        let age = if self.problems.is_empty() { LIBRARY_AGE } else { LIBRARY_AGE_WHILE_WRONG };
        self.names_library.then_some(age)
    }
}

impl Wish {
    /// The generation of the Fleet that was read last.
    pub(super) fn generation(&self) -> Option<i64> {
        self.resolved.as_ref()?.generation
    }

    /// Whether a load test goes on: edits wait until it is over.
    fn is_pinned(&self) -> bool {
        self.document.is_some() && self.trial.as_ref().is_some_and(Trial::goes_on)
    }

    /// Goes back to the document that a load test was begun with, of that generation.
    pub(super) fn go_back_to(&mut self, document: Document, generation: Option<i64>) {
        let (at, problems) = (Instant::now(), Vec::new());
        self.resolved = Some(Resolved { generation, names_library: false, library: None, at, problems });
        self.document = Some(document);
    }

    /// The fleet is its own again, with what has been edited meanwhile.
    pub(super) fn leave_trial(&mut self) {
        self.trial = None;
        self.resolved = None;
    }
}

impl Task {
    /// Observes, decides, applies; the status follows when the workers have been told.
    pub(super) async fn reconcile(&mut self) -> Result<Action, Error> {
        let Some(fleet) = self.stores.fleets.get(&self.key) else { return Ok(Action::await_change()) };
        if fleet.metadata.deletion_timestamp.is_some() {
            // Its objects go with it; making them anew would only keep the garbage collector busy.
            return Ok(Action::await_change());
        }
        let owner = Owner::of(&fleet).ok_or(Error::NotStored)?;
        match self.meet(&owner).await {
            Ok(()) => {}
            Err(Error::Refused(refusal)) => return self.stall(&fleet, &owner, &refusal).await,
            Err(error) => return Err(error),
        }
        let observed = self.look(&owner);
        // A plan of our own is written again in the place of what cannot be read; without one, a new run would begin, and its load
        // test be given up.
        if let (None, Some(error)) = (&self.plan, &observed.plan_error) {
            let key = Key::of::<ConfigMap>(names::plan(&owner.name));
            return self.stall(&fleet, &owner, &Refusal::unreadable(&key, error)).await;
        }
        match Box::pin(self.look_at_tests(&fleet)).await {
            Err(Error::Refused(refusal)) if refusal.reason == Reason::Unreadable => {
                return self.stall(&fleet, &owner, &refusal).await;
            }
            looked => looked?,
        }
        self.resolve(&fleet, &owner).await?;
        self.told.is_stalled = false;
        let Some(document) = self.wish.document.clone().filter(|_| self.problems().is_empty()) else {
            // What already runs goes on.
            self.limit_wrong();
            Box::pin(self.prepare_test(&fleet, &observed, None)).await?;
            self.told.is_due = true;
            self.write_status_of(&fleet, &owner, &observed).await?;
            return Ok(self.document_age_max().map_or_else(Action::await_change, Action::requeue));
        };
        let Some(mut document) = self.limit(&fleet, &owner, document).await else {
            // Here, too.
            Box::pin(self.prepare_test(&fleet, &observed, None)).await?;
            self.told.is_due = true;
            self.write_status_of(&fleet, &owner, &observed).await?;
            return Ok(self.look_at_limits().map_or_else(Action::await_change, Action::requeue));
        };
        let look_at_test = match Box::pin(self.prepare_test(&fleet, &observed, Some(&document))).await {
            Err(Error::Refused(refusal)) if refusal.reason == Reason::Unreadable => {
                return self.stall(&fleet, &owner, &refusal).await;
            }
            prepared => prepared?,
        };
        if let Some(devices) = self.hold().and_then(|hold| hold.devices) {
            document.fleet.spec.devices = devices;
        }
        let steps = plan::decide(&Situation {
            fleet: &fleet,
            owner: &owner,
            document: &document,
            observed: &observed,
            plan: self.plan.as_ref(),
            images: &self.context.images,
            storage: self.context.storage.as_deref(),
            allowed: &self.context.guard.limits().brokers,
            is_others_turn: self.context.turns.other(&self.key, Instant::now()).is_some(),
            hold: self.hold(),
            connected: self.workers().map_or(0, |workers| workers.devices().connected),
            now: self.now(),
        });
        match steps.turn {
            Turn::None => self.context.turns.pass(&self.key),
            Turn::Rolls { done, has_begun } => {
                if !self.context.turns.take(&self.key, done, Instant::now()) && !has_begun {
                    // Another fleet was faster.
                    return Ok(Action::requeue(TURN_LOOK));
                }
            }
            Turn::Waits => {}
        }
        let look_again = steps.look_again;
        if steps.is_held {
            // It ends by what the workers say.
            self.pace.next_pull = Instant::now();
        }
        self.apply(&fleet, &owner, &observed, steps).await?;
        self.told.is_due = true;
        if !self.calls.is_waiting() {
            self.write_status_of(&fleet, &owner, &observed).await?;
        }
        let secret = self.kept.secret_at.map(|at| SECRET_AGE.saturating_sub(at.elapsed()));
        let soonest = look_again
            .into_iter()
            .chain(secret)
            .chain(look_at_test)
            .chain(self.document_age_max())
            .chain(self.refusals.next(Instant::now()))
            .chain(self.look_at_limits());
        Ok(soonest.min().map_or_else(Action::await_change, Action::requeue))
    }

    /// Says that the fleet waits for a person. Nothing of it is written, and what already runs goes on.
    async fn stall(&mut self, fleet: &Arc<Fleet>, owner: &Owner, refusal: &Refusal) -> Result<Action, Error> {
        self.told.is_stalled = true;
        let known = self.told.status.clone().or_else(|| fleet.status.clone()).unwrap_or_default();
        let (status, words) = status::stalled(&known, refusal, fleet.metadata.generation, self.now());
        // A controller that has just died may have a write under way that comes behind ours.
        let is_shown =
            fleet.status.as_ref().is_some_and(|shown| conditions::holds(&shown.conditions, conditions::STALLED));
        if status != known || !is_shown {
            self.context.writer.status(owner, &status).await?;
            let notes = status::notes(&known.conditions, &words);
            self.told.status = Some(status);
            self.tell(fleet, notes).await;
        }
        Ok(Action::requeue(STALLED_FOR))
    }

    /// Starts to look after this very fleet; one that was deleted and made again is another.
    async fn meet(&mut self, owner: &Owner) -> Result<(), Error> {
        if self.met.as_ref().is_some_and(|met| met.owner == *owner) {
            return Ok(());
        }
        let (ended, kept) = self.read_kept(owner).await?;
        *self = Self::new(self.context.clone(), Arc::clone(&self.stores), self.key.clone());
        self.kept = kept;
        self.met = Some(Met {
            owner: owner.clone(),
            at: Instant::now(),
            workers: Workers::resume(ended),
            adding_up: JoinSet::new(),
            packing: JoinSet::new(),
            books: None,
            tokens: Tokens::of(&self.context.key.derive(Purpose::Token, &owner.uid)),
        });
        Ok(())
    }

    /// Makes the document anew when the Fleet or its library may have changed.
    async fn resolve(&mut self, fleet: &Fleet, owner: &Owner) -> Result<(), Error> {
        if self.wish.is_pinned() {
            // Edits wait until its load test is over.
            return Ok(());
        }
        let generation = fleet.metadata.generation;
        let spec = fleet.spec.typed();
        let named = spec.and_then(|spec| spec.models_from.as_ref()).map(|from| from.config_map.as_str());
        let same = self.wish.resolved.as_ref().filter(|resolved| resolved.generation == generation);
        if same.is_some_and(|resolved| resolved.age_max().is_none_or(|most| resolved.at.elapsed() < most)) {
            return Ok(());
        }
        let library = match named {
            Some(name) => self.context.writer.library(owner, name).await?,
            None => None,
        };
        let version = library.as_ref().and_then(kube::ResourceExt::resource_version);
        if let Some(resolved) = self.wish.resolved.as_mut().filter(|resolved| resolved.generation == generation) {
            resolved.at = Instant::now();
            if resolved.library == version {
                return Ok(());
            }
        }
        // The image of the document decides with it about the revision.
        let image = spec.and_then(|spec| spec.pod.image.as_deref()).unwrap_or(&self.context.images.worker);
        let problems = match document::resolve(fleet, owner, library.as_ref(), image) {
            Ok(document) => {
                self.wish.document = Some(document);
                Vec::new()
            }
            Err(problems) => problems,
        };
        let names_library = named.is_some();
        self.wish.resolved =
            Some(Resolved { generation, names_library, library: version, at: Instant::now(), problems });
        Ok(())
    }

    fn document_age_max(&self) -> Option<Duration> {
        self.wish.resolved.as_ref()?.age_max()
    }

    /// The newest generation of the Fleet that was carried out or found wrong. The watch may know a newer one already,
    /// and whoever waits for that one must not take what was done before it for its end.
    pub(super) fn seen(&self) -> Option<i64> {
        let is_wrong = |resolved: &&Resolved| !resolved.problems.is_empty() || self.limited.is_refused();
        let found_wrong = self.wish.resolved.as_ref().filter(is_wrong);
        found_wrong.map_or_else(|| self.wish.decided?.generation, |resolved| resolved.generation)
    }

    pub(super) fn problems(&self) -> &[String] {
        self.wish.resolved.as_ref().map_or(&[], |resolved| &resolved.problems)
    }

    /// What the watches show; takes over pods, and a plan that another controller may have written.
    pub(super) fn look(&mut self, owner: &Owner) -> Observed {
        let mut observed = observe(&self.stores, owner);
        self.take_plan(&mut observed);
        self.kept.totals_are_gone = self.kept.totals.is_some() && !observed.has_totals;
        self.meet_workers(&observed);
        for pod in &mut observed.pods {
            pod.reply = self.reply_of(pod);
        }
        observed
    }

    /// Whether the worker of a pod answers.
    fn reply_of(&self, pod: &WorkerPod) -> Reply {
        let workers = self.workers();
        match workers.and_then(|workers| workers.member(pod.ordinal)).filter(|member| member.worker.id == pod.uid) {
            Some(member) if member.answers() && workers.is_some_and(|workers| workers.has_drained(pod.ordinal)) => {
                Reply::Drained
            }
            Some(member) if member.answers() => Reply::Runs,
            Some(member) if member.worker.address.is_some() && !member.is_silent() => Reply::Unasked,
            _ => Reply::None,
        }
    }

    /// Takes over which workers there are, and how they are reached.
    pub(super) fn meet_workers(&mut self, observed: &Observed) {
        if let Some(Met { workers, tokens, .. }) = &mut self.met
            && workers.meet(observed.pods.iter().map(|pod| tokens.worker(pod)).collect())
        {
            self.pace.next_pull = Instant::now();
        }
    }

    /// Takes over a plan that succeeds ours. What anybody else has put in its place counts as none, and is written anew.
    fn take_plan(&mut self, observed: &mut Observed) {
        let succeeds = |plan: &Plan| {
            let is_ours = |known: &Plan| (plan.run, plan.start) == (known.run, known.start);
            self.plan.as_ref().is_none_or(|known| is_ours(known) && plan.version >= known.version)
        };
        if let Some((plan, version)) = observed.plan.as_ref().filter(|(plan, _)| succeeds(plan)) {
            self.plan = Some(plan.clone());
            self.kept.plan.clone_from(version);
        } else if is_later(observed.plan_object.as_deref(), self.kept.plan.as_deref()) {
            observed.plan = None;
            self.kept.plan.clone_from(&observed.plan_object);
        }
    }
}

/// Whether a version of an object is later than another one: a watch may still show what was before our own write.
///
/// Versions of one object are numbers that grow
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
fn is_later(version: Option<&str>, other: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(|text| text.parse::<u128>().ok());
    number(version) > number(other)
}
