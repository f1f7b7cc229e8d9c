//! Faults on virtual time: whom they hit, what the broker sees of it, and what they leave behind.

use std::{collections::BTreeSet, sync::Arc};

use fleet_contract::{
    fault::Fault,
    stats::{FaultStats, Stats},
    time::Micros,
    units::{Share, Span},
};
use serde_json::json;

use super::{
    Stage,
    played::{Heard, Trouble},
};
use crate::{
    index::{DeviceIndex, GroupIndex, StreamIndex},
    observe::ObserverWatch,
};

pub(super) const DEVICES: u32 = 60;

/// A fault of a kind; `choice` chooses among its forms.
pub(super) fn fault(kind: &str, share: Share, choice: u64) -> Fault {
    let by = ["disconnect", "close", "reset"][usize::try_from(choice).unwrap()];
    let mut fault = json!({"kind": kind, "share": share});
    match kind {
        "churn" => {
            fault["every"] = json!("700ms");
            fault["by"] = json!(by);
        }
        "storm" | "disconnect" => fault["by"] = json!(by),
        "latency" => {
            fault["delay"] = json!("200ms");
            fault["jitter"] = json!(["0s", "50ms", "200ms"][usize::try_from(choice).unwrap()]);
            fault["spread"] = json!(["uniform", "normal", "exponential"][usize::try_from(choice).unwrap()]);
        }
        "bandwidth" => {
            fault["rate"] = json!(["300bit/s", "1kbit/s", "100kbit/s"][usize::try_from(choice).unwrap()]);
            fault["direction"] = json!(["up", "down", "both"][usize::try_from(choice).unwrap()]);
        }
        "slow-reader" => fault["rate"] = json!("80bit/s"),
        "corrupt" => fault["messages"] = json!(["100%", "50%", "1%"][usize::try_from(choice).unwrap()]),
        "stale" => fault["age"] = json!("1h"),
        "clock" => fault["behind"] = json!("10m"),
        "flood" => {
            fault["every"] = json!("50ms");
            fault["stream"] = json!("one");
        }
        "silence" => {
            if choice > 0 {
                fault["stream"] = json!("one");
            }
            fault["how"] = json!(["stops", "stops", "sticks"][usize::try_from(choice).unwrap()]);
        }
        _ => {}
    }
    serde_json::from_value(fault).unwrap()
}

/// A fleet that is connected and slow to come back, and a fault of a third of it that has begun; when, and whom it hits.
pub(super) struct Struck {
    pub(super) stage: Stage,
    pub(super) at: Micros,
    pub(super) hit: BTreeSet<u32>,
}

const NUMBER: u32 = 9;

impl Struck {
    fn new(kind: &str, choice: u64, lasts: Span, spec: &str) -> Self {
        Self::of(Stage::new(DEVICES, spec), kind, choice, lasts)
    }

    /// The same with a stage of so many devices.
    pub(super) fn of(mut stage: Stage, kind: &str, choice: u64, lasts: Span) -> Self {
        stage.run(Span::from_secs(10));
        assert_eq!(stage.shard.counted.stats.devices.connected, DEVICES);
        let at = stage.shard.world.time().after(Span::from_millis(500));
        let fault = fault(kind, Share::from_basis_points(3_300).unwrap(), choice);
        stage.change(|plan, _| plan.strike(at, NUMBER, &fault, lasts));
        stage.step(stage.shard.world.time());
        let aimed = &stage.shard.course.faults()[0];
        let hit: BTreeSet<u32> =
            (0..DEVICES).filter(|index| aimed.hits(DeviceIndex::new(*index), GroupIndex::new(0))).collect();
        assert!((10..30).contains(&hit.len()), "{}", hit.len());
        stage.shard.world.heard.clear();
        Self { stage, at, hit }
    }

    /// How many it hits.
    pub(super) fn count(&self) -> u64 {
        self.hit.len() as u64
    }

    pub(super) fn done(&self) -> FaultStats {
        self.stage.shard.counted.stats.faults.get(NUMBER).unwrap().clone()
    }

    /// Who has said this between two instants after the beginning.
    fn who(&self, said: impl Fn(Heard) -> bool, from: u64, until: u64) -> BTreeSet<u32> {
        let span = self.at.after(Span::from_millis(from))..self.at.after(Span::from_millis(until));
        let heard = self.stage.shard.world.heard.iter();
        heard.filter(|(at, _, what)| span.contains(at) && said(*what)).map(|(_, slot, _)| slot.number()).collect()
    }

    pub(super) fn run_to(&mut self, millis: u64) {
        let now = self.stage.shard.world.time();
        self.stage.run(self.at.after(Span::from_millis(millis)).since(now));
    }
}

fn connects(what: Heard) -> bool {
    matches!(what, Heard::Connect { .. })
}

const SLOW: &str = "  connect: {rate: 20/s, keepAlive: 2s, timeout: 1s, backoff: {base: 10s, cap: 10s}}\n";

#[test]
fn a_storm_brings_all_back_at_once_whatever_pace_and_backoff_say() {
    let mut struck = Struck::new("storm", 1, Span::from_secs(2), SLOW);
    struck.run_to(60);
    assert_eq!(struck.who(connects, 0, 50), struck.hit);
    let hit = struck.count();
    let done = struck.done();
    assert_eq!((done.devices, done.effects, done.recovery.count(), done.sessions.away), (hit, hit, hit, 0));
    assert!(done.recovery.max() <= Some(Span::from_millis(20)), "{:?}", done.recovery.max());
    assert_eq!(struck.stage.shard.counted.stats.connections.lost["storm_fault"], hit);
}

#[test]
fn a_disconnect_leaves_them_to_pace_and_backoff_and_says_so_if_it_shall() {
    for (choice, says) in [(0, true), (1, false), (2, false)] {
        let mut struck = Struck::new("disconnect", choice, Span::ZERO, SLOW);
        struck.run_to(100);
        let said = struck.who(|what| what == Heard::Disconnect, 0, 50);
        assert_eq!(said, if says { struck.hit.clone() } else { BTreeSet::new() });
        assert_eq!(struck.done().sessions.away as usize, struck.hit.len());
        assert!(struck.who(connects, 0, 100).len() < 5, "a backoff is drawn between 0 and 10 s");
        struck.run_to(20_000);
        assert_eq!(struck.who(connects, 0, 20_000), struck.hit);
        assert_eq!((struck.done().sessions.away, struck.done().recovery.count()), (0, struck.count()));
    }
}

/// How many messages a fault of two seconds has spoilt. Where the machine holds the shard up, it has no turn for 300 ms as the fault
/// begins, and none as it ends.
fn spoilt(is_held_up: bool) -> u64 {
    let lasts = Span::from_secs(2);
    let mut struck = Struck::new("stale", 0, lasts, SLOW);
    for edge in [struck.at, struck.at.after(lasts)].into_iter().filter(|_| is_held_up) {
        let just_before = edge.before(Span::from_millis(1));
        struck.stage.run(just_before.since(struck.stage.shard.world.time()));
        let ready = struck.stage.shard.world.advance(edge.after(Span::from_millis(300)));
        struck.stage.shard.turn(&ready);
    }
    struck.run_to(4_000);
    struck.done().effects
}

#[test]
fn what_is_due_while_a_fault_lasts_is_spoilt_and_nothing_else_however_late_a_turn_is() {
    let in_time = spoilt(false);
    assert!(in_time > 100, "{in_time}");
    assert_eq!(spoilt(true), in_time);
}

#[test]
fn churn_ends_each_session_once_in_its_time_and_not_after_its_end() {
    let spec = "  connect: {rate: 1000/s, backoff: {base: 10s, cap: 10s}}\n";
    let mut struck = Struck::new("churn", 1, Span::from_millis(2_100), spec);
    struck.run_to(6_000);
    assert_eq!(struck.who(connects, 0, 710), struck.hit, "each within its first time");
    assert!(struck.who(connects, 2_110, 6_000).is_empty());
    let back = struck.stage.shard.world.heard.iter().filter(|(_, _, what)| connects(*what)).count();
    assert_eq!((struck.done().effects, back), (3 * struck.count(), 3 * struck.hit.len()));
}

#[test]
fn nothing_goes_through_a_black_hole_and_the_broker_is_told_nothing() {
    let spec = "  connect: {rate: 1000/s, keepAlive: 2s, timeout: 1s, session: persistent, backoff: {base: 300ms, cap: 300ms}}\n";
    let mut struck = Struck::new("blackhole", 0, Span::from_secs(6), spec);
    struck.run_to(5_990);
    // What was on its way arrives.
    let heard = struck.who(|_| true, 1, 5_990);
    assert!(heard.is_disjoint(&struck.hit), "{heard:?}");
    assert_eq!(heard.len() + struck.hit.len(), DEVICES as usize);
    // Each has noticed by its own pings that nobody answers.
    assert_eq!(struck.done().sessions.away as usize, struck.hit.len());
    assert!(struck.stage.shard.counted.stats.connections.failed["blackhole_fault"] > 0);
    assert!(struck.done().effects > 2 * struck.count(), "{}", struck.done().effects);
    struck.run_to(8_000);
    assert_eq!(struck.stage.shard.counted.stats.devices.connected, DEVICES);
    let done = struck.done();
    assert_eq!((done.sessions.away, done.recovery.count()), (0, struck.count()));
    assert_eq!(struck.who(connects, 6_000, 8_000), struck.hit);
}

#[test]
fn who_sees_the_end_of_a_black_hole_goes_on_in_the_same_session() {
    let spec = "  offline: {catchUp: {max: 100}}\n  connect: {rate: 1000/s, keepAlive: 60s}\n";
    let mut struck = Struck::new("blackhole", 0, Span::from_secs(3), spec);
    struck.run_to(2_990);
    assert!(struck.who(|_| true, 1, 2_990).is_disjoint(&struck.hit));
    struck.run_to(3_100);
    assert!(struck.who(|_| true, 2_990, 3_100).is_superset(&struck.hit), "what had waited goes at once");
    struck.run_to(9_000);
    assert!(struck.who(connects, 0, 9_000).is_empty());
    let stats = struck.stage.drain();
    let all = stats.all_messages();
    assert_eq!((all.withheld, stats.faults.get(NUMBER).unwrap().recovery.count()), (0, 0));
    assert_eq!(all.sent, all.offered);
}

#[test]
fn a_wrong_password_is_refused_until_the_fault_ends() {
    let spec = "  connect: {rate: 1000/s, backoff: {base: 100ms, cap: 200ms}}\n";
    let mut struck = Struck::new("credentials", 0, Span::from_secs(2), spec);
    struck.run_to(1_990);
    let wrong = struck.who(|what| what == Heard::Connect { has_password: true }, 0, 1_990);
    assert_eq!(wrong, struck.hit);
    let refused = struck.stage.shard.counted.stats.connections.refused.values().sum::<u64>();
    assert_eq!(struck.stage.shard.counted.stats.devices.refused as usize, struck.hit.len());
    // That their sessions end is not what the fault is for.
    assert_eq!(struck.done().effects, refused);
    struck.run_to(3_000);
    assert_eq!(struck.stage.shard.counted.stats.devices.connected, DEVICES);
    assert!(struck.who(|what| what == Heard::Connect { has_password: true }, 2_010, 3_000).is_empty());
}

#[test]
fn silent_streams_offer_nothing_and_all_others_go_on() {
    let mut struck = Struck::new("silence", 1, Span::from_secs(4), SLOW);
    let before = struck.stage.measured().messages[1].offered;
    struck.run_to(3_990);
    let offered = struck.stage.measured().messages[1].offered - before;
    // One message each 400 ms, for 4 s and the half second before.
    let talking = u64::from(DEVICES) - struck.count();
    let expected = talking * 10 + u64::from(DEVICES) * 5 / 4;
    assert!(offered.abs_diff(expected) <= u64::from(DEVICES), "{offered} and not about {expected}");
    let done = struck.done();
    assert!(done.effects.abs_diff(struck.count() * 10) <= struck.count(), "{}", done.effects);
    assert_eq!((done.devices, done.recovery.count()), (struck.count(), 0));
    struck.run_to(9_000);
    let devices = &struck.stage.shard.roster.devices;
    assert_eq!(devices.slots().filter(|slot| devices[*slot].is_hit).count(), 0);
}

#[test]
fn sensors_that_stick_go_on_by_their_timetable() {
    let mut struck = Struck::new("silence", 2, Span::from_secs(4), SLOW);
    let before = struck.stage.measured().messages[1];
    struck.run_to(3_990);
    let after = struck.stage.measured().messages[1];
    // One message each 400 ms, for 4 s and the half second before.
    let offered = after.offered - before.offered;
    assert!(offered.abs_diff(u64::from(DEVICES) * 45 / 4) <= u64::from(DEVICES), "{offered}");
    let done = struck.done();
    assert!(done.effects.abs_diff(struck.count() * 10) <= struck.count(), "{}", done.effects);
}

/// The times to an acknowledgement since a fault began, in milliseconds: the median and the longest.
fn times(struck: &mut Struck, until: u64) -> (u64, u64) {
    let before = struck.stage.measured().latency.publish_ack;
    struck.run_to(until);
    let since = struck.stage.measured().latency.publish_ack.since(&before);
    let millis = |quantile: f64| since.quantile(quantile).unwrap().0 / 1_000;
    (millis(0.5), millis(1.0))
}

/// All that a broker acknowledges is acknowledged.
#[track_caller]
fn check_acknowledged(stats: &Stats) {
    for messages in &stats.messages[1..] {
        assert_eq!(messages.acknowledged, messages.sent);
    }
}

#[test]
fn a_slow_link_delays_each_way_and_the_devices_that_it_hits_alone() {
    let mut struck = Struck::new("latency", 0, Span::from_secs(6), "  connect: {rate: 1000/s}\n");
    let (median, longest) = times(&mut struck, 5_900);
    assert!(median < 20, "{median} ms");
    // QoS 2 takes two round trips.
    assert!((800..830).contains(&longest), "{longest} ms, four times 200 and what the way itself takes");
    let done = struck.done();
    // A message goes one way and its acknowledgement the other.
    assert!(done.effects > 20 * struck.count(), "{}", done.effects);
    struck.run_to(6_500);
    let (_, longest) = times(&mut struck, 9_000);
    assert!(longest < 30, "{longest} ms, and it is over");
    let stats = struck.stage.drain();
    assert_eq!(stats.all_messages().sent, stats.all_messages().offered);
    check_acknowledged(&stats);
}

#[test]
fn a_narrow_link_lets_no_more_through_than_it_carries() {
    let mut struck = Struck::new("bandwidth", 0, Span::from_secs(20), "  connect: {rate: 1000/s, keepAlive: 60s}\n");
    struck.run_to(19_900);
    for device in 0..DEVICES {
        let of_device = struck.stage.shard.world.heard.iter().filter(|(_, slot, _)| slot.number() == device);
        let heard = of_device.filter(|(at, ..)| *at > struck.at.after(Span::from_millis(100))).count();
        // 300 bits a second for 20 s are 750 bytes, and a message has more than 50; the others send 50 of one stream alone.
        let is_right = if struck.hit.contains(&device) { (3..=15).contains(&heard) } else { heard >= 49 };
        assert!(is_right, "{device}: {heard}");
    }
    struck.run_to(21_000);
    let stats = struck.stage.drain();
    check_acknowledged(&stats);
}

#[test]
fn what_is_said_twice_counts_as_messages_of_its_own() {
    let mut struck = Struck::new("duplicate", 0, Span::from_secs(4), "  connect: {rate: 1000/s, inFlight: 50}\n");
    let before = struck.stage.measured().all_messages();
    struck.run_to(4_500);
    let all = struck.stage.measured().all_messages().since(&before);
    let again = struck.done().effects;
    // 5.6 messages a second each, for 4 s.
    assert!(again.abs_diff(struck.count() * 22) <= 3 * struck.count(), "{again}");
    let usual = u64::from(DEVICES) * 28;
    assert!(all.sent.abs_diff(usual + again) <= u64::from(DEVICES) * 2, "{} and {again} of about {usual}", all.sent);
    let stats = struck.stage.drain();
    check_acknowledged(&stats);
    assert_eq!(stats.all_messages().offered, stats.all_messages().sent);
}

#[test]
fn a_flood_comes_on_top_of_the_timetable_and_ends_with_it() {
    let mut struck = Struck::new("flood", 0, Span::from_secs(4), "  connect: {rate: 1000/s, inFlight: 50}\n");
    let before = struck.stage.measured().messages[1].offered;
    struck.run_to(4_000);
    let flood = struck.done().effects;
    assert!(flood.abs_diff(struck.count() * 80) <= struck.count(), "{flood}, 20 a second for 4 s");
    let offered = struck.stage.measured().messages[1].offered - before;
    // 2.5 a second by the timetable, for 4.5 s; what falls due with one of the flood's is one message.
    let usual = u64::from(DEVICES) * 45 / 4;
    assert!(offered.abs_diff(usual + flood) <= u64::from(DEVICES) * 2, "{offered}, {flood} of about {usual}");
    struck.run_to(8_000);
    assert_eq!(struck.done().effects, flood);
    let later = struck.stage.measured().messages[1].offered - before - offered;
    assert!(later.abs_diff(u64::from(DEVICES) * 10) <= u64::from(DEVICES), "{later} by the timetable alone");
}

#[test]
fn a_slow_reader_gets_its_answers_late() {
    let mut struck = Struck::new("slow-reader", 0, Span::from_secs(8), "  connect: {rate: 1000/s, keepAlive: 60s}\n");
    let (_, longest) = times(&mut struck, 7_900);
    // 80 bits a second are a PUBACK each 400 ms, and pings and two streams ask for more.
    assert!(longest > 1_500, "{longest} ms");
    struck.run_to(12_000);
    let stats = struck.stage.drain();
    check_acknowledged(&stats);
    assert!(stats.faults.get(NUMBER).unwrap().effects > 0);
}

#[test]
fn a_fault_that_the_plan_takes_back_ends_then() {
    let spec = "  connect: {rate: 1000/s, backoff: {base: 100ms, cap: 200ms}}\n";
    let mut struck = Struck::new("credentials", 0, Span::from_secs(60), spec);
    struck.run_to(1_000);
    assert_eq!(struck.stage.shard.counted.stats.devices.connected as usize, DEVICES as usize - struck.hit.len());
    let at = struck.stage.shard.world.time().after(Span::from_millis(10));
    struck.stage.change(|plan, _| plan.take_back(at));
    struck.run_to(2_000);
    assert_eq!(struck.stage.shard.counted.stats.devices.connected, DEVICES);
}

#[test]
fn devices_that_come_while_it_lasts_are_hit_too() {
    let mut struck = Struck::new("silence", 0, Span::from_secs(60), "  connect: {rate: 1000/s}\n");
    struck.run_to(100);
    struck.stage.change(|plan, now| {
        plan.set(now, fleet_contract::plan::Setting::Devices(2 * DEVICES));
    });
    struck.run_to(1_000);
    let aimed = struck.stage.shard.course.faults()[0].clone();
    let roster = &struck.stage.shard.roster;
    for slot in roster.devices.slots() {
        let is_hit = aimed.hits(roster.index(slot), GroupIndex::new(0));
        assert_eq!(roster.devices[slot].is_hit, is_hit, "{slot:?}");
    }
}

const REGIONAL: &str = r#"
signals:
  lat: {kind: randomWalk, step: 5, every: 1s, range: [0, 100]}
  mode: {kind: markov, states: {idle: {dwell: 2s, next: {busy: 1}}, busy: {dwell: 2s, next: {idle: 1}}}}
streams:
  one: {topic: "{fleet}/{index}/one", interval: 400ms, qos: 1, payload: {json: {lat: "{lat}", mode: "{mode}"}}}
"#;

#[test]
fn a_region_holds_those_whose_signals_say_so_when_the_fault_begins() {
    let groups = "{name: cars, share: 70%, model: m}, {name: lamps, share: 30%, model: lamp}";
    let spec = "  connect: {rate: 1000/s}\n";
    let mut stage = Stage::of(DEVICES, spec, groups, &[("m", REGIONAL), ("lamp", super::MODEL)]);
    stage.run(Span::from_secs(5));
    let at = stage.shard.world.time().after(Span::from_millis(10));
    let fault: Fault = serde_json::from_value(
        json!({"kind": "silence", "share": "80%", "where": "lat > 40 && mode == \"busy\" && mode != \"unheard of\""}),
    )
    .unwrap();
    stage.change(|plan, _| plan.strike(at, NUMBER, &fault, Span::from_secs(20)));
    // Signals go on, and nobody is hit or let go by that; another fault has all conditions set anew.
    stage.run(Span::from_secs(4));
    let other = super::faults::fault("stale", Share::ALL, 0);
    stage.change(|plan, now| plan.strike(now, NUMBER + 1, &other, Span::from_secs(2)));
    stage.change(|plan, now| plan.set(now, fleet_contract::plan::Setting::Devices(2 * DEVICES)));
    stage.run(Span::from_secs(4));
    let aimed = stage.shard.course.faults().iter().find(|fault| fault.strike.number == NUMBER).unwrap().clone();
    let (mut inside, mut hit) = (0, 0);
    for slot in stage.shard.roster.devices.slots() {
        let (index, group) = (stage.shard.roster.index(slot), stage.shard.roster.devices[slot].group);
        let is_inside = group == GroupIndex::new(0) && {
            let model = &stage.blueprint.groups[0].model;
            let of = |condition: &str| {
                let condition = model.condition(condition).unwrap();
                model.meets(&condition, index, super::START, at, &mut crate::model::Scratch::default())
            };
            of("lat > 40") && of("mode == \"busy\"")
        };
        inside += u32::from(is_inside);
        hit += u32::from(is_inside && aimed.hits(index, group));
        let is_silent = stage.shard.faults.silent(slot, StreamIndex::new(0)) == Some(NUMBER);
        assert_eq!(is_silent, is_inside && aimed.hits(index, group), "{index:?}");
    }
    assert!(inside > hit && hit > 5, "{hit} of {inside}");
    assert_eq!(stage.shard.counted.stats.faults.get(NUMBER).unwrap().devices, u64::from(hit) - late(&stage, &aimed));
}

/// How many that have come since were hit.
fn late(stage: &Stage, aimed: &crate::fault::Aimed) -> u64 {
    let slots = stage.shard.roster.devices.slots().filter(|slot| slot.number() >= DEVICES);
    let hit = slots.filter(|slot| stage.shard.faults.silent(*slot, StreamIndex::new(0)) == Some(aimed.strike.number));
    hit.count() as u64
}

#[test]
fn two_faults_at_one_instant_both_strike() {
    let mut stage = Stage::new(DEVICES, "  connect: {rate: 1000/s}\n");
    stage.run(Span::from_secs(2));
    let at = stage.shard.world.time().after(Span::from_millis(10));
    for number in [1, 2] {
        let fault = fault("disconnect", Share::from_basis_points(5_000).unwrap(), 1);
        stage.change(|plan, _| plan.strike(at, number, &fault, Span::ZERO));
    }
    stage.run(Span::from_secs(1));
    let done = [1, 2].map(|number| stage.shard.counted.stats.faults.get(number).unwrap().devices);
    assert!(done.iter().all(|devices| (20..40).contains(devices)), "{done:?}");
}

/// An act of whoever drives the run, from half a second on.
fn act(text: &str, lasts: Span) -> (Stage, Micros) {
    let mut stage = Stage::new(DEVICES, "  connect: {rate: 1000/s, backoff: {base: 100ms, cap: 200ms}}\n");
    stage.run(Span::from_secs(2));
    let at = stage.shard.world.time().after(Span::from_millis(500));
    let fault: Fault = serde_json::from_str(text).unwrap();
    stage.change(|plan, _| plan.strike(at, NUMBER, &fault, lasts));
    (stage, at)
}

#[test]
fn sessions_that_end_while_an_act_lasts_are_owed_to_it() {
    let (mut stage, _) = act(r#"{"kind": "hook", "command": ["restart"]}"#, Span::from_secs(16));
    stage.run(Span::from_secs(1));
    let done = |stage: &Stage| stage.shard.counted.stats.faults.get(NUMBER).unwrap().clone();
    assert_eq!((done(&stage).devices, done(&stage).effects), (0, 0), "it does nothing to devices");
    stage.shard.world.trouble(Trouble::DropOne(3));
    // Who loses another session soon after it has begun is kept away for longer.
    stage.run(Span::from_secs(8));
    stage.shard.world.trouble(Trouble::DropAll);
    stage.run(Span::from_secs(4));
    let all = u64::from(DEVICES);
    let done_by = done(&stage);
    assert_eq!((done_by.devices, done_by.recovery.count(), done_by.sessions.away), (all, all + 1, 0));
    // What ends later is not its own.
    stage.run(Span::from_secs(8));
    stage.shard.world.trouble(Trouble::DropAll);
    stage.run(Span::from_secs(4));
    assert_eq!(done(&stage).recovery.count(), all + 1);
    assert_eq!(stage.shard.counted.stats.connections.reconnects, 2 * all + 1);
}

#[test]
fn who_comes_in_place_of_a_killed_worker_owes_its_sessions_to_the_act() {
    let (first, at) = act(r#"{"kind": "kill-pods"}"#, Span::from_secs(20));
    let begin = |pause: u64| {
        let now = at.after(Span::from_millis(pause));
        let mut stage = Stage::beginning(Arc::clone(&first.blueprint), first.plan.clone(), now, None);
        stage.run(Span::from_secs(2));
        stage.shard.counted.stats.faults.get(NUMBER).cloned()
    };
    let all = u64::from(DEVICES);
    let done = begin(4_000).unwrap();
    assert_eq!((done.devices, done.recovery.count(), done.sessions.away), (all, all, 0));
    assert!(done.recovery.quantile(0.0) >= Some(Span::from_secs(3)), "since the act: {:?}", done.recovery.max());
    assert!(begin(30_000).is_none_or(|done| done.devices == 0), "it is over");
}

/// How many messages of each quality of service are unknown after a fault by which a third of the devices end their connections,
/// 200 ms after the broker has stopped reading. The observer tells of no arrival.
fn unknown_after(choice: u64, session: &str) -> [u64; 3] {
    let connect = format!("rate: 1000/s, session: {session}, keepAlive: 20s, backoff: {{base: 300ms, cap: 300ms}}");
    let mut stage = Stage::new(DEVICES, &format!("  observe: all\n  connect: {{{connect}}}\n"));
    stage.shard.watched.inlets[0].watch = Arc::new(ObserverWatch::subscribed());
    let mut struck = Struck::of(stage, "disconnect", choice, Span::ZERO);
    struck.stage.run(Span::from_millis(300));
    struck.stage.shard.world.trouble(Trouble::Stall(Span::from_millis(400)));
    struck.run_to(5_000);
    let stats = struck.stage.measured();
    let all = stats.all_messages();
    assert!(all.lost > 1_000 && all.lost_acknowledged > 500, "{all:?}");
    stats.messages.map(|messages| messages.unknown)
}

#[test]
fn what_is_in_flight_as_its_device_ends_the_connection_accuses_no_broker() {
    for choice in [0, 1, 2] {
        // 20 devices send 2, 2.5 and 1.1 messages a second; those of QoS 0 are in flight until they are judged.
        let [zero, one, two] = unknown_after(choice, "clean");
        assert!((40..120).contains(&zero) && (4..20).contains(&one) && (1..10).contains(&two), "{zero}, {one}, {two}");
        // What is sent again the broker has had its time for.
        let [zero, one, two] = unknown_after(choice, "persistent");
        assert!((40..120).contains(&zero) && one + two == 0, "{zero}, {one}, {two}");
    }
}
