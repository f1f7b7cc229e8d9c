//! The watches, and who is asked to look at what.
//!
//! Each kind of object is watched once into a store of its own; whatever changes wakes the fleet that it belongs to.
//! kube's scheduler folds and repeats the wake-ups; a dispatcher hands them to the task of the fleet, which is the only
//! owner of what is known of it.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Node, Pod},
};
use kube::{
    Client, Resource, ResourceExt as _,
    runtime::{
        controller::{Action, Config, Error as RunError, ReconcileReason, ReconcileRequest, applier},
        reflector::{self, Lookup, ObjectRef, Store, store::Writer as StoreWriter},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    apply::Writer,
    fleet::{self, Context, Failed, Request},
    metrics::Metrics,
    observe::{Stores, prune_config_map, prune_managed_fields, prune_node, prune_pod},
    plan::Images,
    query,
    watch::watch,
};
use crate::{
    api::{self, client::wall_clock},
    key::Key,
    limits::Limits,
    resource::{
        Fleet, LoadTest,
        broker::Storage,
        names::{FIELD_MANAGER, FLEET_LABEL},
    },
};

/// Wake-ups that wait for kube's scheduler; when it is full the watches wait, and lose nothing.
const WAKES: usize = 1_024;
/// Questions that wait for the dispatcher; when it is full askers wait.
const QUESTIONS: usize = 256;
/// Questions that wait for one fleet; when it is full the asker is told that it is busy.
const QUESTIONS_OF_FLEET: usize = 64;
/// How long changes of pods are gathered before their fleet is woken: 500 pods that start are 2,000 changes, and each
/// look at a fleet looks at all of its pods.
const STIR_PAUSE: Duration = Duration::from_millis(100);
/// How often those look again that wait for a store to be listed.
const LISTED_LOOK: Duration = Duration::from_millis(100);
/// Objects that a page of a list holds: the memory of a start is bounded by it.
const PAGE: u32 = 200;

/// What a controller is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespaces with fleets; none means all.
    pub namespaces: Vec<String>,
    /// The images of the processes.
    pub images: Images,
    /// What the volumes of new brokers are claimed from; without it they are the pods' own.
    pub storage: Option<Storage>,
    /// What fleets may do, and to whom.
    pub limits: Limits,
    /// Who this controller is.
    pub identity: String,
}

/// How the fleets are asked; clones ask the same ones.
#[derive(Debug, Clone)]
pub struct Fleets {
    questions: mpsc::Sender<(ObjectRef<Fleet>, Request)>,
}

impl Fleets {
    /// Asks a fleet; `None` when there is no such fleet, or it is busy.
    pub async fn ask<T>(
        &self,
        namespace: &str,
        name: &str,
        make: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Option<T> {
        self.ask_key(ObjectRef::new(name).within(namespace), make).await
    }

    async fn ask_key<T>(&self, key: ObjectRef<Fleet>, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.questions.send((key, make(answer))).await.ok()?;
        answered.await.ok()
    }
}

/// Looks after all fleets until `stop`.
pub async fn run(
    client: Client,
    key: Key,
    settings: &Settings,
    metrics: Metrics,
    workers: api::Client,
    stop: CancellationToken,
) {
    let context = Context {
        writer: Writer::new(client.clone(), metrics.clone()),
        client,
        metrics,
        workers,
        clock: Arc::new(wall_clock),
        images: Arc::new(settings.images.clone()),
        storage: settings.storage.clone().map(Arc::new),
        key,
        turns: Arc::default(),
        going: Arc::default(),
        guard: fleet::Guard::new(settings.limits.clone()),
        identity: Arc::from(settings.identity.as_str()),
    };
    let mut tasks = JoinSet::new();
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let fleets = Fleets { questions };
    let mut stores = HashMap::new();
    let scopes: Vec<Option<String>> = match settings.namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    for scope in scopes {
        let (store, wakes) = watch_scope(&context, scope.as_deref(), &mut tasks);
        let store = Arc::new(store);
        stores.insert(scope.clone(), Arc::clone(&store));
        tasks.spawn(fleet::tell_of_missing_fleets(context.clone(), Arc::clone(&store)));
        tasks.spawn(query::serve(context.clone(), fleets.clone(), Arc::clone(&store), scope));
        tasks.spawn(schedule(fleets.clone(), store, wakes));
    }
    tasks.spawn(dispatch(context, stores, asked));
    // A watch or a dispatcher never ends by itself; if one does, the controller does, and starts anew.
    tokio::select! {
        () = stop.cancelled() => {}
        ended = tasks.join_next() => tracing::error!(?ended, "a part of the controller has ended"),
    }
    tasks.shutdown().await;
}

/// Hands each question to the task of its fleet, and starts one for a fleet that has none.
async fn dispatch(
    context: Context,
    stores: HashMap<Option<String>, Arc<Stores>>,
    mut asked: mpsc::Receiver<(ObjectRef<Fleet>, Request)>,
) {
    let mut fleets: HashMap<ObjectRef<Fleet>, mpsc::Sender<Request>> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            question = asked.recv() => {
                let Some((key, request)) = question else { break };
                let sender = fleets.get(&key).filter(|sender| !sender.is_closed()).cloned();
                let sender = match (sender, &request) {
                    (Some(sender), _) => sender,
                    (None, Request::Reconcile(_)) => {
                        let stores = stores.get(&None).or_else(|| stores.get(&key.namespace));
                        let Some(stores) = stores.map(Arc::clone) else { continue };
                        let (sender, requests) = mpsc::channel(QUESTIONS_OF_FLEET);
                        // A writer of its own, which counts the time of this fleet's calls alone.
                        let writer = Writer::new(context.client.clone(), context.metrics.clone());
                        let (context, key) = (Context { writer, ..context.clone() }, key.clone());
                        tasks.spawn(async move {
                            Box::pin(fleet::look_after(context, stores, key.clone(), requests)).await;
                            key
                        });
                        sender
                    }
                    (None, _) => continue,
                };
                // Dropping the question tells the asker that it gets no answer.
                drop(sender.try_send(request));
                fleets.insert(key, sender);
            }
            Some(ended) = tasks.join_next() => match ended {
                Ok(key) => {
                    if fleets.get(&key).is_some_and(mpsc::Sender::is_closed) {
                        fleets.remove(&key);
                    }
                }
                // A bug in one fleet's task must not take the others along; the next wake-up starts it anew.
                Err(error) => {
                    tracing::error!(%error, "the task of a fleet has ended");
                    fleets.retain(|_, sender| !sender.is_closed());
                }
            },
        }
        context.metrics.fleets.set(i64::try_from(fleets.len()).unwrap_or(i64::MAX));
    }
}

/// Lets kube's scheduler fold, order and repeat the wake-ups.
async fn schedule(fleets: Fleets, stores: Arc<Stores>, wakes: mpsc::Receiver<ObjectRef<Fleet>>) {
    let queue = ReceiverStream::new(wakes)
        .map(|obj_ref| Ok::<_, Error>(ReconcileRequest { obj_ref, reason: ReconcileReason::ObjectUpdated }));
    let reconcile = move |fleet: Arc<Fleet>, context: Arc<(Fleets, Arc<Stores>)>| {
        Box::pin(async move {
            let (fleets, stores) = &*context;
            // Before all is listed, what is there would look as if it were missing.
            stores.listed().await.map_err(|()| Failed { error: Error::Ended, retry: Duration::from_secs(1) })?;
            let answer = fleets.ask_key(ObjectRef::from_obj(&*fleet), Request::Reconcile).await;
            answer.unwrap_or(Err(Failed { error: Error::Busy, retry: Duration::from_secs(1) }))
        })
    };
    let retry = |_: Arc<Fleet>, failed: &Failed, _: Arc<(Fleets, Arc<Stores>)>| Action::requeue(failed.retry);
    let reader = stores.fleets.clone();
    let outcomes = applier(reconcile, retry, Arc::new((fleets, stores)), reader, queue, Config::default());
    tokio::pin!(outcomes);
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok((fleet, _)) => tracing::debug!(%fleet, "the fleet was looked at"),
            // Its own task has logged why.
            Err(RunError::ReconcilerFailed(..)) => {}
            Err(error) => tracing::debug!(%error, "a wake-up led to nothing"),
        }
    }
}

impl Stores {
    /// Waits until everything that is needed has been listed once; errs when the watches have ended.
    async fn listed(&self) -> Result<(), ()> {
        listed(&self.fleets).await?;
        listed(&self.load_tests).await?;
        listed(&self.stateful_sets).await?;
        listed(&self.config_maps).await?;
        listed(&self.services).await?;
        listed(&self.budgets).await?;
        listed(&self.policies).await?;
        // Autoscalers and nodes are worth looking at, but nothing waits for them: they may be forbidden.
        listed(&self.pods).await
    }
}

/// Waits until a store has been listed once; errs when its watch has ended.
///
/// Of several that wait, kube wakes only the last one (`DelayedInit` keeps one waker), so each of them looks again.
pub(super) async fn listed<K: Lookup<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> Result<(), ()> {
    loop {
        if let Ok(ended) = timeout(LISTED_LOOK, store.wait_until_ready()).await {
            return ended.map_err(|_| ());
        }
    }
}

/// Watches everything in one namespace, or in all of them.
fn watch_scope(
    context: &Context,
    namespace: Option<&str>,
    tasks: &mut JoinSet<()>,
) -> (Stores, mpsc::Receiver<ObjectRef<Fleet>>) {
    let (wakes, woken) = mpsc::channel(WAKES);
    let everything = watcher::Config::default().page_size(PAGE);
    let ours = everything.clone().labels(&format!("app.kubernetes.io/managed-by={FIELD_MANAGER},{FLEET_LABEL}"));
    let (stirs, stirred) = mpsc::channel(WAKES);
    tasks.spawn(fold(stirred, wakes.clone()));
    let mut scope = Scope { context, namespace, tasks };
    // Pods, and what counts them, change in droves; all else is somebody's wish or a repair.
    let pods = scope.watch(&stirs, &ours, prune_pod, fleet_of);
    let fleet = |fleet: &Fleet| Some(ObjectRef::from_obj(fleet));
    let stores = Stores {
        fleets: scope.watch(&wakes, &everything, prune_managed_fields, fleet),
        load_tests: scope.watch(&wakes, &everything, prune_managed_fields, fleet_tested_by),
        stateful_sets: scope.watch(&stirs, &ours, prune_managed_fields, fleet_of),
        config_maps: scope.watch(&wakes, &ours, prune_config_map, fleet_of),
        services: scope.watch(&wakes, &ours, prune_managed_fields, fleet_of),
        budgets: scope.watch(&stirs, &ours, prune_managed_fields, fleet_of),
        policies: scope.watch(&wakes, &ours, prune_managed_fields, fleet_of),
        autoscalers: scope.watch(&wakes, &everything, prune_managed_fields, fleet_scaled_by),
        nodes: scope.watch_nodes(&wakes, pods.clone()),
        pods,
    };
    (stores, woken)
}

/// Wakes each fleet once for all that stirs in [`STIR_PAUSE`].
async fn fold(mut stirred: mpsc::Receiver<ObjectRef<Fleet>>, wakes: mpsc::Sender<ObjectRef<Fleet>>) {
    while let Some(first) = stirred.recv().await {
        tokio::time::sleep(STIR_PAUSE).await;
        let mut fleets = HashSet::from([first]);
        while let Ok(fleet) = stirred.try_recv() {
            fleets.insert(fleet);
        }
        for fleet in fleets {
            if wakes.send(fleet).await.is_err() {
                return;
            }
        }
    }
}

/// What all watches of a scope have in common.
struct Scope<'a> {
    context: &'a Context,
    namespace: Option<&'a str>,
    tasks: &'a mut JoinSet<()>,
}

impl Scope<'_> {
    fn watch<K>(
        &mut self,
        wakes: &mpsc::Sender<ObjectRef<Fleet>>,
        config: &watcher::Config,
        prune: fn(&mut K),
        fleet_of: fn(&K) -> Option<ObjectRef<Fleet>>,
    ) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Lookup<DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let events = watch(&self.context.client, self.namespace, config.clone(), &self.context.metrics);
        let (store, writer) = reflector::store();
        let wake = move |object: &K| fleet_of(object).into_iter().collect();
        self.tasks.spawn(follow(events, prune, writer, wakes.clone(), wake));
        store
    }

    /// A node that is lost or found concerns every fleet with a pod there.
    fn watch_nodes(&mut self, wakes: &mpsc::Sender<ObjectRef<Fleet>>, pods: Store<Pod>) -> Store<Node> {
        let (store, writer) = reflector::store();
        // In namespaces of its own a controller may not see nodes.
        if self.namespace.is_some() {
            return store;
        }
        let mut taints_of: HashMap<String, usize> = HashMap::new();
        let wake = move |node: &Node| {
            let name = node.name_any();
            let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).count();
            // A node changes now and then; only its taints matter.
            let before = taints_of.insert(name.clone(), taints).unwrap_or(0);
            if before == taints { Vec::new() } else { fleets_on(&pods, &name) }
        };
        let events =
            watch(&self.context.client, None, watcher::Config::default().page_size(PAGE), &self.context.metrics);
        self.tasks.spawn(follow(events, prune_node, writer, wakes.clone(), wake));
        store
    }
}

/// Keeps a store like the cluster, and wakes the fleets that a change concerns.
async fn follow<K>(
    events: impl Stream<Item = watcher::Event<K>>,
    prune: fn(&mut K),
    mut store: StoreWriter<K>,
    wakes: mpsc::Sender<ObjectRef<Fleet>>,
    mut fleets_of: impl FnMut(&K) -> Vec<ObjectRef<Fleet>>,
) where
    K: Lookup<DynamicType = ()> + Clone + 'static,
{
    tokio::pin!(events);
    while let Some(event) = events.next().await {
        let event = event.modify(prune);
        store.apply_watcher_event(&event);
        let concerned = match &event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) | watcher::Event::Delete(object) => {
                fleets_of(object)
            }
            watcher::Event::Init | watcher::Event::InitDone => Vec::new(),
        };
        for fleet in concerned {
            if wakes.send(fleet).await.is_err() {
                return;
            }
        }
    }
}

/// The fleet whose label an object has.
fn fleet_of(object: &impl Resource) -> Option<ObjectRef<Fleet>> {
    let meta = object.meta();
    let name = meta.labels.as_ref()?.get(FLEET_LABEL)?;
    Some(ObjectRef::new(name).within(meta.namespace.as_deref()?))
}

/// The fleet that a load test names.
fn fleet_tested_by(test: &LoadTest) -> Option<ObjectRef<Fleet>> {
    Some(ObjectRef::new(test.fleet()?).within(test.metadata.namespace.as_deref()?))
}

/// The fleet that an autoscaler scales.
fn fleet_scaled_by(hpa: &HorizontalPodAutoscaler) -> Option<ObjectRef<Fleet>> {
    let target = &hpa.spec.as_ref()?.scale_target_ref;
    (target.kind == "Fleet").then_some(())?;
    Some(ObjectRef::new(&target.name).within(hpa.metadata.namespace.as_deref()?))
}

/// The fleets with pods on a node, each once.
fn fleets_on(pods: &Store<Pod>, node: &str) -> Vec<ObjectRef<Fleet>> {
    let is_there = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
    let fleets: HashSet<_> =
        pods.state().iter().filter(|pod| is_there(pod)).filter_map(|pod| fleet_of(&**pod)).collect();
    fleets.into_iter().collect()
}

#[cfg(test)]
pub(super) mod tests;
