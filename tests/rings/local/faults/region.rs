//! Faults in a region: whom they hit follows from the signals of devices, which `simctl sample` tells as well.

use std::{collections::BTreeSet, ops::Range};

use fleet_contract::time::Micros;
use serde_json::Value;
use tests::{
    run::{Run, seed},
    simctl::Simctl,
};

use super::{
    PATIENCE, mute_of, struck,
    witness::{PASSWORD, Transport, Witness},
    write,
};

const DEVICES: u32 = 40;

/// A fleet whose devices are now here, now there; its stream of so many milliseconds tells where.
fn fleet(url: &str, interval: u64) -> String {
    format!(
        "apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: rovers}}
spec:
  devices: {DEVICES}
  lossAfter: 2s
  observe: none
  broker: {{url: '{url}', credentials: {{username: fleet, passwordFile: password}}}}
  connect: {{rate: 1000/s}}
  groups: [{{name: rovers, model: rover, share: 75%}}, {{name: lamps, model: lamp}}]
  models:
    rover:
      signals:
        lat: {{kind: uniform, range: [47, 49], decimals: 6, draw: {{every: 3s}}}}
        lon: {{kind: uniform, range: [10, 13], decimals: 6, draw: {{every: 5s}}}}
      streams:
        place: {{topic: '{{fleet}}/{{index}}/place', interval: {interval}ms, qos: 1, payload: {{json: {{lat: '{{lat}}', lon: '{{lon}}'}}}}}}
    lamp:
      signals: {{lux: {{kind: uniform, range: [0, 9]}}}}
      streams: {{lux: {{topic: '{{fleet}}/{{index}}/lux', interval: {interval}ms, qos: 1, payload: {{json: {{lux: '{{lux}}'}}}}}}}}
"
    )
}

const TEST: &str = "---
apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {name: storm}
spec:
  fleet: rovers
  phases:
    - {name: calm, duration: 4s, measure: true}
    - {name: storm, duration: 3s, faults: [{kind: silence, where: 'lat > 47.8 && lon < 12', lasts: 2s}]}
    - {name: after, duration: 500ms}
";

/// The devices in the region just before and just after an instant, by what `simctl sample` says.
fn sampled(simctl: &Simctl, started: &str, at: Micros) -> [BTreeSet<u32>; 2] {
    write(&simctl.dir().join("often.yaml"), &fleet("mqtt://127.0.0.1:1", 20));
    let args = ["sample", "-f", "often.yaml", "--seed", &seed(), "--start", started, "--duration", "6s"];
    let finished = simctl.call(&args, PATIENCE).unwrap();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let near = |range: Range<u64>| {
        let lines = finished.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let within = lines.filter(|line| {
            let due: jiff::Timestamp = line["due"].as_str().unwrap().parse().unwrap();
            range.contains(&u64::try_from(due.as_microsecond()).unwrap())
        });
        let inside = within.filter(|line| {
            let place = |name: &str| line["payload"][name].as_f64();
            place("lat").is_some_and(|lat| lat > 47.8) && place("lon").is_some_and(|lon| lon < 12.0)
        });
        inside.map(|line| u32::try_from(line["device"].as_u64().unwrap()).unwrap()).collect()
    };
    // Each device says something each 20 ms.
    [near(at.0 - 20_000..at.0), near(at.0..at.0 + 20_000)]
}

fn hit(workers: u32) -> BTreeSet<u32> {
    let simctl = Simctl::new().unwrap();
    let witness = Witness::start(Transport::Tcp, simctl.dir());
    write(&simctl.dir().join("rovers.yaml"), &(fleet(&witness.url(), 50) + TEST));
    write(&simctl.dir().join("password"), PASSWORD);
    let each = DEVICES.div_ceil(workers).to_string();
    let ended =
        Run::start_at(simctl, &["-f", "rovers.yaml", "--devices-per-worker", &each]).unwrap().end(PATIENCE).unwrap();
    let report = &ended.report;
    report.claim("the books are right", !report.has_reason("conservation") && !report.has_reason("unsettled"));
    assert_eq!(report.count("generator.workers"), u64::from(workers));
    assert_eq!(report.list("faults")[0]["where"], "lat > 47.8 && lon < 12");
    let struck = struck(&ended, "silence");
    let [before, after] = sampled(&Simctl::new().unwrap(), report.text("manifest.started"), struck.span.start);
    assert_eq!(before, after, "nobody moves while it begins");
    let silent = mute_of(DEVICES, &witness.notes(), &struck.span, |_| true);
    println!("FIGURE where: {} of {DEVICES} by {workers} workers", silent.len());
    assert_eq!((&silent, silent.len() as u64), (&after, struck.devices));
    assert!((3..25).contains(&silent.len()), "{silent:?}");
    silent
}

#[test]
fn those_in_the_region_are_hit_whoever_runs_them() {
    assert_eq!(hit(1), hit(5));
}
