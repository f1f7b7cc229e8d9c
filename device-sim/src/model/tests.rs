use proptest::prelude::*;

use super::*;
use crate::sample::{Sample, sample};
use fleet_contract::builtin;

const START: Micros = Micros(1_700_000_000_000_000);

/// The stream of a model that has one.
const ONLY: StreamIndex = StreamIndex::new(0);

const DEVICE: DeviceIndex = DeviceIndex::new(5);

#[track_caller]
fn document(text: &str) -> document::Model {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn compile(text: &str) -> Model {
    compile_with(&document(text), &BTreeMap::new(), 7)
}

#[track_caller]
fn compile_with(document: &document::Model, overrides: &BTreeMap<String, StreamOverride>, seed: u64) -> Model {
    let client_id = Template::default_client_id();
    let files = Files::new();
    let context = Context { fleet: "lab", group: "all", seed, first_index: 0, client_id: &client_id, files: &files };
    Model::compile(document, overrides, &context).unwrap()
}

fn payload(model: &Model, stream: StreamIndex, device: DeviceIndex, due: Micros) -> String {
    let stamp = Stamp { run: 1, epoch: START, seq: 3, due };
    let mut out = Vec::new();
    model.write_payload(stream, device, START, &stamp, &mut Scratch::default(), &mut out);
    String::from_utf8(out).unwrap()
}

fn seconds(count: u64) -> Micros {
    START.after(Span::from_secs(count))
}

#[test]
fn a_message_has_topic_and_payload() {
    let model = compile(
        r#"
signals:
  level: {kind: constant, value: 4.5}
  wave: {kind: sine, mean: 10, amplitude: 2, period: 1m, spread: 0%}
  twice: {kind: derived, expression: "level * 2 > 8 ? level : 0", decimals: 1}
streams:
  state:
    topic: "{fleet}/{index}/state"
    interval: 1s
    payload: {json: {level: "{level}", wave: "{wave}", twice: "{twice}", who: "{id} says {level:.2}", at: "{timestamp:ms}"}}
"#,
    );
    insta::assert_snapshot!(
        payload(&model, ONLY, DEVICE, seconds(15)),
        @r#"{"level":4.5,"wave":12.00,"twice":4.5,"who":"lab-5 says 4.50","at":1700000015000,"stamp":"00000001-60a24181e4000-00000003-60a24190321c0"}"#
    );
    let mut topic = Vec::new();
    model.write_topic(ONLY, DEVICE, &mut topic);
    assert_eq!(topic, b"lab/5/state");
    assert_eq!(model.recognise(&topic), Some((ONLY, DEVICE)));
    assert_eq!(model.recognise(b"lab/5/other"), None);
    assert_eq!(model.filter(ONLY), "lab/+/state");
}

#[test]
fn a_group_changes_streams_of_its_model() {
    let text = "streams: {a: {topic: '{index}/a', interval: 1s, payload: {json: {}}}}";
    let change =
        StreamOverride { interval: Some(Span::from_secs(5)), qos: Some(Qos::AtLeastOnce), ..Default::default() };
    let model = compile_with(&document(text), &BTreeMap::from([("a".into(), change)]), 7);
    assert_eq!(model.streams()[0].interval(), Some(Span::from_secs(5)));
    assert_eq!(model.streams()[0].qos(), Qos::AtLeastOnce);
}

const EDGE: &str = r#"
signals:
  door: {kind: step, levels: [{value: false, hold: 7s}, {value: true, hold: 4s}]}
  level: {kind: sine, mean: 0, amplitude: 10, period: 1m, spread: 0%}
streams:
  opened: {topic: "{index}/opened", trigger: {rising: door}, payload: {json: {}}}
  closed: {topic: "{index}/closed", trigger: {falling: door}, payload: {json: {}}}
  moved: {topic: "{index}/moved", trigger: {change: {signal: level, by: 5}}, payload: {json: {}}}
  rarely: {topic: "{index}/rarely", trigger: {change: {signal: level}}, atMostEvery: 10s, payload: {json: {}}}
  alive: {topic: "{index}/alive", trigger: {rising: door}, atLeastEvery: 5s, payload: {json: {}}}
"#;

/// Seconds after the start of the messages of a stream within two minutes.
fn sent(model: &Model, name: &str) -> Vec<u64> {
    let duration = Span::from_secs(120);
    let of = |sample: &Sample| model.stream(sample.stream).name() == name;
    sample(model, 3..4, START, duration).filter(of).map(|sample| sample.due.since(START).0 / 1_000_000).collect()
}

#[test]
fn rules_look_at_two_neighbouring_ticks() {
    let model = compile(EDGE);
    assert_eq!(sent(&model, "opened"), [7, 18, 29, 40, 51, 62, 73, 84, 95, 106, 117]);
    assert_eq!(sent(&model, "closed"), [11, 22, 33, 44, 55, 66, 77, 88, 99, 110]);
    // The first tick, then wherever 10·sin crosses a multiple of 5.
    assert_eq!(sent(&model, "moved"), [0, 5, 25, 30, 35, 55, 60, 65, 85, 90, 95, 115]);
    // Once in each window; the device's own begin three seconds after the first tick.
    assert_eq!(sent(&model, "rarely"), [0, 3, 13, 23, 33, 43, 53, 63, 73, 83, 93, 103, 113]);
    let alive = sent(&model, "alive");
    assert!(alive.windows(2).all(|pair| pair[1] - pair[0] <= 5), "{alive:?}");
    assert!([7, 18, 29].iter().all(|second| alive.contains(second)), "{alive:?}");
}

#[test]
fn heartbeats_and_windows_of_devices_are_spread() {
    let model = compile(EDGE);
    for (name, every) in [("alive", 5), ("rarely", 10)] {
        let mut counts = vec![0; every];
        // The first tick is a change for all of them.
        let (from, duration) = (START.after(Span::from_secs(10)), Span::from_secs(10 + every as u64));
        for sample in sample(&model, 0..400, START, duration) {
            if model.stream(sample.stream).name() == name && sample.due >= from {
                counts[(sample.due.since(START).0 / 1_000_000) as usize % every] += 1;
            }
        }
        let most = counts.iter().max().unwrap();
        assert!(most * every < 3 * counts.iter().sum::<usize>(), "{name}: {counts:?} messages by their second");
    }
}

#[test]
fn samples_come_in_the_order_of_their_due_instants_and_are_the_same_for_any_range() {
    let model = compile(builtin::find("robotaxi").unwrap().document);
    let all: Vec<Sample> = sample(&model, 0..8, START, Span::from_secs(60)).collect();
    assert!(all.windows(2).all(|pair| pair[0].due <= pair[1].due));
    let some: Vec<Sample> = sample(&model, 3..5, START, Span::from_secs(60)).collect();
    let theirs: Vec<&Sample> = all.iter().filter(|sample| (3..5).contains(&sample.device.number())).collect();
    assert_eq!(some.iter().collect::<Vec<_>>(), theirs);
    let state = all.iter().filter(|sample| model.stream(sample.stream).name() == "state");
    assert_eq!(state.count(), 8 * 60);
}

#[test]
fn the_built_in_models_are_sound_and_as_large_as_they_should_be() {
    for (name, stream, smallest, largest) in [
        ("thermometer", "reading", 200, 215),
        ("smart-meter", "reading", 200, 330),
        ("street-light", "telemetry", 120, 180),
        ("e-bike", "telemetry", 170, 230),
        ("robotaxi", "state", 400, 600),
    ] {
        let model = compile(builtin::find(name).unwrap().document);
        let samples: Vec<Sample> = sample(&model, 0..20, START, Span::from_secs(300)).collect();
        assert!(samples.iter().any(|sample| model.stream(sample.stream).name() == stream));
        for sample in samples {
            let json: serde_json::Value = serde_json::from_slice(&sample.payload).unwrap();
            assert_eq!(json["stamp"].as_str().map(str::len), Some(stamp::LENGTH));
            assert_eq!(Stamp::find(&sample.payload).unwrap().due, sample.due);
            assert_eq!(model.recognise(sample.topic.as_bytes()), Some((sample.stream, sample.device)));
            if model.stream(sample.stream).name() == stream {
                let length = sample.payload.len();
                assert!((smallest..=largest).contains(&length), "{name} {length}: {json}");
            }
        }
    }
}

#[test]
fn a_robotaxi_brakes_hard_now_and_then_and_says_so() {
    let model = compile(builtin::find("robotaxi").unwrap().document);
    let events: Vec<Sample> = sample(&model, 0..20, START, Span::from_secs(1800))
        .filter(|sample| model.stream(sample.stream).name() == "event")
        .collect();
    assert!((10..200).contains(&events.len()), "{}", events.len());
    for event in events {
        let json: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        assert!(json["acceleration"].as_f64().unwrap() < -4.0);
        assert_eq!(event.qos, Qos::AtLeastOnce);
    }
}

#[test]
fn an_e_bike_drains_on_rides_and_is_charged_at_the_dock() {
    let model = compile(builtin::find("e-bike").unwrap().document);
    let (mut least, mut most) = (100.0f64, 0.0f64);
    for device in 0..10 {
        let readings: Vec<(String, f64)> = sample(&model, device..device + 1, START, Span::from_secs(6 * 3_600))
            .filter(|sample| model.stream(sample.stream).name() == "telemetry")
            .map(|sample| {
                let json: serde_json::Value = serde_json::from_slice(&sample.payload).unwrap();
                (json["mode"].as_str().unwrap().to_owned(), json["battery"]["charge"].as_f64().unwrap())
            })
            .collect();
        for pair in readings.windows(2) {
            let ((mode, before), (next, after)) = (&pair[0], &pair[1]);
            (least, most) = (least.min(*after), most.max(*after));
            match (mode.as_str(), next.as_str()) {
                ("docked", "docked") => assert!(after >= before, "{before} falls to {after} at the dock"),
                ("riding", "riding") => assert!(after <= before, "{before} rises to {after} on a ride"),
                _ => assert!((after - before).abs() < 0.5, "{before} jumps to {after}"),
            }
        }
    }
    assert!(least < 40.0 && most >= 100.0, "{least} to {most}");
}

#[test]
fn the_expected_load_follows_the_document() {
    let load = compile(builtin::find("thermometer").unwrap().document).load(START);
    assert!((load.messages - 0.1).abs() < 1e-9);
    assert!((load.bytes - 21.8).abs() < 1.0, "{load:?}");
    let load = compile(builtin::find("robotaxi").unwrap().document).load(START);
    assert!((1.03..1.1).contains(&load.messages), "{load:?}");
}

#[test]
fn a_scratch_may_serve_several_models() {
    let text = |value| {
        format!(
            "signals: {{x: {{kind: constant, value: {value}}}}}\nstreams: {{a: {{topic: '{{index}}', interval: 1s, stamp: none, payload: {{json: {{x: '{{x}}'}}}}}}}}"
        )
    };
    let mut scratch = Scratch::default();
    for value in [1, 2] {
        let model = compile(&text(value));
        let mut out = Vec::new();
        let stamp = Stamp { run: 0, epoch: START, seq: 0, due: START };
        model.write_payload(ONLY, DeviceIndex::new(0), START, &stamp, &mut scratch, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{{\"x\":{value}}}"));
    }
}

proptest! {
    #[test]
    fn due_instants_ascend_and_are_found_from_anywhere(
        device: u32,
        interval in 1..100_000_000u64,
        jitter_share in 0.0..=1.0f64,
        after in 0..10_000_000_000u64,
        seed: u64,
    ) {
        let jitter = Span((interval as f64 * jitter_share) as u64);
        let mut document = document("streams: {a: {topic: '{index}', interval: 1s, payload: {json: {}}}}");
        let stream = document.streams.get_mut("a").unwrap();
        stream.interval = Some(Span(interval));
        stream.jitter = jitter;
        let model = compile_with(&document, &BTreeMap::new(), seed);
        let stream = &model.streams()[0];
        let due = |from| stream.due_at_or_after(DeviceIndex::new(device), START, Span(interval), from);

        let first = due(START);
        prop_assert!(first >= START && first.since(START) < Span(2 * interval));
        let mut from = START.after(Span(after));
        let mut before = None;
        for _ in 0..5 {
            let next = due(from);
            prop_assert!(next >= from);
            prop_assert!(next.since(from) <= Span(2 * interval));
            prop_assert_eq!(due(next), next);
            // Nothing lies between: from any instant in the gap the same one comes next.
            prop_assert_eq!(due(Micros(from.0.midpoint(next.0))), next);
            prop_assert!(before.is_none_or(|before| before < next));
            before = Some(next);
            from = next.after(Span(1));
        }
        // Over a long time there is one per interval.
        let span = 100 * interval;
        let mut count = 0;
        let mut at = START.after(Span(2 * interval));
        let end = at.after(Span(span));
        while at < end {
            at = due(at).after(Span(1));
            count += 1;
        }
        prop_assert!((99..=102).contains(&count), "{}", count);
    }

    #[test]
    fn a_message_does_not_depend_on_what_was_asked_before(
        name in prop::sample::select(builtin::ALL.map(|builtin| builtin.name).to_vec()),
        moments in prop::collection::vec((0..50u32, 0..100_000_000_000u64), 1..20),
    ) {
        let model = compile(builtin::find(name).unwrap().document);
        let again = compile(builtin::find(name).unwrap().document);
        let mut scratch = Scratch::default();
        for (device, micros) in moments {
            let (device, due) = (DeviceIndex::new(device), START.after(Span(micros)));
            for (stream, _) in model.indexed_streams() {
                let stamp = Stamp { run: 1, epoch: START, seq: 3, due };
                let mut out = Vec::new();
                let is_due = model.is_due(stream, device, due, START, &mut scratch);
                model.write_payload(stream, device, START, &stamp, &mut scratch, &mut out);
                prop_assert_eq!(String::from_utf8(out).unwrap(), payload(&again, stream, device, due));
                prop_assert_eq!(is_due, again.is_due(stream, device, due, START, &mut Scratch::default()));
            }
        }
    }
}

#[test]
fn the_timetable_of_a_rule_ignores_nothing_between_ticks() {
    let model = compile(EDGE);
    let stream = &model.streams()[0];
    let due = |from| stream.due_at_or_after(DeviceIndex::new(9), START, stream.tick(), from);
    let first = due(START);
    let second = due(first.after(Span(1)));
    assert_eq!(second.since(first), stream.tick());
}

#[test]
fn phases_spread_devices_over_the_interval() {
    let model = compile(builtin::find("thermometer").unwrap().document);
    let stream = &model.streams()[0];
    let mut tenths = [0u32; 10];
    for device in (0..10_000).map(DeviceIndex::new) {
        let phase = stream.phase(device, Span::from_secs(10)).0;
        tenths[usize::try_from(phase / 1_000_000).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|count| count.abs_diff(1_000) < 150), "{tenths:?}");
}

#[test]
fn aligned_devices_send_when_the_wall_clock_says_so() {
    let minutes = |minutes: u64| Span::from_secs(60 * minutes);
    let quarter = minutes(15).0;
    for (interval, expected) in [(15, [15, 15]), (30, [30, 30]), (5, [5, 5])] {
        let text =
            format!("streams: {{a: {{topic: '{{id}}', interval: {interval}m, align: 15m, payload: {{json: {{}}}}}}}}");
        let model = compile(&text);
        let stream = &model.streams()[0];
        let anchor = START.after(minutes(7));
        for device in [0, 1, 999].map(DeviceIndex::new) {
            let mut due = stream.due_at_or_after(device, anchor, stream.tick(), anchor);
            assert!(due.0.is_multiple_of(quarter) && due.since(anchor) < minutes(15), "{due}");
            for minutes_later in expected {
                let next = stream.due_at_or_after(device, anchor, stream.tick(), due.after(Span(1)));
                assert_eq!(next.since(due), minutes(minutes_later));
                due = next;
            }
        }
    }
}

#[test]
fn problems_of_document_and_group_come_together() {
    let document = document("streams: {a: {topic: '{id}', payload: {json: {x: '{nothing}'}}}}");
    let overrides = BTreeMap::from([("b".to_owned(), StreamOverride::default())]);
    let (client_id, files) = (Template::default_client_id(), Files::new());
    let context = Context { fleet: "lab", group: "all", seed: 7, first_index: 0, client_id: &client_id, files: &files };
    let problems = Model::compile(&document, &overrides, &context).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["/streams/a", "/streams/a/payload/json/x", "/overrides/b"]);
}
