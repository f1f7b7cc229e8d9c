//! The policies that judge who may write which fleet or load test, held to all that these can name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::{Value, json};
use tests::project;

use super::chart::{find, objects};

/// Words in the names of fields that name an object of Kubernetes.
const WORDS: [&str; 6] = ["secret", "configmap", "serviceaccount", "classname", "claimname", "volumename"];

/// Fields of pods that are no right to make pods.
const OTHER_FIELDS: [&str; 8] =
    ["annotations", "broker", "cpu", "cpuLimit", "ephemeralStorage", "labels", "memory", "threads"];

/// What a check of a right costs, what all expressions of a policy may cost, and what one of them may.
const CHECK: usize = 350_000;
const BUDGET: usize = 10_000_000;
const BUDGET_EACH: usize = 1_000_000;

/// Every field below that names an object; of a list each place.
fn references(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let lower = name.to_lowercase();
        if WORDS.iter().any(|word| lower.contains(word)) {
            match property["type"].as_str() {
                Some("array") => {
                    let most = property["maxItems"].as_u64();
                    let most = most.unwrap_or_else(|| panic!("{path} has no maxItems, so it cannot be judged"));
                    found.extend((0..most).map(|place| format!("{path}[{place}]")));
                }
                _ => drop(found.insert(path.clone())),
            }
        }
        references(&path, property, found);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            references(&format!("{path}.{below}"), &schema[below], found);
        }
    }
}

/// The expressions of the policy's validations by the field that they are about, as their messages say.
fn rules(policy: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rule = |validation: &Value| {
        let message = text(&validation["messageExpression"]);
        let field = message.trim_start_matches('\'').split(['\'', ':']).next().unwrap().to_owned();
        (field, text(&validation["expression"]))
    };
    policy["spec"]["validations"].as_array().unwrap().iter().map(rule).collect()
}

#[test]
fn every_object_that_a_fleet_can_name_has_a_rule() {
    let objects = objects(&[]);
    let definition = find(&objects, "CustomResourceDefinition", "fleets.simctl.io");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let rules = rules(find(&objects, "ValidatingAdmissionPolicy", "simctl-system.fleets.simctl.io"));
    let mut wanted = BTreeSet::new();
    references("spec", schema, &mut wanted);
    assert!(wanted.contains("spec.broker.tls.caSecretName") && wanted.contains("spec.pod.imagePullSecrets[7]"));
    // What Kubernetes lets everybody name who may make pods.
    let is_of_pods = |field: &str| field.strip_prefix("spec.pod.").is_some_and(|field| !field.contains(['.', '[']));
    wanted.retain(|field| !is_of_pods(field));
    let judged: BTreeSet<String> = rules.keys().filter(|field| *field != "spec.pod.").cloned().collect();
    assert_eq!(judged, wanted);
    for field in judged {
        let resource = if field.ends_with("configMap") { "'configmaps'" } else { "'secrets'" };
        let value = field.replacen("spec.", "variables.spec.?", 1);
        let (first, rest) = value.split_at("variables.spec.".len());
        let value = format!("{first}{}", rest.replace('.', ".?").replace('[', "[?"));
        let rule = &rules[&field];
        assert!(rule.contains(&format!(".name({value}.value())")) && rule.contains(resource), "{field}: {rule}");
    }
}

#[test]
fn every_object_that_a_load_test_can_name_has_a_rule() {
    let objects = objects(&[]);
    let definition = find(&objects, "CustomResourceDefinition", "loadtests.simctl.io");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert!(schema["properties"]["fleet"].is_object());
    let mut wanted = BTreeSet::new();
    references("spec", schema, &mut wanted);
    assert!(wanted.is_empty(), "beside its fleet it names {wanted:?}, and no rule says who may");
    // The API server takes faults as they are; what one can name the schema of the document says.
    let text = fs::read_to_string(project::root().join("manifests/schema/loadtest.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut naming = BTreeSet::new();
    for (name, definition) in document["$defs"].as_object().unwrap() {
        let kinds = definition["oneOf"].as_array().filter(|_| name == "Fault");
        for part in kinds.into_iter().flatten().chain([definition]) {
            let mut found = BTreeSet::new();
            references(name, part, &mut found);
            if !found.is_empty() {
                naming.insert((name.as_str(), part["properties"]["kind"]["const"].as_str()));
            }
        }
    }
    assert_eq!(naming, [("Fault", Some("hook"))].into());
    let policy = &find(&objects, "ValidatingAdmissionPolicy", "simctl-system.loadtests.simctl.io")["spec"];
    let validations = policy["validations"].as_array().unwrap().iter();
    let rules: Vec<&str> = validations.map(|validation| validation["expression"].as_str().unwrap()).collect();
    for parts in [[".name(variables.spec.fleet)", ".check('update')"], ["'hook' in kinds", ".check('create')"]] {
        let is_judged = rules.iter().any(|rule| parts.iter().all(|part| rule.contains(part)));
        assert!(is_judged, "no rule has {parts:?}");
    }
}

#[test]
fn every_field_of_pods_needs_the_right_to_make_pods_but_labels_annotations_and_resources() {
    let objects = objects(&[]);
    let definition = find(&objects, "CustomResourceDefinition", "fleets.simctl.io");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let pod = &schema["properties"]["pod"]["properties"];
    assert!(OTHER_FIELDS.iter().all(|field| pod[field].is_object()));
    let policy = find(&objects, "ValidatingAdmissionPolicy", "simctl-system.fleets.simctl.io");
    let variables = policy["spec"]["variables"].as_array().unwrap();
    let fields = variables.iter().find(|variable| variable["name"] == "podFields").unwrap();
    let (_, list) = fields["expression"].as_str().unwrap().split_once("in [").unwrap();
    let list = list.split_once(']').unwrap().0.split(',').map(|field| field.trim().trim_matches('\''));
    assert_eq!(list.collect::<BTreeSet<_>>(), OTHER_FIELDS.into());
}

#[test]
fn the_policy_is_enforced_and_within_its_budget() {
    let objects = objects(&[]);
    let policy = &find(&objects, "ValidatingAdmissionPolicy", "simctl-system.fleets.simctl.io")["spec"];
    assert_eq!(policy["failurePolicy"], "Fail");
    let rules = policy["matchConstraints"]["resourceRules"].as_array().unwrap();
    let rule = json!({"apiGroups": ["simctl.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                      "resources": ["fleets"]});
    assert_eq!(rules, &[rule], "who scales, and the controller's status, are not judged");
    let binding = &find(&objects, "ValidatingAdmissionPolicyBinding", "simctl-system.fleets.simctl.io")["spec"];
    assert_eq!(binding, &json!({"policyName": "simctl-system.fleets.simctl.io", "validationActions": ["Deny"]}));
    let checks = policy["validations"].as_array().unwrap().iter().map(|validation| {
        let checks = validation["expression"].as_str().unwrap().matches("authorizer").count();
        assert!((1..=BUDGET_EACH / CHECK).contains(&checks), "{validation}");
        checks
    });
    assert!(checks.sum::<usize>() * CHECK < BUDGET);
}
