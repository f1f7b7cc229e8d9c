//! What goes through the router in one turn: as much as is waiting, within the router's bounds.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::metrics::Metrics;
use crate::router::{BATCH_BYTES, BATCH_MAX, Command};

/// A command with the room that it takes until it is routed.
pub(crate) type Waiting = (Command, OwnedSemaphorePermit);

/// Where the commands of all connections wait.
#[derive(Debug)]
pub(crate) struct Inbox(mpsc::UnboundedReceiver<Waiting>);

impl Inbox {
    pub(crate) fn new(commands: mpsc::UnboundedReceiver<Waiting>) -> Self {
        Self(commands)
    }
}

/// What goes through the router in one turn.
pub(crate) struct Batch {
    pub(crate) commands: Vec<Command>,
    pub(crate) rooms: Vec<OwnedSemaphorePermit>,
    /// Taken from the inbox, but too large for the batch that was being filled.
    next: Option<Waiting>,
    /// Hashes of the topics that the router has seen; it keeps all of them.
    topics: HashSet<u64>,
    hasher: RandomState,
    topics_max: usize,
}

impl Batch {
    pub(crate) fn new(topics_max: usize) -> Self {
        Self {
            commands: Vec::new(),
            rooms: Vec::new(),
            next: None,
            topics: HashSet::new(),
            hasher: RandomState::new(),
            topics_max,
        }
    }

    /// Waits for a command and takes all that are there and fit. False when no more can come.
    pub(crate) async fn fill(&mut self, inbox: &mut Inbox, metrics: &Metrics) -> bool {
        let mut bytes = 0;
        let mut next = match self.next.take() {
            Some(next) => Some(next),
            None => inbox.0.recv().await,
        };
        let is_open = next.is_some();
        while let Some((command, room)) = next {
            let size = size(&command);
            if !self.commands.is_empty() && bytes + size > BATCH_BYTES {
                self.next = Some((command, room));
                break;
            }
            bytes += size;
            if self.admits(&command) {
                self.commands.push(command);
                self.rooms.push(room);
            } else {
                metrics.dropped.with_label_values(&["topics"]).inc();
            }
            next = if self.commands.len() < BATCH_MAX { inbox.0.try_recv().ok() } else { None };
        }
        is_open
    }

    fn admits(&mut self, command: &Command) -> bool {
        let Command::Publish(message) = command else {
            return true;
        };
        let hash = self.hasher.hash_one(&message.topic);
        if self.topics.len() < self.topics_max {
            self.topics.insert(hash);
            return true;
        }
        self.topics.contains(&hash)
    }
}

fn size(command: &Command) -> usize {
    match command {
        Command::Publish(message) => message.size(),
        Command::Subscribe(_, filter) => filter.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use bytes::Bytes;
    use rumqttc::QoS;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    /// Sizes of the batches that messages with these topics and payload sizes make up.
    async fn batches(messages: &[(&str, usize)], topics_max: usize) -> (Vec<usize>, u64) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(messages.len()));
        for (topic, size) in messages {
            let message = Message {
                topic: Bytes::copy_from_slice(topic.as_bytes()),
                payload: Bytes::from(vec![0; *size]),
                qos: QoS::AtMostOnce,
                sequence: 0,
            };
            let permit = Arc::clone(&room).acquire_owned().await.unwrap();
            sender.send((Command::Publish(message), permit)).unwrap();
        }
        drop(sender);
        let metrics = Metrics::new().unwrap();
        let (mut batch, mut inbox) = (Batch::new(topics_max), Inbox::new(inbox));
        let mut sizes = Vec::new();
        while batch.fill(&mut inbox, &metrics).await {
            assert_eq!(batch.commands.len(), batch.rooms.len());
            sizes.push(batch.commands.len());
            batch.commands.clear();
            batch.rooms.clear();
        }
        assert_eq!(room.available_permits(), messages.len());
        (sizes, metrics.dropped_for("topics"))
    }

    #[tokio::test]
    async fn a_batch_ends_at_its_number_of_messages() {
        let messages = vec![("a", 1); BATCH_MAX + 5];
        assert_eq!(batches(&messages, 10).await, (vec![BATCH_MAX, 5], 0));
    }

    #[tokio::test]
    async fn a_batch_ends_before_its_number_of_bytes_unless_it_is_one_message() {
        let half = BATCH_BYTES / 2 - 1;
        let messages = [("a", half), ("a", half), ("a", half), ("a", 2 * BATCH_BYTES), ("a", 1)];
        assert_eq!(batches(&messages, 10).await, (vec![2, 1, 1, 1], 0));
    }

    #[tokio::test]
    async fn topics_beyond_the_limit_are_left_out_and_counted() {
        let messages = [("a", 1), ("b", 1), ("c", 1), ("a", 1)];
        assert_eq!(batches(&messages, 2).await, (vec![3], 1));
    }
}
