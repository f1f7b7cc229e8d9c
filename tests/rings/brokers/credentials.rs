//! User name and password, as brokers check them.

use std::fs;

use tests::{
    peer::{Access, Make, PASSWORD, USER},
    run::Run,
    simctl::Simctl,
};

use crate::{PATIENCE, fleet::Fleet};

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
    let said =
        [&*format!("(user `{USER}`, the password file `password`)"), "remedy: check the name, the password file"];
    assert!(said.iter().all(|said| refused.stderr.contains(said)), "{refused:?}");
    assert!(!refused.stderr.contains("wrong-one"), "{refused:?}");
}

/// Devices are known to the broker, and the observer is not: that is found before the first of them connects.
pub(crate) fn an_observer_that_is_not_known_is_told_before_the_run(make: Make) {
    let broker = make.lend(Access::Guarded).unwrap();
    let spec = format!(
        "  broker: {{url: mqtt://localhost, credentials: {{username: {USER}, passwordFile: password}}}}\n  \
         observer: {{credentials: {{username: nobody, passwordFile: password}}}}\n"
    );
    let fleet = Fleet { name: "watched", devices: 2, spec: &spec, reading: "interval: 1s", subscriptions: "" };
    let simctl = fleet.place();
    fs::write(simctl.dir().join("password"), PASSWORD).unwrap();
    let url = broker.url();
    let refused = simctl.call(&["run", "-f", "fleet.yaml", "--broker", &url, "--duration", "3s"], PATIENCE).unwrap();
    assert_eq!(refused.code, Some(99), "{refused:?}");
    let said = ["refuses the observer `watched-observer-", "(user `nobody`, the password file `password`)"];
    assert!(said.iter().all(|said| refused.stderr.contains(said)), "{refused:?}");
    assert!(refused.stdout.is_empty(), "nothing has run: {refused:?}");
}
