//! The CustomResourceDefinition of LoadTest.

use fleet_contract::{
    fault::FAULTS_MAX,
    load_test::{LoadTestSpec, PHASES_MAX, THRESHOLDS_MAX},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{add, column, definition, rule};
use crate::resource::{load_test::LoadTestStatus, structural::structural};

/// The definition of LoadTest.
pub(super) fn build() -> CustomResourceDefinition {
    let names = json!({
        "kind": "LoadTest", "listKind": "LoadTestList", "plural": "loadtests", "singular": "loadtest",
        "shortNames": ["lt"], "categories": ["simctl"],
    });
    let complete = ".status.conditions[?(@.type==\"Complete\")].reason";
    let columns = json!([
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
    ]);
    definition(&names, &json!({"status": {}}), &schema(), &columns)
}

fn schema() -> Value {
    let about = "A load test of a fleet: what is done to it, and what must come of that.";
    // Its objects carry it as a label.
    let name = rule("self.metadata.name.size() <= 63", "expected a name of at most 63 characters", None);
    super::schema(about, &spec(), &schemars::schema_for!(LoadTestStatus), &[name])
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
