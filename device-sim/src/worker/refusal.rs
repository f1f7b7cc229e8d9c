//! Why a worker does not do what it was asked for.

use axum::http::StatusCode;

use fleet_contract::{format::Unreadable, time::Micros, worker_api::ASSIGNMENT};

use crate::{engine::StartError, state::StateError};

/// A request that a worker cannot or will not fulfil.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There are no devices yet.
    #[error("expected an assignment, found none; do PUT {path} first", path = ASSIGNMENT)]
    NoAssignment,
    /// Other devices run already.
    #[error("expected the assignment of {running}, which runs, found {asked}; start another worker for it")]
    OtherFleet {
        /// What runs.
        running: String,
        /// What was asked for.
        asked: String,
    },
    /// A plan of another run.
    #[error("expected a plan of run {running:08x}, found one of run {asked:08x}; start another worker for it")]
    OtherRun {
        /// What runs.
        running: u32,
        /// What was asked for.
        asked: u32,
    },
    /// A device of another worker, or of nobody.
    #[error("expected a device from {first} to {last} that the plan wants, found {index}; ask its own worker")]
    NoDevice {
        /// The device that was asked for.
        index: u32,
        /// The first of this worker.
        first: u32,
        /// The last of this worker.
        last: u32,
    },
    /// The engine cannot start.
    #[error("expected an assignment that can run, found: {0}; correct the document")]
    Start(#[source] StartError),
    /// The plan cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The metrics cannot be encoded.
    #[error("expected metrics, found: {0}; report this as a defect")]
    Metrics(#[from] prometheus::Error),
    /// Not every device has tried to connect.
    #[error(
        "expected each of {devices} devices to have tried to connect, found {untried} that have not; wait until {until} at the latest"
    )]
    Connecting {
        /// Those that the plan wants of this worker.
        devices: u32,
        /// Those that were neither accepted nor refused, nor have failed.
        untried: u32,
        /// When the first connect round is over in any case.
        until: Micros,
    },
    /// The worker is about to end.
    #[error("expected devices that stay, found a worker that drains; ask another one")]
    Draining,
    /// A thread of the engine does not answer, for the moment.
    #[error("expected the engine's threads to answer, found one that is busy; ask again")]
    Busy,
    /// A fault of the worker's own.
    #[error("expected the engine to answer, found: {0}; restart the worker")]
    Broken(String),
    /// A body that makes no sense.
    #[error("expected {expected} as JSON, found: {source}; compare the versions of both sides")]
    Body {
        /// What it should hold.
        expected: &'static str,
        /// What is wrong with it.
        source: Unreadable,
    },
    /// A path or method that does not exist.
    #[error("expected {expected}, found {found}; see the worker's API")]
    Request {
        /// What would have been right.
        expected: &'static str,
        /// What was asked for.
        found: String,
    },
    /// Whoever asks does not know the token.
    #[error("expected the worker's token, found {0}; send `Authorization: Bearer TOKEN`")]
    Token(&'static str),
    /// There is no token, and so nobody may ask.
    #[error("expected a worker with a token, found one without; start it with --token-file or SIMCTL_TOKEN")]
    Closed,
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl Refusal {
    /// The HTTP status that fits.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoAssignment | Self::OtherFleet { .. } | Self::OtherRun { .. } => StatusCode::CONFLICT,
            Self::NoDevice { .. } | Self::Request { .. } => StatusCode::NOT_FOUND,
            Self::Body { .. } => StatusCode::BAD_REQUEST,
            Self::Start(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::State(_) | Self::Metrics(_) | Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Connecting { .. } | Self::Draining | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::Closed => StatusCode::FORBIDDEN,
        }
    }

    /// Whether what was given is wrong, rather than the worker or its machine.
    pub const fn is_document(&self) -> bool {
        matches!(self, Self::Start(StartError::Blueprint(_) | StartError::NoBroker))
    }
}
