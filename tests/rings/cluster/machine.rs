//! The cluster that the other tests of this ring rely on does what they assume of it.

use std::time::Instant;

use serde_json::Value;
use tests::kubernetes::Namespace;

use super::{
    PATIENCE, TURNS, admin,
    fleet::{name, uid},
    own_nodes,
    product::image,
};

/// Brokers, spread over the nodes, that leave a dead node after five seconds.
fn brokers(replicas: u32) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: broker}}
spec:
  selector: {{app: broker}}
  ports: [{{name: http, port: 80, targetPort: 9465}}]
---
apiVersion: v1
kind: Service
metadata: {{name: brokers}}
spec:
  clusterIP: None
  selector: {{app: broker}}
  ports: [{{name: http, port: 9465}}, {{name: mqtt, port: 1883}}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: broker}}
spec:
  replicas: {replicas}
  serviceName: brokers
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: broker}}}}
  template:
    metadata: {{labels: {{app: broker}}}}
    spec:
      terminationGracePeriodSeconds: 2
      automountServiceAccountToken: false
      tolerations:
        - {{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}}
        - {{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          nodeTaintsPolicy: Honor
          labelSelector: {{matchLabels: {{app: broker}}}}
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
        - name: broker
          image: {}
          imagePullPolicy: IfNotPresent
          args: ['--listen=[::]:1883', '--metrics=[::]:9465']
          readinessProbe: {{httpGet: {{path: /readyz, port: 9465}}, periodSeconds: 1}}
          resources: {{requests: {{cpu: 10m, memory: 32Mi}}, limits: {{memory: 300Mi}}}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]}}
",
        image("broker")
    )
}

/// Brokers on both nodes, one of which is about to die.
pub(super) struct Pair {
    namespace: Namespace,
    /// The pod of that node.
    lost: Value,
}

impl Pair {
    /// Starts them.
    pub(super) fn around(victim: &str) -> Pair {
        let namespace = admin().namespace("power-cut").unwrap();
        namespace.apply(&brokers(2)).unwrap();
        namespace.wait_for_ready("statefulset/broker", 2, PATIENCE).unwrap();
        let mut lost = pods_on(&namespace, victim);
        assert_eq!(lost.len(), 1);
        Pair { namespace, lost: lost.remove(0) }
    }

    /// The pod of the dead node is given up, and stays there until somebody deletes it by force or the node is back.
    pub(super) fn expect_given_up(&self) {
        let since = Instant::now();
        self.namespace.wait_for(&self.pod(), "{.metadata.deletionTimestamp}", PATIENCE, |at| !at.is_empty()).unwrap();
        println!("a pod that nobody looks after is given up {:.1} s after the mark", since.elapsed().as_secs_f64());
    }

    /// The node came back empty, and another pod of that name is on it.
    pub(super) fn expect_back(&self) {
        self.namespace.wait_for_ready("statefulset/broker", 2, PATIENCE).unwrap();
        let again = self.namespace.get([&self.pod()]).unwrap();
        assert_ne!(uid(&again), uid(&self.lost));
    }

    fn pod(&self) -> String {
        format!("pod/{}", name(&self.lost))
    }
}

fn pods_on(namespace: &Namespace, node: &str) -> Vec<Value> {
    let on = format!("--field-selector=spec.nodeName={node}");
    namespace.get(["pods", &on]).unwrap()["items"].as_array().unwrap().clone()
}

#[test]
fn pods_of_our_image_answer_http_on_every_way_that_a_cluster_has() {
    let _turn = TURNS.shared();
    if own_nodes("one pod on each of two nodes").is_none() {
        return;
    }
    let namespace = admin().namespace("ways").unwrap();
    // The strictest namespace there is takes the pod.
    let label = "pod-security.kubernetes.io/enforce=restricted";
    admin().kubectl(["label", "namespace", namespace.name(), label]).unwrap();
    let start = Instant::now();
    namespace.apply(&brokers(2)).unwrap();
    namespace.wait_for_ready("statefulset/broker", 2, PATIENCE).unwrap();
    println!("2 pods are ready after {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(pods_on(&namespace, "node1").len(), 1);
    assert_eq!(pods_on(&namespace, "node2").len(), 1);

    let path = |what: &str| format!("/api/v1/namespaces/{}/{what}/proxy/metrics", namespace.name());
    for way in ["pods/broker-0:9465", "pods/broker-1:9465", "services/broker:http"] {
        let metrics = admin().kubectl(["get", "--raw", &path(way)]).unwrap();
        assert!(metrics.contains("simctl_broker_"), "{way}: {metrics}");
    }
    assert!(namespace.kubectl(["logs", "broker-0"]).unwrap().contains("broker listens"));
    let version = namespace.kubectl(["exec", "broker-1", "--", "/broker", "--version"]).unwrap();
    assert!(version.starts_with("broker "), "{version}");
}

/// `simctl` as a job that runs five devices against a broker on another node, by the name of its Service.
fn load() -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: load}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - {{topologyKey: kubernetes.io/hostname, labelSelector: {{matchLabels: {{app: broker}}}}}}
      containers:
        - name: load
          image: {}
          imagePullPolicy: IfNotPresent
          args: [run, --broker, 'mqtt://broker-0.brokers:1883', --devices, '5', --interval, 1s, --duration, 3s]
          env: [{{name: HOME, value: /tmp}}, {{name: XDG_RUNTIME_DIR, value: /tmp}}]
          volumeMounts: [{{name: tmp, mountPath: /tmp}}]
      volumes: [{{name: tmp, emptyDir: {{}}}}]
",
        image("simctl")
    )
}

#[test]
fn a_static_program_finds_a_broker_by_the_name_of_its_service() {
    let _turn = TURNS.shared();
    let namespace = admin().namespace("names").unwrap();
    namespace.apply(&brokers(1)).unwrap();
    namespace.wait_for_ready("statefulset/broker", 1, PATIENCE).unwrap();
    namespace.apply(&load()).unwrap();
    let has_ended = |types: &str| types.contains("Complete") || types.contains("Failed");
    let ended = namespace.wait_for("job/load", "{.status.conditions[*].type}", PATIENCE, has_ended);
    // Its verdict is not asked for: that may well be that two busy cores are no instrument.
    let log = namespace.kubectl(["logs", "job/load"]).unwrap_or_default();
    assert!(log.contains("5 of 5 connected"), "{ended:?}: {log}");
    assert!(log.contains("lost                  0 "), "{log}");
}
