//! The faults of a run in their places, and how long it took until it was whole again. Pure.

use fleet_contract::{
    fault::{self, Failure, Fault},
    series::END_TO_END,
    stats::Stats,
    threshold::{Bound, Column, Operator, Statistic},
    units::Span,
};

use super::{facts::RunFacts, phase::Phases, timeline::Point};

/// So long the latency stays within its threshold before it counts as being so again.
const CALM_SECONDS: f64 = 10.0;

/// A fault in its place.
#[derive(Debug, Clone, Copy)]
pub struct Spanned<'a> {
    /// Its number in the plan and in statistics.
    pub number: u32,
    /// The fault.
    pub fault: &'a Fault,
    /// The name of its phase.
    pub phase: &'a str,
    /// When it begins, from the start of the run on.
    pub after: Span,
    /// When it ends; the same for one that is over as soon as it has begun.
    pub until: Span,
}

impl Spanned<'_> {
    /// From when on devices can be whole again, from the start of the run on.
    pub fn lets_go(&self) -> Span {
        self.fault.lets_go(self.after, self.until)
    }
}

/// The faults of all phases, in the order in which they begin; not those behind the end of a phase that was cut short.
pub fn spanned(phases: &Phases) -> Vec<Spanned<'_>> {
    let mut faults: Vec<_> = phases
        .spanned()
        .flat_map(|phase| {
            phase.phase.faults.iter().enumerate().filter_map(move |(position, fault)| {
                let after = Span(phase.after.0 + fault.aim().after.0);
                let rest = Span(phase.until().0.checked_sub(after.0)?);
                let until = Span(after.0 + fault.lasts_within(rest).0);
                let number = fault::number(phase.number, position);
                (rest > Span::ZERO).then_some(Spanned { number, fault, phase: &phase.phase.name, after, until })
            })
        })
        .collect();
    faults.sort_by_key(|fault| fault.after);
    faults
}

/// The faults that have begun by now.
pub fn begun(facts: &RunFacts) -> Vec<Spanned<'_>> {
    let mut faults = spanned(&facts.asked.phases);
    faults.retain(|fault| fault.after < facts.offered_for());
    faults
}

/// How much a fault has done: what workers have counted, or what came of an act.
pub fn effects(stats: &Stats, facts: &RunFacts, fault: &Spanned<'_>) -> u64 {
    if fault.fault.is_act() {
        return facts.acts.done(fault.number);
    }
    stats.faults.get(fault.number).map_or(0, |fault| fault.effects)
}

/// How many messages were spoilt or doubled on purpose, so that nobody was to follow them; one that several faults have spoilt
/// counts for each.
pub fn spoilt(stats: &Stats, facts: &RunFacts) -> u64 {
    let of_effect = |fault: &Fault| match fault {
        Fault::Corrupt(_) | Fault::Stale(_) | Fault::Clock(_) => 1,
        Fault::Silence(silence) if silence.how == Failure::Sticks => 1,
        // The one and the other.
        Fault::Duplicate(_) => 2,
        _ => 0,
    };
    let of_plan = begun(facts).into_iter().map(|spanned| effects(stats, facts, &spanned) * of_effect(spanned.fault));
    of_plan.sum::<u64>() + stats.model_faults.total().unobserved()
}

/// The threshold that the latency of the whole fleet has to be within: the 99th percentile to the observer. `None` where there is
/// none; of several the lowest.
pub fn latency_bound(facts: &RunFacts) -> Option<Span> {
    let bounds = facts.asked.thresholds.iter().filter_map(|criterion| {
        let is_of_fleet = criterion.group.is_none() && criterion.stream.is_none() && criterion.qos.is_none();
        let expect = &criterion.expect;
        let is_p99 = matches!(expect.column, Column::Distribution(row) if *row == END_TO_END)
            && expect.statistic == Statistic::Percentile(9_900)
            && matches!(expect.operator, Operator::Less | Operator::AtMost);
        match expect.bound {
            Bound::Time(bound) if is_of_fleet && is_p99 => Some(bound),
            _ => None,
        }
    });
    bounds.min()
}

/// How long it took after a fault until the latency was within its threshold again, and stayed so for ten seconds or until the
/// next fault began, in seconds; `None` if it did not. `behind` is when the next one began.
pub fn calm_after(points: &[Point], bound: Span, since: Span, behind: Span) -> Option<f64> {
    let (since, behind) = (since.as_secs_f64(), behind.as_secs_f64());
    let of_fault = points.iter().filter(|point| point.at + point.seconds > since && point.at < behind);
    let mut calm_from: Option<f64> = None;
    let mut seen_until = since;
    for point in of_fault {
        let is_within = match point.end_to_end.p99 {
            Some(p99) => p99 <= bound.as_secs_f64(),
            // Where nothing fell due nothing arrives.
            None => point.messages.offered == 0,
        };
        seen_until = point.at + point.seconds;
        if !is_within {
            calm_from = None;
            continue;
        }
        let from = *calm_from.get_or_insert(point.at.max(since));
        if seen_until - from >= CALM_SECONDS {
            break;
        }
    }
    calm_from.filter(|from| *from < seen_until).map(|from| from - since)
}

#[cfg(test)]
mod tests {
    use fleet_contract::stats::Messages;

    use super::*;
    use crate::run::timeline::Quantiles;

    fn phases(text: &str) -> Phases {
        Phases::new(serde_saphyr::from_str(text).unwrap())
    }

    #[test]
    fn faults_stand_in_the_order_in_which_they_begin() {
        let phases = phases(
            "[{name: a, duration: 10s}, {name: b, duration: 20s, faults: [{kind: blackhole, after: 5s, name: tunnel}, {kind: \
             disconnect}, {kind: storm, after: 1s, lasts: 3s}]}]",
        );
        let found: Vec<_> = spanned(&phases)
            .iter()
            .map(|it| (it.fault.name(), it.after.0 / 1_000_000, it.until.0 / 1_000_000, it.lets_go().0 / 1_000_000))
            .map(|(name, after, until, lets_go)| (name.to_owned(), after, until, lets_go))
            .collect();
        let expected = [("disconnect", 10, 10, 10), ("storm", 11, 14, 11), ("tunnel", 15, 30, 30)];
        assert_eq!(found, expected.map(|(name, after, until, lets_go)| (name.to_owned(), after, until, lets_go)));
        assert_eq!(spanned(&phases)[2].number, fault::number(1, 0));
        // The phase was skipped before the last one of them began.
        let (cut, _) = phases.cut_at(Span::from_secs(13)).unwrap();
        let left: Vec<_> =
            spanned(&cut).iter().map(|it| (it.fault.name().to_owned(), it.until.0 / 1_000_000)).collect();
        assert_eq!(left, [("disconnect".to_owned(), 10), ("storm".to_owned(), 13)]);
    }

    /// Points of a second each: the 99th percentile in milliseconds, or nothing that arrived.
    fn points(seconds: &[Option<u32>]) -> Vec<Point> {
        let point = |(at, p99): (u32, &Option<u32>)| Point {
            at: at.into(),
            seconds: 1.0,
            messages: Messages { offered: 5, ..Messages::default() },
            end_to_end: Quantiles { p99: p99.map(|millis| f64::from(millis) / 1e3), ..Quantiles::default() },
            ..Point::default()
        };
        (0..).zip(seconds).map(point).collect()
    }

    #[test]
    fn a_latency_is_within_its_threshold_again_once_it_stays_so() {
        let calm = |seconds: &[Option<u32>], behind: u64| {
            calm_after(&points(seconds), Span::from_millis(100), Span::from_secs(2), Span::from_secs(behind))
        };
        let quiet = [Some(5); 20];
        assert_eq!(calm(&quiet, 99), Some(0.0));
        // The first messages after it are quick, and what waited comes late.
        let late = [&[Some(5), None, None, Some(5), Some(900), Some(300)][..], &quiet].concat();
        assert_eq!(calm(&late, 99), Some(4.0));
        assert_eq!(calm(&late, 6), None, "the next fault began before it was");
        assert_eq!(calm(&late, 8), Some(4.0));
        // What goes wrong much later has another reason.
        assert_eq!(calm(&[&late[..], &[Some(900); 5]].concat(), 99), Some(4.0));
        assert_eq!(calm(&[Some(5), Some(5)], 99), None, "nobody has looked yet");
    }
}
