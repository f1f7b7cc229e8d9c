//! Two releases at once: what another release wrote stops a fleet, and is neither taken for nothing nor written over; and
//! fleets take a new release over one after another.

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use tests::eventually;

use super::{PATIENCE, site::Site};

/// Fleets that take a new release over, and their pods.
const FLEETS: [&str; 3] = ["a", "b", "c"];
const PODS: u32 = 4;

/// The revisions of the cluster at which the first and the last of a fleet's pods became what it is, once all of them run
/// `image`.
fn rolled(site: &Site, fleet: &str, image: &str) -> Option<RangeInclusive<u64>> {
    let pods = site.pods(fleet);
    let is_new =
        |pod: &Value| pod["spec"]["containers"][0]["image"] == image && pod["metadata"]["deletionTimestamp"].is_null();
    let revision = |pod: &Value| pod["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok());
    let revisions: Vec<u64> = pods.iter().filter(|pod| is_new(pod)).filter_map(revision).collect();
    (revisions.len() == PODS as usize).then(|| *revisions.iter().min().unwrap()..=*revisions.iter().max().unwrap())
}

#[test]
fn fleets_take_a_new_release_over_one_after_another() {
    const NEW: &str = "localhost/device-sim:2";
    let site = Site::new("turns");
    let mut controller = site.controller("only");
    for fleet in FLEETS {
        site.fleet(fleet, PODS, 1, "");
    }
    for fleet in FLEETS {
        site.settles(fleet, PODS, PODS);
    }
    controller.process.kill().unwrap();
    let _controller = site.controller_with("only", &[&format!("--worker-image={NEW}")]);
    let all = || Ok(FLEETS.iter().map(|fleet| rolled(&site, fleet, NEW)).collect::<Option<Vec<_>>>());
    let mut rolled = eventually("all fleets run the new release", PATIENCE, all).unwrap();
    rolled.sort_by_key(|revisions| *revisions.start());
    let is_apart = |pair: &[RangeInclusive<u64>]| pair[0].end() < pair[1].start();
    assert!(rolled.windows(2).all(is_apart), "some rolled at the same time: {rolled:?}");
    // What its author changes waits for nobody.
    site.fleet("a", PODS + 1, 1, "lossAfter: 7s");
    site.settles("a", PODS + 1, PODS + 1);
}

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
