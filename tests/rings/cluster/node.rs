//! A node dies: what it ran comes back elsewhere.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tests::{eventually, kubernetes::Cluster};

use super::{
    PATIENCE, admin,
    fleet::{Fleet, PER_POD, document, node, uid},
    own_nodes, turn,
};

const DEVICES: u32 = 200;

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
        Ok(taints.iter().any(is_unreachable).then(Instant::now))
    };
    let marked = eventually("the node is marked as unreachable", PATIENCE, is_marked).unwrap();
    println!("{name} is marked {:.1} s after its end", (marked - start).as_secs_f64());
    (dead, marked)
}

fn is_unreachable(taint: &Value) -> bool {
    taint["key"] == "node.kubernetes.io/unreachable" && taint["effect"] == "NoExecute"
}

#[test]
fn the_devices_of_a_dead_node_are_back_within_45_seconds_of_its_mark() {
    let _turn = turn();
    let Some(cluster) = own_nodes("a node's end") else { return };
    let fleet = Fleet::apply("node", &document(DEVICES, PER_POD));
    fleet.expect_devices(DEVICES, PER_POD, 0);
    let broker = node(&fleet.pods_of("broker")[0]).to_owned();
    let pods = fleet.pods();
    let (lost, kept): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(|pod| node(pod) != broker);
    assert!(!lost.is_empty() && !kept.is_empty(), "the pods are spread over both nodes");
    let victim = node(lost[0]).to_owned();
    let began = SystemTime::now();

    let (dead, marked) = kill(cluster, &victim);
    let are_back = |fleet: &Fleet| {
        fleet.status("connected") == u64::from(DEVICES)
            && fleet.pods().iter().all(|pod| node(pod) == broker && pod["metadata"]["deletionTimestamp"].is_null())
    };
    fleet.until("all devices are connected from the other node", are_back);
    let took = marked.elapsed();
    println!(
        "FIGURE {} pods of a dead node were back {took:.1?} after its mark, {:.1?} after its end",
        lost.len(),
        began.elapsed().unwrap()
    );
    fleet.expect_devices(DEVICES, PER_POD, 0);
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
    drop(dead);
    fleet.expect_devices(DEVICES, PER_POD, 0);
}

#[test]
fn a_broker_whose_node_dies_comes_back_on_the_other_one() {
    let _turn = turn();
    let Some(cluster) = own_nodes("a node's end") else { return };
    // Devices try again at least every five seconds, so that it is the broker's return that is measured.
    let patient = document(100, PER_POD).replace("keepAlive: 20s", "keepAlive: 20s\n    backoff: {base: 1s, cap: 5s}");
    let fleet = Fleet::apply("broker-node", &patient);
    let victim = node(&fleet.pods_of("broker")[0]).to_owned();
    let (dead, marked) = kill(cluster, &victim);
    fleet.until("a broker answers on the other node", |fleet| {
        fleet.clients().is_some() && fleet.pods_of("broker").iter().all(|pod| node(pod) != victim)
    });
    let broker_took = marked.elapsed();
    fleet.until("all devices are connected to it", |fleet| fleet.clients() >= Some(100 + 4));
    let took = marked.elapsed();
    println!(
        "FIGURE a fleet whose broker's node died was whole {took:.1?} after its mark, the broker {broker_took:.1?} after"
    );
    fleet.until_connected(100);
    println!("the status says so {:.1?} after the mark", marked.elapsed());
    assert!(took <= BOUND, "{took:.1?} is beyond {BOUND:.1?}");
    fleet.expect_devices(100, PER_POD, 0);
    fleet.report().expect_conservation();
    drop(dead);
}
