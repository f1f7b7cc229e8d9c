//! What the broker counts: Prometheus instruments, and the same numbers for an embedding process.

use fleet_contract::metric::{Metric, broker as metric};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// The broker's instruments, by the names of the table [`fleet_contract::metric::broker`].
///
/// There is no label whose values grow with the number of clients.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) connections: IntGauge,
    pub(crate) connections_total: IntCounter,
    pub(crate) sessions: IntGauge,
    pub(crate) takeovers: IntCounter,
    pub(crate) refused: IntCounterVec,
    pub(crate) users_unusable: IntCounterVec,
    pub(crate) closed: IntCounterVec,
    pub(crate) wills: IntCounter,
    pub(crate) traffic: Traffic,
    pub(crate) dropped: IntCounterVec,
    pub(crate) queues: Queues,
    pub(crate) retained: IntGauge,
    pub(crate) subscriptions: IntGauge,
    pub(crate) filters: IntGauge,
}

/// What went in and out.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) messages_in: IntCounter,
    pub(crate) messages_out: IntCounter,
    pub(crate) bytes_in: IntCounter,
    pub(crate) bytes_out: IntCounter,
}

/// What waits, and for whom.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) slow_consumers: IntGauge,
    pub(crate) slow_consumers_total: IntCounter,
    pub(crate) queued_bytes: IntGauge,
}

/// The numbers of one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Clients connected now, their CONNECT accepted.
    pub connections: u64,
    /// Clients that were ever accepted.
    pub connections_total: u64,
    /// Sessions, of connected clients and persistent ones of clients that are away.
    pub sessions: u64,
    /// Connections that a newer one with the same client id replaced.
    pub takeovers: u64,
    /// Connections, subscriptions and messages refused, for any reason.
    pub refused: u64,
    /// PUBLISH packets accepted from clients.
    pub messages_in: u64,
    /// PUBLISH packets written to clients.
    pub messages_out: u64,
    /// Bytes read from sockets.
    pub bytes_in: u64,
    /// Bytes written to sockets.
    pub bytes_out: u64,
    /// Messages that a subscriber should have had and did not get, for any reason.
    pub dropped: u64,
    /// Sessions that lost messages and have not caught up.
    pub slow_consumers: u64,
    /// How often a session began to lose messages.
    pub slow_consumers_total: u64,
    /// Topics with a retained message.
    pub retained: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
}

impl Metrics {
    /// Registers every instrument in a registry of its own.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let at = &registry;
        Ok(Self {
            connections: gauge(at, metric::CONNECTIONS)?,
            connections_total: counter(at, metric::CONNECTIONS_ACCEPTED)?,
            sessions: gauge(at, metric::SESSIONS)?,
            takeovers: counter(at, metric::TAKEOVERS)?,
            refused: by_label(at, metric::REFUSED)?,
            users_unusable: by_label(at, metric::USERS_UNUSABLE)?,
            closed: by_label(at, metric::CLOSED)?,
            wills: counter(at, metric::WILLS)?,
            traffic: Traffic {
                messages_in: counter(at, metric::MESSAGES_IN)?,
                messages_out: counter(at, metric::MESSAGES_OUT)?,
                bytes_in: counter(at, metric::BYTES_IN)?,
                bytes_out: counter(at, metric::BYTES_OUT)?,
            },
            dropped: by_label(at, metric::DROPPED_MESSAGES)?,
            queues: Queues {
                slow_consumers: gauge(at, metric::SLOW_CONSUMERS)?,
                slow_consumers_total: counter(at, metric::SLOW_CONSUMERS_SEEN)?,
                queued_bytes: gauge(at, metric::QUEUED_BYTES)?,
            },
            retained: gauge(at, metric::RETAINED_MESSAGES)?,
            subscriptions: gauge(at, metric::SUBSCRIPTIONS)?,
            filters: gauge(at, metric::FILTERS)?,
            registry,
        })
    }

    /// The current numbers.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            connections: level(&self.connections),
            connections_total: self.connections_total.get(),
            sessions: level(&self.sessions),
            takeovers: self.takeovers.get(),
            refused: sum(&self.refused),
            messages_in: self.traffic.messages_in.get(),
            messages_out: self.traffic.messages_out.get(),
            bytes_in: self.traffic.bytes_in.get(),
            bytes_out: self.traffic.bytes_out.get(),
            dropped: sum(&self.dropped),
            slow_consumers: level(&self.queues.slow_consumers),
            slow_consumers_total: self.queues.slow_consumers_total.get(),
            retained: level(&self.retained),
            subscriptions: level(&self.subscriptions),
        }
    }

    /// How many connections, subscriptions or messages were refused for this reason.
    pub fn refused_for(&self, reason: &str) -> u64 {
        self.refused.with_label_values(&[reason]).get()
    }

    /// How many changed files of users could not be used for this reason.
    pub fn unusable_for(&self, reason: &str) -> u64 {
        self.users_unusable.with_label_values(&[reason]).get()
    }

    /// How many accepted connections ended for this reason.
    pub fn closed_for(&self, reason: &str) -> u64 {
        self.closed.with_label_values(&[reason]).get()
    }

    /// How many messages were dropped for this reason.
    pub fn dropped_for(&self, reason: &str) -> u64 {
        self.dropped.with_label_values(&[reason]).get()
    }

    /// All of them in the Prometheus text format.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn gauge(registry: &Registry, metric: Metric) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(metric.name, metric.help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn counter(registry: &Registry, metric: Metric) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(metric.name, metric.help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn by_label(registry: &Registry, metric: Metric) -> Result<IntCounterVec, prometheus::Error> {
    let family = IntCounterVec::new(Opts::new(metric.name, metric.help), metric.labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn level(gauge: &IntGauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, exact below 2^53")]
fn sum(family: &IntCounterVec) -> u64 {
    use prometheus::core::Collector;
    family
        .collect()
        .iter()
        .flat_map(prometheus::proto::MetricFamily::get_metric)
        .map(|metric| metric.get_counter().get_value() as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sums_the_reasons() {
        let metrics = Metrics::new().unwrap();
        metrics.dropped.with_label_values(&["queue_full"]).inc_by(2);
        metrics.dropped.with_label_values(&["topics"]).inc();
        metrics.connections.set(5);
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot.dropped, snapshot.connections), (3, 5));
        let text = metrics.encode().unwrap();
        assert!(text.contains("simctl_broker_dropped_messages_total{reason=\"topics\"} 1"));
        assert!(text.contains("simctl_broker_connections 5"));
    }

    #[test]
    fn every_metric_of_the_table_is_served() {
        let metrics = Metrics::new().unwrap();
        for family in [&metrics.refused, &metrics.users_unusable, &metrics.closed, &metrics.dropped] {
            family.with_label_values(&["any"]).inc();
        }
        let text = metrics.encode().unwrap();
        for Metric { name, help, .. } in metric::ALL {
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name} is not in {text}");
        }
        assert_eq!(text.matches("# HELP ").count(), metric::ALL.len());
    }
}
