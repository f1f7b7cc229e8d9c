//! What a device sends depends on seed, document and instant, and on nothing else.

use serde_json::Value;
use tests::simctl::Simctl;

use super::PATIENCE;

fn sample(args: &[&str]) -> Vec<String> {
    let simctl = Simctl::new().unwrap();
    let finished = simctl.call(&[&["sample", "--duration", "30s"], args].concat(), PATIENCE).unwrap();
    assert_eq!(finished.code, Some(0), "{args:?}: {finished:?}");
    assert!(finished.stdout.lines().count() > 10, "{args:?}: {finished:?}");
    finished.stdout.lines().map(str::to_owned).collect()
}

/// The lines of the first `devices` devices.
fn of_first(lines: &[String], devices: u64) -> Vec<String> {
    let device = |line: &&String| serde_json::from_str::<Value>(line).unwrap()["device"].as_u64().unwrap();
    lines.iter().filter(|line| device(line) < devices).cloned().collect()
}

#[test]
fn the_same_seed_gives_the_same_lines() {
    let args = ["--model", "robotaxi", "--devices", "3", "--seed"];
    let lines = |seed| sample(&[&args[..], &[seed]].concat());
    assert_eq!(lines("11"), lines("11"));
    assert_ne!(lines("11"), lines("12"));
}

#[test]
fn a_device_is_the_same_in_a_fleet_of_any_size() {
    for model in ["robotaxi", "thermometer", "smart-meter", "street-light", "e-bike"] {
        let lines = |devices| sample(&["--model", model, "--seed", "11", "--devices", devices]);
        let few = lines("8");
        assert_eq!(few, of_first(&lines("97"), 8), "{model}");
    }
}

#[test]
fn a_line_has_all_that_a_message_has() {
    for line in sample(&["--devices", "9"]) {
        let line: Value = serde_json::from_str(&line).unwrap();
        let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["due", "device", "topic", "qos", "retain", "payload"]);
    }
}

const MQTT_5: &str = r#"
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
        reading:
          stamp: property
          properties: {contentType: application/json, expiry: 60s, responseTopic: '{fleet}/{index}/answer', correlationData: '{id}', user: {group: '{group}'}}
"#;

#[test]
fn a_line_of_mqtt_5_has_the_properties_too() {
    let simctl = Simctl::new().unwrap();
    std::fs::write(simctl.dir().join("fleet.yaml"), MQTT_5).unwrap();
    let finished = simctl.call(&["sample", "-f", "fleet.yaml", "--duration", "1m"], PATIENCE).unwrap();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["device"] == 1), "{finished:?}");
    for line in lines {
        let device = &line["device"];
        let properties = &line["properties"];
        assert_eq!(properties["contentType"], "application/json");
        assert_eq!(properties["expiry"], "1m");
        assert_eq!(properties["responseTopic"], format!("lab/{device}/answer"));
        assert_eq!(properties["correlationData"], format!("lab-{device}"));
        assert_eq!(properties["user"]["group"], "room");
        assert!(properties["user"]["stamp"].is_string(), "{line}");
    }
}
