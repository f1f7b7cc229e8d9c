//! Whether devices are missing, over time: a short dip changes no condition, and a short recovery neither. Pure.

use fleet_contract::{time::Micros, units::Span};

/// How long devices must be missing before a condition says so.
const MISSING_AFTER: Span = Span::from_secs(10);
/// How long enough of them must be connected before it takes that back.
const PRESENT_AFTER: Span = Span::from_secs(5);

/// The least number of connected devices with which a fleet of `wanted` counts as ready: all but one or one percent.
///
/// A fleet that wants devices needs one at least.
pub fn enough(wanted: u32) -> u32 {
    wanted.saturating_sub((wanted / 100).max(1)).max(wanted.min(1))
}

/// What is known of missing devices; the default is that of a fleet that was never seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// The devices that were wanted at the last look.
    wanted: u32,
    /// Fewer than [`enough`] are connected.
    short: Debounced,
    /// Fewer than all are connected.
    missing: Debounced,
}

impl Shortage {
    /// What is known of a fleet of `wanted` devices that another controller has found ready.
    pub fn of_ready_fleet(wanted: u32) -> Self {
        Self { wanted, short: Debounced { value: Some(false), since: None }, ..Self::default() }
    }

    /// What is known after `connected` of `wanted` devices were seen at `now`.
    ///
    /// Devices that have just been asked for are not lost ones: a fleet that grows beyond what is connected has to be
    /// brought up first, however long it was ready before.
    #[must_use]
    pub fn seen(self, connected: u32, wanted: u32, now: Micros) -> Self {
        let is_short = connected < enough(wanted);
        let short = if is_short && wanted > self.wanted { Debounced::default() } else { self.short };
        Self { wanted, short: short.seen(is_short, now), missing: self.missing.seen(connected < wanted, now) }
    }

    /// Whether too few devices are connected to be ready; `None` as long as enough have never been seen.
    pub const fn is_short(&self) -> Option<bool> {
        self.short.value
    }

    /// Whether any device is missing.
    pub fn is_missing(&self) -> bool {
        self.missing.value == Some(true)
    }

    /// Whether one of the answers may change by time alone, so that another look is due soon.
    pub const fn is_changing(&self) -> bool {
        self.short.since.is_some() || self.missing.since.is_some()
    }
}

/// A truth that changes only when the opposite has been seen for some time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Debounced {
    value: Option<bool>,
    /// Since when the opposite of `value` has been seen.
    since: Option<Micros>,
}

impl Debounced {
    /// The first `false` counts at once: a fleet that has all of its devices need not wait to be ready.
    fn seen(self, raw: bool, now: Micros) -> Self {
        let settled = |value| Self { value, since: None };
        match (self.value, raw) {
            (None, false) => settled(Some(false)),
            (Some(value), raw) if value == raw => settled(Some(value)),
            (value, raw) => {
                let since = self.since.unwrap_or(now);
                let wait = if raw { MISSING_AFTER } else { PRESENT_AFTER };
                if now.since(since) >= wait { settled(Some(raw)) } else { Self { value, since: Some(since) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_one_or_one_percent_are_enough() {
        let enough = [0, 1, 2, 99, 100, 101, 199, 200, 500, 10_000].map(enough);
        assert_eq!(enough, [0, 1, 1, 98, 99, 100, 198, 198, 495, 9_900]);
    }

    /// Feeds one look a second, from second 0 on, and returns what is known after each.
    #[track_caller]
    fn check(connected: &[u32], expected: &[Option<bool>]) {
        let mut shortage = Shortage::default();
        let looks = connected.iter().zip(0..).map(|(connected, second)| {
            shortage = shortage.seen(*connected, 10, Micros(1_000_000 * second));
            shortage.is_short()
        });
        assert_eq!(looks.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_fleet_is_ready_at_once_and_short_after_ten_seconds_and_ready_again_after_five() {
        let dip = [vec![10], vec![0; 11], vec![10; 6]].concat();
        let said = [vec![Some(false); 11], vec![Some(true); 6], vec![Some(false)]].concat();
        check(&dip, &said);
    }

    #[test]
    fn what_alternates_changes_nothing() {
        let mut looks = vec![10];
        looks.extend([0, 0, 0, 10, 10].repeat(6));
        check(&looks, &[Some(false); 31]);
    }

    #[test]
    fn a_fleet_that_grows_is_ready_when_the_new_devices_have_come() {
        let ready = Shortage::default().seen(10, 10, Micros(0));
        assert_eq!(ready.seen(10, 10_000, Micros(1)).is_short(), None);
        assert_eq!(ready.seen(10, 10_000, Micros(1)).seen(9_900, 10_000, Micros(2)).is_short(), Some(false));
        assert_eq!(ready.seen(10, 11, Micros(1)).is_short(), Some(false), "one more is within what may be missing");
    }

    #[test]
    fn a_dip_during_a_takeover_counts_from_then_on() {
        let taken_over = Shortage::of_ready_fleet(10).seen(0, 10, Micros(0));
        assert_eq!(taken_over.is_short(), Some(false));
        assert_eq!(taken_over.seen(0, 10, Micros(10_000_000)).is_short(), Some(true));
    }

    #[test]
    fn a_fleet_whose_devices_never_came_is_short_after_ten_seconds() {
        check(&[0; 12], &[vec![None; 10], vec![Some(true); 2]].concat());
    }

    #[test]
    fn one_missing_device_is_missing_though_the_fleet_is_not_short() {
        let mut shortage = Shortage::default().seen(10, 10, Micros(0));
        assert!(!shortage.is_changing());
        shortage = shortage.seen(9, 10, Micros(1));
        assert!(shortage.is_changing() && !shortage.is_missing());
        shortage = shortage.seen(9, 10, Micros(10_000_001));
        assert_eq!((shortage.is_missing(), shortage.is_short()), (true, Some(false)));
    }
}
