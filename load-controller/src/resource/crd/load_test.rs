//! The CustomResourceDefinition of LoadTest.

use fleet_contract::load_test::{FAULTS_MAX, LoadTestSpec, PHASES_MAX, THRESHOLDS_MAX};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{add, column, rule};
use crate::resource::{
    load_test::LoadTestStatus,
    names::{GROUP, VERSION},
    structural::structural,
};

/// The definition of LoadTest.
pub(super) fn build() -> CustomResourceDefinition {
    let complete = ".status.conditions[?(@.type==\"Complete\")].reason";
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("loadtests.{GROUP}"),
            "labels": {"app.kubernetes.io/name": "load-controller", "app.kubernetes.io/part-of": "simctl"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "LoadTest", "listKind": "LoadTestList", "plural": "loadtests", "singular": "loadtest",
                "shortNames": ["lt"], "categories": ["simctl"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema()},
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    column("Fleet", "string", ".spec.fleet", 0, "The fleet"),
                    column("State", "string", complete, 0, "How far it has come, or what came of it"),
                    column("Phase", "string", ".status.phase", 0, "The phase that goes on"),
                    column("Sent", "integer", ".status.messages.sent", 0, "Messages that were handed to a session"),
                    column("Lost", "integer", ".status.messages.lost", 0, "Messages that did not arrive in time"),
                    column("Failed", "integer", ".status.thresholds.failed", 0, "Thresholds that are not met"),
                    column("Started", "date", ".status.start", 0, "Time since its start"),
                    column("Age", "date", ".metadata.creationTimestamp", 0, "Time since its creation"),
                    column("Passed", "integer", ".status.thresholds.passed", 1, "Thresholds that are met"),
                    column("Pending", "integer", ".status.thresholds.pending", 1, "Thresholds that are not judged yet"),
                    column("Revision", "integer", ".status.revision", 1, "The revision of the fleet"),
                ],
            }],
        },
    });
    serde_json::from_value(definition).expect("what is written above is a definition, as the tests prove")
}

fn schema() -> Value {
    json!({
        "type": "object",
        "description": "A load test of a fleet: what is done to it, and what must come of that.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec(),
            "status": structural(&schemars::schema_for!(LoadTestStatus).to_value()),
        },
        "x-kubernetes-validations": [rule(
            // Its objects carry it as a label.
            "self.metadata.name.size() <= 63",
            "expected a name of at most 63 characters",
            None,
        )],
    })
}

fn spec() -> Value {
    let mut spec = structural(&schemars::schema_for!(LoadTestSpec).to_value());
    add(&mut spec, "/properties/fleet", json!({"minLength": 1, "maxLength": 40}));
    add(&mut spec, "/properties/skip", json!({"maxLength": 40}));
    add(&mut spec, "/properties/phases", json!({"maxItems": PHASES_MAX}));
    add(&mut spec, "/properties/thresholds", json!({"maxItems": THRESHOLDS_MAX}));
    add(&mut spec, "/properties/phases/items/properties/faults", json!({"maxItems": FAULTS_MAX}));
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_is_added_to_exists() {
        let spec = spec();
        for pointer in [
            "/properties/fleet/type",
            "/properties/skip/type",
            "/properties/phases/items/properties/duration/type",
            "/properties/phases/items/properties/faults/type",
            "/properties/thresholds/type",
        ] {
            assert!(spec.pointer(pointer).is_some(), "{pointer}: {spec:#}");
        }
        assert_eq!(spec["required"], json!(["fleet", "phases"]));
    }

    #[test]
    fn the_schema_is_structural() {
        let schema = schema();
        super::super::tests::check_structural("spec", &schema["properties"]["spec"]);
        super::super::tests::check_structural("status", &schema["properties"]["status"]);
    }
}
