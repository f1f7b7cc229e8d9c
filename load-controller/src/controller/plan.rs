//! What is to be done so that the cluster matches a Fleet. Pure: takes what was observed and the time, returns steps.

use std::{collections::BTreeSet, time::Duration};

use fleet_contract::{allowed::AllowedBrokers, plan::Plan, time::Micros, units::Span};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{ConfigMap, PodTemplateSpec},
    },
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};

use super::{
    document::Document,
    load_test::Hold,
    note::Note,
    object::{Deletion, Object},
    observe::{Observed, ObservedBroker, Reply, WorkerPod},
};
use crate::resource::{
    Fleet, Owner, Size,
    broker::{self, Broker, Storage},
    config_map,
    names::{self, REVISIONS_MAX},
    network_policy,
    pod::{self, DOCUMENT_ANNOTATION, UNREACHABLE_SECONDS, Worker},
    pod_disruption_budget, service, stateful_set,
};

/// How far ahead a change takes effect, so that every worker knows of it in time.
pub const LEAD: Span = Span::from_millis(250);

/// How long after [`UNREACHABLE_SECONDS`] Kubernetes may take to evict the pods of a lost node. It does so by their names,
/// a second or so late: of a pod that was deleted before that, it would evict the successor.
const EVICTION_SECONDS: i64 = 5;

/// How long a roll-out of workers waits for devices that come back to a new broker pod, besides the time that the fleet's
/// connect rate needs: most clients put their attempts off by some seconds, and some devices may never come back.
const RETURN_PATIENCE: Span = Span::from_secs(60);

/// How often that is looked at.
const RETURN_LOOK: Duration = Duration::from_secs(1);

/// The images of the processes, and when nodes ask for them.
#[derive(Debug, Clone)]
pub struct Images {
    /// Of the worker.
    pub worker: String,
    /// Of the broker.
    pub broker: String,
    /// When the node asks the registry; by default Kubernetes decides by the tag.
    pub pull_policy: Option<String>,
}

/// What is to be done.
#[derive(Debug)]
pub struct Steps {
    /// Objects that differ from what they should be, without the StatefulSet of the workers.
    pub objects: Vec<Object>,
    /// The revision of the document; its ConfigMap is among the objects where it is to be written.
    pub revision: Revision,
    /// The plan that the fleet is to run.
    pub plan: Plan,
    /// Whether that plan is new.
    pub is_new_plan: bool,
    /// The StatefulSet of the workers, if it differs. It needs all other objects.
    pub stateful_set: Option<Object>,
    /// Pods that there should be.
    pub replicas: u32,
    /// What a pod was sized for.
    pub size: Size,
    /// Devices that the broker of its own has room for.
    pub broker_devices_max: Option<u32>,
    /// Objects that are no longer wanted: the fleet's own broker, ConfigMaps of old revisions.
    pub deletions: Vec<Deletion>,
    /// Pods on nodes that are lost.
    pub forces: Vec<WorkerPod>,
    /// Pods on nodes that do not answer, whose workers do and are to let their devices leave.
    pub drains: Vec<WorkerPod>,
    /// What people are told.
    pub notes: Vec<Note>,
    /// Whether workers are not replaced as long as their broker, or their devices, are away.
    pub is_held: bool,
    /// Whether pods are replaced, or wait to be, because this controller wants another template than the one before.
    pub turn: Turn,
    /// When to look again, if nothing happens before.
    pub look_again: Option<Duration>,
}

/// What a fleet has to do with the turn that fleets take with the roll-out of a release; see [`super::turn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: its pods are as this controller wants them, or its author changes them.
    None,
    /// It rolls, with so many pods done.
    Rolls {
        /// Pods of the new template.
        done: u32,
        /// Whether pods are being replaced already.
        has_begun: bool,
    },
    /// It waits for another fleet.
    Waits,
}

/// The place of a document in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The name of its ConfigMap.
    pub name: String,
    /// Its number; the highest is in use.
    pub number: u64,
    /// What is to be done about the ConfigMap.
    pub step: RevisionStep,
}

/// What is to be done about the ConfigMap of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionStep {
    /// Nothing: it is the newest.
    Keep,
    /// An old one is wanted again and gets the newest number.
    Renumber,
    /// It is to be made.
    Create,
}

/// What the decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The Fleet.
    pub fleet: &'a Fleet,
    /// It, as an owner.
    pub owner: &'a Owner,
    /// Its document.
    pub document: &'a Document,
    /// What there is.
    pub observed: &'a Observed,
    /// The newest plan that is known; more than was observed when a watch lags behind our own write.
    pub plan: Option<&'a Plan>,
    /// The images.
    pub images: &'a Images,
    /// What the volume of a new broker is claimed from.
    pub storage: Option<&'a Storage>,
    /// Where brokers may be.
    pub allowed: &'a AllowedBrokers,
    /// Devices that are connected, by the last readings of the workers.
    pub connected: u32,
    /// Whether another fleet has the turn to roll out a release.
    pub is_others_turn: bool,
    /// What a load test holds the fleet to.
    pub hold: Option<Hold>,
    /// Now.
    pub now: Micros,
}

/// Decides everything.
pub fn decide(situation: &Situation<'_>) -> Steps {
    let Situation { owner, document, observed, images, now, .. } = *situation;
    let spec = &document.fleet.spec;
    let mut notes = warn_of_autoscalers(&observed.autoscalers);
    let (plan, is_new_plan) = next_plan(situation);
    let revision = revision(owner, &document.hash, observed);
    let size = Size::of(spec);
    let replicas = devices_most(situation).div_ceil(spec.devices_per_pod.max(1));
    let template = pod::build(&Worker {
        fleet: &owner.name,
        spec,
        document: &revision.name,
        has_own_broker: document.has_own_broker,
        image: image(document, images),
        pull_policy: spec.pod.image_pull_policy.map(Into::into).or(images.pull_policy.as_deref()),
        size,
        allowed: allowed_brokers(situation),
    });
    let turn = turn(situation, &template);
    let turn = if is_pinned(situation) { Turn::Waits } else { turn };
    let OwnBroker { objects: broker_objects, devices_max: broker_devices_max, is_rolling } =
        own_broker(situation, turn);
    // Both at once would take more devices away than a pod's share: the broker comes first, and the workers stay until
    // their devices are back.
    let is_held = is_rolling || are_returning(situation, &plan);
    let kept = observed.stateful_set.as_deref().and_then(template_of).filter(|_| is_held || turn == Turn::Waits);
    let workers = stateful_set::build(owner, replicas, kept.cloned().unwrap_or(template));
    notes.extend(tell(situation, &plan, &revision));
    let is_wanted = |pod: &WorkerPod| pod.ordinal < replicas && pod.document.as_ref() == Some(&revision.name);
    let CutOff { forces, drains, next: next_loss } = cut_off(observed, is_wanted, now);
    let looks = is_held || turn != Turn::None;
    let look_again = next_loss.into_iter().chain(looks.then_some(RETURN_LOOK)).min();
    notes.extend(forces.iter().map(Note::forced));
    let mut objects = Vec::from_iter(revision_object(owner, document, observed, &revision));
    objects.extend(workers_objects(owner, observed));
    objects.extend(broker_objects);
    let mut deletions = old_revisions(observed, &revision.name);
    if !document.has_own_broker {
        deletions.extend(unwanted_broker(observed));
    }
    Steps {
        objects,
        deletions,
        revision,
        plan,
        is_new_plan,
        stateful_set: Object::change(&workers, observed.stateful_set.as_deref()),
        replicas,
        size,
        broker_devices_max,
        forces,
        drains,
        notes,
        is_held,
        turn,
        look_again,
    }
}

/// Whether the fleet rolls because of the controller alone. Who edits a Fleet has it rolled out at once, with whatever else
/// is new.
fn turn(situation: &Situation<'_>, template: &PodTemplateSpec) -> Turn {
    let Situation { fleet, owner, observed, is_others_turn, .. } = *situation;
    let Some(workers) = observed.stateful_set.as_deref() else { return Turn::None };
    let seen = fleet.status.as_ref().and_then(|status| status.observed_generation);
    let is_edited = seen != fleet.metadata.generation;
    let replicas = workers.spec.as_ref().and_then(|spec| spec.replicas).and_then(|number| u32::try_from(number).ok());
    let wanted = stateful_set::build(owner, replicas.unwrap_or_default(), template.clone());
    let broker = wanted_broker(situation)
        .and_then(|(wanted, _)| Object::change(&wanted, observed.broker.stateful_set.as_deref()));
    let is_new = !is_edited
        && (Object::change(&wanted, Some(workers)).is_some()
            || broker.is_some() && observed.broker.stateful_set.is_some());
    let rolls = [Some(workers), observed.broker.stateful_set.as_deref()].into_iter().flatten().any(is_rolling);
    match () {
        () if is_new && is_others_turn => Turn::Waits,
        () if is_new || rolls => {
            let done = workers.status.as_ref().and_then(|status| status.updated_replicas).unwrap_or_default();
            Turn::Rolls { done: u32::try_from(done).unwrap_or_default(), has_begun: rolls }
        }
        () => Turn::None,
    }
}

/// Where the workers may find their broker: one of our own is beside all limits, and then the only one.
fn allowed_brokers(situation: &Situation<'_>) -> AllowedBrokers {
    let Situation { owner, document, allowed, .. } = *situation;
    if document.has_own_broker {
        AllowedBrokers::default().with_host(broker::url(owner).host())
    } else {
        allowed.clone()
    }
}

/// The image of a fleet's workers.
pub fn image<'a>(document: &'a Document, images: &'a Images) -> &'a str {
    document.fleet.spec.pod.image.as_deref().unwrap_or(&images.worker)
}

/// The plan that the fleet is to run, and whether it is new.
///
/// A plan that was lost is made again from what the status says, so that the timetables go on and no worker takes the
/// new one for an older one.
fn next_plan(situation: &Situation<'_>) -> (Plan, bool) {
    let Situation { fleet, owner, document, observed, plan, now, .. } = *situation;
    let spec = &document.fleet.spec;
    let seen = observed.plan.as_ref().map(|(plan, _)| plan);
    if let Some(newest) = plan.into_iter().chain(seen).max_by_key(|plan| plan.version) {
        let mut next = newest.clone();
        let at = now.after(LEAD);
        // That of a test is written with it.
        let is_new = !is_pinned(situation)
            && leave_phases(&mut next, at) | next.follow(at, spec) | next.go_back(now, spec.connect.rate);
        return (next, is_new || seen.is_none());
    }
    let told = fleet.status.as_ref().and_then(|status| Some((status.run?, instant(status.start.as_ref()?)?, status)));
    let plan = match told {
        Some((run, start, status)) => {
            let mut plan = Plan::of(run, start, spec);
            plan.version = status.plan_version + 1;
            plan
        }
        None => Plan::of(run_of(owner), now.after(LEAD), spec),
    };
    (plan, true)
}

/// Whether a load test goes on, which is about what its fleet was when it began.
fn is_pinned(situation: &Situation<'_>) -> bool {
    situation.hold.is_some_and(|hold| hold.devices.is_none())
}

/// The most devices that the fleet has: there are pods for those of a load test from before its start on.
fn devices_most(situation: &Situation<'_>) -> u32 {
    situation.hold.map_or(situation.document.fleet.spec.devices, |hold| hold.devices_most)
}

/// Takes what a load test has left out of a plan; whether there was anything.
fn leave_phases(plan: &mut Plan, at: Micros) -> bool {
    let has_phases = plan.phases().next().is_some();
    if has_phases {
        plan.take_back(at);
        plan.end_phases(u32::MAX);
        plan.reset_rates(at);
    }
    has_phases
}

/// Tells the messages of this fleet from those of any other of the same name, before or after it.
fn run_of(owner: &Owner) -> u32 {
    let digest = Sha256::digest(&owner.uid);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).max(1)
}

fn instant(text: &str) -> Option<Micros> {
    let timestamp: Timestamp = text.parse().ok()?;
    u64::try_from(timestamp.as_microsecond()).ok().map(Micros)
}

fn revision(owner: &Owner, hash: &str, observed: &Observed) -> Revision {
    let name = names::document(&owner.name, hash);
    let numbers = observed.documents.iter().filter_map(|found| config_map::revision(found));
    let newest = numbers.max().unwrap_or(0);
    let known = observed.document(&name).and_then(config_map::revision);
    let (number, step) = match known {
        Some(number) if number == newest => (newest, RevisionStep::Keep),
        Some(_) => (newest + 1, RevisionStep::Renumber),
        None => (newest + 1, RevisionStep::Create),
    };
    Revision { name, number, step }
}

/// The ConfigMap of the wanted document, where it is to be written.
fn revision_object(owner: &Owner, document: &Document, observed: &Observed, revision: &Revision) -> Option<Object> {
    let wanted = config_map::document(owner, &document.hash, revision.number, &document.assignment, &document.spec);
    (revision.step != RevisionStep::Keep).then(|| Object::of(&wanted, observed.document(&revision.name)))
}

/// The ConfigMaps of all but the newest revisions; never one that something uses.
fn old_revisions(observed: &Observed, wanted: &str) -> Vec<Deletion> {
    let in_template = observed.stateful_set.as_deref().and_then(template_document);
    let in_pods = observed.pods.iter().filter_map(|pod| pod.document.as_deref());
    let used: BTreeSet<&str> = in_pods.chain(in_template).chain([wanted]).collect();
    let mut by_age: Vec<&ConfigMap> = observed.documents.iter().map(|found| &**found).collect();
    by_age.sort_by_key(|found| std::cmp::Reverse(config_map::revision(found)));
    // The wanted one may not be there yet, and is one of those that are kept.
    let kept = REVISIONS_MAX - usize::from(observed.document(wanted).is_none());
    let old = by_age.into_iter().skip(kept).filter(|found| !used.contains(found.name_any().as_str()));
    old.filter_map(Deletion::of).collect()
}

/// The objects of a broker of its own that the fleet no longer needs.
fn unwanted_broker(observed: &Observed) -> impl Iterator<Item = Deletion> {
    let ObservedBroker { stateful_set, service, policy, access, .. } = &observed.broker;
    let stateful_set = stateful_set.as_deref().and_then(Deletion::of);
    let service = service.as_deref().and_then(Deletion::of);
    let policy = policy.as_deref().and_then(Deletion::of);
    stateful_set.into_iter().chain(service).chain(policy).chain(access.as_deref().and_then(Deletion::of))
}

fn template_of(stateful_set: &StatefulSet) -> Option<&PodTemplateSpec> {
    Some(&stateful_set.spec.as_ref()?.template)
}

fn template_document(stateful_set: &StatefulSet) -> Option<&str> {
    let template = template_of(stateful_set)?;
    template.metadata.as_ref()?.annotations.as_ref()?.get(DOCUMENT_ANNOTATION).map(String::as_str)
}

fn workers_objects(owner: &Owner, observed: &Observed) -> impl Iterator<Item = Object> {
    let service = Object::change(&service::build(owner), observed.service.as_deref());
    let budget = Object::change(&pod_disruption_budget::build(owner), observed.budget.as_deref());
    let policy = Object::change(&network_policy::build(owner), observed.policy.as_deref());
    service.into_iter().chain(budget).chain(policy)
}

/// The broker of its own.
#[derive(Default)]
struct OwnBroker {
    /// Its objects that differ from what they should be.
    objects: Vec<Object>,
    /// Devices that it has room for.
    devices_max: Option<u32>,
    /// Whether its pod is being replaced, or is about to be.
    is_rolling: bool,
}

/// The StatefulSet of the broker of its own as it should be, and its memory in bytes; none where the document names another
/// broker.
fn wanted_broker(situation: &Situation<'_>) -> Option<(StatefulSet, u64)> {
    let Situation { owner, document, observed, images, .. } = *situation;
    if !document.has_own_broker {
        return None;
    }
    let existing = observed.broker.stateful_set.as_deref();
    let memory = existing.and_then(broker::memory_of).unwrap_or_else(|| broker::memory_for(devices_most(situation)));
    let special = &document.fleet.spec.pod;
    let kept = existing.map(broker::storage_of);
    let storage = kept.as_ref().map_or(situation.storage, Option::as_ref);
    let broker = Broker { image: &images.broker, pull_policy: images.pull_policy.as_deref(), memory, storage };
    Some((broker::build(owner, special, &broker), memory))
}

fn own_broker(situation: &Situation<'_>, turn: Turn) -> OwnBroker {
    let Situation { owner, document, observed, .. } = *situation;
    let Some((broker, memory)) = wanted_broker(situation) else { return OwnBroker::default() };
    let existing = observed.broker.stateful_set.as_deref();
    let service = Object::change(&broker::service(owner), observed.broker.service.as_deref());
    let policy = network_policy::broker(owner, document.broker_access);
    let policy = Object::change(&policy, observed.broker.policy.as_deref());
    let access = config_map::access(owner, old_workers(observed) > 0);
    let access = Object::change(&access, observed.broker.access.as_deref());
    let broker = Object::change(&broker, existing).filter(|_| turn != Turn::Waits);
    let is_rolling = existing.is_some_and(|existing| broker.is_some() || is_rolling(existing));
    let objects = service.into_iter().chain(policy).chain(access).chain(broker).collect();
    OwnBroker { objects, devices_max: Some(broker::devices_max(memory)), is_rolling }
}

/// How many workers know no credentials of the fleet's own broker: those of an earlier release.
pub fn old_workers(observed: &Observed) -> u32 {
    u32::try_from(observed.pods.iter().filter(|pod| pod.secret.is_none()).count()).unwrap_or(u32::MAX)
}

/// Whether pods of a StatefulSet are still to be replaced.
fn is_rolling(stateful_set: &StatefulSet) -> bool {
    let Some(status) = &stateful_set.status else { return false };
    status.observed_generation < stateful_set.metadata.generation || status.current_revision != status.update_revision
}

/// Whether devices are still on their way back to a broker of the fleet's own whose pod is younger than their workers.
fn are_returning(situation: &Situation<'_>, plan: &Plan) -> bool {
    let Situation { document, observed, connected, now, .. } = *situation;
    let Some(broker) = observed.broker.pod.as_ref().and_then(|pod| pod.created) else { return false };
    let has_known_another = observed.pods.iter().any(|pod| pod.created.is_some_and(|created| created < broker));
    let rate = document.fleet.spec.connect.rate;
    let made = Micros(u64::try_from(broker.as_microsecond()).unwrap_or(0));
    let deadline = made.after(rate.time_for(plan.devices_wanted().into())).after(RETURN_PATIENCE);
    has_known_another && now < deadline && connected < plan.devices_wanted()
}

/// What becomes of pods whose node does not answer.
#[derive(Debug, Default)]
struct CutOff {
    forces: Vec<WorkerPod>,
    drains: Vec<WorkerPod>,
    /// When the next one is to be deleted.
    next: Option<Duration>,
}

/// A pod whose worker answers runs on, though the API server does not hear of it: its devices would be wanted twice. Where
/// it is to go, it lets its devices leave first. Where nobody answers, the pod is deleted by force after some time.
fn cut_off(observed: &Observed, is_wanted: impl Fn(&WorkerPod) -> bool, now: Micros) -> CutOff {
    let mut cut_off = CutOff::default();
    for pod in observed.pods.iter().chain(&observed.broker.pod) {
        let Some(since) = pod.unreachable_since else { continue };
        match pod.reply {
            Reply::Runs | Reply::Unasked => {
                cut_off.drains.extend(Some(pod.clone()).filter(|pod| pod.reply == Reply::Runs && !is_wanted(pod)));
                // Its silence would bring no event.
                cut_off.next = Some(RETURN_LOOK);
                continue;
            }
            Reply::Drained if !is_wanted(pod) => {
                cut_off.forces.push(pod.clone());
                continue;
            }
            Reply::Drained | Reply::None => {}
        }
        let seconds = UNREACHABLE_SECONDS + if pod.is_terminating { 0 } else { EVICTION_SECONDS };
        let deadline = u64::try_from(since.as_microsecond() + seconds * 1_000_000).unwrap_or(0);
        let left = Micros(deadline).since(now);
        if left == Span::ZERO {
            cut_off.forces.push(pod.clone());
        } else {
            let left = left.as_duration();
            cut_off.next = Some(cut_off.next.map_or(left, |soonest| soonest.min(left)));
        }
    }
    cut_off
}

/// What changes for people who watch.
fn tell(situation: &Situation<'_>, plan: &Plan, revision: &Revision) -> Vec<Note> {
    let Situation { document, observed, plan: known, .. } = *situation;
    let spec = &document.fleet.spec;
    let before = known.into_iter().chain(observed.plan.as_ref().map(|(plan, _)| plan)).max_by_key(|plan| plan.version);
    let Some(before) = before else { return vec![Note::created(spec.devices, spec.devices_per_pod)] };
    let mut notes = Vec::new();
    if before.devices_wanted() != plan.devices_wanted() {
        notes.push(Note::scaled(before.devices_wanted(), plan.devices_wanted(), spec.devices_per_pod));
    }
    match (before.is_paused(Micros::NEVER), plan.is_paused(Micros::NEVER)) {
        (false, true) => notes.push(Note::paused()),
        (true, false) => notes.push(Note::resumed()),
        _ => {}
    }
    if revision.step != RevisionStep::Keep && !observed.documents.is_empty() {
        notes.push(Note::rolled(revision.number, &revision.name));
    }
    notes
}

/// Autoscalers divide by pods unless they take an average of their own: then they are wrong by `devicesPerPod`.
fn warn_of_autoscalers(autoscalers: &[std::sync::Arc<HorizontalPodAutoscaler>]) -> Vec<Note> {
    let unfit = |hpa: &HorizontalPodAutoscaler| {
        let metrics = hpa.spec.iter().flat_map(|spec| spec.metrics.iter().flatten());
        let mut kinds = metrics.map(|metric| {
            let object = metric.object.as_ref().map(|source| source.target.type_.as_str());
            let external = metric.external.as_ref().map(|source| source.target.type_.as_str());
            object.or(external) == Some("AverageValue")
        });
        let first = kinds.next();
        // Without metrics an autoscaler looks at CPU.
        first != Some(true) || kinds.any(|is_fit| !is_fit)
    };
    autoscalers.iter().filter(|hpa| unfit(hpa)).map(|hpa| Note::unfit_autoscaler(&hpa.name_any())).collect()
}

#[cfg(test)]
mod tests;
