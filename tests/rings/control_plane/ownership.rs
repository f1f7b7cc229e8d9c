//! What is not a fleet's own is never written and never deleted, whatever its name and labels are.

use std::time::{Duration, Instant};

use super::site::{Site, fleet};

/// Objects of somebody else's with names that a fleet `db` needs.
const FOREIGN: [(&str, &str); 6] = [
    (
        "service/db",
        "{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None, selector: {app: mine}}}",
    ),
    (
        "networkpolicy/db",
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: db}, \
         spec: {podSelector: {matchLabels: {app: mine}}}}",
    ),
    (
        "poddisruptionbudget/db",
        "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: db}, \
         spec: {minAvailable: 1, selector: {matchLabels: {app: mine}}}}",
    ),
    (
        "statefulset/db",
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {replicas: 0, serviceName: db, \
         selector: {matchLabels: {app: mine}}, template: {metadata: {labels: {app: mine}}, \
         spec: {containers: [{name: c, image: x}]}}}}",
    ),
    ("configmap/db-plan", "{apiVersion: v1, kind: ConfigMap, metadata: {name: db-plan}, data: {mine: 'yes'}}"),
    ("secret/db-secrets", "{apiVersion: v1, kind: Secret, metadata: {name: db-secrets}, stringData: {mine: 'yes'}}"),
];

/// What changes with each write, and the owners.
const TRACE: &str = "{.metadata.uid} {.metadata.resourceVersion} {.metadata.ownerReferences}";

#[track_caller]
fn check_that_it_is_left_alone(object: &str, text: &str) {
    let site = Site::new("foreign");
    let _controller = site.controller("only");
    site.namespace.apply(text).unwrap();
    // The StatefulSet's own controller writes its first status.
    if object.starts_with("statefulset") {
        let is_seen = |seen: &str| seen == "1";
        site.namespace.wait_for(object, "{.status.observedGeneration}", super::PATIENCE, is_seen).unwrap();
    }
    let before = site.field(object, TRACE);
    site.fleet("db", 2, 1, "");
    let message = site.condition("db", "Stalled", "True NameTaken");
    let (_, name) = object.split_once('/').unwrap();
    assert!(message.contains(&format!(" {name} exists and is not this fleet's")), "{message}");
    let ready = site.condition("db", "Ready", "False NameTaken");
    assert_eq!(ready.split_once(": ").unwrap().1, message.split_once(": ").unwrap().1);
    assert!(site.event("db", "NameTaken").starts_with("Warning "));
    assert!(site.pods("db").is_empty(), "a fleet without all of its objects has no pods");
    assert_eq!(site.field(object, TRACE), before);

    site.namespace.kubectl(["delete", "fleet/db", "--cascade=foreground"]).unwrap();
    assert_eq!(site.field(object, TRACE), before);
}

#[test]
fn a_service_of_the_fleets_name_is_left_alone() {
    check_that_it_is_left_alone(FOREIGN[0].0, FOREIGN[0].1);
}

#[test]
fn a_network_policy_of_the_fleets_name_is_left_alone() {
    check_that_it_is_left_alone(FOREIGN[1].0, FOREIGN[1].1);
}

#[test]
fn a_disruption_budget_of_the_fleets_name_is_left_alone() {
    check_that_it_is_left_alone(FOREIGN[2].0, FOREIGN[2].1);
}

#[test]
fn a_stateful_set_of_the_fleets_name_is_left_alone() {
    check_that_it_is_left_alone(FOREIGN[3].0, FOREIGN[3].1);
}

#[test]
fn a_config_map_with_the_name_of_the_plan_is_left_alone() {
    check_that_it_is_left_alone(FOREIGN[4].0, FOREIGN[4].1);
}

#[test]
fn a_secret_with_the_name_of_the_fleets_own_is_left_alone() {
    check_that_it_is_left_alone(FOREIGN[5].0, FOREIGN[5].1);
}

#[test]
fn a_config_map_with_the_name_of_a_document_is_left_alone_and_the_fleet_comes_when_it_is_gone() {
    let site = Site::new("document");
    let controller = site.controller("only");
    site.fleet("f", 1, 1, "");
    site.settles("f", 1, 1);
    let name = site.field("statefulset/f", "{.spec.template.metadata.annotations.simctl\\.io/document}");
    site.namespace.kubectl(["delete", "fleet/f", "--cascade=foreground"]).unwrap();

    let (object, started) = (format!("configmap/{name}"), Instant::now());
    site.namespace.kubectl(["create", "configmap", &name, "--from-literal=mine=yes"]).unwrap();
    let before = site.field(&object, TRACE);
    let refused = controller.metric("simctl_controller_reconcile_errors_total{reason=\"refused\"}");
    site.fleet("f", 1, 1, "");
    site.condition("f", "Stalled", "True NameTaken");
    // Attempts come after 1, 3 and 7 seconds.
    let attempts = || {
        let seen = controller.metric("simctl_controller_reconcile_errors_total{reason=\"refused\"}") - refused;
        Ok((seen >= 4.0).then_some(()))
    };
    tests::eventually("the write is tried four times", super::PATIENCE, attempts).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(7), "{:?}", started.elapsed());
    assert_eq!(site.field(&object, TRACE), before);

    site.namespace.kubectl(["delete", "configmap", &name]).unwrap();
    site.settles("f", 1, 1);
    site.condition("f", "Stalled", "False NothingRefused");
}

#[test]
fn a_fleet_whose_name_is_that_of_anothers_broker_leaves_it_alone() {
    let site = Site::new("broker");
    let _controller = site.controller("only");
    let own_broker = fleet("x", 1, 1, "").replace("broker: {url: 'mqtt://broker.example:1883'}\n", "seed: 1\n");
    site.namespace.apply(&own_broker).unwrap();
    site.namespace.wait_for("statefulset/x-broker", "{.status.replicas}", super::PATIENCE, |seen| seen == "1").unwrap();
    let spec = site.field("service/x-broker", "{.spec}");
    site.fleet("x-broker", 1, 1, "");
    site.condition("x-broker", "Stalled", "True NameTaken");
    let message = site.field("fleet/x-broker", "{.status.conditions[?(@.type==\"Stalled\")].message}");
    for kind in ["Service", "NetworkPolicy"] {
        let expected = format!("{kind} x-broker exists and is not this fleet's; it belongs to Fleet x");
        assert!(message.contains(&expected), "{message}");
    }
    assert_eq!(site.field("service/x-broker", "{.spec}"), spec);
    site.namespace.kubectl(["delete", "fleet/x-broker", "--cascade=foreground"]).unwrap();
    assert_eq!(site.field("service/x-broker", "{.spec}"), spec);
}

#[test]
fn a_pod_that_only_carries_a_fleets_labels_is_none_of_its_workers() {
    let site = Site::new("labels");
    let _controller = site.controller("only");
    let label = "simctl.io/fleet: f, app.kubernetes.io/managed-by: load-controller, app.kubernetes.io/component: other";
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: f-7, labels: {{{label}, apps.kubernetes.io/pod-index: '7'}}}}, \
         spec: {{nodeName: outside, tolerations: [{{operator: Exists}}], securityContext: {{runAsNonRoot: true, \
         seccompProfile: {{type: RuntimeDefault}}}}, containers: [{{name: c, image: x, securityContext: \
         {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}]}}}}"
    );
    site.namespace.apply(&pod).unwrap();
    site.fleet("f", 2, 1, "");
    site.settles("f", 2, 2);
    site.condition("f", "Degraded", "True NoWorkerAnswers");
    assert_eq!(site.field("fleet/f", "{.status.pods}"), "2");
}

#[test]
fn fields_that_are_no_longer_wanted_leave_an_object_that_the_controller_created() {
    let site = Site::new("fields");
    let _controller = site.controller("only");
    site.fleet("f", 1, 1, "");
    site.settles("f", 1, 1);
    let selector = "{.spec.template.spec.nodeSelector}";
    let with = fleet("f", 1, 1, "").replace("pod: {cpu", "pod: {nodeSelector: {type: kwok}, cpu");
    site.namespace.apply(&with).unwrap();
    site.namespace.wait_for("statefulset/f", selector, super::PATIENCE, |seen| seen.contains("kwok")).unwrap();
    site.fleet("f", 1, 1, "");
    site.namespace.wait_for("statefulset/f", selector, super::PATIENCE, str::is_empty).unwrap();
    let managers = site.namespace.get(["service/f", "--show-managed-fields"]).unwrap();
    let entries = managers["metadata"]["managedFields"].as_array().unwrap();
    let ours: Vec<_> = entries.iter().filter(|entry| entry["manager"] == "load-controller").collect();
    assert!(ours.len() == 1 && ours[0]["operation"] == "Apply", "{ours:?}");
}
