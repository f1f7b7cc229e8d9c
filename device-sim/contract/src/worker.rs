//! What a worker is given: a fleet, a plan and the shard that is its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    fleet::Fleet,
    plan::{Plan, Shard},
};

/// All that a worker needs to run its devices; it stands alone and holds no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// The fleet; `spec.models` holds each model that a group names, and `spec.broker` is set.
    pub fleet: Fleet,
    /// The plan that all workers of the fleet share.
    pub plan: Plan,
    /// The devices of this worker.
    pub shard: Shard,
    /// The texts of the files that models replay, by the name that the model uses.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// What is known of one device, for `simctl device`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// Its index.
    pub index: u32,
    /// Its client id.
    pub client_id: String,
    /// Its group.
    pub group: String,
    /// Its model.
    pub model: String,
    /// What its session is doing: `offline`, `connecting`, `up`, `leaving`, `absent`.
    pub state: String,
    /// Why it lost its last connection or why its last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it will connect again, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connects_at: Option<crate::time::Micros>,
    /// Accepted sessions so far.
    pub sessions: u32,
    /// QoS 1 and 2 messages that wait for their acknowledgement.
    pub in_flight: u32,
    /// Its streams and what became of their messages.
    pub streams: Vec<StreamStatus>,
}

/// One stream of one device: its ledger row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// Its topic.
    pub topic: String,
    /// Its quality of service.
    pub qos: u8,
    /// The next instant at which a message falls due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<crate::time::Micros>,
    /// Messages handed to the session.
    pub sent: u32,
    /// Messages that were judged: delivered, lost or unknown.
    pub settled: u32,
    /// Messages that wait for their judgement.
    pub in_flight: u32,
    /// The last payload, as text; what it would be if nothing was sent yet.
    pub payload: String,
}
