//! From the release before this one to this one and back, by Helm, while devices send: `cargo xtask test upgrade` builds
//! both. Without the earlier release the test says that it was not run.

use serde_json::Value;
use tests::{
    eventually,
    project::{self, PREVIOUS_BIN_DIR, PREVIOUS_CHART},
};

use super::{
    PATIENCE, TURNS,
    fleet::{Fleet, PER_POD, document},
    product::{self, PREVIOUS_TAG},
};

const DEVICES: u32 = 200;

/// Devices, and the observer of each worker.
const CLIENTS: u64 = (DEVICES + DEVICES / PER_POD) as u64;

/// The clients of one pod: its devices and its observer.
const SHARE: u64 = (PER_POD + 1) as u64;

/// A pod is ready when each of its devices has tried to connect. One whose first attempt failed tries again later, while the next
/// pod leaves: so many of a share may.
const STRAGGLERS: u64 = SHARE / 10;

/// Helm's release, and its namespace.
const PLACE: [&str; 3] = ["simctl", "--namespace", "load-testing"];

/// A broker that no release replaces, where [`Fleet::broker`] looks for one.
const BROKER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: rooms-broker-0, labels: {app: meeting}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: broker
      image: localhost/broker:test
      imagePullPolicy: Never
      args: ['--listen=0.0.0.0:1883', '--metrics=0.0.0.0:9465']
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {name: meeting}
spec: {selector: {app: meeting}, ports: [{port: 1883}]}
";

/// Waits until every worker is another pod, with an image of `tag`; how many clients were missing at most.
#[track_caller]
fn rolls(fleet: &Fleet, before: &[Value], tag: &str) -> u64 {
    let missing = fleet.rolls(before, CLIENTS);
    let image = format!("{}/device-sim:{tag}", product::registry());
    let is_new = |pod: &Value| pod["spec"]["containers"][0]["image"] == image.as_str();
    assert!(fleet.pods().iter().all(is_new), "expected all workers to be {image}");
    missing
}

/// Holds the fleet's messages back, and awaits that its report has as many as the broker has taken. This release answers; the
/// earlier one knows no FleetQueries.
#[track_caller]
fn is_counted(fleet: &Fleet, when: &str) {
    fleet.simctl(&["pause"]);
    let count = || {
        let report = fleet.report();
        let sent = report.count("messages.sent") + report.count("messages.resent");
        (sent, fleet.broker("simctl_broker_messages_in_total").unwrap_or_default())
    };
    let is_so = || Ok(Some(count()).filter(|(sent, taken)| sent == taken));
    let found = eventually(when, PATIENCE / 3, is_so);
    let (sent, taken) = count();
    println!("FIGURE {when}: {sent} messages sent by the report, {taken} taken by the broker");
    assert!(found.is_ok(), "{when}: {sent} sent, {taken} taken");
    fleet.simctl(&["resume"]);
}

#[test]
fn an_upgrade_under_load_and_a_rollback_are_exact() {
    let _turn = TURNS.alone();
    let (Some(_), Some(chart)) =
        (project::from_environment(PREVIOUS_BIN_DIR), project::from_environment(PREVIOUS_CHART))
    else {
        println!("NOT RUN: an upgrade from the release before this one: `cargo xtask test upgrade` builds that");
        return;
    };
    let upgrade = || product::helm_brings(&[&["upgrade"][..], &PLACE].concat(), &product::chart(), &product::tag());
    product::forget_installation();
    let install = [&["install"][..], &PLACE, &["--create-namespace"]].concat();
    product::helm_brings(&install, &chart, PREVIOUS_TAG);
    let spec = "spec:\n  broker: {url: 'mqtt://meeting:1883'}\n";
    let fleet = Fleet::create("releases", &document(DEVICES, PER_POD).replace("spec:\n", spec));
    fleet.namespace.apply(BROKER).unwrap();
    fleet.until("all devices of the earlier release", |fleet| fleet.clients() == Some(CLIENTS));
    let (run, workers) = (fleet.status("run"), fleet.pods());

    upgrade();
    let missing = rolls(&fleet, &workers, &product::tag());
    println!(
        "FIGURE an upgrade from the earlier release: at most {missing} of {CLIENTS} clients were missing at a time"
    );
    assert!(missing <= SHARE + STRAGGLERS, "{missing} were missing in the upgrade");
    assert_eq!(fleet.status("run"), run);
    fleet.report().expect_conservation();
    is_counted(&fleet, "after the upgrade");

    let workers = fleet.pods();
    product::helm(&[&["rollback"][..], &PLACE, &["1", "--wait", "--timeout", "3m"]].concat());
    let missing = rolls(&fleet, &workers, PREVIOUS_TAG);
    println!("FIGURE a rollback to the earlier release: at most {missing} of {CLIENTS} clients were missing at a time");
    assert!(missing <= SHARE + STRAGGLERS, "{missing} were missing in the rollback");
    assert_eq!(fleet.status("run"), run);

    // Back to this release, whose report has what all of them have sent: each was read by the controller of its time.
    let workers = fleet.pods();
    upgrade();
    rolls(&fleet, &workers, &product::tag());
    let report = fleet.report();
    report.expect_conservation();
    is_counted(&fleet, "after the rollback and the second upgrade");
    report.expect("generator.workers_lost", 0);
    assert_eq!(fleet.status("run"), run);
}
