//! How long a fleet takes to have five hundred pods, beside a StatefulSet of the same pods that nobody looks after, both
//! scaled by kubectl.
//!
//! Kubernetes' controllers ask the API server as seldom as by default meanwhile. At the rate of the other tests two cores
//! have no time left, and the counts and lists of pods that Kubernetes makes for a PodDisruptionBudget and a Service would
//! be measured.

use std::{
    env,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tests::{kubernetes::control_plane::DEFAULT_RATES, process::Process};

use super::{
    PATIENCE, PLANE,
    site::{Site, await_quiet},
};

/// How much longer a fleet may take.
const FACTOR_MAX: f64 = 1.25;

/// How often each is measured at most; the best counts, because everything else on the machine only ever adds time.
const ROUNDS_MAX: u32 = 2;

/// What a scale to five hundred pods took.
#[derive(Clone, Copy)]
struct Took {
    time: Duration,
    /// CPU time of the API server meanwhile.
    api_server: Duration,
    /// CPU time of the controller meanwhile.
    controller: Duration,
}

#[test]
fn five_hundred_pods_take_hardly_longer_than_without_us() {
    assert!(env::var_os(DEFAULT_RATES).is_some(), "measured by `cargo xtask test control-plane-rates`");
    let site = Site::alone("seconds");
    let controller = site.controller("only");
    site.fleet("f", 0, 1, "");
    site.settles("f", 0, 0);
    copy(&site, "bare");
    let round = || ["bare", "f"].map(|set| took(&site, &controller.process, set));
    let mut best = round();
    for _ in 1..ROUNDS_MAX {
        if factor(best) <= FACTOR_MAX {
            break;
        }
        let again = round();
        best = std::array::from_fn(|way| if again[way].time < best[way].time { again[way] } else { best[way] });
    }
    println!("FIGURE 500 pods ready after {:.2} times as long as those of a bare StatefulSet", factor(best));
    for (name, took) in ["bare", "fleet"].into_iter().zip(best) {
        println!(
            "{name:>5}: {:.2} s; {:.2} s CPU of the API server, {:.2} s of the controller",
            took.time.as_secs_f64(),
            took.api_server.as_secs_f64(),
            took.controller.as_secs_f64()
        );
    }
    assert!(factor(best) <= FACTOR_MAX, "a fleet takes {:.2} times as long", factor(best));
}

fn factor([bare, fleet]: [Took; 2]) -> f64 {
    fleet.time.as_secs_f64() / bare.time.as_secs_f64()
}

/// What it takes from the wish for 500 pods until they are ready; leaves none behind.
fn took(site: &Site, controller: &Process, set: &str) -> Took {
    let scaled = if set == "f" { "fleet/f".to_owned() } else { format!("statefulset/{set}") };
    let cpu = || [PLANE.cpu("kube-apiserver"), controller.cpu()].map(Result::unwrap);
    let (start, before) = (Instant::now(), cpu());
    site.namespace.kubectl(["scale", &scaled, "--replicas=500"]).unwrap();
    site.namespace.wait_for_ready(&format!("statefulset/{set}"), 500, PATIENCE).unwrap();
    let (time, after) = (start.elapsed(), cpu());
    let [api_server, controller] = [0, 1].map(|process| after[process].since(before[process]).total());
    site.namespace.kubectl(["scale", &scaled, "--replicas=0"]).unwrap();
    await_quiet();
    Took { time, api_server, controller }
}

/// Makes a StatefulSet like the fleet's under another name, of which its controller knows nothing.
fn copy(site: &Site, name: &str) {
    let mut object = site.namespace.get(["statefulset/f"]).unwrap();
    rename(&mut object, name);
    object["metadata"] = json!({"name": name, "labels": object["metadata"]["labels"]});
    object.as_object_mut().unwrap().retain(|field, _| field != "status");
    site.namespace.apply(&object.to_string()).unwrap();
}

/// Gives all labels and selectors another fleet's name, and takes away what the controller watches for.
fn rename(value: &mut Value, name: &str) {
    match value {
        Value::Object(fields) => {
            fields.retain(|field, _| !["simctl.io/fleet", "app.kubernetes.io/managed-by"].contains(&field.as_str()));
            rename_field(fields, "app.kubernetes.io/instance", name);
            rename_field(fields, "serviceName", name);
            fields.values_mut().for_each(|field| rename(field, name));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, name)),
        _ => {}
    }
}

fn rename_field(fields: &mut Map<String, Value>, field: &str, name: &str) {
    if let Some(value) = fields.get_mut(field) {
        *value = name.into();
    }
}
