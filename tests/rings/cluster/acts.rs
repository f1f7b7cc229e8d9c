//! What a load test does to pods and brokers: one of two workers ends, and a Job of the author's restarts the broker.

use images::{Image, Reference};
use serde_json::Value;
use tests::{kubernetes::Tools, report::Report};

use super::{
    TURNS,
    fleet::{Fleet, NAME, PER_POD, document, uid},
    own_nodes,
};

/// The image of the program that the Job runs.
const KUBECTL: (&str, &str, &str) = ("localhost", "kubectl", "test");

/// A worker ends, later the broker does, by whoever may delete pods: `restarter`.
fn load_test() -> String {
    let (registry, program, tag) = KUBECTL;
    format!(
        "apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {{name: acts}}
spec:
  fleet: {NAME}
  phases:
    - {{name: calm, duration: 5s, measure: true}}
    - {{name: kill, duration: 25s, faults: [{{kind: kill-pods, share: 50%}}]}}
    - name: restart
      duration: 45s
      faults:
        - kind: hook
          name: restart
          image: {registry}/{program}:{tag}
          command: [/{program}, delete, pod, {NAME}-broker-0, --wait=false]
          serviceAccountName: restarter
          timeout: 45s
    - {{name: after, duration: 5s, measure: true}}
  thresholds:
    - {{expect: recovery.p95 < 25s, fault: kill-pods}}
    - {{expect: recovery.p95 < 45s, fault: restart}}
"
    )
}

/// The pod of that name.
fn pod(fleet: &Fleet, name: &str) -> Value {
    fleet.namespace.get(["pod", name]).unwrap()
}

#[test]
fn a_worker_and_the_broker_end_in_the_middle_and_all_devices_come_back() {
    let _turn = TURNS.shared();
    let Some(cluster) = own_nodes("a Job of an image of the tests' own") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (registry, program, tag) = KUBECTL;
    let kubectl = Tools::find_or_build().unwrap().program("kubectl");
    let archive = folder.path().join("kubectl.tar");
    images::save(&[Image::read(Reference::new(registry, program, tag), &kubectl).unwrap()], &archive).unwrap();
    cluster.load(&archive).unwrap();

    let lab = document(2 * PER_POD, PER_POD).replace("interval: 2s", "interval: 500ms");
    let fleet = Fleet::apply("acts", &lab);
    for args in [
        &["create", "serviceaccount", "restarter"][..],
        &["create", "role", "restarter", "--verb=delete", "--resource=pods"],
        &["create", "rolebinding", "restarter", "--role=restarter", "--serviceaccount"],
    ] {
        let account = format!("{}:restarter", fleet.namespace.name());
        let whom = args.last().filter(|last| **last == "--serviceaccount").map(|_| account.as_str());
        fleet.namespace.kubectl(args.iter().copied().chain(whom)).unwrap();
    }
    let broker = format!("{NAME}-broker-0");
    let (workers, old_broker) = (fleet.pods(), pod(&fleet, &broker));
    fleet.namespace.apply(&load_test()).unwrap();
    fleet.simctl(&["wait", "loadtest/acts", "--timeout", "5m"]);

    let shown = fleet.try_simctl(&["report", "loadtest/acts", "-o", "json", "--exit-code"]);
    let report = Report::of(&shown).unwrap();
    report.expect_conservation();
    let faults = report.list("faults").to_vec();
    let figures = |fault: &Value| {
        ["effects", "devices", "sessions_lost", "sessions_back"].map(|key| fault[key].as_u64().unwrap())
    };
    for fault in &faults {
        println!("FIGURE {}: {:?}, back after {}", fault["name"], figures(fault), fault["back_seconds"]);
    }
    let (per_pod, all) = (u64::from(PER_POD), u64::from(2 * PER_POD));
    assert_eq!(figures(&faults[0]), [1, per_pod, per_pod, per_pod], "{report}");
    assert_eq!(figures(&faults[1]), [1, all, all, all], "{report}");
    report
        .claim("both were asked for", !report.has_reason("worker_lost") && !report.has_reason("fault_without_effect"));
    report.claim("both are judged", report.list("thresholds").iter().all(|it| it["outcome"] == "passed"));

    let again = fleet.pods();
    let same = workers.iter().zip(&again).filter(|(one, other)| uid(one) == uid(other)).count();
    assert_eq!((again.len(), same), (2, 1), "one worker is another one");
    assert_ne!(uid(&old_broker), uid(&pod(&fleet, &broker)));
    // What is kept of a test goes with it, its Job, too.
    fleet.simctl(&["delete", "loadtest/acts"]);
    let jobs = ["jobs", "-l", "simctl.io/load-test=acts"];
    let is_gone = || Ok(fleet.namespace.get(jobs)?["items"].as_array().is_some_and(Vec::is_empty).then_some(()));
    tests::eventually("its Job is gone", super::PATIENCE, is_gone).unwrap();
}
