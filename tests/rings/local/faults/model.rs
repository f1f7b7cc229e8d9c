//! Faults that streams have by themselves: the tests' broker counts what the report says, and nobody is blamed for it.

use std::collections::{BTreeMap, BTreeSet};

use fleet_contract::time::Micros;
use serde_json::Value;
use tests::{
    run::{Ended, Run},
    simctl::Simctl,
};

use super::{
    DEVICES, PATIENCE,
    witness::{Note, PASSWORD, Said, Transport, Witness},
    write,
};

/// The streams of which only the faults differ, with the time between two messages in milliseconds and their faults.
const STREAMS: [(&str, u64, &str); 6] = [
    ("spoilt", 50, "{kind: corrupt, how: truncation, messages: 10%}"),
    ("twice", 50, "{kind: duplicate, messages: 5%}"),
    ("old", 50, "{kind: stale, messages: 20%, age: 1h}"),
    ("stops", 50, "{kind: silence, every: 2s, lasts: 500ms}"),
    ("sticks", 50, "{kind: silence, every: 2s, lasts: 500ms, how: sticks}"),
    ("floods", 1_000, "{kind: flood, every: 2s, lasts: 300ms, interval: 10ms}"),
];

fn document(broker: &str, observe: &str) -> String {
    let streams = STREAMS.map(|(name, millis, fault)| {
        format!(
            "        {name}: {{topic: '{{fleet}}/{{index}}/{name}', interval: {millis}ms, qos: 1, payload: {{json: {{x: '{{x}}', at: \
             '{{timestamp:us}}'}}}}, faults: [{fault}]}}\n"
        )
    });
    format!(
        "apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: odd}}
spec:
  devices: {DEVICES}
  lossAfter: 2s
  observe: {observe}
{broker}  connect: {{rate: 1000/s, inFlight: 200}}
  groups: [{{name: all, model: odd}}]
  models:
    odd:
      signals: {{x: {{kind: counter, rate: 1, decimals: 6}}}}
      streams:
{}",
        streams.concat()
    )
}

/// What the broker heard of a stream, by device: when a message was due, if it still says so, and its payload.
type Heard = BTreeMap<u32, Vec<(Option<Micros>, String)>>;

fn heard(notes: &[Note], stream: &str) -> Heard {
    let mut heard = Heard::new();
    for note in notes {
        if let Said::Message { topic, due, payload } = &note.said
            && topic.ends_with(&format!("/{stream}"))
        {
            heard.entry(note.device).or_default().push((*due, payload.clone()));
        }
    }
    heard
}

fn json(payload: &str) -> Option<Value> {
    serde_json::from_str(payload).ok()
}

fn dues(messages: &[(Option<Micros>, String)]) -> Vec<u64> {
    messages.iter().filter_map(|(due, _)| Some((*due)?.0)).collect()
}

/// What faults did to the messages of a stream, by the report.
fn told(ended: &Ended, stream: &str, what: &str) -> u64 {
    let faults = ended.report.list("model_faults");
    let found = faults.iter().find(|figures| figures["stream"] == stream);
    found.and_then(|figures| figures[what].as_u64()).unwrap_or_else(|| panic!("{stream}: {faults:?}"))
}

fn sent(ended: &Ended, stream: &str) -> u64 {
    ended.report.count(&format!("groups.all.streams.{stream}.sent"))
}

/// A count is within four standard deviations of a share.
#[track_caller]
fn check_share(name: &str, found: u64, of: u64, share: f64) {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let (found, of) = (found as f64, of as f64);
    let deviation = (of * share * (1.0 - share)).sqrt();
    println!("FIGURE {name}: {found} of {of}, {:.1} deviations off", (found - of * share) / deviation);
    assert!((found - of * share).abs() < 4.0 * deviation, "{name}: {found} of {of}");
}

/// How many of the dues of a device lie beside the one grid of its timetable.
fn beside_the_grid(dues: &[u64], interval: u64) -> u64 {
    let mut by_place = BTreeMap::<u64, u64>::new();
    dues.iter().for_each(|due| *by_place.entry(due % interval).or_default() += 1);
    dues.len() as u64 - by_place.into_values().max().unwrap_or_default()
}

/// How many messages a timetable without a gap would have had more.
fn left_out(dues: &[u64], interval: u64) -> u64 {
    let (Some(first), Some(last)) = (dues.iter().min(), dues.iter().max()) else { return 0 };
    (last - first) / interval + 1 - dues.len() as u64
}

#[test]
fn the_broker_counts_what_the_report_says() {
    let simctl = Simctl::new().unwrap();
    let witness = Witness::start(Transport::Tcp, simctl.dir());
    let broker =
        format!("  broker: {{url: '{}', credentials: {{username: fleet, passwordFile: password}}}}\n", witness.url());
    write(&simctl.dir().join("odd.yaml"), &document(&broker, "none"));
    write(&simctl.dir().join("password"), PASSWORD);
    let args = ["-f", "odd.yaml", "--duration", "8s", "--devices-per-worker", "12"];
    let ended = Run::start_at(simctl, &args).unwrap().end(PATIENCE).unwrap();
    let report = &ended.report;
    report.claim("the books are right", !report.has_reason("conservation") && !report.has_reason("unsettled"));
    report.claim("no fault of a model has to do anything", !report.has_reason("fault_without_effect"));
    let notes = witness.notes();
    let of = |stream: &str| heard(&notes, stream);
    let sum = |heard: &Heard, count: &dyn Fn(&[(Option<Micros>, String)]) -> u64| {
        heard.values().map(|messages| count(messages)).sum::<u64>()
    };
    for (stream, ..) in STREAMS {
        assert_eq!(sum(&of(stream), &|messages| messages.len() as u64), sent(&ended, stream), "{stream}");
    }

    let broken =
        sum(&of("spoilt"), &|messages| messages.iter().filter(|(_, body)| json(body).is_none()).count() as u64);
    assert_eq!(broken, told(&ended, "spoilt", "corrupt"));
    check_share("corrupt", broken, sent(&ended, "spoilt"), 0.1);

    let again = sum(&of("twice"), &|messages| {
        let distinct: BTreeSet<&String> = messages.iter().map(|(_, body)| body).collect();
        (messages.len() - distinct.len()) as u64
    });
    assert_eq!(again, told(&ended, "twice", "duplicate"));
    check_share("duplicate", again, sent(&ended, "twice") - again, 0.05);

    let is_old = |(due, body): &&(Option<Micros>, String)| {
        let at = json(body).and_then(|body| body["at"].as_u64()).unwrap();
        due.unwrap().0 - at == 3_600_000_000
    };
    let old = sum(&of("old"), &|messages| messages.iter().filter(is_old).count() as u64);
    assert_eq!(old, told(&ended, "old", "stale"));
    check_share("stale", old, sent(&ended, "old"), 0.2);

    // What was left out before the first and after the last message has no neighbours: at most an episode at each end.
    let silent = sum(&of("stops"), &|messages| left_out(&dues(messages), 50_000));
    let told_silent = told(&ended, "stops", "silent");
    println!("FIGURE silence: {silent} missing between others, {told_silent} told");
    assert!((silent..=silent + 20 * u64::from(DEVICES)).contains(&told_silent) && silent > 500);

    // Of an episode that the end of the run has cut to one message nothing is told twice.
    let stuck = sum(&of("sticks"), &|messages| {
        let values: Vec<Value> = messages.iter().map(|(_, body)| json(body).unwrap()["x"].clone()).collect();
        values.chunk_by(|one, next| one == next).map(|run| if run.len() > 1 { run.len() as u64 } else { 0 }).sum()
    });
    let told_stuck = told(&ended, "sticks", "stuck");
    println!("FIGURE sticks: {stuck} repeated, {told_stuck} told");
    assert!((stuck..=stuck + 2 * u64::from(DEVICES)).contains(&told_stuck) && stuck > 500);
    let is_present =
        |(due, body): &(Option<Micros>, String)| json(body).unwrap()["at"].as_u64() == due.map(|due| due.0);
    assert!(of("sticks").values().flatten().all(is_present), "a sensor that sticks has a clock that goes");

    let flood = sum(&of("floods"), &|messages| beside_the_grid(&dues(messages), 1_000_000));
    assert_eq!(flood, told(&ended, "floods", "flood"));
    // 30 messages each two seconds of eight.
    assert!(flood.abs_diff(120 * u64::from(DEVICES)) < 40 * u64::from(DEVICES), "{flood}");
}

#[test]
fn a_broker_is_blamed_for_nothing_that_a_model_does() {
    let simctl = Simctl::new().unwrap();
    write(&simctl.dir().join("odd.yaml"), &document("", "all"));
    let args = ["-f", "odd.yaml", "--duration", "5s", "--threshold", "lost == 0", "--threshold", "duplicated == 0"];
    let ended = Run::start_at(simctl, &args).unwrap().end(PATIENCE).unwrap();
    let report = &ended.report;
    report.expect_conservation();
    assert!(report.list("thresholds").iter().all(|it| it["outcome"] == "passed"), "{report}");
    report.expect("observer.changed", 0);
    let on_purpose = told(&ended, "spoilt", "corrupt")
        + 2 * told(&ended, "twice", "duplicate")
        + told(&ended, "old", "stale")
        + told(&ended, "sticks", "stuck");
    report.expect("messages.unobserved", on_purpose);
    report.claim("most is delivered", report.count("messages.delivered") > 5 * on_purpose);
    ended.expect_passed();
}
