//! The custom resource `LoadTest`: a document with the status that the controller gives it.

use std::borrow::Cow;

use fleet_contract::{
    document::{self, Problems},
    fleet::{ApiVersion, Metadata},
    load_test::{self, Kind, LoadTestSpec},
};
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{Resource, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Spec,
    names::{GROUP, STARTED_ANNOTATION, VERSION},
};

/// The test is over, whatever came of it.
pub const COMPLETE: &str = "Complete";
/// All that was asked for has come of it; not there before it is over.
pub const PASSED: &str = "Passed";

/// A LoadTest as the API server stores it; [`LoadTest::document`] checks it.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadTest {
    #[serde(default)]
    api_version: ApiVersion,
    #[serde(default)]
    kind: Kind,
    /// Kubernetes' own.
    pub metadata: ObjectMeta,
    /// The specification.
    #[serde(default)]
    pub spec: Spec<LoadTestSpec>,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<LoadTestStatus>,
}

impl LoadTest {
    /// The document; `Err` is all that its schema has against it.
    pub fn document(&self) -> Result<load_test::LoadTest, Problems> {
        let metadata = Metadata { name: self.name_any(), namespace: self.namespace(), ..Metadata::default() };
        let text = serde_json::json!({
            "apiVersion": ApiVersion::default(), "kind": Kind::default(), "metadata": metadata, "spec": self.spec.written(),
        });
        document::read::<load_test::LoadTest>(&self.name_any(), &text.to_string()).map(|(test, _)| test)
    }

    /// The fleet that it names, as far as that can be read.
    pub fn fleet(&self) -> Option<&str> {
        self.spec.written().get("fleet")?.as_str()
    }

    /// Whether it is over. One that never began and was edited since gets another chance.
    pub fn is_complete(&self) -> bool {
        let complete = |condition: &Condition| condition.type_ == COMPLETE && condition.status == "True";
        let Some(status) = &self.status else { return false };
        let is_edited = self.started().is_none() && status.observed_generation != self.metadata.generation;
        status.conditions.iter().any(complete) && !is_edited
    }

    /// When it was started, as its annotation says: nothing takes that back, not even a copy from a backup.
    pub fn started(&self) -> Option<&str> {
        self.annotations().get(STARTED_ANNOTATION).map(String::as_str)
    }
}

impl Resource for LoadTest {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "LoadTest".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "loadtests".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// How far a test has come.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadTestStatus {
    /// The generation of the specification that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The instant that its phases count from, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// When it was over, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// The phase that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The revision of the fleet's document that it is run with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// What became of the messages that fell due in its phases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageCounts>,
    /// How many of its thresholds are judged, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<ThresholdCounts>,
    /// Why it did not pass, the heaviest reason first; at most ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The ConfigMaps that hold its report, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<String>,
    /// Complete; and Passed, once it is.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What became of messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageCounts {
    /// Fell due.
    pub offered: u64,
    /// Were handed to a session.
    pub sent: u64,
    /// Were acknowledged by the broker.
    pub acknowledged: u64,
    /// Arrived at the observer.
    pub delivered: u64,
    /// Did not arrive in time.
    pub lost: u64,
}

/// How many thresholds are judged, and how; one that looks at each phase counts once a phase.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ThresholdCounts {
    /// Are met.
    pub passed: u32,
    /// Are not.
    pub failed: u32,
    /// Are not judged yet.
    pub pending: u32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn test(spec: &serde_json::Value) -> LoadTest {
        let text = json!({"metadata": {"name": "rush", "annotations": {STARTED_ANNOTATION: "2026-11-29T10:00:00Z"}}, "spec": spec});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_test_is_a_document_with_a_status() {
        let mut test = test(&json!({"fleet": "lab", "phases": [{"name": "a", "duration": "1s"}]}));
        assert_eq!(test.document().unwrap().spec.phases.len(), 1);
        assert_eq!(
            (test.fleet(), test.started(), test.is_complete()),
            (Some("lab"), Some("2026-11-29T10:00:00Z"), false)
        );
        test.status = serde_json::from_value(json!({"conditions": [{
            "type": "Complete", "status": "True", "reason": "Passed", "message": "", "lastTransitionTime": "2026-11-29T10:00:00Z",
        }]}))
        .unwrap();
        assert!(test.is_complete());
    }

    #[test]
    fn one_that_cannot_be_read_still_names_its_fleet() {
        let test = test(&json!({"fleet": "lab", "phases": [{"name": "a", "duration": "soon"}]}));
        assert_eq!((test.spec.typed(), test.fleet()), (None, Some("lab")));
        assert!(test.document().unwrap_err().to_string().contains("spec.phases[0].duration"));
    }
}
