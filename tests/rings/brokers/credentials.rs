//! User name and password, as brokers check them.

use std::fs;

use tests::{
    peer::{Access, Make, PASSWORD, USER},
    run::Run,
    simctl::Simctl,
};

use crate::PATIENCE;

fn with_password(password: &str) -> Simctl {
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("password"), password).unwrap();
    simctl
}

const FLEET: [&str; 8] =
    ["--model", "thermometer", "--interval", "1s", "--username", USER, "--password-file", "password"];

pub(crate) fn the_right_password_is_accepted(make: Make) {
    let broker = make.lend(Access::Guarded).unwrap();
    let url = broker.url();
    let simctl = with_password(&format!("{PASSWORD}\n"));
    let run = Run::start_at(simctl, &[&FLEET[..], &["--broker", &url]].concat()).unwrap();
    run.wait_for_devices(100).unwrap();
    run.wait_for_messages(200).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect_all_delivered();
}

pub(crate) fn a_wrong_password_is_told_with_the_remedy(make: Make) {
    let broker = make.lend(Access::Guarded).unwrap();
    let simctl = with_password("wrong-one");
    let url = broker.url();
    let refused = simctl.call(&[&["run", "--broker", &url][..], &FLEET].concat(), PATIENCE).unwrap();
    assert_eq!(refused.code, Some(99), "{refused:?}");
    assert!(refused.stderr.contains("refuses") && refused.stderr.contains("--password-file"), "{refused:?}");
    assert!(!refused.stderr.contains("wrong-one"), "{refused:?}");
}
