//! As many devices as were asked for, in as many pods as that takes, whatever the number; and how long it takes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tests::kubernetes::Namespace;

use super::{PATIENCE, plane::stateful_set, site::Site};

/// How much longer than a bare StatefulSet of as many pods a fleet may take.
const FACTOR_MAX: f64 = 1.25;

/// How often both are measured; the best counts, because everything else on the machine only ever adds time.
const ROUNDS: u32 = 3;

/// Scales to `devices` and awaits that exactly so many devices and pods are there.
fn scale(site: &Site, devices: u32, per_pod: u32) -> Duration {
    let start = Instant::now();
    let pods = devices.div_ceil(per_pod);
    site.scale("f", devices);
    site.settles("f", devices, pods);
    let took = start.elapsed();
    let wanted: BTreeSet<String> = (0..pods).map(|ordinal| format!("f-{ordinal}")).collect();
    // Of those that were told to end, the last may take a moment longer than the status, which does not count them.
    let is_exact = || Ok((names(site) == wanted).then_some(()));
    tests::eventually(&format!("the pods are f-0 to f-{pods}, without the last"), PATIENCE, is_exact).unwrap();
    took
}

fn names(site: &Site) -> BTreeSet<String> {
    site.pods("f").iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_device_a_pod_every_number_is_exact() {
    let site = Site::new("exact");
    let _controller = site.controller("only");
    site.fleet("f", 1, 1, "");
    site.settles("f", 1, 1);
    let first = site.field("pod/f-0", "{.metadata.uid}");
    for devices in [499, 500, 501] {
        let took = scale(&site, devices, 1);
        println!("{devices} devices in as many pods after {:.1} s", took.as_secs_f64());
    }
    assert_eq!(site.field("pod/f-0", "{.metadata.uid}"), first, "growth touches the tail alone");
    let took = scale(&site, 0, 1);
    println!("none after {:.1} s", took.as_secs_f64());
    // Made anew for its first number, and changed once for each of the others.
    assert_eq!(site.field("statefulset/f", "{.metadata.generation}"), "5");
}

#[test]
fn five_thousand_devices_are_in_fifty_pods() {
    let site = Site::new("packed");
    let _controller = site.controller("only");
    site.fleet("f", 100, 100, "");
    site.settles("f", 100, 1);
    let took = scale(&site, 5_000, 100);
    println!("5,000 devices in 50 pods after {:.1} s", took.as_secs_f64());
    scale(&site, 4_999, 100);
    scale(&site, 4_901, 100);
    scale(&site, 4_900, 100);
    scale(&site, 101, 100);
}

#[test]
fn several_fleets_live_side_by_side() {
    let (one, other) = (Site::new("one"), Site::new("other"));
    let (_first, _second) = (one.controller("only"), other.controller("only"));
    one.fleet("f", 10, 5, "");
    one.fleet("g", 7, 1, "");
    other.fleet("f", 3, 1, "");
    one.settles("f", 10, 2);
    one.settles("g", 7, 7);
    other.settles("f", 3, 3);
    one.namespace.kubectl(["delete", "fleet/f", "--wait=true"]).unwrap();
    one.namespace.wait_for("fleet/g", "{.status.pods}", PATIENCE, |pods| pods == "7").unwrap();
    let is_gone = || Ok(one.pods("f").is_empty().then_some(()));
    tests::eventually("the pods of a deleted fleet are gone", PATIENCE, is_gone).unwrap();
    assert_eq!((one.pods("g").len(), other.pods("f").len()), (7, 3));
}

#[test]
fn five_hundred_pods_take_hardly_longer_than_a_bare_stateful_set() {
    let site = Site::alone("seconds");
    let controller = site.controller("only");
    site.fleet("f", 0, 1, "");
    site.namespace.apply(&stateful_set("bare", 0)).unwrap();
    site.settles("f", 0, 0);
    let (mut bare, mut fleet) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        bare = bare.min(seconds(&site.namespace, "statefulset/bare", "statefulset/bare"));
        fleet = fleet.min(seconds(&site.namespace, "fleet/f", "statefulset/f"));
    }
    let factor = fleet.as_secs_f64() / bare.as_secs_f64();
    println!(
        "500 pods ready: {:.2} s of a fleet, {:.2} s of a bare StatefulSet, factor {factor:.2}; controller: {:.2} s CPU",
        fleet.as_secs_f64(),
        bare.as_secs_f64(),
        controller.process.cpu().unwrap().total().as_secs_f64()
    );
    assert!(factor <= FACTOR_MAX, "a fleet takes {factor:.2} times as long as a bare StatefulSet");
}

/// How long it takes from the wish for 500 pods until they are ready; leaves none behind.
pub(crate) fn seconds(namespace: &Namespace, scaled: &str, watched: &str) -> Duration {
    let start = Instant::now();
    namespace.kubectl(["scale", scaled, "--replicas=500"]).unwrap();
    namespace.wait_for_ready(watched, 500, PATIENCE).unwrap();
    let took = start.elapsed();
    namespace.kubectl(["scale", scaled, "--replicas=0"]).unwrap();
    namespace.wait_for_ready(watched, 0, PATIENCE).unwrap();
    took
}
