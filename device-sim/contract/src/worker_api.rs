//! What a worker may be asked for over HTTP, said once for who asks and who answers: paths, what stands behind them, and the body of
//! an answer that says no.
//!
//! Workers and controllers of neighbouring releases speak to each other, so what is written here is only ever added to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{stats::SumOf, time::Micros};

/// `PUT`: the devices of a worker, a [`crate::worker::Assignment`].
pub const ASSIGNMENT: &str = "/v1/assignment";

/// `PUT`: a newer plan.
pub const PLAN: &str = "/v1/plan";

/// `GET`: all that was measured; [`stats_path`] has the question and [`StatsQuery`] reads it.
pub const STATS: &str = "/v1/stats";

/// `GET`: what a worker in this place may have sent; [`unrecorded_path`] has the question and [`UnrecordedQuery`] reads it.
pub const UNRECORDED: &str = "/v1/unrecorded";

/// `GET`: a device, as the route that serves [`device_path`].
pub const DEVICE: &str = "/v1/devices/{index}";

/// `POST`: lets the devices leave.
pub const DRAIN: &str = "/v1/drain";

/// `GET`: Prometheus' text format.
pub const METRICS: &str = "/metrics";

/// `GET`: whether the process lives.
pub const HEALTHZ: &str = "/healthz";

/// `GET`: whether the devices have had their chance to connect.
pub const READYZ: &str = "/readyz";

/// The longest list of sums in a question: a path may have 64 KiB. Whoever wants more has all times told.
const SUMS_BYTES_MAX: usize = 16 << 10;

/// An error as all of the project's APIs hand it over.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What was expected, what was found, what to do.
    pub error: String,
}

/// How much of what a worker has measured is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// All of it.
    Full,
    /// All but the times of single streams.
    Brief,
    /// As brief, with the times of the phases below this number.
    Phases(u32),
    /// As brief, with these sums of times, and perhaps with the times of the phases below this number.
    Sums(Arc<[SumOf]>, Option<u32>),
}

impl Detail {
    /// Counters, the times of the phases below a number if there is one, and these sums of others.
    pub fn with_sums(sums: &[SumOf], times_below: Option<u32>) -> Self {
        match times_below {
            _ if written(sums).len() > SUMS_BYTES_MAX => Self::Full,
            _ if !sums.is_empty() => Self::Sums(sums.into(), times_below),
            Some(number) => Self::Phases(number),
            None => Self::Brief,
        }
    }

    /// What it adds to the path of a reading.
    fn query(&self) -> String {
        let below = |number: &u32| format!("&times_below={number}");
        match self {
            Self::Full => String::new(),
            Self::Brief => "&brief=true".into(),
            Self::Phases(number) => format!("&brief=true{}", below(number)),
            // A worker of an earlier release passes over what it does not know: it is to tell all then.
            Self::Sums(sums, number) => {
                format!("&sums={}{}", written(sums), number.as_ref().map(below).unwrap_or_default())
            }
        }
    }
}

/// Sums as they stand in a path: JSON of which all but letters, digits and `-`, `.`, `_` are written as percent and number (RFC
/// 3986, section 2.1).
fn written(sums: &[SumOf]) -> String {
    let mut written = String::new();
    for byte in serde_json::to_vec(sums).expect("sums are a value of JSON") {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => written.push(byte.into()),
            other => written.push_str(&format!("%{other:02X}")),
        }
    }
    written
}

/// The question for a reading; the books of earlier workers in this place are closed up to the epoch `ended`.
pub fn stats_path(ended: Micros, detail: &Detail) -> String {
    format!("{STATS}?ended={}{}", ended.0, detail.query())
}

/// The question for what a worker in this place may have sent after `after` and before `until`.
pub fn unrecorded_path(after: Micros, until: Micros) -> String {
    format!("{UNRECORDED}?after={}&until={}", after.0, until.0)
}

/// The question for a device.
pub fn device_path(index: u32) -> String {
    format!("/v1/devices/{index}")
}

/// What the reader has, and wants: all behind [`STATS`], as [`stats_path`] writes it.
#[derive(Debug, Deserialize)]
pub struct StatsQuery {
    /// It has closed books up to that epoch.
    #[serde(default)]
    pub ended: Micros,
    /// It can do without the times of single streams.
    #[serde(default)]
    brief: bool,
    /// But for those of the phases below this number.
    times_below: Option<u32>,
    /// It can do with these sums of them, as JSON. It does not say `brief` then, so that a worker that cannot make them tells all.
    sums: Option<String>,
}

impl StatsQuery {
    /// What should have been there, for who is told that it was not.
    pub const EXPECTED: &'static str =
        "`ended`, an epoch in microseconds, `brief`, true or false, and `times_below`, a number";

    /// How much it asks for: all of it where this release cannot make one of the sums.
    pub fn detail(&self) -> Detail {
        match self.sums.as_deref().and_then(SumOf::parse) {
            Some(sums) => Detail::Sums(sums.into(), self.times_below),
            None if self.brief => self.times_below.map_or(Detail::Brief, Detail::Phases),
            None => Detail::Full,
        }
    }
}

/// A time that nothing is recorded of: all behind [`UNRECORDED`], as [`unrecorded_path`] writes it.
#[derive(Debug, Deserialize)]
pub struct UnrecordedQuery {
    /// It began after this instant.
    pub after: Micros,
    /// It was over at this one.
    pub until: Micros,
}

impl UnrecordedQuery {
    /// What should have been there, for who is told that it was not.
    pub const EXPECTED: &'static str = "`after` and `until`, instants in microseconds";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(group: &str) -> SumOf {
        let distribution = "end_to_end".into();
        SumOf { distribution, phase: Some(2), group: Some(group.into()), stream: None, qos: None }
    }

    #[test]
    fn what_is_asked_for_beside_counters_is_in_the_path() {
        let query = |sums: &[SumOf], below: Option<u32>| Detail::with_sums(sums, below).query();
        assert_eq!(query(&[], None), "&brief=true");
        assert_eq!(query(&[], Some(3)), "&brief=true&times_below=3");
        let sums =
            "&sums=%5B%7B%22distribution%22%3A%22end_to_end%22%2C%22phase%22%3A2%2C%22group%22%3A%22a%26b%22%7D%5D";
        assert_eq!(query(&[of("a&b")], None), sums);
        assert_eq!(query(&[of("a&b")], Some(3)), format!("{sums}&times_below=3"));
        // Too many for a path.
        assert_eq!(query(&vec![of("a"); 300], Some(3)), "");
    }

    #[test]
    fn paths_are_those_of_earlier_releases() {
        assert_eq!(stats_path(Micros(7), &Detail::Full), "/v1/stats?ended=7");
        assert_eq!(stats_path(Micros(7), &Detail::Phases(3)), "/v1/stats?ended=7&brief=true&times_below=3");
        assert_eq!(unrecorded_path(Micros(7), Micros(9)), "/v1/unrecorded?after=7&until=9");
        assert_eq!(device_path(24), DEVICE.replace("{index}", "24"));
        let body = serde_json::to_string(&ErrorBody { error: "no".into() }).unwrap();
        assert_eq!(body, r#"{"error":"no"}"#);
    }
}
