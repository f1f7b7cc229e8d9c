//! Autoscalers of Kubernetes scale a fleet by the devices that it counts, or are warned of.

use std::sync::LazyLock;

use tests::kubernetes::ExternalMetrics;

use super::{PATIENCE, PLANE, simctl::Hand, site::Site};

/// The metrics of all tests here, a value for each namespace.
static METRICS: LazyLock<ExternalMetrics> = LazyLock::new(|| ExternalMetrics::start(&PLANE).unwrap());

/// An autoscaler of the fleet `f` by one metric, in YAML.
fn autoscaler(metric: &str) -> String {
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

fn external(target: &str) -> String {
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
    let events = site.namespace.get(["events", "--field-selector", "reason=UnfitAutoscaler"]).unwrap();
    assert_eq!(events["items"].as_array().unwrap().len(), 0, "{events}");

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
