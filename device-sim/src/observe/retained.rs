//! Looks at what the broker retains on the topics of wills: by a subscription that is new each time, since the observer's own brings
//! what comes and not what is kept.
//!
//! A thread of its own, because a conversation takes its time; it ends when no shard can ask it any more.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use mio::Waker;

use super::{Arrivals, observer};
use crate::{
    blueprint::Blueprint,
    index::DeviceIndex,
    leftovers::{Stays, Way, kept},
    session,
    transport::brokers::Brokers,
};

/// Looks that may wait; more are refused, and nobody looks.
pub(crate) const LOOKS_MAX: usize = 16_384;

/// So many topics are looked at in one session.
const BATCH_MAX: usize = 1_024;

/// For how long looks are gathered, so that a fault that hits many takes few sessions.
const GATHERED: Duration = Duration::from_millis(100);

/// How long a session may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A device whose topic is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) device: DeviceIndex,
}

/// What was found there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) device: DeviceIndex,
    pub(crate) found: Found,
}

/// What is retained on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It cannot be known.
    Unknown,
    /// Nothing.
    Nothing,
    /// A message with this digest.
    Message(u64),
}

/// What a looker is made of.
pub(crate) struct Parts {
    pub(crate) blueprint: Arc<Blueprint>,
    pub(crate) brokers: Arc<Brokers>,
    /// Which of the brokers it looks at.
    pub(crate) broker: usize,
    /// Of the observer beside it.
    pub(crate) client_id: String,
    pub(crate) looks: Receiver<Look>,
    /// The shards, which take devices in turns, counted from `first`.
    pub(crate) outlets: Vec<(SyncSender<Arrivals>, Arc<Waker>)>,
    pub(crate) first: u32,
}

impl Parts {
    /// Looks as long as somebody may ask.
    pub(crate) fn run(self) {
        let mut attempts: u32 = 0;
        while let Ok(first) = self.looks.recv() {
            let devices = self.gather(first);
            let topics: Vec<String> = devices.iter().map(|device| self.topic(*device)).collect();
            let found = self.look(&topics, attempts);
            if let Err(error) = &found {
                attempts = attempts.wrapping_add(1);
                tracing::warn!(%error, topics = topics.len(), "what the broker retains is not known");
            }
            let looked = |(device, topic): (DeviceIndex, &String)| Looked {
                device,
                found: found.as_ref().map_or(Found::Unknown, |found| {
                    found.get(topic).map_or(Found::Nothing, |digest| Found::Message(*digest))
                }),
            };
            self.answer(devices.iter().copied().zip(&topics).map(looked));
        }
    }

    #[expect(clippy::disallowed_methods, reason = "what is asked is gathered in real time")]
    fn gather(&self, first: Look) -> Vec<DeviceIndex> {
        let mut devices = vec![first.device];
        let until = Instant::now() + GATHERED;
        while devices.len() < BATCH_MAX {
            match self.looks.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(look) => devices.push(look.device),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        devices
    }

    fn topic(&self, device: DeviceIndex) -> String {
        let will = self.blueprint.group_of(device).will.as_ref();
        will.map(|will| will.topic.text(device.number())).unwrap_or_default()
    }

    fn look(&self, topics: &[String], attempts: u32) -> Result<BTreeMap<String, u64>, Stays> {
        let broker = self.brokers.at(self.broker);
        let address = broker.resolver.address(attempts).map_err(|none| Stays::Unreachable(none.to_string()))?;
        let way = Way { route: Arc::clone(&broker.route), addresses: vec![address], patience: PATIENCE };
        let options = session::Options { clean: true, ..observer::options(&self.blueprint) };
        kept(&way, &options, &self.blueprint.observer(self.client_id.clone()), topics)
    }

    fn answer(&self, looked: impl Iterator<Item = Looked>) {
        let mut answers: Vec<Vec<Looked>> = self.outlets.iter().map(|_| Vec::new()).collect();
        for found in looked {
            answers[(found.device.number() - self.first) as usize % self.outlets.len()].push(found);
        }
        for ((outlet, waker), found) in self.outlets.iter().zip(answers) {
            // A shard that has ended needs no answer.
            if !found.is_empty()
                && outlet.send(Arrivals::Looked(found)).is_ok()
                && let Err(error) = waker.wake()
            {
                tracing::debug!(%error, "a shard was not woken");
            }
        }
    }
}

/// The client id of the looker beside an observer.
pub(crate) fn client_id(observer: &str) -> String {
    format!("{observer}-look")
}
