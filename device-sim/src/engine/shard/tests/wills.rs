//! Wills on virtual time: which ends of sessions owe one, and what became of it. The test is the observer.

use std::sync::{Arc, mpsc};

use fleet_contract::{stats::Wills, units::Span};

use super::{
    Stage,
    faults::{DEVICES, Struck},
};
use crate::{
    engine::shard::wills::{Asked, Pass},
    index::DeviceIndex,
    observe::{
        ObserverWatch,
        retained::{Found, Look, Looked},
    },
};

/// Devices with wills, of which the observer sees all, and a fault of a third of them.
fn struck(kind: &str, choice: u64, lasts: Span, connect: &str) -> Struck {
    let will = "will: {topic: 'gone/{index}', payload: '{id}', qos: 1}";
    let mut stage = Stage::new(DEVICES, &format!("  observe: all\n  connect: {{rate: 1000/s, {connect}, {will}}}\n"));
    stage.shard.watched.inlets[0].watch = Arc::new(ObserverWatch::subscribed());
    Struck::of(stage, kind, choice, lasts)
}

const SLOW: &str = "keepAlive: 20s, backoff: {base: 300ms, cap: 300ms}";

impl Struck {
    /// The broker publishes the wills of these devices now.
    fn publish(&mut self, devices: impl IntoIterator<Item = u32>) {
        let now = self.stage.shard.world.time();
        devices.into_iter().for_each(|device| self.stage.shard.will_arrived(DeviceIndex::new(device), now, false));
    }

    /// What became of wills: in all, and of the fault.
    fn wills(&self) -> [Wills; 2] {
        let all = Wills { armed: 0, ..self.stage.shard.counted.stats.wills };
        [all, self.done().wills]
    }
}

#[test]
fn who_closes_or_resets_owes_a_will_and_who_says_disconnect_does_not() {
    for choice in [1, 2] {
        let mut struck = struck("disconnect", choice, Span::ZERO, SLOW);
        struck.run_to(30);
        let hit: Vec<u32> = struck.hit.iter().copied().collect();
        assert_eq!(struck.wills(), [Wills { expected: struck.count(), ..Wills::default() }; 2]);
        struck.publish(hit[2..].iter().copied());
        struck.run_to(1_990);
        let mut expected = Wills { expected: struck.count(), seen: struck.count() - 2, ..Wills::default() };
        assert_eq!(struck.wills(), [expected; 2]);
        struck.run_to(3_000);
        expected.missing = 2;
        assert_eq!(struck.wills(), [expected; 2]);
        let times = struck.done().offline_detection;
        assert_eq!(times.count(), struck.count() - 2);
        assert!((25_000..=32_000).contains(&times.max().unwrap().0), "{:?}", times.max());
        assert_eq!(struck.stage.measured().latency.offline_detection.count(), times.count());
        struck.publish([hit[0]]);
        expected.late = 1;
        assert_eq!(struck.wills(), [expected; 2]);
        assert_eq!(struck.stage.shard.counted.stats.wills.armed, DEVICES, "all are back");
    }
    let mut struck = struck("disconnect", 0, Span::ZERO, SLOW);
    struck.run_to(30);
    let mut expected = Wills { deleted: struck.count(), ..Wills::default() };
    assert_eq!(struck.wills(), [expected; 2]);
    let first = struck.hit.first().copied();
    struck.publish(first);
    // It may be back already: then an end that the broker has made may explain the will.
    struck.run_to(3_000);
    expected.unexpected = 1;
    assert_eq!(struck.wills(), [expected; 2]);
}

#[test]
fn a_storm_owes_a_will_each_though_all_are_back_at_once() {
    let mut struck = struck("storm", 1, Span::from_secs(2), SLOW);
    struck.run_to(100);
    let hit: Vec<u32> = struck.hit.iter().copied().collect();
    struck.publish(hit);
    struck.run_to(5_000);
    let expected = Wills { expected: struck.count(), seen: struck.count(), ..Wills::default() };
    assert_eq!(struck.wills(), [expected; 2]);
}

#[test]
fn a_black_hole_owes_wills_once_the_keep_alive_is_over_and_they_count_from_its_beginning() {
    let connect = "keepAlive: 2s, timeout: 1s, backoff: {base: 300ms, cap: 300ms}";
    let mut long = struck("blackhole", 0, Span::from_secs(6), connect);
    long.run_to(2_900);
    let hit: Vec<u32> = long.hit.iter().copied().collect();
    long.publish(hit);
    long.run_to(12_000);
    let expected = Wills { expected: long.count(), seen: long.count(), ..Wills::default() };
    assert_eq!(long.wills(), [expected; 2]);
    let longest = long.done().offline_detection.max().unwrap();
    assert!((2_890_000..=2_910_000).contains(&longest.0), "{longest}");

    let mut swallowed = struck("blackhole", 0, Span::from_secs(6), connect);
    swallowed.run_to(12_000);
    let expected = Wills { expected: swallowed.count(), missing: swallowed.count(), ..Wills::default() };
    assert_eq!(swallowed.wills(), [expected; 2]);

    // It is over before anybody could notice.
    let mut short = struck("blackhole", 0, Span::from_secs(1), "keepAlive: 20s");
    short.run_to(9_000);
    assert_eq!(short.wills(), [Wills::default(); 2]);
}

#[test]
fn a_will_of_an_earlier_process_is_nobodys_fault_however_early_that_died() {
    for (has_predecessor, expected) in
        [(false, Wills { unexpected: 1, ..Wills::default() }), (true, Wills { by_broker: 1, ..Wills::default() })]
    {
        let mut struck = struck("disconnect", 0, Span::ZERO, SLOW);
        struck.stage.shard.watched.has_predecessor = has_predecessor;
        let spared = (0..DEVICES).find(|device| !struck.hit.contains(device)).unwrap();
        struck.publish([spared]);
        struck.stage.run(Span::from_secs(3));
        assert_eq!(Wills { deleted: 0, ..struck.wills()[0] }, expected);
    }
}

#[test]
fn what_is_retained_is_right_where_it_is_what_may_be_there() {
    for (found, expected) in
        [(Found::Message(7), [1, 0]), (Found::Message(8), [0, 1]), (Found::Nothing, [0, 1]), (Found::Unknown, [0, 0])]
    {
        let mut struck = struck("disconnect", 0, Span::ZERO, SLOW);
        let (device, at) = (DeviceIndex::new(0), struck.stage.shard.world.time());
        let slot = struck.stage.shard.roster.slots.slot(device).unwrap();
        struck.stage.shard.watched.looks.asked.insert(slot, Asked { at, may_be: vec![6, 7], pass: Pass::Second });
        struck.stage.shard.looked(Looked { device, found });
        let Wills { retained_right, retained_wrong, .. } = struck.stage.shard.counted.stats.wills;
        assert_eq!([retained_right, retained_wrong], expected, "{found:?}");
        // Nobody has asked for another one.
        struck.stage.shard.looked(Looked { device, found: Found::Nothing });
        assert_eq!(struck.stage.shard.counted.stats.wills.retained_wrong, expected[1]);
    }
}

#[test]
fn what_is_wrong_at_the_first_look_is_looked_at_once_more() {
    let mut struck = struck("disconnect", 0, Span::ZERO, SLOW);
    let shard = &mut struck.stage.shard;
    let (looks, looks_end) = mpsc::sync_channel(2);
    shard.watched.inlets[0].looks = Some(looks);
    let (device, at) = (DeviceIndex::new(0), shard.world.time());
    let slot = shard.roster.slots.slot(device).unwrap();
    shard.watched.looks.asked.insert(slot, Asked { at, may_be: vec![7], pass: Pass::First });
    shard.looked(Looked { device, found: Found::Nothing });
    assert_eq!(looks_end.try_recv().ok(), Some(Look { device }));
    let Wills { retained_right, retained_wrong, .. } = shard.counted.stats.wills;
    assert_eq!([retained_right, retained_wrong], [0, 0]);

    shard.looked(Looked { device, found: Found::Message(7) });
    let Wills { retained_right, retained_wrong, .. } = shard.counted.stats.wills;
    assert_eq!([retained_right, retained_wrong], [1, 0]);
    assert!(looks_end.try_recv().is_err());
}

#[test]
fn a_look_waits_for_the_birth_message_and_for_no_other_stream() {
    let mut struck = struck("disconnect", 0, Span::ZERO, SLOW);
    let spared = (0..DEVICES).find(|device| !struck.hit.contains(device)).unwrap();
    let shard = &mut struck.stage.shard;
    let (slot, now) = (shard.roster.slots.slot(DeviceIndex::new(spared)).unwrap(), shard.world.time());
    shard.watched.looks.planned.insert(slot, now);
    // It has no birth message, and its streams send on: nothing of them has arrived.
    struck.run_to(600);
    let shard = &struck.stage.shard;
    assert!(!shard.rows(slot).last().unwrap().row.is_settled());
    assert!(!shard.watched.looks.planned.contains_key(&slot));
}
