//! What devices would send, without sending it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    ops::Range,
};

use fleet_contract::{
    model::{Qos, payload::Format},
    plan::Pace,
    stamp::Stamp,
    time::Micros,
    units::Span,
};

use crate::{
    fault::{self, How},
    index::{DeviceIndex, StreamIndex},
    model::{Model, Scratch, Stream},
    session::codec::v5::{self, Property},
};

/// A message that a device would send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub due: Micros,
    /// Who.
    pub device: DeviceIndex,
    /// Of which stream.
    pub stream: StreamIndex,
    /// Where to.
    pub topic: String,
    /// Quality of service.
    pub qos: Qos,
    /// Whether the broker would keep it.
    pub is_retained: bool,
    /// What MQTT 5 would say beside the body.
    pub properties: Properties,
    /// The format of the body, as the model has it; a fault may have spoilt the bytes.
    pub format: Format,
    /// The body.
    pub payload: Vec<u8>,
}

/// What MQTT 5 says of a message, as a subscriber reads it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Properties {
    /// What the body is.
    pub content_type: Option<String>,
    /// For how long the message is worth delivering, in whole seconds.
    pub expiry: Option<Span>,
    /// Where an answer goes to.
    pub response_topic: Option<String>,
    /// What an answer refers to.
    pub correlation_data: Option<Vec<u8>>,
    /// Properties of one's own, the stamp among them if it is one, in their order.
    pub user: Vec<(String, String)>,
}

/// All messages of some devices within `duration` from `start`, in the order of their due instants, with the faults that streams
/// have by themselves: what they spoil is spoilt, and a message that is sent twice comes twice.
pub fn sample(model: &Model, devices: Range<u32>, start: Micros, duration: Span) -> impl Iterator<Item = Sample> {
    sample_at(model, move |stream| Pace::steady(start, stream.tick()), devices, start, duration)
}

/// The same with the paces that a plan gives the periodic streams. What follows a rule has none: its looks stay as they are.
pub fn sample_at(
    model: &Model,
    pace: impl Fn(&Stream) -> Pace,
    devices: Range<u32>,
    start: Micros,
    duration: Span,
) -> impl Iterator<Item = Sample> {
    let pace = |stream: &Stream| if stream.is_periodic() { pace(stream) } else { Pace::steady(start, stream.tick()) };
    let mut samples = Samples {
        model,
        paces: model.streams().iter().map(pace).collect(),
        start,
        end: start.after(duration),
        queue: BinaryHeap::new(),
        again: VecDeque::new(),
        scratch: Scratch::default(),
    };
    for device in devices.map(DeviceIndex::new) {
        for (stream, _) in model.indexed_streams() {
            samples.schedule(stream, device, 0, start);
        }
    }
    samples
}

struct Samples<'a> {
    model: &'a Model,
    /// By stream.
    paces: Vec<Pace>,
    start: Micros,
    end: Micros,
    /// The next tick of each stream of each device, with the number of its next message.
    queue: BinaryHeap<Reverse<(Micros, DeviceIndex, StreamIndex, u32)>>,
    /// What comes once more, at once.
    again: VecDeque<Sample>,
    scratch: Scratch,
}

impl Samples<'_> {
    fn schedule(&mut self, stream: StreamIndex, device: DeviceIndex, sequence: u32, from: Micros) {
        let timetable = self.model.stream(stream);
        let due = timetable.first_due(&self.paces[stream.place()], device, from);
        let due = due.min(timetable.faults(device, self.start).flood_due(from));
        if due < self.end {
            self.queue.push(Reverse((due, device, stream, sequence)));
        }
    }
}

impl Iterator for Samples<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        loop {
            if let Some(sample) = self.again.pop_front() {
                return Some(sample);
            }
            let Reverse((due, device, stream, seq)) = self.queue.pop()?;
            let is_due = self.model.is_said(stream, device, due, self.start, &mut self.scratch);
            self.schedule(stream, device, seq + u32::from(is_due), due.after(Span(1)));
            if is_due {
                let stamp = Stamp { run: 0, epoch: self.start, seq, due };
                let sample = self.message(stream, device, &stamp);
                let faults = self.model.stream(stream).faults(device, self.start);
                let twice = faults.fates(due).filter(|fate| fate.how == How::Twice);
                self.again.extend(twice.map(|_| sample.clone()));
                return Some(sample);
            }
        }
    }
}

impl Samples<'_> {
    fn message(&mut self, stream: StreamIndex, device: DeviceIndex, stamp: &Stamp) -> Sample {
        let (mut topic, mut payload) = (Vec::new(), Vec::new());
        self.model.write_topic(stream, device, &mut topic);
        let document = self.model.stream(stream);
        let faults = document.faults(device, self.start);
        let seen = fault::seen(stamp.due, faults.fates(stamp.due));
        let of_device = (device, self.start);
        self.model.write_payload_as(stream, of_device, stamp, &seen, &mut self.scratch, &mut payload);
        for fate in faults.fates(stamp.due) {
            fate.spoil(&mut payload, 0, false);
        }
        Sample {
            due: stamp.due,
            device,
            stream,
            topic: String::from_utf8_lossy(&topic).into_owned(),
            qos: document.qos(),
            is_retained: document.is_retained(),
            properties: self.properties(stream, device, stamp),
            format: document.format(),
            payload,
        }
    }

    /// Reads back what would be sent. A text that no property holds makes a message that is never sent, without any.
    fn properties(&self, stream: StreamIndex, device: DeviceIndex, stamp: &Stamp) -> Properties {
        let mut written = Vec::new();
        let write = |out: &mut Vec<u8>| self.model.write_properties(stream, device, stamp, out);
        let is_written = v5::write_properties(&mut written, write).is_ok();
        match v5::Properties::of_publish(&written) {
            Ok((properties, _)) if is_written => properties.iter().collect(),
            _ => Properties::default(),
        }
    }
}

impl<'a> FromIterator<Property<'a>> for Properties {
    fn from_iter<I: IntoIterator<Item = Property<'a>>>(properties: I) -> Self {
        let mut found = Self::default();
        for property in properties {
            match property {
                Property::ContentType(text) => found.content_type = Some(text.to_owned()),
                Property::MessageExpiryInterval(seconds) => found.expiry = Some(Span::from_secs(seconds.into())),
                Property::ResponseTopic(topic) => found.response_topic = Some(topic.to_owned()),
                Property::CorrelationData(data) => found.correlation_data = Some(data.to_vec()),
                Property::User(name, value) => found.user.push((name.to_owned(), value.to_owned())),
                _ => {}
            }
        }
        found
    }
}
