//! Every panel's queries, answered by a real Prometheus that scraped a real fleet.
//!
//! The fleet has all that a dashboard shows: devices that the broker refuses because it is full, growth, an outage with
//! reconnects, devices that leave their wills, messages with and without acknowledgement, followed and not, and subscriptions, granted and refused. A
//! second one, of MQTT 5, has what that version adds: messages that its broker rejects or is too small for. Its file with
//! the password is emptied while it runs. A query that names what nobody exports gives nothing and fails here.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{
    broker::Broker,
    dashboard, eventually,
    mosquitto::{Mosquitto, Settings},
    port,
    process::Signal,
    prometheus::{Prometheus, Sample},
    run::Run,
    simctl::Simctl,
};

/// Far beyond what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Metrics that a fleet without a cluster does not have. The control plane ring asks those queries.
const IN_A_CLUSTER: [(&str, &str); 1] = [("simctl_controller_", "only a load controller exports it")];

/// Fewer clients than there will be devices and observers.
const CONNECTIONS_MAX: &str = "35";

/// simctl's own broker refuses `$share`, which MQTT 3.1.1 does not know, and grants all else.
const FLEET: &str = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: panels}
spec:
  devices: 20
  connect: {rate: 100/s, keepAlive: 10s, session: persistent, backoff: {base: 500ms, cap: 1s}, will: {topic: 'gone/{index}', payload: '{id}', qos: 1}}
  observe: sample
  observer: {sample: 50%}
  lossAfter: 2s
  groups:
    - {name: taxi, share: 50%, model: robotaxi, streams: {state: {interval: 200ms, qos: 1}}}
    - name: room
      share: 50%
      model: thermometer
      streams: {reading: {interval: 500ms, qos: 0}}
      subscriptions: [{topic: 'vehicles/+/state', qos: 1}, {topic: '$share/{group}/vehicles/#'}]
";

/// A fleet that may publish nothing at its broker, and whose cameras have more to say than it takes.
const GUESTS: &str = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: guests}
spec:
  devices: 5
  broker: {url: mqtt://localhost, protocol: '5', credentials: {username: guest, passwordFile: 'PASSWORD'}}
  groups:
    - {name: room, share: 60%, model: thermometer, streams: {reading: {interval: 500ms, jitter: 0s, qos: 1}}}
    - {name: camera, share: 40%, model: thermometer, streams: {reading: {interval: 500ms, qos: 1, size: 4KiB}}}
";

/// What a guest may do.
const READ_ONLY: &str = "topic read #\n";

#[test]
fn every_panel_of_a_fleet_without_a_cluster_has_data() {
    let [broker_port, run_port, guests_port] = port::free_many().unwrap();
    let metrics = format!("127.0.0.1:{broker_port}");
    let mut broker = Broker::start(&["--metrics", &metrics, "--connections", CONNECTIONS_MAX]).unwrap();
    let jobs = [("simctl", run_port), ("guests", guests_port), ("broker", broker_port)];
    let prometheus = Prometheus::start(&configuration(&jobs)).unwrap();
    let run = start(FLEET, &broker.url(), run_port);
    let rules = tempfile::NamedTempFile::new().unwrap();
    fs::write(&rules, READ_ONLY).unwrap();
    let hosts =
        Mosquitto::start(Settings::new().unwrap().acl_file(rules.path()).with("max_packet_size", 1_000)).unwrap();
    let password = tempfile::NamedTempFile::new().unwrap();
    fs::write(password.path(), "secret").unwrap();
    let guests = GUESTS.replace("PASSWORD", &password.path().display().to_string());
    let _guests = start(&guests, &hosts.url(), guests_port);

    // A counter's first value is no growth: what is to be seen has to happen after a first scrape.
    eventually("the fleet is scraped", PATIENCE, || {
        let samples = prometheus.query("simctl_connect_seconds_count > 0")?;
        Ok((!samples.is_empty()).then_some(()))
    })
    .unwrap();
    fs::write(password.path(), "").unwrap();
    run.must(&["scale", "40", "--no-wait"]).unwrap();
    run.wait_until("devices are refused", |report| report.count("devices.refused") > 0).unwrap();
    run.wait_for_messages(200).unwrap();
    broker.end(Signal::KILL).unwrap();
    run.wait_until("devices are away", |report| report.count("devices.connected") == 0).unwrap();
    broker.start_again().unwrap();
    run.wait_until("devices are back", |report| report.count("reconnects") > 20).unwrap();
    run.must(&["disconnect", "--share", "50%"]).unwrap();
    run.wait_until("wills are seen", |report| report.count("offline_detection.wills_seen") > 0).unwrap();

    let queries = dashboard::queries("fleet-overview.json").unwrap();
    assert!(queries.len() > 60, "only {} queries were found", queries.len());
    let start = Instant::now();
    for (panel, query) in &queries {
        prometheus.wait_for_data(panel, query, PATIENCE).unwrap();
    }
    println!("{} queries had data after {:.1} s", queries.len(), start.elapsed().as_secs_f64());

    let chosen = prometheus.query("count by (namespace, fleet) (simctl_devices)").unwrap();
    let labels: BTreeSet<_> = chosen.iter().map(|Sample { labels, .. }| labels.to_string()).collect();
    let fleet = |name| json!({"fleet": name, "namespace": "tests"}).to_string();
    assert_eq!(labels, BTreeSet::from(["guests", "panels"].map(fleet)));
}

#[test]
fn what_needs_a_cluster_is_all_of_the_controllers_dashboard_and_nothing_else() {
    let needs_one = |query: &str| IN_A_CLUSTER.iter().any(|(prefix, _)| query.contains(prefix));
    let queries = |file| dashboard::queries(file).unwrap();
    assert!(queries("controller.json").values().all(|query| needs_one(query)));
    assert!(!queries("fleet-overview.json").values().any(|query| needs_one(query)));
}

/// The fleet against that broker, with its metrics on that port.
fn start(fleet: &str, broker: &str, port: u16) -> Run {
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("fleet.yaml"), fleet).unwrap();
    let metrics = format!("127.0.0.1:{port}");
    Run::start_at(simctl, &["-f", "fleet.yaml", "--broker", broker, "--metrics", &metrics]).unwrap()
}

/// Scrapes once a second; `namespace` is what a cluster would add.
fn configuration(jobs: &[(&str, u16)]) -> String {
    let job = |(name, port): &(&str, u16)| {
        let target = format!("{{targets: ['127.0.0.1:{port}'], labels: {{namespace: tests}}}}");
        format!("  - {{job_name: {name}, static_configs: [{target}]}}\n")
    };
    let jobs: String = jobs.iter().map(job).collect();
    format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}")
}
