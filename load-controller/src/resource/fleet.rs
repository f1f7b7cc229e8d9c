//! The custom resource `Fleet`: a document with the status that the controller gives it.

use std::borrow::Cow;

use fleet_contract::{
    document::{self, Problems},
    fleet::{self, ApiVersion, FleetSpec, Kind, Metadata},
};
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{Resource, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Spec,
    names::{GROUP, VERSION},
};

/// A Fleet as the API server stores it; [`Fleet::document`] checks it.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    #[serde(default)]
    api_version: ApiVersion,
    #[serde(default)]
    kind: Kind,
    /// Kubernetes' own.
    pub metadata: ObjectMeta,
    /// The specification.
    #[serde(default)]
    pub spec: Spec<FleetSpec>,
    /// What the controller found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<FleetStatus>,
}

impl Fleet {
    /// A Fleet of that name and specification.
    pub fn new(name: &str, spec: Map<String, Value>) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Self { metadata, spec: spec.into(), ..Self::default() }
    }

    /// The devices that it asks for; none when that is no number.
    pub fn devices(&self) -> u32 {
        let devices = self.spec.written().get("devices").and_then(Value::as_u64);
        devices.and_then(|devices| u32::try_from(devices).ok()).unwrap_or(0)
    }

    /// The document, without the models that it only names; `Err` is all that its schema has against it.
    pub fn document(&self) -> Result<fleet::Fleet, Problems> {
        let metadata = Metadata { name: self.name_any(), namespace: self.namespace(), ..Metadata::default() };
        let text = serde_json::json!({
            "apiVersion": ApiVersion::default(), "kind": Kind::default(), "metadata": metadata, "spec": self.spec.written(),
        });
        // JSON is YAML, so that one reader does for both.
        document::read::<fleet::Fleet>(&self.name_any(), &text.to_string()).map(|(fleet, _)| fleet)
    }
}

impl Resource for Fleet {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Fleet".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "fleets".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What the controller found; sums and the worst pods, so that it stays small.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FleetStatus {
    /// The generation of the specification that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Devices assigned to pods that exist; the scale subresource counts these.
    pub devices: u32,
    /// Devices that the plan wants now.
    pub desired: u32,
    /// Devices with an accepted session, as far as the pods have answered.
    pub connected: u32,
    /// Pods that exist.
    pub pods: u32,
    /// Pods that are ready.
    pub pods_ready: u32,
    /// The selector of the pods, as text.
    pub selector: String,
    /// The instant that all timetables count from, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Tells the messages of this run from those of any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
    /// The version of the plan.
    pub plan_version: u64,
    /// The number of the document in the history.
    pub revision: u64,
    /// Messages sent a second.
    pub messages_per_second: u64,
    /// Bytes of MQTT sent a second.
    pub bytes_per_second: u64,
    /// Ready, Reconciling, Stalled, Degraded, Saturated.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The last error that matters to a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The pods that lack the most devices, at most ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub worst_pods: Vec<WorstPod>,
}

/// A pod that lacks devices.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorstPod {
    /// Its name.
    pub pod: String,
    /// Devices that it should have connected.
    pub desired: u32,
    /// Devices that it has connected.
    pub connected: u32,
    /// Why, in a word.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(spec: &str) -> Fleet {
        Fleet::new("demo", serde_json::from_str(spec).unwrap())
    }

    #[test]
    fn a_fleet_is_a_document_with_a_status() {
        let fleet = fleet(r#"{"devices": 5, "groups": [{"name": "all", "model": "thermometer"}]}"#);
        let document = fleet.document().unwrap();
        assert_eq!((document.metadata.name.as_str(), document.spec.devices, fleet.devices()), ("demo", 5, 5));
        let json = serde_json::to_value(&fleet).unwrap();
        assert_eq!((&json["apiVersion"], &json["kind"]), (&"simctl.io/v1alpha1".into(), &"Fleet".into()));
        assert_eq!(serde_json::from_value::<Fleet>(json).unwrap(), fleet);
    }

    #[test]
    fn what_cannot_be_understood_is_told_by_field() {
        let problems = fleet(r#"{"devices": "many", "group": []}"#).document().unwrap_err().to_string();
        assert!(problems.contains("spec.devices") && problems.contains("group"), "{problems}");
        assert_eq!(fleet(r#"{"devices": "many", "groups": []}"#).spec.typed(), None);
    }
}
