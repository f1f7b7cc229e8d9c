//! A fleet of the product in a namespace of its own, and what is seen of it: by its status, by the controller's report
//! and by the broker, which knows nothing of either.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{
    eventually, figures,
    kubernetes::{Api, Namespace},
    report::Report,
    simctl::{Finished, Simctl},
};

use super::{PATIENCE, admin, product};

/// The name of every fleet here; namespaces tell them apart.
pub(super) const NAME: &str = "rooms";

/// How many devices one pod runs.
pub(super) const PER_POD: u32 = 25;

/// How many connect a second.
pub(super) const RATE: f64 = 500.0;

/// A fleet; it goes with its namespace.
pub(super) struct Fleet {
    pub(super) namespace: Namespace,
    pub(super) api: Api,
    simctl: Simctl,
}

/// Thermometers that send a message of `QoS` 1 every two seconds and leave a will.
pub(super) fn document(devices: u32, per_pod: u32) -> String {
    format!(
        "apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: {NAME}}}
spec:
  devices: {devices}
  devicesPerPod: {per_pod}
  seed: 7
  observe: all
  lossAfter: 5s
  connect:
    rate: {RATE}/s
    keepAlive: 20s
    will: {{topic: 'gone/{{id}}', payload: gone, qos: 1}}
  groups:
    - {{name: room, share: 100%, model: thermometer, streams: {{reading: {{interval: 2s, qos: 1}}}}}}
"
    )
}

impl Fleet {
    /// Applies a document in the strictest namespace there is, and awaits that its devices are connected.
    pub(super) fn apply(purpose: &str, document: &str) -> Fleet {
        product::ensure_installed();
        Fleet::apply_to_present(purpose, document)
    }

    /// As [`Fleet::apply`], where the product is installed already, in whichever way.
    pub(super) fn apply_to_present(purpose: &str, document: &str) -> Fleet {
        let fleet = Fleet::create(purpose, document);
        let start = Instant::now();
        fleet.simctl(&["wait", "--timeout", "3m"]);
        println!("the first devices are connected after {:.1} s", start.elapsed().as_secs_f64());
        fleet
    }

    /// As [`Fleet::apply`], without waiting for devices.
    pub(super) fn start(purpose: &str, document: &str) -> Fleet {
        product::ensure_installed();
        Fleet::create(purpose, document)
    }

    /// As [`Fleet::apply_to_present`], without waiting for devices.
    pub(super) fn create(purpose: &str, document: &str) -> Fleet {
        let namespace = admin().namespace(purpose).unwrap();
        let strict = "pod-security.kubernetes.io/enforce=restricted";
        admin().kubectl(["label", "namespace", namespace.name(), strict]).unwrap();
        let fleet = Fleet { api: admin().api().unwrap(), namespace, simctl: Simctl::new().unwrap() };
        fleet.apply_again(document);
        fleet
    }

    /// Applies another document under its name.
    pub(super) fn apply_again(&self, document: &str) {
        fs::write(self.simctl.dir().join("fleet.yaml"), document).unwrap();
        self.simctl(&["apply", "-f", "fleet.yaml"]);
    }

    /// Calls `simctl` for what must succeed.
    #[track_caller]
    pub(super) fn simctl(&self, args: &[&str]) -> Finished {
        let finished = self.try_simctl(args);
        assert_eq!(finished.code, Some(0), "simctl {}: {}\n{}", args.join(" "), finished.stdout, finished.stderr);
        finished
    }

    /// Calls `simctl` in the fleet's namespace.
    pub(super) fn try_simctl(&self, args: &[&str]) -> Finished {
        let within = ["-n", self.namespace.name()];
        product::call(&self.simctl, &[args, &within].concat())
    }

    /// A call of `simctl`, not yet started.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        self.simctl.command(args)
    }

    /// Where the relative paths of its calls start.
    pub(super) fn dir(&self) -> &Path {
        self.simctl.dir()
    }

    /// Calls a verb of `simctl` that needs no cluster.
    #[track_caller]
    pub(super) fn local(&self, args: &[&str]) -> Finished {
        let finished = product::call(&self.simctl, args);
        assert_eq!(finished.code, Some(0), "simctl {}: {}", args.join(" "), finished.stderr);
        finished
    }

    /// Scales by `simctl scale`, which waits until so many are connected.
    #[track_caller]
    pub(super) fn scale(&self, devices: u32) -> Duration {
        let start = Instant::now();
        self.simctl(&["scale", &devices.to_string()]);
        let took = start.elapsed();
        println!("{devices} devices after {:.1} s", took.as_secs_f64());
        took
    }

    /// The merged report of all workers.
    #[track_caller]
    pub(super) fn report(&self) -> Report {
        Report::of(&self.simctl(&["status", "-o", "json"])).unwrap()
    }

    /// The object of the API.
    pub(super) fn object(&self) -> Value {
        self.api.object(&self.path()).unwrap()
    }

    /// Where the API server has it.
    pub(super) fn path(&self) -> String {
        format!("/apis/simctl.io/v1alpha1/namespaces/{}/fleets/{NAME}", self.namespace.name())
    }

    /// A figure of its status.
    pub(super) fn status(&self, field: &str) -> u64 {
        self.object()["status"][field].as_u64().unwrap_or(0)
    }

    /// Sets the number of devices as an API call does that a person's client makes, without the start of a program.
    pub(super) fn ask_for(&self, devices: u32) {
        self.api.patch(&self.path(), &json!({"spec": {"devices": devices}})).unwrap();
    }

    /// A figure of the broker's own metrics; `None` while it does not answer.
    pub(super) fn broker(&self, metric: &str) -> Option<u64> {
        let path = format!("/api/v1/namespaces/{}/pods/{NAME}-broker-0:9465/proxy/metrics", self.namespace.name());
        let text = self.api.get(&path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of the broker")]
        line.trim().parse::<f64>().ok().map(|value| value as u64)
    }

    /// Clients that are connected to the broker.
    pub(super) fn clients(&self) -> Option<u64> {
        self.broker("simctl_broker_connections")
    }

    /// Awaits that the broker has exactly so many devices: each worker observes by a connection of its own, and
    /// `listeners` are ours.
    #[track_caller]
    pub(super) fn expect_devices(&self, devices: u32, per_pod: u32, listeners: u64) {
        let clients = u64::from(devices + devices.div_ceil(per_pod)) + listeners;
        let mut seen = None;
        let is_so = || {
            seen = self.clients();
            Ok((seen == Some(clients)).then_some(()))
        };
        let found = eventually(&format!("the broker has {clients} clients"), Duration::from_secs(30), is_so);
        assert!(found.is_ok(), "{found:?}, it has {seen:?}; {}", self.object()["status"]);
    }

    /// The workers' pods, in order.
    pub(super) fn pods(&self) -> Vec<Value> {
        self.pods_of("worker")
    }

    /// The pods of a component, in the order of their ordinals.
    pub(super) fn pods_of(&self, component: &str) -> Vec<Value> {
        let label = format!("app.kubernetes.io/component={component}");
        let mut pods = self.namespace.get(["pods", "-l", &label]).unwrap()["items"].as_array().unwrap().clone();
        pods.sort_by_key(ordinal);
        pods
    }

    /// The controller's view of the pods.
    pub(super) fn top(&self) -> Vec<Value> {
        let pods = figures::ask(&self.namespace, &json!({"fleet": NAME, "what": "pods"})).unwrap();
        pods[NAME].as_array().unwrap().clone()
    }

    /// Awaits what `is_so` claims of it.
    #[track_caller]
    pub(super) fn until(&self, what: &str, is_so: impl Fn(&Fleet) -> bool) -> Duration {
        let start = Instant::now();
        let found = eventually(what, PATIENCE, || Ok(is_so(self).then_some(())));
        assert!(found.is_ok(), "{found:?}; {}", self.object()["status"]);
        start.elapsed()
    }

    /// Awaits that every worker is another pod than those of `before`, and that the broker has so many clients; how many of
    /// them were missing at most.
    #[track_caller]
    pub(super) fn rolls(&self, before: &[Value], clients: u64) -> u64 {
        let (deadline, mut least) = (Instant::now() + PATIENCE, clients);
        loop {
            let (pods, now) = (self.pods(), self.clients().unwrap());
            least = least.min(now);
            let is_new = |pod: &Value| before.iter().all(|old| uid(old) != uid(pod));
            if pods.len() == before.len() && pods.iter().all(is_new) && now == clients {
                return clients - least;
            }
            assert!(Instant::now() < deadline, "{}", self.object()["status"]);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Awaits that its status says that so many devices are connected, by a look at every worker.
    #[track_caller]
    pub(super) fn until_connected(&self, devices: u32) -> Duration {
        let devices = u64::from(devices);
        self.until(&format!("{devices} devices are connected"), |fleet| fleet.status("connected") == devices)
    }
}

/// What a pod is called.
pub(super) fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap()
}

/// What tells it from others of its name.
pub(super) fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap()
}

/// Where it runs.
pub(super) fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap()
}

fn ordinal(pod: &Value) -> u32 {
    name(pod).rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
