//! The counters of messages as a report shows them.

use std::{borrow::Cow, collections::BTreeMap};

use fleet_contract::{
    fleet::Observe,
    series::{COUNTERS, Counter, Known},
    stats::Messages,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

/// What became of messages, by the keys of [`COUNTERS`]: `null` for what only an observer can know where nobody observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    messages: Messages,
    is_observed: bool,
}

impl Counts {
    pub(in crate::report) const fn new(messages: Messages, observe: Observe) -> Self {
        Self { messages, is_observed: !matches!(observe, Observe::None) }
    }

    /// A counter; `None` where it cannot be known.
    pub fn get(&self, counter: &Counter) -> Option<u64> {
        let is_known = self.is_observed || counter.known == Known::Always;
        is_known.then(|| (counter.get)(&self.messages))
    }

    /// The counters as they are; what only an observer can know is 0 where nobody observed.
    pub const fn raw(&self) -> &Messages {
        &self.messages
    }

    /// All counters.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Counter, Option<u64>)> {
        COUNTERS.iter().map(|counter| (counter, self.get(counter)))
    }
}

impl JsonSchema for Counts {
    fn schema_name() -> Cow<'static, str> {
        "Counts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let property = |counter: &Counter| {
            let known = if counter.known == Known::Always { json!("integer") } else { json!(["integer", "null"]) };
            (counter.key.to_owned(), json!({"description": counter.metric.help, "type": known, "minimum": 0}))
        };
        let properties: serde_json::Map<_, _> = COUNTERS.iter().map(property).collect();
        let required: Vec<_> = COUNTERS.iter().map(|counter| counter.key).collect();
        json_schema!({"type": "object", "properties": properties, "required": required})
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.rows().map(|(counter, count)| (counter.key, count)))
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The keys of newer reports have values of any kind.
        let read = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let is_unknown = |counter: &Counter| read.get(counter.key).is_some_and(serde_json::Value::is_null);
        let is_observed = !COUNTERS.iter().any(|counter| counter.known == Known::Observed && is_unknown(counter));
        let counts = read.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_u64()?)));
        Ok(Self { messages: Messages::from_counts(counts), is_observed })
    }
}
