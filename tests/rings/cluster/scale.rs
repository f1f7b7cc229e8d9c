//! `simctl scale`: exactly as many devices as asked, all others undisturbed, everything that was sent accounted for.

use std::time::{Duration, Instant};

use super::{
    TURNS,
    fleet::{Fleet, PER_POD, RATE, document},
    listener::{Listener, reading},
};

#[test]
fn fifty_become_five_hundred_and_fifty_again_and_nobody_else_notices() {
    let _turn = TURNS.shared();
    // Nothing is lost here, however slow a busy machine is.
    let fleet = Fleet::apply("scale", &document(0, PER_POD).replace("lossAfter: 5s", "lossAfter: 20s"));
    let witness = Listener::start(&fleet);
    fleet.scale(50);
    fleet.expect_devices(50, PER_POD, 1);

    fleet.scale(500);
    fleet.expect_devices(500, PER_POD, 1);
    assert_eq!(fleet.pods().len(), 20);
    fleet.report().expect("devices.connected", 500);
    fleet.report().expect("reconnects", 0);
    for odd in [499, 500, 501] {
        fleet.scale(odd);
        fleet.expect_devices(odd, PER_POD, 1);
    }
    fleet.scale(50);
    fleet.until("the pods that are too many are gone", |fleet| fleet.pods().len() == 2);
    fleet.expect_devices(50, PER_POD, 1);

    let report = fleet.report();
    report.expect_conservation();
    report.expect("devices.connected", 50);
    report.expect("reconnects", 0);
    // 50, 450, then 499 → 500 → 501; the 499th to the 501st came and went.
    report.expect("connections.accepted", 500 + 2);
    report.expect("messages.lost", 0);
    report.expect("messages.unknown", 0);
    assert_eq!(fleet.broker("simctl_broker_wills_total"), Some(0), "everybody who left has said goodbye");

    // Without devices nothing is on its way any more, and the books of all that ever ran are closed.
    fleet.scale(0);
    fleet.until("all pods are gone", |fleet| fleet.pods().is_empty());
    let report = fleet.report();
    report.expect_all_delivered();
    let sent = report.count("messages.sent");
    let seen = witness.until(sent);
    assert_eq!((seen.missing, seen.again, seen.reordered, seen.wills), (0, 0, 0, 0), "{seen:?}");
    assert_eq!(seen.messages, sent, "{seen:?}");
    println!("the witness has seen all of {sent} messages of {} devices", seen.devices);
}

#[test]
fn growth_inside_running_pods_takes_a_second_and_the_time_to_connect() {
    let _turn = TURNS.alone();
    let fleet = Fleet::apply("growth", &document(260, 250));
    fleet.expect_devices(260, 250, 0);
    let before = fleet.pods();
    let new = 240.0;
    let wanted = 260 + 2 + 216;
    let bound = Duration::from_secs_f64(1.0 + new / RATE);
    let grow = || {
        fleet.scale(260);
        fleet.until("only the first devices and the two observers are connected", |fleet| fleet.clients() == Some(262));
        let start = Instant::now();
        fleet.ask_for(500);
        fleet.until("nine in ten of the new devices are connected", |fleet| fleet.clients() >= Some(wanted));
        let took = start.elapsed();
        println!("FIGURE 216 of 240 new devices in running pods connected after {took:.2?}, bound {bound:.2?}");
        fleet.until_connected(500);
        fleet.expect_devices(500, 250, 0);
        took
    };
    let took = tests::least_of(&bound, grow);
    assert!(took <= bound, "{took:.2?} is beyond {bound:.2?}");
    let after = fleet.pods();
    let restarts = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    assert_eq!(before.len(), after.len());
    assert!(before.iter().zip(&after).all(|(one, other)| one["metadata"]["uid"] == other["metadata"]["uid"]));
    assert!(after.iter().all(|pod| restarts(pod) == Some(0)));
    fleet.report().expect("reconnects", 0);
}

#[test]
fn what_a_device_sends_does_not_depend_on_where_it_runs() {
    let _turn = TURNS.shared();
    let yaml = document(30, 10);
    let fleet = Fleet::apply("identity", &yaml);
    let witness = Listener::start(&fleet);
    fleet.scale(45);
    // Another pod of the same ordinal is another process at another time.
    fleet.namespace.kubectl(["delete", "pod", "rooms-1", "--wait=false"]).unwrap();
    fleet.until("the pod has been replaced", |fleet| fleet.status("connected") < 45);
    fleet.until_connected(45);
    witness.until(400);
    let readings = witness.readings();

    let start = fleet.object()["status"]["start"].as_str().unwrap().to_owned();
    std::fs::write(fleet.dir().join("whole.yaml"), document(45, 10)).unwrap();
    let sample = fleet.local(&["sample", "-f", "whole.yaml", "--start", &start, "--duration", "4m"]);
    let mut known = std::collections::BTreeMap::new();
    for line in sample.stdout.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let (key, value) = reading(&line["payload"]).unwrap();
        known.insert(key, value);
    }
    assert!(readings.len() >= 400, "{} readings", readings.len());
    for (key, values) in &readings {
        let expected = known.get(key).unwrap_or_else(|| panic!("{key:?} was not due"));
        assert!(values.iter().all(|value| value == expected), "{key:?}: {values:?}, expected {expected}");
    }
    println!("{} readings of 45 devices are those that the document says", readings.len());
}
