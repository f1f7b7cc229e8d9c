//! The CustomResourceDefinition of FleetQuery.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{add, column, definition, rule};
use crate::resource::{
    fleet_query::{QuerySpec, QueryStatus},
    structural::structural,
};

/// The definition of FleetQuery.
pub(super) fn build() -> CustomResourceDefinition {
    // No category: whoever may list all of ours may not list these.
    let names = json!({
        "kind": "FleetQuery", "listKind": "FleetQueryList", "plural": "fleetqueries", "singular": "fleetquery",
    });
    let columns = json!([
        column("Fleet", "string", ".spec.fleet", 0, "The fleet; none means all of the namespace"),
        column("What", "string", ".spec.what", 0, "Which figures"),
        column("Answered", "date", ".status.answeredAt", 0, "Time since the last answer"),
        column("Error", "string", ".status.error.reason", 0, "Why there is no answer"),
        column("Age", "date", ".metadata.creationTimestamp", 0, "Time since its creation"),
    ]);
    definition(&names, &json!({"status": {}}), &schema(), &columns)
}

fn schema() -> Value {
    let about = "A question about the figures of a fleet, gone 60 s after its last renewal.";
    super::schema(about, &spec(), &schemars::schema_for!(QueryStatus), &[])
}

fn spec() -> Value {
    let mut spec = structural(&schemars::schema_for!(QuerySpec).to_value());
    add(&mut spec, "/properties/fleet", json!({"minLength": 1, "maxLength": 253}));
    add(&mut spec, "/properties/device", json!({"maximum": u32::MAX}));
    // A rule compares it, so it needs a value even where nobody wrote any.
    add(&mut spec, "/properties/renew", json!({"default": 0, "minimum": 0}));
    let rules = [
        rule(
            "self.what == 'pods' || has(self.fleet)",
            "expected a fleet: only `what: pods` can be about all fleets of the namespace",
            Some(".fleet"),
        ),
        rule(
            "(self.what == 'device') == has(self.device)",
            "expected the index of a device with `what: device`, and with nothing else",
            Some(".device"),
        ),
        rule(
            // Which `what` it is says whether there is a device.
            "self.what == oldSelf.what && has(self.fleet) == has(oldSelf.fleet) \
             && (!has(self.fleet) || self.fleet == oldSelf.fleet) \
             && (!has(self.device) || self.device == oldSelf.device)",
            "only `renew` can change: another question is another FleetQuery",
            None,
        ),
        rule("self.renew >= oldSelf.renew", "expected a number that is not smaller than before", Some(".renew")),
    ];
    add(&mut spec, "", json!({"x-kubernetes-validations": rules}));
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_is_added_to_exists() {
        let spec = spec();
        for pointer in ["/properties/fleet/type", "/properties/device/type", "/properties/renew/type"] {
            assert!(spec.pointer(pointer).is_some(), "{pointer}");
        }
        assert_eq!(spec["properties"]["what"]["enum"], json!(["report", "pods", "plan", "device"]));
        assert_eq!(spec["required"], json!(["what"]));
    }

    #[test]
    fn the_schema_is_structural() {
        let schema = schema();
        super::super::tests::check_structural("spec", &schema["properties"]["spec"]);
        super::super::tests::check_structural("status", &schema["properties"]["status"]);
        let limit = crate::resource::fleet_query::ANSWER_BYTES_MAX;
        assert_eq!(schema["properties"]["status"]["properties"]["answer"]["maxLength"], limit);
    }
}
