//! Keeps a phase at the messages a second that it asks for, where streams that follow rules are among those that are meant.
//!
//! The factor of the periodic streams follows from their intervals; what rules add nobody knows before. So every five seconds what
//! was offered is held against what is asked for, and the factor of the periodic ones is corrected, by a tenth at most. Where
//! devices come or leave, a phase has many factors, and a correction is one of all that are still to come in it: the plan, which
//! another process goes on with, holds their product. A fleet that cannot send what it is to send is left alone: more of it would
//! prove nothing.

use fleet_contract::{
    fleet::FleetSpec,
    load_test::{FACTOR_MAX, RateChange, follows_rules, phase::Rates},
    plan::{Plan, Setting},
    stats::{Groups, Stats},
    time::Micros,
    units::{Factor, Span},
};

use super::phase::{Phases, Spanned};

/// How often it looks at first.
const EVERY: Span = Span::from_secs(5);

/// The most that a factor changes at a time, as a share of it, and the least that is worth a change.
const STEP_MAX: f64 = 0.1;
const STEP_MIN: f64 = 0.01;

/// After so many corrections it waits twice as long for the next one, and so on: the plan keeps each of them, and the first few
/// bring it there. In a week there are 400 at most.
const CORRECTIONS_EACH: u32 = 32;

/// More overdue or withheld messages than this share of those that fell due are a fleet that is saturated.
const SATURATED_SHARE: f64 = 0.01;

/// What was seen when it looked last.
#[derive(Debug, Default)]
pub(super) struct Steering {
    last: Option<Look>,
}

#[derive(Debug)]
struct Look {
    phase: u32,
    at: Micros,
    corrections: u32,
    /// What was offered of each rate of the phase, by the streams for which it counts.
    offered: Vec<u64>,
    /// What was overdue or withheld of all.
    missed: u64,
    offered_in_all: u64,
}

impl Steering {
    /// The plan with corrections from `at` on, if any are due at `now`; `start` is that of the phases.
    pub(super) fn correct(
        &mut self,
        phases: &Phases,
        start: Micros,
        spec: &FleetSpec,
        plan: &Plan,
        stats: &Stats,
        (now, at): (Micros, Micros),
    ) -> Option<Plan> {
        let elapsed = now.since(start);
        let goes_on = |phase: &Spanned<'_>| (phase.after..phase.until()).contains(&elapsed);
        let phase = phases.spanned().find(goes_on)?;
        let rates = phase.phase.rate.as_ref()?;
        let is_steered = |change: &RateChange| change.messages.is_some() && follows_rules(spec, rates, change);
        if !rates.as_written().iter().any(is_steered) {
            return None;
        }
        let look = Look::of(phase.number, rates, stats, now);
        let last = match &mut self.last {
            Some(last) if last.phase == phase.number => last,
            last => {
                *last = Some(look);
                return None;
            }
        };
        let doubled = (last.corrections / CORRECTIONS_EACH).min(32);
        if now.since(last.at).0 < EVERY.0 << doubled {
            return None;
        }
        let look = Look { corrections: last.corrections, ..look };
        let before = std::mem::replace(last, look);
        let ends = start.after(phase.until());
        if at >= ends || last.is_saturated_since(&before) {
            return None;
        }
        let seconds = now.since(before.at).as_secs_f64();
        let mut corrected = None;
        for (place, change) in rates.as_written().iter().enumerate() {
            let Some(wanted) = change.messages.filter(|_| is_steered(change)) else { continue };
            let found = last.offered[place].saturating_sub(before.offered[place]) as f64 / seconds;
            let Some(step) = step(wanted.get(), found) else { continue };
            let plan = corrected.get_or_insert_with(|| plan.clone());
            let of = (change.group.as_deref(), change.stream.as_deref());
            plan.change_factors(of, (at, ends), |factor| scaled(factor, step));
            let factor = Some(scaled(plan.factor(of.0, of.1, at).unwrap_or(Factor::ONE), step));
            let (group, stream) = (change.group.clone(), change.stream.clone());
            plan.set(at, Setting::Rate { group, stream, factor, over: Span::ZERO });
        }
        if let Some(plan) = &mut corrected {
            last.corrections += 1;
            plan.forget(now, spec.connect.rate);
        }
        corrected
    }
}

impl Look {
    fn of(phase: u32, rates: &Rates, stats: &Stats, at: Micros) -> Self {
        let nothing = Groups::default();
        let groups = stats.phases.get(&phase).map_or(&nothing, |phase| &phase.groups);
        let offered = |change: &RateChange| {
            let its = groups.streams().filter(|(group, name, _)| rates.of(group, name) == Some(change));
            its.map(|(_, _, stream)| stream.messages.offered).sum()
        };
        let all = stats.all_messages();
        Self {
            phase,
            at,
            corrections: 0,
            offered: rates.as_written().iter().map(offered).collect(),
            missed: stats.generator.overdue + all.withheld,
            offered_in_all: all.offered,
        }
    }

    fn is_saturated_since(&self, before: &Self) -> bool {
        let offered = self.offered_in_all.saturating_sub(before.offered_in_all);
        self.missed.saturating_sub(before.missed) as f64 > SATURATED_SHARE * offered as f64
    }
}

/// By which share the factor is to change; `None` where it is right.
fn step(wanted: f64, found: f64) -> Option<f64> {
    if found <= 0.0 {
        return None;
    }
    let step = (wanted / found - 1.0).clamp(-STEP_MAX, STEP_MAX);
    (step.abs() >= STEP_MIN).then_some(step)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a thousand, in millionths")]
fn scaled(factor: Factor, step: f64) -> Factor {
    let most = f64::from(Factor::ONE.0) * FACTOR_MAX;
    Factor((f64::from(factor.0) * (1.0 + step)).clamp(0.0, most).round() as u32)
}

#[cfg(test)]
mod tests {
    use fleet_contract::{fleet::Qos, stats::StreamStats};

    use super::*;

    const START: Micros = Micros(1_000_000_000);

    fn spec() -> FleetSpec {
        let model = "{signals: {x: {kind: counter, rate: 1}}, streams: {state: {topic: t, interval: 1s, qos: 0, payload: {json: {x: '{x}'}}}, \
                     event: {topic: u, trigger: {change: {signal: x}}, qos: 0, payload: {json: {x: '{x}'}}}}}";
        let text = format!("{{groups: [{{name: taxi, model: m}}], models: {{m: {model}}}}}");
        serde_saphyr::from_str(&text).unwrap()
    }

    /// A played fleet of ten devices, unless its phase says another number: each sends by its factor, and rules add so many
    /// messages a second.
    struct Played {
        spec: FleetSpec,
        phases: Phases,
        plan: Plan,
        steering: Steering,
        stats: Stats,
        rules: u64,
    }

    impl Played {
        fn new(phases: &str, rules: u64) -> Self {
            let (spec, phases) = (spec(), Phases::new(serde_saphyr::from_str(phases).unwrap()));
            let mut plan = Plan::new(1, START, 10);
            phases.plan(&mut plan, &spec, START);
            Self { spec, phases, plan, steering: Steering::default(), stats: Stats::default(), rules }
        }

        /// What is offered in each of so many seconds.
        fn play(&mut self, seconds: std::ops::Range<u64>) -> Vec<u64> {
            let mut offered = Vec::new();
            for second in seconds {
                let now = START.after(Span::from_secs(second + 1));
                let own = self.plan.factor(None, Some("state"), now).or_else(|| self.plan.factor(None, None, now));
                let factor = own.map_or(1.0, |factor| f64::from(factor.0) / 1e6);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some messages")]
                let periodic = (f64::from(self.plan.devices(now)) * factor).round() as u64;
                for (name, count) in [("state", periodic), ("event", self.rules)] {
                    let mut stream = StreamStats::of(Qos::AtMostOnce);
                    stream.messages.offered = count;
                    self.stats.add_stream("taxi", name, &stream);
                    self.stats.phases.entry(0).or_default().groups.add("taxi", name, &stream);
                }
                offered.push(periodic + self.rules);
                let both = (now, now.after(Span::from_millis(250)));
                if let Some(plan) =
                    self.steering.correct(&self.phases, START, &self.spec, &self.plan, &self.stats, both)
                {
                    self.plan = plan;
                }
            }
            offered
        }
    }

    #[test]
    fn what_rules_add_is_taken_from_what_follows_the_timetable_a_tenth_at_a_time() {
        let mut played = Played::new("[{name: a, duration: 2m, rate: {messages: 100/s}}]", 20);
        let offered = played.play(0..118);
        assert_eq!(offered[0], 120, "the timetable alone makes a hundred");
        assert!(offered.windows(2).all(|pair| pair[1].abs_diff(pair[0]) <= 11), "a tenth at a time: {offered:?}");
        assert!(offered[60..].iter().all(|offered| (99..=101).contains(offered)), "{offered:?}");
        assert!(played.steering.last.unwrap().corrections < 8);
    }

    /// The timetable's factor is another one every four seconds, because devices come.
    #[test]
    fn a_correction_holds_for_the_factors_that_are_still_to_come_in_the_phase() {
        let phases = "[{name: a, duration: 2m, devices: {from: 100, to: 200}, rate: {messages: 1000/s}}, {name: b, duration: 1m, rate: \
                      {messages: 400/s}}]";
        let mut played = Played::new(phases, 200);
        let next = played.plan.factor(None, None, START.after(Span::from_secs(121)));
        let offered = played.play(0..118);
        assert_eq!(offered[0].next_multiple_of(100), 1_200, "the timetable alone makes a thousand: {offered:?}");
        assert!(offered[30..].iter().all(|offered| (970..=1_030).contains(offered)), "{offered:?}");
        assert_eq!(played.plan.factor(None, None, START.after(Span::from_secs(121))), next, "another phase is its own");
    }

    #[test]
    fn what_a_more_specific_rate_takes_is_no_part_of_the_general_one() {
        let rates = "[{messages: 100/s}, {stream: state, factor: 2}]";
        let mut played = Played::new(&format!("[{{name: a, duration: 2m, rate: {rates}}}]"), 20);
        let rates = played.phases.all()[0].rate.clone().unwrap();
        played.play(0..1);
        assert_eq!(Look::of(0, &rates, &played.stats, START).offered, [20, 20]);
    }

    #[test]
    fn rules_that_change_for_hours_are_followed_ever_more_calmly() {
        let mut played = Played::new("[{name: a, duration: 6h, rate: {messages: 100/s}}]", 20);
        for minute in 0..359 {
            played.rules = if minute % 2 == 0 { 20 } else { 60 };
            played.play(60 * minute..60 * (minute + 1));
        }
        let corrections = played.steering.last.unwrap().corrections;
        assert!((65..256).contains(&corrections), "{corrections}");
    }

    #[test]
    fn a_saturated_fleet_is_left_alone_and_so_is_one_without_rules() {
        let mut played = Played::new("[{name: a, duration: 2m, rate: {messages: 100/s}}]", 20);
        played.stats.generator.overdue = 10;
        played.play(0..2);
        for second in 2..40 {
            played.stats.generator.overdue += 30;
            assert_eq!(played.play(second..second + 1), [120]);
        }
        let mut played = Played::new("[{name: a, duration: 2m, rate: {messages: 50/s, stream: state}}]", 20);
        assert!(
            played
                .steering
                .correct(&played.phases, START, &played.spec, &played.plan, &played.stats, (START, START))
                .is_none()
        );
        assert!(played.steering.last.is_none(), "the timetable is all of it");
        let mut played = Played::new("[{name: a, duration: 2m, rate: {factor: 2}}]", 20);
        let offered = played.play(0..40);
        assert!(offered.iter().all(|offered| *offered == 40), "a factor is what it is: {offered:?}");
    }
}
