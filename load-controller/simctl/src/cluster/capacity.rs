//! Whether a cluster has room for a fleet, before anything starts: quotas, nodes, ports; and what it costs. Pure.

use std::collections::BTreeMap;

use fleet_contract::fleet::{FleetSpec, Toleration};
use k8s_openapi::{
    api::core::v1::{Node, Pod, ResourceQuota, Taint},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::ResourceExt as _;
use load_controller::{resource::size::Size, words};
use schemars::JsonSchema;
use serde::Serialize;

use super::quantity;
use crate::preflight::Check;

/// The source ports that Linux gives out by default (`net.ipv4.ip_local_port_range`, 32768 to 60999); each pod has its
/// own, for it has an address of its own.
const PORTS_OF_POD: u32 = 28_232;

/// What the pods of a fleet ask for, together and each.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Need {
    /// Pods that run devices.
    pub(crate) pods: u32,
    /// Devices of a pod that is full.
    pub(crate) devices_per_pod: u32,
    /// CPU that a pod asks for, in cores.
    pub(crate) cpu_cores_per_pod: f64,
    /// Memory that a pod asks for, in bytes.
    pub(crate) memory_bytes_per_pod: f64,
    /// CPU of all pods, in cores.
    pub(crate) cpu_cores: f64,
    /// Memory of all pods, in bytes.
    pub(crate) memory_bytes: f64,
    /// Source ports that a full pod uses.
    pub(crate) ports_per_pod: u32,
    /// What an hour costs, if there is a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost_per_hour: Option<f64>,
}

/// What an hour of a resource that was asked for costs.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Price {
    /// Of a core.
    pub(crate) cpu: Option<f64>,
    /// Of a GiB of memory.
    pub(crate) gib: Option<f64>,
}

impl Need {
    /// What the pods of a fleet ask for whose models are all in `spec.models`; the controller decides it the same way.
    pub(crate) fn new(spec: &FleetSpec, price: Price) -> Self {
        let size = Size::of(spec);
        let asked = |text: Option<&String>| text.and_then(|text| quantity::parse(text));
        let cpu = asked(spec.pod.cpu.as_ref()).unwrap_or(f64::from(size.cpu_millis) / 1e3);
        let memory = asked(spec.pod.memory.as_ref()).unwrap_or(size.memory_bytes as f64);
        let pods = spec.devices.div_ceil(spec.devices_per_pod.max(1));
        let (all_cpu, all_memory) = (cpu * f64::from(pods), memory * f64::from(pods));
        let cost = match price {
            Price { cpu: None, gib: None } => None,
            Price { cpu, gib } => {
                Some(all_cpu * cpu.unwrap_or(0.0) + all_memory / f64::from(1 << 30) * gib.unwrap_or(0.0))
            }
        };
        Self {
            pods,
            devices_per_pod: spec.devices_per_pod,
            cpu_cores_per_pod: cpu,
            memory_bytes_per_pod: memory,
            cpu_cores: all_cpu,
            memory_bytes: all_memory,
            // One for the observer, too.
            ports_per_pod: spec.devices_per_pod.min(spec.devices) + 1,
            cost_per_hour: cost,
        }
    }
}

/// What was found of a cluster; what may not be read is absent.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The quotas of the namespace.
    pub(crate) quotas: Option<Vec<ResourceQuota>>,
    /// The nodes.
    pub(crate) nodes: Option<Vec<Node>>,
    /// The pods of the whole cluster, whose requests are taken already.
    pub(crate) pods: Option<Vec<Pod>>,
}

/// All that can be known of whether the fleet fits.
pub(crate) fn check(spec: &FleetSpec, need: &Need, found: &Found) -> Vec<Check> {
    vec![ports(need), quotas(need, found), nodes(spec, need, found)]
}

fn unknown(name: &'static str, what: &str) -> Check {
    Check::warning(
        name,
        format!("you may not read {what}, so nothing is known"),
        "ask somebody who may (`kubectl auth can-i`)",
    )
}

fn ports(need: &Need) -> Check {
    let (ports, most) = (words::count(need.ports_per_pod.into()), words::count(PORTS_OF_POD.into()));
    let found = format!("{ports} of the {most} source ports of a pod");
    if need.ports_per_pod <= PORTS_OF_POD {
        Check::ok("ports", found)
    } else {
        Check::failed("ports", found, format!("devicesPerPod of at most {}", PORTS_OF_POD - 1))
    }
}

/// Whether the quotas of the namespace leave enough.
fn quotas(need: &Need, found: &Found) -> Check {
    let Some(quotas) = &found.quotas else { return unknown("quota", "the quotas of the namespace") };
    let mut short = Vec::new();
    for quota in quotas {
        let status = quota.status.clone().unwrap_or_default();
        let (hard, used) = (status.hard.unwrap_or_default(), status.used.unwrap_or_default());
        for (resource, limit) in &hard {
            let Some(wanted) = wanted(resource, need) else { continue };
            let Some(limit) = quantity::parse(&limit.0) else { continue };
            let left = limit - used.get(resource).and_then(|used| quantity::parse(&used.0)).unwrap_or(0.0);
            if wanted > left {
                let amounts = format!(
                    "{} of {} left, {} wanted",
                    amount(resource, left),
                    amount(resource, limit),
                    amount(resource, wanted)
                );
                short.push(format!("{resource} of quota {}: {amounts}", quota.name_any()));
            }
        }
    }
    match (quotas.len(), short.as_slice()) {
        (0, _) => Check::ok("quota", "the namespace has none"),
        (_, []) => Check::ok("quota", "enough is left"),
        (_, short) => {
            Check::failed("quota", short.join("; "), "fewer devices, or a larger quota (`kubectl edit quota`)")
        }
    }
}

/// How much of a resource of a quota the fleet wants.
fn wanted(resource: &str, need: &Need) -> Option<f64> {
    match resource {
        "pods" | "count/pods" => Some(f64::from(need.pods)),
        "cpu" | "requests.cpu" => Some(need.cpu_cores),
        "memory" | "requests.memory" | "limits.memory" => Some(need.memory_bytes),
        "count/statefulsets.apps" => Some(1.0),
        _ => None,
    }
}

fn amount(resource: &str, amount: f64) -> String {
    if resource.contains("memory") { words::bytes(amount.max(0.0)) } else { words::number(amount.max(0.0)) }
}

/// What is left of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Room {
    cpu: f64,
    memory: f64,
    pods: f64,
}

impl Room {
    /// How many more pods fit, and what runs out first.
    fn pods_of(self, need: &Need) -> (u64, &'static str) {
        let each = |left: f64, one: f64| if one > 0.0 { (left / one).max(0.0).floor() } else { f64::INFINITY };
        let fits = [
            (each(self.cpu, need.cpu_cores_per_pod), "CPU"),
            (each(self.memory, need.memory_bytes_per_pod), "memory"),
            (self.pods.max(0.0), "pods"),
        ];
        let least = fits.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, "CPU"));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, not negative, and bounded by pods"
        )]
        (least.0.min(f64::from(u32::MAX)) as u64, least.1)
    }
}

/// Whether the nodes on which the pods may run have room for them.
fn nodes(spec: &FleetSpec, need: &Need, found: &Found) -> Check {
    let Some(nodes) = &found.nodes else { return unknown("nodes", "the nodes") };
    let usable: Vec<_> = nodes.iter().filter(|node| is_usable(node, spec)).collect();
    if usable.is_empty() {
        return Check::failed(
            "nodes",
            format!("none of {} is ready and takes these pods", words::counted(nodes.len() as u64, "node", "nodes")),
            "nodes with the labels of spec.pod.nodeSelector, or spec.pod.tolerations for their taints",
        );
    }
    let taken = found.pods.as_deref().map(taken).unwrap_or_default();
    let mut shortages: BTreeMap<&str, u64> = BTreeMap::new();
    let mut fit = 0;
    for node in &usable {
        let (pods, first) = room(node, taken.get(node.name_any().as_str())).pods_of(need);
        fit += pods;
        *shortages.entry(first).or_default() += 1;
    }
    let sum = |number: u64| words::counted(number, "pod", "pods");
    let place = format!("{} for {}", words::counted(usable.len() as u64, "node", "nodes"), sum(need.pods.into()));
    let caution = if found.pods.is_none() { " (what runs there already is not known)" } else { "" };
    if fit >= u64::from(need.pods) {
        return Check::ok("nodes", format!("{place}, which have room for {}{caution}", sum(fit)));
    }
    let short = shortages.into_iter().max_by_key(|(_, nodes)| *nodes).map_or("room", |(what, _)| what);
    Check::failed(
        "nodes",
        format!("{place}, which have room for {}; {short} runs out first{caution}", sum(fit)),
        "more nodes, fewer devices, or another devicesPerPod",
    )
}

/// Whether a node is ready and takes the pods of the fleet.
fn is_usable(node: &Node, spec: &FleetSpec) -> bool {
    let node_spec = node.spec.clone().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_ready =
        conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let is_selected = spec.pod.node_selector.iter().all(|(key, value)| node.labels().get(key) == Some(value));
    let is_tolerated = |taint: &Taint| {
        taint.effect == "PreferNoSchedule" || spec.pod.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    };
    is_ready
        && is_selected
        && !node_spec.unschedulable.unwrap_or(false)
        && node_spec.taints.iter().flatten().all(is_tolerated)
}

/// As the scheduler matches them.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is_effect = toleration.effect.as_ref().is_none_or(|effect| *effect == taint.effect);
    let is_key = toleration.key.as_ref().is_none_or(|key| *key == taint.key);
    let is_any = toleration.operator.as_deref() == Some("Exists");
    is_effect
        && is_key
        && (is_any || toleration.value.clone().unwrap_or_default() == taint.value.clone().unwrap_or_default())
}

/// What a node has, less what is taken.
fn room(node: &Node, taken: Option<&Room>) -> Room {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.clone()).unwrap_or_default();
    let of = |resource: &str| allocatable.get(resource).and_then(|amount| quantity::parse(&amount.0)).unwrap_or(0.0);
    let taken = taken.copied().unwrap_or(Room { cpu: 0.0, memory: 0.0, pods: 0.0 });
    Room { cpu: of("cpu") - taken.cpu, memory: of("memory") - taken.memory, pods: of("pods") - taken.pods }
}

/// What the pods that are there have asked for, by node.
fn taken(pods: &[Pod]) -> BTreeMap<&str, Room> {
    let mut taken: BTreeMap<&str, Room> = BTreeMap::new();
    for pod in pods {
        let Some(spec) = &pod.spec else { continue };
        let Some(node) = spec.node_name.as_deref() else { continue };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            continue;
        }
        let room = taken.entry(node).or_insert(Room { cpu: 0.0, memory: 0.0, pods: 0.0 });
        room.pods += 1.0;
        for container in &spec.containers {
            let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
            let of = |resource: &str| requests.and_then(|requests| amount_of(requests, resource)).unwrap_or(0.0);
            room.cpu += of("cpu");
            room.memory += of("memory");
        }
    }
    taken
}

fn amount_of(amounts: &BTreeMap<String, Quantity>, resource: &str) -> Option<f64> {
    quantity::parse(&amounts.get(resource)?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::preflight::Outcome;

    fn spec(more: &Value) -> FleetSpec {
        let mut spec = json!({
            "devices": 500, "devicesPerPod": 100, "groups": [{"name": "a", "model": "m"}],
            "pod": {"cpu": "250m", "memory": "128Mi"},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn node(cpu: &str, more: &Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"pool": "load"}}, "spec": more,
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"},
                       "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": null}]},
        }))
        .unwrap()
    }

    fn quota(hard: &Value, used: &Value) -> ResourceQuota {
        serde_json::from_value(json!({"metadata": {"name": "small"}, "status": {"hard": hard, "used": used}})).unwrap()
    }

    #[track_caller]
    fn found(name: &str, spec: &FleetSpec, found: &Found) -> (Outcome, String) {
        let checks = check(spec, &Need::new(spec, Price::default()), found);
        let check = checks.into_iter().find(|check| check.name == name).unwrap();
        (check.outcome, check.found)
    }

    #[test]
    fn pods_and_their_requests_add_up_to_a_cost() {
        let need = Need::new(&spec(&json!({"devices": 499})), Price { cpu: Some(0.04), gib: Some(0.005) });
        assert_eq!((need.pods, need.ports_per_pod), (5, 101));
        assert!((need.cpu_cores - 1.25).abs() < 1e-9);
        assert!((need.cost_per_hour.unwrap() - (1.25 * 0.04 + 0.625 * 0.005)).abs() < 1e-9);
        assert_eq!(Need::new(&spec(&json!({})), Price::default()).cost_per_hour, None);
    }

    #[test]
    fn a_quota_that_leaves_too_little_is_named() {
        let quotas = Some(vec![quota(&json!({"pods": "10", "requests.memory": "1Gi"}), &json!({"pods": "7"}))]);
        let (outcome, text) = found("quota", &spec(&json!({})), &Found { quotas, ..Found::default() });
        assert_eq!((outcome, text.as_str()), (Outcome::Failed, "pods of quota small: 3.00 of 10.0 left, 5.00 wanted"));
        let quotas = Some(vec![quota(&json!({"pods": "10"}), &json!({"pods": "5"}))]);
        assert_eq!(found("quota", &spec(&json!({})), &Found { quotas, ..Found::default() }).0, Outcome::Ok);
        assert_eq!(found("quota", &spec(&json!({})), &Found::default()).0, Outcome::Warning);
    }

    #[test]
    fn what_runs_on_a_node_already_leaves_less_room() {
        let busy = serde_json::from_value(json!({
            "metadata": {"name": "x"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        }))
        .unwrap();
        let nodes = || Some(vec![node("2", &json!({}))]);
        let free = Found { nodes: nodes(), pods: Some(vec![]), quotas: None };
        assert_eq!(
            found("nodes", &spec(&json!({})), &free),
            (Outcome::Ok, "1 node for 5 pods, which have room for 8 pods".into())
        );
        let full = Found { nodes: nodes(), pods: Some(vec![busy]), quotas: None };
        assert_eq!(
            found("nodes", &spec(&json!({})), &full),
            (Outcome::Failed, "1 node for 5 pods, which have room for 4 pods; CPU runs out first".into())
        );
    }

    #[test]
    fn a_node_must_take_the_pods() {
        let taint = json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]});
        let nodes = |more: &Value| Found { nodes: Some(vec![node("2", more)]), pods: Some(vec![]), quotas: None };
        let outcome = |spec: &FleetSpec, more: &Value| found("nodes", spec, &nodes(more)).0;
        assert_eq!(outcome(&spec(&json!({})), &taint), Outcome::Failed);
        assert_eq!(
            outcome(&spec(&json!({"pod": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}})), &taint),
            Outcome::Ok
        );
        assert_eq!(outcome(&spec(&json!({"pod": {"nodeSelector": {"pool": "load"}}})), &json!({})), Outcome::Ok);
        assert_eq!(outcome(&spec(&json!({"pod": {"nodeSelector": {"pool": "other"}}})), &json!({})), Outcome::Failed);
        assert_eq!(outcome(&spec(&json!({})), &json!({"unschedulable": true})), Outcome::Failed);
    }

    #[test]
    fn each_pod_has_ports_of_its_own() {
        assert_eq!(found("ports", &spec(&json!({})), &Found::default()).0, Outcome::Ok);
        let crowded = spec(&json!({"devices": 100_000, "devicesPerPod": 30_000}));
        assert_eq!(found("ports", &crowded, &Found::default()).0, Outcome::Failed);
    }
}
