//! Distributions of times as a report shows them.

use std::{borrow::Cow, collections::BTreeMap};

use fleet_contract::{
    series::{DISTRIBUTIONS, Distribution, Scope},
    stats::{Latencies, Summary},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

/// Distributions of times, by the keys of [`DISTRIBUTIONS`]; each time counts from the instant that was intended.
#[derive(Debug, Clone, PartialEq)]
pub struct Times(Vec<(&'static Distribution, Summary)>);

impl Times {
    /// All that are measured for the fleet.
    pub(in crate::report) fn of_fleet(latencies: &Latencies) -> Self {
        Self::of_rows(DISTRIBUTIONS.iter(), latencies)
    }

    /// Those that are measured for each stream.
    pub(in crate::report) fn of_stream(latencies: &Latencies) -> Self {
        Self::of_rows(DISTRIBUTIONS.iter().filter(|row| row.scope == Scope::Stream), latencies)
    }

    fn of_rows(rows: impl Iterator<Item = &'static Distribution>, latencies: &Latencies) -> Self {
        Self(rows.map(|row| (row, (row.get)(latencies).summary())).collect())
    }

    /// A distribution; nothing is known of one that was not measured.
    pub fn of(&self, distribution: &Distribution) -> Summary {
        let found = self.0.iter().find(|(row, _)| *row == distribution);
        found.map(|(_, summary)| *summary).unwrap_or_default()
    }

    /// All of them.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Distribution, &Summary)> {
        self.0.iter().map(|(row, summary)| (*row, summary))
    }
}

impl JsonSchema for Times {
    fn schema_name() -> Cow<'static, str> {
        "Times".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let summary = generator.subschema_for::<Summary>();
        let property =
            |row: &Distribution| (row.key.to_owned(), json!({"description": row.metric.help, "allOf": [summary]}));
        let properties: serde_json::Map<_, _> = DISTRIBUTIONS.iter().map(property).collect();
        json_schema!({"type": "object", "properties": properties})
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.rows().map(|(row, summary)| (row.key, summary)))
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut read = BTreeMap::<String, Summary>::deserialize(deserializer)?;
        Ok(Self(DISTRIBUTIONS.iter().filter_map(|row| Some((row, read.remove(row.key)?))).collect()))
    }
}
