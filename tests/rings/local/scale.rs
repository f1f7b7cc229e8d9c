//! Growth and shrinkage touch the devices that come or go, and nobody else.

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
