//! Why a fleet could not be brought to what it should be; the variant is the metric's label.

use std::time::Duration;

use super::{object::Key, refusal::Refusal};
use crate::kube_error::told;

/// Why a fleet could not be brought to what it should be. It is tried again.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Error {
    /// The API server refuses an object, or does not answer.
    #[error("failed to {action}: {}", told(source))]
    Api {
        /// What was tried.
        action: String,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// The API server refuses an object until somebody changes something.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Somebody else has written the object: another controller, or we have not seen our own write yet.
    #[error("{object} has changed meanwhile")]
    Conflict {
        /// Which.
        object: String,
    },
    /// The Fleet has no UID or namespace, so that no API server has stored it.
    #[error("expected a Fleet that is stored, found one without a UID or a namespace")]
    NotStored,
    /// The watches have ended: this controller no longer leads.
    #[error("the watches have ended")]
    Ended,
    /// The fleet has more to do than it can.
    #[error("the fleet is busy")]
    Busy,
}

impl Error {
    /// What failed, and how.
    pub fn api(action: impl Into<String>, source: kube::Error) -> Self {
        Self::Api { action: action.into(), source: Box::new(source) }
    }

    /// The same of a write: an object that has changed meanwhile is a conflict, and a refusal is one.
    pub fn write(key: &Key, source: kube::Error) -> Self {
        match source {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict { object: key.to_string() },
            kube::Error::Api(status) => match Refusal::of(key, &status) {
                Some(refusal) => Self::Refused(refusal),
                None => Self::api(format!("write the {key}"), kube::Error::Api(status)),
            },
            source => Self::api(format!("write the {key}"), source),
        }
    }

    /// How long to wait before attempt number `failures` + 1: doubled each time, up to a minute; conflicts at once.
    pub fn backoff(&self, failures: u32) -> Duration {
        let first = if matches!(self, Self::Conflict { .. }) { 50 } else { 500 };
        Duration::from_millis(first << failures.saturating_sub(1).min(10)).min(Duration::from_mins(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_waits_longer_each_time_and_never_for_ever() {
        let waits = [1, 2, 3, 30].map(|failures| Error::Busy.backoff(failures).as_millis());
        assert_eq!(waits, [500, 1_000, 2_000, 60_000]);
        let conflict = Error::Conflict { object: "x".into() };
        assert_eq!(conflict.backoff(1), Duration::from_millis(50));
    }
}
