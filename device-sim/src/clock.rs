//! The one clock of a worker: wall time read once, monotonic from there on.

#![expect(clippy::disallowed_methods, reason = "the one clock, which others are given")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fleet_contract::{time::Micros, units::Span};

/// Tells the time in microseconds since the Unix epoch, without ever stepping.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Micros,
    monotonic: Instant,
    /// How far it is meant to be ahead of the wall clock, in microseconds.
    ahead: i64,
}

impl Clock {
    /// A clock that agrees with the wall clock now. A process makes one, so that its instants can be compared.
    pub fn new() -> Self {
        Self::at(wall())
    }

    /// A clock that says `wall` now.
    pub fn at(wall: Micros) -> Self {
        Self { wall, monotonic: Instant::now(), ahead: 0 }
    }

    /// The same clock, so many microseconds ahead of the wall clock: that of a run which plays another date.
    #[must_use]
    pub const fn ahead_by(self, micros: i64) -> Self {
        Self { wall: Micros(self.wall.0.saturating_add_signed(micros)), ahead: self.ahead + micros, ..self }
    }

    /// The time now.
    pub fn now(&self) -> Micros {
        self.wall.after(self.monotonic.elapsed().into())
    }

    /// How far the wall clock is ahead now of where it was to be, in microseconds; negative where it is behind.
    ///
    /// Both go at one pace, which NTP corrects for both; they part when the machine sleeps, in which the monotonic clock
    /// stands still (`clock_gettime(2)`), and when somebody sets the wall clock.
    pub fn offset_micros(&self) -> i64 {
        let difference = i128::from(wall().0) + i128::from(self.ahead) - i128::from(self.now().0);
        i64::try_from(difference).unwrap_or(if difference > 0 { i64::MAX } else { i64::MIN })
    }

    /// The time at which the clock was made.
    pub const fn epoch(&self) -> Micros {
        self.wall
    }
}

/// The time by the wall clock.
fn wall() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(Micros(0), |since| Micros(Span::from(since).0))
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_agrees_stays_close_and_one_that_was_left_behind_says_by_how_much() {
        let second = 1_000_000;
        assert!(Clock::new().offset_micros().abs() < second / 10);
        let slept = Clock::at(Micros(wall().0 - 120 * second.unsigned_abs()));
        assert!((120 * second..121 * second).contains(&slept.offset_micros()), "{}", slept.offset_micros());
        let ahead = Clock::at(wall().after(Span::from_secs(3_600)));
        assert!((-3_600 * second..-3_599 * second).contains(&ahead.offset_micros()), "{}", ahead.offset_micros());
    }

    #[test]
    fn a_clock_of_another_date_is_where_it_was_to_be() {
        let other_date = Clock::new().ahead_by(-7 * 86_400 * 1_000_000);
        assert!(other_date.offset_micros().abs() < 100_000);
        assert!(Clock::new().now().since(other_date.now()) > Span::from_secs(6 * 86_400));
    }
}
