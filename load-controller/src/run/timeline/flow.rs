//! The counters of a point: those of [`COUNTERS`] that tell how messages flow.

use std::{borrow::Cow, collections::BTreeMap};

use fleet_contract::{
    metric::Kind,
    series::{COUNTERS, Counter, Meaning},
    stats::Messages,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serializer};
use serde_json::json;

/// The counters that a point shows; parts of others would make long runs long to read.
pub fn rows() -> impl Iterator<Item = &'static Counter> {
    let is_flow = |counter: &&Counter| counter.metric.kind == Kind::Counter && counter.meaning != Meaning::Detail;
    COUNTERS.iter().filter(is_flow)
}

pub(super) fn serialize<S: Serializer>(messages: &Messages, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rows().map(|counter| (counter.key, (counter.get)(messages))))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Messages, D::Error> {
    let counts = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
    let known = counts.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_u64()?)));
    Ok(Messages::from_counts(known))
}

/// The counters of a point, for the schema.
pub(super) struct Flow;

impl JsonSchema for Flow {
    fn schema_name() -> Cow<'static, str> {
        "Flow".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let property = |counter: &Counter| {
            (counter.key.to_owned(), json!({"description": counter.metric.help, "type": "integer", "minimum": 0}))
        };
        json_schema!({"type": "object", "properties": rows().map(property).collect::<serde_json::Map<_, _>>()})
    }
}
