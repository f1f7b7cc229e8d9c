//! The ConfigMaps of a fleet: what its devices are (one for each revision), what they do (the plan), and what ended
//! epochs have measured (the totals, and one for each phase that is over); and whom a broker of its own admits. Those of a load
//! test: what it has measured so far, and its report.

use std::collections::BTreeMap;

use fleet_contract::{
    format::{self, Format, Unreadable},
    load_test::Criterion,
    plan::Plan,
    stats::{Ended, Faults, Groups, ModelFaults, PhaseStats, Stats},
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
/// The key of the totals where they are packed.
pub const PACKED_TOTALS_KEY: &str = "totals.json.gz";
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

/// How large totals may be as plain text, in bytes; larger ones are packed. Those of most fleets are smaller, so that the previous
/// release reads them whole.
const PLAIN_MAX: usize = 256 << 10;

/// How much of a ConfigMap packed figures may take, in bytes. With what Base64 adds the API server takes twice as much, and keeps the
/// whole object for each version of it.
const PACKED_MAX: usize = 512 << 10;

/// How the times of streams are kept, the first where that is not too large: each stream's own, those of a group together, all
/// together. A threshold finds nothing in times that stand with others, so the streams and groups that one names stay apart, unless
/// their times alone are too large.
const FOLDINGS: [fn(Groups, &[Criterion]) -> Groups; 4] = [
    |groups, _| groups,
    |groups, thresholds| groups.with_times_folded(|group, stream| names_stream(thresholds, group, stream)),
    |groups, thresholds| {
        let by_group = groups.with_times_folded(|group, stream| names_stream(thresholds, group, stream));
        by_group.with_times_in_one_group(|group, stream| {
            names_group(thresholds, group) || names_stream(thresholds, group, stream)
        })
    },
    |groups, _| groups.with_times_in_one_group(|_, _| false),
];

/// Whether a threshold is about this stream and no other one of its group.
fn names_stream(thresholds: &[Criterion], group: &str, stream: &str) -> bool {
    let is_meant = |it: &Criterion| it.group.as_deref().is_none_or(|named| named == group);
    thresholds.iter().any(|it| it.stream.as_deref() == Some(stream) && is_meant(it))
}

/// Whether a threshold is about all streams of this group.
fn names_group(thresholds: &[Criterion], group: &str) -> bool {
    thresholds.iter().any(|it| it.stream.is_none() && it.group.as_deref() == Some(group))
}

/// The ConfigMap of totals, without the phases that are over, which have [`phase`]; with `resource_version` only as the
/// successor of what was read there. Streams that `thresholds` name keep times of their own.
///
/// Large ones are packed. Beside them stands as text what release 0.1 knows of totals, which takes it for all that there is, rightly;
/// by its format a later one that knows nothing of packed totals refuses it, and stops the fleet.
pub fn totals(owner: &Owner, ended: &Ended, thresholds: &[Criterion], resource_version: Option<String>) -> ConfigMap {
    let mut ended = ended.clone();
    let open = ended.stats.phases.split_off(&ended.phases_kept);
    ended.phases_apart = std::mem::replace(&mut ended.stats.phases, open).into_keys().collect();
    let text = |ended: &Ended| serde_json::to_string(ended).expect("statistics are a value of JSON");
    let object = |text: String| single(owner, names::totals(&owner.name), TOTALS_KEY, text, resource_version);
    let whole = text(&ended);
    if whole.len() <= PLAIN_MAX {
        return object(whole);
    }
    let packed = fitting(thresholds, |fold| {
        let mut folded = ended.clone();
        let of_phases = folded.stats.phases.values_mut().map(|phase| &mut phase.groups);
        for groups in of_phases.chain([&mut folded.stats.groups]) {
            *groups = fold(std::mem::take(groups));
        }
        folded
    });
    let stats = Stats {
        groups: Groups::default(),
        phases: BTreeMap::new(),
        faults: Faults::default(),
        model_faults: ModelFaults::default(),
        ..ended.stats
    };
    let sums = text(&Ended { format: Format::FOURTH, stats, ..ended });
    let data = [(PACKED_TOTALS_KEY.to_owned(), ByteString(packed))];
    ConfigMap { binary_data: Some(data.into()), ..object(sums) }
}

/// Figures, packed, with the times of their streams folded as far as need be.
fn fitting<T: Serialize>(thresholds: &[Criterion], folded: impl Fn(&dyn Fn(Groups) -> Groups) -> T) -> Vec<u8> {
    let mut packed = Vec::new();
    for fold in FOLDINGS {
        let figures = folded(&|groups| fold(groups, thresholds));
        packed = packed::pack(&serde_json::to_vec(&figures).expect("statistics are a value of JSON"));
        if packed.len() <= PACKED_MAX {
            break;
        }
    }
    packed
}

/// What was measured in a phase, as it is kept.
#[derive(Serialize)]
struct KeptPhase {
    /// From which format on it is understood. Who wrote before it was told left it out.
    format: Format,
    #[serde(flatten)]
    stats: PhaseStats,
}

/// The ConfigMap with what was measured in a phase that is over; with `resource_version` only as the successor of what was read
/// there. Streams that `thresholds` name keep times of their own.
pub fn phase(
    owner: &Owner,
    number: u32,
    stats: &PhaseStats,
    thresholds: &[Criterion],
    resource_version: Option<String>,
) -> ConfigMap {
    let mut metadata = owner.metadata(names::phase(&owner.name, number), Component::Worker);
    metadata.resource_version = resource_version;
    let packed = fitting(thresholds, |fold| {
        let stats = PhaseStats { groups: fold(stats.groups.clone()), latency: stats.latency.clone() };
        KeptPhase { format: Format::SECOND, stats }
    });
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

/// The totals in a ConfigMap, packed or not; those of phases that are kept apart are not among them.
///
/// # Errors
///
/// When there are none that this release can read, or less than all of them.
pub fn read_totals(config_map: &ConfigMap) -> Result<Ended, Unreadable> {
    if config_map.binary_data.as_ref().is_some_and(|data| data.contains_key(PACKED_TOTALS_KEY)) {
        return format::read(&unpacked(config_map, PACKED_TOTALS_KEY)?);
    }
    let ended: Ended = read(config_map, TOTALS_KEY)?;
    if ended.format == Format::FOURTH {
        let missing = format!("expected {PACKED_TOTALS_KEY} beside {TOTALS_KEY}, found none");
        return Err(serde_json::Error::custom(missing).into());
    }
    Ok(ended)
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
    use fleet_contract::{
        fleet::Qos,
        series::{FOLDED, FOLDED_GROUP, SERIES_MAX},
        stats::{Latency, StreamStats},
        units::Span,
    };

    use super::*;
    use crate::resource::fixture;

    /// A stream with many times.
    fn stream(number: u64) -> StreamStats {
        let mut stream = StreamStats::of(Qos::AtLeastOnce);
        stream.messages.sent = 1_000 + number;
        (1..1_500).for_each(|place| {
            stream.latency.end_to_end.record(Span((place * place * (number % 97 + 3)) % 900_000));
        });
        stream
    }

    /// The totals of a worker with so many streams, of which a phase is open.
    fn ended(streams: u64) -> Ended {
        let mut ended = Ended { workers_lost: 1, ..Ended::default() };
        for number in 0..streams {
            let group = if number % 2 == 0 { "cars" } else { "vans" };
            let (name, counted) = (format!("stream-{number}"), stream(number));
            ended.stats.add_stream(group, &name, &counted);
            ended.stats.phases.entry(0).or_default().groups.add(group, &name, &counted);
        }
        ended
    }

    fn packed_size(object: &ConfigMap, key: &str) -> Option<usize> {
        Some(object.binary_data.as_ref()?[key].0.len())
    }

    #[test]
    fn totals_are_plain_text_unless_they_are_large_and_come_back_as_they_were() {
        let few = ended(3);
        let plain = totals(&fixture::owner(), &few, &[], None);
        assert!(plain.binary_data.is_none() && plain.data.as_ref().unwrap()[TOTALS_KEY].len() <= PLAIN_MAX);
        assert_eq!(read_totals(&plain).unwrap(), few);
        let many = ended(60);
        let packed = totals(&fixture::owner(), &many, &[], Some("7".into()));
        assert!(packed_size(&packed, PACKED_TOTALS_KEY).unwrap() <= PACKED_MAX);
        assert_eq!((read_totals(&packed).unwrap(), packed.resource_version()), (many.clone(), Some("7".into())));
        // Release 0.1 reads the text alone, and finds all that it knows.
        let text: Ended = serde_json::from_str(&packed.data.as_ref().unwrap()[TOTALS_KEY]).unwrap();
        assert_eq!((text.stats.messages, &text.stats.latency), (many.stats.messages, &many.stats.latency));
        assert_eq!((text.workers_lost, text.format), (1, Format::FOURTH));
        // Who knows streams is not to take it for all that there is.
        let cut = read_totals(&ConfigMap { binary_data: None, ..packed }).unwrap_err().to_string();
        assert_eq!(cut, "expected totals.json.gz beside totals.json, found none");
    }

    #[test]
    fn totals_of_hundreds_of_streams_fit_with_their_times_by_group() {
        let all = ended(400);
        let kept = totals(&fixture::owner(), &all, &[], None);
        let (text, packed) =
            (kept.data.as_ref().unwrap()[TOTALS_KEY].len(), packed_size(&kept, PACKED_TOTALS_KEY).unwrap());
        assert!(text <= PLAIN_MAX && packed <= PACKED_MAX, "{text} and {packed} bytes");
        let read = read_totals(&kept).unwrap();
        assert_eq!((read.stats.messages, &read.stats.latency), (all.stats.messages, &all.stats.latency));
        assert_eq!(read.stats.phases[&0].total(), all.stats.phases[&0].total());
        let sent = |ended: &Ended| ended.stats.groups.streams().map(|(_, _, it)| it.messages.sent).collect::<Vec<_>>();
        let found: Vec<_> = sent(&read).into_iter().filter(|sent| *sent > 0).collect();
        assert_eq!(found, sent(&all), "what was counted stays with its stream");
    }

    /// A phase of so many groups that their times do not fit one by one.
    fn of_many_groups() -> PhaseStats {
        let (mut stats, mut any) = (PhaseStats::default(), 1_u64);
        for number in 0..255 {
            let mut counted = StreamStats::of(Qos::AtLeastOnce);
            for _ in 0..4_000 {
                // No two groups have the same times, and few times are near each other.
                any = any.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                counted.messages.sent += 1;
                counted.latency.end_to_end.record(Span((any >> 33) >> ((any >> 20) & 15)));
            }
            stats.groups.add(&format!("group-{number}"), "state", &counted);
        }
        stats
    }

    #[test]
    fn a_phase_of_many_groups_fits_with_all_times_together() {
        let stats = of_many_groups();
        let kept = phase(&fixture::owner(), 3, &stats, &[], None);
        let size = packed_size(&kept, PHASE_KEY).unwrap();
        assert!(size <= PACKED_MAX, "{size} bytes");
        let read = read_phase(&kept).unwrap();
        assert_eq!(read.total(), stats.total());
        let timed: Vec<_> = read.groups.streams().filter(|(_, _, it)| !it.latency.end_to_end.is_empty()).collect();
        assert_eq!(
            timed.iter().map(|(group, name, _)| (*group, *name)).collect::<Vec<_>>(),
            [(FOLDED_GROUP, FOLDED[1])]
        );
    }

    fn thresholds(texts: &[&str]) -> Vec<Criterion> {
        texts.iter().map(|text| serde_saphyr::from_str(text).unwrap()).collect()
    }

    /// The times of a stream that a reader finds.
    fn times<'a>(groups: &'a Groups, group: &str, stream: &str) -> &'a Latency {
        let mut streams = groups.streams();
        &streams.find(|(its, name, _)| (*its, *name) == (group, stream)).unwrap().2.latency.end_to_end
    }

    #[test]
    fn a_stream_that_a_threshold_names_keeps_its_times_where_those_of_others_stand_together() {
        let all = ended(SERIES_MAX as u64);
        let named = thresholds(&[
            "{expect: end_to_end.p99 < 250ms, stream: stream-7}",
            "{expect: end_to_end.p99 < 250ms, group: cars, stream: stream-8}",
            "{expect: end_to_end.p99 < 250ms, group: cars, stream: stream-9}",
        ]);
        let stats = &all.stats.phases[&0];
        let kept_phase = phase(&fixture::owner(), 3, stats, &named, None);
        let kept_totals = totals(&fixture::owner(), &all, &named, None);
        let sizes = (packed_size(&kept_phase, PHASE_KEY), packed_size(&kept_totals, PACKED_TOTALS_KEY));
        assert!(sizes.0.unwrap() <= PACKED_MAX && sizes.1.unwrap() <= PACKED_MAX, "{sizes:?} bytes");
        let of_totals = read_totals(&kept_totals).unwrap().stats.phases.remove(&0).unwrap();
        for read in [read_phase(&kept_phase).unwrap(), of_totals] {
            for (group, stream) in [("vans", "stream-7"), ("cars", "stream-8")] {
                assert_eq!(times(&read.groups, group, stream), times(&stats.groups, group, stream), "{group} {stream}");
            }
            // There is no such one among the cars.
            assert!(times(&read.groups, "vans", "stream-9").is_empty());
            assert_eq!(read.total(), stats.total());
        }
    }

    #[test]
    fn a_group_that_a_threshold_names_keeps_its_times_where_those_of_others_stand_together() {
        let stats = of_many_groups();
        let named = thresholds(&["{expect: end_to_end.p99 < 250ms, group: group-7}"]);
        let kept = phase(&fixture::owner(), 3, &stats, &named, None);
        assert!(packed_size(&kept, PHASE_KEY).unwrap() <= PACKED_MAX);
        let read = read_phase(&kept).unwrap();
        assert_eq!(read.total(), stats.total());
        assert_eq!(times(&read.groups, "group-7", FOLDED[1]), times(&stats.groups, "group-7", "state"));
        // What is too large by itself cannot stay apart.
        let each: Vec<_> =
            (0..255).map(|number| format!("{{expect: end_to_end.p99 < 250ms, group: group-{number}}}")).collect();
        let named = thresholds(&each.iter().map(String::as_str).collect::<Vec<_>>());
        let kept = phase(&fixture::owner(), 3, &stats, &named, None);
        assert!(packed_size(&kept, PHASE_KEY).unwrap() <= PACKED_MAX);
    }

    #[test]
    fn a_phase_of_the_most_streams_fits_with_its_times_by_group() {
        let mut stats = PhaseStats::default();
        for number in 0..SERIES_MAX as u64 {
            let group = if number % 2 == 0 { "cars" } else { "vans" };
            stats.groups.add(group, &format!("stream-{number}"), &stream(number));
        }
        let kept = phase(&fixture::owner(), 3, &stats, &[], None);
        let size = packed_size(&kept, PHASE_KEY).unwrap();
        assert!(size <= PACKED_MAX, "{size} bytes");
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
        assert_eq!(read_phase(&phase(&fixture::owner(), 3, &few, &[], None)).unwrap(), few);
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
        let written = unpacked(&phase(&fixture::owner(), 3, &stats, &[], None), PHASE_KEY).unwrap();
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
