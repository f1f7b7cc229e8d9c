//! Where one test has its fleets: a namespace, and controllers that look after that namespace alone.
//!
//! A controller is a process in the control plane's network. It has the kubeconfig of a service account, and that
//! account the rules that the controller's own table names and no others: a right that is missing fails a test.

use std::{
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use load_controller::resource::{names::CONTROLLER, rbac};
use serde_json::{Value, json};
use tests::{
    helm::Helm,
    kubernetes::{Client, Detour, Namespace},
    process::{Process, Stream},
    project,
    turn::{Turn, Turns},
};

use super::{PATIENCE, PLANE, admin};

/// Of the control plane in its network, where controllers and brokers listen.
pub(crate) const HOST: &str = "10.250.0.1";

/// Where the controllers' pods seem to be: no scheduler sends a pod there, and nobody plays a kubelet.
const NODE: &str = "outside";

/// Longer than a Lease that nobody renews holds, and the pause between two attempts to have it.
pub(crate) const TERM: Duration = Duration::from_secs(17);

/// Longer than a round of pulls of a fleet that nobody watches.
pub(crate) const ROUND: Duration = Duration::from_secs(16);

/// Distinguishes the ports of whatever listens at [`HOST`].
static PORT: AtomicU16 = AtomicU16::new(20_000);

/// Whoever measures wants the machine for itself.
pub(crate) static TURNS: Turns = Turns::new();

/// The kinds as they are committed, the controller's rules, and what the chart lets people do, once for all.
static PRODUCT: LazyLock<()> = LazyLock::new(|| {
    for kind in ["fleets", "loadtests", "fleetqueries"] {
        let definition = std::fs::read_to_string(project::root().join(format!("manifests/crd/{kind}.yaml"))).unwrap();
        admin().apply(&definition).unwrap();
        let definition = format!("crd/{kind}.simctl.io");
        admin().kubectl(["wait", "--for=condition=Established", &definition, "--timeout=60s"]).unwrap();
    }
    for (name, rules) in [("fleets", rbac::fleets()), ("nodes", rbac::nodes()), ("own", rbac::own())] {
        let name = format!("{CONTROLLER}-{name}");
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                          "metadata": {"name": name}, "rules": rules});
        admin().apply(&role.to_string()).unwrap();
    }
    admin()
        .apply(&format!("{{apiVersion: v1, kind: Node, metadata: {{name: {NODE}}}, spec: {{unschedulable: true}}}}"))
        .unwrap();
    for template in ["aggregated-roles", "admission", "loadtests", "fleetqueries"] {
        let template = ["--show-only", &format!("templates/{template}.yaml")];
        admin().apply(&Helm::find_or_build().unwrap().template(&template).unwrap()).unwrap();
    }
    for role in ["view", "edit", "admin"] {
        let has_fleets = |groups: &str| groups.contains("simctl.io");
        admin().wait_for(&["clusterrole", role], "{.rules[*].apiGroups[*]}", PATIENCE, has_fleets).unwrap();
    }
});

/// The controllers' service account in a namespace, and its bindings.
fn account(namespace: &Namespace) -> String {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": CONTROLLER}});
    let binding = |part: &str| {
        let name = format!("{CONTROLLER}-{part}");
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
               "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER, "namespace": namespace.name()}]})
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [account, binding("fleets"), binding("own")]}).to_string()
}

/// What the controller's rules for its own allow.
const OWN: [&str; 2] = ["update", "leases.coordination.k8s.io"];

/// The API server goes by a binding some moments after it has stored it.
fn await_right(namespace: &Namespace, account: &Client, right: [&str; 2]) {
    let ask = || Ok(account.kubectl([&["auth", "can-i", "--namespace", namespace.name()][..], &right].concat()).ok());
    tests::eventually("the last binding holds", PATIENCE, ask).unwrap();
}

/// A turn alone, also without what Kubernetes still clears away of the others.
fn alone() -> Turn<'static> {
    let turn = TURNS.alone();
    await_quiet();
    turn
}

/// Awaits that there are no pods any more: to delete them costs Kubernetes as much as to make them.
pub(crate) fn await_quiet() {
    // Where nobody plays a kubelet, the controllers' pods end with the control plane.
    let elsewhere = format!("--field-selector=spec.nodeName!={NODE}");
    let is_quiet = || {
        let pods = admin().kubectl(["get", "pods", "--all-namespaces", &elsewhere, "-o", "name"])?;
        Ok(pods.is_empty().then_some(()))
    };
    tests::eventually("all pods are gone", PATIENCE, is_quiet).unwrap();
}

/// A namespace with fleets.
pub(crate) struct Site {
    pub(crate) namespace: Namespace,
    /// The service account of its controllers.
    account: Client,
    _turn: Turn<'static>,
}

/// Installs the kind Fleet.
pub(crate) fn install() {
    LazyLock::force(&PRODUCT);
}

impl Site {
    /// A namespace for fleets, without a controller.
    pub(crate) fn new(purpose: &str) -> Site {
        Site::build(purpose, TURNS.shared())
    }

    /// The same while no other test with fleets runs, for one that measures.
    pub(crate) fn alone(purpose: &str) -> Site {
        Site::build(purpose, alone())
    }

    fn build(purpose: &str, turn: Turn<'static>) -> Site {
        install();
        let namespace = admin().namespace(purpose).unwrap();
        namespace.apply(&account(&namespace)).unwrap();
        let account = PLANE.service_account(namespace.name(), CONTROLLER).unwrap();
        await_right(&namespace, &account, OWN);
        Site { namespace, account, _turn: turn }
    }

    /// Somebody with one of Kubernetes' own roles in this namespace, and no rights elsewhere.
    pub(crate) fn person(&self, role: &str) -> Client {
        let user = format!("{role}-of-{}", self.namespace.name());
        let (role, user_flag) = (format!("--clusterrole={role}"), format!("--user={user}"));
        self.namespace.kubectl(["create", "rolebinding", &user, &role, &user_flag]).unwrap();
        let person = PLANE.user(&user, "people").unwrap();
        await_right(&self.namespace, &person, ["get", "fleets.simctl.io"]);
        person
    }

    /// Somebody with rights of their own in this namespace, such as `--verb=get --resource=fleets.simctl.io`, a list of
    /// flags each; the last of them is awaited by `right`.
    pub(crate) fn person_with(&self, name: &str, rules: &[&[&str]], right: [&str; 2]) -> Client {
        let user = format!("{name}-of-{}", self.namespace.name());
        for (number, rule) in rules.iter().enumerate() {
            let (role, user_flag) = (format!("{name}-{number}"), format!("--user={user}"));
            self.namespace.kubectl([&["create", "role", &role][..], rule].concat()).unwrap();
            let role_flag = format!("--role={role}");
            self.namespace.kubectl(["create", "rolebinding", &role, &role_flag, &user_flag]).unwrap();
        }
        let person = PLANE.user(&user, "people").unwrap();
        await_right(&self.namespace, &person, right);
        person
    }

    /// Awaits that the API server goes by a right that somebody was given in this namespace.
    pub(crate) fn await_right(&self, person: &Client, right: [&str; 2]) {
        await_right(&self.namespace, person, right);
    }

    /// An account with all rules of the controller but those about one API group.
    pub(crate) fn account_without(&self, group: &str) -> Client {
        let rules = rbac::fleets().into_iter();
        let rules: Vec<_> = rules.filter(|rule| rule.api_groups.as_deref() != Some(&[group.to_owned()])).collect();
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                          "metadata": {"name": "less"}, "rules": rules});
        self.namespace.apply(&role.to_string()).unwrap();
        self.namespace.kubectl(["create", "serviceaccount", "less"]).unwrap();
        let subject = format!("--serviceaccount={}:less", self.namespace.name());
        self.namespace.kubectl(["create", "rolebinding", "less", "--role=less", &subject]).unwrap();
        let own = format!("--clusterrole={CONTROLLER}-own");
        self.namespace.kubectl(["create", "rolebinding", "less-own", &own, &subject]).unwrap();
        let account = PLANE.service_account(self.namespace.name(), "less").unwrap();
        await_right(&self.namespace, &account, OWN);
        account
    }

    /// A controller that looks after this namespace.
    pub(crate) fn controller(&self, identity: &str) -> Controller {
        self.controller_as(identity, &self.account)
    }

    /// The same with the rights of another account.
    pub(crate) fn controller_as(&self, identity: &str, account: &Client) -> Controller {
        Controller::start(self, identity, account, &[])
    }

    /// A controller with further arguments, or with other images.
    pub(crate) fn controller_with(&self, identity: &str, flags: &[&str]) -> Controller {
        Controller::start(self, identity, &self.account, flags)
    }

    /// A way of the controllers' account to the API server that a test can break.
    pub(crate) fn detour(&self) -> Detour {
        PLANE.detour(&self.account).unwrap()
    }

    /// Makes a fleet of thermometers whose pods go to fake nodes; `more` are lines of its specification.
    pub(crate) fn fleet(&self, name: &str, devices: u32, per_pod: u32, more: &str) {
        self.namespace.apply(&fleet(name, devices, per_pod, more)).unwrap();
    }

    /// Says how many devices there are to be, as a person does.
    pub(crate) fn scale(&self, name: &str, devices: u32) {
        self.namespace.kubectl(["scale", &format!("fleet/{name}"), &format!("--replicas={devices}")]).unwrap();
    }

    /// Awaits that the status counts that many devices, in that many pods, all of them ready.
    pub(crate) fn settles(&self, name: &str, devices: u32, pods: u32) {
        let field = "{.status.devices} {.status.pods} {.status.podsReady}";
        let wanted = format!("{devices} {pods} {pods}");
        self.namespace.wait_for(&format!("fleet/{name}"), field, PATIENCE, |seen| seen == wanted).unwrap();
    }

    /// Awaits a condition of a fleet by `STATUS REASON`; its message.
    pub(crate) fn condition(&self, fleet: &str, of: &str, wanted: &str) -> String {
        let find = |field: &str| format!("{{.status.conditions[?(@.type==\"{of}\")].{field}}}");
        let field = format!("{} {}: {}", find("status"), find("reason"), find("message"));
        let is_wanted = |seen: &str| seen.split_once(": ").is_some_and(|(found, _)| found == wanted);
        self.namespace.wait_for(&format!("fleet/{fleet}"), &field, PATIENCE, is_wanted).unwrap()
    }

    /// Awaits an event about a fleet, by its reason; its text and type.
    pub(crate) fn event(&self, fleet: &str, reason: &str) -> String {
        let of = || {
            let selector = format!("involvedObject.kind=Fleet,involvedObject.name={fleet},reason={reason}");
            let events = self.namespace.get(["events", "--field-selector", &selector])?;
            let event = &events["items"][0];
            Ok(event["message"].as_str().map(|text| format!("{} {text}", event["type"].as_str().unwrap_or_default())))
        };
        tests::eventually(&format!("an event {reason} about {fleet}"), PATIENCE, of).unwrap()
    }

    /// A field of an object, such as `statefulset/fleet` and `{.metadata.generation}`.
    pub(crate) fn field(&self, object: &str, field: &str) -> String {
        self.namespace.kubectl(["get", object, "-o", &format!("jsonpath={field}")]).unwrap()
    }

    /// The workers' pods.
    pub(crate) fn pods(&self, fleet: &str) -> Vec<Value> {
        let label = format!("simctl.io/fleet={fleet},app.kubernetes.io/component=worker");
        self.namespace.get(["pods", "-l", &label]).unwrap()["items"].as_array().unwrap().clone()
    }

    /// The plan that pods mount.
    pub(crate) fn plan(&self, fleet: &str) -> Value {
        let text = self.field(&format!("configmap/{fleet}-plan"), "{.data.plan\\.json}");
        serde_json::from_str(&text).unwrap()
    }
}

/// The document of a fleet of thermometers.
pub(crate) fn fleet(name: &str, devices: u32, per_pod: u32, more: &str) -> String {
    let more: String = more.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: {name}}}
spec:
  devices: {devices}
  devicesPerPod: {per_pod}
  broker: {{url: 'mqtt://broker.example:1883'}}
  connect: {{rate: 1000/s}}
  groups: [{{name: all, model: thermometer}}]
  pod: {{cpu: 10m, memory: 16Mi, tolerations: [{{key: kwok.x-k8s.io/node, operator: Exists}}]}}
{more}"
    )
}

/// A running controller; killed on drop.
pub(crate) struct Controller {
    pub(crate) process: Process,
    /// Where it listens at [`HOST`].
    pub(crate) port: u16,
    namespace: String,
    identity: String,
}

impl Controller {
    fn start(site: &Site, identity: &str, account: &Client, flags: &[&str]) -> Controller {
        let namespace = site.namespace.name();
        let port = pod(site, identity);
        let mut command = program("load-controller");
        command.args(["run", "--watch-namespaces", namespace, "--listen", &format!("{HOST}:{port}")]);
        let images = ["--worker-image=localhost/device-sim:1", "--broker-image=localhost/broker:1"];
        let is_usual = |image: &&&str| !flags.iter().any(|flag| flag.split('=').next() == image.split('=').next());
        command.args(images.iter().filter(is_usual)).args(flags);
        command
            .env("POD_NAME", identity)
            .env("POD_NAMESPACE", namespace)
            .env("SIMCTL_LOG", "info,load_controller=debug");
        let name = format!("{namespace}-{identity}-{port}");
        let process = Process::spawn(&name, &mut account.run_in(&command), &PLANE.logs()).unwrap();
        Controller { process, port, namespace: namespace.to_owned(), identity: identity.to_owned() }
    }

    /// Awaits that it leads.
    pub(crate) fn leads(&self, within: Duration) {
        let says_so = |line: &str| line.contains("this controller leads");
        self.process.wait_for_line(Stream::Stderr, within, says_so).unwrap();
    }

    /// What it answers, asked through the API server.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        admin().kubectl(["get", "--raw", &format!("{}/proxy{path}", self.path())])
    }

    /// Its pod in the API.
    pub(crate) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.identity)
    }

    /// The sum of a metric's series; nothing where there is none.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").unwrap();
        let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        text.lines().filter(is_of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// A port of [`HOST`] that nobody else was given.
pub(crate) fn port() -> u16 {
    PORT.fetch_add(1, Ordering::Relaxed)
}

/// A program of the product, without the settings of whoever runs the tests.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(project::binary(name).unwrap());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SIMCTL_")) {
        command.env_remove(name);
    }
    command
}

/// The pod that a controller would be in, with the address where it really listens, and the Service that leads to the
/// one that leads; its port. The API server passes requests on to pods alone.
fn pod(site: &Site, identity: &str) -> u16 {
    let field = "jsonpath={.spec.containers[0].ports[0].containerPort}";
    if let Ok(port) = site.namespace.kubectl(["get", "pod", identity, "-o", field]) {
        // It has been killed, and comes back as a container does.
        return port.parse().unwrap();
    }
    let port = port();
    site.namespace.apply(&objects(identity, port)).unwrap();
    let status = json!({"status": {"phase": "Running", "podIP": HOST, "podIPs": [{"ip": HOST}],
                                   "conditions": [{"type": "Ready", "status": "True"}]}});
    let patch = ["patch", "pod", identity, "--subresource=status", "--type=merge", "-p", &status.to_string()];
    site.namespace.kubectl(patch).unwrap();
    port
}

fn objects(identity: &str, port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {identity}, labels: {{app.kubernetes.io/name: load-controller}}}}
spec:
  nodeName: {NODE}
  tolerations: [{{operator: Exists}}]
  securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: load-controller
      image: localhost/load-controller:1
      ports: [{{name: http, containerPort: {port}}}]
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: load-controller, labels: {{app.kubernetes.io/name: load-controller}}}}
spec:
  selector: {{app.kubernetes.io/name: load-controller, simctl.io/leader: 'true'}}
  publishNotReadyAddresses: true
  ports: [{{name: http, port: 8080, targetPort: http}}]
"
    )
}
