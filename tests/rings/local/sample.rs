//! Law 1: what a device sends depends on seed, document and instant, and on nothing else.

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
    for model in ["robotaxi", "thermometer", "smart-meter", "street-light"] {
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
