//! The format of what processes of different releases hand to each other.
//!
//! A controller is upgraded before its workers, and rolled back. Plans, assignments, readings, totals, and what is kept of
//! phases and load tests say from which format on they can be understood; the field is left out in format 1, that of release
//! 0.1, which knows no such field.
//!
//! | format | what it brought |
//! | --- | --- |
//! | 1 | release 0.1 |
//! | 2 | plans with ramps, rates, cuts of connections, phases or another date |
//! | 3 | plans with other faults |
//! | 4 | totals that are too large as they are: what release 0.1 does not know of them is packed beside the text |
//!
//! A writer names the lowest format whose readers take its text for what it is. So a plan that uses nothing new is of
//! format 1, and workers of the previous release run it; so are readings with groups and streams, which readers of
//! release 0.1 pass over.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::stats::WorkerStats;

/// A format's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Format(u32);

impl Format {
    /// That of release 0.1.
    pub const FIRST: Self = Self(1);
    /// With ramps, rates, cuts of connections and phases in plans.
    pub const SECOND: Self = Self(2);
    /// With faults in plans that are more than cuts of connections.
    pub const THIRD: Self = Self(3);
    /// With figures of totals that are packed beside the text.
    pub const FOURTH: Self = Self(4);
    /// The newest one that this release reads.
    pub const NEWEST: Self = Self::FOURTH;

    /// Whether it is left out of a text.
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::FIRST
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A newer release wrote it.
    #[error("expected format {} or an older one, found format {found}, which a newer release wrote", Format::NEWEST)]
    Newer {
        /// Its format.
        found: Format,
    },
    /// It is not what it should be.
    #[error("{0}")]
    Broken(#[from] serde_json::Error),
}

/// Reads a text in JSON of any format that this release knows.
///
/// # Errors
///
/// When a newer release wrote it, or it is not what it should be.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        format: Format,
    }
    let Head { format: found } = serde_json::from_slice(text)?;
    if found > Format::NEWEST { Err(Unreadable::Newer { found }) } else { Ok(serde_json::from_slice(text)?) }
}

/// As [`read`], of a reading, of which a controller has a thousand a second: in one pass, and compiled here, where speed counts.
///
/// # Errors
///
/// As of [`read`].
pub fn read_reading(text: &[u8]) -> Result<WorkerStats, Unreadable> {
    match serde_json::from_slice::<WorkerStats>(text) {
        Ok(reading) if reading.format <= Format::NEWEST => Ok(reading),
        _ => read(text),
    }
}

#[cfg(test)]
mod tests;
