//! A node dies: what it ran comes back elsewhere.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{eventually, kubernetes::Cluster};

use super::{
    PATIENCE, TURNS, admin,
    books::{Books, WITNESSES},
    fleet::{Fleet, PER_POD, document, node, uid},
    machine::Pair,
    own_nodes, product,
};

/// Devices of each of two fleets whose workers die with the node, and of one that loses its broker, too.
const DEVICES: u32 = 100;
const ORPHANS: u32 = 100;

/// How soon the devices of a dead node are back after Kubernetes has marked it.
const BOUND: Duration = Duration::from_secs(45);

/// A node that is dead until this is dropped.
struct Dead<'a> {
    cluster: &'a Cluster,
    number: u8,
}

impl Drop for Dead<'_> {
    fn drop(&mut self) {
        self.cluster.start_node(self.number).unwrap();
    }
}

/// Kills the node of that name, and awaits that Kubernetes marks it.
fn kill<'a>(cluster: &'a Cluster, name: &str) -> (Dead<'a>, Instant) {
    let number = name.trim_start_matches("node").parse().unwrap();
    let start = Instant::now();
    cluster.kill_node(number).unwrap();
    let dead = Dead { cluster, number };
    let is_marked = || {
        let node = admin().get(["node", name])?;
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_missed = conditions.iter().any(|word| word["type"] == "Ready" && word["status"] == "Unknown");
        Ok((is_missed && taints.iter().any(is_unreachable)).then(Instant::now))
    };
    let marked = eventually("the node is marked as unreachable", PATIENCE, is_marked).unwrap();
    println!("{name} is marked {:.1} s after its end", (marked - start).as_secs_f64());
    (dead, marked)
}

/// A node that takes no new pods until this is dropped.
pub(super) struct Cordoned<'a>(&'a str);

impl Cordoned<'_> {
    pub(super) fn node(name: &str) -> Cordoned<'_> {
        admin().kubectl(["cordon", name]).unwrap();
        Cordoned(name)
    }
}

impl Drop for Cordoned<'_> {
    fn drop(&mut self) {
        admin().kubectl(["uncordon", self.0]).unwrap();
    }
}

fn is_unreachable(taint: &Value) -> bool {
    taint["key"] == "node.kubernetes.io/unreachable" && taint["effect"] == "NoExecute"
}

#[test]
fn what_ran_on_a_dead_node_is_back_within_45_seconds_of_its_mark() {
    let _turn = TURNS.alone();
    let Some(cluster) = own_nodes("a node's end") else { return };
    // Devices try again at least every three seconds, and give up an attempt as soon, so that it is the broker's return that is
    // measured.
    let patient = document(ORPHANS, PER_POD)
        .replace("keepAlive: 20s", "keepAlive: 20s\n    timeout: 3s\n    backoff: {base: 1s, cap: 3s}");
    let orphan = Fleet::apply("broker-node", &patient);
    let victim = node(&orphan.pods_of("broker")[0]).to_owned();
    let empty = {
        // The brokers of the other fleets go to the other node, their workers to both.
        let _cordoned = Cordoned::node(&victim);
        ["node-watched", "node-unwatched"].map(|purpose| Fleet::apply(purpose, &document(0, PER_POD)))
    };
    let [watched, unwatched] = empty.map(Books::open);
    for Books { fleet, .. } in [&watched, &unwatched] {
        fleet.scale(DEVICES);
        fleet.expect_devices(DEVICES, PER_POD, WITNESSES);
    }
    let before = [&watched, &unwatched].map(|books| books.fleet.pods());
    let pair = Pair::around(&victim);
    product::is_unwatched();

    let dead = thread::scope(|scope| {
        let (victim, before) = (&victim, &before);
        let (watched, unwatched, orphan) = (&watched.fleet, &unwatched.fleet, &orphan);
        watched.report();
        // It ends with this scope, also by a panic.
        let (_watching, is_over) = mpsc::channel::<()>();
        scope.spawn(move || {
            // Its leader may be gone for a while.
            while is_over.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                watched.try_simctl(&["status"]);
            }
        });
        let (dead, marked) = kill(cluster, victim);
        pair.expect_given_up();
        let back = [
            scope.spawn(move || expect_devices_back(watched, victim, &before[0], marked)),
            scope.spawn(move || expect_devices_back(unwatched, victim, &before[1], marked)),
            scope.spawn(move || expect_broker_back(orphan, victim, marked)),
        ];
        for one in back {
            one.join().unwrap();
        }
        dead
    });
    watched.expect_bounded("a node died while somebody watched");
    unwatched.expect_bounded("a node died while nobody watched");
    drop(dead);
    pair.expect_back();
    for Books { fleet, .. } in [&watched, &unwatched] {
        fleet.expect_devices(DEVICES, PER_POD, WITNESSES);
    }
    orphan.expect_devices(ORPHANS, PER_POD, 0);
}

/// The workers of the dead node run on the other one, and those that ran there have not noticed.
fn expect_devices_back(fleet: &Fleet, victim: &str, before: &[Value], marked: Instant) {
    let (lost, kept): (Vec<&Value>, Vec<&Value>) = before.iter().partition(|pod| node(pod) == victim);
    assert!(!lost.is_empty() && !kept.is_empty(), "the pods were spread over both nodes");
    let are_back = |fleet: &Fleet| {
        fleet.status("connected") == u64::from(DEVICES)
            && fleet.pods().iter().all(|pod| node(pod) != victim && pod["metadata"]["deletionTimestamp"].is_null())
    };
    fleet.until("all devices are connected from the other node", are_back);
    let took = marked.elapsed();
    println!("FIGURE {} pods of a dead node were back {took:.1?} after its mark", lost.len());
    fleet.expect_devices(DEVICES, PER_POD, WITNESSES);
    assert!(took <= BOUND, "{took:.1?} is beyond {BOUND:.1?}");
    let after = fleet.pods();
    for pod in kept {
        assert!(after.iter().any(|other| uid(other) == uid(pod)), "a pod of the other node has been replaced");
    }
    let report = fleet.report();
    report.expect_conservation();
    report.expect("devices.connected", DEVICES);
    report.expect("generator.workers_lost", u64::try_from(lost.len()).unwrap());
    report.expect("messages.lost", 0);
}

/// The broker of the dead node runs on the other one, and has all devices again.
fn expect_broker_back(fleet: &Fleet, victim: &str, marked: Instant) {
    fleet.until("a broker answers on the other node", |fleet| {
        // A question to the dead one would wait for its answer.
        let is_elsewhere = |pod: &Value| pod["spec"]["nodeName"].as_str().is_some_and(|node| node != victim);
        fleet.pods_of("broker").first().is_some_and(is_elsewhere) && fleet.clients().is_some()
    });
    let broker_took = marked.elapsed();
    let observers = ORPHANS.div_ceil(PER_POD);
    let are_connected = |fleet: &Fleet| fleet.clients() >= Some((ORPHANS + observers).into());
    fleet.until("all devices are connected to it", are_connected);
    let took = marked.elapsed();
    println!(
        "FIGURE a fleet whose broker's node died was whole {took:.1?} after its mark, the broker {broker_took:.1?} after"
    );
    fleet.until_connected(ORPHANS);
    println!("the status says so {:.1?} after the mark", marked.elapsed());
    assert!(took <= BOUND, "{took:.1?} is beyond {BOUND:.1?}");
    fleet.expect_devices(ORPHANS, PER_POD, 0);
    fleet.report().expect_conservation();
}
