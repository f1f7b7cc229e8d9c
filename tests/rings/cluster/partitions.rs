//! Parts of a cluster that do not hear of each other for two minutes: a node and the API server, a node and everything,
//! workers and their controller. `cargo xtask test partitions` runs them; else they say that they were not run.

use std::{thread, time::Duration, time::Instant};

use serde_json::Value;
use tests::{
    kubernetes::{Cluster, Cut, containers},
    project::{self, PARTITIONS},
};

use super::{
    TURNS, admin,
    books::{Books, WITNESSES},
    fleet::{Fleet, PER_POD, document, name, node, uid},
    node::Cordoned,
    own_nodes, product,
};

const DEVICES: u32 = 200;

/// How long they are apart.
const APART: Duration = Duration::from_mins(2);

/// How long after the first takeover workers of a node that is back may take sessions, until all have seen their successors.
const YIELD: Duration = Duration::from_secs(10);

/// For so long the broker is watched after a node is back: it takes some seconds until its network carries anything again.
const LOOK: Duration = Duration::from_secs(40);

/// The cluster, where these are to be run.
fn cluster(what: &str) -> Option<&'static Cluster> {
    if project::from_environment(PARTITIONS).is_none() {
        println!("NOT RUN: {what}: `cargo xtask test partitions` takes that time");
        return None;
    }
    own_nodes(what)
}

/// A node that is cut off until this is dropped.
struct Away<'a> {
    cluster: &'a Cluster,
    number: u8,
}

impl Away<'_> {
    fn node<'a>(cluster: &'a Cluster, name: &str, cut: Cut) -> Away<'a> {
        let number = name.trim_start_matches("node").parse().unwrap();
        cluster.cut(number, cut).unwrap();
        Away { cluster, number }
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.cluster.mend(self.number).unwrap();
    }
}

/// A fleet on both nodes, whose broker is on the one that is not returned.
fn spread(purpose: &str) -> (Books, String) {
    let probe = Fleet::apply(&format!("{purpose}-probe"), &document(0, PER_POD));
    let victim = node(&probe.pods_of("broker")[0]).to_owned();
    let empty = {
        let _cordoned = Cordoned::node(&victim);
        Fleet::apply(purpose, &document(0, PER_POD).replace("interval: 2s", "interval: 500ms, jitter: 0s"))
    };
    let books = Books::open(empty);
    books.fleet.scale(DEVICES);
    books.fleet.expect_devices(DEVICES, PER_POD, WITNESSES);
    (books, victim)
}

fn is_on(victim: &str) -> impl Fn(&&Value) -> bool {
    move |pod| node(pod) == victim
}

fn degraded(fleet: &Fleet) -> String {
    let conditions = fleet.object()["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|condition| condition["type"] == "Degraded").unwrap_or_default();
    format!("{} {}", found["status"].as_str().unwrap_or_default(), found["reason"].as_str().unwrap_or_default())
}

/// Looks every five seconds, for as long as they are apart, whether all devices are connected.
#[track_caller]
fn stays_whole(fleet: &Fleet, since: Instant) {
    while since.elapsed() < APART {
        fleet.expect_devices(DEVICES, PER_POD, WITNESSES);
        thread::sleep(Duration::from_secs(5));
    }
}

fn takeovers(fleet: &Fleet) -> u64 {
    fleet.broker("simctl_broker_takeovers_total").unwrap()
}

/// Watches for so long: how many sessions are taken over beside those `before`, and how long it goes on after the first.
fn takeovers_since(before: u64, fleet: &Fleet, span: Duration) -> (u64, Duration) {
    let begun = Instant::now();
    let (mut taken, mut first, mut last) = (0, None, None);
    while begun.elapsed() < span {
        let now = takeovers(fleet) - before;
        if now > taken {
            (taken, last) = (now, Some(begun.elapsed()));
            first = first.or(last);
        }
        thread::sleep(Duration::from_millis(200));
    }
    (taken, last.unwrap_or_default() - first.unwrap_or_default())
}

#[test]
fn what_runs_on_a_node_that_only_the_api_server_misses_runs_on() {
    let _turn = TURNS.alone();
    let Some(cluster) = cluster("a node that is cut off from the API server") else { return };
    let (books, victim) = spread("missed");
    let fleet = &books.fleet;
    let before = fleet.pods();
    let there: Vec<&Value> = before.iter().filter(is_on(&victim)).collect();
    assert!(!there.is_empty() && there.len() < before.len(), "the pods were spread over both nodes");

    let away = Away::node(cluster, &victim, Cut::ApiServer);
    let start = Instant::now();
    fleet.until("the fleet says that the node is missed", |fleet| degraded(fleet) == "True NodeUnreachable");
    println!("FIGURE the fleet said so {:.1?} after the cut", start.elapsed());
    stays_whole(fleet, start);
    let after = fleet.pods();
    assert!(before.iter().zip(&after).all(|(one, other)| uid(one) == uid(other)), "a pod has been replaced");
    assert_eq!((takeovers(fleet), fleet.report().count("reconnects")), (0, 0));
    books.expect_bounded("a node was cut off from the API server");

    // Those that are not wanted any more leave in order, though their kubelet hears nothing of it.
    fleet.scale(PER_POD);
    fleet.until("their pods are gone", |fleet| fleet.pods().len() == 1);
    fleet.expect_devices(PER_POD, PER_POD, WITNESSES);
    books.expect_bounded("it was scaled down meanwhile");
    fleet.report().expect("generator.workers_lost", 0);
    drop(away);
    fleet.until("the node is back", |fleet| !degraded(fleet).starts_with("True"));
}

#[test]
fn who_comes_back_from_a_node_that_was_away_leaves_for_its_successor() {
    let _turn = TURNS.alone();
    let Some(cluster) = cluster("a node that is cut off from everything") else { return };
    let (books, victim) = spread("away");
    let fleet = &books.fleet;
    let before = fleet.pods();
    let there = before.iter().filter(is_on(&victim)).count();

    let away = Away::node(cluster, &victim, Cut::Everything);
    let start = Instant::now();
    fleet.until("its devices run elsewhere", |fleet| {
        fleet.status("connected") == u64::from(DEVICES) && fleet.pods().iter().all(|pod| node(pod) != victim)
    });
    println!("FIGURE {there} pods were back {:.1?} after the cut", start.elapsed());
    thread::sleep(APART.saturating_sub(start.elapsed()));
    fleet.expect_devices(DEVICES, PER_POD, WITNESSES);
    let before = takeovers(fleet);
    drop(away);
    // From now on both are there, until the kubelet hears that its pods are gone, or they see their successors.
    let (taken, lasted) = takeovers_since(before, fleet, LOOK);
    let devices = u64::from(PER_POD) * u64::try_from(there).unwrap();
    println!("FIGURE {taken} takeovers of {devices} devices within {lasted:.1?} when the node came back");
    assert!(taken <= 3 * devices && lasted <= YIELD, "{taken} takeovers within {lasted:.1?}");
    fleet.expect_devices(DEVICES, PER_POD, WITNESSES);
    fleet.until_connected(DEVICES);
    books.expect_bounded("a node was cut off from everything");
    fleet.report().expect("generator.workers_lost", there);
}

#[test]
fn workers_go_on_while_nobody_controls_them() {
    let _turn = TURNS.alone();
    let Some(_) = cluster("controllers that are away") else { return };
    let books = Books::open(Fleet::apply(
        "alone",
        &document(0, PER_POD).replace("interval: 2s", "interval: 500ms, jitter: 0s"),
    ));
    let fleet = &books.fleet;
    fleet.scale(DEVICES);
    fleet.expect_devices(DEVICES, PER_POD, WITNESSES);
    let replicas = |number: u32| {
        let replicas = format!("--replicas={number}");
        admin().kubectl(["scale", "deployment", "load-controller", "-n", product::NAMESPACE, &replicas]).unwrap();
    };
    replicas(0);
    let start = Instant::now();
    let pods = fleet.pods();
    let connections = fleet.broker("simctl_broker_connections_total").unwrap();
    containers::kill(uid(&pods[5]), "device-sim").unwrap();
    fleet.until("its devices have come back", |fleet| {
        fleet.broker("simctl_broker_connections_total") == Some(connections + u64::from(PER_POD) + 2)
    });
    stays_whole(fleet, start);
    replicas(2);
    fleet.until("somebody controls them", |fleet| fleet.try_simctl(&["status", "-o", "json"]).code == Some(0));
    let unrecorded = books.expect_bounded("a worker was killed while nobody controlled the fleet");
    assert!(unrecorded <= 50 / 10 + 6, "{unrecorded} messages in a tenth of a second");
    let report = fleet.report();
    report.expect("generator.workers_lost", 1);
    report.expect("reconnects", 0);
    assert_eq!(takeovers(fleet), 0);
    assert!(pods.iter().zip(&fleet.pods()).all(|(one, other)| uid(one) == uid(other) && name(one) == name(other)));
}
