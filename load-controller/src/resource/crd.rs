//! The CustomResourceDefinitions. That of Fleet: its schema from the document's own types, and as laws of the API server
//! what a schema cannot say.
//!
//! The API server refuses what is wrong with a message that says what to do; what it cannot check (models, templates)
//! the controller checks and tells in the condition `Ready`.

mod fleet_query;
mod load_test;

use fleet_contract::fleet::{FleetSpec, OWN_LABELS, OWN_PREFIX};
use k8s_openapi::{
    api::core::v1::Affinity, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use schemars::Schema;
use serde_json::{Value, json};

use super::{
    fleet::FleetStatus,
    names::{GROUP, VERSION},
    structural::structural,
};
use crate::yaml;

/// More pods than Kubernetes can hold (its documented limit).
const PODS_MAX: u32 = 150_000;

/// The largest whole number that every reader of JSON reads alike: 2^53 - 1.
const SEED_MAX: u64 = (1 << 53) - 1;

/// The most labels and annotations of pods, so that the API server can bound what their laws cost.
const KEYS_MAX: u32 = 64;

/// The groups that can be told apart, as the document's own check has it.
const GROUPS_MAX: u32 = 255;

/// The kinds that there are, by their plurals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Kind {
    /// Fleet
    Fleets,
    /// LoadTest
    LoadTests,
    /// FleetQuery
    FleetQueries,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Fleets, Self::LoadTests, Self::FleetQueries];

    /// Its definition.
    pub fn build(self) -> CustomResourceDefinition {
        match self {
            Self::Fleets => fleet(),
            Self::LoadTests => load_test::build(),
            Self::FleetQueries => fleet_query::build(),
        }
    }

    /// Its definition as YAML, a document of its own.
    pub fn yaml(self) -> String {
        let text = yaml::text(&self.build()).expect("a definition has string keys");
        format!("# Written by `load-controller crd`.\n{text}")
    }
}

/// The definition of Fleet.
fn fleet() -> CustomResourceDefinition {
    let names = json!({
        "kind": "Fleet", "listKind": "FleetList", "plural": "fleets", "singular": "fleet",
        "shortNames": ["fl"], "categories": ["simctl"],
    });
    let scale = json!({
        "specReplicasPath": ".spec.devices",
        "statusReplicasPath": ".status.devices",
        "labelSelectorPath": ".status.selector",
    });
    let about = "A population of simulated devices.";
    let name = rule(
        // A Service is named so (RFC 1035), and 40 characters leave room for the names of pods.
        "self.metadata.name.matches('^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$')",
        "expected a name of at most 40 lower-case letters, digits and `-` that begins with a letter",
        None,
    );
    let schema = schema(about, &spec(), &schemars::schema_for!(FleetStatus), &[name]);
    definition(&names, &json!({"status": {}, "scale": scale}), &schema, &columns())
}

/// The definition of a kind of ours, of which there is one version.
fn definition(names: &Value, subresources: &Value, schema: &Value, columns: &Value) -> CustomResourceDefinition {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", names["plural"].as_str().unwrap_or_default()),
            "labels": {"app.kubernetes.io/name": "load-controller", "app.kubernetes.io/part-of": "simctl"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names,
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": subresources,
                "additionalPrinterColumns": columns,
            }],
        },
    });
    serde_json::from_value(definition).expect("what is written above is a definition, as the tests prove")
}

/// The schema of a kind whose specification has a schema already, with laws of the whole object.
fn schema(about: &str, spec: &Value, status: &Schema, laws: &[Value]) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": about,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural(status.as_value()),
        },
    });
    if !laws.is_empty() {
        schema["x-kubernetes-validations"] = json!(laws);
    }
    schema
}

/// The columns of `kubectl get fleets`; those of priority 1 only with `-o wide`.
fn columns() -> Value {
    let ready = ".status.conditions[?(@.type==\"Ready\")].status";
    json!([
        column("Devices", "integer", ".spec.devices", 0, "Devices that are asked for"),
        column("Connected", "integer", ".status.connected", 0, "Devices with an accepted session"),
        column("Pods", "integer", ".status.pods", 0, "Pods that exist"),
        column("Msg/s", "integer", ".status.messagesPerSecond", 0, "Messages sent a second"),
        column("Ready", "string", ready, 0, "Whether every object is written and enough of the devices are connected"),
        column("Age", "date", ".metadata.creationTimestamp", 0, "Time since its creation"),
        column("Desired", "integer", ".status.desired", 1, "Devices that the plan wants now"),
        column("Revision", "integer", ".status.revision", 1, "Number of the document in the history"),
        column("Broker", "string", ".spec.broker.url", 1, "Broker; none here and beside means one of its own"),
        column("Brokers", "string", ".spec.broker.urls", 1, "Addresses that the devices are spread over"),
        column("Last error", "string", ".status.lastError", 1, "Last error that matters to a person"),
    ])
}

fn column(name: &str, kind: &str, path: &str, priority: u8, description: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path, "priority": priority, "description": description})
}

fn spec() -> Value {
    let mut spec = structural(&schemars::schema_for!(FleetSpec).to_value());
    // Rules compare these, so they need values even where nobody wrote any; all other defaults are the controller's.
    add(&mut spec, "/properties/devices", json!({"default": 0}));
    add(&mut spec, "/properties/devicesPerPod", json!({"default": 1000}));
    add(&mut spec, "/properties/seed", json!({"default": 0, "maximum": SEED_MAX, "format": "int64"}));
    add(
        &mut spec,
        "/properties/clientId",
        json!({
            "default": "{fleet}-{index}",
            "maxLength": 256,
            "x-kubernetes-validations": [rule(
                "self.contains('{index') || self.contains('{uuid}')",
                "expected `{index}` or `{uuid}`, so that each device has a name of its own",
                None,
            )],
        }),
    );
    add(
        &mut spec,
        "/properties/models",
        json!({
            "additionalProperties": null, "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        }),
    );
    add(&mut spec, "/properties/intervals", json!({"maxProperties": 256}));
    add(
        &mut spec,
        "/properties/groups",
        json!({
            "maxItems": GROUPS_MAX, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        }),
    );
    add(&mut spec, "/properties/groups/items/properties/name", json!({"maxLength": 40}));
    add(&mut spec, "/properties/groups/items/properties/model", json!({"maxLength": 253}));
    add(&mut spec, "/properties/groups/items/properties/share", json!({"maxLength": 16}));
    add(&mut spec, "/properties/groups/items/properties/streams", json!({"maxProperties": 256}));
    add(
        &mut spec,
        "/properties/broker",
        json!({"x-kubernetes-validations": [
            rule(
                "!(has(self.url) && has(self.urls)) && (has(self.url) || has(self.urls)) != has(self.access)",
                "expected one of `url` and `urls`, or `access` for a broker of the fleet's own",
                None,
            ),
            rule(
                "!has(self.access) || !(has(self.credentials) || has(self.tls) || (has(self.protocol) && self.protocol != '3.1.1'))",
                "expected `access` alone: the fleet's own broker speaks MQTT 3.1.1 and has credentials of its own",
                None,
            ),
        ]}),
    );
    for credentials in ["/properties/broker/properties/credentials", "/properties/observer/properties/credentials"] {
        add(
            &mut spec,
            credentials,
            json!({"x-kubernetes-validations": [rule(
                "!has(self.passwordFile) && !has(self.passwordEnv)",
                "in a cluster the password comes from a Secret: write `secretName` instead",
                None,
            )]}),
        );
    }
    pod(&mut spec);
    add(&mut spec, "", json!({"x-kubernetes-validations": laws()}));
    spec
}

/// What the documents' own types cannot say of pods.
fn pod(spec: &mut Value) {
    let prefix = rule(
        &format!("!self.exists(key, key.startsWith('{OWN_PREFIX}'))"),
        &format!("expected no key that begins with {OWN_PREFIX}, because the load controller sets those"),
        None,
    );
    let own = OWN_LABELS.map(|label| {
        let message = format!("expected another key than {label}, which the load controller sets");
        rule(&format!("!('{label}' in self)"), &message, None)
    });
    for (field, own) in [("labels", &own[..]), ("annotations", &[])] {
        let laws = [std::slice::from_ref(&prefix), own].concat();
        let at = format!("/properties/pod/properties/{field}");
        add(spec, &at, json!({"maxProperties": KEYS_MAX, "x-kubernetes-validations": laws}));
    }
    add(
        spec,
        "/properties/pod/properties/sysctls",
        json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    );
    let mut affinity = structural(&schemars::schema_for!(Affinity).to_value());
    forget_descriptions(&mut affinity);
    affinity["description"] = spec["properties"]["pod"]["properties"]["affinity"]["description"].take();
    spec["properties"]["pod"]["properties"]["affinity"] = affinity;
}

/// What Kubernetes' own types say of themselves is long, and `kubectl explain pod.spec` shows it.
fn forget_descriptions(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("description");
    schema.values_mut().for_each(forget_descriptions);
}

/// The laws across fields. What would give devices another home or another name stays as it is while there are devices.
fn laws() -> Vec<Value> {
    let frozen = |field: &str, same: &str, why: &str| {
        rule(
            &format!("oldSelf.devices == 0 || self.devices == 0 || {same}"),
            &format!("{field} cannot change while there are devices, because {why}: scale to 0 first"),
            Some(&format!(".{field}")),
        )
    };
    let same = |field: &str| format!("self.{field} == oldSelf.{field}");
    let shares = |of: &str| format!("{of}.groups.map(g, g.name + '=' + (has(g.share) ? g.share : ''))");
    let same_groups = format!("{} == {}", shares("self"), shares("oldSelf"));
    vec![
        frozen("devicesPerPod", &same("devicesPerPod"), "it says which pod runs which device"),
        frozen("seed", &same("seed"), "it says what each device is"),
        frozen("clientId", &same("clientId"), "it is the devices' name at the broker"),
        frozen("groups", &same_groups, "names, shares and order of the groups say what each device is"),
        rule(
            "self.groups.filter(g, !has(g.share)).size() <= 1",
            "expected at most one group without a share: it gets what the others leave",
            Some(".groups"),
        ),
        rule(
            &format!("self.devices / self.devicesPerPod < {PODS_MAX}"),
            &format!("expected at most {PODS_MAX} pods: raise devicesPerPod"),
            Some(".devices"),
        ),
    ]
}

fn rule(rule: &str, message: &str, field: Option<&str>) -> Value {
    let mut law = json!({"rule": rule, "message": message});
    if let Some(field) = field {
        law["fieldPath"] = field.into();
    }
    law
}

/// Adds members to the schema at `pointer`, which exists; `null` takes one away.
fn add(schema: &mut Value, pointer: &str, members: Value) {
    let target = schema.pointer_mut(pointer).and_then(Value::as_object_mut);
    if let (Some(target), Value::Object(members)) = (target, members) {
        target.extend(members);
        target.retain(|_, value| !value.is_null());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_definitions_are_fresh() {
        for kind in Kind::ALL {
            let name = kind.build().spec.names.plural;
            let file = format!("manifests/crd/{name}.yaml");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&file);
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == kind.yaml(),
                "{file} is stale; write it anew: cargo run -p load-controller -- crd {name} > {file}"
            );
        }
    }

    #[test]
    fn every_place_that_is_added_to_exists() {
        let spec = spec();
        for pointer in [
            "/properties/devices/default",
            "/properties/seed/maximum",
            "/properties/models/x-kubernetes-preserve-unknown-fields",
            "/properties/intervals/maxProperties",
            "/properties/groups/x-kubernetes-list-type",
            "/properties/groups/items/properties/name/maxLength",
            "/properties/groups/items/properties/share/maxLength",
            "/properties/groups/items/properties/streams/maxProperties",
            "/properties/broker/x-kubernetes-validations",
            "/properties/broker/properties/credentials/x-kubernetes-validations",
            "/properties/observer/properties/credentials/x-kubernetes-validations",
            "/properties/clientId/x-kubernetes-validations",
            "/properties/pod/properties/labels/x-kubernetes-validations",
            "/properties/pod/properties/annotations/x-kubernetes-validations",
            "/properties/pod/properties/sysctls/x-kubernetes-list-type",
            "/properties/pod/properties/affinity/properties/nodeAffinity/properties",
            // What a policy costs that asks about each Secret is bounded by their number.
            "/properties/pod/properties/imagePullSecrets/maxItems",
        ] {
            assert!(spec.pointer(pointer).is_some(), "{pointer}");
        }
        assert!(spec.pointer("/properties/models/additionalProperties").is_none());
    }

    #[test]
    fn the_number_of_devices_may_be_left_to_whoever_scales() {
        let spec = spec();
        assert_eq!(spec["required"], json!(["groups"]));
        assert_eq!(spec["properties"]["devices"]["default"], 0);
    }

    /// A structural schema: a type everywhere but where everything is allowed, and no reference.
    pub(super) fn check_structural(path: &str, schema: &Value) {
        let is_free = schema["x-kubernetes-preserve-unknown-fields"] == true;
        assert!(schema["type"].is_string() || is_free, "{path} has no type: {schema}");
        assert!(schema.get("$ref").is_none() && schema.get("oneOf").is_none(), "{path}");
        let properties = schema["properties"].as_object();
        assert!(properties.is_none() || schema.get("additionalProperties").is_none(), "{path} has both");
        for (name, property) in properties.into_iter().flatten() {
            check_structural(&format!("{path}/{name}"), property);
        }
        for below in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(below).filter(|inner| inner.is_object()) {
                check_structural(&format!("{path}/{below}"), inner);
            }
        }
    }

    #[test]
    fn the_schema_is_structural() {
        let schema = schema("", &spec(), &schemars::schema_for!(FleetStatus), &[]);
        check_structural("spec", &schema["properties"]["spec"]);
        check_structural("status", &schema["properties"]["status"]);
        assert_eq!(schema["properties"]["spec"]["properties"]["lossAfter"]["type"], "string");
        assert!(schema["properties"]["spec"]["properties"]["lossAfter"]["pattern"].is_string());
    }
}
