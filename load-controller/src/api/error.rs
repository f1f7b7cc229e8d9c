//! Why there is no answer.

use std::{error::Error, io, time::Duration};

use anyhow::Chain;
use fleet_contract::format::Unreadable;
use hyper::StatusCode;

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

/// The cause at the bottom, which says what happened; those above it say that something did.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    Chain::new(error).next_back().map(ToString::to_string).unwrap_or_default()
}
