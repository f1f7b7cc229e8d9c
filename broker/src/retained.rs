//! Retained messages: the last message with the retain flag per topic (MQTT-3.3.1-5).
//!
//! They are kept here and not in rumqttd, which truncates them to 200 per subscription, sends them
//! only once per client, cannot count them, and drops them on any empty payload.

use std::collections::HashMap;

use rumqttc::mqttbytes;

use crate::message::Message;
use crate::router::routed;
use crate::store::KeptMessage;

/// The store is full; the message was routed but not retained.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The retained message of each topic.
#[derive(Debug)]
pub(crate) struct Retained {
    by_topic: HashMap<String, Message>,
    limit: usize,
}

impl Retained {
    /// A store for at most `limit` topics.
    pub(crate) fn new(limit: usize) -> Self {
        Self { by_topic: HashMap::new(), limit }
    }

    /// Keeps the message as the last of its topic; an empty payload removes what was kept
    /// (MQTT-3.3.1-10, MQTT-3.3.1-11).
    pub(crate) fn put(&mut self, topic: &str, message: &Message) -> Result<(), Full> {
        let key = routed(topic);
        if message.payload.is_empty() {
            self.by_topic.remove(&key);
        } else if self.by_topic.len() < self.limit || self.by_topic.contains_key(&key) {
            self.by_topic.insert(key, message.clone());
        } else {
            return Err(Full);
        }
        Ok(())
    }

    /// The retained messages whose topics match the filter, oldest first.
    pub(crate) fn matching(&self, filter: &str) -> Vec<Message> {
        let filter = routed(filter);
        let mut found: Vec<Message> = if mqttbytes::has_wildcards(&filter) {
            self.by_topic
                .iter()
                .filter(|(topic, _)| mqttbytes::matches(topic, &filter))
                .map(|(_, message)| message.clone())
                .collect()
        } else {
            self.by_topic.get(&filter).cloned().into_iter().collect()
        };
        found.sort_unstable_by_key(|message| message.sequence);
        found
    }

    /// All of them, oldest first.
    pub(crate) fn kept(&self) -> Vec<KeptMessage> {
        let mut all: Vec<&Message> = self.by_topic.values().collect();
        all.sort_unstable_by_key(|message| message.sequence);
        all.into_iter().map(|message| message.kept(message.qos, true)).collect()
    }

    /// Number of topics with a retained message.
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rumqttc::QoS;

    fn message(topic: &str, payload: &'static str, sequence: u64) -> Message {
        Message {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            payload: Bytes::from(payload),
            qos: QoS::AtLeastOnce,
            sequence,
        }
    }

    #[test]
    fn the_last_message_of_a_topic_stays_and_an_empty_one_removes_it() {
        let mut retained = Retained::new(10);
        retained.put("a/b", &message("a/b", "old", 1)).unwrap();
        retained.put("a/b", &message("a/b", "new", 2)).unwrap();
        assert_eq!(retained.matching("a/+"), [message("a/b", "new", 2)]);
        retained.put("a/b", &message("a/b", "", 3)).unwrap();
        assert_eq!(retained.matching("a/b"), []);
    }

    #[test]
    fn wildcards_at_the_start_do_not_match_dollar_topics() {
        let mut retained = Retained::new(10);
        retained.put("$x/é", &message("$x/é", "1", 1)).unwrap();
        retained.put("é", &message("é", "2", 2)).unwrap();
        assert_eq!(retained.matching("#"), [message("é", "2", 2)]);
        assert_eq!(retained.matching("$x/#"), [message("$x/é", "1", 1)]);
    }

    #[test]
    fn a_full_store_still_updates_the_topics_it_knows() {
        let mut retained = Retained::new(1);
        retained.put("a", &message("a", "1", 1)).unwrap();
        assert_eq!(retained.put("b", &message("b", "1", 2)), Err(Full));
        retained.put("a", &message("a", "2", 3)).unwrap();
        assert_eq!(retained.matching("#"), [message("a", "2", 3)]);
    }
}
