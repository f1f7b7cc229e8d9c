//! rumqttd, wrapped once: a function from published messages to matching subscriptions.
//!
//! This is the only file that knows rumqttd. It gives the router's thread *one* in-process client,
//! which publishes everything and subscribes to everything; whose message goes to which MQTT
//! session is decided by [`crate::hub`]. So none of what rumqttd does badly for its clients is ever
//! reached: it sees no connect, no disconnect, no acknowledgement, no will, no client id.
//!
//! Per batch: every message, then a fence. The fence returns after all the deliveries of its
//! batch, because the router serves the filters of a client in the order in which they received
//! data, and reads more per filter in one go ([`READ_MAX`]) than a batch can hold
//! ([`BATCH_MAX`]). One case would break that order: a filter whose delivery fills the channel to
//! the client stays first in line. So two fences take turns, and neither is ever first in line.
//!
//! Hence there is never more than one batch inside rumqttd, and its logs, which overwrite what a
//! slow reader has not read yet, cannot overtake this reader. Each delivery carries its offset in
//! the log of its filter; a gap would be counted ([`Delivery::skipped`]).
//!
//! What is worked around here, all of it in rumqttd 0.20:
//! - matching slices the first *byte* of a topic, and panics on a topic such as `é`: topics are
//!   routed under an ASCII prefix;
//! - a filter that starts with `$` ends the connection, and `#` may not match a topic that starts
//!   with `$` (MQTT-4.7.2-1): those topics have a prefix of their own;
//! - shared subscriptions can panic the router when the last member leaves: `$share` is not passed;
//! - a delivery carries the subscription's quality of service only: the publisher's travels in an
//!   envelope before the payload;
//! - unsubscribing can race with a delivery in the same turn and revive the subscription: filters
//!   stay subscribed, and their number is limited. rumqttd never frees the log of a filter anyway;
//! - the thread of the router never ends: it outlives this value, idle.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::QoS;
use rumqttd::local::{LinkBuilder, LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{Filter, Packet, Publish, RetainForwardRule, Subscribe, SubscribeProperties};
use rumqttd::{Notification, RouterConfig, SegmentConfig};

use crate::message::Message;

/// Messages in one batch, at most.
pub(crate) const BATCH_MAX: usize = 1024;
/// Messages that rumqttd hands over per filter and turn; more than a batch and its fence.
const READ_MAX: u64 = 2 * BATCH_MAX as u64;
/// Topics and payloads in one batch, in bytes; a single larger message is a batch of its own.
pub(crate) const BATCH_BYTES: usize = 192 * 1024;
/// Bytes in a segment of a filter's log, and segments. All but the oldest segment must hold a batch
/// with its envelopes; there is no reader of the past, so it is not more.
const SEGMENT_BYTES: usize = 256 * 1024;
const SEGMENTS: usize = 2;
/// The same for the fence, whose messages are empty but cost memory all the same.
const FENCE_SEGMENT_BYTES: usize = 1024;

/// The topics of which one has a message after each batch. No client's topic has this form.
const FENCES: [&str; 2] = ["f/0", "f/1"];
const PREFIX_LENGTH: usize = 2;
const ENVELOPE_LENGTH: usize = 9;

/// A topic filter that the router knows: from 1 the fences, then the clients' in order of first use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FilterId(usize);

impl FilterId {
    /// The client's filter number `n`.
    pub(crate) fn nth(n: usize) -> FilterId {
        FilterId(1 + FENCES.len() + n)
    }

    /// The inverse of [`FilterId::nth`].
    pub(crate) fn index(self) -> usize {
        self.0 - 1 - FENCES.len()
    }
}

/// What the router is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Route a message to all filters that match it.
    Publish(Message),
    /// Route what is published from now on to this filter also; once per filter.
    Subscribe(FilterId, String),
}

/// A message at a filter that matches it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) filter: FilterId,
    pub(crate) message: Message,
    /// Messages of this filter that the router dropped immediately before this one.
    pub(crate) skipped: u64,
}

/// Why the router is of no use any more.
#[derive(Debug, thiserror::Error)]
#[error("the router thread ended: {0}")]
pub struct RouterError(String);

impl From<LinkError> for RouterError {
    fn from(error: LinkError) -> Self {
        // As text: no type of rumqttd leaves this file.
        Self(error.to_string())
    }
}

/// The router's thread, seen from its only client.
pub(crate) struct Router {
    tx: LinkTx,
    rx: LinkRx,
    /// Which fence follows the next batch.
    turn: usize,
    /// Per filter, the offset that its next delivery must have.
    expected: Vec<u64>,
}

impl Router {
    /// Starts the thread; returns when it answers.
    pub(crate) fn start() -> Result<Router, RouterError> {
        let fence_log = SegmentConfig { max_segment_size: FENCE_SEGMENT_BYTES, max_segment_count: SEGMENTS };
        let config = RouterConfig {
            max_connections: 8,
            max_outgoing_packet_count: READ_MAX,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            custom_segment: Some(HashMap::from([("f/+".to_owned(), fence_log)])),
            ..RouterConfig::default()
        };
        let link = rumqttd::Router::new(0, config).spawn();
        let (mut tx, mut rx, _connack) = LinkBuilder::new("hub", link).build()?;
        for (n, fence) in FENCES.into_iter().enumerate() {
            let id = FilterId(1 + n);
            tx.buffer().push_back(subscribe(id, fence.to_owned()));
        }
        // The fences must have been read once, so that they are waiting and not in line.
        tx.publish(FENCES[0], "")?;
        while !matches!(rx.recv()?, Some(Notification::Forward(_))) {}
        Ok(Router { tx, rx, turn: 1, expected: Vec::new() })
    }

    /// Routes the batch, which must be within [`BATCH_MAX`] and [`BATCH_BYTES`] and is left empty, and hands
    /// each delivery to `deliver`. Returns when all of them have been handed over.
    ///
    /// Messages keep their order within a filter.
    pub(crate) async fn route(
        &mut self,
        batch: &mut Vec<Command>,
        mut deliver: impl FnMut(Delivery),
    ) -> Result<(), RouterError> {
        debug_assert!(batch.len() <= BATCH_MAX);
        self.tx.buffer().extend(batch.drain(..).map(packet));
        // Does not block: the channel holds 1,000 events, and this is the only one in it.
        self.tx.publish(FENCES[self.turn], "")?;
        self.turn = 1 - self.turn;
        loop {
            match self.rx.next().await? {
                Some(Notification::Forward(forward)) => match self.delivery(forward) {
                    Some(delivery) => deliver(delivery),
                    None => return Ok(()),
                },
                // The router has filled the channel and waits to be told that it was emptied.
                Some(Notification::Unschedule) => self.rx.wake().await?,
                // Acknowledgements of subscriptions, and wake-ups whose data was already read.
                Some(_) | None => {}
            }
        }
    }

    /// The delivery in a forward, or nothing for the fence.
    fn delivery(&mut self, forward: rumqttd::Forward) -> Option<Delivery> {
        let subscription =
            forward.properties.and_then(|properties| properties.subscription_identifiers.first().copied());
        let filter = subscription.filter(|id| *id > FENCES.len()).map(FilterId)?;
        let skipped = forward.cursor.map_or(0, |(_, offset)| self.skipped(filter, offset));
        Some(Delivery { filter, message: open(&forward.publish.topic, &forward.publish.payload), skipped })
    }

    fn skipped(&mut self, filter: FilterId, offset: u64) -> u64 {
        let index = filter.index();
        if self.expected.len() <= index {
            self.expected.resize(index + 1, 0);
        }
        let skipped = offset.saturating_sub(self.expected[index]);
        self.expected[index] = offset + 1;
        skipped
    }
}

fn packet(command: Command) -> Packet {
    match command {
        Command::Publish(message) => seal(&message),
        Command::Subscribe(id, filter) => subscribe(id, routed(&filter)),
    }
}

fn subscribe(id: FilterId, path: String) -> Packet {
    let filter = Filter {
        path,
        qos: rumqttd::protocol::QoS::AtMostOnce,
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::Never,
    };
    let properties = SubscribeProperties { id: Some(id.0), user_properties: Vec::new() };
    let subscribe = Subscribe { pkid: 1, filters: vec![filter] };
    Packet::Subscribe(subscribe, Some(properties))
}

/// The name under which the router knows a topic or a filter.
pub(crate) fn routed(topic: &str) -> String {
    let prefix = if topic.starts_with('$') { "d/" } else { "t/" };
    [prefix, topic].concat()
}

/// Topic and envelope in one allocation: `t/TOPIC`, then quality of service, sequence, payload.
fn seal(message: &Message) -> Packet {
    let mut buffer = BytesMut::with_capacity(PREFIX_LENGTH + ENVELOPE_LENGTH + message.size());
    let dollar = message.topic.first() == Some(&b'$');
    buffer.put_slice(if dollar { b"d/" } else { b"t/" });
    buffer.put_slice(&message.topic);
    let topic = buffer.split().freeze();
    buffer.put_u8(message.qos as u8);
    buffer.put_u64(message.sequence);
    buffer.put_slice(&message.payload);
    Packet::Publish(Publish::new(topic, buffer.freeze(), false), None)
}

fn open(topic: &Bytes, payload: &Bytes) -> Message {
    let qos = match payload[0] {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&payload[1..ENVELOPE_LENGTH]);
    Message {
        topic: topic.slice(PREFIX_LENGTH..),
        payload: payload.slice(ENVELOPE_LENGTH..),
        qos,
        sequence: u64::from_be_bytes(sequence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, sequence: u64) -> Message {
        Message {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            payload: Bytes::from(format!("payload {sequence}")),
            qos: QoS::ExactlyOnce,
            sequence,
        }
    }

    /// The (filter, sequence) pairs to which the commands lead, in order of arrival.
    async fn deliveries(router: &mut Router, mut batch: Vec<Command>) -> Vec<(usize, u64)> {
        let mut seen = Vec::new();
        router
            .route(&mut batch, |delivery| {
                assert_eq!(delivery.skipped, 0);
                seen.push((delivery.filter.index(), delivery.message.sequence));
            })
            .await
            .unwrap();
        seen
    }

    #[tokio::test]
    async fn a_topic_reaches_the_filters_that_match_it_and_no_other() {
        let cases = [
            ("a/b", "a/b", true),
            ("a/b", "a/+", true),
            ("a/b", "#", true),
            ("a/b", "a", false),
            ("a", "a/#", true),
            ("/a", "+/a", true),
            ("é/ü", "+/ü", true),
            ("é", "#", true),
            ("$SYS/x", "#", false),
            ("$SYS/x", "+/x", false),
            ("$SYS/x", "$SYS/#", true),
            ("f", "f", true),
            ("a/b/c", "a/+", false),
        ];
        for (topic, filter, matches) in cases {
            let mut router = Router::start().unwrap();
            let seen = deliveries(
                &mut router,
                vec![Command::Subscribe(FilterId::nth(0), filter.to_owned()), Command::Publish(message(topic, 7))],
            )
            .await;
            let expected = if matches { vec![(0, 7)] } else { vec![] };
            assert_eq!(seen, expected, "{topic} at {filter}");
        }
    }

    #[tokio::test]
    async fn a_message_arrives_as_it_was_published() {
        let mut router = Router::start().unwrap();
        let mut batch = vec![Command::Subscribe(FilterId::nth(0), "#".to_owned()), Command::Publish(message("a/b", 7))];
        let mut arrived = None;
        let deliver = |delivery: Delivery| arrived = Some(delivery.message);
        router.route(&mut batch, deliver).await.unwrap();
        assert_eq!(arrived, Some(message("a/b", 7)));
    }

    #[tokio::test]
    async fn batches_of_every_size_end_with_their_last_delivery() {
        let mut router = Router::start().unwrap();
        let mut sequence = 0;
        // Sizes around the capacity of rumqttd's channel, over filters old and new.
        for round in 0..600 {
            let size = 150 + round % 110;
            let mut batch = Vec::new();
            if round % 100 == 0 {
                let filter = FilterId::nth(round / 100);
                batch.push(Command::Subscribe(filter, "+/".repeat(round / 100) + "#"));
            }
            let topic = "a/".repeat(10);
            let first = sequence;
            sequence += size as u64;
            batch.extend((first..sequence).map(|s| Command::Publish(message(&topic, s))));
            let seen = deliveries(&mut router, batch).await;
            assert_eq!(seen.len(), size * (1 + round / 100), "round {round}");
            assert!(seen.iter().all(|(_, s)| (first..sequence).contains(s)));
        }
    }

    #[tokio::test]
    async fn full_batches_to_several_filters_arrive_complete_and_in_order() {
        let mut router = Router::start().unwrap();
        let filters = ["#", "+/b", "a/#"];
        let subscribe = filters
            .iter()
            .enumerate()
            .map(|(n, filter)| Command::Subscribe(FilterId::nth(n), (*filter).to_owned()))
            .collect();
        deliveries(&mut router, subscribe).await;
        for round in 0..20 {
            let first = round * BATCH_MAX as u64;
            let sequences = first..first + BATCH_MAX as u64;
            let batch = sequences.clone().map(|sequence| Command::Publish(message("a/b", sequence))).collect();
            let seen = deliveries(&mut router, batch).await;
            for filter in 0..filters.len() {
                let at_filter = seen.iter().filter(|(f, _)| *f == filter).map(|(_, s)| *s);
                assert!(at_filter.eq(sequences.clone()), "filter {filter}");
            }
        }
    }
}
