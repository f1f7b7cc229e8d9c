use proptest::prelude::*;

use super::*;

const START: Micros = Micros(1_000_000);

fn at(seconds: u64) -> Micros {
    START.after(Span::from_secs(seconds))
}

fn rate(per_second: f64) -> Rate {
    Rate::per_second(per_second).unwrap()
}

const fn stay(from: Micros, until: Micros) -> Stay {
    Stay { from, until }
}

#[test]
fn a_growth_connects_its_devices_at_the_rate() {
    let mut plan = Plan::new(1, START, 100);
    plan.set(at(60), Setting::Devices(120));
    let population = plan.population(rate(10.0));
    assert_eq!(population.stay(5, START), Some(stay(START.after(Span::from_millis(500)), Micros::NEVER)));
    assert_eq!(population.stay(105, START), Some(stay(at(60).after(Span::from_millis(500)), Micros::NEVER)));
    assert_eq!((plan.devices(at(59)), plan.devices(at(60)), plan.devices_max(START)), (100, 120, 120));
    assert_eq!(population.settles(), at(60).after(Span::from_millis(1_900)));
}

#[test]
fn a_shrinkage_takes_the_tail_and_the_last_device_first() {
    let mut plan = Plan::new(1, START, 100);
    plan.set(at(60), Setting::Devices(50));
    let population = plan.population(rate(10.0));
    let until = |index| population.stay(index, at(30)).map(|stay| stay.until);
    assert_eq!([49, 99, 50].map(until), [Micros::NEVER, at(60), at(60).after(Span::from_millis(4_900))].map(Some));
    assert_eq!(population.stay(99, at(61)), None);
}

#[test]
fn a_ramp_spreads_its_devices_over_its_time_and_the_rate_holds_it_back() {
    let mut plan = Plan::new(1, START, 0);
    plan.set(START, Setting::Ramp { to: 500, over: Span::from_secs(60) });
    let population = plan.population(rate(500.0));
    assert_eq!(population.stay(250, START), Some(stay(at(30), Micros::NEVER)));
    assert_eq!((population.at(at(30)), population.at(at(60)), population.last()), (251, 500, 500));
    let slow = plan.population(rate(1.0));
    assert_eq!(slow.stay(250, START), Some(stay(at(250), Micros::NEVER)));
}

#[test]
fn a_spike_lets_a_device_come_and_go_as_often_as_there_are_spikes() {
    let mut plan = Plan::new(1, START, 10);
    for spike in [10, 20] {
        plan.set(at(spike), Setting::Devices(20));
        plan.set(at(spike + 5), Setting::Devices(10));
    }
    let population = plan.population(rate(1e6));
    let seen = [0, 12, 17, 22, 27].map(|now| population.stay(10, at(now)));
    let [first, second] = [10, 20].map(|spike| (at(spike), at(spike + 5).after(Span(9))));
    assert_eq!(seen[0], Some(stay(first.0, first.1)));
    assert_eq!(seen[1].map(|stay| stay.until), Some(first.1));
    assert_eq!(seen[2], Some(stay(second.0, second.1)));
    assert_eq!((seen[3].map(|stay| stay.until), seen[4]), (Some(second.1), None));
    assert_eq!((population.most(at(12)), population.most(at(26))), (20, 10));
}

#[test]
fn who_is_kept_after_all_does_not_leave_and_who_had_yet_to_come_does_not_come() {
    let mut plan = Plan::new(1, START, 100);
    plan.set(at(100), Setting::Devices(50));
    plan.set(at(110), Setting::Devices(100));
    let population = plan.population(rate(1.0));
    let until = population.stay(60, at(105)).map(|stay| stay.until);
    assert_eq!(until, Some(Micros::NEVER), "it was to leave at 139");
    plan.set(at(120), Setting::Devices(200));
    plan.set(at(130), Setting::Devices(150));
    let population = plan.population(rate(1.0));
    assert_eq!(population.stay(160, at(121)), None, "it was to come at 180");
    assert_eq!(population.stay(140, at(121)), Some(stay(at(160), Micros::NEVER)), "as it was planned");
}

fn due(phase: u64) -> impl Fn(Micros, Span, Micros) -> Micros {
    move |anchor, interval, from| {
        let first = anchor.0 + phase;
        Micros(first + from.0.saturating_sub(first).div_ceil(interval.0) * interval.0)
    }
}

#[test]
fn an_interval_of_all_streams_replaces_those_of_single_ones() {
    let mut plan = Plan::new(1, START, 1);
    let second = Span::from_secs(1);
    let half = Setting::Interval { stream: Some("state".into()), interval: Some(Span::from_millis(500)) };
    plan.set(at(100), half);
    let interval = |plan: &Plan, stream: &str, now: u64| plan.pace("g", stream, second).interval(at(now));
    assert_eq!([99, 100].map(|now| interval(&plan, "state", now)), [second, Span::from_millis(500)]);
    assert_eq!(interval(&plan, "event", 100), second);
    let all = Setting::Interval { stream: None, interval: Some(Span::from_millis(200)) };
    plan.set(at(200), all);
    assert_eq!(interval(&plan, "state", 200), Span::from_millis(200));
    // The timetable begins anew at each change, and is kept up to it.
    let pace = plan.pace("g", "state", second);
    let dues = [98_500_000, 99_600_001, 99_900_000, 199_900_000].map(|from| pace.first(Micros(from), due(100_000)).0);
    assert_eq!(dues, [99_100_000, 100_100_000, 100_100_000, 200_100_000]);
    assert_eq!(plan.changes.len(), 3, "what is replaced is kept until it is long over");
    plan.forget(at(230), rate(10.0));
    assert_eq!(plan.changes.len(), 3);
    plan.forget(at(300), rate(10.0));
    assert_eq!(plan.changes.len(), 2);
}

#[test]
fn the_most_specific_rate_holds() {
    let mut plan = Plan::new(1, START, 1);
    let mut set = |now, group: Option<&str>, stream: Option<&str>, factor: Option<&str>| {
        let factor = factor.map(|factor| factor.parse().unwrap());
        let [group, stream] = [group, stream].map(|name| name.map(str::to_owned));
        plan.set(at(now), Setting::Rate { group, stream, factor, over: Span::ZERO });
    };
    set(10, None, None, Some("2"));
    set(20, Some("cars"), None, Some("3"));
    set(30, None, Some("state"), Some("4"));
    set(40, None, None, Some("5"));
    set(50, None, Some("state"), None);
    let factors = |group: &str, stream: &str| {
        let pace = plan.pace(group, stream, Span::from_secs(1));
        [5, 15, 25, 35, 45, 55].map(|now| 1_000_000 / pace.interval(at(now)).0)
    };
    assert_eq!(factors("cars", "state"), [1, 2, 3, 4, 4, 3]);
    assert_eq!(factors("cars", "event"), [1, 2, 3, 3, 3, 3]);
    assert_eq!(factors("trucks", "state"), [1, 2, 2, 4, 4, 5]);
}

fn spec(live: &str) -> FleetSpec {
    serde_json::from_str(&format!(r#"{{"groups": [], {live}}}"#)).unwrap()
}

#[test]
fn a_plan_follows_the_live_numbers_of_a_document() {
    let mut plan = Plan::of(1, START, &spec(r#""devices": 7, "intervals": {"state": "2s"}"#));
    let second = Span::from_secs(1);
    let interval = |plan: &Plan, name: &str, now| plan.pace("g", name, second).interval(now);
    assert_eq!((plan.devices(START), interval(&plan, "state", START)), (7, Span::from_secs(2)));
    assert!(!plan.clone().follow(at(1), &spec(r#""devices": 7, "intervals": {"state": "2s"}"#)));
    let changed = spec(r#""devices": 9, "paused": true, "intervals": {"*": "3s", "event": "4s"}"#);
    assert!(plan.follow(at(1), &changed) && !plan.follow(at(2), &changed));
    assert_eq!((plan.devices(at(1)), plan.is_paused(at(1)), plan.is_paused(START)), (9, true, false));
    assert_eq!(["state", "event"].map(|name| interval(&plan, name, at(1))), [3, 4].map(Span::from_secs));
    assert!(plan.follow(at(3), &spec(r#""devices": 9, "intervals": {"*": "3s"}"#)));
    assert_eq!((interval(&plan, "event", at(3)), plan.is_paused(at(3))), (Span::from_secs(3), false));
    assert!(plan.follow(at(4), &spec(r#""devices": 9"#)));
    assert_eq!(["state", "event"].map(|name| interval(&plan, name, at(4))), [second; 2]);
}

/// A controller is upgraded before its workers: what those of release 0.1 know is written as it was then.
#[test]
fn a_plan_of_the_release_before_reads_and_is_written_as_it_was() {
    let text = r#"{"version":4,"run":7,"start":1000000,"changes":[{"at":1000000,"set":{"devices":100}},{"at":61000000,"set":{"devices":50}},{"at":61000000,"set":{"interval":{"stream":null,"interval":"200ms"}}},{"at":62000000,"set":{"paused":true}}]}"#;
    let plan: Plan = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&plan).unwrap(), text);
    assert_eq!((plan.devices(at(59)), plan.devices_wanted(), plan.is_paused(at(61))), (100, 50, true));
    let mut followed = plan;
    followed.set(at(3_600), Setting::Devices(60));
    let known = ["devices", "interval", "paused"];
    let is_known = |change: &Change| {
        let set = serde_json::to_value(&change.set).unwrap();
        set.as_object().unwrap().keys().all(|key| known.contains(&key.as_str()))
    };
    assert!(followed.changes.iter().all(is_known), "{:?}", followed.changes);
}

/// As long as it makes a difference how the devices have come, they are not counted as if all had come from the start on.
#[test]
fn growths_that_overlap_are_kept_until_one_alone_would_be_over() {
    let mut plan = Plan::new(1, START, 0);
    let quick = rate(10.0);
    plan.set(at(1), Setting::Devices(600));
    plan.set(at(2), Setting::Devices(1_200));
    // Both are over after 62 seconds; one growth to as many would take 120.
    let growths = |plan: &Plan| plan.changes.iter().filter(|change| change.set.devices().is_some()).count();
    plan.forget(at(130), quick);
    assert_eq!(growths(&plan), 3);
    plan.forget(at(190), quick);
    assert_eq!(growths(&plan), 1);
}

/// A run begins a moment after it can be changed.
#[test]
fn what_is_set_before_the_start_holds_from_the_start_on() {
    let mut plan = Plan::new(1, START, 0);
    plan.set(START.before(Span::from_millis(90)), Setting::Devices(50));
    assert_eq!((plan.devices(START), plan.devices_wanted()), (50, 50));
    plan.set(START.before(Span::from_millis(80)), Setting::Ramp { to: 100, over: Span::from_secs(10) });
    assert_eq!((plan.devices(START.before(Span(1))), plan.devices(at(5)), plan.devices_wanted()), (0, 76, 100));
}

#[test]
fn a_plan_does_not_grow_with_its_age() {
    let mut plan = Plan::new(1, START, 100);
    for day in 1..1_000 {
        let now = at(day * 86_400);
        plan.set(now, Setting::Devices(100 + u32::try_from(day % 7).unwrap()));
        plan.set(now, Setting::Paused(day % 2 == 0));
        plan.set(now, Setting::Interval { stream: None, interval: Some(Span::from_secs(day)) });
        plan.disconnect(now, Share::ALL);
        plan.forget(now, rate(10.0));
    }
    assert!(plan.changes.len() < 12, "{} changes", plan.changes.len());
}

/// What a load test writes: phases, a ramp, a fault.
fn tested() -> Plan {
    let mut plan = Plan::new(1, START, 10);
    plan.set(at(100), Setting::Phase(0));
    plan.set(at(100), Setting::Ramp { to: 50, over: Span::from_secs(20) });
    let blackhole = serde_json::from_str("{\"kind\": \"blackhole\"}").unwrap();
    plan.strike(at(130), 1, &blackhole, Span::from_secs(60));
    plan.set(at(150), Setting::Phase(1));
    plan
}

/// A worker, or a controller, of release 0.1 knows no plan of another format.
#[test]
fn a_plan_is_of_the_first_format_again_when_what_a_load_test_wrote_is_forgotten() {
    let mut plan = tested();
    assert_eq!(plan.format, Format::THIRD);
    plan.take_back(at(160));
    assert!(plan.end_phases(2));
    assert_eq!(plan.format, Format::THIRD, "who is late has still to know of the fault");
    plan.set(at(160), Setting::Devices(10));
    plan.forget(at(200), rate(10.0));
    assert_eq!(plan.format, Format::THIRD, "it has ended 40 seconds ago");
    plan.forget(at(300), rate(10.0));
    assert_eq!(plan.format, Format::FIRST, "{:?}", plan.changes);
    let text = serde_json::to_string(&plan).unwrap();
    assert!(!text.contains("format") && !text.contains("faults"), "{text}");
}

/// Nobody may change a fleet for weeks after a load test.
#[test]
fn a_plan_goes_back_to_an_older_format_once_it_can() {
    let mut plan = tested();
    plan.take_back(at(160));
    plan.end_phases(2);
    let before = plan.clone();
    assert!(!plan.go_back(at(200), rate(10.0)));
    assert_eq!(plan, before);
    assert!(plan.go_back(at(300), rate(10.0)));
    assert_eq!((plan.format, plan.version, plan.devices_wanted()), (Format::FIRST, before.version + 1, 50));
    assert!(!plan.go_back(at(400), rate(10.0)));
}

#[test]
fn each_removal_leaves_the_lowest_format_of_what_is_left() {
    let mut plan = tested();
    plan.take_back(at(120));
    assert_eq!(plan.format, Format::SECOND, "the fault is taken back, and the ramp is not");
    let mut phases = Plan::new(1, START, 10);
    phases.set(at(1), Setting::Phase(0));
    assert!(phases.end_phases(1));
    assert_eq!(phases.format, Format::FIRST);
    let mut rates = Plan::new(1, START, 10);
    rates.set(at(1), Setting::Rate { group: None, stream: None, factor: Some(Factor::ONE), over: Span::ZERO });
    assert!(rates.reset_rates(at(2)));
    rates.forget(at(300), rate(10.0));
    assert_eq!(rates.format, Format::SECOND, "the timetables depend on them");
    let mut cut = Plan::new(1, START, 10);
    cut.disconnect(at(1), Share::ALL);
    cut.forget(at(300), rate(10.0));
    assert_eq!((cut.strikes().count(), cut.format), (0, Format::SECOND), "the next fault has a number of its own");
    let mut dated = tested().ahead_by(7);
    assert_eq!(dated.format, Format::THIRD, "another date needs no more than the second");
    dated.take_back(at(90));
    assert_eq!(dated.format, Format::SECOND);
}

#[test]
fn a_shard_knows_its_share_of_any_fleet() {
    let shard = Shard::of(2, 100);
    assert_eq!([0, 150, 200, 250, 300, 999].map(|devices| shard.share_of(devices)), [0, 0, 0, 50, 100, 100]);
    assert!(shard.contains(200) && shard.contains(299) && !shard.contains(300));
}

/// The length of the plans that the naive evaluator goes through, instant by instant.
const HORIZON: u64 = 260;

/// A change of the number of devices: after how long, to how many, over how long.
type Growth = (u64, u32, u64);

/// The group and the stream that a rate is set for, where it is not for all; the one that is looked at is `g` and `s`.
type Meant = (Option<&'static str>, Option<&'static str>);

/// A change of the pace: after how long, for whom, to which factor in tenths or to none, over how long; or to which interval; or
/// whether it is paused.
#[derive(Debug, Clone)]
enum Turn {
    Rate(u64, Meant, Option<u32>, u64),
    Interval(u64, u64),
    Pause(u64, bool),
}

fn growths() -> impl Strategy<Value = Vec<Growth>> {
    prop::collection::vec((0_u64..60, 0_u32..12, prop_oneof![Just(0), 1_u64..80]), 0..8)
}

/// The name that is looked at, another one, or none.
fn named(own: &'static str, other: &'static str) -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![3 => Just(None::<&'static str>), 3 => Just(Some(own)), 1 => Just(Some(other))]
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let factor = prop_oneof![4 => (0_u32..40).prop_map(Some), 1 => Just(None::<u32>)];
    let rate = (0_u64..60, (named("g", "h"), named("s", "t")), factor, prop_oneof![Just(0), 1_u64..80]);
    let turn = prop_oneof![
        4 => rate.prop_map(|(gap, meant, to, over)| Turn::Rate(gap, meant, to, over)),
        2 => (0_u64..60, 1_u64..40).prop_map(|(gap, interval)| Turn::Interval(gap, interval)),
        1 => (0_u64..60, any::<bool>()).prop_map(|(gap, is_paused)| Turn::Pause(gap, is_paused)),
    ];
    prop::collection::vec(turn, 0..8)
}

fn grown(first: u32, growths: &[Growth]) -> Plan {
    let mut plan = Plan::new(1, START, first);
    let mut now = START;
    for &(gap, to, over) in growths {
        now = now.after(Span(gap));
        let set = if over == 0 { Setting::Devices(to) } else { Setting::Ramp { to, over: Span(over) } };
        plan.set(now, set);
    }
    plan
}

/// How many devices there are at each instant, by going through all of them.
fn naive_population(first: u32, growths: &[Growth]) -> Vec<u32> {
    let mut devices = vec![first; usize::try_from(HORIZON).unwrap()];
    let mut begin = 0;
    for &(gap, to, over) in growths {
        begin += gap;
        let before = usize::try_from(begin.min(HORIZON)).unwrap().checked_sub(1);
        let from = before.map_or(first, |before| devices[before]);
        for now in begin..HORIZON {
            let step = u64::from(to.abs_diff(from));
            let moved = (0..step).filter(|number| over * number / step <= now - begin).count();
            let moved = u32::try_from(moved).unwrap();
            devices[usize::try_from(now).unwrap()] = if to > from { from + moved } else { from - moved };
        }
    }
    devices
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn devices_come_and_go_as_a_naive_evaluator_says(first in 0_u32..12, growths in growths()) {
        // Two changes of one instant are a matter of their own.
        let growths: Vec<Growth> = growths.into_iter().map(|(gap, to, over)| (gap.max(1), to, over)).collect();
        let naive = naive_population(first, &growths);
        let population = grown(first, &growths).population(rate(1e9));
        for (now, expected) in naive.iter().enumerate() {
            let now = START.after(Span(now as u64));
            prop_assert_eq!(population.at(now), *expected, "at {}", now.0 - START.0);
            for index in 0..12 {
                let is_there = population.stay(index, now).is_some_and(|stay| stay.from <= now);
                prop_assert_eq!(is_there, index < *expected, "device {} at {}", index, now.0 - START.0);
            }
        }
    }

    #[test]
    fn what_is_forgotten_makes_no_difference(first in 0_u32..12, growths in growths(), turns in turns(), now in 0..HORIZON) {
        let mut plan = grown(first, &growths);
        let mut begin = START;
        for turn in &turns {
            let (gap, set) = setting(turn);
            begin = begin.after(gap);
            plan.set(begin, set);
        }
        let (mut shorter, now) = (plan.clone(), START.after(Span(now)));
        shorter.forget_before(now, rate(1e9));
        prop_assert!(shorter.changes.len() <= plan.changes.len() + 1);
        let [long, short] = [&plan, &shorter].map(|plan| plan.population(rate(1e9)));
        let [fast, same] = [&plan, &shorter].map(|plan| plan.pace("g", "s", Span(20)));
        for later in (now.0..START.0 + HORIZON).map(Micros) {
            prop_assert_eq!(long.at(later), short.at(later));
            for index in 0..12 {
                // When somebody came who has long been there is forgotten.
                let seen = |population: &Population| population.stay(index, later).map(|stay| (stay.from.max(now), stay.until));
                prop_assert_eq!(seen(&long), seen(&short), "device {} from {} on", index, later.0 - START.0);
            }
            prop_assert_eq!(fast.first(later, due(7)), same.first(later, due(7)), "from {}", later.0 - START.0);
        }
    }

    #[test]
    fn what_is_forgotten_of_all_else_makes_no_difference_either(
        changes in prop::collection::vec((0..HORIZON, 0_u8..6, 0_u32..4), 0..14), now in 0..HORIZON,
    ) {
        let mut plan = Plan::new(1, START, 5);
        let named = |name: &str, is_named: bool| is_named.then(|| name.to_owned());
        for (place, (at, kind, number)) in (0..).zip(changes) {
            let (at, short) = (START.after(Span(at)), Span(u64::from(number) * 20));
            let set = match kind {
                0 => Setting::Paused(number % 2 == 0),
                1 => {
                    let (group, stream) = (named("g", number % 2 == 0), named("s", number > 1));
                    Setting::Rate { group, stream, factor: Some(Factor(number * 500_000)), over: short }
                }
                2 => Setting::Disconnect { share: Share::ALL, number: place },
                3 => {
                    let fault = serde_json::from_str("{\"kind\": \"blackhole\"}").unwrap();
                    Setting::Fault { number: place, lasts: short, fault }
                }
                4 => Setting::Phase(place),
                _ => Setting::Interval { stream: named("s", number % 2 == 0), interval: Some(Span(u64::from(number) + 3)) },
            };
            plan.set(at, set);
        }
        let (mut shorter, now) = (plan.clone(), START.after(Span(now)));
        shorter.forget_before(now, rate(1e9));
        prop_assert!(plan.phases().eq(shorter.phases()));
        let lasting = |plan: &Plan| plan.strikes().filter(|it| it.until > now).collect::<Vec<_>>();
        prop_assert_eq!(lasting(&plan), lasting(&shorter));
        for later in (now.0..START.0 + HORIZON).map(Micros) {
            prop_assert_eq!(plan.is_paused(later), shorter.is_paused(later));
            for (group, stream) in [("g", "s"), ("h", "s"), ("g", "t")] {
                let [long, short] = [&plan, &shorter].map(|plan| plan.pace(group, stream, Span(20)).first(later, due(7)));
                prop_assert_eq!(long, short, "{}/{} from {}", group, stream, later.0 - START.0);
            }
        }
    }

    #[test]
    fn streams_are_due_as_a_naive_evaluator_says(phase in 0_u64..20, turns in turns()) {
        let mut plan = Plan::new(1, START, 1);
        let mut begin = START;
        for turn in &turns {
            let (gap, set) = setting(turn);
            begin = begin.after(gap);
            plan.set(begin, set);
        }
        let pace = plan.pace("g", "s", Span(20));
        let expected = naive_dues(phase, &turns);
        let mut found = Vec::new();
        let mut from = START;
        loop {
            let next = pace.first(from, due(phase));
            if next.0 >= START.0 + HORIZON {
                break;
            }
            if !plan.is_paused(next) {
                found.push(next.0 - START.0);
            }
            from = next.after(Span(1));
        }
        prop_assert_eq!(found, expected);
    }
}

fn setting(turn: &Turn) -> (Span, Setting) {
    match *turn {
        Turn::Rate(gap, (group, stream), tenths, over) => {
            let [group, stream] = [group, stream].map(|name| name.map(str::to_owned));
            let factor = tenths.map(|tenths| Factor(tenths * 100_000));
            (Span(gap), Setting::Rate { group, stream, factor, over: Span(over) })
        }
        Turn::Interval(gap, interval) => {
            (Span(gap), Setting::Interval { stream: None, interval: Some(Span(interval)) })
        }
        Turn::Pause(gap, is_paused) => (Span(gap), Setting::Paused(is_paused)),
    }
}

/// When a stream is due: the area under the factor, added up microsecond by microsecond, comes by a multiple of the interval.
fn naive_dues(phase: u64, turns: &[Turn]) -> Vec<u64> {
    // The area since the last change of the factor, in parts of `2 * over` of a millionth, and W there.
    let (mut area, mut parts, mut done) = (0_i128, 2_i128, 0_i128);
    let (mut from, mut to, mut over, mut rate_at) = (1_000_000_i128, 1_000_000_i128, 1_i128, 0_i128);
    // What is set for all, a group, a stream, and a stream of a group: since when, from which factor, to which, over how long.
    let mut held: [Option<(i128, i128, i128, i128)>; 4] = [None; 4];
    let (mut interval, mut anchor, mut is_paused) = (20_i128, 0_i128, false);
    let at: Vec<u64> = turns
        .iter()
        .scan(0, |now, turn| {
            *now += setting(turn).0.0;
            Some(*now)
        })
        .collect();
    let w = |area: i128, parts: i128, done: i128| done + area / (parts * 1_000_000);
    let mut dues = Vec::new();
    let mut before = -1;
    for now in 0..HORIZON {
        for (turn, _) in turns.iter().zip(&at).filter(|(_, at)| **at == now) {
            let past = i128::from(now) - rate_at;
            let factor = if past >= over { to } else { from + (to - from) * past / over };
            match *turn {
                Turn::Rate(_, (Some("h"), _) | (_, Some("t")), ..) => {}
                Turn::Rate(_, (group, stream), tenths, length) => {
                    done = w(area, parts, done);
                    (area, rate_at) = (0, now.into());
                    held[usize::from(group.is_some()) + 2 * usize::from(stream.is_some())] =
                        tenths.map(|tenths| (rate_at, factor, i128::from(tenths) * 100_000, length.into()));
                    // The most specific one holds, and goes on from where it is by now.
                    let holds = held.iter().rev().flatten().next().copied();
                    let (since, first, last, length) = holds.unwrap_or((rate_at, 1_000_000, 1_000_000, 0));
                    let past = rate_at - since;
                    from = if past >= length { last } else { first + (last - first) * past / length };
                    (to, over) = (last, (length - past).max(1));
                    parts = 2 * over;
                }
                Turn::Pause(_, paused) => is_paused = paused,
                Turn::Interval(_, length) => {
                    interval = length.into();
                    anchor = w(area, parts, done);
                    // What was due before has been sent by the old interval.
                    before = before.max(anchor - 1);
                }
            }
        }
        let reached = w(area, parts, done);
        let first = anchor + i128::from(phase);
        let is_due = |value: &i128| *value >= first && (value - first) % interval == 0;
        if !is_paused && (before + 1..=reached).any(|value| is_due(&value)) {
            dues.push(now);
        }
        before = reached;
        // One microsecond more: the mean of the factor at its beginning and at its end.
        let past = i128::from(now) - rate_at;
        area += if past >= over { 2 * to * over } else { 2 * from * over + (to - from) * (2 * past + 1) };
    }
    dues
}

#[test]
fn factors_that_are_to_come_change_between_two_instants_for_exactly_their_streams() {
    let mut plan = Plan::new(1, START, 10);
    for (seconds, stream, factor) in [
        (0, None, Some(2)),
        (1, None, Some(3)),
        (2, None, Some(4)),
        (2, Some("state"), Some(5)),
        (3, None, None),
        (4, None, Some(6)),
    ] {
        let factor = factor.map(|factor| Factor(1_000_000 * factor));
        let stream = stream.map(str::to_owned);
        plan.set(at(seconds), Setting::Rate { group: None, stream, factor, over: Span::ZERO });
    }
    let version = plan.version;
    plan.change_factors((None, None), (at(1), at(4)), |factor| Factor(factor.0 / 2));
    assert!(plan.version > version);
    let factors = [0, 1, 2, 3, 4].map(|seconds| plan.factor(None, None, at(seconds)).map(Factor::get));
    assert_eq!(factors, [Some(2.0), Some(3.0), Some(2.0), None, Some(6.0)]);
    assert_eq!(plan.factor(None, Some("state"), at(2)).map(Factor::get), Some(5.0));
}
