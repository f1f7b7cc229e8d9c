//! The product comes by `simctl install` and by the chart, and leaves nothing behind.

use serde_json::Value;
use tests::project;

use super::{
    admin,
    fleet::{Fleet, PER_POD, document},
    product, turn,
};

/// Every object of the cluster with a label of ours, as `kind namespace/name`.
fn ours() -> Vec<String> {
    let listed = |namespaced: &str| {
        let args = ["api-resources", "--verbs=list", "-o", "name", namespaced];
        admin().kubectl(args).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let kinds = [listed("--namespaced=true"), listed("--namespaced=false")].concat().join(",");
    let found = admin().get([&kinds, "-A", "-l", "app.kubernetes.io/part-of=simctl"]).unwrap();
    let mut names: Vec<String> = found["items"].as_array().unwrap().iter().map(title).collect();
    names.sort();
    // Some objects are served under two groups.
    names.dedup();
    names
}

fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let meta = &object["metadata"];
    format!("{} {}/{}", text(&object["kind"]), text(&meta["namespace"]), text(&meta["name"]))
}

/// Awaits that nothing with our label is left but `rest`.
#[track_caller]
fn expect_left(rest: &[&str]) {
    let is_gone = || Ok((ours() == rest).then_some(()));
    let left = tests::eventually("nothing is left", super::PATIENCE, is_gone);
    assert!(left.is_ok(), "{left:?}: {:?}", ours());
}

const CRD: &str = "CustomResourceDefinition /fleets.simctl.io";

#[test]
fn simctl_install_brings_it_and_uninstall_leaves_nothing() {
    let _turn = turn();
    let fleet = Fleet::apply("install", &document(10, PER_POD));
    fleet.expect_devices(10, PER_POD, 0);
    assert!(ours().len() > 10, "{:?}", ours());
    let again = product::install();
    assert!(again.stdout.lines().all(|line| line.ends_with("unchanged")), "{}", again.stdout);

    // Fleets go on without a controller, and the cluster still knows what they are.
    product::forget_installation();
    let said = product::simctl(&["uninstall"]);
    assert!(said.stderr.contains("fleets.simctl.io stays"), "{}", said.stderr);
    fleet.expect_devices(10, PER_POD, 0);
    assert!(ours().iter().any(|object| object == CRD));
    assert!(!ours().iter().any(|object| object.contains("load-controller")), "{:?}", ours());

    product::simctl(&["uninstall", "--all"]);
    expect_left(&[]);
}

#[test]
fn the_chart_brings_it_and_takes_it_away() {
    let _turn = turn();
    product::forget_installation();
    product::simctl(&["uninstall", "--all"]);
    expect_left(&[]);
    let chart = project::root().join("manifests/chart").display().to_string();
    let (registry, tag) = (format!("image.registry={}", product::registry()), format!("image.tag={}", product::tag()));
    let values = ["--set", &registry, "--set", &tag, "--set", "image.pullPolicy=IfNotPresent"];
    let place = ["simctl", "--namespace", "load-testing"];
    let install = [&["install"][..], &place, &[&chart, "--create-namespace", "--wait", "--timeout", "3m"], &values];
    product::helm(&install.concat());
    let refused = product::call(&tests::simctl::Simctl::new().unwrap(), &["install"]);
    assert_ne!(refused.code, Some(0), "simctl leaves Helm's release alone");
    assert!(refused.stderr.contains("Helm"), "{}", refused.stderr);

    {
        let fleet = Fleet::apply_to_present("chart", &document(50, PER_POD));
        fleet.expect_devices(50, PER_POD, 0);
        fleet.report().expect("devices.connected", 50);
        fleet.simctl(&["delete", "--all"]);
        fleet.until("nothing of the fleet is left", |fleet| {
            let kinds = "statefulsets,services,configmaps,secrets,poddisruptionbudgets,networkpolicies,pods";
            let left = fleet.namespace.get([kinds, "-l", "simctl.io/fleet=rooms"]).unwrap();
            left["items"].as_array().unwrap().is_empty()
        });
    }
    product::helm(&[&["uninstall"][..], &place, &["--wait"]].concat());
    expect_left(&[CRD]);
    admin().kubectl(["delete", "crd", "fleets.simctl.io"]).unwrap();
    admin().kubectl(["delete", "namespace", "load-testing"]).unwrap();
}
