//! `kubectl drain`: one pod's share at a time, and all of it comes back.

use super::{
    TURNS, admin,
    fleet::{Fleet, PER_POD, document, node},
    own_nodes,
    rollout::Watched,
};

const DEVICES: u32 = 150;

#[test]
fn a_drained_node_gives_its_pods_away_one_by_one() {
    let _turn = TURNS.alone();
    let Some(_) = own_nodes("a drain") else { return };
    let fleet = Fleet::apply("drain", &document(DEVICES, PER_POD));
    // A drain takes pods that have not become ready all at once, and a fleet is ready when its devices are connected,
    // which is before the kubelet has asked the pods.
    fleet.until("the budget protects all pods", |fleet| {
        let budgets = fleet.namespace.get(["poddisruptionbudgets"]).unwrap();
        budgets["items"].as_array().unwrap().iter().any(|one| one["status"]["currentHealthy"] == DEVICES / PER_POD)
    });
    let broker = node(&fleet.pods_of("broker")[0]).to_owned();
    let victim = fleet.pods().iter().map(|pod| node(pod).to_owned()).find(|node| *node != broker).unwrap();

    let watched = Watched::during(&fleet, || {
        let args = ["drain", &victim, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=3m"];
        let workers = "--pod-selector=simctl.io/fleet,app.kubernetes.io/component=worker";
        let drained = admin().kubectl(args.into_iter().chain([workers]));
        admin().kubectl(["uncordon", &victim]).unwrap();
        drained.unwrap();
        fleet.until_connected(DEVICES);
    });
    let missing = u64::from(DEVICES) - watched.least;
    println!("FIGURE a drained node's pods: at most {missing} of {DEVICES} devices were missing at a time");
    assert!(missing <= u64::from(PER_POD), "{missing} devices were missing at a time: {watched:?}");
    assert!(fleet.pods().iter().all(|pod| node(pod) == broker), "they are all on the other node");
    fleet.expect_devices(DEVICES, PER_POD, 0);
    assert_eq!(fleet.broker("simctl_broker_wills_total"), Some(0));
    let report = fleet.report();
    report.expect_conservation();
    for nothing in ["messages.lost", "messages.unknown", "generator.workers_lost"] {
        report.expect(nothing, 0);
    }
}
