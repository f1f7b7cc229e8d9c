//! Faults on virtual time: whom they hit, what the broker sees of it, and what they leave behind.

use std::collections::BTreeSet;

use fleet_contract::{
    fault::Fault,
    stats::FaultStats,
    time::Micros,
    units::{Share, Span},
};
use serde_json::json;

use super::{Stage, played::Heard};

const DEVICES: u32 = 60;

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
        "silence" if choice > 0 => fault["stream"] = json!("one"),
        _ => {}
    }
    serde_json::from_value(fault).unwrap()
}

/// A fleet that is connected and slow to come back, and a fault of a third of it that has begun; when, and whom it hits.
struct Struck {
    stage: Stage,
    at: Micros,
    hit: BTreeSet<u32>,
}

const NUMBER: u32 = 9;

impl Struck {
    fn new(kind: &str, choice: u64, lasts: Span, spec: &str) -> Self {
        let mut stage = Stage::new(DEVICES, spec);
        stage.run(Span::from_secs(10));
        assert_eq!(stage.shard.counted.stats.devices.connected, DEVICES);
        let at = stage.shard.world.time().after(Span::from_millis(500));
        let fault = fault(kind, Share::from_basis_points(3_300).unwrap(), choice);
        stage.change(|plan, _, rate| plan.strike(at, NUMBER, &fault, lasts, rate));
        stage.step(stage.shard.world.time());
        let aimed = &stage.shard.course.faults()[0];
        let hit: BTreeSet<u32> = (0..DEVICES).filter(|index| aimed.hits(*index, 0)).collect();
        assert!((10..30).contains(&hit.len()), "{}", hit.len());
        stage.shard.world.heard.clear();
        Self { stage, at, hit }
    }

    fn done(&self) -> FaultStats {
        self.stage.shard.counted.stats.faults.get(NUMBER).unwrap().clone()
    }

    /// Who has said this between two instants after the beginning.
    fn who(&self, said: impl Fn(Heard) -> bool, from: u64, until: u64) -> BTreeSet<u32> {
        let span = self.at.after(Span::from_millis(from))..self.at.after(Span::from_millis(until));
        let heard = self.stage.shard.world.heard.iter();
        heard.filter(|(at, _, what)| span.contains(at) && said(*what)).map(|(_, slot, _)| slot.number()).collect()
    }

    fn run_to(&mut self, millis: u64) {
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
    let hit = struck.hit.len() as u64;
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
        assert_eq!((struck.done().sessions.away, struck.done().recovery.count()), (0, struck.hit.len() as u64));
    }
}

#[test]
fn churn_ends_each_session_once_in_its_time_and_not_after_its_end() {
    let spec = "  connect: {rate: 1000/s, backoff: {base: 10s, cap: 10s}}\n";
    let mut struck = Struck::new("churn", 1, Span::from_millis(2_100), spec);
    struck.run_to(6_000);
    assert_eq!(struck.who(connects, 0, 710), struck.hit, "each within its first time");
    assert!(struck.who(connects, 2_110, 6_000).is_empty());
    let back = struck.stage.shard.world.heard.iter().filter(|(_, _, what)| connects(*what)).count();
    assert_eq!((struck.done().effects as usize, back), (3 * struck.hit.len(), 3 * struck.hit.len()));
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
    assert!(struck.done().effects as usize > 2 * struck.hit.len(), "{}", struck.done().effects);
    struck.run_to(8_000);
    assert_eq!(struck.stage.shard.counted.stats.devices.connected, DEVICES);
    let done = struck.done();
    assert_eq!((done.sessions.away, done.recovery.count()), (0, struck.hit.len() as u64));
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
    assert_eq!(struck.done().effects, refused + struck.hit.len() as u64);
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
    let talking = u64::from(DEVICES) - struck.hit.len() as u64;
    let expected = talking * 10 + u64::from(DEVICES) * 5 / 4;
    assert!(offered.abs_diff(expected) <= u64::from(DEVICES), "{offered} and not about {expected}");
    let done = struck.done();
    assert!(done.effects.abs_diff(struck.hit.len() as u64 * 10) <= struck.hit.len() as u64, "{}", done.effects);
    assert_eq!((done.devices, done.recovery.count()), (struck.hit.len() as u64, 0));
    struck.run_to(9_000);
    let devices = &struck.stage.shard.roster.devices;
    assert_eq!(devices.slots().filter(|slot| devices[*slot].is_hit).count(), 0);
}

#[test]
fn a_fault_that_the_plan_takes_back_ends_then() {
    let spec = "  connect: {rate: 1000/s, backoff: {base: 100ms, cap: 200ms}}\n";
    let mut struck = Struck::new("credentials", 0, Span::from_secs(60), spec);
    struck.run_to(1_000);
    assert_eq!(struck.stage.shard.counted.stats.devices.connected as usize, DEVICES as usize - struck.hit.len());
    let at = struck.stage.shard.world.time().after(Span::from_millis(10));
    struck.stage.change(|plan, _, _| plan.take_back(at));
    struck.run_to(2_000);
    assert_eq!(struck.stage.shard.counted.stats.devices.connected, DEVICES);
}

#[test]
fn devices_that_come_while_it_lasts_are_hit_too() {
    let mut struck = Struck::new("silence", 0, Span::from_secs(60), "  connect: {rate: 1000/s}\n");
    struck.run_to(100);
    struck.stage.change(|plan, now, rate| {
        plan.set(now, fleet_contract::plan::Setting::Devices(2 * DEVICES), rate);
    });
    struck.run_to(1_000);
    let aimed = struck.stage.shard.course.faults()[0].clone();
    for slot in struck.stage.shard.roster.devices.slots() {
        assert_eq!(struck.stage.shard.roster.devices[slot].is_hit, aimed.hits(slot.number(), 0), "{slot:?}");
    }
}

#[test]
fn two_faults_at_one_instant_both_strike() {
    let mut stage = Stage::new(DEVICES, "  connect: {rate: 1000/s}\n");
    stage.run(Span::from_secs(2));
    let at = stage.shard.world.time().after(Span::from_millis(10));
    for number in [1, 2] {
        let fault = fault("disconnect", Share::from_basis_points(5_000).unwrap(), 1);
        stage.change(|plan, _, rate| plan.strike(at, number, &fault, Span::ZERO, rate));
    }
    stage.run(Span::from_secs(1));
    let done = [1, 2].map(|number| stage.shard.counted.stats.faults.get(number).unwrap().devices);
    assert!(done.iter().all(|devices| (20..40).contains(devices)), "{done:?}");
}
