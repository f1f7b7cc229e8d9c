//! The product comes by `simctl install` and by the chart, and leaves nothing behind.

use serde_json::Value;

use super::{
    TURNS, admin,
    fleet::{Fleet, PER_POD, document, name, uid},
    own_nodes, product,
    volume::{CLASS, SIZE, Volume},
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

/// The Leases of the namespace of Helm's release.
fn leases() -> String {
    admin().kubectl(["get", "leases", "-n", "load-testing", "-o", "name"]).unwrap()
}

/// Awaits that nothing with our label is left but `rest`.
#[track_caller]
fn expect_left(rest: &[&str]) {
    let is_gone = || Ok((ours() == rest).then_some(()));
    let left = tests::eventually("nothing is left", super::PATIENCE, is_gone);
    assert!(left.is_ok(), "{left:?}: {:?}", ours());
}

/// Deletes the fleet, and awaits that nothing of it is left.
#[track_caller]
fn expect_gone(fleet: &Fleet) {
    fleet.simctl(&["delete", "--all"]);
    fleet.until("nothing of the fleet is left", |fleet| {
        let kinds = "statefulsets,services,configmaps,secrets,poddisruptionbudgets,networkpolicies,pods,\
                     persistentvolumeclaims";
        let left = fleet.namespace.get([kinds, "-l", "simctl.io/fleet=rooms"]).unwrap();
        left["items"].as_array().unwrap().is_empty()
    });
}

const CRD: &str = "CustomResourceDefinition /fleets.simctl.io";
const TESTS: &str = "CustomResourceDefinition /loadtests.simctl.io";
const QUERIES: &str = "CustomResourceDefinition /fleetqueries.simctl.io";

#[test]
fn simctl_install_brings_it_and_uninstall_leaves_nothing() {
    let _turn = TURNS.alone();
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
    let _turn = TURNS.alone();
    product::forget_installation();
    product::simctl(&["uninstall", "--all"]);
    expect_left(&[]);
    let place = ["simctl", "--namespace", "load-testing"];
    helm_brings(&[&["install"][..], &place, &["--create-namespace"]].concat());
    refuses(&["install"], "Helm's release simctl in namespace load-testing; use `helm upgrade simctl CHART");
    refuses(&["uninstall"], "Helm's release simctl in namespace load-testing; use `helm uninstall simctl --namespace");

    {
        let fleet = Fleet::apply_to_present("chart", &document(50, PER_POD));
        fleet.expect_devices(50, PER_POD, 0);
        fleet.report().expect("devices.connected", 50);
        expect_gone(&fleet);
    }
    assert!(!leases().is_empty(), "of the two controllers one leads");
    product::helm(&[&["uninstall"][..], &place, &["--wait"]].concat());
    let no_lease = || Ok(leases().is_empty().then_some(()));
    tests::eventually("the Lease is gone", super::PATIENCE, no_lease).unwrap();
    let policies = ["load-testing.fleets.simctl.io", "load-testing.loadtests.simctl.io"];
    let judged = |kind: &str| policies.map(|policy| format!("{kind} /{policy}"));
    let [policy, bindings] = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"].map(judged);
    expect_left(&[QUERIES, CRD, TESTS, &policy[0], &policy[1], &bindings[0], &bindings[1]]);
    admin().kubectl(["delete", "crd", "fleets.simctl.io", "loadtests.simctl.io", "fleetqueries.simctl.io"]).unwrap();
    let kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings";
    admin().kubectl(["delete", kinds, policies[0], policies[1]]).unwrap();
    admin().kubectl(["delete", "namespace", "load-testing"]).unwrap();
}

/// Calls Helm with the chart and the images of the test, and awaits what it makes.
#[track_caller]
fn helm_brings(args: &[&str]) {
    product::helm_brings(args, &product::chart(), &product::tag());
}

/// Expects that a call of simctl does nothing and says why.
#[track_caller]
fn refuses(args: &[&str], why: &str) {
    let refused = product::call(&tests::simctl::Simctl::new().unwrap(), args);
    assert!(refused.code == Some(1) && refused.stderr.contains(why), "{args:?}: {refused:?}");
}

#[test]
fn simctl_and_helm_hand_over_to_each_other_and_no_pod_notices() {
    let _turn = TURNS.alone();
    let fleet = Fleet::apply("handover", &document(50, PER_POD));
    fleet.expect_devices(50, PER_POD, 0);
    let pods = || fleet.pods().iter().map(|pod| uid(pod).to_owned()).collect::<Vec<_>>();
    let before = pods();
    let place = ["simctl", "--namespace", product::NAMESPACE];
    let controller = ["-n", product::NAMESPACE, "deployment/load-controller"];
    let field = |path: &str| admin().kubectl([&["get", "-o", path][..], &controller].concat()).unwrap();

    product::forget_installation();
    helm_brings(&[&["install"][..], &place, &["--take-ownership"]].concat());
    refuses(&["install"], "Helm's release simctl in namespace simctl-system; use `helm upgrade simctl CHART");
    refuses(&["uninstall", "--all"], "use `helm uninstall simctl --namespace simctl-system`");
    // What simctl has written is Helm's to change.
    helm_brings(&[&["upgrade"][..], &place, &["--set", "replicas=1"]].concat());
    assert_eq!(field("jsonpath={.spec.replicas}"), "1");

    product::helm(&[&["uninstall"][..], &place, &["--wait"]].concat());
    let is_gone = || Ok((!ours().iter().any(|object| object.contains("load-controller"))).then_some(()));
    tests::eventually("nothing of the controller is left", super::PATIENCE, is_gone).unwrap();
    product::ensure_installed();
    assert_eq!(field("jsonpath={.spec.replicas} {.metadata.labels.app\\.kubernetes\\.io/managed-by}"), "2 ");
    fleet.report().expect("devices.connected", 50);
    assert_eq!(pods(), before);
    expect_gone(&fleet);
}

/// The controller gives the brokers of new fleets a claim; as `simctl install` leaves it again once the value goes.
struct BrokerStorage;

impl BrokerStorage {
    fn of(size: &str, class: &str) -> BrokerStorage {
        let set = BrokerStorage;
        set_environment(&format!("={size}"), &format!("={class}")).unwrap();
        set
    }
}

impl Drop for BrokerStorage {
    fn drop(&mut self) {
        if let Err(error) = set_environment("-", "-") {
            eprintln!("the controller goes on giving brokers a claim: {error:#}");
        }
    }
}

/// Sets the two variables of the broker's storage, and awaits the controller that has them.
fn set_environment(size: &str, class: &str) -> anyhow::Result<()> {
    let controller = ["-n", product::NAMESPACE, "deployment/load-controller"];
    let variables = [format!("SIMCTL_BROKER_STORAGE{size}"), format!("SIMCTL_BROKER_STORAGE_CLASS{class}")];
    let args = ["set", "env"].into_iter().chain(controller).chain(variables.iter().map(String::as_str));
    admin().kubectl(args.collect::<Vec<_>>())?;
    admin().kubectl([&["rollout", "status", "--timeout=2m"][..], &controller].concat())?;
    Ok(())
}

#[test]
fn a_broker_with_a_claim_finds_its_sessions_in_the_next_pod() {
    let _turn = TURNS.alone();
    let Some(_) = own_nodes("a volume in a folder of the machine") else { return };
    product::ensure_installed();
    let _volume = Volume::make("of-the-broker");
    let _storage = BrokerStorage::of(SIZE, CLASS);
    // A clean session would give up what the broker has not answered when it ends.
    let persistent = document(50, PER_POD).replace("keepAlive: 20s", "keepAlive: 20s\n    session: persistent");
    let fleet = Fleet::apply("claim", &persistent);
    let broker = fleet.pods_of("broker").remove(0);
    fleet.namespace.kubectl(["delete", "pod", name(&broker), "--wait=false"]).unwrap();
    fleet.until("another broker is there", |fleet| {
        fleet.pods_of("broker").first().is_some_and(|pod| uid(pod) != uid(&broker)) && fleet.clients().is_some()
    });
    fleet.until_connected(50);
    fleet.expect_devices(50, PER_POD, 0);
    // Of the devices and of their two observers, for which the broker had said to keep what it acknowledges.
    let log = fleet.namespace.kubectl(["logs", name(&broker)]).unwrap();
    assert!(log.contains("kept by the last broker") && log.contains("sessions=52"), "{log}");
    fleet.simctl(&["scale", "0"]);
    fleet.until("all pods are gone", |fleet| fleet.pods().is_empty());
    let report = fleet.report();
    report.expect_conservation();
    // An outage shorter than the time between two readings is in no timeline; that all came back once is counted.
    report.expect("reconnects", 50);
    // Who is late because of an outage is late, and not lost.
    for nothing in ["messages.lost", "messages.unknown", "messages.in_flight"] {
        report.expect(nothing, 0);
    }
    expect_gone(&fleet);
}
