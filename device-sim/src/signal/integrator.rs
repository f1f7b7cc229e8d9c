//! What fills and drains between two ends, such as a battery.
//!
//! A sum that stays within a range depends on when it met an end, so in general it has no closed form.
//! But here the rate follows the levels of a step, and a level maps a value x to clamp(x + shift, low, high).
//! Two such maps in succession are one such map. So a round of levels is one, and so are n rounds, in closed form.
//! Each level is looked at once for an instant ten years after the start, as for one in the first round.

use std::ops::Range;

use fleet_contract::model::{signal as document, step_of};

use super::{Compiler, Generate, Reader, Value};
use crate::random::Source;

// Not larger than the largest of the other kinds, so that their entries do not grow.
#[derive(Debug)]
pub(super) struct Integrator {
    source: Source,
    /// The rate of change.
    of: usize,
    /// The step that the rate follows; the rate itself where it never changes.
    step: usize,
    /// Seconds that the rate is meant for.
    per: f64,
    start: f64,
    spread: f64,
    range: document::Range,
}

impl Generate for Integrator {
    type Document = document::Integrator;

    fn compile(document: &Self::Document, source: Source, compiler: &mut Compiler<'_>) -> Result<Self, String> {
        let document::Integrator { of, per, start, spread, range, .. } = document;
        let step = step_of(compiler.model, of)?.unwrap_or(of);
        let (of, step) = (compiler.index(of)?, compiler.index(step)?);
        let [low, high] = *range;
        let (start, spread) = start.map_or((low, high - low), |start| (start, *spread));
        Ok(Self { source, of, step, per: per.as_secs_f64(), start, spread, range: *range })
    }

    // Not inlined, so that the other kinds do not pay for its registers.
    #[inline(never)]
    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let (moment, signals) = (reader.moment(), reader.signals);
        let start = self.start + self.spread * self.source.of(moment.device).at(0).unit();
        let change = match signals.step(self.step) {
            None => Change::of(self.rate(reader.value(self.of)) * reader.elapsed_seconds(), self.range),
            Some(step) => {
                let begin = step.position(&moment, 0);
                let levels = step.levels().map(|(span, level)| {
                    let rate = self.rate(reader.value_while(self.of, self.step, level));
                    Level { span, rate }
                });
                change(levels, step.round(), begin..begin + moment.elapsed(), self.range)
            }
        };
        Value::Number(change.apply(start))
    }

    fn integral(&self, _: &mut Reader<'_>) -> Option<f64> {
        None
    }
}

impl Integrator {
    /// Change a second.
    fn rate(&self, value: Value) -> f64 {
        value.number() / self.per
    }
}

/// A level of the rate.
struct Level {
    /// Microseconds into the round.
    span: Range<u64>,
    /// Change a second.
    rate: f64,
}

/// What levels that repeat each round change between two positions: the rest of the first round, then whole rounds, then the
/// beginning of the last one.
fn change(
    levels: impl Iterator<Item = Level>,
    round: u64,
    Range { start, end }: Range<u64>,
    range: document::Range,
) -> Change {
    let rounds = end / round - start / round;
    let (from, to) = (start % round, end % round);
    let [mut first, mut whole, mut last] = [Change::of(0.0, range); 3];
    for Level { span, rate } in levels {
        let within = |from: u64, to: u64| {
            let micros = span.end.min(to).saturating_sub(span.start.max(from));
            Change::of(rate * micros as f64 / 1e6, range)
        };
        first = first.then(within(from, if rounds == 0 { to } else { round }));
        whole = whole.then(within(0, round));
        last = last.then(within(0, to));
    }
    match rounds {
        0 => first,
        1 => first.then(last),
        _ => first.then(whole.times(rounds - 1)).then(last),
    }
}

/// A map of values within a range: x ↦ clamp(x + shift, low, high).
#[derive(Debug, Clone, Copy)]
struct Change {
    shift: f64,
    low: f64,
    high: f64,
}

impl Change {
    /// Adds an amount, of which the range takes what it has room for.
    fn of(amount: f64, [low, high]: document::Range) -> Self {
        Self { shift: amount, low, high }
    }

    fn apply(self, value: f64) -> f64 {
        (value + self.shift).clamp(self.low, self.high)
    }

    /// This one, and then another.
    fn then(self, next: Self) -> Self {
        Self { shift: self.shift + next.shift, low: next.apply(self.low), high: next.apply(self.high) }
    }

    /// So many times in succession, at least once: only the first time can start beyond the end that it moves away from.
    fn times(self, count: u64) -> Self {
        let more = (count - 1) as f64 * self.shift;
        Self {
            shift: self.shift + more,
            low: (self.low + more.max(0.0)).min(self.high),
            high: (self.high + more.min(0.0)).max(self.low),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;
    const RANGE: document::Range = [0.0, 10.0];

    /// Levels, given as whole seconds and rates.
    fn levels(of: &[(u64, f64)]) -> impl Iterator<Item = Level> {
        of.iter().scan(0, |begin, (hold, rate)| {
            let span = *begin..*begin + hold * SECOND;
            *begin = span.end;
            Some(Level { span, rate: *rate })
        })
    }

    fn round(of: &[(u64, f64)]) -> u64 {
        of.iter().map(|(hold, _)| hold).sum()
    }

    fn any_levels() -> impl Strategy<Value = Vec<(u64, f64)>> {
        prop::collection::vec((1..20u64, -5.0..5.0f64), 1..6)
    }

    #[test]
    fn ten_years_look_at_each_level_once() {
        let of = [(2_400, -0.005), (4_800, 0.008)];
        for seconds in [1, 3_600, 10 * 365 * 86_400] {
            let mut looks = 0;
            let counted = levels(&of).inspect(|_| looks += 1);
            let value = change(counted, round(&of) * SECOND, 0..seconds * SECOND, RANGE).apply(5.0);
            assert!((0.0..=10.0).contains(&value), "{value}");
            assert_eq!(looks, 2, "after {seconds} s");
        }
    }

    #[test]
    fn rounds_end_where_levels_do() {
        let of = [(10, -0.5), (5, 0.5)];
        let after = |seconds: u64| change(levels(&of), 15 * SECOND, 0..seconds * SECOND, RANGE).apply(8.0);
        let found: Vec<f64> = [0, 10, 15, 22, 25, 30, 300, 310].map(after).to_vec();
        let expected = [8.0, 3.0, 5.5, 2.0, 0.5, 3.0, 2.5, 0.0];
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{found:?}");
    }

    proptest! {
        #[test]
        fn it_is_the_sum_that_is_kept_in_its_range_second_by_second(
            of in any_levels(), start in 0.0..=10.0f64, from in 0..200u64, length in 0..3_000u64,
        ) {
            let rate = |second: u64| {
                let into = second % round(&of) * SECOND;
                levels(&of).find(|level| level.span.contains(&into)).unwrap().rate
            };
            let expected = (from..from + length).fold(start, |value, second| (value + rate(second)).clamp(0.0, 10.0));
            let between = from * SECOND..(from + length) * SECOND;
            let found = change(levels(&of), round(&of) * SECOND, between, RANGE).apply(start);
            prop_assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }

        #[test]
        fn a_power_is_so_many_times_in_succession(of in any_levels(), start in 0.0..=10.0f64, count in 1..100u64) {
            let once = change(levels(&of), round(&of) * SECOND, 0..round(&of) * SECOND, RANGE);
            let expected = (0..count).fold(start, |value, _| once.apply(value));
            let found = once.times(count).apply(start);
            prop_assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
    }
}
