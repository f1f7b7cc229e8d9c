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

/// What a type expects is said by the type, wherever it is used, and by field: not by the prose of the field.
#[test]
fn values_of_the_wrong_form_are_told_together_with_what_was_expected() {
    let document = "\
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: lab}
spec:
  devices: 10
  seed: \"3\"
  broker: {url: 'mqtt://h:99999'}
  connect: {rate: 10/week}
  observer: {sample: 120%}
  groups:
    - {name: a, share: 40%, model: thermometer, streams: {reading: {interval: 1, qos: \"1\"}}}
    - {name: b, share: 30%, model: thermometer, streams: {reading: {interval: [1s], size: 1KB}}}
    - {name: c, share: 30%, model: thermometer, streams: {reading: {topic: '{flete}/x', size: 200}}}
";
    let expected = [
        "fleet.yaml:6:3: spec.seed: expected a whole number, found the text `3`",
        "fleet.yaml:7:12: spec.broker.url: expected a port from 1 to 65535, found `99999`",
        "fleet.yaml:8:13: spec.connect.rate: expected a rate such as",
        "fleet.yaml:9:14: spec.observer.sample: expected a share from `0%` to `100%`",
        "fleet.yaml:11:69: spec.groups[0].streams.reading.interval: expected a length of time such as",
        "spec.groups[0].streams.reading.qos: expected a QoS of 0, 1 or 2, found the text `1`",
        "spec.groups[1].streams.reading.interval: expected a length of time such as",
        "spec.groups[1].streams.reading.size: expected a size such as `200B`, `4KiB` or `1MB`, found `1KB`",
        "spec.groups[2].streams.reading.size: expected a size such as `200B`, `4KiB` or `1MB`, found `200`",
        "spec.groups[2].streams.reading.topic: `{flete}` is no placeholder here",
    ];
    check(document, &expected);
    check("kind: Fleet\nkind: Fleet\n", &["fleet.yaml:2:1: expected each field once, found `kind` again"]);
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
fn what_cannot_be_replayed_or_sent_digit_by_digit_is_told_before_the_run() {
    let replay = "\
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: replay}
spec:
  devices: 1
  groups: [{name: log, model: log}]
  models:
    log:
      signals:
        v: {kind: replay, format: csv, column: v, time: t, file: log.csv}
        account: {kind: constant, value: 1724442618569203714}
      streams: {out: {topic: '{fleet}/{id}/v', interval: 1s, payload: {json: {v: '{v}', long: 18446744073709551616}}}}
";
    check(replay, &["fleet.yaml:12:89", "payload.json.long: expected a whole number of at most 64 bits"]);
    let replay = replay.replace(", long: 18446744073709551616", "");
    check(
        &replay,
        &["spec.models.log: failed to read log.csv", "fleet.yaml:11:", "signals.account", "9007199254740991"],
    );

    let replay = replay.replace("        account: {kind: constant, value: 1724442618569203714}\n", "");
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("fleet.yaml"), &replay).unwrap();
    let of = |recording: &str, args: &[&str]| {
        fs::write(simctl.dir().join("log.csv"), recording).unwrap();
        simctl.call(args, PATIENCE).unwrap()
    };
    for args in [&["validate", "-f", "fleet.yaml"][..], &["run", "-f", "fleet.yaml", "--duration", "1s"]] {
        let refused = of("t,v\n10,1\n10,2\n", args);
        assert_eq!(refused.code, Some(104), "{refused:?}");
        assert!(
            refused.stderr.contains("fleet.yaml:10:9: spec.models.log.signals.v: record 2: times must"),
            "{refused:?}"
        );
    }
    assert_eq!(of("t,v\n10,1\n11,2\n", &["validate", "-f", "fleet.yaml"]).code, Some(0));
}

#[test]
fn a_model_in_a_file_of_its_own_is_checked_listed_and_shown() {
    let simctl = Simctl::new().unwrap();
    fs::create_dir(simctl.dir().join("models")).unwrap();
    let write = |text: &str| fs::write(simctl.dir().join("models/tank.yaml"), text).unwrap();
    let model = "\
description: A tank
signals: {level: {kind: uniform, range: [0, 9]}}
streams: {state: {topic: 't/{id}', interval: 1s, payload: {json: {level: '{level}'}}}}
";
    write(model);
    let call = |args: &[&str]| simctl.call(args, PATIENCE).unwrap();
    let valid = call(&["validate", "-f", "models/tank.yaml"]);
    assert_eq!((valid.code, valid.stderr.contains("streams state is right")), (Some(0), true), "{valid:?}");
    assert_eq!(call(&["models", "show", "tank"]).stdout.trim_end(), model.trim_end());
    let listed = call(&["models"]).stdout;
    assert!(listed.contains("models/tank.yaml") && listed.contains("built in"), "{listed}");
    let schema = call(&["schema", "model"]).stdout;
    assert!(schema.contains("\"signals\"") && schema.contains("\"streams\""), "{schema}");
    write(&model.replace("interval", "intervall"));
    let wrong = call(&["validate", "-f", "models/tank.yaml"]);
    assert_eq!(wrong.code, Some(104), "{wrong:?}");
    assert!(
        wrong.stderr.contains("models/tank.yaml:3:") && wrong.stderr.contains("did you mean `interval`"),
        "{wrong:?}"
    );
    let run = call(&["run", "-f", "models/tank.yaml", "--duration", "1s"]);
    assert!(run.code == Some(104) && run.stderr.contains("found a model"), "{run:?}");
}

#[test]
fn a_file_that_is_no_utf_8_is_told_with_its_place_and_stays_as_it_is() {
    let simctl = Simctl::new().unwrap();
    for (bytes, expected) in [
        (&b"kind: Fleet\nmetadata: {name: M\xfcnchen}\n"[..], "fleet.yaml:2: expected UTF-8, found the byte 0xfc"),
        (b"\xff\xfek\0", "fleet.yaml: expected UTF-8, found UTF-16"),
    ] {
        fs::write(simctl.dir().join("fleet.yaml"), bytes).unwrap();
        let refused = simctl.call(&["validate", "-f", "fleet.yaml"], PATIENCE).unwrap();
        assert_eq!(refused.code, Some(104), "{refused:?}");
        assert!(refused.stderr.contains(expected) && !refused.stderr.contains("simctl example"), "{refused:?}");
    }
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
