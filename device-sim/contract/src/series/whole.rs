//! What is counted of the fleet as a whole, beside messages and times: each figure with its kind, and below how it is exported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kind::{farthest, figures};
use crate::stats::Oversize;

figures! {
    /// Devices by state at the moment of the reading.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    Devices {
        /// Those that the plan wants now.
        gauge desired: u32,
        /// Those with an accepted session.
        gauge connected: u32,
        /// Those that the broker refused at their last attempt.
        gauge refused: u32,
        /// Those that failed at their last attempt for a reason of the generator's own (no port, no file).
        gauge failed: u32,
        /// Those that the plan does not want any more and that are not gone yet: they wait for their turn to leave, or for their
        /// messages to settle.
        gauge leaving: u32,
    }
}

impl Devices {
    /// How many are in each state, by its name.
    pub const fn by_state(self) -> [(&'static str, u32); 5] {
        let Self { desired, connected, refused, failed, leaving } = self;
        [("desired", desired), ("connected", connected), ("refused", refused), ("failed", failed), ("leaving", leaving)]
    }
}

figures! {
    /// What devices subscribed to, and the messages that came of it.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    Received {
        /// Messages by the quality of service that they came with: 0, 1 and 2. One of QoS 2 counts once, however often
        /// the broker sends it.
        by_qos messages: [u64; 3],
        /// Bytes of their payloads.
        sum payload_bytes: u64,
        /// PUBLISH packets that came again, with the DUP flag. At QoS 1 such a message may have been counted before.
        sum redelivered: u64,
        /// Filters that the broker granted, at any QoS: a device that must subscribe again counts again.
        sum granted: u64,
        /// Filters that the broker refused, by its reason.
        by_cause refused: BTreeMap<String, u64>,
        /// Filters that the broker had not answered when the device left, two seconds or more after it asked.
        sum unanswered: u64,
        /// Packets above the fleet's `connect.maxPacket`, which end their connection.
        oversize too_large: Oversize,
    }
}

figures! {
    /// Bytes on the wire as MQTT counts them, without TCP and IP.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    Bytes {
        /// Written by the devices.
        sum sent: u64,
        /// Read by the devices.
        sum received: u64,
        /// Read by the observer.
        sum observed: u64,
    }
}

figures! {
    /// Connections made, lost and refused; the keys are the names of the errors.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    Connections {
        /// Accepted sessions.
        sum accepted: u64,
        /// Of these: after an earlier one was lost.
        sum reconnects: u64,
        /// Lost connections by cause.
        by_cause lost: BTreeMap<String, u64>,
        /// Attempts that failed, by cause.
        by_cause failed: BTreeMap<String, u64>,
        /// Refusals by the broker, by its code.
        by_cause refused: BTreeMap<String, u64>,
        /// Acknowledgements that nobody waited for.
        sum unsolicited: u64,
        /// MQTT 5: what brokers said beside their reasons when they refused or ended a connection (sections 3.2.2.3.9 and
        /// 3.14.2.2.3), and where else they sent the device.
        by_cause said: BTreeMap<String, u64>,
    }
}

figures! {
    /// What the observer saw.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    ObserverStats {
        /// Observers that are subscribed now.
        gauge subscribed: u32,
        /// Observers that there should be.
        gauge wanted: u32,
        /// Times that an observer lost its connection.
        sum losses: u64,
        /// Messages without a stamp of this run, or of no known topic.
        sum foreign: u64,
        /// Delivered messages whose body was compared with what was sent: one in 64 of those with a stamp, the first of
        /// each stream and device among them.
        sum compared: u64,
        /// Of the compared: those that had become another.
        sum changed: u64,
        /// Other runs that publish as the same devices, by run id, with their messages.
        by_cause other_runs: BTreeMap<String, u64>,
        /// Observers that have seen a newer process run the devices of their worker, which has left for it.
        gauge superseded: u32,
        /// Why an observer could not subscribe, if so.
        first error: Option<String>,
    }
}

figures! {
    /// How the generator itself fared: whether its figures can be trusted.
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    Generator {
        /// Worker processes.
        gauge workers: u32,
        /// Engine threads.
        gauge shards: u32,
        /// Of the threads: those that did not answer in time, and are counted as they were when they last did.
        gauge shards_silent: u32,
        /// CPU time in user space, in seconds.
        sum cpu_user_seconds: f64,
        /// CPU time in the kernel, in seconds.
        sum cpu_system_seconds: f64,
        /// Resident memory, in bytes.
        gauge memory_bytes: u64,
        /// Open files.
        gauge open_files: u64,
        /// Messages that were handed over more than 100 ms late.
        sum missed_ticks: u64,
        /// Messages that were handed over later than [`lag::limit`](crate::lag::limit) allows for the interval that was in
        /// force when they were due.
        sum overdue: u64,
        /// Times that a socket took less than it was given.
        sum buffer_full: u64,
        /// Scheduling periods of the control group, and those in which it was throttled.
        sum cpu_periods: u64,
        /// Of the periods: those with throttling.
        sum cpu_periods_throttled: u64,
        /// Changed files of passwords and certificates that could not be used, by reason; what was read before stays.
        by_cause secrets_unusable: BTreeMap<String, u64>,
        /// How far the machine's wall clock was ahead of the clock of the devices when they differed most, in microseconds;
        /// negative where it was behind.
        farthest clock_offset_micros: i64,
    }
}

impl Generator {
    /// Notes how far the wall clock is ahead; the largest difference counts.
    pub const fn see_clock_offset(&mut self, micros: i64) {
        farthest::add(&mut self.clock_offset_micros, &micros);
    }

    /// CPU time in all, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_user_seconds + self.cpu_system_seconds
    }

    /// The share of scheduling periods with throttling, 0 to 1; 0 where no limit is set.
    pub fn throttled_share(&self) -> f64 {
        if self.cpu_periods == 0 { 0.0 } else { self.cpu_periods_throttled as f64 / self.cpu_periods as f64 }
    }
}

/// The metrics of what stands here, and of wills.
pub(crate) mod exported {
    use std::collections::BTreeMap;

    use super::{Generator, Received};
    use crate::{
        metric::{Kind, Metric},
        stats::{self, Stats, Wills},
    };

    /// A metric, and where its values are.
    #[derive(Debug, Clone, Copy)]
    pub struct Exported {
        /// The metric.
        pub metric: Metric,
        /// Its values.
        pub get: fn(&Stats) -> Values<'_>,
    }

    /// What a metric has for each value of its label; of one without a label, one value behind an empty name.
    pub type Values<'a> = Vec<(&'a str, f64)>;

    macro_rules! exported {
        ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal, $get:expr;)*) => {
            $(#[doc = $help] pub const $constant: Metric =
                Metric { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*] };)*

            /// The whole table, in the order of the documentation.
            pub const EXPORTED: &[Exported] = &[$(Exported { metric: $constant, get: $get }),*];
        };
    }

    exported! {
        DEVICES = "simctl_devices", Gauge, ["state"], "Devices by state: desired, connected, refused, failed, leaving, away (without the session that they had).",
            devices;
        MESSAGES_REJECTED = "simctl_messages_rejected_total", Counter, ["reason"], "Messages that the broker rejected, by its reason (MQTT 5).",
            |stats| by_cause(&stats.rejected);
        MESSAGES_TOO_LARGE = "simctl_messages_too_large_total", Counter, ["stream"], "Messages withheld because they are above the broker's maximum packet size (MQTT 5), by their stream.",
            |stats| stats.too_large.iter().map(|(stream, above)| (stream.as_str(), above.packets as f64)).collect();
        MESSAGES_RECEIVED = "simctl_messages_received_total", Counter, ["qos"], "Messages that the devices received for subscriptions of their own.",
            |stats| ["0", "1", "2"].into_iter().zip(stats.received.messages.map(|count| count as f64)).collect();
        SUBSCRIPTIONS_REFUSED = "simctl_subscriptions_refused_total", Counter, ["reason"], "Filters that the broker refused to a device, by its reason; unanswered when it had said nothing until the device left.",
            |stats| subscriptions_refused(&stats.received);
        BYTES_SENT = "simctl_bytes_sent_total", Counter, [], "Bytes of MQTT written by the devices.",
            |stats| count(stats.bytes.sent);
        BYTES_RECEIVED = "simctl_bytes_received_total", Counter, [], "Bytes of MQTT read by the devices.",
            |stats| count(stats.bytes.received);
        BYTES_OBSERVED = "simctl_bytes_observed_total", Counter, [], "Bytes of MQTT read by the observer.",
            |stats| count(stats.bytes.observed);
        CONNECTIONS = "simctl_connections_total", Counter, [], "Sessions that the broker accepted.",
            |stats| count(stats.connections.accepted);
        RECONNECTS = "simctl_reconnects_total", Counter, [], "Sessions accepted after an earlier one was lost.",
            |stats| count(stats.connections.reconnects);
        DISCONNECTS = "simctl_disconnects_total", Counter, ["reason"], "Connections lost, by reason.",
            |stats| by_cause(&stats.connections.lost);
        CONNECT_FAILURES = "simctl_connect_failures_total", Counter, ["reason"], "Connection attempts that failed, by reason.",
            |stats| by_cause(&stats.connections.failed);
        CONNECT_REFUSALS = "simctl_connect_refusals_total", Counter, ["reason"], "Connections that the broker refused, by its code.",
            |stats| by_cause(&stats.connections.refused);
        SECRETS_UNUSABLE = "simctl_secrets_unusable_total", Counter, ["reason"], "Changed files of passwords and certificates that could not be used, by reason.",
            |stats| by_cause(&stats.generator.secrets_unusable);
        MISSED_TICKS = "simctl_missed_ticks_total", Counter, [], "Messages that the generator sent more than 100 ms late.",
            |stats| count(stats.generator.missed_ticks);
        BUFFER_FULL = "simctl_buffer_full_total", Counter, [], "Times that a socket took less than it was given.",
            |stats| count(stats.generator.buffer_full);
        OBSERVERS = "simctl_observers", Gauge, ["state"], "Observers by state: wanted, subscribed.",
            |stats| vec![("wanted", stats.observer.wanted.into()), ("subscribed", stats.observer.subscribed.into())];
        FOREIGN_MESSAGES = "simctl_foreign_messages_total", Counter, [], "Messages that the observer saw and that are not of this run.",
            |stats| count(stats.observer.foreign);
        CHANGED_MESSAGES = "simctl_changed_messages_total", Counter, [], "Delivered messages whose body was not what was sent; one in 64 is compared.",
            |stats| count(stats.observer.changed);
        WILLS = "simctl_wills_total", Counter, ["outcome"], "Wills by what became of them: expected, seen, missing, unknown, late or unexpected, of sessions that the broker ended, or deleted by a DISCONNECT.",
            |stats| wills(&stats.wills);
        RETAINED_LOOKS = "simctl_retained_looks_total", Counter, ["outcome"], "Looks at the topics of wills by whether they held the retained message that they should: right, wrong.",
            |stats| retained_looks(&stats.wills);
        CPU_SECONDS = "simctl_cpu_seconds_total", Counter, ["mode"], "CPU time of the generator.",
            |stats| vec![("user", stats.generator.cpu_user_seconds), ("system", stats.generator.cpu_system_seconds)];
        CPU_PERIODS = "simctl_cpu_periods_total", Counter, [], "Scheduling periods of the generator's CPU limit.",
            |stats| count(stats.generator.cpu_periods);
        CPU_PERIODS_THROTTLED = "simctl_cpu_periods_throttled_total", Counter, [], "Scheduling periods in which the limit held the generator up.",
            |stats| count(stats.generator.cpu_periods_throttled);
        MEMORY_BYTES = "simctl_memory_bytes", Gauge, [], "Resident memory of the generator.",
            |stats| count(stats.generator.memory_bytes);
        OPEN_FILES = "simctl_open_files", Gauge, [], "Open files of the generator.",
            |stats| count(stats.generator.open_files);
        WORKERS = "simctl_workers", Gauge, [], "Worker processes.",
            |stats| count(stats.generator.workers.into());
        THREADS = "simctl_threads", Gauge, ["state"], "Engine threads by what they did at the last reading: answered, silent.",
            |stats| threads(&stats.generator);
    }

    fn devices(stats: &Stats) -> Values<'_> {
        let states = stats.devices.by_state().into_iter().chain([("away", stats.sessions.away)]);
        states.map(|(state, devices)| (state, devices.into())).collect()
    }

    fn count(count: u64) -> Values<'static> {
        vec![("", count as f64)]
    }

    fn by_cause(counts: &BTreeMap<String, u64>) -> Values<'_> {
        counts.iter().map(|(cause, count)| (cause.as_str(), *count as f64)).collect()
    }

    fn subscriptions_refused(received: &Received) -> Values<'_> {
        let mut refused: BTreeMap<&str, f64> = by_cause(&received.refused).into_iter().collect();
        if received.unanswered > 0 {
            refused.insert("unanswered", received.unanswered as f64);
        }
        refused.into_iter().collect()
    }

    /// Few fleets have wills, and a scrape of the others stays small.
    fn wills(wills: &Wills) -> Values<'static> {
        let rows = stats::WILLS.iter().filter(|_| !wills.is_empty());
        rows.filter_map(|row| Some((row.key.strip_prefix("wills_")?, (row.get)(wills) as f64))).collect()
    }

    fn retained_looks(wills: &Wills) -> Values<'static> {
        if wills.is_empty() {
            return Vec::new();
        }
        vec![("right", wills.retained_right as f64), ("wrong", wills.retained_wrong as f64)]
    }

    fn threads(generator: &Generator) -> Values<'static> {
        let answered = generator.shards.saturating_sub(generator.shards_silent);
        vec![("answered", answered.into()), ("silent", generator.shards_silent.into())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observer(foreign: u64, run: &str) -> ObserverStats {
        ObserverStats {
            subscribed: 5,
            foreign,
            other_runs: [(run.to_owned(), 2)].into(),
            error: Some(run.to_owned()),
            ..ObserverStats::default()
        }
    }

    #[test]
    fn counts_come_apart_again_and_what_is_true_of_now_stays() {
        let mut sum = ObserverStats::default();
        sum.merge(&observer(3, "one"));
        let before = sum.clone();
        sum.merge(&observer(4, "other"));
        let other_runs = [("one".to_owned(), 2), ("other".to_owned(), 2)].into();
        assert_eq!(sum, ObserverStats { subscribed: 10, other_runs, ..observer(7, "one") });
        let come = ObserverStats { subscribed: 10, error: Some("one".into()), ..observer(4, "other") };
        assert_eq!((sum.without(&before), before.without(&sum).foreign), (come, 0));
    }

    #[test]
    fn of_clocks_the_one_that_is_farthest_off_counts() {
        let mut sum = Generator::default();
        for offset in [7, -9, 8] {
            sum.merge(&Generator { cpu_user_seconds: 0.5, clock_offset_micros: offset, ..Generator::default() });
        }
        let earlier = Generator { cpu_user_seconds: 0.5, clock_offset_micros: 2, ..Generator::default() };
        let come = sum.without(&earlier);
        assert_eq!((come.clock_offset_micros, come.cpu_user_seconds.to_bits()), (-9, 1.0_f64.to_bits()));
    }

    #[test]
    fn what_came_with_each_quality_of_service_is_told_apart() {
        let of = |messages| Received { messages, ..Received::default() };
        let mut sum = of([1, 2, 3]);
        sum.merge(&of([0, 5, 1]));
        assert_eq!((sum.messages, sum.without(&of([1, 9, 1])).messages), ([1, 7, 4], [0, 0, 3]));
    }
}
