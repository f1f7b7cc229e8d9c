//! What the cluster or the document does not allow is told, and what runs goes on.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::site::{Site, fleet};

/// A controller that misses a library of models looks for it every five seconds.
const LIBRARY_SOON: Duration = Duration::from_secs(20);

#[test]
fn a_quota_that_refuses_pods_is_told_and_more_room_is_used() {
    let site = Site::new("quota");
    let _controller = site.controller("only");
    // The controller's own pod is the fourth.
    site.namespace.kubectl(["create", "quota", "small", "--hard=pods=4"]).unwrap();
    site.fleet("f", 10, 1, "");
    let message = site.condition("f", "Stalled", "True QuotaExceeded");
    assert!(message.contains("exceeded quota: small"), "{message}");
    let event = site.event("f", "QuotaExceeded");
    assert!(event.starts_with("Warning ") && event.contains("exceeded quota: small"), "{event}");
    assert_eq!((site.pods("f").len(), site.field("fleet/f", "{.status.devices}").as_str()), (3, "3"));
    assert!(site.field("fleet/f", "{.status.lastError}").contains("exceeded quota"));

    site.namespace.kubectl(["delete", "quota", "small"]).unwrap();
    // The StatefulSet's own controller backs off; what it is asked anew it tries at once.
    site.scale("f", 11);
    site.settles("f", 11, 11);
    site.condition("f", "Stalled", "False NothingRefused");
}

#[test]
fn a_broker_that_a_limit_range_refuses_is_told_and_the_fleet_is_not_ready() {
    let site = Site::new("limits");
    let _controller = site.controller("only");
    site.namespace
        .apply(
            "{apiVersion: v1, kind: LimitRange, metadata: {name: small}, \
              spec: {limits: [{type: Container, max: {memory: 100Mi}}]}}",
        )
        .unwrap();
    let own_broker = fleet("f", 2, 1, "").replace("broker: {url: 'mqtt://broker.example:1883'}\n", "seed: 1\n");
    site.namespace.apply(&own_broker).unwrap();
    let message = site.condition("f", "Stalled", "True LimitRangeExceeded");
    assert!(message.contains("f-broker-0") && message.contains("maximum memory usage per Container"), "{message}");
    assert!(site.event("f", "LimitRangeExceeded").starts_with("Warning "));
    site.condition("f", "Ready", "False LimitRangeExceeded");
}

#[test]
fn pods_that_no_node_takes_are_told() {
    let site = Site::new("nodes");
    let _controller = site.controller("only");
    site.namespace.apply(&fleet("f", 2, 1, "").replace("cpu: 10m", "cpu: '33'")).unwrap();
    let message = site.condition("f", "Saturated", "True Unschedulable");
    assert!(message.contains("Insufficient cpu"), "{message}");
    assert!(site.event("f", "Unschedulable").starts_with("Warning "));
}

#[test]
fn a_document_that_only_the_controller_can_judge_is_told_and_what_runs_goes_on() {
    let site = Site::new("invalid");
    let _controller = site.controller("only");
    site.fleet("f", 3, 1, "");
    site.settles("f", 3, 3);
    let before = site.pods("f");

    let broken = fleet("f", 3, 1, "").replace("model: thermometer", "model: termometer");
    site.namespace.apply(&broken).unwrap();
    let message = site.condition("f", "Ready", "False InvalidDocument");
    assert!(message.contains("spec.groups[0].model") && message.contains("`termometer`"), "{message}");
    assert!(site.event("f", "InvalidDocument").starts_with("Warning "));
    let uids = |pods: &[Value]| -> Vec<_> { pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect() };
    assert_eq!(uids(&site.pods("f")), uids(&before));

    site.fleet("f", 4, 1, "");
    site.settles("f", 4, 4);
    site.condition("f", "Ready", "False PlanNotLoaded");
}

#[test]
fn one_fleet_that_nobody_can_read_does_not_keep_the_others_from_theirs() {
    let site = Site::new("neighbours");
    let _controller = site.controller("only");
    // The API server lets models be anything.
    site.fleet("broken", 3, 1, "models: {own: {streams: 7}}");
    site.fleet("f", 3, 1, "");
    site.settles("f", 3, 3);
    let message = site.condition("broken", "Ready", "False InvalidDocument");
    assert!(message.contains("streams"), "{message}");
    assert!(site.pods("broken").is_empty());
}

#[test]
fn models_of_a_config_map_are_found_when_it_comes() {
    let site = Site::new("library");
    let _controller = site.controller("only");
    let named = fleet("f", 2, 1, "modelsFrom: {configMap: library}").replace("model: thermometer", "model: own");
    site.namespace.apply(&named).unwrap();
    let message = site.condition("f", "Ready", "False InvalidDocument");
    assert!(message.contains("found no `library`"), "{message}");

    let model = "streams: {tick: {topic: 'x/{index}', interval: 1s, payload: {json: {}}}}";
    site.namespace.kubectl(["create", "configmap", "library", &format!("--from-literal=own.yaml={model}")]).unwrap();
    let made = Instant::now();
    site.settles("f", 2, 2);
    assert!(made.elapsed() < LIBRARY_SOON, "{:?}", made.elapsed());
}
