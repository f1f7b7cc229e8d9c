//! The distributions of a run as an interval log of `HdrHistogram`, which its tools read and plot: the file `latency.hlog`. It has an
//! interval for each phase, or one for the run, and in it each distribution under its tag; values in microseconds.

use std::time::{Duration, SystemTime};

use fleet_contract::{
    series::DISTRIBUTIONS,
    stats::{Latencies, Stats},
    units::Span,
};
use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};

use super::format::{File, Format};
use crate::run::facts::RunFacts;

/// The format of [`render`].
pub(super) struct Hlog;

impl Format for Hlog {
    const FILES: &'static [File] = &[File { name: "latency.hlog", content: |of| render(of.stats, of.facts) }];
}

/// The log of all that was measured.
pub fn render(stats: &Stats, facts: &RunFacts) -> String {
    let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let start = SystemTime::UNIX_EPOCH + Duration::from_micros(facts.started.0);
    let mut head = IntervalLogWriterBuilder::new();
    head.add_comment(
        "Intervals are phases, tags are distributions, values are microseconds; the longest is in milliseconds",
    );
    head.with_start_time(start).with_base_time(start).with_max_value_divisor(1_000.0);
    let mut phases: Vec<(Span, Span, Latencies)> = Vec::new();
    for phase in facts.asked.phases.spanned() {
        let measured = stats.phases.get(&phase.number).map(|phase| phase.total().1).unwrap_or_default();
        phases.push((phase.after, phase.phase.duration, measured));
    }
    if phases.is_empty() {
        phases.push((Span::ZERO, facts.elapsed(), stats.latency.clone()));
    }
    {
        // Memory takes whatever is written.
        let mut writer = head.begin_log_with(&mut log, &mut serializer).expect("a log in memory can be written");
        for (after, lasts, latencies) in &phases {
            for row in DISTRIBUTIONS {
                let Some(histogram) = (row.get)(latencies).histogram() else { continue };
                let (after, lasts) = (after.as_duration(), lasts.as_duration());
                writer
                    .write_histogram(&histogram, after, lasts, Tag::new(row.key))
                    .expect("a log in memory can be written");
            }
        }
    }
    String::from_utf8(log).expect("an interval log is text")
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use hdrhistogram::serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    };

    use super::*;
    use crate::{
        fixture::{facts, stats_of},
        run::{facts::Asked, phase::Phases},
    };

    /// Start, length, tag and number of values of each interval.
    fn read(log: &str) -> Vec<(u64, u64, String, u64)> {
        let entries = IntervalLogIterator::new(log.as_bytes()).map(|entry| entry.unwrap());
        let intervals = entries.filter_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval),
            _ => None,
        });
        let read = |interval: hdrhistogram::serialization::interval_log::IntervalLogHistogram<'_>| {
            let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).unwrap();
            let histogram = Deserializer::new().deserialize::<u64, _>(&mut bytes.as_slice()).unwrap();
            let tag = interval.tag().unwrap().as_str().to_owned();
            (interval.start_timestamp().as_secs(), interval.duration().as_secs(), tag, histogram.len())
        };
        intervals.map(read).collect()
    }

    #[test]
    fn a_run_is_one_interval_and_each_phase_is_one() {
        let mut stats = stats_of(50);
        let whole = read(&render(&stats, &facts()));
        let expected = [("connect", 1), ("publish_ack", 50), ("end_to_end", 50), ("schedule_lag", 50)];
        assert_eq!(whole, expected.map(|(tag, count)| (0, 30, tag.to_owned(), count)));

        let phases = Phases::new(["ramp:0..9/10s", "steady:20s"].map(|text| text.parse().unwrap()).into());
        let facts = RunFacts { asked: Asked { phases, ..Asked::default() }, ..facts() };
        stats.phases.entry(1).or_default().latency.recovery.record(Span(7));
        assert_eq!(read(&render(&stats, &facts)), [(10, 20, "recovery".to_owned(), 1)]);
    }
}
