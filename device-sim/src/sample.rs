//! What devices would send, without sending it.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use fleet_contract::{model::Qos, stamp::Stamp, time::Micros, units::Span};

use crate::model::{Model, Scratch};

/// A message that a device would send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub due: Micros,
    /// Who.
    pub device: u32,
    /// The stream's index in [`Model::streams`].
    pub stream: usize,
    /// Where to.
    pub topic: String,
    /// Quality of service.
    pub qos: Qos,
    /// Whether the broker would keep it.
    pub is_retained: bool,
    /// The body.
    pub payload: Vec<u8>,
}

/// All messages of some devices within `duration` from `start`, in the order of their due instants.
pub fn sample(model: &Model, devices: Range<u32>, start: Micros, duration: Span) -> impl Iterator<Item = Sample> {
    let mut samples =
        Samples { model, start, end: start.after(duration), queue: BinaryHeap::new(), scratch: Scratch::default() };
    for device in devices {
        for stream in 0..model.streams().len() {
            samples.schedule(stream, device, 0, start);
        }
    }
    samples
}

struct Samples<'a> {
    model: &'a Model,
    start: Micros,
    end: Micros,
    /// The next tick of each stream of each device, with the number of its next message.
    queue: BinaryHeap<Reverse<(Micros, u32, usize, u32)>>,
    scratch: Scratch,
}

impl Samples<'_> {
    fn schedule(&mut self, stream: usize, device: u32, sequence: u32, from: Micros) {
        let timetable = &self.model.streams()[stream];
        let due = timetable.due_at_or_after(device, self.start, timetable.tick(), from);
        if due < self.end {
            self.queue.push(Reverse((due, device, stream, sequence)));
        }
    }
}

impl Iterator for Samples<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        loop {
            let Reverse((due, device, stream, seq)) = self.queue.pop()?;
            let is_due = self.model.is_due(stream, device, due, self.start, &mut self.scratch);
            self.schedule(stream, device, seq + u32::from(is_due), due.after(Span(1)));
            if is_due {
                let stamp = Stamp { run: 0, epoch: self.start, seq, due };
                return Some(self.message(stream, device, &stamp));
            }
        }
    }
}

impl Samples<'_> {
    fn message(&mut self, stream: usize, device: u32, stamp: &Stamp) -> Sample {
        let (mut topic, mut payload) = (Vec::new(), Vec::new());
        self.model.write_topic(stream, device, &mut topic);
        self.model.write_payload(stream, device, self.start, stamp, &mut self.scratch, &mut payload);
        let document = &self.model.streams()[stream];
        Sample {
            due: stamp.due,
            device,
            stream,
            topic: String::from_utf8_lossy(&topic).into_owned(),
            qos: document.qos(),
            is_retained: document.is_retained(),
            payload,
        }
    }
}
