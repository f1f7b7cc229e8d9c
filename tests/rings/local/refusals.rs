//! Brokers that say no, and a second run that takes the first one's sessions over.

use std::{fs, net::TcpListener};

use tests::{broker::Broker, run::Run, simctl::Simctl};

use super::{
    PATIENCE,
    fleet::{PROMPT, place, written},
};

/// A place with a file of users and a password file.
fn with_password(password: &str) -> Simctl {
    let simctl = place(PROMPT);
    fs::write(simctl.dir().join("password"), password).unwrap();
    simctl
}

fn guarded_broker(users: &str) -> (tempfile::TempDir, Broker) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.txt");
    fs::write(&file, users).unwrap();
    let broker = Broker::start(&["--users", file.to_str().unwrap()]).unwrap();
    (dir, broker)
}

const AS_FLEET: [&str; 4] = ["--username", "fleet", "--password-file", "password"];

#[test]
fn the_right_password_is_accepted() {
    let (_users, broker) = guarded_broker("fleet:secret\n");
    let url = broker.url();
    let args = [&["-f", "fleet.yaml", "--broker", &url, "--interval", "1s"][..], &AS_FLEET].concat();
    let run = Run::start_at(with_password("secret\n"), &args).unwrap();
    run.wait_for_devices(50).unwrap();
    run.wait_for_messages(50).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect_all_delivered();
    assert!(!ended.report.to_string().contains("secret") && !ended.stderr.contains("secret"));
}

#[test]
fn a_wrong_password_is_told_before_anything_starts() {
    let (_users, broker) = guarded_broker("fleet:secret\n");
    let simctl = with_password("wrong-one");
    let url = broker.url();
    let args = [&["run", "-f", "fleet.yaml", "--duration", "5s", "--broker", &url][..], &AS_FLEET].concat();
    let refused = simctl.call(&args, PATIENCE).unwrap();
    assert_eq!(refused.code, Some(99), "{refused:?}");
    let said = [
        "refuses the device `lab-0` (user `fleet`, the password file `password`)",
        "remedy: check the name, the password file",
    ];
    assert!(said.iter().all(|said| refused.stderr.contains(said)), "{refused:?}");
    assert!(!refused.stderr.contains("wrong-one") && refused.stdout.is_empty(), "{refused:?}");
}

#[test]
fn devices_that_the_broker_refuses_fail_the_run() {
    // The broker knows some devices only; the first one, whom the pre-flight plays, is among them.
    let known: String = (0..20).map(|index| format!("lab-{index}:secret\n")).collect();
    let (_users, broker) = guarded_broker(&format!("{known}lab-observer:secret\nwatcher:secret\n"));
    let simctl = with_password("secret");
    written(&simctl, &format!("{PROMPT}\n  observer: {{credentials: {{username: watcher, passwordFile: password}}}}"));
    let url = broker.url();
    let args = ["-f", "fleet.yaml", "--broker", &url, "--interval", "1s", "--username", "{id}"];
    let run = Run::start_at(simctl, &[&args[..], &["--password-file", "password"]].concat()).unwrap();
    run.wait_until("20 are connected and 30 refused", |report| {
        report.count("devices.connected") == 20 && report.count("devices.refused") == 30
    })
    .unwrap();
    run.wait_for_messages(20).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_verdict("failed", 99);
    ended.report.claim("the reason is named", ended.report.has_reason("devices_refused"));
    ended.report.expect("devices.connected", 20);
    ended.report.expect_conservation();
}

#[test]
fn a_broker_that_is_not_there_is_told_with_the_remedy() {
    let port = tests::port::free().unwrap();
    let simctl = Simctl::new().unwrap();
    let refused = simctl.call(&["run", "--broker", &format!("mqtt://127.0.0.1:{port}")], PATIENCE).unwrap();
    assert!(refused.code == Some(1) && refused.stderr.contains("nothing listens there"), "{refused:?}");
}

#[test]
fn a_port_for_metrics_that_is_taken_is_told_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = Simctl::new().unwrap().call(&["run", "--metrics", &address], PATIENCE).unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("expected a free port for --metrics"), "{refused:?}");
    assert!(!refused.stderr.contains("broker mqtt://") && refused.stdout.is_empty(), "{refused:?}");
}

#[test]
fn a_second_run_of_the_same_fleet_is_recognised_as_takeover() {
    let broker = Broker::start(&[]).unwrap();
    let url = broker.url();
    let args = ["-f", "fleet.yaml", "--broker", &url, "--interval", "500ms"];
    let first = Run::start_at(place(PROMPT), &args).unwrap();
    first.wait_for_devices(50).unwrap();
    first.wait_for_messages(100).unwrap();
    let second = Run::start_at(place(PROMPT), &args).unwrap();
    second.wait_for_messages(20).unwrap();
    let named = first
        .wait_until("the takeover is named", |report| {
            let lost = report.get("connections.lost.session_taken_over").ok().and_then(serde_json::Value::as_u64);
            report.sum("observer.other_runs") > 0 && lost.unwrap_or_default() > 0
        })
        .unwrap();
    let rival = second.report().unwrap().text("manifest.run").to_owned();
    named.claim("the other run is named", named.list("notes").iter().any(|note| note.to_string().contains(&rival)));
    for run in [second, first] {
        let ended = run.stop().unwrap();
        ended.report.expect_conservation();
        ended.report.expect("messages.in_flight", 0);
        let proves_nothing = ["session_taken_over", "devices_missing"].map(|name| ended.report.has_reason(name));
        assert!(proves_nothing.contains(&true) && ended.code != Some(0), "{:?}", ended.report);
    }
}

#[test]
fn devices_go_by_the_serial_numbers_of_a_registry() {
    let users: String = (1_001..=1_003).map(|number| format!("SN{number:06}:secret\n")).collect();
    let (_users, broker) = guarded_broker(&format!("{users}observer:secret\n"));
    let simctl = with_password("secret");
    let document = "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {name: plant}\nspec:\n  devices: 3\n  \
                    firstIndex: 1001\n  clientId: 'SN{index:06}'\n  lossAfter: 2s\n  broker: {url: mqtt://localhost, \
                    credentials: {username: '{id}', passwordFile: password}}\n  observer: {credentials: {username: observer, \
                    passwordFile: password}}\n  groups: [{name: room, model: thermometer, streams: {reading: {interval: \
                    500ms, qos: 1}}}]\n";
    fs::write(simctl.dir().join("plant.yaml"), document).unwrap();
    let run = Run::start_at(simctl, &["-f", "plant.yaml", "--broker", &broker.url()]).unwrap();
    run.wait_for_devices(3).unwrap();
    run.wait_for_messages(10).unwrap();
    let device = run.must(&["device", "2", "-o", "json"]).unwrap();
    assert!(device.stdout.contains("\"SN001003\""), "{device:?}");
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect_all_delivered();
}
