//! Why there is no answer, and the body of one that says no.

use std::{error::Error, io, time::Duration};

use anyhow::Chain;
use fleet_contract::format::Unreadable;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::Address;

/// Why there is no answer, or none that was hoped for; the variant is the metric's label.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CallError {
    /// Nobody listens there.
    #[error("nobody listens at {address}: {source}")]
    Connect {
        /// Where.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the conversation broke off: {0}")]
    Http(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The other side says no, and why.
    #[error("{message}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its reason.
        message: String,
    },
    /// The answer cannot be read.
    #[error("its answer cannot be read: {0}")]
    Unreadable(#[from] Unreadable),
    /// The answer is too long, or of another version.
    #[error("an answer that makes no sense here ({0}); do both sides have the same version?")]
    Answer(String),
}

/// An error as all of the project's APIs hand it over.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What was expected, what was found, what to do.
    pub error: String,
}

/// The cause at the bottom, which says what happened; those above it say that something did.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    Chain::new(error).next_back().map(ToString::to_string).unwrap_or_default()
}
