//! What backends learn of devices that go without a word: their wills, and the retained state afterwards.

use fleet_contract::{
    stats::{Latency, Stats, WILLS, Wills},
    units::Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of wills, and how long they took from the end of their session to the observer.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct OfflineDetection {
    /// Sessions that ended without a DISCONNECT, whose will the broker is to publish.
    pub wills_expected: u64,
    /// Of these: wills that arrived in time.
    pub wills_seen: u64,
    /// Of the expected: wills that did not arrive within `lossAfter`, beyond the will's delay and, where only it tells the broker, one
    /// and a half times the keep-alive.
    pub wills_missing: u64,
    /// Of the expected: wills of which nobody can know, because the observer was away or its worker was killed.
    pub wills_unknown: u64,
    /// Of the missing: wills that arrived after all.
    pub wills_late: u64,
    /// Wills of devices whose session ended with a DISCONNECT, or has not ended.
    pub wills_unexpected: u64,
    /// Wills of sessions that the broker ended, or an earlier process left; they are not timed.
    pub wills_by_broker: u64,
    /// Sessions that ended with a DISCONNECT, upon which the broker deletes the will.
    pub wills_deleted: u64,
    /// Looks at a topic that held the retained message that it should: the will after it came, the birth message after the device was
    /// back.
    pub retained_right: u64,
    /// Looks at a topic that held another retained message, or none.
    pub retained_wrong: u64,
    /// The time of the middle one, in seconds; `null` where no will was seen.
    pub p50: Option<f64>,
    /// The time that 95 in 100 do not exceed, in seconds.
    pub p95: Option<f64>,
    /// The time that 99 in 100 do not exceed, in seconds.
    pub p99: Option<f64>,
    /// The longest time, in seconds.
    pub max: Option<f64>,
}

impl OfflineDetection {
    /// That of the whole run; `None` of a fleet whose wills nobody follows.
    pub(in crate::report) fn of_run(stats: &Stats) -> Option<Self> {
        Self::new(&stats.wills, &stats.latency.offline_detection)
    }

    /// That of these wills; `None` where there is none.
    pub(super) fn new(wills: &Wills, times: &Latency) -> Option<Self> {
        let Wills {
            expected,
            seen,
            missing,
            unknown,
            late,
            unexpected,
            by_broker,
            deleted,
            retained_right,
            retained_wrong,
            armed: _,
        } = *wills;
        let seconds = |time: Option<Span>| time.map(Span::as_secs_f64);
        let quantile = |quantile| seconds(times.quantile(quantile));
        (!wills.is_empty()).then(|| Self {
            wills_expected: expected,
            wills_seen: seen,
            wills_missing: missing,
            wills_unknown: unknown,
            wills_late: late,
            wills_unexpected: unexpected,
            wills_by_broker: by_broker,
            wills_deleted: deleted,
            retained_right,
            retained_wrong,
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            max: seconds(times.max()),
        })
    }

    /// The counters by their keys, in the order of [`WILLS`].
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = [
            self.wills_expected,
            self.wills_seen,
            self.wills_missing,
            self.wills_unknown,
            self.wills_late,
            self.wills_unexpected,
            self.wills_by_broker,
            self.wills_deleted,
            self.retained_right,
            self.retained_wrong,
        ];
        WILLS.iter().map(|counter| counter.key).zip(counts).collect()
    }

    /// The times, in seconds: p50, p95, p99 and the longest.
    pub const fn times(&self) -> [Option<f64>; 4] {
        [self.p50, self.p95, self.p99, self.max]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_stands_under_its_own_key() {
        for counter in WILLS {
            let field = counter.key.strip_prefix("wills_").unwrap_or(counter.key);
            let field = match field {
                "by_broker" => "byBroker",
                "retained_right" => "retainedRight",
                "retained_wrong" => "retainedWrong",
                other => other,
            };
            let wills: Wills = serde_json::from_value(serde_json::json!({field: 7})).unwrap();
            let figures = OfflineDetection::new(&wills, &Latency::default()).unwrap();
            assert_eq!(serde_json::to_value(figures).unwrap()[counter.key], 7, "{}", counter.key);
            assert_eq!(figures.counts().iter().find(|(_, count)| *count == 7).map(|(key, _)| *key), Some(counter.key));
        }
        assert_eq!(OfflineDetection::new(&Wills::default(), &Latency::default()), None);
    }

    #[test]
    fn times_are_in_seconds() {
        let mut times = Latency::default();
        (1..=100).for_each(|millis| times.record(Span::from_millis(millis)));
        let wills = Wills { expected: 100, seen: 100, ..Wills::default() };
        let figures = OfflineDetection::new(&wills, &times).unwrap();
        let expected = [0.05, 0.095, 0.099, 0.1];
        let is_near = |(found, expected): (Option<f64>, f64)| (found.unwrap() - expected).abs() < 0.001;
        assert!(figures.times().into_iter().zip(expected).all(is_near), "{figures:?}");
    }
}
