//! The Compose setup: its file by Compose's schema and by what it refers to, its fleet by real workers.
//!
//! No engine and no images are at hand here: what an engine would do with the file is not checked.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use fleet_contract::{document, fleet::Fleet};
use serde_json::Value;
use tests::{
    broker::Broker, debian::Packages, eventually, port, process::Process, project, prometheus::Prometheus,
    simctl::Simctl,
};

const PATIENCE: Duration = Duration::from_mins(1);

fn folder() -> PathBuf {
    project::root().join("manifests")
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

fn setup() -> Value {
    yaml("compose.yaml")
}

/// Names and definitions of the services whose name begins so.
fn services<'a>(setup: &'a Value, prefix: &str) -> Vec<(&'a str, &'a Value)> {
    let all = setup["services"].as_object().unwrap().iter();
    all.map(|(name, service)| (name.as_str(), service)).filter(|(name, _)| name.starts_with(prefix)).collect()
}

/// The file that a service has at a path.
fn mounted(setup: &Value, service: &str, target: &str) -> Value {
    let configs = setup["services"][service]["configs"].as_array().unwrap();
    let config = configs.iter().find(|config| config["target"] == target);
    let source = config.unwrap_or_else(|| panic!("{service} has no {target}"))["source"].as_str().unwrap();
    yaml(setup["configs"][source]["file"].as_str().unwrap())
}

#[test]
fn compose_has_nothing_against_the_file() {
    let packages = Packages::unpack(&["docker-compose"]).unwrap();
    let schema = packages.file("usr/lib/python3/dist-packages/compose/config/compose_spec.json").unwrap();
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(&setup()).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let mut wrong = setup();
    wrong["services"]["broker"]["imagee"] = "x".into();
    assert!(!validator.is_valid(&wrong), "the schema finds nothing");
}

#[test]
fn everything_that_is_named_exists() {
    let setup = setup();
    let configs = setup["configs"].as_object().unwrap();
    for (name, config) in configs {
        let file = config["file"].as_str().unwrap();
        assert!(folder().join(file).is_file(), "config {name}: {file} does not exist");
    }
    for (name, service) in services(&setup, "") {
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').map(|(_, tag)| tag.trim_end_matches('}').trim_start_matches('-'));
        assert!(tag.is_some_and(|tag| tag != "latest" && tag.contains('.')), "{name}: {image} is no fixed version");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        for config in service["configs"].as_array().into_iter().flatten() {
            assert!(configs.contains_key(config["source"].as_str().unwrap()), "{name}: {config}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let (volume, _) = volume.as_str().unwrap().split_once(':').unwrap();
            assert!(setup["volumes"].get(volume).is_some(), "{name}: {volume}");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} is open to the network");
        }
    }
}

#[test]
fn the_images_are_of_this_version() {
    let setup = setup();
    let ours =
        services(&setup, "").into_iter().filter(|(_, service)| service["image"].as_str().unwrap().contains("simctl"));
    let images: Vec<&str> = ours.map(|(_, service)| service["image"].as_str().unwrap()).collect();
    assert_eq!(images.len(), 4);
    let version = concat!("SIMCTL_TAG:-", env!("CARGO_PKG_VERSION"), "}");
    assert!(images.iter().all(|image| image.ends_with(version)), "{images:?}");
}

#[test]
fn there_is_a_worker_for_each_part_of_the_fleet() {
    let (fleet, _) = document::read::<Fleet>("fleet.yaml", &read("compose/fleet.yaml")).unwrap();
    let workers = fleet.spec.devices.div_ceil(fleet.spec.devices_per_pod);
    let setup = setup();
    let ordinals: Vec<&Value> =
        services(&setup, "worker-").iter().map(|(_, worker)| &worker["environment"]["SIMCTL_ORDINAL"]).collect();
    let expected: Vec<String> = (0..workers).map(|ordinal| ordinal.to_string()).collect();
    assert_eq!(ordinals, expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn grafana_and_prometheus_find_each_other_and_what_they_show() {
    let setup = setup();
    let prometheus = mounted(&setup, "prometheus", "/etc/prometheus/prometheus.yml");
    let source = mounted(&setup, "grafana", "/etc/grafana/provisioning/datasources/prometheus.yaml");
    let source = &source["datasources"][0];
    assert_eq!(source["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
    assert_eq!(source["url"], "http://prometheus:9090");
    let provider = mounted(&setup, "grafana", "/etc/grafana/provisioning/dashboards/simctl.yaml");
    let path = provider["providers"][0]["options"]["path"].as_str().unwrap();
    let board = mounted(&setup, "grafana", &format!("{path}/fleet-overview.json"));
    assert_eq!(board["uid"], "simctl-fleet-overview");
    let rules = prometheus["rule_files"][0].as_str().unwrap();
    assert!(mounted(&setup, "prometheus", rules)["groups"].is_array());
    let mut targets: Vec<String> = services(&setup, "worker-").iter().map(|(name, _)| format!("{name}:9464")).collect();
    targets.push("broker:9465".into());
    let scraped: Vec<&Value> = prometheus["scrape_configs"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|job| job["static_configs"][0]["targets"].as_array().unwrap())
        .collect();
    assert_eq!(scraped, targets.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn what_the_workers_read_is_what_simctl_makes_of_the_document() {
    let simctl = Simctl::new().unwrap();
    let remedy = "run `cargo run -- assignment -f manifests/compose/fleet.yaml --directory manifests/compose`";
    let document = folder().join("compose/fleet.yaml");
    let made =
        simctl.call(&["assignment", "-f", document.to_str().unwrap(), "--start", "2026-01-01T00:00:00Z"], PATIENCE);
    assert_eq!(made.unwrap().code, Some(0));
    for file in ["assignment.json", "plan.json"] {
        let fresh: Value = serde_json::from_str(&fs::read_to_string(simctl.dir().join(file)).unwrap()).unwrap();
        let committed: Value = serde_json::from_str(&read(&format!("compose/{file}"))).unwrap();
        assert!(committed == fresh, "manifests/compose/{file} is stale; {remedy}");
    }
}

#[test]
fn the_workers_bring_the_whole_fleet_and_are_seen_by_prometheus() {
    let [first, second, third, broker_metrics] = port::free_many().unwrap();
    let metrics = format!("127.0.0.1:{broker_metrics}");
    let broker = Broker::start(&["--metrics", &metrics]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let assignment = read("compose/assignment.json").replace("mqtt://broker:1883", &broker.url());
    fs::write(dir.path().join("assignment.json"), assignment).unwrap();
    fs::write(dir.path().join("plan.json"), read("compose/plan.json")).unwrap();

    let setup = setup();
    let ports = [first, second, third];
    let services = services(&setup, "worker-");
    let workers: Vec<Process> = services
        .iter()
        .zip(ports)
        .map(|((name, service), port)| {
            let mut command = Command::new(project::binary("device-sim").unwrap());
            command.env_clear();
            for (variable, value) in service["environment"].as_object().unwrap() {
                let value = value.as_str().unwrap();
                let value = value.replace("[::]:9464", &format!("127.0.0.1:{port}"));
                command.env(variable, value.replace("/etc/simctl", dir.path().to_str().unwrap()));
            }
            Process::spawn(name, &mut command, dir.path()).unwrap()
        })
        .collect();
    assert_eq!(workers.len(), ports.len());

    let mut configuration = read("compose/prometheus.yml")
        .replace("/etc/prometheus/rules.yaml", project::root().join("dashboards/rules.yaml").to_str().unwrap())
        .replace("scrape_interval: 5s, scrape_timeout: 4s", "scrape_interval: 1s, scrape_timeout: 1s")
        .replace("broker:9465", &metrics);
    for ((name, _), port) in services.iter().zip(ports) {
        configuration = configuration.replace(&format!("{name}:9464"), &format!("127.0.0.1:{port}"));
    }
    let prometheus = Prometheus::start(&configuration).unwrap();
    let wait = |query: &str, expected: f64| {
        eventually(&format!("{query} is {expected}"), PATIENCE, || {
            workers.iter().try_for_each(Process::ensure_running)?;
            let samples = prometheus.query(query)?;
            Ok(samples.iter().any(|sample| (sample.value - expected).abs() < 0.5).then_some(()))
        })
        .unwrap();
    };
    wait("sum(up)", 4.0);
    wait(r#"sum by (fleet) (simctl_devices{fleet="compose", state="connected"})"#, 300.0);
    wait(r#"min by (fleet) (simctl_devices{fleet="compose", state="connected"})"#, 100.0);
    // Each worker has an observer.
    wait(r#"sum by (fleet) (simctl_broker_connections{fleet="compose"})"#, 303.0);
    wait(r#"(sum(simctl_messages_delivered_total{fleet="compose"}) > bool 100)"#, 1.0);
}
