//! Does what was decided: server-side apply with one field manager, in the order that growth and shrinkage need.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fleet_contract::{
    plan::Plan,
    stats::{Ended, PhaseStats},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Event, ObjectReference, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::events::{Event as Told, Recorder, Reporter},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    Error,
    metrics::Metrics,
    object::{Deletion, Key, Object},
    observe::{WorkerPod, is_owned},
    refusal::Refusal,
};
use crate::resource::{
    Fleet, FleetStatus, LoadTest, LoadTestStatus, Owner, config_map,
    names::{self, FIELD_MANAGER, GROUP, STARTED_ANNOTATION, VERSION},
    secret,
};
use crate::run::{act::Target, saved::Saved};

/// How long the API server may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most warnings about one object that are looked at: each cause of an object has one.
const WARNINGS_MAX: u32 = 50;

/// Writes to the API server, each of them timed; clones count the same time.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    metrics: Metrics,
    /// Microseconds of all calls so far.
    spent: Arc<AtomicU64>,
}

impl Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// A writer through `client`.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, spent: Arc::default() }
    }

    /// The time of all calls so far, those that failed among them.
    pub fn spent(&self) -> Duration {
        Duration::from_micros(self.spent.load(Relaxed))
    }

    /// Writes an object: creates it, or changes the very object that it was compared with.
    ///
    /// An object of that name that is not the fleet's is never written: a creation fails where one exists, and a change
    /// names the UID of the object, which no other one has.
    pub async fn object(&self, owner: &Owner, object: &Object) -> Result<(), Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &owner.namespace, object.resource());
        if object.uid().is_some() {
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            let patch = Patch::Apply(object.body());
            let applied = self.timed("apply", api.patch(&object.key().name, &parameters, &patch)).await;
            return applied.map(drop).map_err(|error| Error::write(object.key(), error));
        }
        match self.create(owner, object.key(), &api, object.body()).await? {
            Some(created) => self.own_fields(&api, object.key(), &created).await,
            None => Ok(()),
        }
    }

    /// Creates an object; `None` if it exists and is the fleet's, which the watch has not shown yet.
    async fn create(
        &self,
        owner: &Owner,
        key: &Key,
        api: &Api<DynamicObject>,
        body: &serde_json::Value,
    ) -> Result<Option<DynamicObject>, Error> {
        let object = serde_json::from_value(body.clone()).expect("an object of Kubernetes has metadata");
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        match self.timed("create", api.create(&parameters, &object)).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.holder(owner, key, api).await.map(|()| None)
            }
            created => created.map(Some).map_err(|error| Error::write(key, error)),
        }
    }

    /// Whose an object is that exists already: `Ok` for the fleet's own.
    async fn holder(&self, owner: &Owner, key: &Key, api: &Api<DynamicObject>) -> Result<(), Error> {
        let named = ListParams::default().fields(&format!("metadata.name={}", key.name));
        let listed = self.timed("list", api.list_metadata(&named)).await;
        let listed = listed.map_err(|error| Error::api(format!("look up the {key}"), error))?;
        let conflict = || Error::Conflict { object: key.to_string() };
        // It has gone meanwhile.
        let found = listed.items.into_iter().next().ok_or_else(conflict)?;
        match ownership(&found, owner) {
            Ownership::Own => Ok(()),
            Ownership::Leaving => Err(conflict()),
            Ownership::Foreign(holder) => Err(Error::Refused(Refusal::name_taken(key, holder.as_deref()))),
        }
    }

    /// Turns the fields of a creation into those of server-side apply, so that a later change can take a field away.
    ///
    /// A creation is recorded as an `Update`, whose fields would stay beside those of the same manager's `Apply`. The
    /// entries of others, made in this instant, are left out: each comes back with the next write of its manager.
    async fn own_fields(&self, api: &Api<DynamicObject>, key: &Key, created: &DynamicObject) -> Result<(), Error> {
        let is_ours = |entry: &&ManagedFieldsEntry| {
            entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Update")
        };
        let Some(mut entry) = created.managed_fields().iter().find(is_ours).cloned() else { return Ok(()) };
        entry.operation = Some("Apply".into());
        let patch = json!({"metadata": {"uid": created.uid(), "managedFields": [entry]}});
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        match self.timed("patch", api.patch_metadata(&key.name, &parameters, &patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 || status.is_not_found() => Ok(()),
            patched => patched.map(drop).map_err(|error| Error::write(key, error)),
        }
    }

    /// Creates the Secret of a fleet; false if there is one of its name already.
    pub async fn create_secret(&self, owner: &Owner, wanted: &Secret) -> Result<bool, Error> {
        let api: Api<Secret> = self.api(&owner.namespace);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        match self.timed("create", api.create(&parameters, wanted)).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            created => {
                created.map(|_| true).map_err(|error| Error::write(&Key::of::<Secret>(wanted.name_any()), error))
            }
        }
    }

    /// Creates the Secret of a fleet, or makes the fleet's own what it should be. It is not read: the patch itself tests
    /// whose it is.
    pub async fn secret(&self, owner: &Owner, wanted: &Secret) -> Result<(), Error> {
        if self.create_secret(owner, wanted).await? {
            return Ok(());
        }
        let key = Key::of::<Secret>(wanted.name_any());
        match self.patch_secret(owner, &key.name, secret::patch(owner, wanted)).await {
            Err(kube::Error::Api(status)) if status.code == 422 => Err(Error::Refused(Refusal::name_taken(&key, None))),
            // It has gone meanwhile.
            Err(kube::Error::Api(status)) if status.is_not_found() => Err(Error::Conflict { object: key.to_string() }),
            patched => patched.map(drop).map_err(|error| Error::write(&key, error)),
        }
    }

    /// The token that an earlier release has given the fleet's workers, if it has. A patch that changes nothing answers
    /// with the object, and fails for one that is not the fleet's.
    pub async fn former_token(&self, owner: &Owner) -> Result<Option<Arc<str>>, Error> {
        let name = names::former_token(&owner.name);
        match self.patch_secret(owner, &name, secret::test(owner)).await {
            Ok(found) => Ok(secret::token(&found).map(Into::into)),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 422 => Ok(None),
            Err(error) => Err(Error::api("look up the former token", error)),
        }
    }

    async fn patch_secret(&self, owner: &Owner, name: &str, patch: Value) -> Result<Secret, kube::Error> {
        let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
        let api: Api<Secret> = self.api(&owner.namespace);
        self.timed("patch", api.patch(name, &PatchParams::default(), &Patch::<()>::Json(patch))).await
    }

    /// Writes the plan as the successor of the one with `version`; the new version of the object.
    pub async fn plan(&self, owner: &Owner, plan: &Plan, version: Option<String>) -> Result<Option<String>, Error> {
        self.succeed(owner, &config_map::plan(owner, plan, version)).await
    }

    /// Keeps totals, what was measured in a phase, or what a load test has measured, as the successor of the object with the version
    /// that it names; the new version.
    pub async fn keep(&self, owner: &Owner, object: &ConfigMap) -> Result<Option<String>, Error> {
        self.succeed(owner, object).await
    }

    /// What is kept of this very load test, and the version of the object. What cannot be read is an error and never none: it would
    /// be written over, or a test given up that a newer release goes on with.
    pub async fn read_load_test(&self, owner: &Owner) -> Result<(Option<Saved>, Option<String>), Error> {
        let name = names::load_test(&owner.name);
        let Some(object) = self.read_own::<ConfigMap>(owner, &name).await? else { return Ok((None, None)) };
        let key = Key::of::<ConfigMap>(name);
        let saved = config_map::read_load_test(&object);
        let saved = saved.map_err(|error| Error::Refused(Refusal::unreadable_test(&key, &error)))?;
        Ok((Some(saved), object.resource_version()))
    }

    /// Creates an object that never changes; one that is there already is the owner's, and is the same.
    pub async fn create_own(&self, owner: &Owner, object: &ConfigMap) -> Result<(), Error> {
        let object = Object::of(object, None);
        let api = Api::namespaced_with(self.client.clone(), &owner.namespace, object.resource());
        self.create(owner, object.key(), &api, object.body()).await.map(drop)
    }

    /// Marks a load test as started; this very one.
    pub async fn mark_started(&self, owner: &Owner, at: &str) -> Result<(), Error> {
        let api = self.untyped::<LoadTest>(&owner.namespace);
        let patch = json!({"metadata": {"uid": owner.uid, "annotations": {STARTED_ANNOTATION: at}}});
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let marked = self.timed("patch", api.patch_metadata(&owner.name, &parameters, &Patch::Merge(patch))).await;
        marked.map(drop).map_err(|error| Error::write(&Key::of::<LoadTest>(owner.name.clone()), error))
    }

    /// Only as the successor of what was read: two controllers that both believe to lead cannot mix.
    async fn succeed(&self, owner: &Owner, object: &ConfigMap) -> Result<Option<String>, Error> {
        let api: Api<ConfigMap> = self.api(&owner.namespace);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let wish = Object::of(object, None);
        if object.metadata.resource_version.is_some() {
            let written = self.timed("update", api.replace(&object.name_any(), &parameters, object)).await;
            match written {
                // Somebody has deleted it; what we know is all that there is.
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                written => {
                    return written
                        .map(|object| object.resource_version())
                        .map_err(|error| Error::write(wish.key(), error));
                }
            }
        }
        let mut fresh = object.clone();
        fresh.metadata.resource_version = None;
        let fresh = Object::of(&fresh, None);
        let api = Api::namespaced_with(self.client.clone(), &owner.namespace, fresh.resource());
        let conflict = || Error::Conflict { object: fresh.key().to_string() };
        // One that is there already is newer than what was read.
        let created = self.create(owner, fresh.key(), &api, fresh.body()).await?.ok_or_else(conflict)?;
        Ok(created.resource_version())
    }

    /// The totals that are kept of this very fleet, and the version of the object. What cannot be read is an error and never
    /// none: with zero in its place, the report would lose what was counted.
    pub async fn read_totals(&self, owner: &Owner) -> Result<(Ended, Option<String>), Error> {
        let api: Api<ConfigMap> = self.api(&owner.namespace);
        let read = self.timed("get", api.get_opt(&names::totals(&owner.name))).await;
        let object = read.map_err(|error| Error::api("read the totals", error))?;
        let Some(object) = object.filter(|object| is_owned(object.meta(), owner)) else {
            return Ok(Default::default());
        };
        let key = Key::of::<ConfigMap>(names::totals(&owner.name));
        let ended = config_map::read_totals(&object);
        let ended = ended.map_err(|error| Error::Refused(Refusal::unreadable(&key, &error)))?;
        Ok((ended, object.resource_version()))
    }

    /// What is kept apart of the totals: each phase with the version of its object. One that is missing is an error, as it is with
    /// the totals.
    pub async fn read_phases(
        &self,
        owner: &Owner,
        numbers: &[u32],
    ) -> Result<Vec<(u32, PhaseStats, Option<String>)>, Error> {
        let mut phases = Vec::new();
        for number in numbers {
            let name = names::phase(&owner.name, *number);
            let object: Option<ConfigMap> = self.read(owner, &name).await?;
            let stats = config_map::read_phase(object.as_ref().unwrap_or(&ConfigMap::default()));
            let key = Key::of::<ConfigMap>(name);
            let stats = stats.map_err(|error| Error::Refused(Refusal::unreadable(&key, &error)))?;
            phases.push((*number, stats, object.and_then(|object| object.resource_version())));
        }
        Ok(phases)
    }

    /// A ConfigMap with models, if there is one.
    pub async fn library(&self, owner: &Owner, name: &str) -> Result<Option<ConfigMap>, Error> {
        self.read(owner, name).await
    }

    /// The object of that name, if it is the owner's.
    async fn read_own<K>(&self, owner: &Owner, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let object: Option<K> = self.read(owner, name).await?;
        Ok(object.filter(|object| is_owned(object.meta(), owner)))
    }

    /// The object of that name in the owner's namespace, whosesoever it is.
    async fn read<K>(&self, owner: &Owner, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let read = self.timed("get", self.api::<K>(&owner.namespace).get_opt(name)).await;
        read.map_err(|error| Error::api(format!("read the {} {name}", K::kind(&())), error))
    }

    /// The newest warnings about an object of the fleet, at most fifty.
    pub async fn warnings(&self, owner: &Owner, kind: &str, name: &str) -> Result<Vec<Event>, Error> {
        let api: Api<Event> = self.api(&owner.namespace);
        let fields = format!("involvedObject.kind={kind},involvedObject.name={name},type=Warning");
        let parameters = ListParams::default().fields(&fields).limit(WARNINGS_MAX);
        let listed = self.timed("list", api.list(&parameters)).await;
        listed.map(|list| list.items).map_err(|error| Error::api(format!("list the events of {kind} {name}"), error))
    }

    /// A recorder of events, which counts equal ones.
    pub fn recorder(&self, reporter: Reporter) -> Recorder {
        Recorder::new(self.client.clone(), reporter)
    }

    /// Tells people something, as an event on the object that it is about.
    pub async fn event(&self, recorder: &Recorder, event: &Told, about: &ObjectReference) -> Result<(), kube::Error> {
        self.timed("event", recorder.publish(event, about)).await
    }

    /// Deletes an object that is no longer wanted: the very object that was observed.
    pub async fn delete(&self, owner: &Owner, deletion: &Deletion) -> Result<(), Error> {
        let Deletion { key, resource, uid } = deletion;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &owner.namespace, resource);
        let parameters = DeleteParams { preconditions: Some(only(uid)), ..DeleteParams::background() };
        gone(self.timed("delete", api.delete(&key.name, &parameters)).await, || format!("delete the {key}"))
    }

    /// Deletes a pod of a node that is lost, without waiting for its kubelet; only this very pod.
    pub async fn force(&self, owner: &Owner, pod: &WorkerPod) -> Result<(), Error> {
        self.metrics.pods_forced.inc();
        self.delete_pod(owner, &pod.name, &pod.uid, 0).await
    }

    /// Ends a pod, which has a second to end by itself, the least that a kubelet gives; only this very pod. Its successor comes
    /// when it has ended, so that no device runs twice.
    pub async fn kill(&self, owner: &Owner, pod: &Target) -> Result<(), Error> {
        self.delete_pod(owner, &pod.name, &pod.uid, 1).await.map_err(|error| match error {
            Error::Api { source, .. } => Error::write(&Key::of::<Pod>(pod.name.clone()), *source),
            error => error,
        })
    }

    async fn delete_pod(&self, owner: &Owner, name: &str, uid: &str, grace_seconds: u32) -> Result<(), Error> {
        let api = self.untyped::<Pod>(&owner.namespace);
        let parameters =
            DeleteParams { preconditions: Some(only(uid)), ..DeleteParams::default().grace_period(grace_seconds) };
        gone(self.timed("delete", api.delete(name, &parameters)).await, || format!("delete the pod {name} by force"))
    }

    /// The Job of a hook, created if it is not there; `Err` also where one of that name is somebody else's.
    pub async fn run_job(&self, owner: &Owner, wanted: &Job) -> Result<Job, Error> {
        if let Some(job) = self.read_own(owner, &wanted.name_any()).await? {
            return Ok(job);
        }
        let object = Object::of(wanted, None);
        let untyped = Api::namespaced_with(self.client.clone(), &owner.namespace, object.resource());
        self.create(owner, object.key(), &untyped, object.body()).await?;
        Ok(wanted.clone())
    }

    /// Ends the Job of a hook of this very test, and its pod with it.
    pub async fn end_job(&self, owner: &Owner, name: &str) -> Result<(), Error> {
        match self.read_own::<Job>(owner, name).await?.as_ref().and_then(Deletion::of) {
            Some(deletion) => self.delete(owner, &deletion).await,
            None => Ok(()),
        }
    }

    /// Writes the status of a Fleet.
    pub async fn status(&self, owner: &Owner, status: &FleetStatus) -> Result<(), Error> {
        self.status_of::<Fleet>(owner, json!(status)).await
    }

    /// Writes the status of a load test.
    pub async fn load_test_status(&self, owner: &Owner, status: &LoadTestStatus) -> Result<(), Error> {
        self.status_of::<LoadTest>(owner, json!(status)).await
    }

    async fn status_of<K: Resource<DynamicType = ()>>(&self, owner: &Owner, status: Value) -> Result<(), Error> {
        let api = self.untyped::<K>(&owner.namespace);
        let patch = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": K::kind(&()),
            "metadata": {"name": owner.name, "uid": owner.uid},
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let written = self.timed("status", api.patch_status(&owner.name, &parameters, &Patch::Apply(patch))).await;
        match written {
            // The object is gone: there is nobody to tell.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            written => written.map(drop).map_err(|error| Error::api("write the status", error)),
        }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Objects of a kind whose answers nobody reads: reading a large type takes the compiler long.
    fn untyped<K: Resource<DynamicType = ()>>(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<K>(&()))
    }

    /// A call to the API server, which gets a deadline: one that hangs must not hold a fleet up for ever.
    async fn timed<T>(&self, verb: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
        let start = Instant::now();
        let late = |_| Err(kube::Error::Service(format!("no answer within {DEADLINE:?}").into()));
        let outcome = timeout(DEADLINE, call).await.unwrap_or_else(late);
        let took = start.elapsed();
        self.metrics.called(verb, took);
        self.spent.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        outcome
    }
}

/// That this very object is meant, and no other of its name.
fn only(uid: &str) -> Preconditions {
    Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() }
}

/// Whose an object is.
#[derive(Debug, PartialEq, Eq)]
enum Ownership {
    /// The fleet's.
    Own,
    /// That of an earlier fleet of the same name: Kubernetes is about to delete it.
    Leaving,
    /// Somebody else's; the kind and name of its controller, if it has one.
    Foreign(Option<String>),
}

fn ownership<K>(object: &PartialObjectMeta<K>, owner: &Owner) -> Ownership {
    let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
    if is_owned(&object.metadata, owner) {
        return Ownership::Own;
    }
    let is_earlier = owners.iter().any(|found| found.kind == owner.kind() && found.name == owner.name);
    if is_earlier || object.metadata.deletion_timestamp.is_some() {
        return Ownership::Leaving;
    }
    let controller = owners.iter().find(|found| found.controller == Some(true));
    Ownership::Foreign(controller.map(|found| format!("{} {}", found.kind, found.name)))
}

/// What is gone already needs no deletion, and what has come back under its name is another object.
fn gone<T>(deleted: Result<T, kube::Error>, action: impl FnOnce() -> String) -> Result<(), Error> {
    match deleted {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 => Ok(()),
        deleted => deleted.map(drop).map_err(|error| Error::api(action(), error)),
    }
}
