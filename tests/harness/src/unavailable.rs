//! What a ring needs and this machine cannot give, with the reason.

use thiserror::Error;

/// Something real that a ring needs cannot be had on this machine.
///
/// A ring that meets it has not failed: it has not run. `cargo xtask test` prints it as NOT RUN, and fails where
/// `CI` is set.
#[derive(Debug, Error)]
#[error("NOT RUN: {}", self.reason())]
pub struct Unavailable {
    needed: &'static str,
    reason: anyhow::Error,
}

impl Unavailable {
    /// Says why `needed`, a name such as "Mosquitto", cannot be had.
    pub fn new(needed: &'static str, reason: impl Into<anyhow::Error>) -> Unavailable {
        Unavailable { needed, reason: reason.into() }
    }

    /// What is needed and why it cannot be had, without the NOT RUN.
    pub fn reason(&self) -> String {
        format!("needs {}, because {:#}", self.needed, self.reason)
    }
}
