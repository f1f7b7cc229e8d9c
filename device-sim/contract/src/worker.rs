//! What a worker is given: a fleet, a plan and the shard that is its own; and how long it takes to end.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    fleet::{Fleet, FleetSpec},
    format::Format,
    model::payload,
    plan::{Plan, Shard},
    time::Micros,
    units::Span,
};

/// A variable and its value that a worker is to be started with, so that memory falls when devices go.
///
/// Allocations of this many bytes or more get pages of their own from glibc, which go back to the system when they are
/// freed. Without it glibc raises the limit to the largest that was ever freed, up to 32 MiB, and keeps the memory of
/// what is smaller: a worker that had grown for the second time would stay as large as it was.
pub const ALLOCATOR: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "262144");

/// What the devices of a fleet are: the same for all of its workers, whatever changes live.
///
/// As JSON it is an [`Assignment`] without `plan` and `shard`; a worker that is given only this gets those apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// From which format on it is understood. A worker names the fields that it does not know by itself; a known field
    /// with another meaning is what raises the format.
    #[serde(default, skip_serializing_if = "Format::is_first")]
    pub format: Format,
    /// The fleet; `spec.models` holds each model that a group names, and `spec.broker` is set.
    pub fleet: Fleet,
    /// The texts of the files that models replay, by the name that the model uses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

impl Document {
    /// What a worker runs that is given `shard` of the fleet.
    pub fn assign(self, plan: Plan, shard: Shard) -> Assignment {
        let Self { format, fleet, files } = self;
        Assignment { format, fleet, plan, shard, files }
    }
}

/// All that a worker needs to run its devices; it stands alone and holds no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// As in [`Document::format`].
    #[serde(default, skip_serializing_if = "Format::is_first")]
    pub format: Format,
    /// The fleet, as in [`Document::fleet`].
    pub fleet: Fleet,
    /// The plan that all workers of the fleet share.
    pub plan: Plan,
    /// The devices of this worker.
    pub shard: Shard,
    /// The files, as in [`Document::files`].
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// The client id of the observer of a broker, beside the worker whose first device that is and which began at `epoch`: two
/// processes that run the same devices never take each other's messages.
pub fn observer_client_id(fleet: &str, run: u32, first: u32, epoch: Micros, broker: usize) -> String {
    let client_id = format!("{fleet}-observer-{run:08x}-{first}-{:x}", epoch.0);
    // Two addresses may be those of one broker, which knows a name once.
    if broker > 0 { format!("{client_id}-{broker}") } else { client_id }
}

/// How long the final statistics of a worker that was told to end are served, if nobody pulls them.
pub const PULL_PATIENCE: Span = Span::from_secs(5);

/// What the end of a process may take beside its devices: to notice, to answer, to exit on a busy node.
const END_MARGIN: Span = Span::from_secs(5);

/// What a device waits beyond `lossAfter` for its last messages, and then for the broker to close.
const GOODBYE: Span = Span::from_secs(2);

/// The most that a low connect rate adds to a drain: nobody waits for minutes because devices once came slowly.
const SERVICE_MAX: Span = Span::from_secs(60);

/// The longest time from the word to end (SIGTERM) until every message of a worker's devices is judged and every
/// device has said DISCONNECT; then the drain is given up.
///
/// A message is judged `lossAfter` after it was sent. That a broker serves goodbyes as fast as it serves connects is
/// all that can be expected of it, so the devices of a pod may take as long as they would to connect.
pub fn settle_bound(spec: &FleetSpec) -> Span {
    let service = spec.connect.rate.time_for(u64::from(spec.devices_per_pod)).min(SERVICE_MAX);
    sum([spec.loss_after, GOODBYE, service])
}

/// The longest time from SIGTERM until a worker's process has ended by itself: [`settle_bound`], then
/// [`PULL_PATIENCE`], and a margin.
///
/// A pod's `terminationGracePeriodSeconds` is this, rounded up. Like the pod's template it depends on nothing that
/// changes live.
pub fn drain_bound(spec: &FleetSpec) -> Span {
    sum([settle_bound(spec), PULL_PATIENCE, END_MARGIN])
}

fn sum<const N: usize>(spans: [Span; N]) -> Span {
    Span(spans.into_iter().fold(0, |sum, span| sum.saturating_add(span.0)))
}

/// What is known of one device, for `simctl device`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
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
    /// MQTT 5: what the broker said last when it refused the device or ended its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// When it will connect again, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connects_at: Option<Micros>,
    /// Accepted sessions so far.
    pub sessions: u32,
    /// QoS 1 and 2 messages that wait for their acknowledgement.
    pub in_flight: u32,
    /// Its streams and what became of their messages.
    pub streams: Vec<StreamStatus>,
}

/// One stream of one device: its ledger row.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
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
    pub next_due: Option<Micros>,
    /// Messages handed to the session.
    pub sent: u32,
    /// Messages that were judged: delivered, lost or unknown.
    pub settled: u32,
    /// Messages that wait for their judgement.
    pub in_flight: u32,
    /// The format of its payloads.
    #[serde(default)]
    pub format: payload::Format,
    /// The last payload, or what it would be: JSON and text as they are, CBOR and raw bytes in hexadecimal.
    pub payload: String,
    /// What a CBOR payload says, as JSON.
    // Left to whoever shows it, so that no worker carries a decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoded: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(spec: &str) -> Fleet {
        let text = format!(
            r#"{{"apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "metadata": {{"name": "f"}},
                "spec": {{"devices": 9, "groups": [], {spec}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[track_caller]
    fn check_bound(spec: &str, expected: &str) {
        assert_eq!(drain_bound(&fleet(spec).spec), expected.parse().unwrap(), "{spec}");
    }

    #[test]
    fn an_end_takes_its_judgement_its_goodbyes_and_its_last_reader() {
        check_bound(r#""lossAfter": "10s", "devicesPerPod": 1000, "connect": {"rate": "500/s"}"#, "24s");
        check_bound(r#""lossAfter": "2s", "devicesPerPod": 1, "connect": {"rate": "1000/s"}"#, "14.001s");
    }

    #[test]
    fn a_slow_rate_does_not_hold_a_pod_for_hours() {
        check_bound(r#""lossAfter": "10s", "devicesPerPod": 20000, "connect": {"rate": "1/m"}"#, "82s");
    }

    #[test]
    fn a_document_is_an_assignment_without_plan_and_shard() {
        let document = Document {
            format: Format::FIRST,
            fleet: fleet(r#""seed": 1"#),
            files: [("a.csv".into(), "1".into())].into(),
        };
        let plan = Plan::new(7, Micros(1), 9);
        let mut whole = serde_json::to_value(document.clone().assign(plan, Shard::of(1, 5))).unwrap();
        let parts = whole.as_object_mut().unwrap();
        assert!(parts.remove("plan").is_some() && parts.remove("shard").is_some());
        assert_eq!(serde_json::from_value::<Document>(whole).unwrap(), document);
    }
}
