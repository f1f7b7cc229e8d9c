//! Autoscalers of Kubernetes scale a fleet by the devices that it counts, or are warned of.

use std::sync::LazyLock;

use serde_json::{Value, json};
use tests::{
    kubernetes::{ExternalMetrics, keda},
    project,
};

use super::{PATIENCE, PLANE, admin, simctl::Hand, site::Site};

/// The metrics of all tests here, a value for each namespace.
pub(crate) static METRICS: LazyLock<ExternalMetrics> = LazyLock::new(|| ExternalMetrics::start(&PLANE).unwrap());

/// An autoscaler of the fleet `f` by one metric, in YAML.
pub(crate) fn autoscaler(metric: &str) -> String {
    format!(
        "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: f}}
spec:
  scaleTargetRef: {{apiVersion: simctl.io/v1alpha1, kind: Fleet, name: f}}
  minReplicas: 1
  maxReplicas: 100
  metrics: [{metric}]
  behavior:
    scaleUp: {{stabilizationWindowSeconds: 0, policies: [{{type: Pods, value: 1000, periodSeconds: 15}}]}}
    scaleDown: {{stabilizationWindowSeconds: 0, policies: [{{type: Pods, value: 1000, periodSeconds: 15}}]}}
"
    )
}

pub(crate) fn external(target: &str) -> String {
    format!("{{type: External, external: {{metric: {{name: passengers}}, target: {target}}}}}")
}

#[test]
fn one_by_an_average_value_scales_devices_up_and_down() {
    let site = Site::new("average");
    let _controller = site.controller("only");
    METRICS.set(site.namespace.name(), 100);
    site.fleet("f", 10, 4, "");
    site.settles("f", 10, 3);
    // 100 passengers by 10 a device are the 10 devices that there are; then 370, then 50.
    site.namespace.apply(&autoscaler(&external("{type: AverageValue, averageValue: 10}"))).unwrap();
    METRICS.set(site.namespace.name(), 370);
    site.settles("f", 37, 10);
    METRICS.set(site.namespace.name(), 50);
    site.settles("f", 5, 2);
    let counts = "{.status.currentReplicas}/{.status.desiredReplicas}";
    site.namespace.wait_for("hpa/f", counts, PATIENCE, |counts| counts == "5/5").unwrap();
    expect_no_warning(&site);

    let hand = Hand::of(&site);
    let refused = hand.call(&["scale", "f", "20"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("HorizontalPodAutoscaler f scales fleet f between 1 and 100"), "{refused:?}");
    assert_eq!(site.field("fleet/f", "{.spec.devices}"), "5");
}

#[test]
fn any_other_is_warned_of() {
    for (name, metric) in [
        ("value", external("{type: Value, value: 10}")),
        ("cpu", "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}".into()),
    ] {
        let site = Site::new(name);
        let _controller = site.controller("only");
        site.fleet("f", 10, 4, "");
        site.settles("f", 10, 3);
        site.namespace.apply(&autoscaler(&metric)).unwrap();
        let event = site.event("f", "UnfitAutoscaler");
        assert!(event.starts_with("Warning ") && event.contains("AverageValue"), "{event}");
        site.namespace.wait_for("fleet/f", "{.status.pods}", PATIENCE, |it| !it.is_empty()).unwrap();
    }
}

/// A document of `manifests/examples/`.
fn example(name: &str) -> String {
    std::fs::read_to_string(project::root().join("manifests/examples").join(name)).unwrap()
}

/// The controller finds nothing wrong with the autoscalers of a namespace.
#[track_caller]
fn expect_no_warning(site: &Site) {
    let events = site.namespace.get(["events", "--field-selector", "reason=UnfitAutoscaler"]).unwrap();
    assert_eq!(events["items"].as_array().unwrap().len(), 0, "{events}");
}

#[test]
fn the_example_of_one_scales_the_fleet_that_it_names() {
    let site = Site::new("example");
    let _controller = site.controller("only");
    METRICS.set(site.namespace.name(), 100);
    site.fleet("robotaxis", 10, 4, "");
    site.settles("robotaxis", 10, 3);
    site.namespace.apply(&example("autoscaler.yaml")).unwrap();
    METRICS.set(site.namespace.name(), 420);
    site.settles("robotaxis", 42, 11);
    expect_no_warning(&site);
}

/// The autoscaler that KEDA makes of a `ScaledObject`: its name, its labels, its owner, and the label by which KEDA's
/// metrics are asked for.
fn made_by_keda(scaled: &Value) -> Value {
    let (name, spec) = (&scaled["metadata"]["name"], &scaled["spec"]);
    let made = format!("keda-hpa-{}", name.as_str().unwrap());
    let trigger = &spec["triggers"][0];
    let metric = json!({"name": "s0-prometheus", "selector": {"matchLabels": {"scaledobject.keda.sh/name": name}}});
    let target = json!({"type": trigger["metricType"], "averageValue": trigger["metadata"]["threshold"]});
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": made,
            "labels": {
                "app.kubernetes.io/name": made,
                "app.kubernetes.io/part-of": name,
                "app.kubernetes.io/managed-by": "keda-operator",
            },
            "ownerReferences": [{
                "apiVersion": scaled["apiVersion"], "kind": scaled["kind"], "name": name,
                "uid": scaled["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "scaleTargetRef": spec["scaleTargetRef"],
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
            "metrics": [{"type": "External", "external": {"metric": metric, "target": target}}],
        },
    })
}

#[test]
fn one_that_keda_makes_scales_and_keda_s_object_is_named_to_whoever_scales_by_hand() {
    admin().apply(&keda::scaled_objects().unwrap()).unwrap();
    let definition = "crd/scaledobjects.keda.sh";
    admin().kubectl(["wait", "--for=condition=Established", definition, "--timeout=60s"]).unwrap();
    let site = Site::new("keda");
    let _controller = site.controller("only");
    METRICS.set(site.namespace.name(), 100);
    site.fleet("robotaxis", 10, 4, "");
    site.settles("robotaxis", 10, 3);
    // The API server holds the example to KEDA's own schema, and refuses a field that it does not know.
    site.namespace.apply(&example("keda.yaml")).unwrap();
    let scaled = site.namespace.get(["scaledobject", "robotaxis"]).unwrap();
    site.namespace.apply(&made_by_keda(&scaled).to_string()).unwrap();
    METRICS.set(site.namespace.name(), 420);
    site.settles("robotaxis", 42, 11);
    expect_no_warning(&site);

    let refused = Hand::of(&site).call(&["scale", "robotaxis", "20"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in [
        "the ScaledObject robotaxis, by the HorizontalPodAutoscaler keda-hpa-robotaxis that it makes, scales fleet \
         robotaxis between 10 and 500 devices",
        "`kubectl edit scaledobject.keda.sh/robotaxis`",
    ] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    assert_eq!(site.field("fleet/robotaxis", "{.spec.devices}"), "42");
}
