//! A model, compiled for one group of a fleet: what each of its devices sends, and when.
//!
//! Everything is a pure function of the document, the seed, the start instant, the device and the instant asked about.
//! A [`Model`] is immutable and shared by all shards; what they need to write with is a [`Scratch`] each.

mod properties;

use std::collections::BTreeMap;

use fleet_contract::{
    fleet::Birth,
    model::{
        self as document, Files, Payload, Problem, Qos, Rule, StampMode, StreamOverride, check, check_overrides,
        fault::RateEffect,
        payload::{Format, pointer_token},
    },
    plan::Pace,
    stamp::{self, Stamp},
    template::{Bound, Names, Template, TemplateError},
    time::Micros,
    units::Span,
};

use crate::{
    encode::{self, Message, Program},
    fault::{OfDevice, StreamFaults},
    index::{DeviceIndex, StreamIndex},
    random::Source,
    session::codec::FrameError,
    signal::{self, Memo, Moment, Signals, Value},
};

/// The name of the birth message among the streams.
const BIRTH: &str = "connect.birth";

/// What a document is compiled with.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The fleet's name.
    pub fleet: &'a str,
    /// The group's name.
    pub group: &'a str,
    /// The fleet's seed.
    pub seed: u64,
    /// The number that the first device goes by in `{index}`.
    pub first_index: u32,
    /// The template of the client id.
    pub client_id: &'a Template,
    /// The files that the document names.
    pub files: &'a Files,
}

/// The compiled model of one group.
#[derive(Debug)]
pub struct Model {
    signals: Signals,
    streams: Vec<Stream>,
}

/// A compiled stream.
#[derive(Debug)]
pub struct Stream {
    name: String,
    qos: Qos,
    is_retained: bool,
    stamp: StampMode,
    is_followed: bool,
    trigger: Trigger,
    /// How many messages a device sends of it.
    messages: Option<u32>,
    /// Phase and jitter of each device.
    source: Source,
    topic: Bound,
    format: Format,
    body: Program,
    properties: properties::Properties,
    faults: StreamFaults,
    rate_effect: RateEffect,
}

/// When a stream sends.
#[derive(Debug)]
enum Trigger {
    Interval {
        interval: Span,
        jitter: Span,
        align: Option<Span>,
    },
    Rule(Ticks),
    /// Whenever a session is accepted: no timetable knows when.
    Session,
    /// Whenever the agent says so.
    Event,
}

/// A rule, looked at once a tick. Heartbeats and windows count in ticks.
#[derive(Debug)]
struct Ticks {
    tick: Span,
    condition: Condition,
    at_least_every: Option<u64>,
    at_most_every: Option<u64>,
}

/// A rule with its signals looked up.
#[derive(Debug)]
enum Condition {
    Rising(usize),
    Falling(usize),
    Change { signal: usize, by: Option<f64> },
    When(usize),
    AnyOf(Vec<Self>),
}

/// What a shard needs to evaluate models; reused from message to message, whatever the model.
#[derive(Debug, Default)]
pub struct Scratch {
    now: Memo,
    before: Memo,
}

/// What one device sends on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Messages a second.
    pub messages: f64,
    /// Bytes of topics and payloads a second.
    pub bytes: f64,
}

/// What a device sees when it makes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When the world was as it sees it.
    pub(crate) world: Micros,
    /// What its clock shows.
    pub(crate) clock: Micros,
}

impl Seen {
    /// All is as it is.
    pub(crate) const fn truly(due: Micros) -> Self {
        Self { world: due, clock: due }
    }
}

impl Model {
    /// Compiles a document with a group's changes to its streams, or says all that is wrong: paths below `/streams` and
    /// `/signals` are the document's, those below `/overrides` the group's.
    pub fn compile(
        document: &document::Model,
        overrides: &BTreeMap<String, StreamOverride>,
        context: &Context<'_>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = check(document);
        problems.extend(
            check_overrides(document, overrides)
                .into_iter()
                .map(|problem| Problem { path: format!("/overrides{}", problem.path), message: problem.message }),
        );
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut document = document.clone();
        for (name, change) in overrides {
            if let Some(stream) = document.streams.get_mut(name) {
                change.apply(stream);
            }
        }
        let signals = Signals::compile(&document, context.seed, context.files)?;
        let streams = compile_streams(&document, &signals, context)?;
        Ok(Self { signals, streams })
    }

    /// Adds a stream whose messages the agent decides on, without interval and trigger.
    pub(crate) fn add_event(
        &mut self,
        name: &str,
        document: &document::Stream,
        context: &Context<'_>,
    ) -> Result<(), Vec<Problem>> {
        self.streams.push(assemble(name, document, Trigger::Event, &self.signals, context)?);
        Ok(())
    }

    /// Adds the message that says that a session has begun. It is the last of the streams.
    pub fn add_birth(&mut self, birth: &Birth, context: &Context<'_>) -> Result<(), Vec<Problem>> {
        let wrong = |error: TemplateError| vec![Problem { path: "/topic".into(), message: error.to_string() }];
        let document = document::Stream {
            topic: birth.topic.parse().map_err(wrong)?,
            payload: Payload::Text(birth.payload.clone()),
            qos: birth.qos,
            retain: birth.retain,
            stamp: StampMode::None,
            interval: None,
            jitter: Span::ZERO,
            align: None,
            messages: None,
            trigger: None,
            check: None,
            at_least_every: None,
            at_most_every: None,
            size: None,
            properties: None,
            faults: Vec::new(),
        };
        self.streams.push(assemble(BIRTH, &document, Trigger::Session, &self.signals, context)?);
        Ok(())
    }

    /// The streams, in the order of their names; behind them those of an agent, and a birth message at the end.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// A stream.
    pub fn stream(&self, stream: StreamIndex) -> &Stream {
        &self.streams[stream.place()]
    }

    /// The streams, each with its index.
    pub fn indexed_streams(&self) -> impl Iterator<Item = (StreamIndex, &Stream)> {
        StreamIndex::first(self.streams.len()).zip(&self.streams)
    }

    /// The birth message, if there is one.
    pub(crate) fn birth(&self) -> Option<StreamIndex> {
        let last = self.streams.len().checked_sub(1)?;
        self.streams[last].is_birth().then(|| StreamIndex::new(last))
    }

    /// Appends the topic of a stream of a device.
    pub fn write_topic(&self, stream: StreamIndex, device: DeviceIndex, out: &mut Vec<u8>) {
        self.stream(stream).topic.write(device.number(), out);
    }

    /// Whether a stream has something to say at a tick: always with an interval; with a rule, if it says so.
    ///
    /// `due` is an instant that [`Stream::due_at_or_after`] returned for this device with the anchor `start`.
    pub fn is_due(
        &self,
        stream: StreamIndex,
        device: DeviceIndex,
        due: Micros,
        start: Micros,
        scratch: &mut Scratch,
    ) -> bool {
        let stream = self.stream(stream);
        let Trigger::Rule(rule) = &stream.trigger else { return true };
        let tick = due.since(start.after(stream.phase(device, rule.tick))).0 / rule.tick.0;
        let look = Look { model: self, rule, device, start, due, tick, ahead: stream.ahead(device, rule) };
        if !look.fires(tick, scratch) {
            return false;
        }
        let window = rule.at_most_every.unwrap_or(1);
        let begin = tick.saturating_sub((tick + look.ahead) % window);
        !(begin..tick).any(|earlier| look.fires(earlier, scratch))
    }

    /// Whether a device says something on a stream at an instant, with the faults that the stream has by itself: by its timetable
    /// or by a flood, unless it is silent. `due` is what [`Self::is_due`] takes, or an instant of a flood.
    pub(crate) fn is_said(
        &self,
        stream: StreamIndex,
        device: DeviceIndex,
        due: Micros,
        start: Micros,
        scratch: &mut Scratch,
    ) -> bool {
        let faults = self.stream(stream).faults(device, start);
        let is_due = faults.flood_due(due) == due || self.is_due(stream, device, due, start, scratch);
        is_due && !faults.is_silent(due)
    }

    /// Appends the payload of a message. Its due instant and sequence are the stamp's.
    pub fn write_payload(
        &self,
        stream: StreamIndex,
        device: DeviceIndex,
        start: Micros,
        stamp: &Stamp,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) {
        self.write_payload_as(stream, (device, start), stamp, &Seen::truly(stamp.due), scratch, out);
    }

    /// The same as a device tells it that sees the world as of another time, or whose clock is wrong; the stamp is right.
    pub(crate) fn write_payload_as(
        &self,
        stream: StreamIndex,
        (device, start): (DeviceIndex, Micros),
        stamp: &Stamp,
        seen: &Seen,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) {
        let moment = Moment { device, start, now: seen.world };
        let mut reader = self.signals.read(moment, &mut scratch.now);
        self.stream(stream).body.write(&Message { device, stamp, clock: seen.clock }, &mut reader, out);
    }

    /// Appends the properties of a message of MQTT 5.
    pub fn write_properties(
        &self,
        stream: StreamIndex,
        device: DeviceIndex,
        stamp: &Stamp,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        self.stream(stream).properties.write(device, stamp, out)
    }

    /// Whether any of its streams has faults by itself.
    pub fn has_faults(&self) -> bool {
        self.streams.iter().any(|stream| !stream.faults.is_empty())
    }

    /// A condition on its signals; `None` where it lacks one of them, or a type does not fit.
    pub(crate) fn condition(&self, text: &str) -> Option<signal::Condition> {
        signal::Condition::compile(text, &self.signals)
    }

    /// Whether the signals of a device meet a condition at an instant.
    pub(crate) fn meets(
        &self,
        condition: &signal::Condition,
        device: DeviceIndex,
        start: Micros,
        at: Micros,
        scratch: &mut Scratch,
    ) -> bool {
        condition.is_met(&mut self.signals.read(Moment { device, start, now: at }, &mut scratch.now))
    }

    /// The highest quality of service of its messages.
    pub fn highest_qos(&self) -> Qos {
        self.streams.iter().map(|stream| stream.qos).max().unwrap_or_default()
    }

    /// Whether the broker is to keep any of its messages for new subscribers.
    pub fn retains(&self) -> bool {
        self.streams.iter().any(|stream| stream.is_retained)
    }

    /// Stream and device of a topic; `None` when it is none of ours or its template does not name the device.
    pub fn recognise(&self, topic: &[u8]) -> Option<(StreamIndex, DeviceIndex)> {
        self.indexed_streams().find_map(|(index, stream)| Some((index, DeviceIndex::new(stream.topic.invert(topic)?))))
    }

    /// The wildcard filter that covers a stream's topics.
    pub fn filter(&self, stream: StreamIndex) -> String {
        self.stream(stream).topic.filter()
    }

    /// What one device sends on average from `start` on, by trying some devices; rules are watched for ten minutes.
    pub fn load(&self, start: Micros) -> Load {
        let mut load = Load { messages: 0.0, bytes: 0.0 };
        for stream in StreamIndex::first(self.streams.len()) {
            let (messages, bytes) = self.stream_load(stream, start);
            load.messages += messages;
            load.bytes += bytes;
        }
        load
    }

    /// Messages and bytes (of topics and payloads) a second that one device sends on a stream, on average, with its faults.
    pub fn stream_load(&self, stream: StreamIndex, start: Micros) -> (f64, f64) {
        const DEVICES: u32 = 16;
        const WATCHED: Span = Span::from_secs(600);
        let mut scratch = Scratch::default();
        let (mut topic, mut payload) = (Vec::new(), Vec::new());
        let (mut messages, mut bytes) = (0u32, 0usize);
        let timetable = self.stream(stream);
        let interval = timetable.tick();
        for device in (0..DEVICES).map(DeviceIndex::new) {
            let mut due = timetable.due_at_or_after(device, start, interval, start);
            let end = match timetable.interval() {
                Some(_) => due.after(Span(1)),
                None => start.after(WATCHED),
            };
            while due < end {
                if self.is_due(stream, device, due, start, &mut scratch) {
                    topic.clear();
                    payload.clear();
                    self.write_topic(stream, device, &mut topic);
                    let stamp = Stamp { run: 0, epoch: start, seq: messages, due };
                    self.write_payload(stream, device, start, &stamp, &mut scratch, &mut payload);
                    bytes += topic.len() + payload.len();
                    messages += 1;
                }
                due = timetable.due_at_or_after(device, start, interval, due.after(Span(1)));
            }
        }
        let rate = match timetable.interval() {
            Some(interval) => 1.0 / interval.as_secs_f64(),
            None => f64::from(messages) / f64::from(DEVICES) / WATCHED.as_secs_f64(),
        };
        let rate = timetable.rate_effect.rate(rate);
        (rate, rate * bytes as f64 / f64::from(messages.max(1)))
    }
}

impl Stream {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Quality of service.
    pub fn qos(&self) -> Qos {
        self.qos
    }

    /// Whether the broker keeps the last message.
    pub fn is_retained(&self) -> bool {
        self.is_retained
    }

    /// Its topic, with all but the device filled in.
    pub const fn topic(&self) -> &Bound {
        &self.topic
    }

    /// The format of its bodies.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// How its messages can be recognised.
    pub fn stamp(&self) -> &StampMode {
        &self.stamp
    }

    /// The document's interval; `None` for a stream that follows a rule.
    pub fn interval(&self) -> Option<Span> {
        match &self.trigger {
            Trigger::Interval { interval, .. } => Some(*interval),
            Trigger::Rule(_) | Trigger::Session | Trigger::Event => None,
        }
    }

    /// The time from one due instant to the next: the interval, or how often the rule looks; of birth messages and events, which
    /// have no timetable, nothing that matters.
    pub fn tick(&self) -> Span {
        match &self.trigger {
            Trigger::Interval { interval, .. } => *interval,
            Trigger::Rule(rule) => rule.tick,
            Trigger::Session | Trigger::Event => Span::from_secs(1),
        }
    }

    /// Whether it is sent at an interval.
    pub const fn is_periodic(&self) -> bool {
        matches!(self.trigger, Trigger::Interval { .. })
    }

    /// Whether a timetable says when it is sent, or when its rule is looked at.
    pub(crate) const fn has_timetable(&self) -> bool {
        !matches!(self.trigger, Trigger::Session | Trigger::Event)
    }

    /// Whether the agent says when it is sent.
    pub(crate) const fn is_event(&self) -> bool {
        matches!(self.trigger, Trigger::Event)
    }

    /// Whether it is sent whenever a session is accepted, and at no other time.
    pub const fn is_birth(&self) -> bool {
        matches!(self.trigger, Trigger::Session)
    }

    /// Whether its messages can be followed to their delivery.
    pub const fn is_followed(&self) -> bool {
        self.is_followed
    }

    /// How many messages a device sends of it before it is silent, if there is an end.
    pub const fn messages(&self) -> Option<u32> {
        self.messages
    }

    /// The faults that it has by itself, of a device in a run that has begun at `start`.
    pub(crate) const fn faults(&self, device: DeviceIndex, start: Micros) -> OfDevice<'_> {
        self.faults.of(device, start)
    }

    /// What these do to its rate.
    pub const fn rate_effect(&self) -> RateEffect {
        self.rate_effect
    }

    /// Whether the device can be told from the topic.
    pub fn identifies_device(&self) -> bool {
        self.topic.identifies_device()
    }

    /// The sequence that a payload of this stream carries, if it carries one.
    pub fn sequence(&self, payload: &[u8]) -> Option<u32> {
        match &self.stamp {
            StampMode::Field => Stamp::find(payload).map(|stamp| stamp.seq),
            StampMode::Counter(field) => stamp::find_counter(payload, field),
            StampMode::Property | StampMode::None => None,
        }
    }

    /// The first due instant at or after `from` of a stream that goes at this pace.
    pub fn first_due(&self, pace: &Pace, device: DeviceIndex, from: Micros) -> Micros {
        pace.first(from, |anchor, interval, from| self.due_at_or_after(device, anchor, interval, from))
    }

    /// The first due instant at or after `from`.
    ///
    /// `anchor` is where the timetable begins: the start of the plan or the last change of the interval; `interval` is the one
    /// in force. Devices are spread over the interval, or all begin at a multiple of the wall clock; jitter is at most the interval, so that due instants ascend
    /// strictly. Birth messages and events have none. A stream that follows a rule has no jitter, and its anchor and interval are always `start` and [`Stream::tick`].
    pub fn due_at_or_after(&self, device: DeviceIndex, anchor: Micros, interval: Span, from: Micros) -> Micros {
        let interval = Span(interval.0.max(1));
        let (jitter, align) = match &self.trigger {
            Trigger::Interval { jitter, align, .. } => (jitter.0.min(interval.0), *align),
            Trigger::Rule(_) => (0, None),
            Trigger::Session | Trigger::Event => return Micros::NEVER,
        };
        let first = match align {
            Some(align) => Micros(anchor.0.next_multiple_of(align.0.max(1))),
            None => anchor.after(self.phase(device, interval)),
        };
        let delays = self.source.of(device);
        let due = |turn: u64| {
            let regular = first.0.saturating_add(turn.saturating_mul(interval.0));
            regular.saturating_add(delays.at(turn + 1).below(jitter))
        };
        // No turn before this one can be late enough, and the one after the next is late enough for sure.
        let turn = from.since(first.after(Span(jitter))).0 / interval.0;
        Micros((turn..=turn + 2).map(due).find(|due| *due >= from.0).unwrap_or(u64::MAX))
    }

    /// By how many ticks a device's heartbeats and windows are ahead of those that begin with the timetable: a fleet whose
    /// devices all said at once that they are alive would be silent in between.
    fn ahead(&self, device: DeviceIndex, rule: &Ticks) -> u64 {
        let longest = rule.at_least_every.max(rule.at_most_every).unwrap_or(1);
        self.source.of(device).at(1).below(longest)
    }

    /// By how much a device's turns come after those of the timetable's beginning.
    fn phase(&self, device: DeviceIndex, interval: Span) -> Span {
        Span(self.source.of(device).at(0).below(interval.0))
    }
}

/// A rule of a device, looked at from one of its ticks.
#[derive(Clone, Copy)]
struct Look<'a> {
    model: &'a Model,
    rule: &'a Ticks,
    device: DeviceIndex,
    start: Micros,
    /// The instant of the tick `tick`.
    due: Micros,
    tick: u64,
    /// See [`Stream::ahead`].
    ahead: u64,
}

impl Look<'_> {
    /// Whether the rule or its heartbeat fires at a tick, not later than the one it is looked at from.
    fn fires(&self, tick: u64, scratch: &mut Scratch) -> bool {
        self.rule.at_least_every.is_some_and(|every| (tick + self.ahead).is_multiple_of(every))
            || self.condition(&self.rule.condition, tick, scratch)
    }

    fn condition(&self, condition: &Condition, tick: u64, scratch: &mut Scratch) -> bool {
        match condition {
            Condition::AnyOf(conditions) => conditions.iter().any(|condition| self.condition(condition, tick, scratch)),
            Condition::When(signal) => self.now(*signal, tick, scratch).is_true(),
            Condition::Rising(signal) => {
                self.now(*signal, tick, scratch).is_true()
                    && self.before(*signal, tick, scratch).is_some_and(|before| !before.is_true())
            }
            Condition::Falling(signal) => {
                !self.now(*signal, tick, scratch).is_true()
                    && self.before(*signal, tick, scratch).is_some_and(Value::is_true)
            }
            Condition::Change { signal, by } => {
                let now = self.now(*signal, tick, scratch);
                self.before(*signal, tick, scratch).is_none_or(|before| match (now, before, by) {
                    (Value::Number(now), Value::Number(before), Some(by)) => step_of(now, *by) != step_of(before, *by),
                    _ => now != before,
                })
            }
        }
    }

    fn now(&self, signal: usize, tick: u64, scratch: &mut Scratch) -> Value {
        let memo = if tick == self.tick { &mut scratch.now } else { &mut scratch.before };
        self.model.signals.read(self.moment(tick), memo).value(signal)
    }

    /// The value a tick earlier; `None` at the first tick.
    fn before(&self, signal: usize, tick: u64, scratch: &mut Scratch) -> Option<Value> {
        let moment = self.moment(tick.checked_sub(1)?);
        Some(self.model.signals.read(moment, &mut scratch.before).value(signal))
    }

    fn moment(&self, tick: u64) -> Moment {
        let ago = Span((self.tick - tick) * self.rule.tick.0);
        Moment { device: self.device, start: self.start, now: self.due.before(ago) }
    }
}

/// Between which multiples of `by` a number lies.
#[expect(clippy::cast_possible_truncation, reason = "saturates where a step is smaller than a double can tell")]
fn step_of(number: f64, by: f64) -> i64 {
    (number / by).floor() as i64
}

fn names<'a>(context: &Context<'a>, stream: &'a str) -> Names<'a> {
    Names { fleet: context.fleet, group: context.group, stream, seed: context.seed, first: context.first_index }
}

fn compile_streams(
    document: &document::Model,
    signals: &Signals,
    context: &Context<'_>,
) -> Result<Vec<Stream>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut streams = Vec::new();
    for (name, stream) in &document.streams {
        let path = |below: &str| format!("/streams/{}{below}", pointer_token(name));
        match compile_stream(name, stream, signals, context) {
            Ok(stream) => streams.push(stream),
            Err(found) => problems.extend(
                found.into_iter().map(|Problem { path: below, message }| Problem { path: path(&below), message }),
            ),
        }
    }
    if problems.is_empty() { Ok(streams) } else { Err(problems) }
}

fn compile_stream(
    name: &str,
    document: &document::Stream,
    signals: &Signals,
    context: &Context<'_>,
) -> Result<Stream, Vec<Problem>> {
    let trigger = compile_trigger(document, signals)?;
    assemble(name, document, trigger, signals, context)
}

fn assemble(
    name: &str,
    document: &document::Stream,
    trigger: Trigger,
    signals: &Signals,
    context: &Context<'_>,
) -> Result<Stream, Vec<Problem>> {
    let names = names(context, name);
    let bind = |text: &Template| text.bind(&names, context.client_id);
    let properties = properties::Properties::compile(document.properties.as_ref(), &document.stamp, bind);
    let has_stamp_field = document.stamp == StampMode::Field;
    let size = document.size.map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
    let body = encode::Context { signals, names, client_id: context.client_id, size, has_stamp_field };
    let body = Program::compile(&document.payload, &body).map_err(|problems| {
        let below = |problem: Problem| Problem { path: format!("/payload{}", problem.path), ..problem };
        problems.into_iter().map(below).collect::<Vec<_>>()
    })?;
    Ok(Stream {
        name: name.into(),
        qos: document.qos,
        is_retained: document.retain,
        stamp: document.stamp.clone(),
        is_followed: document.can_be_followed(context.client_id),
        trigger,
        messages: document.messages,
        source: Source::new(context.seed, &format!("stream {name}")),
        topic: document.topic.bind(&names, context.client_id),
        format: document.payload.format(),
        body,
        properties,
        faults: StreamFaults::compile(&document.faults, name, context.seed),
        rate_effect: RateEffect::of(&document.faults),
    })
}

fn compile_trigger(document: &document::Stream, signals: &Signals) -> Result<Trigger, Vec<Problem>> {
    let at = |path: &str| {
        let path = path.to_owned();
        move |message| vec![Problem { path: path.clone(), message }]
    };
    match (&document.interval, &document.trigger) {
        (Some(interval), None) => {
            Ok(Trigger::Interval { interval: *interval, jitter: document.jitter, align: document.align })
        }
        (None, Some(rule)) => {
            let tick = document.check.unwrap_or(Span::from_secs(1));
            let ticks = |every: Option<Span>| every.map(|every| (every.0 / tick.0).max(1));
            Ok(Trigger::Rule(Ticks {
                tick,
                condition: compile_rule(rule, signals).map_err(at("/trigger"))?,
                at_least_every: ticks(document.at_least_every),
                at_most_every: ticks(document.at_most_every),
            }))
        }
        _ => Err(at("")("it needs either `interval` or `trigger`".into())),
    }
}

fn compile_rule(rule: &Rule, signals: &Signals) -> Result<Condition, String> {
    let index = |name: &str| signals.index(name).ok_or_else(|| format!("there is no signal `{name}`"));
    Ok(match rule {
        Rule::Rising(signal) => Condition::Rising(index(signal)?),
        Rule::Falling(signal) => Condition::Falling(index(signal)?),
        Rule::Change(change) => Condition::Change { signal: index(&change.signal)?, by: change.by },
        Rule::When(signal) => Condition::When(index(signal)?),
        Rule::AnyOf(rules) => {
            Condition::AnyOf(rules.iter().map(|rule| compile_rule(rule, signals)).collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers")]
mod tests;
