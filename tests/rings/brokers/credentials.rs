//! User name and password, as Mosquitto checks them.

use std::fs;

use tests::{
    mosquitto::{Installation, Mosquitto, Settings},
    run::Run,
    simctl::Simctl,
};

use super::PATIENCE;

fn guarded() -> (tempfile::TempDir, Mosquitto) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passwords");
    Installation::find_or_unpack().unwrap().write_password_file(&file, "fleet", "secret").unwrap();
    let broker = Mosquitto::start(Settings::new().unwrap().password_file(&file)).unwrap();
    (dir, broker)
}

fn with_password(password: &str) -> Simctl {
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("password"), password).unwrap();
    simctl
}

const FLEET: [&str; 8] =
    ["--model", "thermometer", "--interval", "1s", "--username", "fleet", "--password-file", "password"];

#[test]
fn the_right_password_is_accepted() {
    let (_passwords, broker) = guarded();
    let url = broker.url();
    let run = Run::start_at(with_password("secret\n"), &[&FLEET[..], &["--broker", &url]].concat()).unwrap();
    run.wait_for_devices(100).unwrap();
    run.wait_for_messages(200).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect_all_delivered();
}

#[test]
fn a_wrong_password_is_told_with_the_remedy() {
    let (_passwords, broker) = guarded();
    let simctl = with_password("wrong-one");
    let url = broker.url();
    let refused = simctl.call(&[&["run", "--broker", &url][..], &FLEET].concat(), PATIENCE).unwrap();
    assert_eq!(refused.code, Some(99), "{refused:?}");
    assert!(refused.stderr.contains("refuses") && refused.stderr.contains("--password-file"), "{refused:?}");
    assert!(!refused.stderr.contains("wrong-one"), "{refused:?}");
}
