//! Names and labels of the objects that a fleet consists of.

use std::collections::BTreeMap;

/// The group of the custom resources.
pub const GROUP: &str = "simctl.io";
/// Their version.
pub const VERSION: &str = "v1alpha1";
/// Who owns the fields that the controller applies.
pub const FIELD_MANAGER: &str = "load-controller";
/// The label of everything that belongs to a fleet; its value is the fleet's name.
pub const FLEET_LABEL: &str = "simctl.io/fleet";
/// The label of the controller's pod that leads.
pub const LEADER_LABEL: &str = "simctl.io/leader";
/// The annotation of a document's ConfigMap: its number in the history.
pub const REVISION_ANNOTATION: &str = "simctl.io/revision";
/// The annotation of a load test that was started: when, in RFC 3339.
pub const STARTED_ANNOTATION: &str = "simctl.io/started";
/// The label of what belongs to a load test; its value is the test's name.
pub const LOAD_TEST_LABEL: &str = "simctl.io/load-test";
/// The name of the worker's container.
pub const WORKER_CONTAINER: &str = "device-sim";
/// The port of the worker's API and metrics.
pub const WORKER_PORT: u16 = 9464;
/// The port of a broker of our own.
pub const BROKER_PORT: u16 = 1883;
/// The port of its metrics.
pub const BROKER_HTTP_PORT: u16 = 9465;
/// The port of the controller's metrics.
pub const CONTROLLER_PORT: u16 = 8080;
/// The controller's Service, Deployment, ServiceAccount and Lease.
pub const CONTROLLER: &str = "load-controller";
/// The Secret with the controller's key, in the controller's own namespace.
pub const CONTROLLER_KEY: &str = "load-controller-key";
/// How many revisions of a document are kept.
pub const REVISIONS_MAX: usize = 10;

/// What a process of a fleet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Runs devices.
    Worker,
    /// Is the broker of a fleet that names none.
    Broker,
    /// No process: what is kept of a load test.
    LoadTest,
}

impl Component {
    const fn application(self) -> &'static str {
        match self {
            Self::Worker => "device-sim",
            Self::Broker => "broker",
            Self::LoadTest => CONTROLLER,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Broker => "broker",
            Self::LoadTest => "load-test",
        }
    }
}

/// The labels that select the pods of a component; they never change.
pub fn selector(fleet: &str, component: Component) -> BTreeMap<String, String> {
    labels_of([
        ("app.kubernetes.io/name", component.application()),
        ("app.kubernetes.io/instance", fleet),
        ("app.kubernetes.io/component", component.name()),
    ])
}

/// The labels of every object of a component.
pub fn labels(fleet: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector(fleet, component);
    labels.extend(labels_of([
        ("app.kubernetes.io/part-of", "simctl"),
        ("app.kubernetes.io/managed-by", FIELD_MANAGER),
        ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
        (FLEET_LABEL, fleet),
    ]));
    labels
}

fn labels_of<const N: usize>(labels: [(&str, &str); N]) -> BTreeMap<String, String> {
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The StatefulSet of the workers, their headless Service, budget and policy.
pub fn workers(fleet: &str) -> String {
    fleet.to_owned()
}

/// The pod of a shard.
pub fn pod(fleet: &str, ordinal: u32) -> String {
    format!("{fleet}-{ordinal}")
}

/// The Secret with the token of the workers' API and the passwords at a broker of the fleet's own.
pub fn secrets(fleet: &str) -> String {
    format!("{fleet}-secrets")
}

/// The Secret in which releases before 0.2 kept a random token. Workers of such a release know no other.
pub fn former_token(fleet: &str) -> String {
    format!("{fleet}-token")
}

/// The ConfigMap with the plan.
pub fn plan(fleet: &str) -> String {
    format!("{fleet}-plan")
}

/// The ConfigMap with what ended epochs have measured.
pub fn totals(fleet: &str) -> String {
    format!("{fleet}-totals")
}

/// The ConfigMap with what was measured in a phase that is over.
pub fn phase(fleet: &str, number: u32) -> String {
    format!("{fleet}-phase-{number}")
}

/// The ConfigMap with what a load test has measured so far.
pub fn load_test(name: &str) -> String {
    format!("{name}-load-test")
}

/// A ConfigMap with a part of the report of a load test.
pub fn report(name: &str, part: usize) -> String {
    format!("{name}-report-{part}")
}

/// The Job of a hook of a load test, by its place among the test's faults.
pub fn hook(name: &str, position: u32) -> String {
    format!("{name}-hook-{position}")
}

/// The immutable ConfigMap with a document, by its hash.
pub fn document(fleet: &str, hash: &str) -> String {
    format!("{fleet}-{}", &hash[..hash.len().min(10)])
}

/// The broker's StatefulSet, Service, policy, and the ConfigMap that says whom it admits.
pub fn broker(fleet: &str) -> String {
    format!("{fleet}-broker")
}
