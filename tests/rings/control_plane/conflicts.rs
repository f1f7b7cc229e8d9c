//! Others write, too: what is the controller's own is repaired, and what is somebody else's is left to them.

use std::time::Duration;

use super::{PATIENCE, site::Site};

/// What the controller's own managers of fields are called.
const MANAGER: &str = "load-controller";

#[test]
fn a_stateful_set_that_somebody_else_scales_or_deletes_is_repaired() {
    let site = Site::new("replicas");
    let _controller = site.controller("only");
    site.fleet("f", 10, 1, "");
    site.settles("f", 10, 10);
    site.namespace.kubectl(["scale", "statefulset/f", "--replicas=3"]).unwrap();
    site.settles("f", 10, 10);
    assert_eq!(site.field("statefulset/f", "{.spec.replicas}"), "10");
    // The other one's write and the repair, once each.
    assert_eq!(site.field("statefulset/f", "{.metadata.generation}"), "3");

    let image = r#"{"spec":{"template":{"spec":{"containers":[{"name":"device-sim","image":"localhost/other:1"}]}}}}"#;
    site.namespace.kubectl(["patch", "statefulset/f", "-p", image]).unwrap();
    let field = "{.spec.template.spec.containers[0].image}";
    site.namespace.wait_for("statefulset/f", field, PATIENCE, |image| image == "localhost/device-sim:1").unwrap();
    site.settles("f", 10, 10);

    let uid = site.field("statefulset/f", "{.metadata.uid}");
    site.namespace.kubectl(["delete", "statefulset/f"]).unwrap();
    site.namespace.wait_for("statefulset/f", "{.metadata.uid}", PATIENCE, |it| !it.is_empty() && it != uid).unwrap();
    site.settles("f", 10, 10);
}

#[test]
fn objects_that_somebody_deletes_or_bends_come_back() {
    let site = Site::new("objects");
    let _controller = site.controller("only");
    site.fleet("f", 2, 1, "");
    site.settles("f", 2, 2);
    for object in ["service/f", "poddisruptionbudget/f", "networkpolicy/f", "secret/f-secrets", "configmap/f-plan"] {
        let uid = site.field(object, "{.metadata.uid}");
        site.namespace.kubectl(["delete", object]).unwrap();
        let is_new = |it: &str| !it.is_empty() && it != uid;
        site.namespace.wait_for(object, "{.metadata.uid}", PATIENCE, is_new).unwrap();
    }
    let bend = r#"{"spec":{"maxUnavailable":2}}"#;
    site.namespace.kubectl(["patch", "pdb/f", "--type=merge", "-p", bend]).unwrap();
    site.namespace.wait_for("pdb/f", "{.spec.maxUnavailable}", PATIENCE, |it| it == "1").unwrap();
    let document = site.field("statefulset/f", "{.spec.template.metadata.annotations.simctl\\.io/document}");
    site.namespace.kubectl(["delete", "configmap", &document]).unwrap();
    site.namespace.wait_for(&format!("configmap/{document}"), "{.immutable}", PATIENCE, |it| it == "true").unwrap();
    assert_eq!(site.field("fleet/f", "{.status.revision}"), "1");
}

#[test]
fn a_plan_that_somebody_bends_is_written_anew_and_counts_from_the_same_instant() {
    let site = Site::new("plan");
    let _controller = site.controller("only");
    site.fleet("f", 2, 1, "");
    site.settles("f", 2, 2);
    let original = site.plan("f");
    let devices = |plan: &serde_json::Value| plan["devices"].clone();
    let bends = [("no plan", "{}".to_owned()), ("no JSON", "{".to_owned()), ("an old one", original.to_string())];
    // A second version, so that there is an old one.
    site.scale("f", 3);
    site.settles("f", 3, 3);
    for (what, text) in bends {
        let wanted = site.plan("f");
        let patch = serde_json::json!({"data": {"plan.json": text}}).to_string();
        site.namespace.kubectl(["patch", "configmap/f-plan", "--type=merge", "-p", &patch]).unwrap();
        let is_repaired = || {
            let text = site.field("configmap/f-plan", "{.data.plan\\.json}");
            let plan: Option<serde_json::Value> = serde_json::from_str(&text).ok();
            Ok(plan.filter(|plan| plan["version"].as_u64() >= wanted["version"].as_u64()))
        };
        let repaired = tests::eventually(&format!("{what} is repaired"), PATIENCE, is_repaired).unwrap();
        assert_eq!((&repaired["start"], &repaired["run"]), (&original["start"], &original["run"]), "{what}");
        assert_eq!(devices(&repaired), devices(&wanted), "{what}");
    }
    site.scale("f", 4);
    site.settles("f", 4, 4);
}

#[test]
fn whoever_scales_owns_the_number_of_devices() {
    let site = Site::new("owner");
    let _controller = site.controller("only");
    site.fleet("f", 5, 1, "");
    site.settles("f", 5, 5);
    site.scale("f", 6);
    site.settles("f", 6, 6);
    let fleet = site.namespace.get(["fleet/f", "--show-managed-fields"]).unwrap();
    let entries = fleet["metadata"]["managedFields"].as_array().unwrap();
    let ours: Vec<_> = entries.iter().filter(|entry| entry["manager"] == MANAGER).collect();
    assert!(!ours.is_empty() && ours.iter().all(|entry| entry["subresource"] == "status"), "{ours:?}");
    assert!(ours.iter().all(|entry| entry["fieldsV1"].get("f:spec").is_none()), "{ours:?}");
    let owner = entries.iter().find(|entry| entry["fieldsV1"]["f:spec"].get("f:devices").is_some()).unwrap();
    assert_eq!((&owner["manager"], &owner["subresource"]), (&"kubectl".into(), &"scale".into()));
}

#[test]
fn a_fleet_that_is_made_again_under_its_name_is_another_one() {
    let site = Site::new("again");
    let _controller = site.controller("only");
    site.fleet("f", 3, 1, "");
    site.settles("f", 3, 3);
    let run = site.field("fleet/f", "{.status.run}");
    site.namespace.kubectl(["delete", "fleet/f"]).unwrap();
    site.fleet("f", 4, 2, "seed: 9");
    site.settles("f", 4, 2);
    assert_ne!(site.field("fleet/f", "{.status.run}"), run);
    let uid = site.field("fleet/f", "{.metadata.uid}");
    for object in ["statefulset/f", "service/f", "configmap/f-plan", "secret/f-secrets"] {
        assert_eq!(site.field(object, "{.metadata.ownerReferences[0].uid}"), uid, "{object}");
    }
}

#[test]
fn two_who_scale_at_once_end_with_the_last_wish() {
    let site = Site::new("wishes");
    let controller = site.controller("only");
    site.fleet("f", 1, 1, "");
    site.settles("f", 1, 1);
    std::thread::scope(|scope| {
        for offset in [10, 20] {
            let site = &site;
            scope.spawn(move || (0..5).for_each(|step| site.scale("f", offset + step)));
        }
    });
    let wish: u32 = site.field("fleet/f", "{.spec.devices}").parse().unwrap();
    site.settles("f", wish, wish);
    let generation: u32 = site.field("statefulset/f", "{.metadata.generation}").parse().unwrap();
    assert!(generation <= 11, "at most one write for each wish, found {generation}");
    // Nobody fights: all is quiet afterwards. Kubernetes still writes the status of a set whose pods have changed.
    let written = || {
        let set = site.namespace.get(["statefulset/f", "--show-managed-fields"]).unwrap();
        let entries = set["metadata"]["managedFields"].as_array().unwrap();
        let ours: Vec<_> = entries.iter().filter(|entry| entry["manager"] == MANAGER).cloned().collect();
        assert!(!ours.is_empty(), "{entries:?}");
        (set["metadata"]["generation"].clone(), ours)
    };
    let before = written();
    let reconciles = controller.metric("simctl_controller_reconcile_errors_total");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(written(), before);
    assert!((controller.metric("simctl_controller_reconcile_errors_total") - reconciles).abs() < 0.5);
}
