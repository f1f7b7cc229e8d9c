//! Streams: series of messages of a device.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Payload, StreamFault, is_false};
use crate::{
    qos::Qos,
    template::Template,
    units::{Bytes, Span},
};

/// A series of messages: each `interval`, or when a rule (`trigger`) says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stream {
    /// Where to, for example `{fleet}/{index}/state`.
    pub topic: Template,
    /// The time from message to message. Devices are spread over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// Each message comes up to this much after its turn, at random; at most the interval.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jitter: Span,
    /// Sends when the wall clock (UTC) shows a multiple of this, instead of spreading the devices over the interval: with
    /// `15m` all of them at :00, :15, :30 and :45. A multiple of the interval, or a part of it. `jitter` spreads them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<Span>,
    /// How many messages each device sends of it, at least 1; then the stream is silent. A worker that starts again counts
    /// anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u32>,
    /// Sends when this happens, instead of at an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Rule>,
    /// How often the rule looks; 1 s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Span>,
    /// With a rule: sends at least so often even when nothing happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least_every: Option<Span>,
    /// With a rule: sends at most once in each window of this length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_every: Option<Span>,
    /// Quality of service: 0, 1 or 2.
    #[serde(default)]
    pub qos: Qos,
    /// Whether the broker keeps the last message for new subscribers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retain: bool,
    /// The body.
    pub payload: Payload,
    /// Pads a smaller body to this many bytes, the stamp included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// How the message can be recognised when it arrives.
    #[serde(default)]
    pub stamp: StampMode,
    /// MQTT 5: what is said of each message beside its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<MessageProperties>,
    /// What goes wrong with its messages, all day long; at most 16 faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub faults: Vec<StreamFault>,
}

impl Stream {
    /// Whether its messages can be followed to their delivery, given the template of the client id: each one with a stamp,
    /// and without one where the topic names the device and is not the broker's own (MQTT-4.7.2-1).
    pub fn can_be_followed(&self, client_id: &Template) -> bool {
        let names_device = || self.topic.identifies_device(client_id) && !self.topic.as_str().starts_with('$');
        self.stamp != StampMode::None || names_device()
    }
}

/// What MQTT 5 says of a message beside its body. Texts are templates, as topics are.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageProperties {
    /// What the body is, for example `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Template>,
    /// For how long the message is worth delivering, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Span>,
    /// Where an answer goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<Template>,
    /// What an answer refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_data: Option<Template>,
    /// Properties of one's own, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user: BTreeMap<String, Template>,
}

/// When a stream that has no interval sends. Rules look at two neighbouring ticks, `check` apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// A truth signal has become true.
    Rising(String),
    /// A truth signal has become false.
    Falling(String),
    /// A signal has changed.
    Change(Change),
    /// A truth signal is true.
    When(String),
    /// Any of these.
    AnyOf(Vec<Rule>),
}

/// A signal that has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// The signal.
    pub signal: String,
    /// For numbers: it has crossed a multiple of this. Without it any change counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<f64>,
}

/// How a message can be recognised when it arrives.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StampMode {
    /// By a member `stamp` at the end of JSON and CBOR bodies; in text and raw bodies where they say `{stamp}`.
    #[default]
    Field,
    /// In MQTT 5 by the user property `stamp`; the body is left as it is.
    Property,
    /// Not by anything in it: by its topic and its body. Of equal bodies the one that was sent first counts as arrived.
    None,
    /// By a counter that the body has anyway: the name of a member whose value is `{seq}`.
    Counter(String),
}

/// What a group changes about a stream of its model.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamOverride {
    /// See the model's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<Template>,
    /// See the model's stream. Streams that follow a rule have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// See the model's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    /// See the model's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub align: Option<Span>,
    /// See the model's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u32>,
    /// See the model's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// See the model's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<bool>,
    /// See the model's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// See the model's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<StampMode>,
    /// See the model's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<MessageProperties>,
    /// See the model's stream, whose faults these replace; `[]` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub faults: Option<Vec<StreamFault>>,
}

impl StreamOverride {
    /// Changes what is set.
    pub fn apply(&self, stream: &mut Stream) {
        let Self { topic, interval, jitter, align, messages, qos, retain, size, stamp, properties, faults } =
            self.clone();
        if let Some(topic) = topic {
            stream.topic = topic;
        }
        stream.interval = interval.or(stream.interval);
        stream.jitter = jitter.unwrap_or(stream.jitter);
        stream.align = align.or(stream.align);
        stream.messages = messages.or(stream.messages);
        stream.qos = qos.unwrap_or(stream.qos);
        stream.retain = retain.unwrap_or(stream.retain);
        stream.size = size.or(stream.size);
        if let Some(stamp) = stamp {
            stream.stamp = stamp;
        }
        stream.properties = properties.or_else(|| stream.properties.take());
        if let Some(faults) = faults {
            stream.faults = faults;
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(span: &Span) -> bool {
    *span == Span::ZERO
}
