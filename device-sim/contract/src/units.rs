//! Quantities as people write them: `200ms`, `4KiB`, `500/s`, `90%`.
//!
//! Each reads from a string with its unit and prints the shortest string that reads back as the same value. Documents,
//! flags and custom resources have this one grammar; the patterns of the schemas take what the readers take.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What is wrong with a quantity, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found `{found}`")]
pub struct ParseError {
    expected: &'static str,
    found: String,
}

/// A number as quantities have it: digits, and at most one point between them.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.starts_with(|first: char| first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_plain { text.parse().ok() } else { None }
}

/// The names of units of time, and their microseconds.
const TIME_UNITS: [(&[&str], f64); 6] = [
    (&["d", "day", "days"], 86_400e6),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600e6),
    (&["m", "min", "mins", "minute", "minutes"], 60e6),
    (&["s", "sec", "secs", "second", "seconds"], 1e6),
    (&["ms", "msec", "msecs", "milli", "millis", "millisecond", "milliseconds"], 1e3),
    (&["us", "µs", "usec", "usecs", "micro", "micros", "microsecond", "microseconds"], 1.0),
];

/// The microseconds of a unit of time.
fn time_unit(name: &str) -> Option<f64> {
    TIME_UNITS.iter().find(|(names, _)| names.contains(&name)).map(|(_, micros)| *micros)
}

/// A length of time in microseconds: `250us`, `200ms`, `1.5s`, `5m`, `1h30m`, `1d`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000)
    }

    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000)
    }

    /// The span in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The span as the standard library has it.
    pub const fn as_duration(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

impl From<Duration> for Span {
    /// Saturates beyond 584,000 years.
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

impl FromStr for Span {
    type Err = ParseError;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and at most 2^53")]
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError { expected: "a length of time such as `200ms`, `1.5s` or `5m`", found: text.into() };
        let mut rest = text.trim();
        let mut micros = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (count, behind) = rest.split_at(digits);
            let behind = behind.trim_start();
            let letters = behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len());
            let (unit, behind) = behind.split_at(letters);
            micros += number(count).ok_or_else(wrong)? * time_unit(unit).ok_or_else(wrong)?;
            rest = behind.trim_start();
        }
        // Up to here each whole microsecond has a number of its own.
        if text.trim().is_empty() || micros > 2f64.powi(53) { Err(wrong()) } else { Ok(Self(micros.round() as u64)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0;
        match us {
            0 => f.write_str("0s"),
            _ if us.is_multiple_of(3_600_000_000) => write!(f, "{}h", us / 3_600_000_000),
            _ if us.is_multiple_of(60_000_000) => write!(f, "{}m", us / 60_000_000),
            _ if us.is_multiple_of(1_000_000) => write!(f, "{}s", us / 1_000_000),
            _ if us.is_multiple_of(1_000) && us < 10_000_000 => write!(f, "{}ms", us / 1_000),
            _ if us < 1_000 => write!(f, "{us}us"),
            _ => write!(f, "{}s", us as f64 / 1e6),
        }
    }
}

/// A number of bytes: `200B`, `4KiB`, `1.5MiB`, `10kB`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

const BYTE_UNITS: [(&str, f64); 8] = [
    ("KiB", 1024.0),
    ("MiB", 1024.0 * 1024.0),
    ("GiB", 1024.0 * 1024.0 * 1024.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("B", 1.0),
    ("", 1.0),
];

impl FromStr for Bytes {
    type Err = ParseError;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a sane positive number")]
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError { expected: "a size such as `200B`, `4KiB` or `1MB`", found: text.into() };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (count, unit) = trimmed.split_at(digits);
        let count = number(count).ok_or_else(wrong)?;
        let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
        let bytes = count * factor;
        if bytes < 1e15 { Ok(Self(bytes.round() as u64)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, power) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 >= 1 << power && self.0.trailing_zeros() >= power {
                return write!(f, "{}{unit}", self.0 >> power);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// How much a link carries: `64kbit/s`, `9600bit/s`, `1.5Mbit/s`, in bits a second; a thousand of one unit are the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(u64);

const BIT_UNITS: [(&str, f64); 4] = [("bit", 1.0), ("kbit", 1e3), ("Mbit", 1e6), ("Gbit", 1e9)];

impl BitRate {
    /// How long so many bytes take.
    pub fn time_for(self, bytes: u64) -> Span {
        Span(u64::try_from(u128::from(bytes) * 8_000_000 / u128::from(self.0)).unwrap_or(u64::MAX))
    }
}

impl FromStr for BitRate {
    type Err = ParseError;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a sane positive number")]
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError { expected: "bits a second such as `64kbit/s` or `1Mbit/s`", found: text.into() };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (count, unit) = trimmed.split_at(digits);
        let count = number(count).ok_or_else(wrong)?;
        let unit = unit.trim().strip_suffix("/s").ok_or_else(wrong)?.trim_end();
        let (_, factor) = BIT_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let bits = (count * factor).round();
        if (1.0..1e12).contains(&bits) { Ok(Self(bits as u64)) } else { Err(wrong()) }
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000)] {
            if self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}/s", self.0 / factor);
            }
        }
        write!(f, "{}bit/s", self.0)
    }
}

/// How often something may happen: `500/s`, `30/m`, `0.5/s`. More than zero.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// One a second.
    pub(crate) const ONE: Self = Self(1.0);

    /// A rate of so many a second; `None` unless it is a positive finite number.
    pub fn per_second(rate: f64) -> Option<Self> {
        (rate.is_finite() && rate > 0.0).then_some(Self(rate))
    }

    /// Events a second.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The time that `count` events take at this rate.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and both factors are positive"
    )]
    pub fn time_for(self, count: u64) -> Span {
        Span((count as f64 / self.0 * 1e6) as u64)
    }
}

impl FromStr for Rate {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError { expected: "a rate such as `500/s` or `30/m`", found: text.into() };
        let (count, unit) = text.trim().split_once('/').unwrap_or((text.trim(), "s"));
        // What is counted may be said: `50000 msg/s`.
        let count = count.trim();
        let count = number(count.strip_suffix("msg").unwrap_or(count).trim_end()).ok_or_else(wrong)?;
        let micros = time_unit(unit.trim()).ok_or_else(wrong)?;
        Self::per_second(count / (micros / 1e6)).ok_or_else(wrong)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

/// How much faster something goes than it says by itself, in millionths: `2` is twice as fast, `0.5` half, `0` not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Factor(pub u32);

impl Factor {
    /// As fast as it says.
    pub const ONE: Self = Self(1_000_000);

    /// The factor as a number.
    pub fn get(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ONE.0)
    }
}

impl FromStr for Factor {
    type Err = ParseError;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie in 0 to 1,000,000,000")]
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError { expected: "a factor from `0` to `1000` such as `2` or `0.5`", found: text.into() };
        let millionths = (number(text.trim()).ok_or_else(wrong)? * f64::from(Self::ONE.0)).round();
        if millionths <= 1e9 { Ok(Self(millionths as u32)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// A share of a whole in steps of a hundredth of a per cent: `90%`, `12.5%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(10_000);

    /// Nothing of it.
    pub const NONE: Self = Self(0);

    /// A share of `hundredths` of a per cent; `None` above 100 %.
    pub const fn from_basis_points(hundredths: u16) -> Option<Self> {
        if hundredths <= 10_000 { Some(Self(hundredths)) } else { None }
    }

    /// Hundredths of a per cent, 0 to 10,000.
    pub const fn basis_points(self) -> u16 {
        self.0
    }

    /// The share as a number from 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl FromStr for Share {
    type Err = ParseError;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie in 0 to 10,000")]
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError { expected: "a share from `0%` to `100%` in steps of `0.01%`", found: text.into() };
        let count = number(text.trim().strip_suffix('%').ok_or_else(wrong)?.trim()).ok_or_else(wrong)?;
        let points = (count * 100.0).round();
        let exact = (count * 100.0 - points).abs() < 1e-6;
        if exact && (0.0..=10_000.0).contains(&points) { Ok(Self(points as u16)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

/// Text form, serde and JSON Schema of a quantity, all from its `FromStr` and `Display`.
macro_rules! quantity {
    ($type:ident, $pattern:literal, $description:literal, $example:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "format": stringify!($type),
                    "description": $description,
                    "examples": [$example],
                })
            }
        }
    };
}

quantity!(
    Span,
    // Every unit that the reader knows, in all of its spellings.
    r"^\s*([0-9]+(\.[0-9]+)?\s*(d|days?|h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?|ms|msecs?|millis?|milliseconds?|us|µs|usecs?|micros?|microseconds?)\s*)+$",
    "a length of time such as `200ms`, `1.5s` or `5m`",
    "5s"
);
quantity!(Bytes, r"^\s*[0-9]+(\.[0-9]+)?\s*([KMG]iB|[kMG]?B)?\s*$", "a size such as `200B`, `4KiB` or `1MB`", "200B");
quantity!(
    Rate,
    r"^\s*[0-9]+(\.[0-9]+)?\s*(msg\s*)?(/\s*(d|days?|h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?|ms|msecs?|millis?|milliseconds?|us|µs|usecs?|micros?|microseconds?)\s*)?\s*$",
    "a rate such as `500/s` or `30/m`",
    "500/s"
);
quantity!(
    BitRate,
    r"^\s*[0-9]+(\.[0-9]+)?\s*[kMG]?bit\s*/s\s*$",
    "bits a second such as `64kbit/s` or `1Mbit/s`",
    "64kbit/s"
);
quantity!(Factor, r"^\s*[0-9]+(\.[0-9]+)?\s*$", "a factor from `0` to `1000` such as `2` or `0.5`", "2");
quantity!(Share, r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$", "a share from `0%` to `100%` in steps of `0.01%`", "90%");

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "literals read better")]
    fn check<T: FromStr<Err = ParseError> + fmt::Display + PartialEq + fmt::Debug>(text: &str, expected: T) {
        let parsed: T = text.parse().unwrap();
        assert_eq!(parsed, expected);
        assert_eq!(parsed.to_string().parse::<T>().unwrap(), expected, "prints as it reads: {parsed}");
    }

    #[test]
    fn bits_a_second_are_decimal() {
        check("64kbit/s", BitRate(64_000));
        check("1.5 Mbit/s", BitRate(1_500_000));
        check("9600bit/s", BitRate(9_600));
        assert_eq!(BitRate(64_000).time_for(8_000), Span::from_secs(1));
        for wrong in ["0bit/s", "64", "64kbit", "64KiB/s", "kbit/s", "-1bit/s"] {
            assert!(wrong.parse::<BitRate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_take_fractions_and_sums() {
        check("200ms", Span::from_millis(200));
        check("1.5s", Span(1_500_000));
        check("1h30m", Span::from_secs(5_400));
        check("0s", Span::ZERO);
        check("250us", Span(250));
        check("1d 12h", Span::from_secs(36 * 3_600));
        check(" 2 minutes ", Span::from_secs(120));
    }

    #[test]
    fn factors_are_exact_to_a_millionth() {
        check("2", Factor(2_000_000));
        check("0.333333", Factor(333_333));
        check("0", Factor(0));
        assert!(["-1", "1001", "2x", "1e3"].iter().all(|text| text.parse::<Factor>().is_err()));
    }

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        check("200B", Bytes(200));
        check("200", Bytes(200));
        check("4KiB", Bytes(4096));
        check("1.5kB", Bytes(1500));
    }

    #[test]
    fn rates_take_seconds_minutes_and_hours() {
        check("500/s", Rate::per_second(500.0).unwrap());
        check("500", Rate::per_second(500.0).unwrap());
        check("30/m", Rate::per_second(0.5).unwrap());
        check("30 / min", Rate::per_second(0.5).unwrap());
        check("86400/d", Rate::per_second(1.0).unwrap());
        check("50000 msg/s", Rate::per_second(50_000.0).unwrap());
    }

    /// What editors and the API server hold documents against is what the readers take.
    #[test]
    fn the_patterns_take_what_the_readers_take() {
        fn agree<T: FromStr + JsonSchema>(texts: &[&str]) {
            let schema = schemars::schema_for!(T);
            let validator = jsonschema::validator_for(schema.as_value()).unwrap();
            for text in texts {
                let is_read = text.parse::<T>().is_ok();
                assert_eq!(validator.is_valid(&(*text).into()), is_read, "{text} as {}", T::schema_name());
            }
        }
        agree::<Span>(&[
            "1d", "1h30m", "500ms", "1.5s", "2 min", "1 h 5 s", "PT1S", "1", "", "s", "1.s", ".5s", "1e3s", "-1s",
            "1S", "1w", "5 µs", "1s,2s",
        ]);
        agree::<Bytes>(&[
            "200", "200B", "4KiB", "1MB", "1kB", "1KB", "1k", "1Ki", "1.5MiB", "1.", "1e3", "-1", "4 KiB",
        ]);
        agree::<Rate>(&[
            "500", "500/s", "10/min", "1/d", "3 / hour", "10/", "/s", "1e3/s", "1/w", "inf", "5.5/s", "50 msg/s",
            "5msg/min", "msg/s", "5 msgs/s",
        ]);
        agree::<Factor>(&["2", "0.5", " 3 ", "2x", "-1", "1e3", ""]);
        agree::<Share>(&["90%", "12.5 %", "1e1%", "%", "40", "0.4", "50.%"]);
    }

    #[test]
    fn shares_are_exact_to_a_hundredth_of_a_per_cent() {
        check("90%", Share::from_basis_points(9_000).unwrap());
        check("12.34%", Share::from_basis_points(1_234).unwrap());
        assert!("12.345%".parse::<Share>().is_err());
        assert!("101%".parse::<Share>().is_err());
    }

    #[test]
    fn nonsense_says_what_was_expected() {
        assert_eq!(
            "soon".parse::<Span>().unwrap_err().to_string(),
            "expected a length of time such as `200ms`, `1.5s` or `5m`, found `soon`"
        );
        assert!("-1s".parse::<Span>().is_err());
        assert!("0/s".parse::<Rate>().is_err());
        assert!("3 apples".parse::<Bytes>().is_err());
    }
}
