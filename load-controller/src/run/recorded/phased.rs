//! What the two workers of `fleet.yaml` answer in a load test of two phases, made up, as the tests of both shells are given it.
//!
//! The second phase is the only one with slow messages, and one of them is lost, so that both thresholds have something to find.

use fleet_contract::{
    fleet::Qos,
    stats::{Devices, Stats, StreamStats, WorkerStats},
    time::Micros,
    units::Span,
};

/// 2026-03-01T12:00:03Z: so long after the test may begin does the controller have it begin.
pub(crate) const START: Micros = Micros(1_772_366_403_000_000);

/// What is asked for.
pub(crate) const TEST: &str = r#"{
    "fleet": "demo",
    "phases": [
        {"name": "warm", "duration": "3s"},
        {"name": "steady", "duration": "4s", "measure": true}
    ],
    "thresholds": [
        {"expect": "lost == 0", "phase": "warm"},
        {"expect": "end_to_end.p90 < 5ms", "phase": "steady"}
    ]
}"#;

/// The seconds at which they are asked: until the phases are over, once more, and when all that was sent is judged.
pub(crate) const SECONDS: [u64; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 19];

/// The seconds after which the phases are over.
pub(crate) const LAST: u64 = 7;

/// What both answer so many seconds after the start, by their ordinals.
pub(crate) fn answers(second: u64) -> [WorkerStats; 2] {
    [0, 1].map(|worker| {
        let mut stats =
            Stats { devices: Devices { desired: 6, connected: 6, ..Devices::default() }, ..Stats::default() };
        (stats.generator.workers, stats.observer.wanted, stats.observer.subscribed) = (1, 1, 1);
        let sent = [10 * second.min(3), 20 * second.clamp(3, LAST) - 60];
        for (number, sent) in (0..).zip(sent).filter(|(_, sent)| *sent > 0) {
            let stream = stream(sent, u64::from(number), worker);
            stats.add_stream("meters", "reading", &stream);
            stats.phases.entry(number).or_default().groups.add("meters", "reading", &stream);
        }
        let at = START.after(Span::from_secs(second));
        // None of them asks for a newer plan.
        let reading = WorkerStats::new(Micros(START.0 - 9_000_000 + worker), second + 1, at, 1_000, stats);
        WorkerStats { is_drained: second > LAST + 1, ..reading }
    })
}

/// A stream of which so much was sent in a phase, and arrived but for one of the second worker's.
fn stream(sent: u64, phase: u64, worker: u64) -> StreamStats {
    let lost = phase * worker;
    let mut stream = StreamStats::of(Qos::AtLeastOnce);
    let messages = &mut stream.messages;
    for counter in [&mut messages.offered, &mut messages.sent, &mut messages.acknowledged, &mut messages.observed] {
        *counter = sent;
    }
    (messages.delivered, messages.lost, messages.lost_acknowledged) = (sent - lost, lost, lost);
    for number in 0..sent {
        stream.latency.publish_ack.record(Span(700 + 10 * number));
        if number >= lost {
            stream.latency.end_to_end.record(Span(900 + 100 * number * (1 + phase)));
        }
    }
    stream
}
