//! What a device asks its broker for: a filter, and how its messages are to come.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::qos::Qos;

/// A subscription of each device of a group.
///
/// The devices acknowledge what comes and count it; they do not act upon it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    /// The topic filter: a template, in which the wildcards `+` and `#` may stand for levels.
    pub topic: String,
    /// The highest quality of service that messages come with.
    #[serde(default)]
    pub qos: Qos,
    /// MQTT 5: whether messages that the device itself has published are left out; not with `share`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_local: bool,
    /// MQTT 5: whether messages keep the RETAIN flag that they were published with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retain_as_published: bool,
    /// MQTT 5: when the broker sends the messages that it has retained.
    #[serde(default, skip_serializing_if = "RetainHandling::is_default")]
    pub retain_handling: RetainHandling,
    /// MQTT 5: the name of a shared subscription, a template without `/`: each message goes to one of its devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
}

impl Subscription {
    /// The template of the filter as SUBSCRIBE says it: that of a shared subscription is `$share/NAME/FILTER` (MQTT 5,
    /// section 4.8.2).
    pub fn filter(&self) -> String {
        match &self.share {
            Some(name) => format!("$share/{name}/{}", self.topic),
            None => self.topic.clone(),
        }
    }
}

/// When a subscription brings retained messages (MQTT 5, section 3.8.3.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RetainHandling {
    /// Each time that it is asked for, as in MQTT 3.1.1.
    #[default]
    Send,
    /// When the broker did not have the subscription yet.
    SendIfNew,
    /// Never.
    DoNotSend,
}

impl RetainHandling {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
