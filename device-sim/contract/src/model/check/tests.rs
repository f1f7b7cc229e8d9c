use super::*;

/// The problems of a document, one a line.
fn problems(text: &str) -> String {
    let model: Model = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    let lines: Vec<String> =
        check(&model).iter().map(|Problem { path, message }| format!("{path}: {message}\n")).collect();
    lines.concat()
}

const SOUND: &str = "streams: {a: {topic: '{id}/a', interval: 1s, payload: {json: {}}}}";

/// The problems of signals in an otherwise sound model.
fn of_signals(signals: &str) -> String {
    problems(&format!("signals:\n{signals}\n{SOUND}"))
}

/// The problems of a stream, beside some sound signals.
fn of_stream(stream: &str) -> String {
    problems(&format!(
        "signals: {{speed: {{kind: constant, value: 1}}, flag: {{kind: constant, value: true}}, word: {{kind: constant, value: a}}}}\nstreams: {{s: {{{stream}}}}}"
    ))
}

#[test]
fn a_sound_model_has_no_problem() {
    assert_eq!(problems(SOUND), "");
}

#[test]
fn all_problems_come_at_once() {
    insta::assert_snapshot!(problems(r"
signals:
  1st: {kind: constant, value: 1}
  seq: {kind: constant, value: 1}
  a: {kind: uniform, range: [5, 5]}
  b: {kind: randomWalk, step: 0, every: 0s, range: [0, 1], start: 2}
  c: {kind: constant, value: word, range: [0, 1], decimals: 10}
  d: {kind: ornsteinUhlenbeck, mean: 0, stddev: -1, relaxation: 0s}
  e: {kind: sine, mean: 0, amplitude: 1, period: 0s}
  f: {kind: step, levels: [{value: 1, hold: 1s}, {value: true, hold: 0s}]}
  g: {kind: step, levels: []}
  h: {kind: replay, format: csv, column: x, speed: 0}
  i: {kind: diurnal, mean: 0, amplitude: 1, peak: 25h}
  j: {kind: noise, mean: 0, amplitude: 1, period: 9000h, range: [0, 1e12], decimals: 9}
streams: {}
"), @"
    /signals/1st: `1st` is no name for a signal: letters, digits and `_`, no digit first
    /signals/a/range: expected two numbers, the lesser first
    /signals/b/step: expected more than 0
    /signals/b/every: expected more than no time
    /signals/b/start: 2 is outside of the range [0, 1]
    /signals/c/range: only numbers have a range
    /signals/c/decimals: expected at most 9 decimals
    /signals/d/stddev: expected a number that is not negative
    /signals/d/relaxation: expected more than no time
    /signals/e/period: expected more than no time
    /signals/f/levels: expected all numbers, all truth values or all texts
    /signals/f/levels/1/hold: expected more than no time
    /signals/g/levels: expected at least one level
    /signals/h: expected either `file` or `text`
    /signals/h/speed: expected more than 0
    /signals/i/peak: expected a time of day, at most `24h`
    /signals/j/range: expected ends whose 9 decimals make at most 18 digits in all
    /signals/j/period: expected at most 8784h
    /signals/seq: `seq` already stands for something else in payloads
    /streams: a model without a stream sends nothing
    ");
}

#[test]
fn expressions_know_their_signals_and_types() {
    insta::assert_snapshot!(of_signals("
  a: {kind: constant, value: 1}
  b: {kind: constant, value: true}
  wrong: {kind: derived, expression: a +}
  unknown: {kind: derived, expression: a + nothing}
  mixed: {kind: derived, expression: a + b}
  x: {kind: derived, expression: z + 1}
  z: {kind: derived, expression: x + 1}
"), @"
    /signals/mixed/expression: `+` needs a number, not a bool
    /signals/unknown/expression: there is no signal `nothing`; there are `a`, `b`, `mixed`, `unknown`, `wrong`, `x`, `z`
    /signals/wrong/expression: expected a number, a text, a signal or a function at character 4 of `a +`
    /signals/x: it is computed from itself: x from z from x
    ");
}

#[test]
fn a_counter_integrates_only_what_has_a_closed_integral_and_never_falls() {
    insta::assert_snapshot!(of_signals("
  wave: {kind: sine, mean: 1, amplitude: 2, period: 1m}
  cut: {kind: sine, mean: 1, amplitude: 2, period: 1m, range: [0, 2]}
  process: {kind: ornsteinUhlenbeck, mean: 5, stddev: 1, relaxation: 1m}
  lamp: {kind: constant, value: true}
  flow: {kind: noise, mean: 5, amplitude: 5, period: 1m}
  factor: {kind: uniform, range: [1, 2], draw: once}
  good: {kind: derived, expression: 'flow * factor + min(factor, 3) / 2'}
  square: {kind: derived, expression: flow * flow }
  fine: {kind: counter, of: good}
  a: {kind: counter, of: wave}
  b: {kind: counter, of: cut}
  c: {kind: counter, of: process}
  d: {kind: counter, of: lamp}
  e: {kind: counter, of: square}
  f: {kind: counter}
  g: {kind: counter, rate: -1, of: nothing}
"), @"
    /signals/a/of: `wave` may become -1, and a counter never decreases
    /signals/b/of: `cut` goes from -1 to 3 and is cut at its range [0, 2]; what is cut has no closed integral
    /signals/c/of: `process` has no closed integral; constant, noise, sine, diurnal, step, replay, uniform and gaussian drawn once, and sums and multiples of them have one
    /signals/d/of: expected a number to integrate; `lamp` is a bool
    /signals/e/of: `*` of two changing signals has no closed integral
    /signals/f: expected either `rate` or `of`
    /signals/g: expected either `rate` or `of`
    /signals/g/rate: expected a number that is not negative
    /signals/g/of: there is no signal `nothing`; there are `a`, `b`, `c`, `cut`, `d`, `e`, `f`, `factor`, `fine`, `flow`, `g`, `good`, `lamp`, `process`, `square`, `wave`
    ");
}

#[test]
fn an_integrator_follows_one_step_and_starts_in_its_range() {
    insta::assert_snapshot!(of_signals(r#"
  mode: {kind: step, levels: [{value: riding, hold: 1h}, {value: docked, hold: 1h}]}
  lamp: {kind: step, levels: [{value: true, hold: 7m}, {value: false, hold: 1m}]}
  weight: {kind: uniform, range: [1, 2], draw: once}
  swing: {kind: uniform, range: [1, 2]}
  chain: {kind: markov, states: {a: {dwell: 1s, next: {}, value: 1}}}
  flow: {kind: derived, expression: 'mode == "docked" ? 30 : -18 * weight'}
  net: {kind: derived, expression: 'flow - (mode == "riding" ? 1 : 0)'}
  both: {kind: derived, expression: 'lamp && mode == "docked" ? 1 : 0'}
  rough: {kind: derived, expression: swing + flow}
  ring: {kind: derived, expression: h + 1}
  fine: {kind: integrator, of: net, per: 1h, start: 80, spread: 20, range: [0, 100]}
  steady: {kind: integrator, of: weight, range: [0, 100]}
  a: {kind: integrator, of: chain, range: [0, 1]}
  b: {kind: integrator, of: both, range: [0, 1]}
  c: {kind: integrator, of: rough, range: [0, 1]}
  d: {kind: integrator, of: mode, range: [0, 1]}
  e: {kind: integrator, of: flow, per: 0s, start: 2, range: [0, 1]}
  f: {kind: integrator, of: flow, start: 0.5, spread: 2, range: [0, 1]}
  g: {kind: integrator, of: flow, spread: 1, range: [0, 1]}
  h: {kind: integrator, of: ring, range: [0, 1]}
  total: {kind: counter, of: fine}
"#), @"
    /signals/a/of: `chain` has no levels that repeat; expected a step, a constant, uniform or gaussian drawn once, or an expression of these with one step at most
    /signals/b/of: it depends on two steps, `lamp` and `mode`, whose levels need not repeat together; expected one step
    /signals/c/of: `swing` has no levels that repeat; expected a step, a constant, uniform or gaussian drawn once, or an expression of these with one step at most
    /signals/d/of: expected a number to integrate; `mode` is a text
    /signals/e/per: expected more than no time
    /signals/e/start: 2 is outside of the range [0, 1]
    /signals/f/spread: expected at most 0.5, the room above `start`, found 2
    /signals/g/spread: expected `start`, to which it is added
    /signals/h/of: `h` has no levels that repeat; expected a step, a constant, uniform or gaussian drawn once, or an expression of these with one step at most
    /signals/total/of: `fine` has no closed integral; constant, noise, sine, diurnal, step, replay, uniform and gaussian drawn once, and sums and multiples of them have one
    /signals/h: it is computed from itself: h from ring from h
    ");
}

#[test]
fn states_are_reachable_and_exist() {
    insta::assert_snapshot!(of_signals("
  trap: {kind: markov, states: {a: {dwell: 1s, next: {b: 1}}, b: {dwell: 1s, next: {}}}}
  odd: {kind: markov, states: {a: {dwell: 0s, next: {c: 1, a: 0}}}}
  slow: {kind: markov, states: {a: {dwell: 1s, next: {b: 1}}, b: {dwell: 9h, next: {a: 1}, value: 3}}}
"), @"
    /signals/odd/states/a/dwell: expected more than no time
    /signals/odd/states/a/next/a: expected a weight of more than 0
    /signals/odd/states/a/next/c: there is no state `c`
    /signals/slow/states: expected all numbers, all truth values or all texts
    /signals/slow/states: the longest dwell time is more than 10000 times the shortest
    /signals/trap/states/b: `a` cannot be reached from `b`; each state must be from each
    ");
}

#[test]
fn a_stream_has_a_topic_a_timetable_and_a_stamp() {
    insta::assert_snapshot!(of_stream("topic: '#/+', interval: 0s, jitter: 1s, check: 1s, payload: {text: hello}"), @"
    /streams/s/topic: a topic to publish to has no wildcards `+` and `#` (MQTT-3.3.2-2)
    /streams/s/topic: the device cannot be told from the topic: use `{index}` or `{id}` in it, or `stamp: none`
    /streams/s/interval: expected more than no time
    /streams/s/jitter: jitter is at most the interval
    /streams/s/check: only a stream with a rule (`trigger`) has this
    /streams/s/payload: a text or raw payload says `{stamp}` somewhere, or its stream `stamp: none`
    ");
    insta::assert_snapshot!(of_stream("topic: '{id}', interval: 10m, align: 15m, payload: {json: {}}"), @"/streams/s/align: expected a multiple of the interval, which is 10m, or a part of it");
    insta::assert_snapshot!(of_stream("topic: '{id}', trigger: {when: flag}, align: 15m, payload: {json: {}}"), @"/streams/s/align: only a stream with an `interval` is aligned");
    insta::assert_snapshot!(of_stream("topic: '{id}', interval: 30m, align: 15m, payload: {json: {}}"), @"");
    insta::assert_snapshot!(of_stream("topic: '$x/{id}', payload: {json: {stamp: 1, pad: 2, a: ['{nothing}', '{']}}, size: 20B"), @"
    /streams/s: expected either `interval` or `trigger`
    /streams/s/payload/json/a/0: there is no signal `nothing`; there are `flag`, `speed`, `word`
    /streams/s/payload/json/a/1: a brace without its partner at byte 0; write `{{` or `}}` for a brace itself
    /streams/s/payload: the payload has a member `stamp` of its own; rename it, or choose another way to stamp
    /streams/s/size: expected 60 to 1048576 bytes
    /streams/s/size: the payload has a member `pad` of its own, which padding would use
    ");
    insta::assert_snapshot!(of_stream("topic: '{id}', trigger: {anyOf: [{rising: speed}, {change: {signal: flag, by: 1}}, {when: none}]}, check: 2s, atLeastEvery: 3s, atMostEvery: 1h, stamp: {counter: id}, payload: {json: {id: 3}}"), @"
    /streams/s/trigger/anyOf/0/rising: expected a signal that is true or false; `speed` is a number
    /streams/s/trigger/anyOf/1/change/by: expected more than 0, and a signal that is a number
    /streams/s/trigger/anyOf/2/when: there is no signal `none`; there are `flag`, `speed`, `word`
    /streams/s/atLeastEvery: expected a multiple of `check`, which is 2s
    /streams/s/atMostEvery: expected at most 1000 times `check`, which is 2s
    /streams/s/stamp/counter: the payload needs a member `id` with the value `{seq}`
    ");
    insta::assert_snapshot!(of_stream("topic: '{id}', interval: 1s, stamp: none, payload: {raw: [{hex: 1}, {number: {value: '{word}', as: u8}}, {number: {value: '{speed} ', as: u8}}]}"), @"
    /streams/s/payload/raw/0/hex: `1` is not pairs of hexadecimal digits
    /streams/s/payload/raw/1/number/value: expected one placeholder whose value is a number or a truth value
    /streams/s/payload/raw/2/number/value: expected one placeholder whose value is a number or a truth value
    ");
}

#[test]
fn a_model_has_as_many_streams_as_can_be_told_apart() {
    let model = |streams: usize| {
        let one = |number| format!("s{number}: {{topic: '{{id}}/{number}', interval: 1s, payload: {{json: {{}}}}}}");
        problems(&format!("streams: {{{}}}", (0..streams).map(one).collect::<Vec<_>>().join(", ")))
    };
    assert_eq!(model(10_000), "");
    assert_eq!(model(10_001), "/streams: expected at most 10000 streams, found 10001\n");
}

#[test]
fn streams_differ_in_their_topics() {
    let text = "streams: {a: {topic: '{id}/a', interval: 1s, payload: {json: {}}}, b: {topic: '{id}/a', interval: 1s, payload: {json: {}}}}";
    assert_eq!(problems(text), "/streams/b/topic: the stream `a` has the same topic\n");
}

#[test]
fn changes_of_a_group_are_checked_at_their_own_place() {
    let model: Model = serde_saphyr::from_str(SOUND).unwrap();
    let change = StreamOverride { jitter: Some(Span::from_secs(2)), ..StreamOverride::default() };
    let overrides = BTreeMap::from([("a".to_owned(), change.clone()), ("b".to_owned(), change)]);
    let problems = check_overrides(&model, &overrides);
    assert_eq!(
        problems,
        [
            Problem { path: "/b".into(), message: "there is no stream `b`; there are `a`".into() },
            Problem { path: "/a/jitter".into(), message: "jitter is at most the interval".into() },
        ]
    );
}

#[test]
fn the_schema_takes_what_serde_takes_and_refuses_what_it_refuses() {
    let schema = serde_json::to_value(schemars::schema_for!(Model)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let signals = |signals: &str| format!("signals: {{{signals}}}\n{SOUND}");
    for (text, is_sound) in [
        (SOUND.to_owned(), true),
        (signals("a: {kind: constant, value: 1, unit: m, range: [0, 2]}"), true),
        (signals("a: {kind: uniform, range: [0, 2], draw: {every: 1s}}"), true),
        (signals("a: {kind: route, value: speed}"), true),
        (signals("a: {kind: integrator, of: b, per: 1h, start: 1, spread: 1, range: [0, 2]}"), true),
        (signals("a: {kind: integrator, of: b, range: [0, 2]}"), true),
        (signals("a: {kind: integrator, of: b}"), false),
        (signals("a: {kind: uniform}"), false),
        (signals("a: {kind: constant, value: 1, wrong: 2}"), false),
        (signals("a: {kind: nothing, value: 1}"), false),
        (signals("a: {value: 1}"), false),
        (SOUND.replace("1s", "soon"), false),
        (SOUND.replace("interval", "Interval"), false),
    ] {
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(validator.is_valid(&value), is_sound, "schema: {text}");
        assert_eq!(serde_saphyr::from_str::<Model>(&text).is_ok(), is_sound, "serde: {text}");
        if is_sound {
            let model: Model = serde_saphyr::from_str(&text).unwrap();
            let written = serde_json::to_value(&model).unwrap();
            assert!(validator.is_valid(&written), "{written}");
            assert_eq!(serde_json::from_value::<Model>(written).unwrap(), model);
        }
    }
}

#[test]
fn constants_are_sent_as_they_are_written_or_refused() {
    for right in ["9007199254740991", "-9007199254740991", "0.123456789", "'1724442618569203714'", "true"] {
        assert_eq!(of_signals(&format!("  a: {{kind: constant, value: {right}}}")), "", "{right}");
    }
    let long = of_signals("  a: {kind: constant, value: 1724442618569203714}");
    assert!(long.starts_with("/signals/a/value: expected at most 9007199254740991 in size"), "{long}");
    let fine = of_signals("  a: {kind: constant, value: 0.30000000000000004}");
    assert!(fine.starts_with("/signals/a/value: expected at most 9 digits behind the point"), "{fine}");
    assert_eq!(of_signals("  a: {kind: constant, value: 0.30000000000000004, decimals: 2}"), "");
}

#[test]
fn faults_of_a_stream_are_checked_field_by_field() {
    let of = |payload: &str, faults: &str| {
        of_stream(&format!("topic: '{{id}}/s', interval: 1s, payload: {payload}, faults: [{faults}]"))
    };
    let json = "{json: {v: '{speed}'}}";
    let sound = "{kind: corrupt, messages: 1%, how: range}, {kind: duplicate, messages: 0.5%}, {kind: stale, messages: 2%, age: \
                 30s}, {kind: silence, every: 10m, lasts: 30s, how: sticks}, {kind: flood, every: 1h, lasts: 10s, interval: 5ms}";
    assert_eq!(of(json, sound), "");
    let wrong = "{kind: corrupt, messages: 0%}, {kind: duplicate, messages: 0%}, {kind: stale, age: 0s}, {kind: silence, every: \
                 10s, lasts: 10s}, {kind: silence, every: 0s, lasts: 0s}, {kind: flood, every: 1h, lasts: 10s, interval: 0s}, \
                 {kind: flood, every: 1h, lasts: 1s, interval: 2s}";
    insta::assert_snapshot!(of(json, wrong), @"
    /streams/s/faults/0/messages: expected more than none, found `0%`
    /streams/s/faults/1/messages: expected more than none, found `0%`
    /streams/s/faults/2/age: expected more than no time
    /streams/s/faults/3/lasts: expected more than no time and less than from one to the next (10s), found `10s`
    /streams/s/faults/4/every: expected more than no time
    /streams/s/faults/4/lasts: expected more than no time and less than from one to the next (0s), found `0s`
    /streams/s/faults/5/interval: expected at least 1ms, found `0s`
    /streams/s/faults/6/interval: expected less than an episode lasts (1s), found `2s`
    ");
    insta::assert_snapshot!(of("{text: '{stamp}'}", "{kind: corrupt, how: type}, {kind: corrupt, how: range}, {kind: corrupt}"), @"
    /streams/s/faults/0/how: only numbers of a JSON payload become text or too large; expected `bits` or `truncation`
    /streams/s/faults/1/how: only numbers of a JSON payload become text or too large; expected `bits` or `truncation`
    ");
    let counted =
        "topic: '{id}/s', interval: 1s, payload: {json: {n: '{seq}'}}, stamp: {counter: n}, faults: [{kind: corrupt}]";
    insta::assert_snapshot!(of_stream(counted), @"/streams/s/faults/0/how: with another counter a message would pass for another one; expected another `stamp` than a counter");
    let many = "{kind: duplicate}, ".repeat(17);
    assert_eq!(of(json, &many), "/streams/s/faults: expected at most 16 faults, found 17\n");
}

#[test]
fn a_group_replaces_the_faults_of_a_stream() {
    let text = "streams: {a: {topic: '{id}/a', interval: 1s, payload: {json: {}}, faults: [{kind: duplicate}]}}";
    let model: Model = serde_saphyr::from_str(text).unwrap();
    let change = |text: &str| {
        let change: StreamOverride = serde_saphyr::from_str(text).unwrap();
        let problems = check_overrides(&model, &BTreeMap::from([("a".to_owned(), change.clone())]));
        let mut stream = model.streams["a"].clone();
        change.apply(&mut stream);
        let lines: Vec<_> = problems.iter().map(|problem| problem.path.clone()).collect();
        (stream.faults.len(), lines)
    };
    assert_eq!(change("{qos: 1}"), (1, vec![]));
    assert_eq!(change("{faults: []}"), (0, vec![]));
    let (count, wrong) = change("{faults: [{kind: duplicate}, {kind: silence, every: 1s, lasts: 2s}]}");
    assert_eq!((count, wrong), (2, vec!["/a/faults/1/lasts".to_owned()]));
}
