//! Faults that streams have by themselves, on virtual time: what was done is what the model alone says, to the message.

use fleet_contract::{
    plan::Setting,
    stamp::Stamp,
    stats::{ModelFaultCounts, Stats},
    time::Micros,
    units::{Share, Span},
};

use super::{START, Stage, faults};
use crate::{
    fault::{self, Cause, How},
    index::{DeviceIndex, GroupIndex, StreamIndex},
    model::{Scratch, Seen},
    sample::sample,
};

const DEVICES: u32 = 40;

const FAULTY: &str = r#"
signals: {x: {kind: counter, rate: 1}, busy: {kind: step, levels: [{value: true, hold: 1s}, {value: false, hold: 1s}]}}
streams:
  one:
    topic: "{fleet}/{index}/one"
    interval: 200ms
    qos: 1
    payload: {json: {x: "{x}"}}
    faults:
      - {kind: corrupt, messages: 10%}
      - {kind: duplicate, messages: 5%}
      - {kind: flood, every: 5s, lasts: 500ms, interval: 7ms}
  two:
    topic: "{fleet}/{index}/two"
    interval: 300ms
    qos: 2
    payload: {json: {x: "{x}", at: "{timestamp}"}}
    faults:
      - {kind: stale, messages: 20%, age: 30s}
      - {kind: silence, every: 4s, lasts: 1s}
      - {kind: silence, every: 3s, lasts: 500ms, how: sticks}
  rule:
    topic: "{fleet}/{index}/rule"
    trigger: {rising: "busy"}
    check: 100ms
    qos: 0
    payload: {json: {x: "{x}"}}
    faults: [{kind: silence, every: 6s, lasts: 3s}, {kind: flood, every: 5s, lasts: 200ms, interval: 30ms}]
  sound: {topic: "{fleet}/{index}/sound", interval: 250ms, qos: 0, payload: {json: {x: "{x}"}}}
"#;

const SPEC: &str = "  connect: {rate: 1000/s, inFlight: 200}\n";

/// When the fleet speaks: all are connected by then.
const SPEAKS: [u64; 2] = [2, 14];

/// A fleet that speaks between two instants; `change` is made to its plan before.
fn speak(change: impl FnOnce(&mut Stage)) -> (Stage, Stats) {
    let mut stage = Stage::of(DEVICES, SPEC, "{name: all, model: m}", &[("m", FAULTY)]);
    let [from, until] = SPEAKS.map(|seconds| START.after(Span::from_secs(seconds)));
    stage.change(|plan, _| {
        plan.set(START, Setting::Paused(true));
        plan.set(from, Setting::Paused(false));
        plan.set(until, Setting::Paused(true));
    });
    change(&mut stage);
    stage.run(Span::from_secs(15));
    let stats = stage.drain();
    (stage, stats)
}

/// What the model alone says of a stream while the fleet speaks: how many messages fall due, by what is done to them.
fn expected(stage: &Stage, index: StreamIndex) -> (u64, ModelFaultCounts) {
    let model = &stage.blueprint.groups[0].model;
    let stream = model.stream(index);
    let [begin, end] = SPEAKS.map(|seconds| START.after(Span::from_secs(seconds)));
    let mut scratch = Scratch::default();
    let (mut said, mut counts) = (0, ModelFaultCounts::default());
    for device in (0..DEVICES).map(DeviceIndex::new) {
        let own = stream.faults(device, START);
        let next = |from: Micros| stream.due_at_or_after(device, START, stream.tick(), from).min(own.flood_due(from));
        let mut due = next(begin);
        while due < end {
            let is_flood = own.flood_due(due) == due;
            let is_due = is_flood || model.is_due(index, device, due, START, &mut scratch);
            if is_due && own.is_silent(due) {
                counts.silent += 1;
            } else if is_due {
                said += 1;
                counts.flood += u64::from(is_flood);
                let stamp = Stamp { run: 0, epoch: START, seq: 0, due };
                let mut payload = |seen: Seen| {
                    let mut payload = Vec::new();
                    model.write_payload_as(index, (device, START), &stamp, &seen, &mut scratch, &mut payload);
                    payload
                };
                // A sensor may stick to what is still true.
                let is_wrong = u64::from(payload(fault::seen(due, own.fates(due))) != payload(Seen::truly(due)));
                for fate in own.fates(due) {
                    match fate.how {
                        How::Corrupt(_) => counts.corrupt += 1,
                        How::Twice => counts.duplicate += 1,
                        How::Old(_) => counts.stale += is_wrong,
                        How::Stuck(_) => counts.stuck += is_wrong,
                        How::Clock(_) => unreachable!("no stream has it by itself"),
                    }
                    assert!(matches!(fate.cause, Cause::Model(_)));
                }
            }
            due = next(due.after(Span(1)));
        }
    }
    (said, counts)
}

fn done(stats: &Stats, stream: &str) -> ModelFaultCounts {
    stats.model_faults.iter().find(|(_, name, _)| *name == stream).map(|(_, _, counts)| *counts).unwrap_or_default()
}

fn sent(stats: &Stats, stream: &str) -> u64 {
    let found = stats.groups.streams().find(|(_, name, _)| *name == stream);
    found.map(|(_, _, stream)| stream.messages.sent).unwrap_or_default()
}

#[test]
fn a_fleet_does_what_its_model_says_to_the_message() {
    let (stage, stats) = speak(|_| {});
    for (index, stream) in stage.blueprint.groups[0].model.indexed_streams() {
        let (name, (said, counts)) = (stream.name(), expected(&stage, index));
        assert_eq!(done(&stats, name), counts, "{name}");
        assert_eq!(sent(&stats, name), said + counts.duplicate, "{name}");
    }
    // What never happened was not tested.
    let total = stats.model_faults.total();
    let ModelFaultCounts { corrupt, duplicate, stale, silent, stuck, flood } = total;
    assert!([corrupt, duplicate, stale, silent, stuck, flood].iter().all(|count| *count > 100), "{total:?}");
    assert_eq!(done(&stats, "sound"), ModelFaultCounts::default());
    let all = stats.all_messages();
    assert_eq!((all.offered, all.withheld, all.unobserved), (all.sent, 0, all.sent), "nobody observes here");
    for messages in &stats.messages[1..] {
        assert_eq!(messages.acknowledged, messages.sent);
    }
    assert!(stats.faults.is_empty() && stats.latency.schedule_lag.quantile(1.0) <= Some(super::LAG_MAX));
}

#[test]
fn shares_are_about_what_was_asked() {
    let (stage, stats) = speak(|_| {});
    let within = |name: &str, found: u64, of: u64, share: f64| {
        let (mean, deviation) = (of as f64 * share, (of as f64 * share * (1.0 - share)).sqrt());
        assert!((found as f64 - mean).abs() < 4.0 * deviation, "{name}: {found} of {of}");
    };
    let (one, _) = expected(&stage, StreamIndex::new(0));
    within("corrupt", done(&stats, "one").corrupt, one, 0.1);
    within("duplicate", done(&stats, "one").duplicate, one, 0.05);
    let two = done(&stats, "two");
    within("stale", two.stale, sent(&stats, "two"), 0.2);
    // Twelve seconds have three or four episodes of each device, and neither share varies as that of single messages does.
    let due = sent(&stats, "two") + two.silent;
    assert!((0.2..0.3).contains(&(two.silent as f64 / due as f64)), "{two:?} of {due}");
    let by_time = u64::from(DEVICES) * 60;
    let flooded = done(&stats, "one").flood;
    assert!(one.abs_diff(by_time + flooded) < 20, "{one}, {by_time} by the timetable, {flooded} by floods");
    // 1.2 seconds of 7 ms in 12.
    assert!(flooded.abs_diff(u64::from(DEVICES) * 171) < u64::from(DEVICES) * 40, "{flooded}");
}

#[test]
fn a_sample_shows_what_is_sent() {
    let (stage, stats) = speak(|_| {});
    let [begin, end] = SPEAKS.map(|seconds| START.after(Span::from_secs(seconds)));
    let model = &stage.blueprint.groups[0].model;
    let mut counts = vec![0; model.streams().len()];
    for sample in sample(model, 0..DEVICES, START, Span::from_secs(SPEAKS[1])).filter(|sample| sample.due >= begin) {
        assert!(sample.due < end);
        counts[sample.stream.place()] += 1;
    }
    for (stream, count) in model.streams().iter().zip(counts) {
        assert_eq!(sent(&stats, stream.name()), count, "{}", stream.name());
    }
}

#[test]
fn a_fault_of_a_load_test_comes_on_top() {
    let (_, alone) = speak(|_| {});
    let (_, both) = speak(|stage| {
        for (number, kind) in [(1, "duplicate"), (2, "stale"), (3, "silence")] {
            let mut fault = serde_json::to_value(faults::fault(kind, Share::ALL, 0)).unwrap();
            fault["stream"] = if kind == "silence" { "sound" } else { "one" }.into();
            let fault = serde_json::from_value(fault).unwrap();
            stage.change(|plan, _| plan.strike(START.after(Span(1)), number, &fault, Span::from_secs(60)));
        }
    });
    assert_eq!((done(&both, "one"), done(&both, "two")), (done(&alone, "one"), done(&alone, "two")));
    let effects = |number| both.faults.get(number).unwrap().effects;
    let first = sent(&alone, "one") - done(&alone, "one").duplicate;
    assert_eq!((effects(1), effects(2), effects(3)), (first, first, sent(&alone, "sound")));
    assert_eq!(sent(&both, "one"), sent(&alone, "one") + first, "what the model doubles comes three times");
    assert_eq!(sent(&both, "sound"), 0);
}

#[test]
fn a_device_of_another_model_pays_nothing() {
    let groups = "{name: odd, share: 50%, model: m}, {name: sound, share: 50%, model: lamp}";
    let mut stage = Stage::of(DEVICES, SPEC, groups, &[("m", FAULTY), ("lamp", super::MODEL)]);
    stage.run(Span::from_secs(2));
    for slot in stage.shard.roster.devices.slots() {
        let device = &stage.shard.roster.devices[slot];
        assert_eq!((device.is_faulty, device.is_hit), (device.group == GroupIndex::new(0), false));
    }
}
