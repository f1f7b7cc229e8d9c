//! Follows messages to their delivery: an observer subscribes to what the devices publish, and the ledger judges it.
//!
//! The observer has a thread of its own, so that reading what comes back never delays what goes out. It hands
//! batches of arrivals to the shards, which own the ledger rows of their devices.

pub(crate) mod bodies;
pub(crate) mod filters;
pub(crate) mod ledger;
pub(crate) mod observer;
pub(crate) mod retained;
pub(crate) mod wills;

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use fleet_contract::{stats::ObserverStats, time::Micros, units::Span};

use crate::index::{DeviceIndex, StreamIndex};
use ledger::Following;
use retained::Looked;

/// A message that the observer has seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) device: DeviceIndex,
    pub(crate) stream: StreamIndex,
    pub(crate) mark: Mark,
    pub(crate) at: Micros,
    /// Whether the observer's own subscriptions may have brought it twice.
    pub(crate) may_repeat: bool,
}

/// What a message is recognised by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    /// Its stamp.
    Stamp {
        seq: u32,
        due: Micros,
        /// The digest of the body of one that is to be compared with what was sent.
        body: Option<u64>,
    },
    /// A counter that its body has anyway.
    Counter(u32),
    /// The digest of its body.
    Body(u64),
    /// It is the device's will, which the broker sends; of no stream.
    Will,
}

/// What the observer tells a shard.
#[derive(Debug)]
pub(crate) enum Arrivals {
    /// Messages, in the order in which they came.
    Messages(Vec<Arrival>),
    /// What the broker retains on the topics of wills.
    Looked(Vec<Looked>),
    /// A newer process runs the devices of this one.
    Superseded,
    /// The observer has lost its connection.
    Lost,
    /// The observer is subscribed again.
    Back {
        /// Whether the broker has kept its session, and with it what came in between.
        session_present: bool,
        /// Since when.
        at: Micros,
    },
}

/// How long another run counts as live after its last message.
const RIVAL_MEMORY: Span = Span::from_secs(30);

/// What shards and readers of statistics may know of the observer at any time.
#[derive(Debug, Default)]
pub(crate) struct ObserverWatch {
    is_subscribed: AtomicBool,
    /// Devices up to this index are subscribed to; those that have just come may not be yet.
    covered: AtomicU32,
    /// Whether the broker may hold a session of the observer that collects messages.
    has_session: AtomicBool,
    rival_at: AtomicU64,
    now: AtomicU64,
    pub(crate) bytes: AtomicU64,
    stats: Mutex<ObserverStats>,
}

impl ObserverWatch {
    /// One that is subscribed to all devices.
    #[cfg(test)]
    pub(crate) fn subscribed() -> Self {
        let watch = Self::default();
        watch.set_covered(u32::MAX);
        watch.set_subscribed(true);
        watch
    }

    /// How a message that `device` sends now is followed; `is_kept` where the broker keeps it for an absent subscriber.
    pub(crate) fn following(&self, device: DeviceIndex, is_kept: bool) -> Following {
        if device.number() >= self.covered.load(Relaxed) {
            Following::Unobserved
        } else if self.is_subscribed.load(Relaxed) {
            Following::Observed
        } else if is_kept && self.has_session.load(Relaxed) {
            Following::InGap
        } else {
            Following::Unobserved
        }
    }

    /// Whether the observer is subscribed.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.is_subscribed.load(Relaxed)
    }

    /// Whether another live run publishes as the same devices.
    pub(crate) fn has_rival(&self) -> bool {
        let seen = self.rival_at.load(Relaxed);
        seen > 0 && Micros(seen).after(RIVAL_MEMORY).0 >= self.now.load(Relaxed)
    }

    /// The statistics as of now.
    pub(crate) fn stats(&self) -> ObserverStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut ObserverStats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn set_covered(&self, up_to: u32) {
        self.covered.store(up_to, Relaxed);
    }

    fn set_subscribed(&self, is_subscribed: bool) {
        self.is_subscribed.store(is_subscribed, Relaxed);
        if is_subscribed {
            self.has_session.store(true, Relaxed);
        }
        self.update(|stats| {
            stats.subscribed = u32::from(is_subscribed);
            if is_subscribed {
                stats.error = None;
            }
        });
    }

    fn saw_rival(&self, now: Micros) {
        self.rival_at.store(now.0, Relaxed);
    }

    fn tick(&self, now: Micros) {
        self.now.store(now.0, Relaxed);
    }
}
