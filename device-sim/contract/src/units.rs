//! Quantities as people write them: `200ms`, `4KiB`, `500/s`, `90%`.
//!
//! Each reads from a string with its unit and prints the shortest string that reads back as the same value.

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

/// A length of time in microseconds: `250us`, `200ms`, `1.5s`, `5m`, `1h30m`.
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

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError { expected: "a length of time such as `200ms`, `1.5s` or `5m`", found: text.into() };
        let span: jiff::SignedDuration = text.trim().parse().map_err(|_| wrong())?;
        u64::try_from(span.as_micros()).map(Self).map_err(|_| wrong())
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
        let (number, unit) = trimmed.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
        let bytes = number * factor;
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

/// How often something may happen: `500/s`, `30/m`, `0.5/s`. More than zero.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
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
        let (number, unit) = text.trim().split_once('/').unwrap_or((text.trim(), "s"));
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        Self::per_second(number / seconds).ok_or_else(wrong)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
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
        let number: f64 = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim().parse().map_err(|_| wrong())?;
        let points = (number * 100.0).round();
        let exact = (number * 100.0 - points).abs() < 1e-6;
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
    r"^\s*([0-9]+(\.[0-9]+)?\s*(h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?|ms|msecs?|millis?|milliseconds?|us|µs|usecs?|micros?|microseconds?)\s*)+$",
    "a length of time such as `200ms`, `1.5s` or `5m`",
    "5s"
);
quantity!(Bytes, r"^\s*[0-9][0-9.]*\s*([kKMG]i?)?B?\s*$", "a size such as `200B`, `4KiB` or `1MB`", "200B");
quantity!(Rate, r"^\s*[0-9][0-9.]*\s*(/\s*[smh])?\s*$", "a rate such as `500/s` or `30/m`", "500/s");
quantity!(Share, r"^\s*[0-9][0-9.]*\s*%\s*$", "a share from `0%` to `100%` in steps of `0.01%`", "90%");

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
    fn spans_take_fractions_and_sums() {
        check("200ms", Span::from_millis(200));
        check("1.5s", Span(1_500_000));
        check("1h30m", Span::from_secs(5_400));
        check("0s", Span::ZERO);
        check("250us", Span(250));
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
