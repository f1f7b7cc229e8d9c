//! Messages: due, and handed to rumqttc's channel without ever waiting for it.

use fleet_contract::{fleet::Offline, lag, qos::Qos, stamp::Stamp, stats::Messages, time::Micros, units::Span};
use rumqttc::AsyncClient;

use super::{
    Stripe,
    books::{Books, Handed, Turn},
    options::quality,
};
use crate::{
    agent::{Agent as _, Effects, Made, Telemetry},
    engine::{device::Queued, shard::MISSED},
    index::StreamIndex,
};

impl Books {
    /// Offers the message that has been due for longest; `client` is that of an accepted session. False when none is due.
    pub(super) fn offer_next(&mut self, turn: &mut Turn<'_>, client: Option<&AsyncClient>) -> bool {
        let streams = StreamIndex::first(self.streams.len()).zip(&self.streams);
        let Some((stream, timetable)) = streams.min_by_key(|(_, timetable)| timetable.next_due) else { return false };
        let due = timetable.next_due;
        if due > turn.now {
            return false;
        }
        let site = turn.shared.site(self.index);
        let compiled = site.model.stream(stream);
        if compiled.messages().is_some_and(|most| self.has_sent(most, stream)) {
            self.streams[stream.place()].next_due = Micros::NEVER;
            return true;
        }
        let pace = turn.course.pace(site.group, stream);
        let limit = lag::limit(compiled.interval().map(|_| pace.interval(due)));
        let timetable = &mut self.streams[stream.place()];
        timetable.last_due = due;
        timetable.next_due = Telemetry.next_due(&site, stream, pace, due.after(Span(1)));
        let is_said = |scratch| Telemetry.on_due(&mut (), &site, stream, due, scratch, &mut Effects::default());
        if !turn.course.is_paused(due) && is_said(&mut turn.stripe.scratch) {
            self.offer(turn, Queued { due, stream }, limit, client);
        }
        true
    }

    /// Whether it has sent as many messages of a stream as it is to send, those that wait included.
    fn has_sent(&self, most: u32, stream: StreamIndex) -> bool {
        let waiting = self.held.iter().filter(|queued| queued.stream == stream).count();
        u64::from(self.streams[stream.place()].seq) + waiting as u64 >= most.into()
    }

    /// Offers a message that is overdue when it is later than `limit`.
    fn offer(&mut self, turn: &mut Turn<'_>, queued: Queued, limit: Span, client: Option<&AsyncClient>) {
        let lag = turn.now.since(queued.due);
        self.messages(turn, queued).offered += 1;
        turn.stripe.by_stream.latency(queued.due).schedule_lag.record(lag);
        turn.stripe.stats.generator.missed_ticks += u64::from(lag >= MISSED);
        turn.stripe.stats.generator.overdue += u64::from(lag > limit);
        match client {
            None => self.offer_offline(turn, queued),
            // What waits goes first.
            Some(_) if !self.held.is_empty() => {
                if self.held.len() < usize::from(turn.shared.blueprint.connect.queue) {
                    self.held.push_back(queued);
                } else {
                    self.messages(turn, queued).withheld += 1;
                }
            }
            Some(client) => {
                if !self.hand_over(turn, queued, client) {
                    self.messages(turn, queued).withheld += 1;
                }
            }
        }
    }

    /// What falls due while a device is offline is withheld, or waits for its return.
    fn offer_offline(&mut self, turn: &mut Turn<'_>, queued: Queued) {
        let Offline::CatchUp { max } = turn.shared.blueprint.offline else {
            return self.withhold_offline(turn, queued);
        };
        self.held.push_back(queued);
        let is_same = |other: &Queued| other.stream == queued.stream;
        if self.held.iter().filter(|other| is_same(other)).count() > max as usize
            && let Some(oldest) = self.held.iter().position(is_same)
            && let Some(oldest) = self.held.remove(oldest)
        {
            self.withhold_offline(turn, oldest);
        }
    }

    fn withhold_offline(&self, turn: &mut Turn<'_>, queued: Queued) {
        let count = self.messages(turn, queued);
        count.withheld += 1;
        count.withheld_offline += 1;
    }

    /// Hands over what has waited for the session, as far as the channel takes it.
    pub(super) fn catch_up(&mut self, turn: &mut Turn<'_>, client: &AsyncClient) {
        while let Some(queued) = self.held.front().copied()
            && self.hand_over(turn, queued, client)
        {
            self.held.pop_front();
        }
    }

    /// Gives up what has waited for the session.
    pub(super) fn withhold_held(&mut self, turn: &mut Turn<'_>) {
        for queued in std::mem::take(&mut self.held) {
            self.messages(turn, queued).withheld += 1;
        }
    }

    /// Puts a message into the channel; false when the channel is full.
    fn hand_over(&mut self, turn: &mut Turn<'_>, queued: Queued, client: &AsyncClient) -> bool {
        let Queued { due, stream } = queued;
        let site = turn.shared.site(self.index);
        let model = site.model;
        let timetable = &mut self.streams[stream.place()];
        let stamp = Stamp { run: turn.course.plan.run, epoch: turn.shared.clock.epoch(), seq: timetable.seq, due };
        let Stripe { scratch, topic, payload, .. } = &mut *turn.stripe;
        topic.clear();
        payload.clear();
        model.write_topic(stream, self.index, topic);
        Telemetry.encode(&site, Made::truly(stream, &stamp, &[]), scratch, payload);
        let compiled = model.stream(stream);
        let (qos, is_retained) = (compiled.qos(), compiled.is_retained());
        let bytes = publish_bytes(topic.len(), payload.len(), qos);
        let topic = String::from_utf8_lossy(topic);
        if client.try_publish(topic, quality(qos), is_retained, payload.as_slice()).is_err() {
            return false;
        }
        timetable.seq = timetable.seq.wrapping_add(1);
        let length = payload.len();
        let count = self.messages(turn, queued);
        count.count_sent(length);
        count.unobserved += 1;
        self.waiting.push_back(Handed { due, stream, bytes, qos });
        true
    }

    /// The counters in which a message belongs.
    pub(super) fn messages<'a>(&self, turn: &'a mut Turn<'_>, message: Queued) -> &'a mut Messages {
        let group = self.group(turn);
        &mut turn.stripe.by_stream.of(group, message.stream, message.due).messages
    }
}

/// The length of a PUBLISH packet (§3.3).
fn publish_bytes(topic: usize, payload: usize, qos: Qos) -> u64 {
    let packet_id = if qos == Qos::AtMostOnce { 0 } else { 2 };
    let remaining = 2 + topic + packet_id + payload;
    let digits = match remaining {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    };
    (1 + digits + remaining) as u64
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rumqttc::{Publish, QoS};

    use super::*;

    #[test]
    fn a_publish_is_as_long_as_rumqttc_makes_it() {
        for payload in [0, 100, 120, 130, 16_370, 16_390, 2_097_200] {
            for (qos, theirs) in [(Qos::AtMostOnce, QoS::AtMostOnce), (Qos::AtLeastOnce, QoS::AtLeastOnce)] {
                let mut publish = Publish::new("a/topic", theirs, vec![0; payload]);
                publish.pkid = u16::from(qos != Qos::AtMostOnce);
                let mut packet = BytesMut::new();
                publish.write(&mut packet).unwrap();
                assert_eq!(publish_bytes(7, payload, qos), packet.len() as u64, "{payload} bytes at QoS {qos}");
            }
        }
    }
}
