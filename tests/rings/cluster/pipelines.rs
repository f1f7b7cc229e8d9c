//! A load test as a Kubernetes Job, as `manifests/examples/pipelines/kubernetes-job.yaml` has it: its pod ends by the verdict.

use tests::example;

use super::{PATIENCE, TURNS, admin, product};

/// What it loads, where the example looks for it.
fn broker() -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: broker, labels: {{app: broker}}}}
spec:
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: broker
      image: {}
      imagePullPolicy: IfNotPresent
      args: ['--listen=0.0.0.0:1883', '--metrics=0.0.0.0:9465']
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: broker}}
spec: {{selector: {{app: broker}}, ports: [{{port: 1883}}]}}
",
        product::image("broker")
    )
}

/// The example with our image, seconds instead of minutes, and another name and threshold.
fn job(name: &str, threshold: &str) -> String {
    let changes = [
        ("registry.example/team/simctl:0.1.0", product::image("simctl")),
        // A busy machine holds a young broker up for seconds.
        ("duration: 30s", "duration: 5s".into()),
        ("duration: 5m", "duration: 10s".into()),
        ("devices: 500", "devices: 50".into()),
        ("to: 500", "to: 50".into()),
        ("end_to_end.p99 < 250ms", threshold.into()),
        ("metadata: {name: rush-hour}\ndata", format!("metadata: {{name: {name}}}\ndata")),
        ("metadata: {name: rush-hour}\nspec:\n  # A", format!("metadata: {{name: {name}}}\nspec:\n  # A")),
        ("configMap: {name: rush-hour}", format!("configMap: {{name: {name}}}")),
    ];
    example("pipelines/kubernetes-job.yaml", &changes).unwrap()
}

/// Whether the run calls itself invalid for what a busy machine does to it.
fn was_held_up(log: &str) -> bool {
    log.contains("schedule_lag") || log.contains("ramp_unfinished")
}

#[test]
fn a_job_ends_by_the_verdict_of_its_load_test() {
    let _turn = TURNS.shared();
    let namespace = admin().namespace("pipeline").unwrap();
    namespace.apply(&broker()).unwrap();
    namespace.kubectl(["wait", "--for=condition=ready", "pod/broker", "--timeout=120s"]).unwrap();
    // One after the other: both have the same devices.
    let ends = |name: &str, threshold: &str| {
        namespace.apply(&job(name, threshold)).unwrap();
        let conditions = "{.status.conditions[?(@.status=='True')].type}";
        let is_over = |types: &str| types.split(' ').any(|kind| ["Complete", "Failed"].contains(&kind));
        namespace.wait_for(&format!("job/{name}"), conditions, PATIENCE, is_over).unwrap();
        let pods = namespace.get(["pods", "-l", &format!("batch.kubernetes.io/job-name={name}")]).unwrap();
        let code = pods["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].clone();
        (code, namespace.kubectl(["logs", &format!("job/{name}")]).unwrap())
    };
    let (code, log) = ends("good", "end_to_end.p99 < 1h");
    assert!(log.contains("load test rush-hour of fleet robotaxis"), "{log}");
    assert!(code == 0 && log.contains("50 of 50 connected") || was_held_up(&log), "{code}: {log}");
    let (code, log) = ends("bad", "end_to_end.p99 < 1us");
    assert!(code == 99 || was_held_up(&log), "{code}: {log}");
    assert!(log.contains("threshold: expected end_to_end.p99 < 1us"), "{log}");
}
