//! Statistics as Prometheus reads them: one worker's, or the sum of many.
//!
//! Nothing is counted here. The statistics are cumulative already, so that each scrape only translates them; the
//! names are those of the tables of [`fleet_contract::series`].

use std::{borrow::Cow, collections::BTreeMap};

use fleet_contract::{
    metric::{BUCKETS_SECONDS, EXPORTED, Exported, Kind, Metric},
    series::{COUNTERS, Counter, DISTRIBUTIONS, Distribution, Scope},
    stats::{Latency, Stats, StreamStats},
    units::Span,
};
use prometheus::{
    TextEncoder,
    proto::{self, MetricFamily, MetricType},
};

/// The type of what [`render`] returns, for the header `content-type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of `stats` in Prometheus' text format, each with the label `fleet`.
///
/// # Errors
/// Never: the encoder refuses only families without samples, which are left out.
pub fn render(fleet: &str, stats: &Stats) -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&families(fleet, stats))
}

/// One line or, of a distribution, one set of lines: what it is of, beside the fleet, and its value.
struct Sample<'a> {
    labels: Labels<'a>,
    value: Value<'a>,
}

/// Names and values of labels.
type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

enum Value<'a> {
    Number(f64),
    Times(Cow<'a, Latency>),
}

/// The families that have samples; a metric with labels may have none yet.
fn families(fleet: &str, stats: &Stats) -> Vec<MetricFamily> {
    let messages = COUNTERS.iter().map(|counter| (counter.metric, counts(stats, counter)));
    let times = DISTRIBUTIONS.iter().map(|distribution| (distribution.metric, times(stats, distribution)));
    let whole = EXPORTED.iter().map(|row| (row.metric, of_fleet(stats, row)));
    let all = messages.chain(whole).chain(times);
    all.filter(|(_, samples)| !samples.is_empty()).map(|(metric, samples)| family(fleet, &metric, samples)).collect()
}

/// A counter of messages for each value of its labels.
fn counts<'a>(stats: &'a Stats, counter: &Counter) -> Vec<Sample<'a>> {
    let mut counts: BTreeMap<(&str, &str, u8), u64> = BTreeMap::new();
    let tells_streams = counter.metric.labels.contains(&"stream");
    for (group, stream, counted) in stats.groups.streams() {
        let key = (group, if tells_streams { stream } else { "" }, counted.qos.into());
        *counts.entry(key).or_default() += (counter.get)(&counted.messages);
    }
    if stats.groups.is_empty() {
        // A worker of the previous release does not tell streams apart.
        counts.extend((0..).zip(&stats.messages).map(|(qos, messages)| (("", "", qos), (counter.get)(messages))));
    }
    let sample = |((group, stream, qos), count): ((&'a str, &'a str, u8), u64)| {
        let named = [("group", group), ("stream", stream)].into_iter().filter(|(_, name)| !name.is_empty());
        let labels = named.map(|(label, name)| (label, name.into())).chain([("qos", qos.to_string().into())]);
        Sample { labels: labels.collect(), value: Value::Number(count as f64) }
    };
    counts.into_iter().map(sample).collect()
}

/// A distribution of the fleet, or of each group.
fn times<'a>(stats: &'a Stats, distribution: &Distribution) -> Vec<Sample<'a>> {
    let get = distribution.get;
    if distribution.scope == Scope::Fleet || stats.groups.is_empty() {
        return vec![Sample { labels: Vec::new(), value: Value::Times(Cow::Borrowed(get(&stats.latency))) }];
    }
    let of_group = |(group, streams): (&'a str, &'a BTreeMap<String, StreamStats>)| {
        let mut sum = Latency::default();
        streams.values().for_each(|stream| sum.merge(get(&stream.latency)));
        Sample { labels: vec![("group", group.into())], value: Value::Times(Cow::Owned(sum)) }
    };
    stats.groups.iter().map(of_group).collect()
}

/// What is exported of the fleet as a whole.
fn of_fleet<'a>(stats: &'a Stats, row: &Exported) -> Vec<Sample<'a>> {
    let labels = row.metric.labels;
    let sample = |(name, number): (&'a str, f64)| Sample {
        labels: labels.iter().map(|label| (*label, name.into())).collect(),
        value: Value::Number(number),
    };
    (row.get)(stats).into_iter().map(sample).collect()
}

fn family(fleet: &str, metric: &Metric, samples: Vec<Sample<'_>>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.into());
    family.set_help(metric.help.into());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    let line = |Sample { labels, value }| {
        let mut line = proto::Metric::from_label(pairs(fleet, labels));
        match value {
            Value::Number(number) if metric.kind == Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(number);
                line.set_counter(counter);
            }
            Value::Number(number) => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(number);
                line.set_gauge(gauge);
            }
            Value::Times(latency) => line.set_histogram(histogram(&latency)),
        }
        line
    };
    family.set_metric(samples.into_iter().map(line).collect());
    family
}

fn pairs(fleet: &str, labels: Labels<'_>) -> Vec<proto::LabelPair> {
    let pair = |(name, value): (&str, Cow<'_, str>)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name(name.into());
        pair.set_value(value.into_owned());
        pair
    };
    std::iter::once(("fleet", fleet.into())).chain(labels).map(pair).collect()
}

/// A distribution in the fixed buckets; the encoder adds the one up to infinity.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds are whole microseconds")]
fn histogram(latency: &Latency) -> proto::Histogram {
    let counts = latency.counts_up_to(BUCKETS_SECONDS.map(|bound| Span((bound * 1e6).round() as u64)));
    let bucket = |(bound, count)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(latency.count());
    histogram.set_sample_sum(latency.sum_seconds());
    histogram.set_bucket(BUCKETS_SECONDS.into_iter().zip(counts).map(bucket).collect());
    histogram
}

#[cfg(test)]
mod tests {
    use fleet_contract::{fleet::Qos, metric, stats::Oversize};

    use super::*;

    fn served(fleet: &str, stats: &Stats) -> String {
        render(fleet, stats).unwrap()
    }

    fn lines_of(text: &str, name: &str) -> String {
        text.lines().filter(|line| line.contains(name)).collect::<Vec<_>>().join("\n")
    }

    /// What a worker measured whose fleet has so many groups of so many streams each, all of QoS 1.
    fn of_groups(groups: usize, streams: usize) -> Stats {
        let mut stats = Stats::default();
        for group in 0..groups {
            for stream in 0..streams {
                let mut counted = StreamStats::of(Qos::AtLeastOnce);
                counted.messages.sent = 123_456_789;
                (1..2_000).for_each(|us| counted.latency.end_to_end.record(Span(us * us)));
                stats.add_stream(&format!("delivery-vans-{group}"), &format!("stateOfCharge{stream}"), &counted);
            }
        }
        stats
    }

    #[test]
    fn every_metric_of_the_tables_is_served_with_its_labels_and_no_other() {
        let mut stats = of_groups(1, 1);
        for counts in [
            &mut stats.rejected,
            &mut stats.received.refused,
            &mut stats.connections.lost,
            &mut stats.connections.failed,
            &mut stats.connections.refused,
            &mut stats.generator.secrets_unusable,
        ] {
            counts.insert("some_reason".into(), 1);
        }
        stats.too_large.insert("image".into(), Oversize::default());
        stats.wills.armed = 1;
        let served: BTreeMap<_, _> = families("demo", &stats)
            .iter()
            .map(|family| {
                let labels = family.get_metric()[0].get_label().iter().map(|label| label.name().to_owned());
                (family.name().to_owned(), labels.skip(1).collect::<Vec<_>>())
            })
            .collect();
        let owned =
            |metric: Metric| (metric.name.to_owned(), metric.labels.iter().map(|label| (*label).to_owned()).collect());
        assert_eq!(served, metric::of_workers().map(owned).collect());
    }

    #[test]
    fn a_stream_is_told_from_others_and_a_group_from_other_groups() {
        let text = served("demo", &of_groups(2, 2));
        for line in [
            "simctl_messages_sent_total{fleet=\"demo\",group=\"delivery-vans-1\",stream=\"stateOfCharge0\",qos=\"1\"} 123456789",
            "simctl_end_to_end_seconds_count{fleet=\"demo\",group=\"delivery-vans-1\"} 3998",
            "simctl_connect_seconds_count{fleet=\"demo\"} 0",
        ] {
            assert!(text.lines().any(|served| served == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn five_groups_of_five_streams_are_a_small_page() {
        let text = served("delivery-fleet", &of_groups(5, 5));
        assert!(text.len() <= 64 * 1024, "{} bytes", text.len());
    }

    #[test]
    fn counters_carry_fleet_and_quality_of_service() {
        let mut stats = Stats::default();
        stats.messages[1].sent = 12;
        insta::assert_snapshot!(lines_of(&served("demo", &stats), "simctl_messages_sent_total"), @r#"
        # HELP simctl_messages_sent_total Messages handed to a session.
        # TYPE simctl_messages_sent_total counter
        simctl_messages_sent_total{fleet="demo",qos="0"} 0
        simctl_messages_sent_total{fleet="demo",qos="1"} 12
        simctl_messages_sent_total{fleet="demo",qos="2"} 0
        "#);
    }

    #[test]
    fn causes_appear_when_they_happen() {
        let mut stats = Stats::default();
        assert_eq!(lines_of(&served("demo", &stats), "simctl_disconnects_total"), "");
        stats.connections.lost.insert("reset".into(), 3);
        let text = served("demo", &stats);
        assert!(text.contains("simctl_disconnects_total{fleet=\"demo\",reason=\"reset\"} 3"), "{text}");
    }

    #[test]
    fn a_distribution_counts_up_to_each_bound() {
        let mut stats = Stats::default();
        for us in [400, 900, 2_000_000] {
            stats.latency.end_to_end.record(Span(us));
        }
        insta::assert_snapshot!(lines_of(&served("demo", &stats), "simctl_end_to_end_seconds"), @r#"
        # HELP simctl_end_to_end_seconds Time from due to the observer.
        # TYPE simctl_end_to_end_seconds histogram
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.0005"} 1
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.001"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.0025"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.005"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.01"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.025"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.05"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.1"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.25"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="0.5"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="1"} 2
        simctl_end_to_end_seconds_bucket{fleet="demo",le="2.5"} 3
        simctl_end_to_end_seconds_bucket{fleet="demo",le="5"} 3
        simctl_end_to_end_seconds_bucket{fleet="demo",le="10"} 3
        simctl_end_to_end_seconds_bucket{fleet="demo",le="30"} 3
        simctl_end_to_end_seconds_bucket{fleet="demo",le="60"} 3
        simctl_end_to_end_seconds_bucket{fleet="demo",le="+Inf"} 3
        simctl_end_to_end_seconds_sum{fleet="demo"} 2.001684
        simctl_end_to_end_seconds_count{fleet="demo"} 3
        "#);
    }

    #[test]
    fn throttling_and_silent_threads_are_told() {
        let mut stats = Stats::default();
        stats.generator.cpu_periods = 50;
        stats.generator.cpu_periods_throttled = 7;
        stats.generator.shards = 4;
        stats.generator.shards_silent = 1;
        let text = served("demo", &stats);
        for line in [
            "simctl_cpu_periods_total{fleet=\"demo\"} 50",
            "simctl_cpu_periods_throttled_total{fleet=\"demo\"} 7",
            "simctl_threads{fleet=\"demo\",state=\"answered\"} 3",
            "simctl_threads{fleet=\"demo\",state=\"silent\"} 1",
        ] {
            assert!(text.lines().any(|served| served == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn a_name_with_quotes_stays_a_label() {
        let text = served("a\"b", &Stats::default());
        assert!(text.contains("simctl_workers{fleet=\"a\\\"b\"} 0"), "{text}");
    }
}
