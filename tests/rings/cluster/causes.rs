//! Why a fleet does not come up: named by a condition within ten seconds, whatever the cause, and by `simctl`. The ten seconds
//! count from when Kubernetes itself shows the cause, or runs the pod that finds it: how soon it does is up to the cluster.

use std::time::Duration;

use serde_json::Value;

use super::{
    TURNS, admin,
    fleet::{Fleet, document},
};

/// How long a cause may stay unnamed.
const NAMED_WITHIN: Duration = Duration::from_secs(10);

/// Where nothing listens; the port is that of no service.
const NOWHERE: &str = "broker: {url: 'mqtt://no-such-broker.invalid:1883'}";

/// Whether a pod of the fleet has got so far that there is a cause to be named: its container runs, or waits for more than its
/// creation, or has a volume that cannot be mounted.
fn has_cause(fleet: &Fleet) -> bool {
    let has_begun = |pod: &Value| {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        let waits_for = state["waiting"]["reason"].as_str();
        state["running"].is_object() || waits_for.is_some_and(|reason| reason != "ContainerCreating")
    };
    let unmounted = ["events", "--field-selector", "reason=FailedMount"];
    fleet.pods().iter().any(has_begun) || !list(fleet, unmounted).is_empty()
}

fn list<const N: usize>(fleet: &Fleet, what: [&str; N]) -> Vec<Value> {
    fleet.namespace.get(what).unwrap()["items"].as_array().unwrap().clone()
}

/// Applies a fleet of five devices with `more` in its specification, and awaits the condition; its message.
#[track_caller]
fn named(purpose: &str, more: &str, condition: &str, reason: &str) -> (Fleet, String) {
    let document = document(5, 5).replace("keepAlive: 20s", "timeout: 2s");
    let fleet = Fleet::start(purpose, &format!("{document}  {more}\n"));
    let message = |fleet: &Fleet| {
        let object = fleet.object();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_it = |it: &&Value| it["type"] == condition && it["status"] == "True" && it["reason"] == reason;
        conditions.iter().find(is_it).map(|it| it["message"].as_str().unwrap_or_default().to_owned())
    };
    fleet.until("there is a cause", |fleet| has_cause(fleet) || message(fleet).is_some());
    let took = fleet.until(&format!("{condition} {reason}"), |fleet| message(fleet).is_some());
    println!("FIGURE {reason} is named after {took:.1?}");
    assert!(took < NAMED_WITHIN, "{reason} was named after {took:?}");
    let message = message(&fleet).unwrap();
    // It is told once the condition is written.
    let told = ["events", "--field-selector", &format!("reason={reason}")];
    fleet.until(&format!("an event {reason}"), |fleet| !list(fleet, told).is_empty());
    (fleet, message)
}

/// What `simctl wait` says of it when its time is over.
fn waited(fleet: &Fleet) -> String {
    let finished = fleet.try_simctl(&["wait", "--timeout", "5s"]);
    assert_ne!(finished.code, Some(0), "{}", finished.stdout);
    finished.stderr
}

#[test]
fn a_missing_secret_is_named() {
    let _turn = TURNS.shared();
    let more = "broker: {url: 'mqtt://no-such-broker.invalid:1883', credentials: {username: x, secretName: prod}}";
    let (fleet, message) = named("secret", more, "Degraded", "SecretMissing");
    assert!(message.contains("secret \"prod\" not found"), "{message}");
    assert!(waited(&fleet).contains("secret \"prod\" not found"));
    // The fleet comes when the Secret does.
    fleet.namespace.kubectl(["create", "secret", "generic", "prod", "--from-literal=password=x"]).unwrap();
    fleet.until("the pod is ready", |fleet| fleet.status("podsReady") == 1);
}

#[test]
fn an_image_that_cannot_be_had_is_named() {
    let _turn = TURNS.shared();
    let more = "pod: {image: 'localhost/no-such-image:1', imagePullPolicy: Never}";
    let (fleet, message) = named("image", more, "Degraded", "ImageUnavailable");
    assert!(message.contains("image localhost/no-such-image:1 cannot be pulled"), "{message}");
    assert!(waited(&fleet).contains("localhost/no-such-image:1"));
}

#[test]
fn a_broker_whose_name_does_not_resolve_is_named_and_its_pods_are_ready() {
    let _turn = TURNS.shared();
    let (fleet, message) = named("name", NOWHERE, "Degraded", "BrokerNotResolved");
    assert!(message.contains("mqtt://no-such-broker.invalid:1883 does not resolve"), "{message}");
    let waited = waited(&fleet);
    assert!(waited.contains("no-such-broker.invalid"), "{waited}");
    fleet.until("the pod is ready", |fleet| fleet.status("podsReady") == 1);
    let described = fleet.simctl(&["describe"]).stdout;
    assert!(described.contains("BrokerNotResolved"), "{described}");
    admin().kubectl(["-n", fleet.namespace.name(), "wait", "--for=condition=Ready=false", "fleet", "--all"]).unwrap();
}

#[test]
fn a_broker_that_takes_no_connections_is_named_and_its_pods_are_ready() {
    let _turn = TURNS.shared();
    // The Service has no such port, which the node answers with a refusal or not at all.
    let closed = "broker: {url: 'mqtt://kubernetes.default.svc:1883'}";
    let (fleet, message) = named("closed", closed, "Degraded", "BrokerUnreachable");
    assert!(message.contains("kubernetes.default.svc:1883 does not take connections"), "{message}");
    fleet.until("the pod is ready", |fleet| fleet.status("podsReady") == 1);
}
