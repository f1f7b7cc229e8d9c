//! Documents that are wrong: every problem at once, each with its place.

use std::fs;

use tests::simctl::{Finished, Simctl};

use super::PATIENCE;

fn call(document: &str, verb: &[&str]) -> Finished {
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("fleet.yaml"), document).unwrap();
    simctl.call(verb, PATIENCE).unwrap()
}

/// `run` and `validate` both say all of `expected`, with the exit code of a bad document.
#[track_caller]
fn check(document: &str, expected: &[&str]) {
    for verb in [&["validate", "-f", "fleet.yaml"][..], &["run", "-f", "fleet.yaml", "--duration", "1s"]] {
        let finished = call(document, verb);
        assert_eq!(finished.code, Some(104), "{verb:?}: {finished:?}");
        for text in expected {
            let said = format!("{}{}", finished.stdout, finished.stderr);
            assert!(said.contains(text), "{verb:?} does not say {text:?}: {finished:?}");
        }
    }
}

#[test]
fn all_problems_are_told_at_once_with_their_places() {
    let document = "\
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: Lab!}
spec:
  devices: many
  connect: {rate: 200/s, keepalive: 5s}
  groups:
    - {name: room, share: 100%, model: thermometer, streams: {reading: {qos: 7}}}
";
    let expected = [
        "fleet.yaml:3:12",
        "fleet.yaml:5:3",
        "spec.devices",
        "fleet.yaml:6:",
        "spec.connect",
        "keepAlive",
        "fleet.yaml:8:",
        "spec.groups[0].streams.reading.qos",
    ];
    check(document, &expected);
}

#[test]
fn unknown_models_and_bad_shares_are_told_together() {
    let document = "\
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: lab}
spec:
  devices: 10
  groups:
    - {name: room, share: 50%, model: thermometer}
    - {name: sea, share: 30%, model: submarine}
";
    check(document, &["fleet.yaml:8:", "spec.groups[1].model", "submarine", "smart-meter", "80"]);
}

#[test]
fn a_password_in_a_document_is_refused() {
    let document = "\
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: lab}
spec:
  devices: 10
  broker: {url: \"mqtt://127.0.0.1\", credentials: {username: lab, password: hunter2}}
  groups: [{name: room, share: 100%, model: thermometer}]
";
    check(document, &["fleet.yaml:6:", "password", "passwordFile", "passwordEnv"]);
    let finished = call(document, &["validate", "-f", "fleet.yaml"]);
    assert!(!format!("{finished:?}").contains("hunter2"), "the password is shown: {finished:?}");
}

#[test]
fn text_that_is_no_yaml_is_told_with_its_place() {
    check("apiVersion: simctl.io/v1alpha1\nkind: [Fleet\nspec: }\n", &["fleet.yaml:"]);
}

#[test]
fn every_example_is_right() {
    let simctl = Simctl::new().unwrap();
    for name in ["demo", "thermometers", "robotaxis"] {
        let example = simctl.call(&["example", name], PATIENCE).unwrap();
        assert_eq!(example.code, Some(0), "{example:?}");
        let valid = call(&example.stdout, &["validate", "-f", "fleet.yaml"]);
        assert_eq!(valid.code, Some(0), "{name}: {valid:?}");
    }
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let simctl = Simctl::new().unwrap();
    for args in [
        &["run", "--qos", "3"][..],
        &["run", "--devices", "-1"],
        &["run", "--interval", "0s"],
        &["run", "--no-such-flag"],
        &["run", "--broker", "amqp://127.0.0.1"],
        &["scale"],
        &["scale", "some"],
        &["set", "colour=red"],
        &["fly"],
    ] {
        let finished = simctl.call(args, PATIENCE).unwrap();
        assert_eq!(finished.code, Some(2), "{args:?}: {finished:?}");
        assert!(!finished.stderr.is_empty() && finished.stdout.is_empty(), "{args:?}: {finished:?}");
    }
}
