//! Growth and shrinkage touch the devices that come or go, and nobody else.

use std::collections::BTreeSet;

use tests::run::Run;

use super::fleet::STEADY;

#[test]
fn every_number_of_devices_is_met_exactly() {
    let run = Run::start(&[&STEADY[..], &["--devices", "100", "--connect-rate", "1000/s"]].concat()).unwrap();
    run.wait_for_devices(100).unwrap();
    let mut accepted = 100;
    let mut before = 100_u64;
    for devices in [500_u64, 50, 499, 501, 0, 13] {
        run.must(&["scale", &devices.to_string()]).unwrap();
        let report = run.report().unwrap();
        report.expect("devices.connected", devices);
        report.expect("devices.desired", devices);
        accepted += devices.saturating_sub(before);
        report.expect("connections.accepted", accepted);
        report.expect("reconnects", 0);
        before = devices;
    }
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect("reconnects", 0);
    ended.report.claim("no connection was lost", ended.report.sum("connections.lost") == 0);
    ended.report.expect_all_delivered();
}

#[test]
fn a_ramp_takes_its_time() {
    let run = Run::start(&["--model", "thermometer", "--interval", "500ms", "--devices", "0..60/3s"]).unwrap();
    let full = run.wait_until("the ramp is over", |report| report.count("devices.connected") == 60).unwrap();
    full.expect("devices.desired", 60);
    full.claim("it took three seconds", full.seconds("elapsed_seconds") >= 2.9);
    let list = full.list("timeline.points");
    let between = list.iter().filter(|point| (1..60).contains(&point["desired"].as_u64().unwrap_or_default())).count();
    full.claim("the number grew second by second", between >= 2);
    run.must(&["scale", "10", "--over", "2s"]).unwrap();
    let small = run.report().unwrap();
    small.expect("devices.connected", 10);
    small.claim("that took its time, too", small.seconds("elapsed_seconds") >= full.seconds("elapsed_seconds") + 1.9);
    let ended = run.stop().unwrap();
    ended.report.expect("connections.accepted", 60);
    ended.report.expect("reconnects", 0);
    ended.report.expect_all_delivered();
    ended.expect_passed();
}

#[test]
fn a_cut_hits_the_same_devices_in_one_and_in_five_workers() {
    const DEVICES: u64 = 40;
    let hit = |more: &[&str]| {
        let fleet = ["--model", "thermometer", "--devices", "40", "--interval", "500ms"];
        let run = Run::start(&[&fleet[..], more].concat()).unwrap();
        run.wait_for_devices(DEVICES).unwrap();
        run.must(&["disconnect", "--share", "30%"]).unwrap();
        run.wait_until("some were cut off, and are back", |report| {
            report.count("reconnects") > 0
                && report.count("reconnects") == report.sum("connections.lost")
                && report.count("devices.connected") == DEVICES
        })
        .unwrap();
        let is_hit = |index: &u64| {
            let device = run.must(&["device", &index.to_string(), "-o", "json"]).unwrap().json().unwrap();
            device["lastError"] == "disconnect_fault"
        };
        let hit: BTreeSet<u64> = (0..DEVICES).filter(is_hit).collect();
        let ended = run.stop().unwrap();
        ended.report.expect("connections.lost.disconnect_fault", hit.len());
        ended.report.expect("reconnects", hit.len());
        hit
    };
    let one = hit(&[]);
    assert_eq!(one, hit(&["--devices-per-worker", "8"]));
    assert!((4..=22).contains(&one.len()), "30 % of 40 are 12 or so, and {} were hit", one.len());
}

#[test]
fn a_rate_that_grows_sends_as_much_as_the_area_under_it() {
    let run = Run::start(&["--model", "thermometer", "--interval", "1s", "--devices", "20"]).unwrap();
    run.wait_for_devices(20).unwrap();
    let before = run.report().unwrap();
    run.must(&["set", "rate=5/2s"]).unwrap();
    let fast = run
        .wait_until("seconds have passed", |report| {
            report.seconds("elapsed_seconds") >= before.seconds("elapsed_seconds") + 6.0
        })
        .unwrap();
    let lasted = fast.seconds("elapsed_seconds") - before.seconds("elapsed_seconds");
    let sent = fast.count("messages.offered") - before.count("messages.offered");
    // Two seconds of the ramp are worth three each, then it is five a second. Three seconds may pass from the first reading
    // to its beginning on a busy machine, at one a second; a device's next message is up to two off.
    let (least, most) = (20.0 * (3.0 + 6.0 + 5.0 * (lasted - 5.0) - 2.0), 20.0 * (6.0 + 5.0 * (lasted - 2.0) + 2.0));
    fast.claim(&format!("{sent} messages in {lasted} s"), (least..=most).contains(&(sent as f64)));
    let ended = run.stop().unwrap();
    ended.report.expect_all_delivered();
    ended.expect_passed();
}

#[test]
fn who_stays_keeps_session_and_ledger() {
    let run = Run::start(&[&STEADY[..], &["--devices", "40"]].concat()).unwrap();
    run.wait_for_messages(80).unwrap();
    let device = |index: &str| run.must(&["device", index, "-o", "json"]).unwrap().json().unwrap();
    let before = device("3")["streams"][0]["sent"].as_u64().unwrap();
    run.must(&["scale", "10"]).unwrap();
    run.must(&["scale", "45"]).unwrap();
    let stayed = device("3");
    assert_eq!((&stayed["sessions"], &stayed["state"]), (&1.into(), &"up".into()), "{stayed}");
    assert!(stayed["streams"][0]["sent"].as_u64().unwrap() >= before, "{stayed}");
    run.stop().unwrap().report.expect_all_delivered();
}
