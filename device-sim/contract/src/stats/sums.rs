//! Sums of the times of several streams, made by the worker that is asked: whoever judges a run each second needs them as fresh as
//! its counters, and no stream apart.

use serde::{Deserialize, Serialize};

use super::{Groups, Latency, Stats, StreamStats};
use crate::{fleet::Qos, series::DISTRIBUTIONS};

/// Which times are added up. A worker that does not know one of the fields tells all of its times instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SumOf {
    /// The key of their distribution, one that is timed for each stream.
    pub distribution: String,
    /// The number of the phase in which what was timed fell due; `None` is since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<u32>,
    /// The group; `None` is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The stream; `None` is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The quality of service; `None` is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
}

/// A sum, as one worker has made it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sum {
    /// Of which times.
    pub of: SumOf,
    /// The sum.
    pub times: Latency,
}

impl SumOf {
    /// The sums that a reader asks for, as JSON; `None` where this release cannot make one of them.
    pub fn parse(text: &str) -> Option<Vec<Self>> {
        let sums: Vec<Self> = serde_json::from_str(text).ok()?;
        let is_known = |of: &Self| DISTRIBUTIONS.iter().any(|row| row.key == of.distribution);
        sums.iter().all(is_known).then_some(sums)
    }

    /// The sum over the streams of `stats`.
    pub fn within(&self, stats: &Stats) -> Latency {
        self.groups(stats).map_or_else(Latency::default, |groups| self.over(groups))
    }

    /// The sum over the streams of `groups`, which are those of its phase.
    pub(super) fn over(&self, groups: &Groups) -> Latency {
        let mut sum = Latency::default();
        for row in DISTRIBUTIONS.iter().filter(|row| row.key == self.distribution) {
            self.streams(groups).for_each(|stream| sum.merge((row.get)(&stream.latency)));
        }
        sum
    }

    /// Whether messages of its streams fell due, so that there may be times.
    pub(super) fn has_messages(&self, stats: &Stats) -> bool {
        self.groups(stats).is_some_and(|groups| self.streams(groups).any(|stream| stream.messages.offered > 0))
    }

    fn groups<'a>(&self, stats: &'a Stats) -> Option<&'a Groups> {
        match self.phase {
            None => Some(&stats.groups),
            Some(number) => stats.phases.get(&number).map(|phase| &phase.groups),
        }
    }

    fn streams<'a>(&'a self, groups: &'a Groups) -> impl Iterator<Item = &'a StreamStats> + 'a {
        let is_meant = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let its = groups.streams().filter(move |(group, stream, stats)| {
            is_meant(&self.group, group)
                && is_meant(&self.stream, stream)
                && self.qos.is_none_or(|qos| qos == stats.qos)
        });
        its.map(|(_, _, stats)| stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{stats::WorkerStats, time::Micros, units::Span};

    fn of(group: Option<&str>, stream: Option<&str>, qos: Option<Qos>) -> SumOf {
        let [group, stream] = [group, stream].map(|name| name.map(ToOwned::to_owned));
        SumOf { distribution: "end_to_end".into(), phase: Some(4), group, stream, qos }
    }

    /// A worker with 1, 2 and 4 times in phase 4, and as many before it.
    fn reading() -> WorkerStats {
        let mut stats = Stats::default();
        for (group, stream, qos, times) in [
            ("cars", "state", Qos::AtMostOnce, 1),
            ("cars", "event", Qos::AtLeastOnce, 2),
            ("vans", "event", Qos::AtLeastOnce, 4),
        ] {
            let mut counted = StreamStats::of(qos);
            counted.messages.offered = times;
            (0..times).for_each(|_| counted.latency.end_to_end.record(Span(7)));
            for _ in 0..2 {
                stats.add_stream(group, stream, &counted);
            }
            stats.phases.entry(4).or_default().groups.add(group, stream, &counted);
        }
        WorkerStats::new(Micros(1), 1, Micros(1), 1, stats)
    }

    #[test]
    fn a_sum_is_of_the_streams_that_are_meant_and_streams_stay_out_of_the_reading() {
        let sums = vec![
            of(None, None, None),
            of(Some("cars"), None, None),
            of(None, Some("event"), None),
            of(None, None, Some(Qos::AtMostOnce)),
            of(Some("vans"), Some("state"), None),
            SumOf { phase: None, ..of(None, None, None) },
            SumOf { phase: Some(3), ..of(None, None, None) },
        ];
        let text = serde_json::to_string(&sums).unwrap();
        let reading = reading().summed(SumOf::parse(&text).unwrap(), None);
        let read: WorkerStats = serde_json::from_str(&serde_json::to_string(&reading).unwrap()).unwrap();
        let counted: Vec<_> = read.sums.iter().map(|sum| sum.times.count()).collect();
        assert_eq!(counted, [7, 3, 6, 1, 0, 14, 0]);
        assert!(read.sums.iter().map(|sum| &sum.of).eq(&sums));
        let is_untimed = |groups: &Groups| groups.streams().all(|(_, _, stream)| stream.latency.end_to_end.is_empty());
        assert!(read.is_brief && is_untimed(&read.stats.groups) && is_untimed(&read.stats.phases[&4].groups));
    }

    #[test]
    fn what_a_newer_reader_asks_for_is_not_answered_with_something_else() {
        assert_eq!(SumOf::parse(r#"[{"distribution": "end_to_end"}]"#).map(|sums| sums.len()), Some(1));
        assert_eq!(SumOf::parse(r#"[{"distribution": "end_to_end", "device": 7}]"#), None);
        assert_eq!(SumOf::parse(r#"[{"distribution": "elsewhere"}]"#), None);
    }
}
