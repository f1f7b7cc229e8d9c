//! The one clock of a worker: wall time read once, monotonic from there on.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fleet_contract::{time::Micros, units::Span};

/// Tells the time in microseconds since the Unix epoch, without ever stepping.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Micros,
    monotonic: Instant,
}

impl Clock {
    /// A clock that agrees with the wall clock now. A process makes one, so that its instants can be compared.
    pub fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(Micros(0), |since| Micros(Span::from(since).0));
        Self { wall, monotonic: Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Micros {
        self.wall.after(self.monotonic.elapsed().into())
    }

    /// The time at which the clock was made.
    pub const fn epoch(&self) -> Micros {
        self.wall
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
