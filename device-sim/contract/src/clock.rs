//! How far the clocks of two machines are apart, by exchanges of four time stamps (RFC 5905, section 8).
//!
//! Who asks notes when the question left and when the answer came; who answers notes when it began and when it was done. The
//! difference of the clocks is then known to half of what the exchange took beside the answering. Clocks drift, so that the bound
//! of an exchange grows with its age.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{time::Micros, units::Span};

/// How fast a clock of a machine may drift: 15 ppm is what RFC 5905 allows for (PHI), and each of the two may.
const DRIFT_PPM: u64 = 2 * 15;

/// Exchanges that are kept: the newest is not always the most exact one.
const KEPT: usize = 16;

/// One exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// When the question left, by the clock of who asked.
    pub sent: Micros,
    /// When the answering began, by the other clock.
    pub begun: Micros,
    /// When it was done, by the other clock.
    pub done: Micros,
    /// When the answer came, by the clock of who asked.
    pub received: Micros,
}

/// How far the other clock is ahead.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offset {
    /// By so many microseconds; negative where it is behind.
    pub ahead: i64,
    /// It is that exact, both ways.
    pub bound: Span,
}

impl Offset {
    /// The most that the clocks may be apart.
    pub const fn at_most(&self) -> Span {
        Span(self.ahead.unsigned_abs().saturating_add(self.bound.0))
    }
}

impl Exchange {
    /// What it says of the other clock.
    pub fn offset(&self) -> Offset {
        let Self { sent, begun, done, received } = *self;
        let apart = |other: Micros, own: Micros| i128::from(other.0) - i128::from(own.0);
        let ahead = i128::midpoint(apart(begun, sent), apart(done, received));
        let under_way = received.since(sent).0.saturating_sub(done.since(begun).0);
        Offset { ahead: i64::try_from(ahead).unwrap_or(i64::MAX), bound: Span(under_way.div_ceil(2)) }
    }
}

/// What is known of another clock.
#[derive(Debug, Default, Clone)]
pub struct OtherClock {
    exchanges: VecDeque<Exchange>,
}

impl OtherClock {
    /// Takes an exchange in.
    pub fn note(&mut self, exchange: Exchange) {
        if self.exchanges.len() >= KEPT {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back(exchange);
    }

    /// How far it is ahead at `now`, by the exchange that says so most exactly; `None` before the first.
    pub fn offset(&self, now: Micros) -> Option<Offset> {
        let aged = |exchange: &Exchange| {
            let Offset { ahead, bound } = exchange.offset();
            let drift = now.since(exchange.received).0 / 1_000_000 * DRIFT_PPM + DRIFT_PPM;
            Offset { ahead, bound: Span(bound.0.saturating_add(drift)) }
        };
        self.exchanges.iter().map(aged).min_by_key(|offset| offset.bound)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ways there, the answering, and back, in microseconds; the last of an hour of them, a second apart.
    fn exchanges() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
        proptest::collection::vec((50_u64..20_000, 0_u64..5_000, 50_u64..20_000), 1..60)
    }

    proptest! {
        #[test]
        fn a_clock_that_is_ahead_and_drifts_is_known_within_its_bound(
            ways in exchanges(), ahead in -40_000_000_i64..40_000_000, drift_ppm in -15_i64..=15,
        ) {
            let start = 1_700_000_000_000_000_i64;
            // What the other clock shows at an instant of ours.
            let other = |own: i64| Micros(u64::try_from(own + ahead + (own - start) * drift_ppm / 1_000_000).unwrap());
            let own = |at: i64| Micros(u64::try_from(at).unwrap());
            let mut clock = OtherClock::default();
            let mut at = start;
            for (there, answering, back) in ways {
                let [there, answering, back] = [there, answering, back].map(|way| i64::try_from(way).unwrap());
                let (begun, done) = (at + there, at + there + answering);
                clock.note(Exchange { sent: own(at), begun: other(begun), done: other(done), received: own(done + back) });
                at += 1_000_000;
                let offset = clock.offset(own(at)).unwrap();
                let truth = i64::try_from(other(at).0).unwrap() - at;
                let bound = i64::try_from(offset.bound.0).unwrap();
                prop_assert!((offset.ahead - truth).abs() <= bound, "{offset:?}, and it is {truth}");
                prop_assert!(bound <= 20_000 + 100, "{offset:?}");
            }
        }
    }

    #[test]
    fn the_most_exact_exchange_counts_until_a_newer_one_is_better() {
        let exchange = |at: u64, way: u64| Exchange {
            sent: Micros(at),
            begun: Micros(at + way + 500),
            done: Micros(at + way + 500),
            received: Micros(at + 2 * way),
        };
        let mut clock = OtherClock::default();
        assert_eq!(clock.offset(Micros(0)), None);
        clock.note(exchange(1_000_000, 100));
        clock.note(exchange(2_000_000, 5_000));
        let offset = clock.offset(Micros(3_000_000)).unwrap();
        assert_eq!((offset.ahead, offset.bound), (500, Span(100 + 30 + 30)));
        assert_eq!(offset.at_most(), Span(660));
        // After an hour the drift may be larger than the way.
        assert_eq!(clock.offset(Micros(3_600_000_000)).unwrap().bound, Span(100 + 3_598 * 30 + 30));
    }
}
