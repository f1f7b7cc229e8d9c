//! What is special about the pods of a fleet, in Kubernetes' own words; a run on one machine ignores it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How the keys of labels and annotations begin that only the product sets.
pub const OWN_PREFIX: &str = "simctl.io/";

/// The labels of other prefixes that the product sets on every pod; Services, policies and budgets select by them.
pub const OWN_LABELS: [&str; 6] = [
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
];

/// What is special about the fleet's pods: those of its workers and that of its own broker, if it has one.
///
/// On a cluster, whoever sets a field other than labels, annotations and resources must be allowed to create pods.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodSpec {
    /// The image of the worker; by default that of the load controller's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When the node asks the registry for the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// The Secrets that the registry wants, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<String>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that do not keep the pods away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Where the pods go, and beside which others, as `spec.affinity` of a Pod.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub affinity: Map<String, Value>,
    /// The priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// The runtime class of the pods, such as one of a sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// The service account of the pods; its token is never mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// The user id of the processes, 1 to 2,147,483,647; by default 65532.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<u32>,
    /// Their group id, 0 to 2,147,483,647; by default 65532.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub run_as_group: Option<u32>,
    /// The group id that owns what is mounted, 0 to 2,147,483,647; by default 65532.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub fs_group: Option<u32>,
    /// Leaves all three ids out of the pods, for platforms that assign them, such as `OpenShift`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub omit_ids: bool,
    /// Kernel parameters of the pods. A worker sets `net.ipv4.ip_local_port_range`, unless this list has it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub sysctls: Vec<Sysctl>,
    /// Labels of the pods beside those that every pod of a fleet has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods beside those that every pod of a fleet has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The CPU that a worker's pod asks for, such as `250m`; by default estimated from its devices and their messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// The CPU that a worker's pod never exceeds; by default there is no limit, because throttling ruins timetables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<String>,
    /// The memory that a worker's pod asks for and never exceeds, such as `128Mi`; by default estimated from its
    /// devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// The storage of its node that a worker's pod asks for and never exceeds, such as `64Mi`: its log and 16 MiB of
    /// state. By default there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<String>,
    /// The resources of the pod of the fleet's own broker; its memory follows from the devices.
    #[serde(skip_serializing_if = "BrokerResources::is_default")]
    pub broker: BrokerResources,
    /// Engine threads of a worker's pod; by default one, or as many as the CPU that it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub threads: Option<u16>,
}

impl PodSpec {
    /// Whether nothing is special.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What the pod of a fleet's own broker asks for and never exceeds, beside its memory.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BrokerResources {
    /// The CPU that it asks for; by default `100m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// The CPU that it never exceeds; by default there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<String>,
    /// The storage of its node that it asks for and never exceeds: its log, and its volume if that is no claim. By
    /// default there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<String>,
}

impl BrokerResources {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A kernel parameter of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sysctl {
    /// Its name, such as `net.ipv4.tcp_keepalive_time`.
    pub name: String,
    /// Its value, in quotes where it is a number.
    pub value: String,
}

/// When a node asks the registry for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
pub enum PullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have the image.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

/// A taint that does not keep the pods away.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Toleration {
    /// The taint's key; without it every key, and then `operator` is `Exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` (default) or `Exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The taint's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; without it every effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// How long a pod stays on a node that gets the taint `NoExecute`; without it for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}
