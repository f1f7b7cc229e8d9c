//! Who gets a copy of a message, when echoing.

use std::collections::BTreeMap;

use rumqttc::mqttbytes::matches;

use super::Routing;
use crate::{counters::Counters, packet};

/// Bytes that may wait for a subscriber; beyond, its messages are dropped and counted.
const MAX_OUTBOX: usize = 32 * 1024 * 1024;

pub(super) struct Router {
    routing: Routing,
    subscribers: BTreeMap<usize, Subscriber>,
}

#[derive(Default)]
struct Subscriber {
    filters: Vec<String>,
    /// Packets of this turn, not yet handed to the connection.
    outbox: Vec<u8>,
    /// Bytes that the connection could not write yet.
    backlog: usize,
}

impl Router {
    pub(super) fn new(routing: Routing) -> Router {
        Router { routing, subscribers: BTreeMap::new() }
    }

    pub(super) fn subscribe(&mut self, key: usize, filters: &[&str]) {
        let subscriber = self.subscribers.entry(key).or_default();
        subscriber.filters.extend(filters.iter().map(|&filter| filter.to_owned()));
    }

    pub(super) fn unsubscribe(&mut self, key: usize, filters: &[&str]) {
        if let Some(subscriber) = self.subscribers.get_mut(&key) {
            subscriber.filters.retain(|filter| !filters.contains(&filter.as_str()));
        }
    }

    pub(super) fn forget(&mut self, key: usize) {
        self.subscribers.remove(&key);
    }

    /// Puts one copy into the outbox of each subscriber with a matching filter, however many match.
    pub(super) fn publish(&mut self, topic: &[u8], payload: &[u8], counters: &mut Counters) {
        if self.routing == Routing::Discard || self.subscribers.is_empty() {
            return;
        }
        let Ok(name) = std::str::from_utf8(topic) else {
            return;
        };
        for subscriber in self.subscribers.values_mut() {
            if !subscriber.filters.iter().any(|filter| matches(name, filter)) {
                continue;
            }
            if subscriber.outbox.len() + subscriber.backlog > MAX_OUTBOX {
                counters.dropped += 1;
                continue;
            }
            packet::write_publish(topic, payload, &mut subscriber.outbox);
            counters.delivered += 1;
        }
    }

    /// The outboxes that hold something, emptied.
    pub(super) fn take_outboxes(&mut self) -> Vec<(usize, Vec<u8>)> {
        let full = self.subscribers.iter_mut().filter(|(_, subscriber)| !subscriber.outbox.is_empty());
        full.map(|(&key, subscriber)| (key, std::mem::take(&mut subscriber.outbox))).collect()
    }

    /// Says how much the connection of a subscriber could not write.
    pub(super) fn set_backlog(&mut self, key: usize, bytes: usize) {
        if let Some(subscriber) = self.subscribers.get_mut(&key) {
            subscriber.backlog = bytes;
        }
    }
}
