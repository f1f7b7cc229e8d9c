//! What is wrong with a model beyond its schema, all of it at once.

use crate::document::Problem;
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    expression::{Expression, Type, is_name},
    fault::Corruption,
    model::{
        MessageProperties, Model, Payload, Rule, Signal, StampMode, Stream, StreamOverride,
        bounds::integrable,
        fault::{FLOOD_MIN, STREAM_FAULTS_MAX, StreamFault},
        levels::step_of,
        payload::{RESERVED, RawPart, Slot, TextPiece, pointer_token, split, unhex},
        signal::{Counter, Draw, Integrator, Markov, Range, Scalar, Step},
        types::{state_types, types},
    },
    stamp,
    template::Template,
    units::{Share, Span},
    unknown,
};

/// The most ticks that a rule's window may have: each of them may be looked at for one message.
const WINDOW_MAX: u64 = 1_000;
/// The largest body that padding makes; brokers refuse larger ones by default.
pub const BODY_MAX: u32 = 1 << 20;

/// The largest number up to which each whole number has a value of its own: 2^53 - 1.
pub const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
/// CBOR's padding says its length in two bytes.
const CBOR_SIZE_MAX: u64 = 1 << 16;
/// The longest topic: UTF-8 strings have a length of two bytes (MQTT-1.5.3).
const TOPIC_MAX: usize = 65_535;
/// What four bytes say in seconds (MQTT 5, section 3.3.2.3.3).
const EXPIRY_MAX: Span = Span::from_secs(u32::MAX as u64);
const STATES_MAX: usize = 32;
/// Far more than any device has, and few enough for two bytes to say which.
const STREAMS_MAX: usize = 10_000;
/// A leap year: blocks that are made of many such spans still fit 64 bits of microseconds.
const SPAN_MAX: Span = Span::from_secs(366 * 86_400);
/// Numbers are written as whole numbers of their last decimal, in 63 bits.
const SCALED_MAX: f64 = 9e18;
/// How many times longer than the shortest dwell time the longest may be.
const DWELL_RATIO_MAX: u64 = 10_000;

/// Finds everything that is wrong with a model, except in files that it names.
pub fn check(model: &Model) -> Vec<Problem> {
    let types = types(model);
    let mut checker = Checker { model, types, problems: Vec::new() };
    for (name, signal) in &model.signals {
        checker.signal(name, signal);
    }
    checker.cycles();
    if model.streams.is_empty() {
        checker.note("/streams", "a model without a stream sends nothing");
    }
    if model.streams.len() > STREAMS_MAX {
        checker.note("/streams", format!("expected at most {STREAMS_MAX} streams, found {}", model.streams.len()));
    }
    for (name, stream) in &model.streams {
        checker.stream(&format!("/streams/{}", pointer_token(name)), stream);
    }
    checker.shared_topics();
    checker.problems
}

/// Finds what is wrong with the changes of a group to the streams of its (sound) model. Paths begin with the stream's name.
pub fn check_overrides(model: &Model, overrides: &BTreeMap<String, StreamOverride>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut changed = model.clone();
    for (name, change) in overrides {
        let path = format!("/{}", pointer_token(name));
        let Some(stream) = changed.streams.get_mut(name) else {
            let message = unknown::message("stream", name, model.streams.keys().map(String::as_str));
            problems.push(Problem { path, message });
            continue;
        };
        if stream.trigger.is_some() && change.interval.is_some() {
            let message = format!("the stream `{name}` follows a rule and has no interval");
            problems.push(Problem { path: format!("{path}/interval"), message });
            continue;
        }
        change.apply(stream);
    }
    let before: BTreeSet<Problem> = check(model).into_iter().collect();
    problems.extend(check(&changed).into_iter().filter(|problem| !before.contains(problem)).map(|problem| Problem {
        path: problem.path.strip_prefix("/streams").unwrap_or(&problem.path).into(),
        message: problem.message,
    }));
    problems
}

struct Checker<'a> {
    model: &'a Model,
    types: BTreeMap<String, Type>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn note(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), message: message.into() });
    }

    fn require(&mut self, is_met: bool, path: &str, message: &str) {
        if !is_met {
            self.note(path, message);
        }
    }

    fn positive(&mut self, span: Span, path: &str) {
        self.require(span > Span::ZERO, path, "expected more than no time");
        self.require(span <= SPAN_MAX, path, &format!("expected at most {SPAN_MAX}"));
    }

    fn finite(&mut self, number: f64, path: &str) {
        self.require(number.is_finite(), path, "expected a finite number");
    }

    /// Finite and not negative.
    fn amount(&mut self, number: f64, path: &str) {
        self.require(number.is_finite() && number >= 0.0, path, "expected a number that is not negative");
    }

    /// The type of a signal; notes a reference to nothing.
    fn type_of(&mut self, name: &str, path: &str) -> Option<Type> {
        let found = self.types.get(name).copied();
        if found.is_none() {
            let message = unknown::message("signal", name, self.types.keys().map(String::as_str));
            self.note(path, message);
        }
        found
    }

    fn signal(&mut self, name: &str, signal: &Signal) {
        let path = format!("/signals/{}", pointer_token(name));
        if !is_name(name) {
            self.note(&path, format!("`{name}` is no name for a signal: letters, digits and `_`, no digit first"));
        }
        if RESERVED.contains(&name) {
            self.note(&path, format!("`{name}` already stands for something else in payloads"));
        }
        self.common(&path, self.types.get(name).copied(), signal);
        self.kind(&path, signal);
    }

    fn common(&mut self, path: &str, found: Option<Type>, signal: &Signal) {
        let common = signal.common();
        if let Some([low, high]) = common.range {
            let is_sound = low.is_finite() && high.is_finite() && low < high;
            self.require(is_sound, &format!("{path}/range"), "expected two numbers, the lesser first");
            let is_number = found.is_none_or(|found| found == Type::Number);
            self.require(is_number, &format!("{path}/range"), "only numbers have a range");
        }
        let decimals = common.decimals.unwrap_or_default();
        self.require(decimals <= 9, &format!("{path}/decimals"), "expected at most 9 decimals");
        let scale = 10f64.powi(decimals.into());
        let is_wide = common.range.is_some_and(|range| range.iter().any(|end| end.abs() * scale > SCALED_MAX));
        let message = format!("expected ends whose {decimals} decimals make at most 18 digits in all");
        self.require(!is_wide, &format!("{path}/range"), &message);
    }

    fn kind(&mut self, path: &str, signal: &Signal) {
        let at = |field: &str| format!("{path}/{field}");
        match signal {
            Signal::Constant(constant) => {
                self.scalar(&constant.value, constant.range, &at("value"));
                if let (Scalar::Number(number), None) = (&constant.value, constant.decimals) {
                    let decimals = number.to_string().split_once('.').map_or(0, |(_, digits)| digits.len());
                    let message = "expected at most 9 digits behind the point, or `decimals`, which rounds it";
                    self.require(decimals <= 9, &at("value"), message);
                }
            }
            Signal::Uniform(uniform) => self.draw(uniform.draw, &at("draw")),
            Signal::Gaussian(gaussian) => {
                self.finite(gaussian.mean, &at("mean"));
                self.amount(gaussian.stddev, &at("stddev"));
                self.draw(gaussian.draw, &at("draw"));
            }
            Signal::RandomWalk(walk) => {
                self.require(walk.step.is_finite() && walk.step > 0.0, &at("step"), "expected more than 0");
                self.positive(walk.every, &at("every"));
                let start = walk.start.unwrap_or(walk.range[0]);
                self.scalar(&Scalar::Number(start), Some(walk.range), &at("start"));
            }
            Signal::OrnsteinUhlenbeck(process) => {
                self.finite(process.mean, &at("mean"));
                self.amount(process.stddev, &at("stddev"));
                self.positive(process.relaxation, &at("relaxation"));
            }
            Signal::Noise(noise) => {
                self.finite(noise.mean, &at("mean"));
                self.amount(noise.amplitude, &at("amplitude"));
                self.positive(noise.period, &at("period"));
            }
            Signal::Sine(sine) => {
                self.finite(sine.mean, &at("mean"));
                self.finite(sine.amplitude, &at("amplitude"));
                self.positive(sine.period, &at("period"));
            }
            Signal::Diurnal(diurnal) => {
                self.finite(diurnal.mean, &at("mean"));
                self.finite(diurnal.amplitude, &at("amplitude"));
                let is_time_of_day = diurnal.peak <= Span::from_secs(86_400);
                self.require(is_time_of_day, &at("peak"), "expected a time of day, at most `24h`");
            }
            Signal::Step(step) => self.step(path, step),
            Signal::Markov(markov) => self.markov(path, markov),
            Signal::Counter(counter) => self.counter(path, counter),
            Signal::Integrator(integrator) => self.integrator(path, integrator),
            Signal::Derived(derived) => self.expression(&derived.expression, &at("expression")),
            Signal::Replay(replay) => {
                let is_one = replay.file.is_some() != replay.text.is_some();
                self.require(is_one, path, "expected either `file` or `text`");
                self.require(replay.speed.is_finite() && replay.speed > 0.0, &at("speed"), "expected more than 0");
                self.positive(replay.every, &at("every"));
            }
            Signal::Route(_) => {}
        }
    }

    fn draw(&mut self, draw: Draw, path: &str) {
        if let Draw::Every(span) = draw {
            self.positive(span, &format!("{path}/every"));
        }
    }

    fn scalar(&mut self, scalar: &Scalar, range: Option<Range>, path: &str) {
        if let Scalar::Number(number) = scalar {
            self.finite(*number, path);
            let message = format!(
                "expected at most {EXACT_MAX} in size, beyond which numbers are not exact, found {number}; a body may \
                 hold a longer one as it is, and a text in quotes has all digits"
            );
            self.require(!number.is_finite() || number.abs() <= EXACT_MAX, path, &message);
            if let Some([low, high]) = range {
                let is_inside = (low..=high).contains(number) || low >= high;
                self.require(is_inside, path, &format!("{number} is outside of the range [{low}, {high}]"));
            }
        }
    }

    fn step(&mut self, path: &str, step: &Step) {
        self.require(!step.levels.is_empty(), &format!("{path}/levels"), "expected at least one level");
        let mut types = step.levels.iter().map(|level| level.value.type_of());
        let is_of_one_type = types.next().is_none_or(|first| types.all(|other| other == first));
        self.require(is_of_one_type, &format!("{path}/levels"), "expected all numbers, all truth values or all texts");
        for (number, level) in step.levels.iter().enumerate() {
            self.positive(level.hold, &format!("{path}/levels/{number}/hold"));
            self.scalar(&level.value, step.range, &format!("{path}/levels/{number}/value"));
        }
    }

    fn markov(&mut self, path: &str, markov: &Markov) {
        let states = format!("{path}/states");
        let count = markov.states.len();
        self.require((1..=STATES_MAX).contains(&count), &states, &format!("expected 1 to {STATES_MAX} states"));
        let mut types = state_types(markov);
        let is_of_one_type = types.next().is_none_or(|first| types.all(|other| other == first));
        self.require(is_of_one_type, &states, "expected all numbers, all truth values or all texts");
        for (name, state) in &markov.states {
            let path = format!("{states}/{}", pointer_token(name));
            self.positive(state.dwell, &format!("{path}/dwell"));
            if let Some(value) = &state.value {
                self.scalar(value, markov.range, &format!("{path}/value"));
            }
            for (next, weight) in &state.next {
                let path = format!("{path}/next/{}", pointer_token(next));
                self.require(weight.is_finite() && *weight > 0.0, &path, "expected a weight of more than 0");
                self.require(markov.states.contains_key(next), &path, &format!("there is no state `{next}`"));
            }
        }
        let dwells = || markov.states.values().map(|state| state.dwell.0);
        let ratio = dwells().max().unwrap_or(1) / dwells().min().unwrap_or(1).max(1);
        let message = format!("the longest dwell time is more than {DWELL_RATIO_MAX} times the shortest");
        self.require(ratio <= DWELL_RATIO_MAX, &states, &message);
        self.reachability(&states, markov);
    }

    fn reachability(&mut self, path: &str, markov: &Markov) {
        for from in markov.states.keys() {
            let mut reached = BTreeSet::from([from]);
            let mut open = vec![from];
            while let Some(state) = open.pop().and_then(|name| markov.states.get(name)) {
                open.extend(state.next.keys().filter(|next| reached.insert(next)));
            }
            if let Some(missing) = markov.states.keys().find(|name| !reached.contains(name)) {
                let path = format!("{path}/{}", pointer_token(from));
                return self
                    .note(path, format!("`{missing}` cannot be reached from `{from}`; each state must be from each"));
            }
        }
    }

    fn counter(&mut self, path: &str, counter: &Counter) {
        self.require(counter.rate.is_some() != counter.of.is_some(), path, "expected either `rate` or `of`");
        self.amount(counter.rate.unwrap_or_default(), &format!("{path}/rate"));
        self.positive(counter.per, &format!("{path}/per"));
        self.finite(counter.start, &format!("{path}/start"));
        self.amount(counter.spread, &format!("{path}/spread"));
        if let Some(of) = &counter.of {
            self.integrated(of, &format!("{path}/of"), |model| integrable(model, of).err());
        }
    }

    fn integrator(&mut self, path: &str, integrator: &Integrator) {
        let Integrator { of, per, start, spread, range, .. } = integrator;
        let at = |field: &str| format!("{path}/{field}");
        self.positive(*per, &at("per"));
        self.amount(*spread, &at("spread"));
        match start {
            Some(start) => {
                self.scalar(&Scalar::Number(*start), Some(*range), &at("start"));
                let room = range[1] - start;
                let message = format!("expected at most {room}, the room above `start`, found {spread}");
                self.require(*spread <= room || room < 0.0, &at("spread"), &message);
            }
            None => self.require(*spread <= 0.0, &at("spread"), "expected `start`, to which it is added"),
        }
        self.integrated(of, &at("of"), |model| step_of(model, of).err());
    }

    /// What an integral is of: a number about which nothing is wrong.
    fn integrated(&mut self, of: &str, path: &str, wrong: impl FnOnce(&Model) -> Option<String>) {
        match self.type_of(of, path) {
            Some(Type::Number) => {
                if let Some(message) = wrong(self.model) {
                    self.note(path, message);
                }
            }
            Some(other) => self.note(path, format!("expected a number to integrate; `{of}` is a {other}")),
            None => {}
        }
    }

    fn expression(&mut self, text: &str, path: &str) {
        let expression = match Expression::parse(text) {
            Ok(expression) => expression,
            Err(error) => return self.note(path, error.to_string()),
        };
        let mut is_known = true;
        expression.for_each_name(&mut |name| is_known &= self.type_of(name, path).is_some());
        if is_known
            && let Err(message) = expression.type_of(&|name| self.types.get(name).copied().unwrap_or(Type::Number))
        {
            self.note(path, message);
        }
    }

    /// Signals that are computed from themselves.
    fn cycles(&mut self) {
        let mut done = BTreeSet::new();
        for name in self.model.signals.keys() {
            let mut path = Vec::new();
            if let Some(cycle) = cycle(self.model, name, &mut path, &mut done) {
                let place = format!("/signals/{}", pointer_token(&cycle[0]));
                self.note(place, format!("it is computed from itself: {}", cycle.join(" from ")));
            }
        }
    }

    fn stream(&mut self, path: &str, stream: &Stream) {
        self.topic(path, stream);
        self.trigger(path, stream);
        self.payload(path, stream);
        self.stamp(path, stream);
        self.properties(path, stream);
        self.size(path, stream);
        self.faults(&format!("{path}/faults"), stream);
    }

    fn topic(&mut self, path: &str, stream: &Stream) {
        let path = format!("{path}/topic");
        let topic = &stream.topic;
        let has = |found: &[char]| topic.literals().any(|text| text.contains(found));
        self.require(!topic.as_str().is_empty(), &path, "a topic has at least one character (MQTT-4.7.3-1)");
        self.require(topic.as_str().len() <= TOPIC_MAX, &path, "a topic has at most 65,535 bytes (MQTT-4.7.3-3)");
        self.require(!has(&['+', '#']), &path, "a topic to publish to has no wildcards `+` and `#` (MQTT-3.3.2-2)");
        self.require(!has(&['\0']), &path, "a topic has no null character (MQTT-4.7.3-2)");
        let is_judged = stream.stamp != StampMode::None;
        let names_device = topic.identifies_device(&Template::default_client_id());
        let message = "the device cannot be told from the topic: use `{index}` or `{id}` in it, or `stamp: none`";
        self.require(names_device || !is_judged, &path, message);
    }

    /// Streams that could not be told apart.
    fn shared_topics(&mut self) {
        let mut seen = BTreeMap::new();
        for (name, stream) in &self.model.streams {
            let topic = stream.topic.as_str().replace("{stream}", name);
            if let Some(other) = seen.insert(topic, name) {
                let path = format!("/streams/{}/topic", pointer_token(name));
                self.problems.push(Problem { path, message: format!("the stream `{other}` has the same topic") });
            }
        }
    }

    fn trigger(&mut self, path: &str, stream: &Stream) {
        let at = |field: &str| format!("{path}/{field}");
        self.require(stream.messages != Some(0), &at("messages"), "expected at least 1 message");
        match (&stream.interval, &stream.trigger) {
            (Some(interval), None) => {
                self.positive(*interval, &at("interval"));
                self.require(stream.jitter <= *interval, &at("jitter"), "jitter is at most the interval");
                let align = stream.align.unwrap_or(*interval).0;
                let is_regular = align > 0 && (interval.0.is_multiple_of(align) || align.is_multiple_of(interval.0));
                let message = format!("expected a multiple of the interval, which is {interval}, or a part of it");
                self.require(is_regular || *interval == Span::ZERO, &at("align"), &message);
                for (field, value) in [
                    ("check", stream.check),
                    ("atLeastEvery", stream.at_least_every),
                    ("atMostEvery", stream.at_most_every),
                ] {
                    self.require(value.is_none(), &at(field), "only a stream with a rule (`trigger`) has this");
                }
            }
            (None, Some(rule)) => {
                self.rule(rule, &at("trigger"));
                self.require(stream.jitter == Span::ZERO, &at("jitter"), "only a stream with an `interval` has jitter");
                self.require(stream.align.is_none(), &at("align"), "only a stream with an `interval` is aligned");
                let tick = stream.check.unwrap_or(Span::from_secs(1));
                self.positive(tick, &at("check"));
                for (field, value) in [("atLeastEvery", stream.at_least_every), ("atMostEvery", stream.at_most_every)] {
                    let is_multiple =
                        value.is_none_or(|value| value > Span::ZERO && tick.0 > 0 && value.0 % tick.0 == 0);
                    self.require(is_multiple, &at(field), &format!("expected a multiple of `check`, which is {tick}"));
                }
                let window = stream.at_most_every.unwrap_or_default().0 / tick.0.max(1);
                let message = format!("expected at most {WINDOW_MAX} times `check`, which is {tick}");
                self.require(window <= WINDOW_MAX, &at("atMostEvery"), &message);
            }
            _ => self.note(path, "expected either `interval` or `trigger`"),
        }
    }

    fn rule(&mut self, rule: &Rule, path: &str) {
        match rule {
            Rule::Rising(name) => self.truth(name, &format!("{path}/rising")),
            Rule::Falling(name) => self.truth(name, &format!("{path}/falling")),
            Rule::When(name) => self.truth(name, &format!("{path}/when")),
            Rule::Change(change) => {
                let found = self.type_of(&change.signal, &format!("{path}/change/signal"));
                if let (Some(found), Some(by)) = (found, change.by) {
                    let is_sound = found == Type::Number && by.is_finite() && by > 0.0;
                    let message = "expected more than 0, and a signal that is a number";
                    self.require(is_sound, &format!("{path}/change/by"), message);
                }
            }
            Rule::AnyOf(rules) => {
                self.require(!rules.is_empty(), &format!("{path}/anyOf"), "expected at least one rule");
                for (number, rule) in rules.iter().enumerate() {
                    self.rule(rule, &format!("{path}/anyOf/{number}"));
                }
            }
        }
    }

    fn truth(&mut self, name: &str, path: &str) {
        if let Some(found) = self.type_of(name, path)
            && found != Type::Bool
        {
            self.note(path, format!("expected a signal that is true or false; `{name}` is a {found}"));
        }
    }

    fn payload(&mut self, path: &str, stream: &Stream) {
        for placed in stream.payload.texts() {
            let path = format!("{path}/payload{}", placed.path);
            match split(placed.text) {
                Err(message) => self.note(path, message),
                Ok(pieces) => {
                    for piece in pieces {
                        if let TextPiece::Slot(Slot::Signal { name, .. }) = piece {
                            self.type_of(name, &path);
                        }
                    }
                }
            }
        }
        if let Payload::Raw(parts) = &stream.payload {
            self.raw(&format!("{path}/payload/raw"), parts);
        }
    }

    fn raw(&mut self, path: &str, parts: &[RawPart]) {
        for (number, part) in parts.iter().enumerate() {
            match part {
                RawPart::Text(_) => {}
                RawPart::Hex(digits) => {
                    if let Err(message) = unhex(digits) {
                        self.note(format!("{path}/{number}/hex"), message);
                    }
                }
                RawPart::Number(part) => {
                    self.finite(part.scale, &format!("{path}/{number}/number/scale"));
                    let is_number = match split(&part.value).as_deref() {
                        Ok([TextPiece::Slot(slot)]) => match slot {
                            Slot::Signal { name, .. } => self.types.get(*name).is_none_or(|found| *found != Type::Text),
                            Slot::Timestamp(_) | Slot::Sequence | Slot::Index { width: 0 } => true,
                            _ => false,
                        },
                        // Noted as a text already.
                        Err(_) => true,
                        Ok(_) => false,
                    };
                    let message = "expected one placeholder whose value is a number or a truth value";
                    self.require(is_number, &format!("{path}/{number}/number/value"), message);
                }
            }
        }
    }

    fn stamp(&mut self, path: &str, stream: &Stream) {
        match (&stream.stamp, stream.payload.members()) {
            (StampMode::None | StampMode::Property, _) => {}
            (StampMode::Field, Some(members)) => {
                let is_free = !members.contains_key(stamp::JSON_FIELD);
                let message = "the payload has a member `stamp` of its own; rename it, or choose another way to stamp";
                self.require(is_free, &format!("{path}/payload"), message);
            }
            (StampMode::Field, None) => {
                let is_stamped = stream.payload.texts().iter().any(|placed| placed.text.contains("{stamp}"));
                let message = "a text or raw payload says `{stamp}` somewhere, or its stream `stamp: none`";
                self.require(is_stamped, &format!("{path}/payload"), message);
            }
            (StampMode::Counter(field), members) => {
                let value = members.and_then(|members| members.get(field)).and_then(|member| member.as_str());
                let message = format!("the payload needs a member `{field}` with the value `{{seq}}`");
                self.require(value == Some("{seq}"), &format!("{path}/stamp/counter"), &message);
            }
        }
    }

    fn properties(&mut self, path: &str, stream: &Stream) {
        let Some(properties) = &stream.properties else { return };
        let MessageProperties { content_type, expiry, response_topic, correlation_data, user } = properties;
        let is_whole = expiry.is_none_or(|expiry| expiry.0 % 1_000_000 == 0 && expiry <= EXPIRY_MAX);
        let message = "expected whole seconds up to 4294967295s";
        self.require(is_whole, &format!("{path}/properties/expiry"), message);
        let has_wildcard = response_topic.as_ref().is_some_and(|topic| {
            topic.as_str().is_empty() || topic.literals().any(|text| text.contains(['+', '#', '\0']))
        });
        let message = "expected a topic without `+`, `#` and null characters";
        self.require(!has_wildcard, &format!("{path}/properties/responseTopic"), message);
        let texts = [content_type, correlation_data].into_iter().flatten().chain(user.values());
        let has_null =
            texts.flat_map(Template::literals).chain(user.keys().map(String::as_str)).any(|text| text.contains('\0'));
        self.require(!has_null, &format!("{path}/properties"), "a property has no null character (MQTT-1.5.4-2)");
        let is_free = stream.stamp != StampMode::Property || !user.contains_key(stamp::PROPERTY);
        let message = "the stamp travels under this name; rename it, or choose another way to stamp";
        self.require(is_free, &format!("{path}/properties/user/{}", stamp::PROPERTY), message);
    }

    fn size(&mut self, path: &str, stream: &Stream) {
        let Some(size) = stream.size else { return };
        let path = format!("{path}/size");
        let least = if stream.stamp == StampMode::Field { stamp::LENGTH + 15 } else { 2 };
        let most = if matches!(stream.payload, Payload::Cbor(_)) { CBOR_SIZE_MAX } else { BODY_MAX.into() };
        let message = format!("expected {least} to {most} bytes");
        self.require((least as u64..=most).contains(&size.0), &path, &message);
        let is_free = stream.payload.members().is_none_or(|members| !members.contains_key("pad"));
        self.require(is_free, &path, "the payload has a member `pad` of its own, which padding would use");
    }

    fn faults(&mut self, path: &str, stream: &Stream) {
        let found = stream.faults.len();
        let message = format!("expected at most {STREAM_FAULTS_MAX} faults, found {found}");
        self.require(found <= STREAM_FAULTS_MAX, path, &message);
        for (position, fault) in stream.faults.iter().enumerate() {
            let path = format!("{path}/{position}");
            match fault {
                StreamFault::Corrupt(corrupt) => {
                    self.some(corrupt.messages, &path);
                    self.corruption(&format!("{path}/how"), corrupt.how, stream);
                }
                StreamFault::Duplicate(duplicate) => self.some(duplicate.messages, &path),
                StreamFault::Stale(stale) => {
                    self.some(stale.messages, &path);
                    self.positive(stale.age, &format!("{path}/age"));
                }
                StreamFault::Silence(silence) => self.episodes(&path, silence.every, silence.lasts),
                StreamFault::Flood(flood) => {
                    self.episodes(&path, flood.every, flood.lasts);
                    let (interval, path) = (flood.interval, format!("{path}/interval"));
                    let message = format!("expected at least {FLOOD_MIN}, found `{interval}`");
                    self.require(interval >= FLOOD_MIN, &path, &message);
                    let message = format!("expected less than an episode lasts ({}), found `{interval}`", flood.lasts);
                    self.require(interval < flood.lasts || flood.lasts == Span::ZERO, &path, &message);
                }
            }
        }
    }

    fn some(&mut self, messages: Share, path: &str) {
        self.require(messages > Share::NONE, &format!("{path}/messages"), "expected more than none, found `0%`");
    }

    fn episodes(&mut self, path: &str, every: Span, lasts: Span) {
        self.positive(every, &format!("{path}/every"));
        let message =
            format!("expected more than no time and less than from one to the next ({every}), found `{lasts}`");
        self.require(lasts > Span::ZERO && lasts < every, &format!("{path}/lasts"), &message);
    }

    fn corruption(&mut self, path: &str, how: Corruption, stream: &Stream) {
        let is_json = matches!(stream.payload, Payload::Json(_));
        let needs_json = matches!(how, Corruption::Type | Corruption::Range);
        let message = "only numbers of a JSON payload become text or too large; expected `bits` or `truncation`";
        self.require(is_json || !needs_json, path, message);
        let is_counted = matches!(stream.stamp, StampMode::Counter(_));
        let message =
            "with another counter a message would pass for another one; expected another `stamp` than a counter";
        self.require(!is_counted, path, message);
    }
}

/// The names around a cycle that a signal leads to, and not yet reported.
fn cycle(model: &Model, name: &str, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
    if let Some(begin) = path.iter().position(|before| before == name) {
        let mut cycle = path[begin..].to_vec();
        cycle.push(name.into());
        return Some(cycle);
    }
    if !done.insert(name.into()) {
        return None;
    }
    path.push(name.into());
    let found = inputs(model, name).iter().find_map(|input| cycle(model, input, path, done));
    path.pop();
    found
}

/// The signals that a signal is computed from.
fn inputs(model: &Model, name: &str) -> Vec<String> {
    match model.signals.get(name) {
        Some(Signal::Counter(counter)) => counter.of.iter().cloned().collect(),
        Some(Signal::Integrator(integrator)) => vec![integrator.of.clone()],
        Some(Signal::Derived(derived)) => {
            let mut names = Vec::new();
            if let Ok(expression) = Expression::parse(&derived.expression) {
                expression.for_each_name(&mut |name| names.push(name.clone()));
            }
            names
        }
        Some(
            Signal::Constant(_)
            | Signal::Uniform(_)
            | Signal::Gaussian(_)
            | Signal::RandomWalk(_)
            | Signal::OrnsteinUhlenbeck(_)
            | Signal::Noise(_)
            | Signal::Sine(_)
            | Signal::Diurnal(_)
            | Signal::Step(_)
            | Signal::Markov(_)
            | Signal::Replay(_)
            | Signal::Route(_),
        )
        | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
