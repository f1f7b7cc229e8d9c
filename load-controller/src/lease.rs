//! Who leads: one holder of a Lease at a time, by optimistic writes.
//!
//! Nobody trusts another machine's clock: a Lease has run out when it has not changed for its term by one's own. A
//! holder that cannot renew stops well before that, and one that ends gives the Lease up, so that another one takes over
//! at once.

mod owner;

use std::time::Duration;

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use owner::Owner;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    kube_error::told,
    resource::names::{CONTROLLER, LEADER_LABEL},
};

/// How long a Lease holds without being renewed.
const TERM: Duration = Duration::from_secs(15);
/// How long a holder tries to renew before it stops to lead; the rest of the term is its margin.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often a Lease is tried to be had or renewed.
const RETRY: Duration = Duration::from_secs(2);
/// How long a write without an answer may still take effect: the API server's own timeout of a request is a minute.
const LATE: Duration = Duration::from_secs(65);

/// The election among the controllers of a namespace.
pub struct Election {
    client: Client,
    namespace: String,
    leases: Api<Lease>,
    pods: Api<Pod>,
    identity: String,
    seen: Option<Seen>,
    owner: Owner,
    /// Whether the pod says that it leads. Unknown at the start, because a container may be the next one of a pod that
    /// led, and from each write on until it is certain what the pod says.
    is_labelled: Option<bool>,
    /// When the last write of the label began that got no answer, or an error. It may take effect up to [`LATE`]
    /// afterwards, also after a later write.
    unanswered: Option<Instant>,
}

/// The Lease as it was last seen to change.
struct Seen {
    version: Option<String>,
    at: Instant,
}

/// Why one does not lead (any more).
#[derive(Debug, thiserror::Error)]
enum Setback {
    #[error("{0} leads")]
    Held(String),
    #[error("another one was faster")]
    Outrun,
    #[error("the API server did not answer in time")]
    Timeout,
    #[error("{}", told(.0))]
    Api(#[from] kube::Error),
}

impl Election {
    /// The election in `namespace`, in which `identity` (the name of the pod) stands.
    pub fn new(client: &Client, namespace: &str, identity: &str) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.into(),
            leases: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            identity: identity.into(),
            seen: None,
            owner: Owner::Unknown,
            is_labelled: None,
            unanswered: None,
        }
    }

    /// Returns when this controller leads.
    pub async fn win(&mut self) {
        let mut said = String::new();
        loop {
            match self.attempt().await {
                Ok(()) => break,
                Err(setback) => {
                    self.label(false).await;
                    let text = setback.to_string();
                    if text != said {
                        tracing::info!(identity = self.identity, reason = text, "this controller does not lead");
                        said = text;
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
        }
        tracing::info!(identity = self.identity, "this controller leads");
        self.label(true).await;
    }

    /// Renews the Lease; returns when it could not be renewed in time, and then this controller must not act any more.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_DEADLINE {
            tokio::time::sleep(RETRY).await;
            let began = Instant::now();
            match self.attempt().await {
                Ok(()) => {
                    renewed = began;
                    self.label(true).await;
                }
                Err(Setback::Held(other)) => {
                    tracing::error!(other, "another controller has taken the lease");
                    return;
                }
                Err(error) => tracing::warn!(%error, "the lease is not renewed"),
            }
        }
        tracing::error!("the lease could not be renewed in time: this controller stops to lead");
    }

    /// Gives the Lease up, so that nobody has to wait for its end.
    pub async fn resign(&mut self) {
        self.label(false).await;
        let Ok(lease) = self.leases.get(CONTROLLER).await else { return };
        if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) != Some(&self.identity) {
            return;
        }
        let mut given_up = lease;
        if let Some(spec) = &mut given_up.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match self.leases.replace(CONTROLLER, &PostParams::default(), &given_up).await {
            Ok(_) => tracing::info!("the lease is given up"),
            Err(error) => tracing::warn!(error = told(&error), "the lease could not be given up; it runs out"),
        }
    }

    /// Takes the Lease or renews it.
    async fn attempt(&mut self) -> Result<(), Setback> {
        timeout(RETRY, self.take()).await.unwrap_or(Err(Setback::Timeout))
    }

    async fn take(&mut self) -> Result<(), Setback> {
        if self.owner == Owner::Unknown {
            self.owner = owner::find(&self.client, &self.namespace).await?;
        }
        let Some(lease) = self.leases.get_opt(CONTROLLER).await? else {
            let fresh = self.held(None);
            let created = self.leases.create(&PostParams::default(), &fresh).await;
            return self.outcome(created);
        };
        let has_changed = self.seen.as_ref().is_none_or(|seen| seen.version != lease.metadata.resource_version);
        if has_changed {
            self.seen = Some(Seen { version: lease.metadata.resource_version.clone(), at: Instant::now() });
        }
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let has_run_out = self.seen.as_ref().is_some_and(|seen| seen.at.elapsed() >= TERM);
        if !holder.is_empty() && holder != self.identity && !has_run_out {
            return Err(Setback::Held(holder));
        }
        let taken = self.held(Some(lease));
        let replaced = self.leases.replace(CONTROLLER, &PostParams::default(), &taken).await;
        self.outcome(replaced)
    }

    fn outcome(&mut self, written: Result<Lease, kube::Error>) -> Result<(), Setback> {
        match written {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Setback::Outrun),
            Err(error) => {
                // The admission plugin OwnerReferencesPermissionEnforcement lets nobody own what the writer may not
                // delete. A Lease that outlives the installation is better than no leader.
                if matches!(&error, kube::Error::Api(status) if status.is_forbidden()) {
                    self.owner = Owner::Nobody;
                }
                Err(error.into())
            }
        }
    }

    /// The Lease with this controller as its holder; the version of `before` makes the write an optimistic one.
    fn held(&self, before: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let (mut metadata, spec) = before.map_or_else(
            || (ObjectMeta { name: Some(CONTROLLER.into()), ..ObjectMeta::default() }, None),
            |lease| (lease.metadata, lease.spec),
        );
        if let Owner::Account(owner) = &self.owner {
            metadata.owner_references = Some(vec![owner.clone()]);
        }
        let before = spec.unwrap_or_default();
        let is_mine = before.holder_identity.as_deref() == Some(&self.identity);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(TERM.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if is_mine { before.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!is_mine)),
            ..before
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// The Service of the controllers selects the pod that leads. Outside of a pod there is none to label. A write that
    /// failed or got no answer may have taken effect or still do so: the next turns write again until it is too late
    /// for that.
    async fn label(&mut self, leads: bool) {
        if self.is_labelled == Some(leads) {
            return;
        }
        let value = if leads { json!("true") } else { json!(null) };
        let patch = json!({"metadata": {"labels": {LEADER_LABEL: value}}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        // Before the write, because this future may be dropped in the middle of it.
        self.is_labelled = None;
        let earlier = self.unanswered.replace(Instant::now());
        // What holds a Lease must not wait longer than for the Lease itself.
        match timeout(RETRY, self.pods.patch_metadata(&self.identity, &params, &patch)).await {
            Err(_) => tracing::warn!(pod = self.identity, leads, "the pod cannot be labelled in time"),
            Ok(Ok(_)) => self.labelled(leads, earlier),
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {
                self.labelled(leads, None);
                tracing::info!(pod = self.identity, "there is no such pod to label: this controller runs outside");
            }
            Ok(Err(error)) => {
                tracing::warn!(pod = self.identity, leads, error = told(&error), "the pod cannot be labelled");
            }
        }
    }

    /// The pod says so now, and goes on to if no `earlier` write can take effect any more.
    fn labelled(&mut self, leads: bool, earlier: Option<Instant>) {
        self.unanswered = earlier.filter(|at| at.elapsed() < LATE);
        self.is_labelled = self.unanswered.is_none().then_some(leads);
    }
}

#[cfg(test)]
mod tests;
