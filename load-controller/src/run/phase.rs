//! The parts of a run that are measured apart, and what each of them changes in the plan.

use std::ops::Range;

use fleet_contract::{
    fault,
    fleet::FleetSpec,
    load_test::{
        FACTOR_MAX, Phase, RateChange,
        curve::{Course, Curve, Segment},
        timetable,
    },
    plan::{Plan, Setting},
    time::Micros,
    units::{Factor, Span},
};
use serde::{Deserialize, Serialize};

/// The phases of a run, one after the other from its start on; none is a run that is not divided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// The number of the first one in the plan and in statistics: not 0 where the run is part of a longer one.
    first: u32,
    phases: Vec<Phase>,
}

/// A phase in its place.
#[derive(Debug, Clone, Copy)]
pub struct Spanned<'a> {
    /// Its number in the plan and in statistics.
    pub number: u32,
    /// The phase.
    pub phase: &'a Phase,
    /// When it begins, from the start of the run on.
    pub after: Span,
}

impl Spanned<'_> {
    /// When it ends, from the start of the run on.
    pub const fn until(&self) -> Span {
        Span(self.after.0 + self.phase.duration.0)
    }
}

impl Phases {
    /// Those of a checked document.
    pub const fn new(phases: Vec<Phase>) -> Self {
        Self::numbered(phases, 0)
    }

    /// The same, of which the first one has this number.
    pub const fn numbered(phases: Vec<Phase>, first: u32) -> Self {
        Self { first, phases }
    }

    /// All of them.
    pub fn all(&self) -> &[Phase] {
        &self.phases
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }

    /// Their numbers.
    pub fn numbers(&self) -> Range<u32> {
        self.first..self.behind()
    }

    /// The number of what comes behind the last one.
    pub fn behind(&self) -> u32 {
        self.first.saturating_add(u32::try_from(self.phases.len()).unwrap_or(u32::MAX))
    }

    /// How long all of them last; `None` where there is none.
    pub fn last(&self) -> Option<Span> {
        (!self.phases.is_empty()).then(|| Span(self.phases.iter().map(|phase| phase.duration.0).sum()))
    }

    /// The devices that there are when the run begins, if the first phase says so; `before` is how many there would be.
    pub fn devices_first(&self, before: u32) -> Option<u32> {
        let first = self.phases.first()?;
        if matches!(&first.devices, Some(Curve::Course(Course { spike: Some(_), .. }))) {
            // It goes back to what there was before.
            return None;
        }
        let segments = first.devices.as_ref()?.segments(before.into(), first.duration);
        segments
            .iter()
            .take_while(|segment| segment.after == Span::ZERO && segment.over == Span::ZERO)
            .last()
            .map(to_devices)
    }

    /// The most devices that a phase asks for, of a fleet that begins with `before`.
    pub fn devices_most(&self, before: u32) -> Option<u32> {
        let curves = self.phases.iter().filter_map(|phase| Some((phase.devices.as_ref()?, phase.duration)));
        let most = curves.map(|(curve, lasts)| curve.most(before.into(), lasts));
        most.reduce(f64::max).map(rounded)
    }

    /// The phases with their instants.
    pub fn spanned(&self) -> impl Iterator<Item = Spanned<'_>> {
        let begins = self.phases.iter().scan(0, |after, phase| {
            let begins = Span(*after);
            *after += phase.duration.0;
            Some(begins)
        });
        (self.first..).zip(&self.phases).zip(begins).map(|((number, phase), after)| Spanned { number, phase, after })
    }

    /// The same with the phase that goes on after so much of the run ending then, and its number; `None` if none goes on.
    pub fn cut_at(&self, elapsed: Span) -> Option<(Self, u32)> {
        let Spanned { number, after, .. } =
            self.spanned().find(|phase| (phase.after..phase.until()).contains(&elapsed))?;
        let mut cut = self.clone();
        // No phase lasts no time.
        cut.phases[(number - self.first) as usize].duration = Span((elapsed.0 - after.0).max(1));
        Some((cut, number))
    }

    /// The plan of a run that began at `start` and follows these phases, if phase `number` of `before` is over at once, as if it
    /// had gone to its end.
    pub fn skipped(&self, before: &Self, number: u32, plan: &Plan, spec: &FleetSpec, start: Micros) -> Plan {
        let ends = self.spanned().find(|phase| phase.number == number).map(|phase| phase.until());
        let at = start.after(ends.unwrap_or_default());
        let mut skipped = plan.clone();
        skipped.take_back(at);
        if let Some(phase) = before.spanned().find(|phase| phase.number == number) {
            let devices = plan.devices_before_phase(number + 1);
            if skipped.devices(at) != devices || skipped.devices_wanted() != devices {
                skipped.set(at, Setting::Devices(devices));
            }
            for change in phase.phase.rate.iter().flat_map(|rates| rates.all()) {
                skipped.set(at, rate(change, None, Span::ZERO));
            }
        }
        self.plan_from(number + 1, &mut skipped, spec, start);
        skipped
    }

    /// Writes them into the plan of a fleet, from `start` on.
    pub fn plan(&self, plan: &mut Plan, spec: &FleetSpec, start: Micros) {
        self.plan_from(0, plan, spec, start);
    }

    /// The plan of a run that is over at `at`: nothing of it is to come any more, and its devices stay as they are.
    pub fn ended(&self, plan: &Plan, at: Micros) -> Plan {
        let mut ended = plan.clone();
        ended.take_back(at);
        let devices = ended.devices(at);
        if ended.devices_wanted() != devices {
            ended.set(at, Setting::Devices(devices));
        }
        ended.reset_rates(at);
        ended.set(at, Setting::Phase(self.behind()));
        ended
    }

    fn plan_from(&self, first: u32, plan: &mut Plan, spec: &FleetSpec, start: Micros) {
        for spanned in self.spanned().filter(|phase| phase.number >= first) {
            let at = start.after(spanned.after);
            plan.set(at, Setting::Phase(spanned.number));
            let from = plan.devices_wanted();
            plan_devices(plan, &spanned, at, from);
            plan_rates(plan, spec, &spanned, at);
            for (position, fault) in spanned.phase.faults.iter().enumerate() {
                let after = fault.aim().after;
                let lasts = fault.lasts_within(Span(spanned.phase.duration.0.saturating_sub(after.0)));
                let number = fault::number(spanned.number, position);
                plan.strike(at.after(after), number, fault, lasts);
            }
        }
        // What falls due behind the last one belongs to none that anybody has asked for.
        if let Some(last) = self.last() {
            plan.set(start.after(last), Setting::Phase(self.behind()));
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a checked document has at most ten million"
)]
fn rounded(devices: f64) -> u32 {
    devices.round() as u32
}

fn to_devices(segment: &Segment) -> u32 {
    rounded(segment.to)
}

fn plan_devices(plan: &mut Plan, phase: &Spanned<'_>, begins: Micros, before: u32) {
    let curve = phase.phase.devices.iter();
    for segment in curve.flat_map(|curve| curve.segments(before.into(), phase.phase.duration)) {
        let (at, to) = (begins.after(segment.after), to_devices(&segment));
        if segment.over > Span::ZERO {
            plan.set(at, Setting::Ramp { to, over: segment.over });
        } else if plan.devices(at) != to {
            plan.set(at, Setting::Devices(to));
        }
    }
}

/// The rates of a phase hold while it lasts: behind it, streams go as their documents say, unless the next one sets them anew.
fn plan_rates(plan: &mut Plan, spec: &FleetSpec, phase: &Spanned<'_>, begins: Micros) {
    let (lasts, Some(rates)) = (phase.phase.duration, &phase.phase.rate) else { return };
    for change in rates.all() {
        let RateChange { factor, messages, .. } = change;
        let absolute = messages.map(|messages| (messages, devices_of(plan, phase, begins)));
        let mut set = |after: Span, factor: Option<Factor>, over: Span| {
            plan.set(begins.after(after), rate(change, factor, over));
        };
        for segment in factor.iter().flat_map(|factor| factor.segments(1.0, lasts)) {
            set(segment.after, Some(as_factor(segment.to)), segment.over);
        }
        if let Some((messages, counts)) = absolute {
            for (after, devices) in counts {
                let by_timetable = timetable(spec, rates, change, devices);
                let factor = if by_timetable > 0.0 { messages.get() / by_timetable } else { 0.0 };
                set(after, Some(as_factor(factor)), Span::ZERO);
            }
        }
        set(lasts, None, Span::ZERO);
    }
}

/// The streams of a change go at this factor; `None` leaves them to what is less specific.
fn rate(change: &RateChange, factor: Option<Factor>, over: Span) -> Setting {
    Setting::Rate { group: change.group.clone(), stream: change.stream.clone(), factor, over }
}

/// How many devices there are in a phase, from its beginning on; where their number changes, in the middle of each of its parts.
fn devices_of(plan: &Plan, phase: &Spanned<'_>, begins: Micros) -> Vec<(Span, u32)> {
    const PARTS: u64 = 32;
    if !matches!(phase.phase.devices, Some(Curve::Course(_))) {
        return vec![(Span::ZERO, plan.devices(begins))];
    }
    let part = |number: u64| Span(phase.phase.duration.0 / (2 * PARTS) * number);
    (0..PARTS).map(|number| (part(2 * number), plan.devices(begins.after(part(2 * number + 1))))).collect()
}

/// A factor in the millionths that plans have.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a thousand, in millionths")]
fn as_factor(factor: f64) -> Factor {
    Factor((factor.clamp(0.0, FACTOR_MAX) * f64::from(Factor::ONE.0)).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(texts: &[&str]) -> Phases {
        Phases::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn written(text: &str) -> Phases {
        Phases::new(serde_saphyr::from_str(text).unwrap())
    }

    fn spec() -> FleetSpec {
        let mut spec: FleetSpec = serde_saphyr::from_str(
            "{groups: [{name: taxi, share: 50%, model: m}, {name: van, share: 50%, model: m}], models: {m: {signals: {x: {kind: \
             counter, rate: 1}}, streams: {fast: {topic: t, interval: 1s, qos: 0, payload: {json: {x: '{x}'}}}, slow: {topic: u, \
             interval: 10s, qos: 0, payload: {json: {x: '{x}'}}}}}}}",
        )
        .unwrap();
        spec.connect.rate = "1/s".parse().unwrap();
        spec
    }

    const START: Micros = Micros(1_000_000_000);

    fn at(millis: u64) -> Micros {
        START.after(Span::from_millis(millis))
    }

    #[test]
    fn a_plan_has_their_instants_and_their_devices() {
        let phases = phases(&["ramp:0..100/10s", "steady:20s", "spike:300..50/1s"]);
        assert_eq!((phases.last(), phases.devices_first(9)), (Some(Span::from_secs(31)), Some(0)));
        assert_eq!(phases.devices_most(9), Some(300));
        let mut plan = Plan::new(1, START, 0);
        phases.plan(&mut plan, &spec(), START);
        let begun = [(at(0), 0), (at(10_000), 1), (at(30_000), 2), (at(31_000), 3)];
        assert_eq!(plan.phases().collect::<Vec<_>>(), begun);
        let devices = [0, 5_000, 10_000, 29_999, 30_000, 31_000, 60_000].map(|millis| plan.devices(at(millis)));
        // The first comes, and the first leaves, at the very beginning.
        assert_eq!(devices, [1, 51, 100, 100, 299, 50, 50]);
    }

    #[test]
    fn a_spike_is_over_with_its_phase_and_what_begins_as_it_was_needs_no_number() {
        let phases = written(
            "[{name: a, duration: 10s}, {name: b, duration: 10s, devices: {spike: 70}}, {name: c, duration: 10s, \
                              devices: {to: 20}}]",
        );
        assert_eq!((phases.devices_first(30), phases.devices_most(30)), (None, Some(70)));
        let mut plan = Plan::new(1, START, 30);
        phases.plan(&mut plan, &spec(), START);
        let devices = [0, 9_999, 10_000, 19_999, 20_001, 25_000, 30_000].map(|millis| plan.devices(at(millis)));
        assert_eq!(devices, [30, 30, 70, 70, 29, 24, 20]);
    }

    #[test]
    fn rates_hold_for_their_phase() {
        let phases = written(
            "[{name: a, duration: 10s, rate: {factor: 5}}, {name: b, duration: 10s, rate: [{factor: 2}, {group: van, factor: {from: \
             1, to: 3}}]}, {name: c, duration: 10s}]",
        );
        let mut plan = Plan::new(1, START, 10);
        phases.plan(&mut plan, &spec(), START);
        let every = Span::from_secs(1);
        // From one message to the next, around an instant.
        let interval = |group: &str, millis: u64| {
            let pace = plan.pace(group, "fast", every);
            pace.shortest(at(millis)).0
        };
        assert_eq!(
            (interval("taxi", 0), interval("taxi", 10_000), interval("taxi", 20_000)),
            (200_000, 500_000, 1_000_000)
        );
        assert_eq!((interval("van", 10_000), interval("van", 20_000)), (333_333, 1_000_000));
    }

    #[test]
    fn an_absolute_rate_is_a_factor_of_the_timetable() {
        // 10 devices of 1 + 0.1 messages a second each.
        let phases = written("[{name: a, duration: 10s, rate: {messages: 33/s}}]");
        let mut plan = Plan::new(1, START, 10);
        phases.plan(&mut plan, &spec(), START);
        assert_eq!(plan.pace("taxi", "slow", Span::from_secs(9)).shortest(at(0)), Span::from_secs(3));
        // With devices that come, it follows their number: 33 a second from 20 of them and from 30.
        let phases = written("[{name: a, duration: 10s, devices: {from: 20, to: 30}, rate: {messages: 33/s}}]");
        let mut plan = Plan::new(1, START, 10);
        phases.plan(&mut plan, &spec(), START);
        let factor = |millis: u64| {
            let every = Span::from_secs(9);
            every.as_secs_f64() / plan.pace("taxi", "slow", every).shortest(at(millis)).as_secs_f64()
        };
        assert!((factor(0) - 33.0 / 22.0).abs() < 0.1, "{}", factor(0));
        assert!((factor(9_900) - 33.0 / 33.0).abs() < 0.1, "{}", factor(9_900));
    }

    #[test]
    fn two_absolute_rates_of_a_phase_add_up() {
        // Of ten devices, `fast` makes ten messages a second and `slow` one: 30 and 5 are asked for.
        let phases = written("[{name: a, duration: 10s, rate: [{messages: 5/s}, {stream: fast, messages: 30/s}]}]");
        let mut plan = Plan::new(1, START, 10);
        phases.plan(&mut plan, &spec(), START);
        let factor = |stream| plan.factor(None, stream, at(0)).map(Factor::get);
        assert_eq!((factor(Some("fast")), factor(None)), (Some(3.0), Some(5.0)));
    }

    #[test]
    fn a_phase_that_is_skipped_leaves_what_it_would_have_left() {
        let phases = written(
            "[{name: a, duration: 10s, devices: {from: 0, to: 50}, rate: {factor: 5}}, {name: b, duration: 10s, devices: {spike: \
             90}}, {name: c, duration: 10s, faults: [{kind: disconnect, share: 1%, after: 1s}]}]",
        );
        let mut plan = Plan::new(1, START, 0);
        phases.plan(&mut plan, &spec(), START);
        let (cut, number) = phases.cut_at(Span::from_secs(4)).unwrap();
        let skipped = cut.skipped(&phases, number, &plan, &spec(), START);
        assert_eq!((number, cut.last()), (0, Some(Span::from_secs(24))));
        let begun = [(at(0), 0), (at(4_000), 1), (at(14_000), 2), (at(24_000), 3)];
        assert_eq!(skipped.phases().collect::<Vec<_>>(), begun);
        let devices = |plan: &Plan, millis| plan.devices(at(millis));
        assert_eq!([3_999, 4_000, 13_999, 14_000].map(|millis| devices(&skipped, millis)), [20, 90, 90, 50]);
        assert_eq!(skipped.pace("taxi", "fast", Span::from_secs(1)).shortest(at(4_000)), Span::from_secs(1));
        assert_eq!(skipped.strikes().map(|strike| strike.at).collect::<Vec<_>>(), [at(15_000)]);
        // The second one, too, and then the last.
        let (again, number) = cut.cut_at(Span::from_secs(5)).unwrap();
        let skipped = again.skipped(&cut, number, &skipped, &spec(), START);
        assert_eq!((number, devices(&skipped, 5_000), devices(&skipped, 60_000)), (1, 50, 50));
        assert_eq!(again.last(), Some(Span::from_secs(15)));
        let (last, number) = again.cut_at(Span::from_secs(6)).unwrap();
        assert_eq!((number, last.last(), last.cut_at(Span::from_secs(7))), (2, Some(Span::from_secs(6)), None));
    }

    #[test]
    fn a_part_of_a_longer_run_has_its_own_start_and_numbers_and_leaves_nothing_behind() {
        let texts = [
            "[{name: a, duration: 10s, devices: {from: 0, to: 50}, rate: {factor: 5}}, {name: b, duration: 10s, devices: 90}]",
        ];
        let part = Phases::numbered(serde_saphyr::from_str(texts[0]).unwrap(), 7);
        assert_eq!((part.numbers(), part.cut_at(Span::from_secs(4)).map(|(_, number)| number)), (7..9, Some(7)));
        let mut plan = Plan::new(1, START, 20);
        part.plan(&mut plan, &spec(), at(100_000));
        assert_eq!(plan.phases().collect::<Vec<_>>(), [(at(100_000), 7), (at(110_000), 8), (at(120_000), 9)]);
        assert_eq!([99_000, 100_000, 109_999, 110_000].map(|millis| plan.devices(at(millis))), [20, 1, 50, 90]);
        let ended = part.ended(&plan, at(104_000));
        assert_eq!(ended.phases().collect::<Vec<_>>(), [(at(100_000), 7), (at(104_000), 9)]);
        assert_eq!([103_999, 104_000, 200_000].map(|millis| ended.devices(at(millis))), [20, 21, 21]);
        let every = Span::from_secs(1);
        assert_eq!(ended.pace("taxi", "fast", every).shortest(at(104_000)), every);
    }

    /// Nothing of it is over before it has begun, however long its phases are.
    #[test]
    fn phases_of_minutes_keep_their_ramps_rates_and_faults() {
        let phases = written(
            "[{name: ramp, duration: 2m, devices: {from: 0, to: 500}}, {name: steady, duration: 10m, measure: true}, \
             {name: peak, duration: 5m, rate: {factor: 5}}, {name: outage, duration: 3m, faults: [{kind: disconnect, share: 30%}, \
             {kind: storm, after: 10s, lasts: 20s}]}, {name: again, duration: 5m, rate: {factor: 3}}, {name: less, duration: 10m, \
             devices: {from: 500, to: 100}}]",
        );
        let mut plan = Plan::new(1, START, 10);
        phases.plan(&mut plan, &spec(), START);
        let minutes = |minutes: u64| START.after(Span::from_secs(60 * minutes));
        assert_eq!([0, 1, 2, 20, 30, 35].map(|at| plan.devices(minutes(at))), [1, 251, 500, 500, 299, 100]);
        let factor = |at: u64| plan.factor(None, None, minutes(at)).map(Factor::get);
        assert_eq!([1, 14, 18, 22, 28].map(factor), [None, Some(5.0), None, Some(3.0), None]);
        let strikes: Vec<_> = plan.strikes().map(|it| (it.fault.name().to_owned(), it.at, it.until)).collect();
        let (begins, storm) = (minutes(17), minutes(17).after(Span::from_secs(10)));
        let expected = [("disconnect", begins, begins), ("storm", storm, storm.after(Span::from_secs(20)))];
        assert_eq!(strikes, expected.map(|(name, begins, ends)| (name.to_owned(), begins, ends)));
        assert_eq!(plan.phases().count(), 7);
    }

    #[test]
    fn faults_have_their_instants() {
        let phases = written(
            "[{name: a, duration: 10s}, {name: b, duration: 10s, faults: [{kind: disconnect, share: 30%, after: 2s}, {kind: blackhole, \
             after: 4s}, {kind: storm, lasts: 1s}]}]",
        );
        let mut plan = Plan::new(1, START, 10);
        phases.plan(&mut plan, &spec(), START);
        let strikes: Vec<_> = plan.strikes().map(|it| (it.fault.name().to_owned(), it.at, it.until)).collect();
        let expected = [("storm", 10_000, 11_000), ("disconnect", 12_000, 12_000), ("blackhole", 14_000, 20_000)];
        assert_eq!(strikes, expected.map(|(name, begins, ends)| (name.to_owned(), at(begins), at(ends))));
    }
}
