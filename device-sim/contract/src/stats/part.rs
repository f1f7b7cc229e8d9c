//! A part of a run, cut out of what was measured of all of it.

use std::{collections::BTreeMap, ops::Range};

use super::{Oversize, Stats, Unwelcome};
use crate::{series::kind::by_cause, time::Micros};

impl Stats {
    /// What was measured in a part of a run that has `phases` of its own and lasts for `span`.
    ///
    /// A message belongs to the phase in which it fell due, so that messages, their times and the names of the lost are exact. Of all else it is what
    /// has come since `before`, which was read shortly before the part began.
    #[must_use]
    pub fn part(&self, phases: Range<u32>, span: Range<Micros>, before: &Self) -> Self {
        let mut part = Self {
            devices: self.devices.without(&before.devices),
            phases: self.phases.range(phases.clone()).map(|(number, phase)| (*number, phase.clone())).collect(),
            rejected: by_cause::without(&self.rejected, &before.rejected),
            too_large: without(&self.too_large, &before.too_large, Oversize::without),
            unwelcome: without(&self.unwelcome, &before.unwelcome, Unwelcome::without),
            retained: self.retained.saturating_sub(before.retained),
            receive_maximum: self.receive_maximum,
            received: self.received.without(&before.received),
            bytes: self.bytes.without(&before.bytes),
            connections: self.connections.without(&before.connections),
            sessions: self.sessions.since(span.start, &before.sessions),
            // Each has a number of its own.
            faults: self.faults.clone(),
            model_faults: self.model_faults.without(&before.model_faults),
            wills: self.wills.without(&before.wills),
            observer: self.observer.without(&before.observer),
            generator: self.generator.without(&before.generator),
            lost: self
                .lost
                .iter()
                .filter(|lost| lost.phase.is_some_and(|phase| phases.contains(&phase)))
                .cloned()
                .collect(),
            ..Self::default()
        };
        for phase in std::mem::take(&mut part.phases) {
            for (group, stream, stats) in phase.1.groups.streams() {
                part.add_stream(group, stream, stats);
            }
            part.latency.merge(&phase.1.latency);
            part.phases.insert(phase.0, phase.1);
        }
        part
    }
}

impl Oversize {
    pub(crate) fn without(&self, before: &Self) -> Option<Self> {
        let packets = self.packets.saturating_sub(before.packets);
        (packets > 0).then_some(Self { packets, ..*self })
    }
}

impl Unwelcome {
    fn without(&self, before: &Self) -> Option<Self> {
        let connections = self.connections.saturating_sub(before.connections);
        (connections > 0).then_some(Self { connections, ..*self })
    }
}

fn without<T: Default>(
    now: &BTreeMap<String, T>,
    before: &BTreeMap<String, T>,
    without: impl Fn(&T, &T) -> Option<T>,
) -> BTreeMap<String, T> {
    let nothing = T::default();
    let come = |(key, value): (&String, &T)| Some((key.clone(), without(value, before.get(key).unwrap_or(&nothing))?));
    now.iter().filter_map(come).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fleet::Qos,
        stats::{LostMessage, StreamStats},
        units::Span,
    };

    fn stream(qos: Qos, sent: u64, micros: u64) -> StreamStats {
        let mut stats = StreamStats { qos, ..StreamStats::default() };
        stats.messages.offered = sent;
        stats.messages.sent = sent;
        for _ in 0..sent {
            stats.latency.end_to_end.record(Span(micros));
        }
        stats
    }

    #[test]
    fn a_part_has_the_messages_of_its_phases_and_what_else_has_come() {
        let mut before = Stats::default();
        before.add_stream("cars", "state", &stream(Qos::AtLeastOnce, 100, 7));
        before.bytes.sent = 1_000;
        before.connections.lost.insert("reset".into(), 2);
        before.generator.overdue = 5;
        let mut now = before.clone();
        now.bytes.sent = 1_700;
        now.connections.lost.insert("reset".into(), 2);
        now.connections.lost.insert("timed_out".into(), 1);
        now.generator.overdue = 6;
        now.generator.workers = 3;
        // One may be sent long after it was due.
        let lost = |seq, sent, phase| LostMessage {
            sent: Micros(sent),
            device: 1,
            stream: "state".into(),
            seq,
            qos: Qos::AtLeastOnce,
            acknowledged: false,
            phase,
        };
        now.lost = vec![lost(1, 2, Some(4)), lost(2, 3, None), lost(3, 8, Some(6)), lost(4, 12, Some(5))];
        for (number, sent) in [(4, 10), (5, 20), (6, 40)] {
            let of_phase = stream(Qos::AtLeastOnce, sent, 9);
            now.add_stream("cars", "state", &of_phase);
            now.phases.entry(number).or_default().groups.add("cars", "state", &of_phase);
            now.phases.entry(number).or_default().latency.connect.record(Span(3));
        }
        let part = now.part(4..6, Micros(0)..Micros(9), &before);
        assert_eq!((part.all_messages().sent, part.messages[1].sent), (30, 30));
        assert_eq!((part.latency.end_to_end.count(), part.latency.connect.count()), (30, 2));
        assert_eq!(part.groups.streams().map(|(_, _, stats)| stats.messages.sent).collect::<Vec<_>>(), [30]);
        assert_eq!(part.phases.keys().copied().collect::<Vec<_>>(), [4, 5]);
        assert_eq!((part.bytes.sent, part.generator.overdue, part.generator.workers), (700, 1, 3));
        assert_eq!(part.connections.lost, [("timed_out".to_owned(), 1)].into());
        assert_eq!(part.lost.iter().map(|lost| lost.seq).collect::<Vec<_>>(), [1, 4]);
    }
}
