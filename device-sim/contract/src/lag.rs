//! How late a generator may be before its figures say more of itself than of the broker.

use crate::units::Span;

/// A message that is handed over later than this is late at any interval.
pub const LIMIT: Span = Span::from_millis(100);

/// So is one that is later than this share of its interval, in percent, but for [`ALLOWED`].
pub const SHARE_PERCENT: u64 = 10;

/// A message that is handed over within this time is on time at any interval: timers fire together within two
/// milliseconds, and a machine that does nothing else holds a thread up as long now and then.
pub const ALLOWED: Span = Span::from_millis(5);

/// How late a message may be handed over whose stream has this interval; `None` for a stream that follows a rule.
pub fn limit(interval: Option<Span>) -> Span {
    interval.map_or(LIMIT, |interval| Span(interval.0 / (100 / SHARE_PERCENT)).clamp(ALLOWED, LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_interval_is_allowed_from_five_milliseconds_to_a_hundred() {
        let limits = [0, 10, 50, 200, 1_000, 60_000].map(|millis| limit(Some(Span::from_millis(millis))).0 / 1_000);
        assert_eq!(limits, [5, 5, 5, 20, 100, 100]);
        assert_eq!(limit(None), LIMIT);
    }
}
