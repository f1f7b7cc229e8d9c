//! The names of all metrics, in tables that code, dashboards and documentation share.
//!
//! What a worker has beside the messages and times of [`series`] is here; [`broker`], [`controller`] and [`process`] have
//! tables of their own. No metric has a label whose values grow with the fleet; all units are base units.

pub mod controller;

use crate::series;

/// A metric: its name, its help text and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name, with unit and `_total` where it is a counter.
    pub name: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// What Prometheus takes it for.
    pub kind: Kind,
    /// The labels; a worker's metrics have `fleet` beside these.
    pub labels: &'static [&'static str],
}

/// What Prometheus takes a metric for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A value of now.
    Gauge,
    /// A distribution in seconds, in the buckets of [`BUCKETS_SECONDS`].
    Histogram,
}

/// Upper bounds of the buckets of all histograms, in seconds.
pub const BUCKETS_SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric =
            Metric { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*] };)*

        /// The whole table, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

/// All metrics of a worker, in the order in which they are served.
pub fn of_workers() -> impl Iterator<Item = Metric> {
    let counters = series::COUNTERS.iter().map(|counter| counter.metric);
    let distributions = series::DISTRIBUTIONS.iter().map(|distribution| distribution.metric);
    counters.chain(ALL.iter().copied()).chain(distributions)
}

// Below the macro, which they use.
pub mod broker;
pub mod process;

metrics! {
    DEVICES = "simctl_devices", Gauge, ["state"], "Devices by state: desired, connected, refused, failed, leaving, away (without the session that they had).";
    MESSAGES_REJECTED = "simctl_messages_rejected_total", Counter, ["reason"], "Messages that the broker rejected, by its reason (MQTT 5).";
    MESSAGES_TOO_LARGE = "simctl_messages_too_large_total", Counter, ["stream"], "Messages withheld because they are above the broker's maximum packet size (MQTT 5), by their stream.";
    MESSAGES_RECEIVED = "simctl_messages_received_total", Counter, ["qos"], "Messages that the devices received for subscriptions of their own.";
    SUBSCRIPTIONS_REFUSED = "simctl_subscriptions_refused_total", Counter, ["reason"], "Filters that the broker refused to a device, by its reason; unanswered when it had said nothing until the device left.";
    BYTES_SENT = "simctl_bytes_sent_total", Counter, [], "Bytes of MQTT written by the devices.";
    BYTES_RECEIVED = "simctl_bytes_received_total", Counter, [], "Bytes of MQTT read by the devices.";
    BYTES_OBSERVED = "simctl_bytes_observed_total", Counter, [], "Bytes of MQTT read by the observer.";
    CONNECTIONS = "simctl_connections_total", Counter, [], "Sessions that the broker accepted.";
    RECONNECTS = "simctl_reconnects_total", Counter, [], "Sessions accepted after an earlier one was lost.";
    DISCONNECTS = "simctl_disconnects_total", Counter, ["reason"], "Connections lost, by reason.";
    CONNECT_FAILURES = "simctl_connect_failures_total", Counter, ["reason"], "Connection attempts that failed, by reason.";
    CONNECT_REFUSALS = "simctl_connect_refusals_total", Counter, ["reason"], "Connections that the broker refused, by its code.";
    SECRETS_UNUSABLE = "simctl_secrets_unusable_total", Counter, ["reason"], "Changed files of passwords and certificates that could not be used, by reason.";
    MISSED_TICKS = "simctl_missed_ticks_total", Counter, [], "Messages that the generator sent more than 100 ms late.";
    BUFFER_FULL = "simctl_buffer_full_total", Counter, [], "Times that a socket took less than it was given.";
    OBSERVERS = "simctl_observers", Gauge, ["state"], "Observers by state: wanted, subscribed.";
    FOREIGN_MESSAGES = "simctl_foreign_messages_total", Counter, [], "Messages that the observer saw and that are not of this run.";
    CHANGED_MESSAGES = "simctl_changed_messages_total", Counter, [], "Delivered messages whose body was not what was sent; one in 64 is compared.";
    WILLS = "simctl_wills_total", Counter, ["outcome"], "Wills by what became of them: expected, seen, missing, unknown, late or unexpected, of sessions that the broker ended, or deleted by a DISCONNECT.";
    RETAINED_LOOKS = "simctl_retained_looks_total", Counter, ["outcome"], "Looks at the topics of wills by whether they held the retained message that they should: right, wrong.";
    CPU_SECONDS = "simctl_cpu_seconds_total", Counter, ["mode"], "CPU time of the generator.";
    CPU_PERIODS = "simctl_cpu_periods_total", Counter, [], "Scheduling periods of the generator's CPU limit.";
    CPU_PERIODS_THROTTLED = "simctl_cpu_periods_throttled_total", Counter, [], "Scheduling periods in which the limit held the generator up.";
    MEMORY_BYTES = "simctl_memory_bytes", Gauge, [], "Resident memory of the generator.";
    OPEN_FILES = "simctl_open_files", Gauge, [], "Open files of the generator.";
    WORKERS = "simctl_workers", Gauge, [], "Worker processes.";
    THREADS = "simctl_threads", Gauge, ["state"], "Engine threads by what they did at the last reading: answered, silent.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in of_workers().chain([broker::ALL, controller::ALL].concat()) {
            assert!(names.insert(metric.name), "{} stands twice", metric.name);
            assert!(metric.name.starts_with("simctl_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            if metric.kind == Kind::Histogram {
                assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
            }
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
