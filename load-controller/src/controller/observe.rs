//! What there is of a fleet in the cluster, as the watches show it. Reads stores, changes nothing.

use std::sync::Arc;

use fleet_contract::{format::Unreadable, plan::Plan};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{ConfigMap, ContainerState, ContainerStatus, Node, Pod, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    jiff::Timestamp,
};
use kube::{
    Resource, ResourceExt as _,
    runtime::reflector::{Lookup, ObjectRef, Store},
};

use super::diagnosis::Diagnosis;
use crate::resource::{
    Fleet, LoadTest, Owner, config_map,
    names::{self, FLEET_LABEL, WORKER_CONTAINER},
    pod::{DOCUMENT_ANNOTATION, SECRETS_ANNOTATION},
};

/// The taint of a node that does not answer; Kubernetes says when it was added.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// The label of a StatefulSet's pod: its ordinal.
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// All objects that are watched in one namespace, or in all of them.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The fleets.
    pub fleets: Store<Fleet>,
    /// What is done to them.
    pub load_tests: Store<LoadTest>,
    /// Of workers and brokers.
    pub stateful_sets: Store<StatefulSet>,
    /// Plans with their data; documents and totals without.
    pub config_maps: Store<ConfigMap>,
    /// Of workers and brokers.
    pub services: Store<Service>,
    /// Of workers.
    pub budgets: Store<PodDisruptionBudget>,
    /// Of workers and brokers.
    pub policies: Store<NetworkPolicy>,
    /// Of workers and brokers, pruned.
    pub pods: Store<Pod>,
    /// All of them: any may name a fleet.
    pub autoscalers: Store<HorizontalPodAutoscaler>,
    /// All of them, pruned; empty where the controller may not see nodes.
    pub nodes: Store<Node>,
}

/// What there is of one fleet.
#[derive(Debug, Default)]
pub struct Observed {
    /// The workers.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// Their Service.
    pub service: Option<Arc<Service>>,
    /// Their budget.
    pub budget: Option<Arc<PodDisruptionBudget>>,
    /// Their policy.
    pub policy: Option<Arc<NetworkPolicy>>,
    /// The broker of its own.
    pub broker: ObservedBroker,
    /// The plan, and the version of the object that holds it.
    pub plan: Option<(Plan, Option<String>)>,
    /// Why the plan cannot be read, if there is one that cannot.
    pub plan_error: Option<Unreadable>,
    /// The version of the object that the plan should be in, whatever stands there.
    pub plan_object: Option<String>,
    /// Whether there is an object with totals.
    pub has_totals: bool,
    /// The ConfigMaps of all revisions that are kept, without their data.
    pub documents: Vec<Arc<ConfigMap>>,
    /// The workers' pods, by ordinal and, where an old one still ends, by age.
    pub pods: Vec<WorkerPod>,
    /// The autoscalers that scale it.
    pub autoscalers: Vec<Arc<HorizontalPodAutoscaler>>,
}

/// What there is of a fleet's own broker.
#[derive(Debug, Default, Clone)]
pub struct ObservedBroker {
    /// The broker.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// Its Service.
    pub service: Option<Arc<Service>>,
    /// Its policy.
    pub policy: Option<Arc<NetworkPolicy>>,
    /// Whom it admits.
    pub access: Option<Arc<ConfigMap>>,
    /// Its pod.
    pub pod: Option<WorkerPod>,
}

impl Observed {
    /// The ConfigMap of a revision, by its name.
    pub fn document(&self, name: &str) -> Option<&ConfigMap> {
        self.documents.iter().map(|found| &**found).find(|found| found.metadata.name.as_deref() == Some(name))
    }
}

/// Whether a worker answers, whatever its node does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reply {
    /// It was asked, and does not.
    #[default]
    None,
    /// Nobody has asked it yet.
    Unasked,
    /// It does.
    Runs,
    /// It does, and says that all of its devices have left.
    Drained,
}

/// A pod of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerPod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its shard.
    pub ordinal: u32,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// Its node, once it has one.
    pub node: Option<String>,
    /// Since when its node has not answered.
    pub unreachable_since: Option<Timestamp>,
    /// Whether its worker answers; the watches do not tell.
    pub reply: Reply,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether its readiness probe succeeds.
    pub is_ready: bool,
    /// Whether its container has started, now or before.
    pub has_run: bool,
    /// Whether it has been told to end.
    pub is_terminating: bool,
    /// The ConfigMap of the document that it runs.
    pub document: Option<String>,
    /// The fleet's Secret, which it mounts; pods of earlier releases do not.
    pub secret: Option<String>,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// Why its container does not run.
    pub diagnosis: Option<Diagnosis>,
}

/// Looks at everything that belongs to `owner`.
pub fn observe(stores: &Stores, owner: &Owner) -> Observed {
    let workers = names::workers(&owner.name);
    let broker = names::broker(&owner.name);
    let plan = own(&stores.config_maps, owner, &names::plan(&owner.name));
    let version = plan.as_deref().and_then(|object| object.metadata.resource_version.clone());
    let read = plan.as_deref().map(config_map::read_plan);
    let mut observed = Observed {
        stateful_set: own(&stores.stateful_sets, owner, &workers),
        service: own(&stores.services, owner, &workers),
        budget: own(&stores.budgets, owner, &workers),
        policy: own(&stores.policies, owner, &workers),
        broker: ObservedBroker {
            stateful_set: own(&stores.stateful_sets, owner, &broker),
            service: own(&stores.services, owner, &broker),
            policy: own(&stores.policies, owner, &broker),
            access: own(&stores.config_maps, owner, &broker),
            pod: None,
        },
        plan: read.as_ref().and_then(|read| read.as_ref().ok().cloned()).map(|plan| (plan, version.clone())),
        plan_error: read.and_then(Result::err),
        plan_object: version,
        has_totals: own(&stores.config_maps, owner, &names::totals(&owner.name)).is_some(),
        documents: documents(stores, owner),
        autoscalers: stores.autoscalers.state_filter(|_| true).into_iter().filter(|hpa| scales(hpa, owner)).collect(),
        ..Observed::default()
    };
    look_at_pods(stores, owner, &mut observed);
    observed
}

/// The object of that name, unless it belonged to an earlier fleet of the same name and is about to go.
pub fn own<K>(store: &Store<K>, owner: &Owner, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(&owner.namespace)).filter(|object| is_owned(object.meta(), owner))
}

/// Whether an object is the owner's own.
pub(super) fn is_owned(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, owner: &Owner) -> bool {
    meta.owner_references.iter().flatten().any(|reference| reference.uid == owner.uid)
}

fn is_labelled(object: &impl Resource, owner: &Owner) -> bool {
    let meta = object.meta();
    meta.namespace.as_deref() == Some(&owner.namespace)
        && meta.labels.as_ref().and_then(|labels| labels.get(FLEET_LABEL)) == Some(&owner.name)
}

fn documents(stores: &Stores, owner: &Owner) -> Vec<Arc<ConfigMap>> {
    let is_own = |object: &ConfigMap| is_labelled(object, owner) && is_owned(object.meta(), owner);
    let is_document = |object: &Arc<ConfigMap>| is_own(object) && config_map::revision(object).is_some();
    stores.config_maps.state().into_iter().filter(is_document).collect()
}

fn scales(hpa: &HorizontalPodAutoscaler, owner: &Owner) -> bool {
    let Some(spec) = &hpa.spec else { return false };
    let target = &spec.scale_target_ref;
    hpa.metadata.namespace.as_deref() == Some(&owner.namespace)
        && target.kind == "Fleet"
        && target.name == owner.name
        && target.api_version.as_deref().is_none_or(|version| version.starts_with(names::GROUP))
}

fn look_at_pods(stores: &Stores, owner: &Owner, observed: &mut Observed) {
    let (workers, broker) = (names::workers(&owner.name), names::broker(&owner.name));
    for pod in stores.pods.state().into_iter().filter(|pod| is_labelled(&**pod, owner)) {
        let Some(worker) = worker_pod(stores, &pod) else { continue };
        // The label alone says nothing: somebody else's pod may carry it.
        match stateful_set_of(&pod) {
            Some(name) if name == workers => observed.pods.push(worker),
            Some(name) if name == broker => observed.broker.pod = Some(worker),
            _ => {}
        }
    }
    observed.pods.sort_by_key(|pod| (pod.ordinal, pod.created));
}

/// The StatefulSet that controls a pod.
fn stateful_set_of(pod: &Pod) -> Option<&str> {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    (owner.kind == "StatefulSet").then_some(owner.name.as_str())
}

fn worker_pod(stores: &Stores, pod: &Pod) -> Option<WorkerPod> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let unreachable_since = node.as_ref().and_then(|node| unreachable_since(stores, node));
    Some(WorkerPod {
        name: pod.name_any(),
        uid: pod.metadata.uid.clone()?,
        ordinal: pod.labels().get(POD_INDEX)?.parse().ok()?,
        ip: pod.status.as_ref().and_then(|status| status.pod_ip.clone()),
        node,
        unreachable_since,
        reply: Reply::default(),
        created: pod.creation_timestamp().map(|time| time.0),
        is_ready: condition(pod, "Ready").is_some_and(|(status, _)| status == "True"),
        has_run: container_statuses(pod).iter().any(has_run),
        is_terminating: pod.metadata.deletion_timestamp.is_some(),
        document: pod.annotations().get(DOCUMENT_ANNOTATION).cloned(),
        secret: pod.annotations().get(SECRETS_ANNOTATION).cloned(),
        unschedulable: unschedulable(pod),
        diagnosis: container_statuses(pod).iter().find_map(Diagnosis::of_container),
    })
}

fn unreachable_since(stores: &Stores, node: &str) -> Option<Timestamp> {
    let node = stores.nodes.get(&ObjectRef::new(node))?;
    let taints = node.spec.as_ref()?.taints.as_ref()?;
    // The taint stands there twice; only that which evicts says since when.
    taints.iter().filter(|taint| taint.key == UNREACHABLE).find_map(|taint| Some(taint.time_added.as_ref()?.0))
}

fn condition<'a>(pod: &'a Pod, of: &str) -> Option<(&'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == of)?;
    Some((&found.status, found.message.as_deref().unwrap_or_default()))
}

fn unschedulable(pod: &Pod) -> Option<String> {
    condition(pod, "PodScheduled").filter(|(status, _)| *status == "False").map(|(_, message)| message.to_owned())
}

fn container_statuses(pod: &Pod) -> &[ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

fn has_run(status: &ContainerStatus) -> bool {
    let is_begun = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    status.restart_count > 0 || status.state.as_ref().is_some_and(is_begun)
}

/// Leaves of a pod what is looked at: a thousand pods are a few megabytes then.
pub fn prune_pod(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    if let Some(owners) = &mut pod.metadata.owner_references {
        owners.retain(|owner| owner.controller == Some(true));
    }
    pod.annotations_mut().retain(|key, _| key == DOCUMENT_ANNOTATION || key == SECRETS_ANNOTATION);
    pod.labels_mut().retain(|key, _| key == FLEET_LABEL || key == POD_INDEX);
    if let Some(spec) = &mut pod.spec {
        let node_name = spec.node_name.take();
        *spec = k8s_openapi::api::core::v1::PodSpec { node_name, ..Default::default() };
    }
    let Some(status) = &mut pod.status else { return };
    let mut conditions = status.conditions.take();
    if let Some(conditions) = &mut conditions {
        conditions.retain(|condition| condition.type_ == "Ready" || condition.type_ == "PodScheduled");
    }
    let mut container_statuses = status.container_statuses.take();
    if let Some(statuses) = &mut container_statuses {
        for container in statuses.iter_mut() {
            let (state, last_state) = (container.state.take(), container.last_state.take());
            // The image and the last end matter only to a container that does not run.
            let waits = state.as_ref().is_some_and(|state| state.waiting.is_some());
            let image = if waits { std::mem::take(&mut container.image) } else { String::new() };
            *container = ContainerStatus {
                name: WORKER_CONTAINER.to_owned(),
                image,
                restart_count: container.restart_count,
                state,
                last_state: last_state.filter(|_| waits),
                ..ContainerStatus::default()
            };
        }
    }
    let pod_ip = status.pod_ip.take();
    *status = k8s_openapi::api::core::v1::PodStatus { conditions, container_statuses, pod_ip, ..Default::default() };
}

/// Leaves of a ConfigMap what is looked at: the plan, and whom a broker admits; documents are known by their names.
pub fn prune_config_map(object: &mut ConfigMap) {
    object.metadata.managed_fields = None;
    object.binary_data = None;
    if let Some(data) = &mut object.data {
        data.retain(|key, _| key == config_map::PLAN_KEY || key == config_map::ANONYMOUS_KEY);
    }
}

/// Leaves of a node what is looked at: its taints.
pub fn prune_node(node: &mut Node) {
    node.metadata.managed_fields = None;
    node.metadata.annotations = None;
    node.metadata.labels = None;
    node.status = None;
}

/// Leaves out who owns which field, which nobody looks at here.
pub fn prune_managed_fields(object: &mut impl Resource) {
    object.meta_mut().managed_fields = None;
}
