//! As many devices as were asked for, in as many pods as that takes, whatever the number.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{PATIENCE, site::Site};

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
