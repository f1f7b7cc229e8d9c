//! `kind: LoadTest`: what is done to a fleet, part by part, and what must come of it.
//!
//! The same file serves `simctl run -f` on a laptop and `kubectl apply -f` on a cluster.
//!
//! | module | idea |
//! | --- | --- |
//! | [`phase`] | a part of the test: how long, how many devices, how fast, which faults |
//! | [`curve`] | a number that changes while a phase lasts |
//! | `timetable` | what the streams of an absolute rate send by themselves |
//! | `check` | the laws across fields, and with the fleet |

mod check;
pub mod curve;
pub mod phase;
mod timetable;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::{FACTOR_MAX, check, steep};
pub use phase::{Phase, RateChange};
pub use timetable::{Unreachable, follows_rules, timetable, unreachable};

use crate::{
    fault::Fault,
    fleet::{ApiVersion, Metadata, Qos},
    threshold::Threshold,
    units::Span,
};

/// The most phases of a test: a worker measures each apart until its figures are kept.
pub const PHASES_MAX: usize = 64;

/// The longest that a phase lasts.
pub const LASTS_MAX: Span = Span::from_secs(7 * 24 * 3_600);

/// The most thresholds of a test.
pub const THRESHOLDS_MAX: usize = 256;

/// The most straight lines that the curves of a test consist of.
pub const SEGMENTS_MAX: usize = 4_096;

/// What `phase` of a threshold says for each of the measured ones.
pub const EACH: &str = "each";

/// A load test of a fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadTest {
    /// `simctl.io/v1alpha1`
    pub api_version: ApiVersion,
    /// `LoadTest`
    pub kind: Kind,
    /// Its name, as Kubernetes has it.
    pub metadata: Metadata,
    /// What is done, and what must come of it.
    pub spec: LoadTestSpec,
}

/// What a document is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A load test of a fleet.
    #[default]
    LoadTest,
}

/// What is done to a fleet, and what must come of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadTestSpec {
    /// The fleet: a Fleet of the same file or, in a cluster, of the same namespace.
    pub fleet: String,
    /// The parts of the test, one after the other, 1 to 64.
    #[schemars(length(min = 1, max = 64))]
    pub phases: Vec<Phase>,
    /// What must come of it, at most 256: `lost == 0`, or the same with where it is looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub thresholds: Vec<Criterion>,
    /// In a cluster: whether tests of other fleets of the namespace may go on beside it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub concurrency_policy: ConcurrencyPolicy,
    /// In a cluster: holds the test back before its start, and all messages after it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,
    /// In a cluster: the phase of this name is over as soon as it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    /// In a cluster: ends the test at once; what is under way is not judged.
    #[serde(default, skip_serializing_if = "is_default")]
    pub abort: bool,
}

/// Whether tests of other fleets may go on at the same time: they load the same nodes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// No other one in the namespace.
    #[default]
    Forbid,
    /// Others that allow it, too.
    Allow,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl LoadTestSpec {
    /// A test of a fleet that nobody has touched.
    pub const fn new(fleet: String, phases: Vec<Phase>, thresholds: Vec<Criterion>) -> Self {
        let concurrency_policy = ConcurrencyPolicy::Forbid;
        Self { fleet, phases, thresholds, concurrency_policy, suspend: false, skip: None, abort: false }
    }

    /// The field that changes a test while it goes on, if one is set; a test on one machine has verbs for that.
    pub const fn control(&self) -> Option<&'static str> {
        match self {
            Self { suspend: true, .. } => Some("suspend"),
            Self { skip: Some(_), .. } => Some("skip"),
            Self { abort: true, .. } => Some("abort"),
            _ => None,
        }
    }

    /// The faults of all phases, each with its place in the document, such as `/spec/phases/0/faults/1`.
    pub fn faults(&self) -> impl Iterator<Item = (String, &Fault)> {
        (0..).zip(&self.phases).flat_map(|(number, phase): (usize, _)| {
            let place = move |position: usize| format!("/spec/phases/{number}/faults/{position}");
            (0..).zip(&phase.faults).map(move |(position, fault)| (place(position), fault))
        })
    }

    /// Whether it asks for the same as `other`, but for what changes a test while it goes on.
    pub fn is_same(&self, other: &Self) -> bool {
        let asked = |spec: &Self| Self { suspend: false, skip: None, abort: false, ..spec.clone() };
        asked(self) == asked(other)
    }
}

/// A threshold, and where it is looked at. Written as the threshold alone where nothing else is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Criterion {
    /// What must come of the test.
    pub expect: Threshold,
    /// The phase, or [`EACH`].
    pub phase: Option<String>,
    /// The fault, by its name: only what it did.
    pub fault: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// The stream.
    pub stream: Option<String>,
    /// The quality of service.
    pub qos: Option<Qos>,
    /// Whether the test ends as soon as it fails.
    pub abort_on_fail: Option<AbortOnFail>,
}

/// From when on a test ends that fails.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AbortOnFail {
    /// How long the phase, or without one the test, goes on at least.
    #[serde(default)]
    pub after: Span,
}

/// A criterion as it is written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    Alone(Threshold),
    Placed(Placed),
}

/// A threshold with where it is looked at.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Placed {
    /// What must come of the test, such as `end_to_end.p99 < 250ms`.
    expect: Threshold,
    /// The phase in which messages fell due, or `each` for every measured one; without it rates and times are those of all
    /// measured phases together, and counts, recovery and offline detection those of the whole test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phase: Option<String>,
    /// The fault, by its name or else its kind: how long it took each device to get a session back that it lost by
    /// this, or what became of its will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// The group of the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// The stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    /// The quality of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    qos: Option<Qos>,
    /// Ends the test as soon as it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    abort_on_fail: Option<AbortOnFail>,
}

impl Criterion {
    /// A threshold of the whole fleet.
    pub const fn of(expect: Threshold) -> Self {
        Self { expect, phase: None, fault: None, group: None, stream: None, qos: None, abort_on_fail: None }
    }
}

impl From<Written> for Criterion {
    fn from(written: Written) -> Self {
        match written {
            Written::Alone(expect) => Self::of(expect),
            Written::Placed(Placed { expect, phase, fault, group, stream, qos, abort_on_fail }) => {
                Self { expect, phase, fault, group, stream, qos, abort_on_fail }
            }
        }
    }
}

impl From<Criterion> for Written {
    fn from(Criterion { expect, phase, fault, group, stream, qos, abort_on_fail }: Criterion) -> Self {
        match (&phase, &fault, &group, &stream, qos, abort_on_fail) {
            (None, None, None, None, None, None) => Self::Alone(expect),
            _ => Self::Placed(Placed { expect, phase, fault, group, stream, qos, abort_on_fail }),
        }
    }
}

impl JsonSchema for Criterion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Criterion".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Written::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    const RUSH_HOUR: &str = "
apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {name: rush-hour}
spec:
  fleet: robotaxis
  phases:
    - {name: ramp, duration: 2m, devices: {from: 0, to: 500}}
    - {name: steady, duration: 10m, measure: true}
    - {name: peak, duration: 1m, rate: {factor: 5}, measure: true}
    - {name: outage, duration: 30s, faults: [{kind: disconnect, share: 30%}]}
    - {name: recovery, duration: 5m, measure: true}
  thresholds:
    - {expect: 'end_to_end.p99 < 250ms', phase: steady}
    - {expect: 'end_to_end.p99 < 1s', phase: peak, stream: event, abortOnFail: {after: 10s}}
    - lost == 0
    - recovery.p95 < 30s
";

    #[test]
    fn a_load_test_reads_and_writes_as_documented() {
        let (test, _) = document::read::<LoadTest>("t.yaml", RUSH_HOUR).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(check(&test.spec, None), []);
        assert_eq!((test.spec.phases.len(), test.spec.thresholds.len()), (5, 4));
        assert_eq!(test.spec.thresholds[2], Criterion::of("lost == 0".parse().unwrap()));
        assert_eq!(test.spec.thresholds[1].abort_on_fail, Some(AbortOnFail { after: Span::from_secs(10) }));
        let text = serde_json::to_string(&test).unwrap();
        assert!(text.contains(r#""lost == 0","recovery.p95 < 30s""#), "{text}");
        assert_eq!(serde_json::from_str::<LoadTest>(&text).unwrap(), test);
    }

    #[test]
    fn mistakes_are_told_by_their_place() {
        let wrong = RUSH_HOUR
            .replace("duration: 2m", "duration: soon")
            .replace("- lost == 0", "- lots == 0")
            .replace("recovery.p95 < 30s", "{expect: 'sent.rate > 1/s', phsae: peak}")
            .replace("kind: disconnect", "kind: unplug");
        let problems = document::read::<LoadTest>("t.yaml", &wrong).unwrap_err().to_string();
        insta::assert_snapshot!(problems, @r"
        t.yaml:8:20: spec.phases[0].duration: expected a length of time such as `200ms`, `1.5s` or `5m`, found `soon`
        t.yaml:11:47: spec.phases[3].faults[0].kind: expected one of `disconnect`, `storm`, `churn`, `blackhole`, `latency`, `bandwidth`, `slow-reader`, `credentials`, `corrupt`, `duplicate`, `stale`, `clock`, `flood`, `silence`, `kill-pods`, `hook`, found `unplug`
        t.yaml:16:7: spec.thresholds[2]: expected one of offered, withheld, withheld_offline, sent, payload_bytes, acknowledged, abandoned, resent, observed, unobserved, delivered, lost, lost_acknowledged, unknown, unrecorded, late, duplicated, reordered, in_flight, connect, publish_ack, end_to_end, schedule_lag, recovery, offline_detection, wills_expected, wills_seen, wills_missing, wills_unknown, wills_late, wills_unexpected, wills_by_broker, wills_deleted, retained_right, retained_wrong (did you mean `lost`?), found `lots` at column 1 of `lots == 0`
        t.yaml:17:35: spec.thresholds[3].phsae: unknown field, did you mean `phase`? (allowed: expect, phase, fault, group, stream, qos, abortOnFail)
        ");
    }
}
