//! What another release wrote: it stops the fleet, and is neither taken for nothing nor written over.

use serde_json::json;

use super::{PATIENCE, site::Site};

#[test]
fn what_a_newer_release_wrote_stops_a_fleet_and_stays() {
    let site = Site::new("formats");
    let mut controller = site.controller("only");
    site.fleet("f", 3, 1, "");
    site.settles("f", 3, 3);
    // Totals are kept from the end of the first worker on.
    site.scale("f", 2);
    site.settles("f", 2, 2);
    let newer = r#"{"format": 9, "what": "nobody knows yet"}"#;
    for (name, key) in [("f-totals", "totals.json"), ("f-plan", "plan.json")] {
        let object = format!("configmap/{name}");
        let is_there = |uid: &str| !uid.is_empty();
        site.namespace.wait_for(&object, "{.metadata.uid}", PATIENCE, is_there).unwrap();
        controller.process.kill().unwrap();
        let patch = json!({"data": {key: newer}}).to_string();
        site.namespace.kubectl(["patch", &object, "--type=merge", "-p", &patch]).unwrap();
        controller = site.controller("only");
        let message = site.condition("f", "Stalled", "True Unreadable");
        let told = "found format 9, which a newer release wrote";
        assert!(message.contains(&format!("ConfigMap {name} cannot be read")) && message.contains(told), "{message}");
        site.scale("f", 4);
        let generation = site.field("fleet/f", "{.metadata.generation}");
        let judged = "{.status.conditions[?(@.type==\"Stalled\")].observedGeneration}";
        site.namespace.wait_for("fleet/f", judged, PATIENCE, |it| it == generation).unwrap();
        assert_eq!(site.field("statefulset/f", "{.spec.replicas}"), "2", "{name}: nothing of the fleet is written");
        let escaped = key.replace('.', "\\.");
        assert_eq!(site.field(&object, &format!("{{.data.{escaped}}}")), newer, "{name}: it stays as it was");
        site.namespace.kubectl(["delete", &object]).unwrap();
        site.condition("f", "Stalled", "False NothingRefused");
        site.settles("f", 4, 4);
        site.scale("f", 2);
        site.settles("f", 2, 2);
    }
}
