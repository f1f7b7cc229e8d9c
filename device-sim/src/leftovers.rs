//! What a run of a fleet leaves at its broker, and how that is removed: sessions that outlive their connections, and
//! retained messages.
//!
//! What there can be is a pure function of the document: no topic depends on the time or on a body. What there is, no broker
//! tells. A clean session ends the one that was kept for its client id (MQTT-3.1.2-6, in MQTT 5 MQTT-3.1.2-4), and an empty
//! retained message removes the one of its topic (MQTT-3.3.1-10), whether there was one or not.

mod talk;

use std::{collections::BTreeMap, net::SocketAddr, slice, sync::Arc, time::Duration};

use fleet_contract::{
    fleet::Protocol,
    plan::{Plan, Shard},
    template::Bound,
    time::Micros,
    worker::{Document, observer_client_id},
};

use crate::{
    blueprint::{Blueprint, BlueprintError, Identity},
    index::DeviceIndex,
    observe::observer,
    session::{Options, codec::v5::Reason},
    transport::{self, Errand, Route},
};
use talk::{Call, Clearing, Search};

/// The groups of a fleet repeat after so many devices at the latest.
const PERIOD_MAX: u32 = 10_000;

/// What one device leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its client id.
    pub client_id: String,
    /// Whether the broker may keep a session for it.
    pub has_session: bool,
    /// The topics that may have a retained message of it, each once. One that several devices share is that of the first
    /// device at each address of the broker.
    pub topics: Vec<String>,
}

impl Left {
    /// Whether it leaves nothing.
    pub const fn is_empty(&self) -> bool {
        !self.has_session && self.topics.is_empty()
    }
}

/// Why something stays at the broker, or nobody knows whether it does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// The broker does not accept the client.
    #[error("the broker refuses the client: {0}")]
    Refused(String),
    /// There is no session with the broker at all.
    #[error("no session with the broker: {0}")]
    Unreachable(String),
    /// MQTT 5: the broker does not take the empty message.
    #[error("the broker does not let the device publish there: {0}")]
    Denied(Reason),
    /// The broker has ended the connection before it acknowledged the empty message.
    #[error("the broker ended the connection: {0}")]
    Closed(String),
    /// The broker has not acknowledged the empty message.
    #[error("the broker did not answer in time")]
    Silent,
}

/// The way to one of the addresses of the broker.
#[derive(Debug, Clone)]
pub struct Way {
    /// What lies over TCP.
    pub route: Arc<Route>,
    /// Where its name leads to; they are tried in this order.
    pub addresses: Vec<SocketAddr>,
    /// How long a connection may take with all that is said over it.
    pub patience: Duration,
}

impl Way {
    fn open(&self) -> Result<Errand, Stays> {
        let mut found = Err(Stays::Unreachable("the name has no address".into()));
        for address in &self.addresses {
            found = Errand::open(&self.route, *address, self.patience).map_err(|error| unreachable(&error));
            if found.is_ok() {
                break;
            }
        }
        found
    }
}

fn unreachable(error: &transport::Error) -> Stays {
    Stays::Unreachable(error.to_string())
}

/// What a look at cleared topics came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Found {
    /// Topics that still have a retained message.
    pub kept: Vec<String>,
    /// Topics that the broker does not let the observer read.
    pub unread: Vec<String>,
}

/// Which of the topics have a retained message, with the digest of its payload, by a client that looks and goes. Blocks for the
/// patience of the way.
///
/// # Errors
/// When it cannot be known: the broker was not reached, or does not let the client read one of them.
pub(crate) fn kept(
    way: &Way,
    options: &Options,
    identity: &Identity<'_>,
    topics: &[String],
) -> Result<BTreeMap<String, u64>, Stays> {
    let mut call = Call::open(way, options, identity, talk::LARGE)?;
    let mut search = Search::new(topics);
    let held = call.hold(&mut search).and_then(|()| call.listen(&mut search));
    call.part();
    held.and_then(|()| search.digests())
}

/// What the devices of a fleet leave.
#[derive(Debug)]
pub struct Leftovers {
    blueprint: Blueprint,
    devices: u32,
    /// By address of the broker: topics that do not name their device, and the first device that has them.
    shared: Vec<BTreeMap<String, DeviceIndex>>,
    /// Tells the clients that look from observers of runs.
    run: u32,
}

impl Leftovers {
    /// Compiles a fleet; files are those that its models replay. `run` is a number that no run has.
    ///
    /// # Errors
    /// When a model is wrong, or a password cannot be had.
    pub fn new(document: Document, run: u32) -> Result<Self, BlueprintError> {
        let devices = document.fleet.spec.devices;
        let addresses = document.fleet.spec.broker.as_ref().map_or(0, |broker| broker.addresses().len()).max(1);
        let plan = Plan::of(run, Micros(0), &document.fleet.spec);
        let blueprint = Blueprint::compile(&document.assign(plan, Shard::of(0, devices.max(1))))?;
        let shared = shared(&blueprint, devices, addresses);
        Ok(Self { blueprint, devices, shared, run })
    }

    /// What device `index` leaves.
    pub fn of(&self, index: DeviceIndex) -> Left {
        let group = self.blueprint.group_of(index);
        let shared = &self.shared[self.position(index)];
        let mut topics: Vec<String> = group.retained().map(|topic| topic.text(index.number())).collect();
        topics.sort_unstable();
        topics.dedup();
        topics.retain(|topic| shared.get(topic).is_none_or(|first| *first == index));
        Left { client_id: group.client_id.text(index.number()), has_session: self.has_sessions(), topics }
    }

    /// The devices that leave something.
    pub fn devices(&self) -> impl Iterator<Item = DeviceIndex> + Send + '_ {
        let is_any = self.has_sessions() || self.blueprint.groups.iter().any(|group| group.retained().next().is_some());
        (0..if is_any { self.devices } else { 0 }).map(DeviceIndex::new).filter(|index| !self.of(*index).is_empty())
    }

    /// The position of the broker's address that device `index` connects to.
    pub fn position(&self, index: DeviceIndex) -> usize {
        index.place() % self.shared.len()
    }

    /// Whether brokers keep sessions of devices that went without a word; of MQTT 3.1.1 also of those that left in order.
    fn has_sessions(&self) -> bool {
        let Options { clean, protocol, properties, .. } = &self.blueprint.session;
        !clean && (*protocol == Protocol::V311 || properties.session_expiry > 0)
    }

    /// Ends the session of device `index` and clears its topics; returns those that were not cleared. Blocks for the
    /// patience of the way, and once more for each topic where a broker ends connections for what it does not take.
    ///
    /// # Errors
    /// When the broker accepts no session: then nothing was removed.
    pub fn remove(&self, index: DeviceIndex, way: &Way) -> Result<Vec<(String, Stays)>, Stays> {
        let identity = self.blueprint.device(index);
        let topics = self.of(index).topics;
        let mut answers = self.clear(&identity, &topics, way)?;
        let was_closed = |answer: &Result<(), Stays>| matches!(answer, Err(Stays::Closed(_)));
        if answers.len() > 1 && answers.iter().any(was_closed) {
            // One topic that the broker does not take must not keep the others.
            for (topic, answer) in topics.iter().zip(&mut answers).filter(|(_, answer)| was_closed(answer)) {
                *answer = self.clear(&identity, slice::from_ref(topic), way).and_then(|mut alone| alone.remove(0));
            }
        }
        let stays = |(topic, answer): (String, Result<(), Stays>)| answer.err().map(|stays| (topic, stays));
        Ok(topics.into_iter().zip(answers).filter_map(stays).collect())
    }

    /// Ends the session of an observer whose client id a report names, at the address at `position`; blocks for the
    /// patience of the way.
    ///
    /// # Errors
    /// When the broker accepts no session: then that of the observer stays.
    pub fn end_observer(&self, client_id: &str, position: usize, way: &Way) -> Result<(), Stays> {
        // As `observer_client_id` has it.
        let client_id = if position > 0 { format!("{client_id}-{position}") } else { client_id.to_owned() };
        self.clear(&self.blueprint.observer(client_id), &[], way).map(drop)
    }

    /// Which of the topics still have a retained message, by a client with the name and the rights of an observer. Looks that
    /// go on at the same time have numbers of their own. Blocks for the patience of the way.
    ///
    /// # Errors
    /// When it cannot be known.
    pub fn look(&self, topics: &[String], number: u32, position: usize, way: &Way) -> Result<Found, Stays> {
        let client_id = observer_client_id(&self.blueprint.name, self.run, number, Micros(0), position);
        let mut options = Options { clean: true, ..observer::options(&self.blueprint) };
        // A broker would leave out what is larger.
        options.properties.maximum_packet_size = None;
        let mut call = Call::open(way, &options, &self.blueprint.observer(client_id), talk::LARGE)?;
        let mut search = Search::new(topics);
        let found = call.hold(&mut search).and_then(|()| call.listen(&mut search));
        call.part();
        found.map(|()| search.found())
    }

    /// A clean session in which each of the topics is cleared.
    fn clear(&self, identity: &Identity<'_>, topics: &[String], way: &Way) -> Result<Vec<Result<(), Stays>>, Stays> {
        let options = Options { clean: true, ..self.blueprint.session.clone() };
        let mut call = Call::open(way, &options, identity, talk::SMALL)?;
        let mut clearing = Clearing::new(topics);
        let held = call.hold(&mut clearing);
        call.part();
        clearing.answers(held)
    }
}

/// Topics that do not name their device, by address: each with the first device there that publishes to it.
fn shared(blueprint: &Blueprint, devices: u32, addresses: usize) -> Vec<BTreeMap<String, DeviceIndex>> {
    let mut shared = vec![BTreeMap::new(); addresses];
    let most = u32::try_from(addresses).unwrap_or(u32::MAX).saturating_mul(PERIOD_MAX).min(devices);
    for index in (0..most).map(DeviceIndex::new) {
        for topic in blueprint.group_of(index).retained().filter(|topic| is_shared(topic)) {
            shared[index.place() % addresses].entry(topic.text(index.number())).or_insert(index);
        }
    }
    shared
}

fn is_shared(topic: &Bound) -> bool {
    topic.pieces().all(|piece| piece.is_ok())
}

#[cfg(test)]
mod tests;
