//! One application message on its way through the broker.

use bytes::Bytes;
use rumqttc::QoS;

use crate::store::KeptMessage;

/// An application message as its publisher sent it, and its place in the order of all messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Valid UTF-8 without wildcards; checked when the packet was decoded.
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    /// The quality of service with which it was published.
    pub(crate) qos: QoS,
    /// Rises by one with each message that the broker accepts, so that a subscription can tell
    /// what was published before it began.
    pub(crate) sequence: u64,
}

impl Message {
    /// What the message weighs in a queue, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }

    /// As it is kept, to be delivered like this.
    pub(crate) fn kept(&self, qos: QoS, retain: bool) -> KeptMessage {
        let topic = String::from_utf8_lossy(&self.topic).into_owned();
        KeptMessage { topic, payload: self.payload.clone(), qos, retain }
    }
}

/// The lower of two: a message is delivered at the lower of the publisher's and the subscription's
/// quality of service (MQTT-3.8.4-6).
pub(crate) fn lower(a: QoS, b: QoS) -> QoS {
    if a < b { a } else { b }
}
