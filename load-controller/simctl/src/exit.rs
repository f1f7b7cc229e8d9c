//! How simctl ends: the failures that have an exit code of their own.

use load_controller::run::verdict::ExitCode;

/// A failure whose exit code says more than "something went wrong".
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: ExitCode,
    message: String,
}

impl Failure {
    /// A document, model or replay file is not right; `message` says where and what is allowed.
    pub(crate) fn document(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Document, message: message.into() }
    }

    /// The command line asks for something that cannot be meant.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Usage, message: message.into() }
    }

    /// The pre-flight says no, with this exit code; nothing was started.
    pub(crate) fn preflight(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What was asked for cannot be done; nothing was changed.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Other, message: message.into() }
    }

    /// A load test has no report, and ended so.
    pub(crate) fn ended(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The run was stopped before there was anything to judge.
    pub(crate) fn aborted(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Aborted, message: message.into() }
    }

    /// The generator cannot do what it is asked to do, so that nothing it measured could be trusted.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { code: ExitCode::Invalid, message: message.into() }
    }
}

/// The exit code of an error, whatever wraps it.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map_or(ExitCode::Other, |failure| failure.code)
}

/// Whether the reader of our output went away, as `simctl models | head -1` does.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
