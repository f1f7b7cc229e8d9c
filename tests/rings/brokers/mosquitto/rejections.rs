//! Messages that the broker does not let a device publish.

use std::fs;

use tests::{
    mosquitto::{Mosquitto, Settings},
    run::Run,
    simctl::Simctl,
};

/// Everybody may read everything, and publish only what lies under `allowed`.
const RULES: &str = "topic read #\ntopic readwrite allowed/#\n";

const FLEET: &str = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: guests}
spec:
  devices: 20
  broker: {url: mqtt://localhost, protocol: '5'}
  connect: {rate: 500/s}
  lossAfter: 2s
  groups:
    - {name: member, share: 50%, model: thermometer, streams: {reading: {topic: 'allowed/{index}', interval: 200ms, jitter: 0s, qos: 1}}}
    - {name: guest, share: 50%, model: thermometer, streams: {reading: {topic: 'forbidden/{index}', interval: 200ms, jitter: 0s, qos: 1}}}
";

#[test]
fn they_are_counted_by_the_brokers_reason_and_the_others_are_delivered() {
    let simctl = Simctl::new().unwrap();
    let rules = simctl.dir().join("rules");
    fs::write(&rules, RULES).unwrap();
    fs::write(simctl.dir().join("fleet.yaml"), FLEET).unwrap();
    let broker = Mosquitto::start(Settings::new().unwrap().acl_file(&rules)).unwrap();

    let run = Run::start_at(simctl, &["-f", "fleet.yaml", "--broker", &broker.url()]).unwrap();
    run.wait_for_messages(400).unwrap();
    let ended = run.stop().unwrap();

    let report = &ended.report;
    report.expect("devices.connected", 20);
    report.expect("reconnects", 0);
    let [sent, acknowledged, delivered, rejected] = ["sent", "acknowledged", "delivered", "rejected.not_authorized"]
        .map(|figure| report.count(&format!("messages.{figure}")));
    assert!(rejected > 100, "{rejected} were rejected");
    assert_eq!((acknowledged, delivered), (sent - rejected, sent - rejected));
    report.expect("messages.lost", rejected);
    report.expect_conservation();
    ended.expect_verdict("failed", 99);
}
