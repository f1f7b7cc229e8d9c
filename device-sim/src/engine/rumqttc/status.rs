//! What a device tells about itself.

use fleet_contract::{
    stamp::Stamp,
    time::Micros,
    worker::{DeviceStatus, StreamStatus},
};

use super::{Shared, Stripe, books::Books};
use crate::{
    agent::{Agent as _, Made, Telemetry},
    engine::device::State,
    index::StreamIndex,
};

impl Shared {
    /// What is known of a device in a run.
    pub(super) fn status(&self, books: &Books, run: u32) -> DeviceStatus {
        let group = self.blueprint.group_of(books.index);
        let in_flight = books.in_flight.len() + books.waiting.len();
        DeviceStatus {
            index: books.index.number(),
            client_id: group.client_id.text(books.index.number()),
            group: group.name.clone(),
            model: group.model_name.clone(),
            state: <&str>::from(books.state).into(),
            last_error: books.last_error.map(Into::into),
            said: None,
            connects_at: (books.state == State::Offline).then_some(books.connect_at),
            sessions: books.sessions,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            streams: StreamIndex::first(books.streams.len())
                .map(|stream| self.stream_status(books, stream, run))
                .collect(),
        }
    }

    /// Nothing is followed, so nothing waits for its judgement.
    fn stream_status(&self, books: &Books, stream: StreamIndex, run: u32) -> StreamStatus {
        let site = self.site(books.index);
        let model = site.model;
        let (compiled, timetable) = (model.stream(stream), &books.streams[stream.place()]);
        let (seq, due) = match timetable.seq.checked_sub(1) {
            Some(last) => (last, timetable.last_due),
            None => (0, timetable.next_due.min(self.clock.now())),
        };
        let stamp = Stamp { run, epoch: self.clock.epoch(), seq, due };
        let mut stripe = self.stripe(books.index);
        let Stripe { scratch, topic, payload, .. } = &mut *stripe;
        topic.clear();
        payload.clear();
        model.write_topic(stream, books.index, topic);
        Telemetry.encode(&site, Made::truly(stream, &stamp, &[]), scratch, payload);
        StreamStatus {
            name: compiled.name().to_owned(),
            topic: String::from_utf8_lossy(topic).into_owned(),
            qos: compiled.qos() as u8,
            next_due: (timetable.next_due != Micros::NEVER).then_some(timetable.next_due),
            sent: timetable.seq,
            settled: timetable.seq,
            in_flight: 0,
            format: compiled.format(),
            payload: compiled.format().show(payload),
            decoded: None,
        }
    }
}
