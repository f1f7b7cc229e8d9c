//! The ConfigMaps of a fleet: what its devices are (one for each revision), what they do (the plan), and what ended
//! epochs have measured (the totals, and one for each phase that is over); and whom a broker of its own admits. Those of a load
//! test: what it has measured so far, and its report.

use std::collections::BTreeMap;

use fleet_contract::{
    format::{self, Format, Unreadable},
    plan::Plan,
    stats::{Ended, PhaseStats},
};
use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use kube::ResourceExt as _;
use serde::{
    Serialize,
    de::{DeserializeOwned, Error as _},
};

use super::{
    Owner,
    names::{self, Component, REVISION_ANNOTATION},
};
use crate::{packed, run::saved::Saved};

/// The key of the resolved document.
pub const ASSIGNMENT_KEY: &str = "assignment.json";
/// The key of the Fleet's own specification, for an undo.
pub const SPEC_KEY: &str = "spec.json";
/// The key of the plan.
pub const PLAN_KEY: &str = "plan.json";
/// The key of the totals.
pub const TOTALS_KEY: &str = "totals.json";
/// The key of what a load test has measured so far.
pub const LOAD_TEST_KEY: &str = "load-test.json.gz";
/// The key of a part of a load test's report.
pub const REPORT_KEY: &str = "report.json.gz";
/// The key of what was measured in a phase.
pub const PHASE_KEY: &str = "phase.json.gz";
/// The most bytes of what is kept compressed, as they come out again.
const UNPACKED_MAX: u64 = 64 << 20;
/// The key that says whether a broker of the fleet's own admits clients without credentials: `true` or `false`.
pub const ANONYMOUS_KEY: &str = "anonymous";

/// The immutable ConfigMap of a document; its name tells its contents.
pub fn document(owner: &Owner, hash: &str, revision: u64, assignment: &str, spec: &str) -> ConfigMap {
    let mut metadata = owner.metadata(names::document(&owner.name, hash), Component::Worker);
    metadata.annotations = Some(BTreeMap::from([(REVISION_ANNOTATION.into(), revision.to_string())]));
    let data = [(ASSIGNMENT_KEY.into(), assignment.into()), (SPEC_KEY.into(), spec.into())];
    ConfigMap { metadata, data: Some(data.into()), immutable: Some(true), ..ConfigMap::default() }
}

/// The number of a document's ConfigMap in the history; `None` for any other ConfigMap.
pub fn revision(config_map: &ConfigMap) -> Option<u64> {
    config_map.annotations().get(REVISION_ANNOTATION)?.parse().ok()
}

/// The ConfigMap of a plan; with `resource_version` only as the successor of what was read there.
pub fn plan(owner: &Owner, plan: &Plan, resource_version: Option<String>) -> ConfigMap {
    let text = serde_json::to_string(plan).expect("a plan is a value of JSON");
    single(owner, names::plan(&owner.name), PLAN_KEY, text, resource_version)
}

/// The plan in a ConfigMap.
///
/// # Errors
///
/// When there is none that this release can read.
pub fn read_plan(config_map: &ConfigMap) -> Result<Plan, Unreadable> {
    read(config_map, PLAN_KEY)
}

/// The ConfigMap of totals, without the phases that are over, which have [`phase`]; with `resource_version` only as the
/// successor of what was read there.
pub fn totals(owner: &Owner, ended: &Ended, resource_version: Option<String>) -> ConfigMap {
    let mut ended = ended.clone();
    let open = ended.stats.phases.split_off(&ended.phases_kept);
    ended.phases_apart = std::mem::replace(&mut ended.stats.phases, open).into_keys().collect();
    let text = serde_json::to_string(&ended).expect("statistics are a value of JSON");
    single(owner, names::totals(&owner.name), TOTALS_KEY, text, resource_version)
}

/// How much of a ConfigMap the packed figures of a phase may take, in bytes. With what Base64 adds the API server takes twice as
/// much, and keeps the whole object for each version of it.
const PHASE_MAX: usize = 512 << 10;

/// What was measured in a phase, as it is kept.
#[derive(Serialize)]
struct KeptPhase<'a> {
    /// From which format on it is understood. Who wrote before it was told left it out.
    format: Format,
    #[serde(flatten)]
    stats: &'a PhaseStats,
}

/// The ConfigMap with what was measured in a phase that is over, where that would be too large with the times of a group's streams
/// together; with `resource_version` only as the successor of what was read
/// there.
pub fn phase(owner: &Owner, number: u32, stats: &PhaseStats, resource_version: Option<String>) -> ConfigMap {
    let mut metadata = owner.metadata(names::phase(&owner.name, number), Component::Worker);
    metadata.resource_version = resource_version;
    let pack = |stats: &PhaseStats| {
        let kept = KeptPhase { format: Format::SECOND, stats };
        packed::pack(&serde_json::to_vec(&kept).expect("statistics are a value of JSON"))
    };
    let mut packed = pack(stats);
    if packed.len() > PHASE_MAX {
        packed = pack(&PhaseStats { groups: stats.groups.clone().with_times_folded(), latency: stats.latency.clone() });
    }
    let data = [(PHASE_KEY.into(), ByteString(packed))];
    ConfigMap { metadata, binary_data: Some(data.into()), ..ConfigMap::default() }
}

/// What was measured in a phase.
///
/// # Errors
///
/// When it is not there, or nothing that this release can read.
pub fn read_phase(config_map: &ConfigMap) -> Result<PhaseStats, Unreadable> {
    format::read(&unpacked(config_map, PHASE_KEY)?)
}

/// The totals in a ConfigMap; those of phases that are kept apart are not among them.
///
/// # Errors
///
/// When there are none that this release can read.
pub fn read_totals(config_map: &ConfigMap) -> Result<Ended, Unreadable> {
    read(config_map, TOTALS_KEY)
}

fn read<T: DeserializeOwned>(config_map: &ConfigMap, key: &str) -> Result<T, Unreadable> {
    let text = config_map.data.as_ref().and_then(|data| data.get(key));
    format::read(text.map_or("", String::as_str).as_bytes())
}

/// The ConfigMap with what a load test has measured so far; with `resource_version` only as the successor of what was read
/// there.
pub fn load_test(owner: &Owner, fleet: &str, saved: &Saved, resource_version: Option<String>) -> ConfigMap {
    let mut metadata = owner.metadata_of_test(names::load_test(&owner.name), fleet);
    metadata.resource_version = resource_version;
    let text = serde_json::to_vec(saved).expect("a run is a value of JSON");
    let data = [(LOAD_TEST_KEY.into(), ByteString(packed::pack(&text)))];
    ConfigMap { metadata, binary_data: Some(data.into()), ..ConfigMap::default() }
}

/// What a load test has measured so far.
///
/// # Errors
///
/// When it is not there, or nothing that this release can read.
pub fn read_load_test(config_map: &ConfigMap) -> Result<Saved, Unreadable> {
    format::read(&unpacked(config_map, LOAD_TEST_KEY)?)
}

fn unpacked(config_map: &ConfigMap, key: &str) -> Result<Vec<u8>, Unreadable> {
    let bytes = config_map.binary_data.as_ref().and_then(|data| data.get(key));
    let text = packed::unpack(bytes.map_or(&[], |bytes| &bytes.0), UNPACKED_MAX);
    Ok(text.map_err(serde_json::Error::custom)?)
}

/// The immutable ConfigMap with a part of the report of a load test.
pub fn report(owner: &Owner, fleet: &str, part: usize, bytes: &[u8]) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata_of_test(names::report(&owner.name, part), fleet),
        binary_data: Some([(REPORT_KEY.to_owned(), ByteString(bytes.to_vec()))].into()),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// The part of a report in a ConfigMap.
pub fn read_report(config_map: &ConfigMap) -> Option<&[u8]> {
    config_map.binary_data.as_ref()?.get(REPORT_KEY).map(|bytes| bytes.0.as_slice())
}

/// The ConfigMap that says whether a broker of the fleet's own admits clients without credentials. The broker reads it
/// again when it changes.
pub fn access(owner: &Owner, is_open: bool) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(names::broker(&owner.name), Component::Broker),
        data: Some([(ANONYMOUS_KEY.to_owned(), is_open.to_string())].into()),
        ..ConfigMap::default()
    }
}

fn single(owner: &Owner, name: String, key: &str, text: String, resource_version: Option<String>) -> ConfigMap {
    let mut metadata = owner.metadata(name, Component::Worker);
    metadata.resource_version = resource_version;
    ConfigMap { metadata, data: Some(BTreeMap::from([(key.into(), text)])), ..ConfigMap::default() }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{fleet::Qos, series::SERIES_MAX, stats::StreamStats, units::Span};

    use super::*;
    use crate::resource::fixture;

    #[test]
    fn a_phase_of_the_most_streams_fits_with_its_times_by_group() {
        let mut stats = PhaseStats::default();
        for number in 0..SERIES_MAX as u64 {
            let mut stream = StreamStats::of(Qos::AtLeastOnce);
            stream.messages.sent = 1_000 + number;
            (1..1_500).for_each(|place| {
                stream.latency.end_to_end.record(Span((place * place * (number % 97 + 3)) % 900_000));
            });
            stats.groups.add(if number % 2 == 0 { "cars" } else { "vans" }, &format!("stream-{number}"), &stream);
        }
        let kept = phase(&fixture::owner(), 3, &stats, None);
        let size = kept.binary_data.as_ref().unwrap()[PHASE_KEY].0.len();
        assert!(size <= PHASE_MAX, "{size} bytes");
        let read = read_phase(&kept).unwrap();
        let (all, times) = stats.total();
        assert_eq!(read.total(), (all, times));
        let of = |stats: &PhaseStats, name: &str| {
            let found =
                stats.groups.streams().find(|(_, stream, _)| *stream == name).map(|(_, _, found)| found.clone());
            found.unwrap()
        };
        assert_eq!(of(&read, "stream-7").messages, of(&stats, "stream-7").messages);
        assert_eq!(of(&read, "stream-7").latency.end_to_end.count(), 0, "it is among those of its group");
        // One with few streams keeps the times of each.
        let mut few = PhaseStats::default();
        few.groups.add("cars", "stream-7", &of(&stats, "stream-7"));
        assert_eq!(read_phase(&phase(&fixture::owner(), 3, &few, None)).unwrap(), few);
    }

    /// All of its fields have defaults, so that a text of other fields would read as a phase in which nothing was sent.
    #[test]
    fn a_phase_tells_its_format_and_one_of_a_newer_release_is_not_read_as_zeros() {
        let mut stats = PhaseStats::default();
        let mut stream = StreamStats::of(Qos::AtLeastOnce);
        stream.messages.sent = 7;
        stats.groups.add("cars", "state", &stream);
        let kept = |text: &str| ConfigMap {
            binary_data: Some([(PHASE_KEY.to_owned(), ByteString(packed::pack(text.as_bytes())))].into()),
            ..ConfigMap::default()
        };
        let written = unpacked(&phase(&fixture::owner(), 3, &stats, None), PHASE_KEY).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written["format"], 2);
        assert_eq!(read_phase(&kept(&written.to_string())).unwrap(), stats);
        let without = serde_json::to_string(&stats).unwrap();
        assert!(!without.contains("format"), "{without}");
        assert_eq!(read_phase(&kept(&without)).unwrap(), stats);
        let error = read_phase(&kept(r#"{"format": 99, "streams": []}"#)).unwrap_err();
        assert!(matches!(error, Unreadable::Newer { .. }), "{error}");
    }
}
