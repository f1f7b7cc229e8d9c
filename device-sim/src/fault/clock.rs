//! The clocks of devices are wrong.

use fleet_contract::{
    fault::Clock,
    time::Micros,
    units::{Share, Span},
};

use super::{Conditions, How, Kind, Victim};

/// A clock that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrongClock {
    ahead: Span,
    behind: Span,
    /// In millionths.
    drift: i32,
    /// From when on it drifts.
    since: Micros,
}

impl Kind for Clock {
    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        let clock = WrongClock { ahead: self.ahead, behind: self.behind, drift: self.drift, since: on.begins };
        conditions.spoil(on, on.meant(None), Share::ALL, How::Clock(clock));
    }
}

impl WrongClock {
    /// What it shows at an instant.
    pub(super) fn shows(&self, at: Micros) -> Micros {
        let drifted = i128::from(at.since(self.since).0) * i128::from(self.drift) / 1_000_000;
        let shown = i128::from(at.0) + i128::from(self.ahead.0) - i128::from(self.behind.0) + drifted;
        Micros(u64::try_from(shown.max(0)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_and_drifts() {
        let since = Micros(1_000_000_000);
        let clock = |ahead, behind, drift| WrongClock { ahead: Span(ahead), behind: Span(behind), drift, since };
        let later = since.after(Span::from_secs(10));
        assert_eq!(clock(5_000, 0, 0).shows(later), later.after(Span(5_000)));
        assert_eq!(clock(0, 5_000, 0).shows(later), later.before(Span(5_000)));
        assert_eq!(clock(0, 0, -50).shows(later), later.before(Span(500)));
        assert_eq!(clock(0, 5_000, 100).shows(later), later.before(Span(4_000)));
        assert_eq!(clock(0, u64::MAX, 0).shows(later), Micros(0));
    }
}
