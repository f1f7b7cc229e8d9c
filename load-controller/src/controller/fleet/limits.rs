//! Holds a fleet to the administrator's limits: finds where its brokers are and what older fleets ask for.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleet_contract::{
    fleet::{BrokerSpec, FleetSpec},
    plan::Plan,
    time::Micros,
};
use kube::runtime::reflector::ObjectRef;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::Task;
use crate::{
    controller::{document::Document, reason::Reason, refusal::Refusal},
    limits::{Claim, Limits, Place},
    resource::{Fleet, Owner, size},
};

/// How often it is asked where brokers are, and how often what the limits refuse is looked at again.
const LOOK_PAUSE: Duration = Duration::from_secs(30);
const LOOK_PAUSE_WHILE_LIMITED: Duration = Duration::from_secs(10);
/// How long a name server may take. Workers ask for each connect anyway.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// Names that are looked up at a time, each by a thread; others wait.
const LOOK_UPS_MAX: usize = 4;

/// The limits, and what the tasks of all fleets must know for them; clones share it.
#[derive(Clone)]
pub struct Guard {
    limits: Arc<Limits>,
    /// What each fleet sends, once that is known.
    known: Arc<Mutex<HashMap<ObjectRef<Fleet>, Known>>>,
    look_ups: Arc<Semaphore>,
}

/// What is known of a fleet beside its document.
#[derive(Clone, Copy)]
struct Known {
    /// Messages a second of an average device.
    messages_per_device: f64,
    /// The most devices of a load test that it is busy with.
    tested: Option<u32>,
}

/// What the limits do to one fleet.
#[derive(Debug, Default)]
pub(super) struct Limited {
    places: Vec<Place>,
    looked_at: Option<Instant>,
    /// Whether the fleet may not speak to its broker at all.
    is_refused: bool,
    /// What is refused.
    refusal: Option<Refusal>,
}

impl Limited {
    pub(super) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    pub(super) const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }
}

impl Guard {
    /// Holds fleets to `limits`.
    pub fn new(limits: Limits) -> Self {
        let look_ups = Arc::new(Semaphore::new(LOOK_UPS_MAX));
        Self { limits: Arc::new(limits), known: Arc::default(), look_ups }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A fleet is gone, and its messages with it.
    pub(super) fn forget(&self, key: &ObjectRef<Fleet>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Messages a second of an average device of a fleet, and the most devices of a load test that it is busy with.
    fn know(&self, key: &ObjectRef<Fleet>, messages_per_device: f64, tested: Option<u32>) {
        let known = Known { messages_per_device, tested };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), known);
    }

    fn claim(&self, fleet: &Fleet) -> Claim {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&ObjectRef::from_obj(fleet)).copied();
        let tested = known.and_then(|known| known.tested);
        Claim {
            devices: tested.unwrap_or_else(|| fleet.devices()),
            messages_per_device: known.map(|known| known.messages_per_device),
        }
    }

    async fn places(&self, broker: &BrokerSpec, namespace: &str) -> Vec<Place> {
        let mut places = Vec::new();
        for url in broker.addresses() {
            let host = url.host().to_owned();
            let addresses = self.addresses(&host, namespace).await;
            places.push(Place { host, addresses });
        }
        places
    }

    /// The addresses of a host as a pod of `namespace` finds them: a short name is one of its own namespace.
    async fn addresses(&self, host: &str, namespace: &str) -> Vec<IpAddr> {
        if let Ok(address) = host.parse() {
            return vec![address];
        }
        let Ok(_turn) = self.look_ups.acquire().await else { return Vec::new() };
        let mut found = Vec::new();
        for name in [host.to_owned(), format!("{host}.{namespace}.svc")] {
            match timeout(LOOK_UP_TIMEOUT, tokio::net::lookup_host((name.as_str(), 0))).await {
                Ok(Ok(addresses)) => found.extend(addresses.map(|address| address.ip())),
                Ok(Err(error)) => tracing::debug!(name, %error, "the broker's name is not known"),
                Err(_) => tracing::debug!(name, "the name server does not answer in time"),
            }
        }
        found
    }
}

impl Task {
    /// The document with as many devices as the limits allow; `None` when the fleet may not speak to its broker.
    pub(super) async fn limit(&mut self, fleet: &Fleet, owner: &Owner, mut document: Document) -> Option<Document> {
        let guard = self.context.guard.clone();
        let spec = &document.fleet.spec;
        let rate = messages_per_device(spec);
        guard.know(&self.key, rate, self.hold().map(|hold| hold.devices_most));
        let brokers = spec.broker.as_ref().filter(|_| !document.has_own_broker);
        let hosts = brokers.into_iter().flat_map(BrokerSpec::addresses).map(|url| url.host().to_owned());
        let is_same = hosts.eq(self.limited.places.iter().map(|place| place.host.clone()));
        let pause = self.look_at_limits().unwrap_or(LOOK_PAUSE);
        if !is_same || self.limited.looked_at.is_none_or(|at| at.elapsed() >= pause) {
            self.limited.places = match brokers {
                Some(broker) => guard.places(broker, &owner.namespace).await,
                None => Vec::new(),
            };
            self.limited.looked_at = Some(Instant::now());
        }
        let refuse = |message| Refusal { reason: Reason::LimitExceeded, message };
        if let Some(message) = guard.limits.check(&self.limited.places) {
            self.limited.is_refused = true;
            self.limited.refusal = Some(refuse(message));
            return None;
        }
        let own = self.claim(spec);
        let running = self.plan.as_ref().map_or(0, Plan::devices_wanted);
        let grant = guard.limits.grant(own, &self.older_claims(fleet), running);
        self.limited.is_refused = false;
        self.limited.refusal = grant.excess.map(refuse);
        document.fleet.spec.devices = grant.devices;
        Some(document)
    }

    /// What a fleet asks for.
    pub(super) fn claim(&self, spec: &FleetSpec) -> Claim {
        Claim { devices: spec.devices, messages_per_device: Some(messages_per_device(spec)) }
    }

    /// Why a fleet may not have so much, with what it runs now.
    pub(super) fn excess(&self, fleet: &Fleet, claim: Claim) -> Option<String> {
        self.context.guard.limits.grant(claim, &self.older_claims(fleet), 0).excess
    }

    /// A fleet whose document is wrong and never was right sends nothing.
    pub(super) fn limit_wrong(&self) {
        if self.wish.document.is_none() {
            self.context.guard.know(&self.key, 0.0, None);
        }
    }

    /// When the limits are to be looked at again.
    pub(super) fn look_at_limits(&self) -> Option<Duration> {
        let is_limited = self.limited.refusal.is_some() || self.context.guard.limits.are_shared();
        if is_limited {
            return Some(LOOK_PAUSE_WHILE_LIMITED);
        }
        let is_name = |place: &Place| place.host.parse::<IpAddr>().is_err();
        self.limited.places.iter().any(is_name).then_some(LOOK_PAUSE)
    }

    /// What the fleets of the namespace ask for that were there before, the oldest first.
    fn older_claims(&self, fleet: &Fleet) -> Vec<Claim> {
        if !self.context.guard.limits.are_shared() {
            return Vec::new();
        }
        let age = |fleet: &Fleet| {
            let meta = &fleet.metadata;
            (meta.creation_timestamp.as_ref().map(|time| time.0), meta.uid.clone())
        };
        let own = age(fleet);
        let is_older = |other: &Fleet| other.metadata.namespace == fleet.metadata.namespace && age(other) < own;
        let mut older = self.stores.fleets.state_filter(is_older);
        older.sort_by_key(|fleet| age(fleet));
        older.iter().map(|fleet| self.context.guard.claim(fleet)).collect()
    }
}

/// Messages a second of an average device, by the document's own live numbers.
fn messages_per_device(spec: &FleetSpec) -> f64 {
    size::messages_per_second(spec, &Plan::of(0, Micros(0), spec)) / f64::from(spec.devices_per_pod.max(1))
}
