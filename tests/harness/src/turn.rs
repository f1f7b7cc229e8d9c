//! Turns at what the tests of a ring share: beside others, or alone.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The turns at one thing.
#[derive(Debug, Default)]
pub struct Turns(RwLock<()>);

/// Held while a test runs; the values are never read, only dropped.
#[derive(Debug)]
pub enum Turn<'a> {
    /// Others may run beside it.
    Shared(RwLockReadGuard<'a, ()>),
    /// No other runs.
    Alone(RwLockWriteGuard<'a, ()>),
}

impl Turns {
    /// Nobody's turn yet.
    #[must_use]
    pub const fn new() -> Turns {
        Turns(RwLock::new(()))
    }

    /// A turn beside others. That another test has failed in its turn is no reason to fail, too.
    pub fn shared(&self) -> Turn<'_> {
        Turn::Shared(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A turn alone: for one that measures, or changes what all others use.
    pub fn alone(&self) -> Turn<'_> {
        Turn::Alone(self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}
