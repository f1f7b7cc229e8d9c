//! How long a device waits before it connects again.
//!
//! Exponential backoff with full jitter: a uniform draw between zero and
//! `min(cap, base × 2^attempt)`, the formula of the AWS Architecture Blog's "Exponential Backoff
//! And Jitter". The uniform draw down to zero is what spreads a fleet that lost its broker in one
//! instant. Pure: the randomness arrives as an argument.

use fleet_contract::{fleet::Backoff, units::Span};

/// The wait before the next attempt to connect.
///
/// `attempt` counts the failures in a row before this one, so the first wait is `delay(…, 0, …)`; `random` is a uniform
/// 64-bit number.
pub fn delay(backoff: &Backoff, attempt: u32, random: u64) -> Span {
    let drawn = (u128::from(random) * (u128::from(limit(backoff, attempt)) + 1)) >> 64;
    Span(u64::try_from(drawn).unwrap_or(u64::MAX))
}

/// The longest wait at `attempt`, in microseconds.
fn limit(backoff: &Backoff, attempt: u32) -> u64 {
    let factor = 1_u64.checked_shl(attempt).unwrap_or(u64::MAX);
    backoff.base.0.saturating_mul(factor).min(backoff.cap.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn longest(attempt: u32) -> Span {
        delay(&Backoff::default(), attempt, u64::MAX)
    }

    #[test]
    fn the_longest_wait_doubles_until_the_cap() {
        let seconds: Vec<u64> = (0..8).map(|attempt| longest(attempt).0 / 1_000_000).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(longest(u32::MAX), Span::from_secs(60));
    }

    #[test]
    fn a_fleet_that_fails_together_comes_back_evenly_over_the_whole_wait() {
        let mut tenths = [0_u32; 10];
        for device in 0..10_000_u64 {
            let random = device.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let delay = delay(&Backoff::default(), 3, random);
            tenths[usize::try_from(delay.0 / 800_001).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|&devices| (950..1_050).contains(&devices)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn a_wait_never_passes_its_limit(
            base in 0_u64..1 << 40, cap in 0_u64..1 << 40, attempt: u32, random: u64,
        ) {
            let backoff = Backoff { base: Span(base), cap: Span(cap) };
            prop_assert!(delay(&backoff, attempt, random) <= backoff.cap);
            prop_assert!(delay(&backoff, 0, random) <= backoff.base);
        }
    }
}
