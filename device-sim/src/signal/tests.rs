use proptest::prelude::*;

use super::*;

const START: Micros = Micros(1_700_000_000_000_000);
const SECOND: u64 = 1_000_000;

/// Compiles signals, given as the lines of a document.
#[track_caller]
fn compile(text: &str) -> Signals {
    compile_with(text, 7)
}

#[track_caller]
fn compile_with(text: &str, seed: u64) -> Signals {
    let text = format!("signals:\n{text}\nstreams: {{a: {{topic: '{{id}}', interval: 1s, payload: {{json: {{}}}}}}}}");
    let model: document::Model = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(document::check(&model), []);
    Signals::compile(&model, seed, &Files::new()).unwrap()
}

fn value_of(signals: &Signals, name: &str, device: u32, micros: u64) -> Value {
    let moment = Moment { device: DeviceIndex::new(device), start: START, now: Micros(START.0 + micros) };
    signals.read(moment, &mut Memo::default()).value(signals.index(name).unwrap())
}

fn number(signals: &Signals, device: u32, micros: u64) -> f64 {
    value_of(signals, "x", device, micros).number()
}

/// Mean and standard deviation over devices and instants.
fn moments(signals: &Signals, every: u64) -> (f64, f64) {
    let values: Vec<f64> = (0..200u32)
        .flat_map(|device| (0..100).map(move |turn| (device, turn * every)))
        .map(|(device, micros)| number(signals, device, micros))
        .collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt())
}

/// The correlation of two values so far apart, for a signal with a known mean and deviation.
fn correlation(signals: &Signals, apart: u64, mean: f64, stddev: f64) -> f64 {
    let pairs = (0..100u32).flat_map(|device| (0..200u64).map(move |turn| (device, turn * 97 * SECOND)));
    let product =
        |(device, micros)| (number(signals, device, micros) - mean) * (number(signals, device, micros + apart) - mean);
    pairs.map(product).sum::<f64>() / 20_000.0 / (stddev * stddev)
}

#[track_caller]
fn about(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected} ± {tolerance}");
}

#[test]
fn an_ornstein_uhlenbeck_process_has_its_mean_deviation_and_memory() {
    let signals = compile("  x: {kind: ornsteinUhlenbeck, mean: 20, stddev: 3, relaxation: 60s}");
    let (mean, stddev) = moments(&signals, 61 * SECOND);
    about(mean, 20.0, 0.1);
    about(stddev, 3.0, 0.1);
    for (apart, expected) in [(1.0f64, 0.9835), (15.0, 0.7788), (60.0, 0.3679), (120.0, 0.1353), (300.0, 0.0067)] {
        about(correlation(&signals, (apart * 1e6) as u64, 20.0, 3.0), expected, 0.04);
    }
}

#[test]
fn the_increments_of_a_random_walk_are_its_steps() {
    let signals = compile("  x: {kind: randomWalk, step: 1, every: 1s, range: [0, 100]}");
    let squares: f64 = (0..20_000u64)
        .map(|turn| {
            let device = (turn / 1_000) as u32;
            (number(&signals, device, (turn + 1) * SECOND) - number(&signals, device, turn * SECOND)).powi(2)
        })
        .sum();
    about(squares / 20_000.0, 1.0, 0.05);
    let (mean, stddev) = moments(&signals, 20_000 * SECOND);
    about(mean, 50.0, 1.0);
    about(stddev, 100.0 / 12f64.sqrt(), 1.0);
    let started = compile("  x: {kind: randomWalk, step: 1, every: 1s, range: [0, 100], start: 30}");
    assert!((0..50).all(|device| (number(&started, device, 0) - 30.0).abs() < 1e-9));
}

#[test]
fn uniform_and_gaussian_values_are_drawn_when_they_should() {
    let signals = compile("  x: {kind: uniform, range: [10, 20]}");
    let (mean, stddev) = moments(&signals, SECOND);
    about(mean, 15.0, 0.1);
    about(stddev, 10.0 / 12f64.sqrt(), 0.05);
    let signals = compile("  x: {kind: gaussian, mean: -5, stddev: 2, draw: {every: 10s}}");
    let (mean, stddev) = moments(&signals, 10 * SECOND);
    about(mean, -5.0, 0.1);
    about(stddev, 2.0, 0.05);
    assert_eq!(number(&signals, 1, 10 * SECOND), number(&signals, 1, 20 * SECOND - 1));
    assert_ne!(number(&signals, 1, 10 * SECOND), number(&signals, 1, 20 * SECOND));
    let signals = compile("  x: {kind: gaussian, mean: 0, stddev: 1, draw: once}");
    assert_eq!(number(&signals, 1, 0), number(&signals, 1, 1_000_000 * SECOND));
    assert_ne!(number(&signals, 1, 0), number(&signals, 2, 0));
}

#[test]
fn devices_and_seeds_are_unrelated_and_each_is_always_the_same() {
    let text = "  x: {kind: ornsteinUhlenbeck, mean: 0, stddev: 1, relaxation: 1s}\n  y: {kind: ornsteinUhlenbeck, mean: 0, stddev: 1, relaxation: 1s}";
    let (signals, again, other) = (compile(text), compile(text), compile_with(text, 8));
    let of = |signals: &Signals, name: &str, device| -> Vec<f64> {
        (0..5_000).map(|turn| value_of(signals, name, device, turn * 5 * SECOND).number()).collect()
    };
    let reference = of(&signals, "x", 0);
    assert_eq!(reference, of(&again, "x", 0));
    for unrelated in [of(&signals, "x", 1), of(&signals, "y", 0), of(&other, "x", 0)] {
        let product: f64 = reference.iter().zip(&unrelated).map(|(a, b)| a * b).sum();
        about(product / 5_000.0, 0.0, 0.06);
    }
}

#[test]
fn a_diurnal_wave_peaks_at_its_time_of_day() {
    let signals = compile("  x: {kind: diurnal, mean: 10, amplitude: 5, peak: 14h30m}");
    let midnight = 86_400 * SECOND - START.0 % (86_400 * SECOND);
    about(number(&signals, 0, midnight + (14 * 60 + 30) * 60 * SECOND), 15.0, 1e-9);
    about(number(&signals, 0, midnight + (2 * 60 + 30) * 60 * SECOND), 5.0, 1e-9);
}

#[test]
fn steps_follow_each_other_from_the_start_or_midnight() {
    let signals = compile(
        "  x: {kind: step, levels: [{value: 1, hold: 10s}, {value: 2, hold: 5s}]}\n  y: {kind: step, from: midnight, levels: [{value: night, hold: 6h}, {value: day, hold: 18h}]}",
    );
    let levels: Vec<f64> = [0, 9, 10, 14, 15, 25].map(|second| number(&signals, 3, second * SECOND)).to_vec();
    assert_eq!(levels, [1.0, 1.0, 2.0, 2.0, 1.0, 2.0]);
    let midnight = 86_400 * SECOND - START.0 % (86_400 * SECOND);
    let texts = [1, 5, 6, 23, 24].map(|hour| match value_of(&signals, "y", 0, midnight + hour * 3_600 * SECOND) {
        Value::Text(symbol) => signals.symbols().text(symbol).to_owned(),
        other => panic!("{other:?}"),
    });
    assert_eq!(texts, ["night", "night", "day", "day", "night"]);
}

const CHAIN: &str = "  x: {kind: markov, states: {idle: {value: 0, dwell: 30s, next: {busy: 1}}, busy: {value: 1, dwell: 10s, next: {idle: 3, broken: 1}}, broken: {value: 2, dwell: 60s, next: {idle: 1}}}}";

#[test]
fn a_chain_makes_only_allowed_transitions_and_keeps_its_dwell_times() {
    let signals = compile(CHAIN);
    // One step of the chain: a 32nd of the shortest dwell time.
    let step = 10 * SECOND / 32;
    let (mut time, mut visits) = ([0u64; 3], [0u64; 3]);
    let mut exits = [[0u64; 3]; 3];
    for device in 0..20 {
        // Several blocks, which are 1,024 steps at least.
        for turn in 0..20_000 {
            let now = number(&signals, device, turn * step) as usize;
            let next = number(&signals, device, (turn + 1) * step) as usize;
            time[now] += 1;
            if now != next {
                visits[now] += 1;
                exits[now][next] += 1;
            }
        }
    }
    assert_eq!([exits[0][2], exits[2][1]], [0, 0], "{exits:?}");
    for (state, dwell) in [30.0, 10.0, 60.0].into_iter().enumerate() {
        about(time[state] as f64 / visits[state] as f64 / 3.2, dwell, dwell * 0.1);
    }
    about(exits[1][0] as f64 / visits[1] as f64, 0.75, 0.03);
    // Each of its rounds takes 30 s, 10 s, and every fourth time 60 s more.
    about(time[0] as f64 / time.iter().sum::<u64>() as f64, 30.0 / 55.0, 0.03);
}

#[test]
fn a_chain_of_one_state_stays_there() {
    let signals = compile("  x: {kind: markov, states: {alive: {value: true, dwell: 1s, next: {}}}}");
    assert!((0..100).all(|second| value_of(&signals, "x", 0, second * SECOND) == Value::Bool(true)));
}

#[test]
fn records_are_played_back_over_and_over() {
    let signals = compile(
        r#"  x: {kind: replay, format: csv, text: "t,v\n10,1\n11,3\n13,5\n", column: v, time: t}
  line: {kind: replay, format: csv, text: "t,v\n10,1\n11,3\n13,5\n", column: v, time: t, interpolate: true, speed: 2}
  word: {kind: replay, format: jsonLines, text: "{\"w\": \"a\"}\n{\"w\": \"b\"}\n", column: w, type: text, once: true}"#,
    );
    let played: Vec<f64> = (0..7).map(|second| number(&signals, 0, second * SECOND)).collect();
    assert_eq!(played, [1.0, 3.0, 3.0, 5.0, 5.0, 1.0, 3.0]);
    let line: Vec<f64> = (0..4).map(|half| value_of(&signals, "line", 0, half * SECOND / 4).number()).collect();
    assert_eq!(line, [1.0, 2.0, 3.0, 3.5]);
    let words: Vec<Value> = (0..4).map(|second| value_of(&signals, "word", 0, second * SECOND)).collect();
    assert!(words[0] != words[1] && words[1] == words[2] && words[2] == words[3]);
}

#[test]
fn times_are_numbers_of_a_unit_or_instants() {
    let played = |unit: &str, times: [&str; 3]| {
        let [first, second, third] = times;
        let signals = compile(&format!(
            "  x: {{kind: replay, format: csv, column: v, time: t{unit}, text: \"t,v\\n{first},1\\n{second},2\\n{third},3\\n\"}}"
        ));
        (0..4).map(|second| number(&signals, 0, second * SECOND)).collect::<Vec<_>>()
    };
    for (unit, times) in [
        ("", ["1769872318", "1769872319", "1769872320"]),
        (", timeUnit: ms", ["1769872318259", "1769872319259", "1769872320259"]),
        (", timeUnit: us", ["1769872318259000", "1769872319259000", "1769872320259000"]),
        (", timeUnit: ns", ["1769872318259000000", "1769872319259000000", "1769872320259000000"]),
        ("", ["2026-01-31T15:11:58Z", "2026-01-31T15:11:59Z", "2026-01-31T16:12:00+01:00"]),
    ] {
        assert_eq!(played(unit, times), [1.0, 2.0, 3.0, 1.0], "{unit} {times:?}");
    }
}

#[test]
fn bad_records_are_named() {
    let text = |text: &str| {
        let model = format!(
            "signals: {{x: {{kind: replay, format: csv, text: \"{text}\", column: v, time: t, range: [0, 9]}}}}\nstreams: {{}}"
        );
        let model: document::Model = serde_saphyr::from_str(&model).unwrap();
        Signals::compile(&model, 0, &Files::new()).unwrap_err().remove(0).message
    };
    assert_eq!(text("t,v\\n"), "there are no records");
    assert_eq!(text("t,w\\n1,2\\n"), "record 1: no column `v`; there are `t`, `w`");
    assert_eq!(text("t,v\\n1,2\\n1,3\\n"), "record 2: times must ascend");
    assert_eq!(
        text("t,v\\n1769872318259,1\\n"),
        "record 1: `t` counted in seconds is beyond the year 5000: \"1769872318259\"; these look like milliseconds: set `timeUnit`"
    );
    assert_eq!(text("t,v\\nsoon,1\\n"), "record 1: `t` is neither a number of seconds nor an instant: \"soon\"");
    assert_eq!(text("t,v\\n1,x\\n"), "record 1: `v` should be a number, not \"x\"");
    assert_eq!(text("t,v\\n1,10\\n"), "record 1: 10 is outside of the range [0, 9]");
}

#[test]
fn expressions_are_computed() {
    let check = |expression: &str, expected: Value| {
        let signals = compile(&format!(
            "  a: {{kind: constant, value: 3}}\n  on: {{kind: constant, value: true}}\n  mode: {{kind: constant, value: drive}}\n  x: {{kind: derived, expression: '{expression}'}}"
        ));
        assert_eq!(value_of(&signals, "x", 0, 0), expected, "{expression}");
    };
    check("a * 2 + 1 - 8 / 4", Value::Number(5.0));
    check("-a % 2", Value::Number(-1.0));
    check("1 / 0", Value::Number(0.0));
    check("a / 0 > 0", Value::Bool(true));
    check("on && !(a < 3) || false", Value::Bool(true));
    check("mode == \"drive\" ? 1 : 2", Value::Number(1.0));
    check("mode != \"other\"", Value::Bool(true));
    check(
        "clamp(a, 4, 5) + min(1, 2, 0.5) + max(a) + abs(-1) + floor(1.9) + ceil(0.1) + round(0.5)",
        Value::Number(11.5),
    );
    check("sqrt(16) + sqrt(-1) + sin(0) + cos(0)", Value::Number(5.0));
    check("if(a >= 3, a, 0)", Value::Number(3.0));
}

#[test]
fn an_integrator_starts_where_it_should_and_stays_at_its_ends() {
    let values = |text: &str, seconds: [u64; 6]| {
        let signals = compile(text);
        seconds.map(|second| number(&signals, 3, second * SECOND))
    };
    let steady = "  x: {kind: integrator, of: rate, start: 30, range: [0, 100]}\n  rate: {kind: constant, value: -0.5}";
    assert_eq!(values(steady, [0, 10, 59, 60, 61, 1_000_000]), [30.0, 25.0, 0.5, 0.0, 0.0, 0.0]);
    let levels = "  rate: {kind: step, levels: [{value: 2, hold: 10s}, {value: -1, hold: 5s}]}\n  x: {kind: integrator, of: rate, start: 0, range: [0, 25]}";
    assert_eq!(values(levels, [0, 10, 15, 25, 30, 45]), [0.0, 20.0, 15.0, 25.0, 20.0, 20.0]);

    let starts = |start: &str| -> Vec<f64> {
        let signals = compile(&format!(
            "  rate: {{kind: constant, value: 1}}\n  x: {{kind: integrator, of: rate, range: [0, 100]{start}}}"
        ));
        (0..1_000).map(|device| number(&signals, device, 0)).collect()
    };
    let spread = starts(", start: 30, spread: 20");
    assert!(spread.iter().all(|start| (30.0..=50.0).contains(start)));
    about(spread.iter().sum::<f64>() / 1_000.0, 40.0, 1.0);
    about(starts("").iter().sum::<f64>() / 1_000.0, 50.0, 4.0);
}

/// A battery in `x`; how fast it drains differs from device to device, and some never get full.
const BATTERY: &str = r#"  mode: {kind: step, spread: 100%, levels: [{value: riding, hold: 40m}, {value: docked, hold: 80m}, {value: parked, hold: 10m}]}
  drain: {kind: uniform, range: [10, 300], draw: once}
  flow: {kind: derived, expression: 'mode == "docked" ? 90 : mode == "riding" ? -drain : 0'}
  x: {kind: integrator, of: flow, per: 1h, start: 20, spread: 60, range: [0, 100]}"#;

const TEN_YEARS: u64 = 10 * 365 * 86_400 * SECOND;

/// All kinds that a counter integrates, none of them ever negative.
const INTEGRABLE: [&str; 9] = [
    "{kind: constant, value: 2.5}",
    "{kind: noise, mean: 4, amplitude: 4, period: 37s}",
    "{kind: sine, mean: 3, amplitude: 3, period: 61s, phase: 7s}",
    "{kind: diurnal, mean: 3, amplitude: 2, peak: 7h}",
    "{kind: step, levels: [{value: 0, hold: 10s}, {value: 6, hold: 7s}], spread: 100%}",
    "{kind: uniform, range: [1, 5], draw: once}",
    "{kind: replay, format: csv, text: \"v\\n1\\n5\\n2\\n\", column: v, range: [0, 9], every: 7s, spread: 50%}",
    "{kind: replay, format: csv, text: \"v\\n1\\n5\\n2\\n\", column: v, range: [0, 9], every: 7s, interpolate: true, speed: 1.7}",
    "{kind: derived, expression: \"2 * other - other / 2 + 1\"}",
];

/// Of the midpoint rule.
const STEPS: u64 = 4_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_counter_never_falls_and_is_the_integral(
        kind in prop::sample::select(INTEGRABLE.to_vec()),
        device: u32,
        from in 0..100_000_000_000u64,
        length in 1..200_000_000u64,
    ) {
        let signals = compile(&format!(
            "  other: {{kind: noise, mean: 1, amplitude: 1, period: 11s}}\n  rate: {kind}\n  x: {{kind: counter, of: rate, start: 100, spread: 50}}"
        ));
        let grown = number(&signals, device, from + length) - number(&signals, device, from);
        prop_assert!(grown >= 0.0);
        let middle = |step: u64| from + (2 * step + 1) * length / (2 * STEPS);
        let sum: f64 = (0..STEPS).map(|step| value_of(&signals, "rate", device, middle(step)).number()).sum();
        let integral = sum * length as f64 / 1e6 / STEPS as f64;
        prop_assert!((grown - integral).abs() < 1e-6 + integral * 5e-3, "{grown} is not {integral}");
        prop_assert!((100.0..=150.0).contains(&number(&signals, device, 0)));
    }

    #[test]
    fn a_battery_drains_on_rides_and_fills_at_the_dock_and_never_jumps(
        device: u32,
        micros in prop_oneof![0..86_400 * SECOND, 0..TEN_YEARS],
        span in 1..60 * SECOND,
    ) {
        let signals = compile(BATTERY);
        let mode = |micros| match value_of(&signals, "mode", device, micros) {
            Value::Text(symbol) => signals.symbols().text(symbol).to_owned(),
            other => panic!("{other:?}"),
        };
        let (before, after) = (number(&signals, device, micros), number(&signals, device, micros + span));
        prop_assert!((0.0..=100.0).contains(&before) && (0.0..=100.0).contains(&after), "{before} {after}");
        let hours = span as f64 / 3.6e9;
        prop_assert!((after - before).abs() <= 300.0 * hours + 1e-9, "{before} jumps to {after}");
        // No level lasts shorter than the span, so that none lies between two that are alike.
        if mode(micros) == mode(micros + span) {
            let flow = value_of(&signals, "flow", device, micros).number();
            let expected = (before + flow * hours).clamp(0.0, 100.0);
            prop_assert!((after - expected).abs() < 1e-9, "{after} is not {expected}");
            match mode(micros).as_str() {
                "riding" => prop_assert!(after <= before, "{before} rises to {after}"),
                "docked" => prop_assert!(after >= before, "{before} falls to {after}"),
                _ => prop_assert_eq!(after, before),
            }
        }
    }

    #[test]
    fn a_battery_is_the_same_in_whatever_order_it_is_looked_at(
        moments in prop::collection::vec((0..50u32, 0..TEN_YEARS), 1..20),
    ) {
        let signals = compile(BATTERY);
        let index = signals.index("x").unwrap();
        let mut memo = Memo::default();
        let mut bits = |(device, micros): &(u32, u64)| {
            let moment = Moment { device: DeviceIndex::new(*device), start: START, now: Micros(START.0 + micros) };
            signals.read(moment, &mut memo).value(index).number().to_bits()
        };
        let forward: Vec<u64> = moments.iter().map(&mut bits).collect();
        let mut backward: Vec<u64> = moments.iter().rev().map(&mut bits).collect();
        backward.reverse();
        prop_assert_eq!(&forward, &backward);
        let alone = moments.iter().map(|(device, micros)| number(&signals, *device, *micros).to_bits());
        prop_assert_eq!(forward, alone.collect::<Vec<u64>>());
    }

    #[test]
    fn continuous_signals_do_not_jump(device: u32, micros in 0..1_000_000_000_000u64) {
        for (kind, most) in [
            // Per microsecond. A bridge of straight lines is never steeper than a few deviations per line.
            ("{kind: ornsteinUhlenbeck, mean: 0, stddev: 1, relaxation: 1s}", 1e-4),
            ("{kind: randomWalk, step: 1, every: 1s, range: [0, 50]}", 1e-5),
            ("{kind: noise, mean: 0, amplitude: 1, period: 1s}", 1e-4),
            ("{kind: sine, mean: 0, amplitude: 1, period: 1s}", 7e-6),
            ("{kind: diurnal, mean: 0, amplitude: 1, peak: 0s}", 1e-9),
        ] {
            let signals = compile(&format!("  x: {kind}"));
            let jump = (number(&signals, device, micros + 1) - number(&signals, device, micros)).abs();
            prop_assert!(jump < most, "{kind} jumps by {jump}");
        }
    }

    #[test]
    fn values_stay_in_their_range(device: u32, micros in 0..1_000_000_000_000u64) {
        for kind in [
            "{kind: gaussian, mean: 1, stddev: 5, range: [0, 2]}",
            "{kind: ornsteinUhlenbeck, mean: 1, stddev: 5, relaxation: 10s, range: [0, 2]}",
            "{kind: randomWalk, step: 3, every: 1s, range: [0, 2]}",
            "{kind: uniform, range: [0, 2]}",
            "{kind: sine, mean: 1, amplitude: 9, period: 1m, range: [0, 2]}",
            "{kind: counter, rate: 1, range: [0, 2]}",
            "{kind: derived, expression: 1 / 0, range: [1, 2]}",
        ] {
            let signals = compile(&format!("  x: {kind}"));
            let value = number(&signals, device, micros);
            prop_assert!((0.0..=2.0).contains(&value), "{kind}: {value}");
        }
    }

    #[test]
    fn noise_keeps_within_its_amplitude(device: u32, micros in 0..1_000_000_000_000u64) {
        let signals = compile("  x: {kind: noise, mean: 10, amplitude: 2, period: 20s}");
        prop_assert!((8.0..=12.0).contains(&number(&signals, device, micros)));
    }
}

#[test]
fn noise_is_worth_its_name() {
    let signals = compile("  x: {kind: noise, mean: 10, amplitude: 2, period: 20s}");
    let (mean, stddev) = moments(&signals, 7 * SECOND);
    about(mean, 10.0, 0.02);
    assert!((0.2..1.0).contains(&stddev), "{stddev}");
}
