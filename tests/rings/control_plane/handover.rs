//! Who owns the number of devices: a document that leaves it out leaves it alone, whichever tool applies the document.
//!
//! What `manifests/README.md` says about autoscalers and GitOps controllers is done here. The controllers of Argo CD and
//! Flux are not run; kubectl makes their requests: server-side apply by force, as their own field manager.

use serde_json::json;

use super::{
    PATIENCE,
    autoscaler::{METRICS, autoscaler, external},
    simctl::Hand,
    site::{Site, fleet},
};

/// The document of the fleet `f`, which says nothing of devices.
fn open(more: &str) -> String {
    fleet("f", 0, 5, more).replace("  devices: 0\n", "")
}

/// The managers that own the number of devices of `f`.
fn owners(site: &Site) -> Vec<String> {
    let fleet = site.namespace.get(["fleet/f", "--show-managed-fields"]).unwrap();
    let entries = fleet["metadata"]["managedFields"].as_array().unwrap();
    let owning = entries.iter().filter(|entry| !entry["fieldsV1"]["f:spec"]["f:devices"].is_null());
    owning.map(|entry| entry["manager"].as_str().unwrap().to_owned()).collect()
}

fn devices(site: &Site) -> String {
    site.field("fleet/f", "{.spec.devices}")
}

#[test]
fn a_fleet_begins_without_devices_and_keeps_those_that_a_scale_has_set() {
    let site = Site::new("open");
    let hand = Hand::of(&site);
    let path = hand.document("fleet.yaml", &open(""));
    assert!(hand.does(&["apply", "-f", &path]).contains("fleet.simctl.io/f created"));
    assert_eq!((devices(&site), owners(&site)), ("0".into(), vec![]));
    site.scale("f", 500);
    assert!(hand.does(&["apply", "-f", &path]).contains("fleet.simctl.io/f unchanged"));
    let path = hand.document("fleet.yaml", &open("lossAfter: 20s"));
    assert!(hand.does(&["apply", "-f", &path]).contains("fleet.simctl.io/f configured"));
    assert_eq!((devices(&site), site.field("fleet/f", "{.spec.lossAfter}")), ("500".into(), "20s".into()));
    hand.does(&["apply", "-f", &path, "--force-conflicts"]);
    assert_eq!(devices(&site), "500");
}

#[test]
fn simctl_gives_a_number_up_that_its_document_no_longer_has() {
    let site = Site::new("given-up");
    let hand = Hand::of(&site);
    let with = hand.document("with.yaml", &fleet("f", 6, 5, ""));
    let without = hand.document("without.yaml", &open(""));
    hand.does(&["apply", "-f", &with]);
    assert_eq!((devices(&site), owners(&site)), ("6".into(), vec!["simctl".into()]));
    let trial = hand.does(&["apply", "-f", &without, "--dry-run=server", "-o", "json"]);
    assert!(trial.contains("\"devices\": 6"), "{trial}");
    assert_eq!(owners(&site), ["simctl"], "a trial gives nothing up");

    let applied = hand.call(&["apply", "-f", &without]);
    assert!(applied.code == Some(0) && applied.stderr.contains("devices stays 6"), "{applied:?}");
    assert_eq!((devices(&site), owners(&site)), ("6".into(), vec![]));
    let again = hand.call(&["apply", "-f", &without]);
    assert!(again.stdout.contains("unchanged") && !again.stderr.contains("devices"), "{again:?}");
    // The number that belongs to nobody is the next document's.
    hand.does(&["apply", "-f", &with]);
    assert_eq!(owners(&site), ["simctl"]);
    let path = hand.document("more.yaml", &fleet("f", 7, 5, ""));
    hand.does(&["apply", "-f", &path]);
    assert_eq!(devices(&site), "7");
}

/// Applies a text with kubectl; `flags` say how.
fn kubectl(site: &Site, hand: &Hand, text: &str, flags: &[&str]) -> anyhow::Result<String> {
    let path = hand.document("kubectl.yaml", text);
    site.namespace.kubectl([&["apply", "-f", &path], flags].concat())
}

#[test]
fn kubectl_hands_the_number_over_by_a_manager_of_its_own_or_its_last_applied_document() {
    let server_side = ["--server-side"];
    let site = Site::new("kubectl-server");
    let hand = Hand::of(&site);
    let handover = json!({"apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "f"},
                          "spec": {"devices": 6}})
    .to_string();
    kubectl(&site, &hand, &fleet("f", 6, 5, ""), &server_side).unwrap();
    kubectl(&site, &hand, &handover, &["--server-side", "--field-manager=handover"]).unwrap();
    kubectl(&site, &hand, &open(""), &server_side).unwrap();
    assert_eq!((devices(&site), owners(&site)), ("6".into(), vec!["handover".into()]));
    site.scale("f", 9);
    assert_eq!(owners(&site), ["kubectl"], "whoever scales takes it");
    kubectl(&site, &hand, &open(""), &server_side).unwrap();
    assert_eq!(devices(&site), "9");

    // Without the hand-over the field goes, and the API server fills in its default.
    let site = Site::new("kubectl-drop");
    kubectl(&site, &hand, &fleet("f", 6, 5, ""), &server_side).unwrap();
    kubectl(&site, &hand, &open(""), &server_side).unwrap();
    assert_eq!(devices(&site), "0");

    let site = Site::new("kubectl-client");
    kubectl(&site, &hand, &fleet("f", 6, 5, ""), &[]).unwrap();
    let path = hand.document("open.yaml", &open(""));
    site.namespace.kubectl(["apply", "set-last-applied", "-f", &path]).unwrap();
    kubectl(&site, &hand, &open(""), &[]).unwrap();
    assert_eq!(devices(&site), "6");
}

/// A fleet that an autoscaler has scaled to 37 devices after `begin` gave it one, as which it was switched off.
fn autoscaled(purpose: &str, begin: impl Fn(&Site, &Hand)) -> (Site, Hand) {
    let site = Site::new(purpose);
    let hand = Hand::of(&site);
    METRICS.set(site.namespace.name(), 370);
    let path = hand.document("fleet.yaml", &open(""));
    hand.does(&["apply", "-f", &path]);
    let controller = site.controller("only");
    site.namespace.apply(&autoscaler(&external("{type: AverageValue, averageValue: 10}"))).unwrap();
    let field = "{.status.conditions[?(@.type==\"ScalingActive\")].reason}";
    site.namespace.wait_for("hpa/f", field, PATIENCE, |reason| reason == "ScalingDisabled").unwrap();
    begin(&site, &hand);
    site.settles("f", 37, 8);
    drop(controller);
    (site, hand)
}

#[test]
fn an_autoscaler_keeps_the_number_whoever_applies_the_document() {
    let (site, hand) = autoscaled("handed-over", |site, hand| {
        kubectl(site, hand, &fleet("f", 1, 5, ""), &["--server-side"]).unwrap();
    });
    for manager in ["kubectl", "argocd-controller", "kustomize-controller"] {
        let flags = ["--server-side", "--force-conflicts", &format!("--field-manager={manager}")];
        kubectl(&site, &hand, &open("lossAfter: 20s"), &flags).unwrap();
        assert_eq!(devices(&site), "37", "{manager}");
    }
    let path = hand.document("fleet.yaml", &open(""));
    hand.does(&["apply", "-f", &path, "--force-conflicts"]);
    assert_eq!(devices(&site), "37");
}

#[test]
fn simctl_leaves_the_number_to_an_autoscaler_though_its_document_names_one() {
    // After a scale by kubectl, Kubernetes 1.34 notes no owner of what its autoscaler sets.
    let (site, hand) = autoscaled("named", |site, _| site.scale("f", 1));
    let path = hand.document("fleet.yaml", &fleet("f", 2, 5, "lossAfter: 20s"));
    let applied = hand.call(&["apply", "-f", &path]);
    assert!(applied.code == Some(0) && applied.stderr.contains("devices stays 37, which"), "{applied:?}");
    assert_eq!((devices(&site), site.field("fleet/f", "{.spec.lossAfter}")), ("37".into(), "20s".into()));
}
