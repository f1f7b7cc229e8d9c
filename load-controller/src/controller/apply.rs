//! Does what was decided: server-side apply with one field manager, in the order that growth and shrinkage need.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fleet_contract::{plan::Plan, stats::Ended};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Event, ObjectReference, Pod, Secret, Service},
        networking::v1::NetworkPolicy,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::{Event as Told, Recorder, Reporter},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{
    Error,
    document::Document,
    metrics::Metrics,
    observe::WorkerPod,
    plan::{Object, Revision, RevisionStep},
};
use crate::resource::{
    Fleet, FleetStatus, Owner, config_map,
    names::{self, FIELD_MANAGER, GROUP, REVISION_ANNOTATION, VERSION},
    secret,
};

/// How long the API server may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;

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

    /// Applies an object: what it says is so afterwards, and what others own stays.
    pub async fn object(&self, object: &Object) -> Result<(), Error> {
        match object {
            Object::StatefulSet(object) => self.apply(&**object).await,
            Object::Service(object) => self.apply(&**object).await,
            Object::Budget(object) => self.apply(&**object).await,
            Object::Policy(object) => self.apply(&**object).await,
        }
    }

    /// Applies a StatefulSet.
    pub async fn stateful_set(&self, object: &StatefulSet) -> Result<(), Error> {
        self.apply(object).await
    }

    async fn apply<K>(&self, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let what = format!("the {} {}", K::kind(&()), object.name_any());
        let api: Api<K> = self.api(object.meta().namespace.as_deref().unwrap_or_default());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.timed("apply", api.patch(&object.name_any(), &parameters, &Patch::Apply(object)))
            .await
            .map(drop)
            .map_err(|error| Error::write(&what, error))
    }

    /// Makes the Secret with the token of a fleet: `known` is the one that its workers have been given.
    pub async fn token(&self, owner: &Owner, known: Option<Arc<str>>) -> Result<Arc<str>, Error> {
        let token = known.clone().map_or_else(random_token, Ok)?;
        let api: Api<Secret> = self.api(&owner.namespace);
        match self.timed("create", api.create(&PostParams::default(), &secret::build(owner, &token))).await {
            // It is there, and the watch has not shown it yet.
            Err(kube::Error::Api(status)) if status.is_already_exists() && known.is_some() => Ok(token),
            made => made.map(|_| token).map_err(|error| Error::write("the token", error)),
        }
    }

    /// Makes the ConfigMap of a document, or gives an old one the newest number.
    pub async fn revision(&self, owner: &Owner, revision: &Revision, document: &Document) -> Result<(), Error> {
        let api: Api<ConfigMap> = self.api(&owner.namespace);
        match revision.step {
            RevisionStep::Keep => Ok(()),
            RevisionStep::Create => {
                let object =
                    config_map::document(owner, &document.hash, revision.number, &document.assignment, &document.spec);
                match self.timed("create", api.create(&PostParams::default(), &object)).await {
                    // Its name tells its contents: it is ours, and the watch has not shown it yet.
                    Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                    made => made.map(drop).map_err(|error| Error::write("the document", error)),
                }
            }
            RevisionStep::Renumber => {
                let patch = json!({"metadata": {"annotations": {REVISION_ANNOTATION: revision.number.to_string()}}});
                self.timed("patch", api.patch(&revision.name, &PatchParams::default(), &Patch::Merge(patch)))
                    .await
                    .map(drop)
                    .map_err(|error| Error::write("the document", error))
            }
        }
    }

    /// Writes the plan as the successor of the one with `version`; the new version of the object.
    pub async fn plan(&self, owner: &Owner, plan: &Plan, version: Option<String>) -> Result<Option<String>, Error> {
        self.succeed(&config_map::plan(owner, plan, version)).await
    }

    /// Writes the totals as the successor of those with `version`; the new version of the object.
    pub async fn totals(&self, owner: &Owner, ended: &Ended, version: Option<String>) -> Result<Option<String>, Error> {
        self.succeed(&config_map::totals(owner, ended, version)).await
    }

    /// Only as the successor of what was read: two controllers that both believe to lead cannot mix.
    async fn succeed(&self, object: &ConfigMap) -> Result<Option<String>, Error> {
        let api: Api<ConfigMap> = self.api(object.namespace().as_deref().unwrap_or_default());
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let name = object.name_any();
        let mut written = match object.metadata.resource_version {
            Some(_) => self.timed("update", api.replace(&name, &parameters, object)).await,
            None => self.timed("create", api.create(&parameters, object)).await,
        };
        if matches!(&written, Err(kube::Error::Api(status)) if status.is_not_found()) {
            // Somebody has deleted it; what we know is all that there is.
            let mut fresh = object.clone();
            fresh.metadata.resource_version = None;
            written = self.timed("create", api.create(&parameters, &fresh)).await;
        }
        written.map(|object| object.resource_version()).map_err(|error| Error::write(&name, error))
    }

    /// The totals that are kept of this very fleet, and the version of the object.
    pub async fn read_totals(&self, owner: &Owner) -> Result<(Ended, Option<String>), Error> {
        let api: Api<ConfigMap> = self.api(&owner.namespace);
        let read = self.timed("get", api.get_opt(&names::totals(&owner.name))).await;
        let object = read.map_err(|error| Error::api("read the totals", error))?;
        let is_own = |object: &ConfigMap| object.owner_references().iter().any(|owned| owned.uid == owner.uid);
        let Some(object) = object.filter(is_own) else { return Ok(Default::default()) };
        Ok((config_map::read_totals(&object).unwrap_or_default(), object.resource_version()))
    }

    /// A ConfigMap with models, if there is one.
    pub async fn library(&self, owner: &Owner, name: &str) -> Result<Option<ConfigMap>, Error> {
        let api: Api<ConfigMap> = self.api(&owner.namespace);
        let read = self.timed("get", api.get_opt(name)).await;
        read.map_err(|error| Error::api(format!("read the ConfigMap {name}"), error))
    }

    /// The events about pods of the workers that could not be made.
    pub async fn refused_creations(&self, owner: &Owner) -> Result<Vec<Event>, Error> {
        let api: Api<Event> = self.api(&owner.namespace);
        let name = names::workers(&owner.name);
        let fields = format!("involvedObject.kind=StatefulSet,involvedObject.name={name},reason=FailedCreate");
        let listed = self.timed("list", api.list(&ListParams::default().fields(&fields))).await;
        listed.map(|list| list.items).map_err(|error| Error::api("list the events of pods", error))
    }

    /// Tells people something, as an event on the object that it is about.
    pub async fn event(&self, reporter: Reporter, event: &Told, about: &ObjectReference) -> Result<(), kube::Error> {
        // A recorder each: one that is kept folds events of one reason together and shows the first one's text.
        let recorder = Recorder::new(self.client.clone(), reporter);
        self.timed("event", recorder.publish(event, about)).await
    }

    /// Deletes the broker of its own.
    pub async fn delete_broker(&self, owner: &Owner) -> Result<(), Error> {
        let name = names::broker(&owner.name);
        self.delete::<StatefulSet>(owner, &name).await?;
        self.delete::<Service>(owner, &name).await?;
        self.delete::<NetworkPolicy>(owner, &name).await
    }

    /// Deletes the ConfigMap of an old revision.
    pub async fn forget(&self, owner: &Owner, name: &str) -> Result<(), Error> {
        self.delete::<ConfigMap>(owner, name).await
    }

    async fn delete<K>(&self, owner: &Owner, name: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let api: Api<K> = self.api(&owner.namespace);
        gone(self.timed("delete", api.delete(name, &DeleteParams::background())).await, || {
            format!("delete the {} {name}", K::kind(&()))
        })
    }

    /// Deletes a pod of a node that is lost, without waiting for its kubelet; only this very pod.
    pub async fn force(&self, owner: &Owner, pod: &WorkerPod) -> Result<(), Error> {
        let api: Api<Pod> = self.api(&owner.namespace);
        let parameters = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), ..Preconditions::default() }),
            ..DeleteParams::default().grace_period(0)
        };
        self.metrics.pods_forced.inc();
        gone(self.timed("delete", api.delete(&pod.name, &parameters)).await, || {
            format!("delete the pod {} by force", pod.name)
        })
    }

    /// Writes the status of a Fleet.
    pub async fn status(&self, owner: &Owner, status: &FleetStatus) -> Result<(), Error> {
        let api: Api<Fleet> = self.api(&owner.namespace);
        let patch = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "Fleet",
            "metadata": {"name": owner.name, "uid": owner.uid},
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let written = self.timed("status", api.patch_status(&owner.name, &parameters, &Patch::Apply(patch))).await;
        match written {
            // The fleet is gone: there is nobody to tell.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            written => written.map(drop).map_err(|error| Error::write("the status", error)),
        }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
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

fn random_token() -> Result<Arc<str>, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

/// What is gone already needs no deletion, and what has come back under its name is another object.
fn gone<T>(deleted: Result<T, kube::Error>, action: impl FnOnce() -> String) -> Result<(), Error> {
    match deleted {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 => Ok(()),
        deleted => deleted.map(drop).map_err(|error| Error::api(action(), error)),
    }
}
