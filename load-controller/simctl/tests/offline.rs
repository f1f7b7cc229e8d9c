//! The verbs that need neither broker nor run, as a shell calls them.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

use std::{fs, path::Path};

use assert_cmd::{Command, assert::Assert};
use serde_json::Value;
use tempfile::TempDir;

const EXAMPLES: [&str; 12] = [
    "demo",
    "thermometers",
    "robotaxis",
    "rush-hour",
    "street-lights",
    "own-model",
    "ten-thousand",
    "hello",
    "five-hundred",
    "edge",
    "own-broker",
    "secure",
];

/// A directory in which no fleet runs and no cluster is known, and simctl called within it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, file: &str, text: &str) -> Self {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::cargo_bin("simctl").unwrap();
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SIMCTL_")) {
            command.env_remove(name);
        }
        command.args(words).current_dir(self.0.path()).env("XDG_RUNTIME_DIR", self.0.path());
        // Nor does any cluster of the person who runs the tests.
        command.env("KUBECONFIG", self.0.path().join("kubeconfig.yaml")).env_remove("KUBERNETES_SERVICE_HOST");
        command.env_remove("CLICOLOR_FORCE");
        command
    }

    fn call(&self, words: &[&str]) -> Assert {
        self.command(words).assert()
    }
}

trait Says {
    /// Whether standard error has this text somewhere.
    fn says(self, expected: &str) -> Self;
}

impl Says for Assert {
    #[track_caller]
    fn says(self, expected: &str) -> Self {
        let said = stderr(&self);
        assert!(said.contains(expected), "{expected:?} is not in {said}");
        self
    }
}

#[track_caller]
fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[track_caller]
fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

const BAD: &str = "\
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: lab}
spec:
  device: 10
  devices: many
  groups:
    - {name: a, share: 50%, model: thermometer}
";

#[test]
fn all_problems_of_all_documents_come_at_once() {
    let place = Place::new()
        .with("bad.yaml", BAD)
        .with("none.yaml", &BAD.replace("device: 10", "seed: 1").replace("many", "5"));
    let assert = place.call(&["validate", "-f", "bad.yaml", "-f", "none.yaml", "missing.yaml"]).code(104);
    let said = stderr(&assert);
    for expected in [
        "bad.yaml:5:3: spec.device: unknown field, did you mean `devices`?",
        "spec.devices: expected",
        "found the text `many`\n  6 |   devices: many\n    |   ^\n",
        "none.yaml:7:3: spec.groups: expected shares that add up to 100%, found 50%",
        "failed to read missing.yaml",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    assert_eq!(stdout(&assert), "");
}

#[test]
fn a_document_may_leave_the_devices_open_and_a_run_is_told_how_many() {
    let text = BAD.replace("  device: 10\n  devices: many\n", "").replace("share: 50%, ", "");
    let place = Place::new().with("open.yaml", &text);
    place.call(&["validate", "-f", "open.yaml"]).success().says("fleet lab of any number of devices is right");
    for verb in ["run", "plan", "sample", "assignment"] {
        let assert = place.call(&[verb, "-f", "open.yaml"]).code(2);
        let assert = assert.says("open.yaml leaves the number of devices open: expected --devices N");
        assert_eq!(stdout(&assert), "", "{verb}");
    }
    let plan = stdout(&place.call(&["plan", "-f", "open.yaml", "--devices", "7", "--offline", "-o", "json"]).success());
    assert_eq!(serde_json::from_str::<Value>(&plan).unwrap()["devices"], 7);
}

/// A Secret, a Fleet whose model stands in a ConfigMap of the file, and another Fleet, with comments and nothing between.
const SEVERAL: &str = "\
# a lab
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {password: hunter2}
---
# nothing
---
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: lab}
spec: {devices: 10, modelsFrom: {configMap: models}, groups: [{name: a, model: tank}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: models}
data:
  tank.yaml: |
    streams: {state: {topic: 't/{fleet}/{index}', interval: 1s, payload: {json: {level: 7}}}}
---
apiVersion: v1
kind: List
items:
  - apiVersion: simctl.io/v1alpha1
    kind: Fleet
    metadata: {name: sea}
    spec: {devices: 5, groups: [{name: a, model: thermometer}]}
";

#[test]
fn each_fleet_of_a_file_is_checked_and_what_is_left_is_named() {
    let place = Place::new().with("f.yaml", SEVERAL);
    let said = stderr(&place.call(&["validate", "-f", "f.yaml"]).success());
    let expected = "\
f.yaml:3: secret/password is not checked, since it is neither Fleet nor LoadTest
f.yaml:10: fleet lab of 10 devices is right
f.yaml:15: configmap/models is checked as far as fleets name its models
f.yaml:25: fleet sea of 5 devices is right
";
    assert_eq!(said, expected);
    let wrong = SEVERAL.replace("interval: 1s", "interval: soon").replace("devices: 5", "device: 5");
    let place = place.with("f.yaml", &wrong);
    for expected in ["f.yaml:15 configmap/models, tank.yaml:1:", "interval", "f.yaml:28:12: spec.device: unknown field"]
    {
        place.call(&["validate", "-f", "f.yaml"]).code(104).says(expected);
    }
    let place = place.with("s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n");
    place
        .call(&["validate", "-f", "s.yaml"])
        .code(104)
        .says("expected a Fleet, a LoadTest or a model in s.yaml, found none");
    place.call(&["run", "-f", "s.yaml"]).code(104).says("expected a Fleet in s.yaml, found secret/s");
}

#[test]
fn of_several_fleets_a_run_wants_one() {
    let place = Place::new().with("f.yaml", SEVERAL);
    for verb in ["run", "plan", "sample", "assignment"] {
        place.call(&[verb, "-f", "f.yaml"]).code(2).says("f.yaml holds the fleets lab and sea: expected --fleet NAME");
    }
    place.call(&["run", "-f", "f.yaml", "--fleet", "see"]).code(2).says("found `see` in --fleet; there are lab, sea");
    place.call(&["run", "--fleet", "lab"]).code(2).says("--file");
    let words = ["sample", "-f", "-", "--fleet", "lab", "--devices", "1", "--duration", "2s"];
    let sampled = stdout(&place.command(&words).write_stdin(SEVERAL).assert().success());
    assert!(sampled.lines().all(|line| line.contains(r#""payload":{"level":7"#)), "{sampled}");
}

#[test]
fn words_of_yaml_1_1_are_refused_with_their_place() {
    let text = BAD.replace("  device: 10\n", "").replace("many", "012").replace("name: a, share: 50%", "name: no");
    let place = Place::new().with("f.yaml", &text);
    for verb in ["validate", "run", "apply"] {
        place
            .call(&[verb, "-f", "f.yaml"])
            .code(104)
            .says("f.yaml:5:3: spec.devices: expected a value that YAML 1.1 and 1.2 read alike, found `012`")
            .says("which Kubernetes reads as `10`")
            .says("f.yaml:7:8: spec.groups[0].name: expected a value")
            .says("found `no`, which Kubernetes reads as `false`: write that, or write it in quotes");
    }
    let model = "streams: {on: {topic: 't/{index}', interval: 1s, payload: {json: {level: 1}}}}\n";
    let fleet = text.replace("012", "1").replace("name: no", "name: a").replace("thermometer", "mine");
    let place = place.with("f.yaml", &fleet).with("models/mine.yaml", model);
    place.call(&["validate", "-f", "f.yaml"]).code(104).says("models/mine.yaml:1:11: streams.true: expected a name");
}

#[test]
fn a_document_may_come_from_standard_input() {
    let place = Place::new();
    place.command(&["validate", "-f", "-"]).write_stdin(BAD).assert().code(104).says("stdin:5:3");
}

#[test]
fn a_model_beside_the_document_and_its_recording_are_found_and_checked() {
    let document = BAD
        .replace("  device: 10\n", "")
        .replace("many", "5")
        .replace("share: 50%, ", "")
        .replace("thermometer", "tank");
    let model = "
signals: {level: {kind: replay, file: tank.csv, format: csv, column: level}}
streams: {state: {topic: 't/{index}', interval: 1s, payload: {json: {level: '{level}'}}}}
";
    let place = Place::new().with("lab/fleet.yaml", &document).with("lab/models/tank.yaml", model);
    place.call(&["validate", "-f", "lab/fleet.yaml"]).code(104).says("failed to read tank.csv");
    let place = place.with("lab/models/tank.csv", "level\n7\n7\n");
    place.call(&["validate", "-f", "lab/fleet.yaml"]).success();
    let sampled = place.call(&["sample", "-f", "lab/fleet.yaml", "--devices", "1", "--duration", "2s"]).success();
    assert!(stdout(&sampled).lines().all(|line| line.contains(r#""level":7"#)), "{}", stdout(&sampled));
}

#[test]
fn every_example_is_listed_and_right() {
    let place = Place::new();
    let list = stdout(&place.call(&["example", "--list"]).success());
    assert_eq!(list.lines().count(), EXAMPLES.len() + 1);
    for name in EXAMPLES {
        assert!(list.lines().any(|line| line.starts_with(name)), "{name} is not in {list}");
        let text = stdout(&place.call(&["example", name]).success());
        place.command(&["validate", "-f", "-"]).write_stdin(text).assert().success();
    }
    place.call(&["example", "submarines"]).code(2).says("expected one of demo, thermometers");
}

#[test]
fn the_committed_schemas_are_the_generated_ones() {
    for kind in [
        "fleet",
        "loadtest",
        "report",
        "plan",
        "clean",
        "device",
        "models",
        "version",
        "broker-credentials",
        "sample",
        "lost",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../manifests/schema/{kind}.json"));
        let generated = stdout(&Place::new().call(&["schema", kind]).success());
        let committed = fs::read_to_string(&path).unwrap_or_default();
        let remedy = format!("run `cargo run -- schema {kind} > manifests/schema/{kind}.json`");
        assert!(committed == generated, "{} is stale; {remedy}", path.display());
    }
}

#[test]
fn what_programs_read_is_as_its_schema_says_and_has_its_former_keys() {
    let place = Place::new();
    for (kind, args) in [
        ("plan", &["plan", "--model", "robotaxi", "--offline", "-o", "json"][..]),
        ("plan", &["plan", "--model", "robotaxi", "--target", "cluster", "--offline", "-o", "json"]),
        ("clean", &["clean", "-o", "json"]),
        ("models", &["models", "-o", "json"]),
        ("version", &["version", "-o", "json"]),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../manifests/schema/{kind}.json"));
        let schema: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let output: Value = serde_json::from_str(&stdout(&place.call(args).success())).unwrap();
        let errors: Vec<_> =
            jsonschema::validator_for(&schema).unwrap().iter_errors(&output).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{args:?}: {errors:?} in {output}");
    }
    let plan = stdout(&place.call(&["plan", "--model", "robotaxi", "--offline", "-o", "json"]).success());
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["messagesPerSecond"], plan["messages_per_second"]);
}

#[test]
fn each_line_of_a_sample_is_as_its_schema_says() {
    let document = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: lab}
spec:
  devices: 2
  broker: {url: 'mqtt://localhost', protocol: '5'}
  groups:
    - name: room
      model: thermometer
      streams:
        reading: {properties: {contentType: application/json, responseTopic: answers, correlationData: '{id}'}}
";
    let place = Place::new().with("fleet.yaml", document);
    let schema: Value = serde_json::from_str(&stdout(&place.call(&["schema", "sample"]).success())).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for args in [&["sample", "--model", "robotaxi"][..], &["sample", "-f", "fleet.yaml", "--duration", "1m"]] {
        let lines = stdout(&place.call(args).success());
        assert!(lines.lines().count() > 1, "{args:?}");
        for line in lines.lines() {
            let message: Value = serde_json::from_str(line).unwrap();
            let errors: Vec<_> = schema.iter_errors(&message).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{args:?}: {errors:?} in {line}");
        }
    }
    let mut unlike: Value =
        serde_json::from_str(r#"{"due": "", "device": 1, "topic": "", "qos": 0, "retain": true}"#).unwrap();
    assert!(!schema.is_valid(&unlike), "it has no payload");
    unlike["payload"] = 7.into();
    unlike["properties"] = serde_json::json!({"contentType": 7});
    assert!(!schema.is_valid(&unlike), "its keys are those of documents");
}

#[test]
fn a_body_in_cbor_says_what_the_same_body_says_in_json() {
    let document = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: lab}
spec:
  devices: 2
  broker: {url: 'mqtt://localhost'}
  groups: [{name: tank, model: tank}]
  models:
    tank:
      signals: {level: {kind: uniform, range: [-5, 5]}}
      streams:
        state: {topic: 't/{index}', interval: 1s, payload: {FORMAT: {level: '{level:.2}', who: '{id}', at: ['{seq}', null]}}}
";
    let lines = |format: &str| -> Vec<Value> {
        let place = Place::new().with("fleet.yaml", &document.replace("FORMAT", format));
        let text = stdout(&place.call(&["sample", "-f", "fleet.yaml"]).success());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (json, cbor) = (lines("json"), lines("cbor"));
    assert!(json.len() > 10 && json.len() == cbor.len(), "{} and {}", json.len(), cbor.len());
    for (json, cbor) in json.iter().zip(&cbor) {
        assert_eq!(cbor["decoded"], json["payload"]);
        assert!(cbor["payload"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_hexdigit()), "{cbor}");
        assert!(json.get("decoded").is_none(), "{json}");
    }
}

#[test]
fn the_built_in_models_are_listed_and_shown() {
    let place = Place::new();
    let list: Value = serde_json::from_str(&stdout(&place.call(&["models", "-o", "json"]).success())).unwrap();
    for model in list.as_array().unwrap() {
        let name = model["name"].as_str().unwrap();
        assert!(!model["description"].as_str().unwrap().is_empty(), "{name} has no description");
        assert!(stdout(&place.call(&["models", "show", name]).success()).contains("streams:"));
    }
    place.call(&["models", "show", "submarine"]).code(2).says("expected one of e-bike, robotaxi");
}

#[test]
fn a_shown_model_can_be_changed_and_comes_first() {
    let place = Place::new();
    let own =
        stdout(&place.call(&["models", "show", "thermometer"]).success()).replace("interval: 10s", "interval: 1s");
    let place = place.with("models/thermometer.yaml", &own);
    let plan: Value =
        serde_json::from_str(&stdout(&place.call(&["plan", "--model", "thermometer", "-o", "json"]).success()))
            .unwrap();
    assert_eq!(plan["groups"][0]["streams"][0]["intervalSeconds"], 1.0);
}

#[test]
fn samples_are_reproducible_and_in_order() {
    let place = Place::new();
    let words = ["sample", "--model", "robotaxi", "--devices", "3", "--duration", "5s", "--seed", "7"];
    let first = stdout(&place.call(&words).success());
    assert_eq!(first, stdout(&place.call(&words).success()));
    let lines: Vec<Value> = first.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 15, "three devices at one message a second: {first}");
    let dues: Vec<_> = lines.iter().map(|line| line["due"].as_str().unwrap()).collect();
    assert!(dues.is_sorted(), "{dues:?}");
    let mut keys: Vec<_> = lines[0].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["device", "due", "payload", "qos", "retain", "topic"]);
    let other = stdout(
        &place.call(&["sample", "--model", "robotaxi", "--devices", "3", "--duration", "5s", "--seed", "8"]).success(),
    );
    assert_ne!(first, other);
}

#[test]
fn a_device_sends_the_same_in_a_larger_fleet() {
    let place = Place::new();
    let of_device_one = |devices: &str| {
        let text = stdout(
            &place.call(&["sample", "--model", "smart-meter", "--devices", devices, "--duration", "1m"]).success(),
        );
        text.lines().filter(|line| line.contains(r#""device":1,"#)).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(of_device_one("2"), of_device_one("20"));
}

#[test]
fn a_plan_says_what_a_fleet_takes_and_refuses_what_cannot_be() {
    let place = Place::new();
    let plan: Value = serde_json::from_str(&stdout(&place.call(&["plan", "-o", "json"]).success())).unwrap();
    assert_eq!((&plan["devices"], &plan["workers"]), (&100.into(), &1.into()));
    assert!(plan["messages_per_second"].as_f64().unwrap() > 10.0, "{plan}");
    let refused = place.call(&["plan", "--devices", "50000"]).code(1);
    let said = stdout(&refused);
    assert!(said.contains("embedded broker") && said.contains("mosquitto") && said.contains("remedy:"), "{said}");
}

#[test]
fn a_plan_for_workers_without_a_controller_goes_on() {
    let place = Place::new();
    let read = |file: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(place.0.path().join(file)).unwrap()).unwrap()
    };
    let fresh = ["assignment", "--model", "thermometer", "--broker", "mqtt://broker:1883", "--devices", "10"];
    place.call(&fresh).success().says("plan version 1: 10 devices");
    let (plan, assignment) = (read("plan.json"), read("assignment.json"));
    assert!(assignment["fleet"]["spec"]["models"]["thermometer"].is_object(), "{assignment}");
    // The same again changes nothing.
    place.call(&fresh).success();
    assert_eq!((read("plan.json"), read("assignment.json")), (plan.clone(), assignment));
    place.call(&[&fresh[..6], &["25"]].concat()).success().says("plan version 2: 25 devices");
    let grown = read("plan.json");
    assert_eq!((&grown["run"], &grown["start"]), (&plan["run"], &plan["start"]));
    assert_eq!(grown["changes"][1]["set"]["devices"], 25);
    place.call(&["assignment"]).code(2).says("--broker");
}

#[test]
fn a_run_that_cannot_be_is_refused_before_it_starts() {
    let place = Place::new();
    place.call(&["run", "--devices", "50000", "--duration", "1s"]).code(1).says("--broker");
    place.call(&["run", "--broker", "ws://127.0.0.1:1", "--duration", "1s"]).code(1).says("nothing listens there");
    place.call(&["run", "--broker", "mqtt://127.0.0.1:1", "--duration", "1s"]).code(1).says("nothing listens there");
    place.call(&["run", "--username", "me"]).code(2).says("--broker");
    place.call(&["run", "-f", "missing.yaml"]).code(104).says("simctl example");
}

#[test]
fn with_no_run_alive_each_verb_says_so() {
    let place = Place::new();
    for verb in [
        &["status"][..],
        &["scale", "5"],
        &["pause"],
        &["resume"],
        &["set", "interval=1s"],
        &["device", "1"],
        &["stop"],
    ] {
        let assert = place.call(verb).code(1).says("no fleet is running on this machine; start one with `simctl run`");
        assert_eq!(stdout(&assert), "", "{verb:?}");
    }
}

#[test]
fn the_verbs_of_a_cluster_want_one() {
    let place = Place::new();
    for verb in [
        &["get"][..],
        &["describe"],
        &["top"],
        &["logs"],
        &["wait"],
        &["rollout", "history"],
        &["delete", "fleet/a"],
        &["uninstall"],
        &["scale", "5", "--target", "cluster"],
        &["status", "-n", "load"],
    ] {
        let assert = place.call(verb).code(1).says("there is no kubeconfig; expected --kubeconfig FILE");
        assert_eq!(stdout(&assert), "", "{verb:?}");
    }
}

/// A kubeconfig whose API server is `address`, which nothing listens on.
fn kubeconfig(address: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: lab
clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]
users: [{{name: u, user: {{}}}}]
contexts: [{{name: lab, context: {{cluster: c, user: u, namespace: load}}}}]
"
    )
}

#[test]
fn a_cluster_that_is_gone_is_an_error_in_seconds() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let place = Place::new().with("kubeconfig.yaml", &kubeconfig(&address));
    let started = std::time::Instant::now();
    for verb in [&["get"][..], &["scale", "5"], &["install"]] {
        let assert = place.call(verb).code(1).says(&format!("the API server http://{address} of context lab"));
        let said = stderr(&assert);
        assert!(said.contains("refused") && said.contains("--context"), "{said}");
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    place.call(&["get", "--context", "other"]).code(1).says("found `other`; there are lab");
}

#[test]
fn a_cluster_that_is_silent_is_an_error_in_seconds() {
    // It accepts connections, since its queue does, and answers nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new().with("kubeconfig.yaml", &kubeconfig(&listener.local_addr().unwrap().to_string()));
    let started = std::time::Instant::now();
    place.call(&["get"]).code(1).says("no answer within 10 s").says("cluster lab, namespace load");
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_document_is_checked_before_the_cluster_is_asked() {
    let place = Place::new().with("fleets/bad.yaml", BAD);
    for verb in ["apply", "delete"] {
        place.call(&[verb, "-f", "fleets"]).code(104).says("bad.yaml:5:3: spec.device: unknown field");
    }
    let good = stdout(&place.call(&["example", "thermometers"]).success());
    let place = place.with("good.yaml", &good.replace("metadata: {", "metadata: {namespace: lab, "));
    place
        .call(&["apply", "-f", "good.yaml", "-n", "load"])
        .code(104)
        .says("expected the namespace of --namespace, load");
}

#[test]
fn a_target_that_cannot_be_meant_is_a_wrong_command_line() {
    let place = Place::new();
    place.call(&["status", "--target", "local", "-n", "load"]).code(2).says("beside --target local");
    place.call(&["scale", "5", "--run", "a", "--context", "b"]).code(2).says("found both");
    place.call(&["scale"]).code(2).says("expected a number of devices");
    place.call(&["scale", "many"]).code(2).says("found `many`");
    place.call(&["status", "pod/a"]).code(2).says("found `pod/a`");
}

#[test]
fn what_pods_ask_for_is_planned_without_a_cluster() {
    let place = Place::new();
    let words =
        ["plan", "--target", "cluster", "--offline", "--devices", "2500", "--price-per-cpu-hour", "0.04", "-o", "json"];
    let plan: Value = serde_json::from_str(&stdout(&place.call(&words).success())).unwrap();
    assert_eq!((&plan["cluster"]["pods"], &plan["preflight"]), (&3.into(), &Value::Array(vec![])));
    assert!(plan["cluster"]["costPerHour"].as_f64().unwrap() > 0.0, "{plan}");
    place.call(&["plan", "--target", "local", "--price-per-cpu-hour", "1"]).code(2).says("--target cluster");
}

#[test]
fn images_are_written_without_a_container_engine() {
    let place = Place::new().with("programs/broker", "#!/bin/sh\n");
    let words = ["images", "build", "--from", "programs", "--program", "broker", "--archive", "images.tar"];
    place.call(&words).code(1).says("programs/broker: expected a static program for Linux");
    place.call(&[&words[..5], &["simctl"]].concat()).code(1).says("failed to read programs/simctl");
    place.call(&["images", "load", "--kind", "dev", "--archive", "none.tar"]).code(1).says("there is no none.tar");
}

#[test]
fn as_a_plugin_of_kubectl_the_usage_says_so() {
    let place = Place::new();
    let plugin = place.0.path().join("kubectl-simctl");
    std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin("simctl"), &plugin).unwrap();
    let assert = Command::new(plugin).args(["scale", "--help"]).assert().success();
    assert!(stdout(&assert).contains("Usage: kubectl simctl scale"), "{}", stdout(&assert));
}

#[test]
fn completions_exist_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(stdout(&Place::new().call(&["completions", shell]).success()).contains("simctl"), "{shell}");
    }
}

#[test]
fn the_version_is_told_in_every_format() {
    let place = Place::new();
    assert!(stdout(&place.call(&["version"]).success()).starts_with(concat!("simctl ", env!("CARGO_PKG_VERSION"))));
    let json: Value = serde_json::from_str(&stdout(&place.call(&["version", "-o", "json"]).success())).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(stdout(&place.call(&["version", "-o", "yaml"]).success()).contains("apiVersion: simctl.io/v1alpha1"));
    place.call(&["--version"]).success();
}

#[test]
fn variables_stand_in_for_flags_and_flags_win() {
    let place = Place::new();
    let devices = |words: &[&str]| {
        let assert = place.command(words).env("SIMCTL_DEVICES", "7").assert().success();
        serde_json::from_str::<Value>(&stdout(&assert)).unwrap()["devices"].clone()
    };
    assert_eq!(devices(&["plan", "-o", "json"]), 7);
    assert_eq!(devices(&["plan", "-o", "json", "--devices", "9"]), 9);
}

const PERSISTENT: &str = "\
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: lab}
spec:
  devices: 12
  connect: {session: persistent}
  groups: [{name: a, model: thermometer, streams: {reading: {retain: true}}}]
";

#[test]
fn what_a_broker_that_is_gone_keeps_is_named() {
    let place = Place::new().with("fleet.yaml", PERSISTENT);
    // Nobody listens there: the port needs rights that no broker of a test has.
    let assert = place.call(&["clean", "-f", "fleet.yaml", "--broker", "mqtt://127.0.0.1:1"]).code(1);
    let said = stdout(&assert);
    for expected in ["left 12 sessions (", " and 7 more): no session with the broker: ", "left 12 retained messages ("]
    {
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
}

#[test]
fn where_nothing_is_left_nothing_is_removed() {
    let place = Place::new().with("fleet.yaml", PERSISTENT);
    let said = |words: &[&str]| stdout(&place.call(words).success());
    let own = said(&["clean", "-f", "fleet.yaml"]);
    assert!(own.starts_with("nothing to remove: the broker of fleet lab is simctl's own"), "{own}");
    let clean = said(&["clean", "--model", "thermometer", "--broker", "mqtt://127.0.0.1:1"]);
    assert!(clean.starts_with("nothing to remove: a run of fleet demo at mqtt://127.0.0.1:1 leaves no"), "{clean}");
    let other = place.call(&["clean", "-f", "fleet.yaml", "--observer", "someone"]).code(2);
    other.says("which begins with `lab-observer-`, found `someone`");
}
