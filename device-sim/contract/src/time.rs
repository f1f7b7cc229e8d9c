//! Instants, on one scale for everybody: microseconds since the Unix epoch.
//!
//! A worker reads the wall clock once and goes on with its monotonic clock from there, so that the instants it
//! computes with never step, while those of two workers can still be compared.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    /// The instant that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time from `earlier` to `self`; zero when `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` later; saturates at [`Micros::NEVER`].
    #[must_use]
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The instant `span` earlier; saturates at the epoch.
    #[must_use]
    pub const fn before(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl fmt::Display for Micros {
    /// RFC 3339 in UTC with microseconds, or `never`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok()) {
            Some(timestamp) => write!(f, "{timestamp:.6}"),
            None => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_reads_as_rfc_3339() {
        assert_eq!(Micros(1_700_000_000_250_000).to_string(), "2023-11-14T22:13:20.250000Z");
        assert_eq!(Micros::NEVER.to_string(), "never");
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Micros(5).since(Micros(9)), Span(0));
        assert_eq!(Micros::NEVER.after(Span(1)), Micros::NEVER);
        assert_eq!(Micros(5).before(Span(9)), Micros(0));
    }
}
