//! An agent that answers runs beside telemetry in one fleet, on virtual time.

mod agent;

use std::collections::{BTreeMap, BTreeSet};

use fleet_contract::{
    plan::Setting,
    stamp::Stamp,
    units::{Share, Span},
};
use rumqttc::mqttbytes::v4::Publish;

use super::{DEVICES, MODEL, START, Stage, check, played::Trouble};
use crate::{
    agent::Agent,
    engine::slot::Slot,
    index::{DeviceIndex, GroupIndex},
    random::Source,
};
use agent::{Beside, MOVE, PACE, room};

const SPEC: &str = "  connect: {rate: 1000/s, session: persistent, backoff: {base: 100ms, cap: 200ms}, \
                    will: {topic: '{fleet}/{index}/will', payload: gone, qos: 1}}\n";

const GROUPS: &str = "{name: all, share: 50%, model: m}, {name: echo, share: 50%, model: m}";

const ECHO: GroupIndex = GroupIndex::new(1);

/// Half of the devices echo, all have their telemetry.
fn stage() -> Stage<Beside> {
    let agent = Beside { echo: ECHO };
    let (blueprint, plan) = Stage::compile_with(&agent, 0, DEVICES, SPEC, GROUPS, &[("m", MODEL)]);
    let mut stage = Stage::played(agent, blueprint, plan, START, None);
    stage.shard.world.said = Some(Vec::new());
    stage.change(|plan, now| plan.set(now, Setting::Phase(0)));
    stage
}

/// The devices that echo, or those that do not.
fn of_group<A: Agent>(stage: &Stage<A>, echoes: bool) -> Vec<u32> {
    let is_it = |device: &u32| (stage.blueprint.group_index(DeviceIndex::new(*device)) == ECHO) == echoes;
    (0..DEVICES).filter(is_it).collect()
}

/// What a device has said on a stream.
fn said<A: Agent>(stage: &Stage<A>, device: u32, stream: &str) -> Vec<Publish> {
    let is_it = |slot: Slot, publish: &Publish| slot.number() == device && publish.topic.ends_with(stream);
    let said = stage.shard.world.said.iter().flatten();
    said.filter(|(slot, publish)| is_it(*slot, publish)).map(|(_, publish)| publish.clone()).collect()
}

/// What a device has answered, without the stamps.
fn replies(stage: &Stage<Beside>, device: u32) -> Vec<String> {
    let text = |publish: &Publish| String::from_utf8(publish.payload.to_vec()).unwrap();
    let words = |text: String| text.rsplit_once(' ').unwrap().0.to_owned();
    said(stage, device, "/reply").iter().map(text).map(words).collect()
}

#[test]
fn an_answer_is_sent_again_as_it_was_first() {
    let mut stage = stage();
    let device = of_group(&stage, true)[0];
    stage.run(Span::from_secs(2));
    stage.shard.world.trouble(Trouble::Mute(Span::from_secs(1)));
    stage.shard.world.tell(&room(device, false), b"one");
    stage.run(Span::from_millis(10));
    // By now the device remembers something else than it did when it made the first answer.
    stage.shard.world.tell(&room(device, false), b"two");
    stage.run(Span::from_millis(10));
    assert!(!stage.shard.agents.keep_nothing());
    stage.shard.world.heal();
    stage.shard.world.trouble(Trouble::DropAll);
    stage.run(Span::from_secs(3));
    let said = said(&stage, device, "/reply");
    assert_eq!(replies(&stage, device), ["1 one", "2 two", "1 one", "2 two"]);
    for (first, again) in said[..2].iter().zip(&said[2..]) {
        assert_eq!((first.dup, again.dup, first.pkid), (false, true, again.pkid));
        assert_eq!(first.payload, again.payload);
    }
    assert!(stage.shard.agents.keep_nothing(), "all of it is acknowledged");
    let stats = stage.drain();
    check(0, &stats, &stage.shard.world);
}

#[test]
fn a_timer_outlives_a_connection_and_a_pause() {
    let mut stage = stage();
    let device = of_group(&stage, true)[0];
    stage.run(Span::from_millis(3_500));
    stage.shard.world.trouble(Trouble::Refuse(Span::from_millis(2_000)));
    stage.shard.world.trouble(Trouble::DropAll);
    stage.run(Span::from_millis(3_000));
    stage.change(|plan, now| plan.set(now, Setting::Paused(true)));
    stage.run(Span::from_millis(2_000));
    stage.change(|plan, now| plan.set(now, Setting::Paused(false)));
    stage.run(Span::from_millis(1_000));
    let pings = said(&stage, device, "/ping");
    let due = |ping: &Publish| Stamp::find(&ping.payload).unwrap().due.since(START).0 / PACE.0;
    // The connection was away at 4 s and 5 s, the pause was there at 7 s and 8 s.
    assert_eq!(pings.iter().map(due).collect::<Vec<_>>(), [1, 2, 3, 6, 9]);
    assert!(pings.iter().all(|ping| Stamp::find(&ping.payload).unwrap().due.0.is_multiple_of(PACE.0)));
}

#[test]
fn a_subscription_moves() {
    let mut stage = stage();
    let device = of_group(&stage, true)[0];
    stage.run(Span::from_secs(2));
    let told = [(true, &b"early"[..]), (false, MOVE), (false, &b"late"[..]), (true, &b"there"[..])];
    for (has_moved, payload) in told {
        stage.shard.world.tell(&room(device, has_moved), payload);
        stage.run(Span::from_millis(100));
    }
    assert_eq!(replies(&stage, device), ["1 move", "2 there"]);
    // It is asked for anew where the broker has forgotten it.
    stage.shard.world.trouble(Trouble::Forget);
    stage.run(Span::from_secs(2));
    stage.shard.world.tell(&room(device, true), b"again");
    stage.run(Span::from_millis(100));
    assert_eq!(replies(&stage, device), ["1 move", "2 there", "3 again"]);
    let stats = stage.drain();
    assert_eq!((stats.received.messages[0], stats.received.refused.len()), (3, 0));
}

#[test]
fn each_connect_has_another_will() {
    let mut stage = stage();
    for _ in 0..3 {
        // So long that nobody takes the sessions for contested.
        stage.run(Span::from_secs(6));
        stage.shard.world.trouble(Trouble::DropAll);
    }
    stage.run(Span::from_secs(2));
    for (echoes, wills) in [(true, ["0", "1", "2", "3"]), (false, ["gone"; 4])] {
        for device in of_group(&stage, echoes) {
            let heard = stage.shard.world.wills.iter().filter(|(slot, _)| slot.number() == device);
            let heard: Vec<_> = heard.map(|(_, will)| std::str::from_utf8(will).unwrap()).collect();
            assert_eq!(heard, wills, "device {device}");
        }
    }
}

#[test]
fn telemetry_beside_it_is_what_it_is_alone() {
    fn telemetry<A: Agent>(mut stage: Stage<A>) -> BTreeMap<(u32, String), Vec<Vec<u8>>> {
        stage.shard.world.said = Some(Vec::new());
        for _ in 0..3 {
            stage.run(Span::from_secs(3));
            for device in 0..DEVICES {
                stage.shard.world.tell(&room(device, false), b"hello");
            }
        }
        stage.change(|plan, now| plan.set(now, Setting::Paused(true)));
        stage.run(Span::from_secs(2));
        let mut found = BTreeMap::new();
        for (slot, publish) in stage.shard.world.said.iter().flatten() {
            if !publish.topic.ends_with("/reply") && !publish.topic.ends_with("/ping") {
                let stream: &mut Vec<_> = found.entry((slot.number(), publish.topic.clone())).or_default();
                stream.push(publish.payload.to_vec());
            }
        }
        found
    }
    let beside = telemetry(stage());
    let alone = telemetry(Stage::of(DEVICES, SPEC, GROUPS, &[("m", MODEL)]));
    assert_eq!(beside, alone);
    let devices: BTreeSet<_> = alone.keys().map(|(device, _)| *device).collect();
    assert_eq!(devices.len(), DEVICES as usize);
}

#[test]
fn what_is_settled_is_not_kept_however_connections_end() {
    let mut resent = 0;
    for seed in 0..60 {
        let source = Source::new(seed, "echo");
        let draw = |number: u32, below: u64| source.of(DeviceIndex::new(number)).at(0).below(below);
        let mut stage = stage();
        let rooms = of_group(&stage, true);
        for step in 0..30 {
            let number = 10 + 5 * step;
            stage.run(Span::from_millis(1 + draw(number, 400)));
            match draw(number + 1, 9) {
                0 => stage.shard.world.trouble(Trouble::DropAll),
                1 => stage.shard.world.trouble(Trouble::DropOne(draw(number + 2, u64::from(DEVICES)))),
                2 => stage.shard.world.trouble(Trouble::Mute(Span::from_millis(draw(number + 2, 500)))),
                3 => stage.shard.world.trouble(Trouble::Stall(Span::from_millis(draw(number + 2, 500)))),
                4 => stage.shard.world.trouble(Trouble::Forget),
                5 => {
                    let share = Share::from_basis_points(u16::try_from(draw(number + 2, 10_000)).unwrap()).unwrap();
                    stage.change(|plan, now| plan.disconnect(now, share));
                }
                _ => {
                    let payload = if draw(number + 2, 4) == 0 { MOVE } else { &b"hello"[..] };
                    for device in &rooms {
                        stage.shard.world.tell(&room(*device, draw(number + 3, 2) == 0), payload);
                    }
                }
            }
        }
        let stats = stage.drain();
        check(seed, &stats, &stage.shard.world);
        assert!(stage.shard.agents.keep_nothing(), "seed {seed}");
        resent += stats.all_messages().resent;
        // A reply that is sent again is the same one to the byte.
        let mut replies: BTreeMap<(u32, u32), Vec<u8>> = BTreeMap::new();
        for (slot, publish) in stage.shard.world.said.iter().flatten().filter(|(_, it)| it.topic.ends_with("/reply")) {
            let stamp = Stamp::find(&publish.payload).unwrap();
            let first = replies.entry((slot.number(), stamp.seq)).or_insert_with(|| publish.payload.to_vec());
            assert_eq!(first.as_slice(), &*publish.payload, "seed {seed}");
        }
    }
    assert!(resent > 20, "{resent}");
}
