//! The time of periodic streams, which goes faster or slower than that of the clock: at a factor of 2 a stream of one
//! message a second sends two.
//!
//! W(t) is the area under the factor, in whole microseconds: a stream is due where its timetable says so in W. All of it
//! is arithmetic of integers, so that every machine finds the same instants. Up to the first change W(t) = t.

use crate::{
    time::Micros,
    units::{Factor, Span},
};

/// A factor from an instant on: it goes from one value to another in a straight line, and stays there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ramp {
    pub(super) at: Micros,
    pub(super) from: Factor,
    pub(super) to: Factor,
    pub(super) over: Span,
}

impl Ramp {
    /// The factor at an instant that is not before `at`.
    pub(super) fn factor(&self, at: Micros) -> Factor {
        let (past, over) = (at.since(self.at).0, self.over.0);
        if past >= over {
            return self.to;
        }
        let (from, to) = (i128::from(self.from.0), i128::from(self.to.0));
        let factor = from + (to - from) * i128::from(past) / i128::from(over);
        Factor(u32::try_from(factor).unwrap_or(u32::MAX))
    }

    /// The area of the first `past` microseconds, rounded down.
    fn area(&self, past: u64) -> u64 {
        let (from, to, over) = (i128::from(self.from.0), i128::from(self.to.0), i128::from(self.over.0));
        let past = i128::from(past);
        // Twice the area, so that the triangle of the ramp has no half.
        let twice = if past < over {
            (2 * from * past * over + (to - from) * past * past) / over
        } else {
            (from + to) * over + 2 * to * (past - over)
        };
        u64::try_from(twice / (2 * i128::from(Factor::ONE.0))).unwrap_or(u64::MAX)
    }

    /// The first microsecond by whose end the area is at least `area`, which is more than 0; `None` where it never is.
    fn reaches(&self, area: u64) -> Option<u64> {
        let over = self.over.0;
        if over > 0 && self.area(over) >= area {
            return Some(self.within_ramp(area));
        }
        let (from, to) = (i128::from(self.from.0), i128::from(self.to.0));
        let beyond = 2 * i128::from(Factor::ONE.0) * i128::from(area) - (from + to) * i128::from(over);
        if to == 0 {
            return None;
        }
        let more = (beyond + 2 * to - 1).div_euclid(2 * to);
        over.checked_add(u64::try_from(more).ok()?)
    }

    /// The same within the ramp, where the area grows by the square of the time.
    fn within_ramp(&self, area: u64) -> u64 {
        let (mut low, mut high) = (1, self.over.0);
        let guess = self.guess(area);
        // Doubles are mostly right to the microsecond.
        let (near, far) = (guess.saturating_sub(4).max(1), guess.saturating_add(4).min(self.over.0));
        if self.area(near) < area {
            low = near + 1;
        }
        if far >= low && self.area(far) >= area {
            high = far;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.area(middle) >= area {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// About where the area is reached, by the formula of quadratic equations.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a guess, which is checked")]
    fn guess(&self, area: u64) -> u64 {
        let one = f64::from(Factor::ONE.0);
        let (from, to) = (f64::from(self.from.0) / one, f64::from(self.to.0) / one);
        let slope = (to - from) / self.over.0 as f64;
        let root = (from * from + 2.0 * slope * area as f64).max(0.0).sqrt();
        (2.0 * area as f64 / (from + root)) as u64
    }
}

/// The time of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Warp {
    /// With W at the instant of each.
    pieces: Vec<(u64, Ramp)>,
}

impl Warp {
    /// The time under these changes, the earliest first; each holds until the next one.
    pub(super) fn new(ramps: impl IntoIterator<Item = Ramp>) -> Self {
        let mut warp = Self::default();
        for ramp in ramps {
            let done = warp.at(ramp.at).0;
            warp.pieces.push((done, ramp));
        }
        warp
    }

    /// Whether it is that of the clock.
    pub(super) fn is_real(&self) -> bool {
        self.pieces.is_empty()
    }

    /// W at an instant.
    pub(super) fn at(&self, at: Micros) -> Micros {
        let next = self.pieces.partition_point(|(_, ramp)| ramp.at <= at);
        let Some((done, ramp)) = next.checked_sub(1).map(|piece| &self.pieces[piece]) else { return at };
        Micros(done.saturating_add(ramp.area(at.since(ramp.at).0)))
    }

    /// The first instant at which W is at least `wanted`; [`Micros::NEVER`] where it never is.
    pub(super) fn when(&self, wanted: Micros) -> Micros {
        if wanted == Micros::NEVER {
            return wanted;
        }
        let next = self.pieces.partition_point(|(done, _)| *done < wanted.0);
        let Some((done, ramp)) = next.checked_sub(1).map(|piece| &self.pieces[piece]) else { return wanted };
        ramp.reaches(wanted.0 - done).map_or(Micros::NEVER, |past| ramp.at.after(Span(past)))
    }

    /// The factor at an instant.
    pub(super) fn factor(&self, at: Micros) -> Factor {
        let next = self.pieces.partition_point(|(_, ramp)| ramp.at <= at);
        next.checked_sub(1).map_or(Factor::ONE, |piece| self.pieces[piece].1.factor(at))
    }

    /// The largest factor from an instant on.
    pub(super) fn factor_max(&self, from: Micros) -> Factor {
        let next = self.pieces.partition_point(|(_, ramp)| ramp.at <= from);
        let later = self.pieces[next..].iter().map(|(_, ramp)| ramp.from.max(ramp.to));
        let current = next.checked_sub(1).map(|piece| self.pieces[piece].1.to);
        later.chain(current).chain([self.factor(from)]).max().unwrap_or(Factor::ONE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ramp(at: u64, from: u32, to: u32, over: u64) -> Ramp {
        let factor = |thousandths: u32| Factor(thousandths * 1_000);
        Ramp { at: Micros(at), from: factor(from), to: factor(to), over: Span(over) }
    }

    #[test]
    fn time_is_that_of_the_clock_until_somebody_changes_it() {
        let warp = Warp::default();
        assert!(warp.is_real());
        assert_eq!(
            (warp.at(Micros(7)), warp.when(Micros(7)), warp.factor(Micros(7))),
            (Micros(7), Micros(7), Factor::ONE)
        );
        let later = Warp::new([ramp(100, 2_000, 2_000, 0)]);
        assert_eq!([50, 100, 110].map(|at| later.at(Micros(at)).0), [50, 100, 120]);
        assert_eq!([50, 100, 101, 119, 120].map(|wanted| later.when(Micros(wanted)).0), [50, 100, 101, 110, 110]);
    }

    #[test]
    fn a_ramp_from_nothing_goes_half_as_far_as_its_end() {
        let warp = Warp::new([ramp(1_000, 0, 2_000, 1_000)]);
        assert_eq!([1_000, 1_500, 2_000, 3_000].map(|at| warp.at(Micros(at)).0), [1_000, 1_250, 2_000, 4_000]);
        assert_eq!(warp.factor(Micros(1_250)), Factor(500_000));
        assert_eq!(
            (warp.factor_max(Micros(0)), warp.factor_max(Micros(9_999))),
            (Factor(2_000_000), Factor(2_000_000))
        );
    }

    #[test]
    fn time_that_stands_still_comes_nowhere_until_it_goes_on() {
        let stopped = Warp::new([ramp(100, 0, 0, 0)]);
        assert_eq!((stopped.at(Micros(9_999)), stopped.when(Micros(101))), (Micros(100), Micros::NEVER));
        let resumed = Warp::new([ramp(100, 0, 0, 0), ramp(500, 1_000, 1_000, 0)]);
        assert_eq!([100, 101, 200].map(|wanted| resumed.when(Micros(wanted)).0), [100, 501, 600]);
    }

    proptest! {
        /// The inverse is found; what is there is compared microsecond by microsecond with its definition.
        #[test]
        fn the_inverse_is_the_first_instant_that_reaches_a_value(
            steps in prop::collection::vec((1_u64..400, 0_u32..5_000, 0_u32..5_000, 0_u64..300), 1..6)
        ) {
            let mut at = 0;
            let ramps: Vec<Ramp> = steps.iter().map(|&(gap, from, to, over)| {
                at += gap;
                ramp(at, from, to, over)
            }).collect();
            let warp = Warp::new(ramps);
            let mut reached = 0;
            for now in 1..2_500 {
                let value = warp.at(Micros(now)).0;
                prop_assert!(value >= reached, "W goes back at {now}");
                for wanted in reached + 1..=value {
                    prop_assert_eq!(warp.when(Micros(wanted)).0, now);
                }
                reached = value;
            }
        }

        /// Real sizes: days, and microseconds within them.
        #[test]
        fn long_ramps_are_as_exact(over in 1_u64..600_000_000_000, from in 0_u32..5_000, to in 0_u32..5_000, share in 0.0..1.0) {
            let warp = Warp::new([ramp(1_700_000_000_000_000, from, to, over)]);
            let (begin, end) = (1_700_000_000_000_000, warp.at(Micros(1_700_000_000_000_000 + over)).0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a sample")]
            let wanted = begin + ((end - begin) as f64 * share) as u64;
            let when = warp.when(Micros(wanted));
            if when != Micros::NEVER {
                prop_assert!(warp.at(when).0 >= wanted && (when.0 == 0 || warp.at(Micros(when.0 - 1)).0 < wanted));
            }
        }
    }
}
