//! The specification of a custom resource: as it was written, and as the document's own type where it can be read as one.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A specification as it was written, and what it means.
///
/// An object that cannot be read must not keep the controller from the others, so it is no error here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Map<String, Value>", into = "Map<String, Value>", bound = "T: Clone + DeserializeOwned")]
pub struct Spec<T> {
    written: Map<String, Value>,
    typed: Option<Box<T>>,
}

impl<T> Spec<T> {
    /// What was written: fields that were left out are not there.
    pub const fn written(&self) -> &Map<String, Value> {
        &self.written
    }

    /// What it means, with all defaults and without the laws that the document's reader checks; `None` for what cannot be read.
    pub fn typed(&self) -> Option<&T> {
        self.typed.as_deref()
    }
}

impl<T> Default for Spec<T> {
    fn default() -> Self {
        Self { written: Map::new(), typed: None }
    }
}

impl<T: DeserializeOwned> From<Map<String, Value>> for Spec<T> {
    fn from(written: Map<String, Value>) -> Self {
        let typed = serde_json::from_value(Value::Object(written.clone())).ok();
        Self { written, typed }
    }
}

impl<T> From<Spec<T>> for Map<String, Value> {
    fn from(spec: Spec<T>) -> Self {
        spec.written
    }
}
