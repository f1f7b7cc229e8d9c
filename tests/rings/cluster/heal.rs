//! What is killed comes back by itself, and nobody else notices.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{eventually, kubernetes::containers};

use super::{
    PATIENCE, TURNS, admin,
    fleet::{Fleet, PER_POD, RATE, document, name, uid},
    own_nodes, product,
};

const DEVICES: u32 = 100;

/// How often its container was started anew.
fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0)
}

/// Connections that were accepted so far by the broker.
fn accepted(fleet: &Fleet) -> u64 {
    fleet.broker("simctl_broker_connections_total").unwrap()
}

#[test]
fn a_worker_that_is_killed_comes_back_alone_with_the_same_devices_and_the_newest_plan() {
    let _turn = TURNS.alone();
    let Some(_) = own_nodes("the end of a process in a container") else { return };
    let fleet = Fleet::apply("kill", &document(DEVICES - 1, PER_POD));
    // Newer than what was mounted when the pod started.
    fleet.scale(DEVICES);
    fleet.expect_devices(DEVICES, PER_POD, 0);
    let pods = fleet.pods();
    let (before, clients) = (accepted(&fleet), fleet.clients().unwrap());
    let sessions = fleet.broker("simctl_broker_sessions").unwrap();

    let start = Instant::now();
    let killed = containers::kill(uid(&pods[3]), "device-sim").unwrap();
    let other = || containers::process_of(uid(&pods[3]), "device-sim").ok().filter(|number| *number != killed);
    eventually("the container is started anew", PATIENCE, || Ok(other())).unwrap();
    let restarted = start.elapsed();
    // Its observer has the broker forget the session that the killed one has left, and begins its own.
    let is_whole = |fleet: &Fleet| fleet.clients() == Some(clients) && accepted(fleet) >= before + 27;
    fleet.until("its devices are connected again", is_whole);
    let took = start.elapsed();
    // A pod's share of the connect rate is that of its devices in the fleet.
    let bound = restarted + Duration::from_secs_f64(1.0 + f64::from(DEVICES) / RATE);
    println!(
        "FIGURE a killed worker's 25 devices were back after {took:.2?}, its container after {restarted:.2?}, bound {bound:.2?}"
    );
    assert!(took <= bound, "{took:.2?} is beyond {bound:.2?}");

    fleet.until("the controller has noticed", |fleet| fleet.report().count("generator.workers_lost") == 1);
    fleet.until_connected(DEVICES);
    fleet.expect_devices(DEVICES, PER_POD, 0);
    assert_eq!(accepted(&fleet), before + 27, "25 devices and their observer, and nobody else, connected anew");
    let left = fleet.broker("simctl_broker_sessions");
    assert_eq!(left, Some(sessions), "the killed worker's observer has left its session at the broker");
    // The kubelet looks at its containers once a second.
    fleet.until("the restart is counted", |fleet| fleet.pods().iter().any(|pod| restarts(pod) > 0));
    let after = fleet.pods();
    assert_eq!(after.iter().map(restarts).collect::<Vec<_>>(), [0, 0, 0, 1]);
    assert!(pods.iter().zip(&after).all(|(one, other)| uid(one) == uid(other)));
    let top = fleet.top();
    let version = fleet.status("planVersion");
    assert!(top.iter().all(|pod| pod["planVersion"] == version), "{top:?}");
    let report = fleet.report();
    report.expect_conservation();
    report.expect("devices.connected", DEVICES);
    report.expect("connections.accepted", DEVICES + PER_POD);
    // What was on its way in the killed process nobody can know.
    report.expect("messages.lost", 0);
}

#[test]
fn a_pod_that_is_deleted_says_goodbye_and_is_replaced() {
    let _turn = TURNS.shared();
    let fleet = Fleet::apply("delete", &document(DEVICES, PER_POD));
    let pods = fleet.pods();
    let before = accepted(&fleet);
    fleet.namespace.kubectl(["delete", "pod", name(&pods[1]), "--wait=false"]).unwrap();
    fleet.until("the pod is another one", |fleet| {
        fleet.pods().get(1).is_some_and(|pod| uid(pod) != uid(&pods[1]) && pod["status"]["phase"] == "Running")
    });
    fleet.until_connected(DEVICES);
    fleet.expect_devices(DEVICES, PER_POD, 0);
    // An observer that ends connects once more, for the broker to forget its session.
    assert_eq!(accepted(&fleet), before + 27, "25 devices and two observers");
    assert_eq!(fleet.broker("simctl_broker_wills_total"), Some(0), "a worker that is told to end says goodbye");
    let report = fleet.report();
    report.expect_conservation();
    for nothing in ["messages.lost", "messages.unknown", "generator.workers_lost"] {
        report.expect(nothing, 0);
    }
}

#[test]
fn a_controller_that_is_killed_disturbs_no_worker_and_loses_no_count() {
    let _turn = TURNS.alone();
    let fleet = Fleet::apply("controller", &document(DEVICES, PER_POD));
    // Books of epochs that have ended are in the totals.
    fleet.scale(50);
    fleet.scale(DEVICES);
    let (before, connections) = (fleet.report(), accepted(&fleet));
    let leader = product::leader();
    let start = Instant::now();
    let gone = ["delete", "pod", "-n", product::NAMESPACE, name(&leader), "--grace-period=0", "--force"];
    admin().kubectl(gone).unwrap();
    let is_led = || {
        let finished = fleet.try_simctl(&["status", "-o", "json"]);
        let is_other = || uid(&product::leader()) != uid(&leader);
        Ok((finished.code == Some(0) && is_other()).then_some(()))
    };
    eventually("another controller answers", PATIENCE, is_led).unwrap();
    println!("FIGURE another controller answers {:.1?} after the leader was killed", start.elapsed());
    fleet.until_connected(DEVICES);
    fleet.until("every worker has been read", |fleet| fleet.top().iter().all(|pod| pod["answers"] == true));
    let after = fleet.report();
    after.expect_conservation();
    after.expect("reconnects", 0);
    after.claim("nothing that was counted is forgotten", {
        ["sent", "offered", "delivered"].iter().all(|name| {
            let path = format!("messages.{name}");
            after.count(&path) >= before.count(&path)
        })
    });
    assert_eq!(accepted(&fleet), connections, "no device has noticed");
    assert!(fleet.pods().iter().all(|pod| restarts(pod) == 0));
    // It goes on where the other one stopped.
    fleet.scale(DEVICES + 1);
    fleet.expect_devices(DEVICES + 1, PER_POD, 0);
}

#[test]
fn a_broker_that_is_killed_is_an_outage_that_ends() {
    let _turn = TURNS.shared();
    let Some(_) = own_nodes("the end of a process in a container") else { return };
    let fleet = Fleet::apply("outage", &document(DEVICES, PER_POD));
    let broker = fleet.pods_of("broker").remove(0);
    fleet.report();
    let start = Instant::now();
    containers::kill(uid(&broker), "broker").unwrap();
    let count = || Ok(fleet.report().get("outages.count")?.as_u64().filter(|count| *count > 0));
    eventually("the outage is in the report", PATIENCE, count).unwrap();
    // The status may still be that of before the outage.
    let are_back = || Ok((fleet.report().count("reconnects") >= DEVICES.into()).then_some(()));
    eventually("all devices have come back", PATIENCE, are_back).unwrap();
    fleet.until_connected(DEVICES);
    println!("FIGURE all devices were back {:.1?} after the broker was killed", start.elapsed());
    fleet.expect_devices(DEVICES, PER_POD, 0);
    let report = fleet.report();
    report.expect_conservation();
    report.expect("devices.connected", DEVICES);
    report.expect("reconnects", DEVICES);
    report.expect("generator.workers_lost", 0);
    let is_ready = || {
        let conditions = fleet.object()["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        Ok(conditions.iter().any(is_ready).then_some(()))
    };
    eventually("the fleet is ready again", PATIENCE, is_ready).unwrap();
    assert!(fleet.pods().iter().all(|pod| restarts(pod) == 0));
}
