//! The custom resource `FleetQuery`: a question about the figures of fleets, and the controller's answer in its status.
//!
//! It is the only way to figures: who may read them is decided by RBAC and by the chart's ValidatingAdmissionPolicy
//! `simctl-fleetqueries`, not by the controller. simctl and controller share these types.

use std::collections::BTreeMap;

use fleet_contract::time::Micros;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes that an answer has at most.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

/// How many queries of a namespace are answered at a time.
pub const LIVE_MAX: usize = 5;

/// The answer to [`What::Pods`]: the pods of each fleet, by the fleet's name.
pub type PodsOfFleets = BTreeMap<String, Vec<PodReport>>;

/// A pod as `simctl top` shows it.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodReport {
    /// Its name.
    pub pod: String,
    /// Its shard.
    pub ordinal: u32,
    /// The first device of its shard.
    pub first: u32,
    /// Devices that it should have connected.
    pub desired: u32,
    /// Devices that it has connected.
    pub connected: u32,
    /// Messages sent a second.
    pub messages_per_second: f64,
    /// Processors in use.
    pub cpu_cores: f64,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
    /// The version of the plan that it runs; `None` before it has answered.
    pub plan_version: Option<u64>,
    /// The start of its process, in microseconds since 1970; `None` before it has answered.
    pub epoch: Option<Micros>,
    /// Whether it answers.
    pub answers: bool,
    /// Its node.
    pub node: Option<String>,
}

/// What is asked; only `renew` may change.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(group = "simctl.io", version = "v1alpha1", kind = "FleetQuery", plural = "fleetqueries")]
#[kube(namespaced, status = "QueryStatus", schema = "disabled", derive = "Default", derive = "PartialEq")]
#[serde(rename_all = "camelCase")]
pub struct QuerySpec {
    /// The fleet, in the namespace of the query; absent with `what: pods` means all fleets there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// Which figures.
    pub what: What,
    /// The index of the device, with `what: device`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    /// A larger number than before asks again, and keeps the query for another 60 s.
    #[serde(default)]
    pub renew: i64,
}

/// Which figures.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// The report of the run, a [`crate::report::Report`].
    #[default]
    Report,
    /// The pods, [`PodsOfFleets`].
    Pods,
    /// The plan, a [`fleet_contract::plan::Plan`].
    Plan,
    /// One device, a [`fleet_contract::worker::DeviceStatus`] of the worker that runs it.
    Device,
    /// Of a later version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// The answer.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryStatus {
    /// The value of `spec.renew` that this answer is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_renewal: Option<i64>,
    /// When it was given, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<String>,
    /// The figures as JSON, at most 262,144 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub answer: Option<String>,
    /// What was left out of the answer to keep it small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<QueryError>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueryError {
    /// The kind of cause.
    pub reason: QueryReason,
    /// The cause, for a person.
    pub message: String,
}

/// The kinds of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QueryReason {
    /// There is no such fleet.
    NotFound,
    /// The fleet has no plan yet.
    NotStarted,
    /// The fleet's part of the controller did not answer in time.
    Busy,
    /// No pod runs the device, or its worker does not answer.
    WorkerSilent,
    /// The namespace has its five live queries; this one waits for one of them to end.
    LimitExceeded,
    /// The answer cannot be cut to its limit.
    TooLarge,
    /// The controller does not know what is asked, or this version does not know the reason.
    #[serde(other)]
    Unknown,
}

impl QueryError {
    /// A cause of a kind.
    pub fn new(reason: QueryReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_a_later_version_is_still_one() {
        let text = r#"{"apiVersion": "simctl.io/v1alpha1", "kind": "FleetQuery", "metadata": {"name": "q"},
            "spec": {"fleet": "f", "what": "verdict", "depth": 3},
            "status": {"error": {"reason": "TooEarly", "message": "m"}}}"#;
        let query: FleetQuery = serde_json::from_str(text).unwrap();
        assert_eq!((query.spec.what, query.spec.renew), (What::Unknown, 0));
        assert_eq!(query.status.unwrap().error, Some(QueryError::new(QueryReason::Unknown, "m")));
    }

    #[test]
    fn what_is_absent_is_not_written() {
        let spec = QuerySpec { what: What::Pods, ..QuerySpec::default() };
        assert_eq!(serde_json::to_string(&spec).unwrap(), r#"{"what":"pods","renew":0}"#);
    }
}
