//! A threshold: what a figure of a run must be, such as `end_to_end.p99 < 250ms` or `lost == 0`.
//!
//! ```text
//! COLUMN[.STATISTIC] OPERATOR BOUND
//!
//! COLUMN     a counter of messages or a distribution of times, by its key in the table of series; a counter of wills
//! STATISTIC  of a counter:      count (the default), rate; of wills count alone
//!            of a distribution: p50, p99.9 and any other percentile, mean, max, count, rate
//! OPERATOR   < <= > >= ==
//! BOUND      of a count 0, of a rate 50/s, of a time 250ms; of payload_bytes 4MiB and 1MiB/s, too
//! ```

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    series::{COUNTERS, Counter, DISTRIBUTIONS, Distribution, OFFLINE_DETECTION, PAYLOAD_BYTES, RECOVERY},
    stats::{WILLS, WillCounter},
    units::{Bytes, Rate, Span},
    unknown,
};

/// What a figure of a run must be. As text see the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// The figure.
    pub column: Column,
    /// What of it.
    pub statistic: Statistic,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with.
    pub bound: Bound,
}

/// A row of the table of series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Column {
    /// A counter of messages.
    Counter(&'static Counter),
    /// A counter of wills.
    Will(&'static WillCounter),
    /// A distribution of times.
    Distribution(&'static Distribution),
}

/// What of a column is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// How many.
    Count,
    /// How many a second.
    Rate,
    /// The mean of the times.
    Mean,
    /// The time that so many hundredths of a per cent of them do not exceed.
    Percentile(u16),
    /// The longest time.
    Max,
}

/// How a figure is compared with its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
}

/// What a figure is compared with, in its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Messages, bytes or times, by number.
    Count(u64),
    /// So many a second.
    PerSecond(f64),
    /// A time.
    Time(Span),
}

/// Why a text is no threshold: what was expected, what was found, and at which column, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found} at column {column} of `{text}`")]
pub struct ThresholdError {
    expected: String,
    found: String,
    column: usize,
    text: String,
}

impl Column {
    /// All columns.
    pub fn all() -> impl Iterator<Item = Self> {
        let wills = WILLS.iter().map(Self::Will);
        COUNTERS.iter().map(Self::Counter).chain(DISTRIBUTIONS.iter().map(Self::Distribution)).chain(wills)
    }

    /// Its name.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Counter(counter) => counter.key,
            Self::Will(counter) => counter.key,
            Self::Distribution(distribution) => distribution.key,
        }
    }
}

impl Operator {
    /// Longer ones first, since the shorter ones begin them.
    const ALL: [(&'static str, Self); 5] =
        [("<=", Self::AtMost), (">=", Self::AtLeast), ("==", Self::Equal), ("<", Self::Less), (">", Self::More)];

    /// Whether `figure` is what is wanted of it.
    #[expect(clippy::float_cmp, reason = "both are whole numbers where somebody asks for equality")]
    pub fn holds(self, figure: f64, bound: f64) -> bool {
        match self {
            Self::Less => figure < bound,
            Self::AtMost => figure <= bound,
            Self::More => figure > bound,
            Self::AtLeast => figure >= bound,
            Self::Equal => figure == bound,
        }
    }
}

impl Bound {
    /// The bound as a number: a count, so many a second, or microseconds.
    pub const fn get(self) -> f64 {
        match self {
            Self::Count(count) => count as f64,
            Self::PerSecond(rate) => rate,
            Self::Time(time) => time.0 as f64,
        }
    }
}

impl Threshold {
    /// Whether it is a promise, which holds for a run from its first message to its last: a count of messages or of wills.
    pub const fn is_promise(&self) -> bool {
        matches!((self.column, self.statistic), (Column::Counter(_) | Column::Will(_), Statistic::Count))
    }

    /// Whether it looks at the whole run where no phase is named: promises do, and recovery and offline detection, because nobody
    /// measures the phase in which connections are cut.
    pub fn is_of_whole_run(&self) -> bool {
        self.is_promise()
            || matches!(self.column, Column::Distribution(row) if [RECOVERY, OFFLINE_DETECTION].contains(row))
    }

    /// Whether it is measured for each fault, too.
    pub fn is_by_fault(&self) -> bool {
        matches!(self.column, Column::Will(_))
            || self.is_of_whole_run() && matches!(self.column, Column::Distribution(_))
    }

    /// Whether it is about wills.
    pub fn is_of_wills(&self) -> bool {
        match self.column {
            Column::Counter(_) => false,
            Column::Will(_) => true,
            Column::Distribution(row) => *row == OFFLINE_DETECTION,
        }
    }
}

/// The statistics of a column, as they are written; of percentiles some.
fn statistics(column: Column) -> &'static str {
    match column {
        Column::Counter(_) => "count, rate",
        Column::Will(_) => "count",
        Column::Distribution(_) => "p50, p99, p99.9 or another percentile, mean, max, count, rate",
    }
}

fn statistic(column: Column, text: &str) -> Option<Statistic> {
    match (column, text) {
        (_, "count") => Some(Statistic::Count),
        (Column::Counter(_) | Column::Distribution(_), "rate") => Some(Statistic::Rate),
        (Column::Distribution(_), "mean") => Some(Statistic::Mean),
        (Column::Distribution(_), "max") => Some(Statistic::Max),
        (Column::Distribution(_), _) => percentile(text.strip_prefix('p')?).map(Statistic::Percentile),
        (Column::Counter(_) | Column::Will(_), _) => None,
    }
}

/// The hundredths of a per cent of `99.9`: more than none and less than all, two decimals at most.
fn percentile(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let hundredths: u16 = format!("{whole}{decimals:0<2}").parse().ok()?;
    (hundredths > 0).then_some(hundredths)
}

/// What a bound looks like, and the bound that a text is.
fn bound(column: Column, statistic: Statistic, text: &str) -> Result<Bound, &'static str> {
    let is_bytes = matches!(column, Column::Counter(counter) if *counter == PAYLOAD_BYTES);
    match statistic {
        Statistic::Count if is_bytes => {
            let size = text.parse().map(|Bytes(bytes)| Bound::Count(bytes));
            size.map_err(|_| "a size such as `200B` or `4MiB`")
        }
        Statistic::Count => text.parse().map(Bound::Count).map_err(|_| "a whole number such as `0`"),
        Statistic::Rate if is_bytes => {
            let size = text.strip_suffix("/s").and_then(|size| size.trim_end().parse().ok());
            size.map(|Bytes(bytes)| Bound::PerSecond(bytes as f64)).ok_or("a size a second such as `1MiB/s`")
        }
        Statistic::Rate => {
            // No rate is nothing a second, but a bound may be.
            let zero = || {
                let count = text.trim_end_matches("/s").trim_end().trim_end_matches("msg").trim();
                count.parse().ok().filter(|zero| *zero == 0.0)
            };
            let rate = text.parse::<Rate>().ok().map(Rate::get).or_else(zero);
            rate.map(Bound::PerSecond).ok_or("a rate such as `500/s`")
        }
        Statistic::Mean | Statistic::Percentile(_) | Statistic::Max => {
            text.parse().map(Bound::Time).map_err(|_| "a length of time such as `250ms`")
        }
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        // `part` lies in `text`, so that its place is known.
        let wrong = |expected: String, part: &str| {
            let offset = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize).min(text.len());
            let found = if part.is_empty() { "nothing".into() } else { format!("`{part}`") };
            ThresholdError { expected, found, column: text[..offset].chars().count() + 1, text: text.into() }
        };
        let sign = text.find(['<', '>', '=']).unwrap_or(text.len());
        let (left, right) = (text[..sign].trim(), &text[sign..]);
        let (name, rest) = left.split_once('.').map_or((left, None), |(name, rest)| (name, Some(rest)));
        let known = || Column::all().map(|column| column.key());
        let column = Column::all().find(|column| column.key() == name).ok_or_else(|| {
            let meant = unknown::meant(name, known()).map(|meant| format!(" (did you mean `{meant}`?)"));
            let known = known().collect::<Vec<_>>().join(", ");
            wrong(format!("one of {known}{}", meant.unwrap_or_default()), name)
        })?;
        let behind = || wrong(format!("`{name}.` and one of {}", statistics(column)), rest.unwrap_or(left));
        let statistic = match (rest, column) {
            (Some(rest), _) => statistic(column, rest).ok_or_else(behind)?,
            (None, Column::Counter(_) | Column::Will(_)) => Statistic::Count,
            (None, Column::Distribution(_)) => return Err(behind()),
        };
        let (symbol, operator) = Operator::ALL
            .into_iter()
            .find(|(symbol, _)| right.starts_with(symbol))
            .ok_or_else(|| wrong("one of <, <=, >, >=, ==".into(), right))?;
        let value = right[symbol.len()..].trim();
        let bound = bound(column, statistic, value).map_err(|expected| wrong(expected.into(), value))?;
        Ok(Self { column, statistic, operator, bound })
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count"),
            Self::Rate => f.write_str("rate"),
            Self::Mean => f.write_str("mean"),
            Self::Percentile(hundredths) => write!(f, "p{}", f64::from(*hundredths) / 100.0),
            Self::Max => f.write_str("max"),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol = Self::ALL.iter().find(|(_, operator)| operator == self).map(|(symbol, _)| *symbol);
        f.write_str(symbol.unwrap_or_default())
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, statistic, operator, bound } = self;
        let is_bytes = matches!(column, Column::Counter(counter) if **counter == PAYLOAD_BYTES);
        f.write_str(column.key())?;
        if !self.is_promise() {
            write!(f, ".{statistic}")?;
        }
        write!(f, " {operator} ")?;
        match bound {
            Bound::Count(count) if is_bytes => write!(f, "{}", Bytes(*count)),
            Bound::Count(count) => write!(f, "{count}"),
            Bound::PerSecond(rate) if is_bytes => write!(f, "{rate}B/s"),
            Bound::PerSecond(rate) => write!(f, "{rate}/s"),
            Bound::Time(time) => write!(f, "{time}"),
        }
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Threshold {
    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*[a-z_0-9]+(\.(count|rate|mean|max|p[0-9]{1,2}(\.[0-9]{1,2})?))?\s*(<=?|>=?|==)\s*[0-9].*$",
            "format": "Threshold",
            "description": "a threshold such as `end_to_end.p99 < 250ms` or `lost == 0`",
            "examples": ["end_to_end.p99 < 250ms", "lost == 0"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{END_TO_END, LOST};

    fn of(text: &str) -> Threshold {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn thresholds_read_as_documented() {
        let p99 = Threshold {
            column: Column::Distribution(&END_TO_END),
            statistic: Statistic::Percentile(9_900),
            operator: Operator::Less,
            bound: Bound::Time(Span::from_millis(250)),
        };
        assert_eq!(of("end_to_end.p99 < 250ms"), p99);
        assert_eq!(of("end_to_end.p99<250ms"), p99);
        let lost = Threshold {
            column: Column::Counter(&LOST),
            statistic: Statistic::Count,
            operator: Operator::Equal,
            bound: Bound::Count(0),
        };
        assert_eq!((of("lost == 0"), of("lost.count==0")), (lost.clone(), lost));
        for (text, shown) in [
            ("publish_ack.p99.99 <= 1s", "publish_ack.p99.99 <= 1s"),
            ("recovery.p95 < 30s", "recovery.p95 < 30s"),
            ("offline_detection.p99 < 2s", "offline_detection.p99 < 2s"),
            ("wills_missing.count == 0", "wills_missing == 0"),
            ("connect.p50.00 < 2s", "connect.p50 < 2s"),
            ("schedule_lag.max < 5ms", "schedule_lag.max < 5ms"),
            ("end_to_end.mean < 1.5s", "end_to_end.mean < 1500ms"),
            ("recovery.count >= 100", "recovery.count >= 100"),
            ("sent.rate >= 50000 msg/s", "sent.rate >= 50000/s"),
            ("sent.rate > 600/min", "sent.rate > 10/s"),
            ("lost.rate == 0", "lost.rate == 0/s"),
            ("payload_bytes < 4MiB", "payload_bytes < 4MiB"),
            ("payload_bytes.rate >= 1KiB/s", "payload_bytes.rate >= 1024B/s"),
        ] {
            assert_eq!(of(text).to_string(), shown);
            assert_eq!(of(shown), of(text));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_column() {
        let wrong = |text: &str| text.parse::<Threshold>().unwrap_err().to_string();
        let check = |text: &str, what: &str| assert!(wrong(text).contains(what), "{}", wrong(text));
        check("end_to_end.p99 = 250ms", "expected one of <, <=, >, >=, ==, found `= 250ms` at column 16");
        check("end_to_end.p99 < 250", "expected a length of time such as `250ms`, found `250` at column 18");
        check("end_to_end < 1s", "expected `end_to_end.` and one of p50, p99");
        check("lost.p99 < 1s", "expected `lost.` and one of count, rate, found `p99` at column 6");
        check("end_to_end.p100 < 1s", "found `p100` at column 12");
        check("end_to_end.p99.999 < 1s", "found `p99.999` at column 12");
        check("wills_missing.rate == 0", "expected `wills_missing.` and one of count, found `rate` at column 15");
        check("lots == 0", "(did you mean `lost`?), found `lots` at column 1");
        check("lost == none", "expected a whole number such as `0`, found `none` at column 9");
        check("lost ==", "found nothing at column 8");
        check("  lost", "expected one of <, <=, >, >=, ==, found nothing at column 7");
        check("", "expected one of offered, ");
        check("end_to_end.p0 < 1s", "found `p0`");
        check("sent.rate > fast", "expected a rate such as `500/s`, found `fast`");
    }
}
