//! Statistics as Prometheus reads them: one worker's, or the sum of many.
//!
//! Nothing is counted here. The statistics are cumulative already, so that each scrape only translates them; the
//! names are those of the table [`fleet_contract::metric`].

use std::collections::BTreeMap;

use fleet_contract::{
    metric::{self, BUCKETS_SECONDS, Kind, Metric},
    stats::{Latency, Messages, Stats},
    units::Span,
};
use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType},
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

/// What a metric is made of: a value for each value of its label, or a distribution.
enum Values<'a> {
    One(f64),
    Labelled(Vec<(String, f64)>),
    Distribution(&'a Latency),
}

/// The families that have samples; a metric with labels may have none yet.
fn families(fleet: &str, stats: &Stats) -> Vec<MetricFamily> {
    let values = values(stats);
    values
        .iter()
        .map(|(metric, values)| family(fleet, metric, values))
        .filter(|family| !family.get_metric().is_empty())
        .collect()
}

fn values(stats: &Stats) -> Vec<(Metric, Values<'_>)> {
    let Stats {
        devices,
        messages,
        rejected,
        too_large,
        unwelcome: _,
        retained: _,
        receive_maximum: _,
        received,
        bytes,
        latency,
        connections,
        sessions,
        observer,
        generator,
        lost: _,
    } = stats;
    let too_large = too_large.iter().map(|(stream, above)| (stream.clone(), above.packets as f64)).collect();
    let unanswered = Some(("unanswered".to_owned(), received.unanswered)).filter(|(_, filters)| *filters > 0);
    let refused: BTreeMap<_, _> = received.refused.clone().into_iter().chain(unanswered).collect();
    let labelled = |counts: [u64; 3]| {
        let labelled = ["0", "1", "2"].iter().zip(counts);
        Values::Labelled(labelled.map(|(qos, count)| ((*qos).into(), count as f64)).collect())
    };
    let by_qos = |of: fn(&Messages) -> u64| labelled(messages.each_ref().map(of));
    let count = |count: u64| Values::One(count as f64);
    vec![
        (
            metric::DEVICES,
            states(&[
                ("desired", devices.desired),
                ("connected", devices.connected),
                ("refused", devices.refused),
                ("failed", devices.failed),
                ("leaving", devices.leaving),
                ("away", sessions.away),
            ]),
        ),
        (metric::MESSAGES_OFFERED, by_qos(|m| m.offered)),
        (metric::MESSAGES_WITHHELD, by_qos(|m| m.withheld)),
        (metric::MESSAGES_SENT, by_qos(|m| m.sent)),
        (metric::MESSAGES_ACKNOWLEDGED, by_qos(|m| m.acknowledged)),
        (metric::MESSAGES_REJECTED, causes(rejected)),
        (metric::MESSAGES_TOO_LARGE, Values::Labelled(too_large)),
        (metric::MESSAGES_RESENT, by_qos(|m| m.resent)),
        (metric::MESSAGES_ABANDONED, by_qos(|m| m.abandoned)),
        (metric::MESSAGES_OBSERVED, by_qos(|m| m.observed)),
        (metric::MESSAGES_UNOBSERVED, by_qos(|m| m.unobserved)),
        (metric::MESSAGES_DELIVERED, by_qos(|m| m.delivered)),
        (metric::MESSAGES_LOST, by_qos(|m| m.lost)),
        (metric::MESSAGES_LOST_ACKNOWLEDGED, by_qos(|m| m.lost_acknowledged)),
        (metric::MESSAGES_UNKNOWN, by_qos(|m| m.unknown)),
        (metric::MESSAGES_LATE, by_qos(|m| m.late)),
        (metric::MESSAGES_DUPLICATED, by_qos(|m| m.duplicated)),
        (metric::MESSAGES_REORDERED, by_qos(|m| m.reordered)),
        (metric::MESSAGES_IN_FLIGHT, by_qos(Messages::in_flight)),
        (metric::MESSAGES_RECEIVED, labelled(received.messages)),
        (metric::SUBSCRIPTIONS_REFUSED, causes(&refused)),
        (metric::BYTES_SENT, count(bytes.sent)),
        (metric::BYTES_RECEIVED, count(bytes.received)),
        (metric::BYTES_OBSERVED, count(bytes.observed)),
        (metric::CONNECTIONS, count(connections.accepted)),
        (metric::RECONNECTS, count(connections.reconnects)),
        (metric::DISCONNECTS, causes(&connections.lost)),
        (metric::CONNECT_FAILURES, causes(&connections.failed)),
        (metric::CONNECT_REFUSALS, causes(&connections.refused)),
        (metric::SECRETS_UNUSABLE, causes(&generator.secrets_unusable)),
        (metric::CONNECT_SECONDS, Values::Distribution(&latency.connect)),
        (metric::PUBLISH_ACK_SECONDS, Values::Distribution(&latency.publish_ack)),
        (metric::END_TO_END_SECONDS, Values::Distribution(&latency.end_to_end)),
        (metric::SCHEDULE_LAG_SECONDS, Values::Distribution(&latency.schedule_lag)),
        (metric::RECOVERY_SECONDS, Values::Distribution(&latency.recovery)),
        (metric::MISSED_TICKS, count(generator.missed_ticks)),
        (metric::BUFFER_FULL, count(generator.buffer_full)),
        (metric::OBSERVERS, states(&[("wanted", observer.wanted), ("subscribed", observer.subscribed)])),
        (metric::FOREIGN_MESSAGES, count(observer.foreign)),
        (metric::CHANGED_MESSAGES, count(observer.changed)),
        (
            metric::CPU_SECONDS,
            Values::Labelled(vec![
                ("user".into(), generator.cpu_user_seconds),
                ("system".into(), generator.cpu_system_seconds),
            ]),
        ),
        (metric::CPU_PERIODS, count(generator.cpu_periods)),
        (metric::CPU_PERIODS_THROTTLED, count(generator.cpu_periods_throttled)),
        (metric::MEMORY_BYTES, count(generator.memory_bytes)),
        (metric::OPEN_FILES, count(generator.open_files)),
        (metric::WORKERS, count(generator.workers.into())),
        (
            metric::THREADS,
            states(&[
                ("answered", generator.shards.saturating_sub(generator.shards_silent)),
                ("silent", generator.shards_silent),
            ]),
        ),
    ]
}

fn states<'a>(states: &[(&str, u32)]) -> Values<'a> {
    Values::Labelled(states.iter().map(|(state, count)| ((*state).into(), f64::from(*count))).collect())
}

fn causes<'a>(counts: &BTreeMap<String, u64>) -> Values<'a> {
    Values::Labelled(counts.iter().map(|(cause, count)| (cause.clone(), *count as f64)).collect())
}

fn family(fleet: &str, metric: &Metric, values: &Values<'_>) -> MetricFamily {
    let samples = match values {
        Values::One(value) => vec![number(metric, labels(fleet, None), *value)],
        Values::Labelled(values) => values
            .iter()
            .map(|(label, value)| {
                number(metric, labels(fleet, metric.labels.first().map(|name| (*name, &**label))), *value)
            })
            .collect(),
        Values::Distribution(latency) => vec![distribution(labels(fleet, None), latency)],
    };
    let mut family = MetricFamily::default();
    family.set_name(metric.name.into());
    family.set_help(metric.help.into());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(samples);
    family
}

fn labels(fleet: &str, more: Option<(&str, &str)>) -> Vec<LabelPair> {
    let label = |(name, value): (&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name(name.into());
        label.set_value(value.into());
        label
    };
    std::iter::once(("fleet", fleet)).chain(more).map(label).collect()
}

fn number(metric: &Metric, labels: Vec<LabelPair>, value: f64) -> Sample {
    let mut sample = Sample::from_label(labels);
    if metric.kind == Kind::Counter {
        let mut counter = Counter::default();
        counter.set_value(value);
        sample.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        sample.set_gauge(gauge);
    }
    sample
}

/// A distribution in the fixed buckets; the encoder adds the one up to infinity.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds are whole microseconds")]
fn distribution(labels: Vec<LabelPair>, latency: &Latency) -> Sample {
    let bucket = |bound: f64| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(latency.count_up_to(Span((bound * 1e6).round() as u64)));
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_sample_count(latency.count());
    histogram.set_sample_sum(latency.sum_seconds());
    histogram.set_bucket(BUCKETS_SECONDS.into_iter().map(bucket).collect());
    let mut sample = Sample::from_label(labels);
    sample.set_histogram(histogram);
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(fleet: &str, stats: &Stats) -> String {
        render(fleet, stats).unwrap()
    }

    fn lines_of(text: &str, name: &str) -> String {
        text.lines().filter(|line| line.contains(name)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_metric_of_the_table_is_served_in_its_order() {
        let stats = Stats::default();
        let served: Vec<Metric> = values(&stats).into_iter().map(|(metric, _)| metric).collect();
        assert_eq!(served, metric::ALL);
    }

    #[test]
    fn every_labelled_metric_has_one_label_and_no_other_has_any() {
        for (metric, values) in values(&Stats::default()) {
            let is_labelled = matches!(values, Values::Labelled(_));
            assert_eq!(metric.labels.len(), usize::from(is_labelled), "{}", metric.name);
        }
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
