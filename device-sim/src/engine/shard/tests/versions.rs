//! What a new version of the plan takes of the shard's thread.
//!
//! The aim is 100 ns a device, in a release. Here the engine is optimized a little and the plan's arithmetic not at all, on
//! whatever machine there is: the bounds find what grows with more than the devices, and the figures are there to be read.

use std::sync::Arc;

use fleet_contract::{
    plan::Setting,
    time::Micros,
    units::{Factor, Span},
};

use super::{START, Stage, reading::cpu_time};
use crate::engine::{course::Course, slot::Slot};

const DEVICES: u32 = 100_000;

/// All of them have come by [`LATER`], as far as the plan goes.
const SPEC: &str = "  connect: {rate: 1000/s}\n";
const LATER: Span = Span::from_secs(200);

const MODEL: &str = r#"
signals: {x: {kind: counter, rate: 1}}
streams:
  one: {topic: "{fleet}/{index}/one", interval: 1h, qos: 1, payload: {json: {x: "{x}"}}}
"#;

/// The most nanoseconds a device where no device is looked at.
const NOBODY_MAX: u64 = 100;
/// The same where it is looked at when each of them leaves.
const DEVICE_MAX: u64 = 1_000;
/// The same where the one stream of each of them falls due anew.
const STREAM_MAX: u64 = 3_000;

const FIRST: Slot = Slot::new(0);

/// Devices that keep their timetables, without the connections, which no version of a plan looks at.
fn stage() -> Stage {
    let mut stage = Stage::of(DEVICES, SPEC, "{name: all, model: m}", &[("m", MODEL)]);
    let now = START.after(LATER);
    stage.shard.world.advance(now);
    for slot in stage.shard.roster.devices.slots() {
        let device = &mut stage.shard.roster.devices[slot];
        device.open(now);
        device.ask();
        device.enter(now);
        stage.shard.start_timetable(slot, now);
    }
    stage
}

/// What it takes of the thread to follow the plan with one more change, in nanoseconds a device: the median of several times, of
/// which the last one stays.
fn takes(stage: &mut Stage, what: &str, set: Setting) -> u64 {
    let (now, blueprint) = (stage.shard.world.time(), Arc::clone(&stage.blueprint));
    let before = stage.plan.clone();
    let mut after = before.clone();
    after.set(now, set);
    let [before, after] = [before, after].map(Arc::new);
    let mut took: Vec<Span> = (0..11)
        .map(|_| {
            stage.shard.take_course(Arc::new(Course::new(Arc::clone(&before), &blueprint)), now);
            // A thread of its own compiles it.
            let course = Arc::new(Course::new(Arc::clone(&after), &blueprint));
            let begun = cpu_time();
            stage.shard.take_course(course, now);
            Span(cpu_time().0 - begun.0)
        })
        .collect();
    took.sort_unstable();
    let nanos = took[took.len() / 2].0 * 1_000 / u64::from(DEVICES);
    println!("FIGURE a new version of the plan {what}: {nanos} ns a device");
    nanos
}

#[test]
fn a_new_version_of_the_plan_takes_little_of_each_device() {
    let mut stage = stage();
    let due = |stage: &Stage| stage.shard.rows(FIRST)[0].next_due;
    let leaves = |stage: &Stage, slot: Slot| stage.shard.roster.devices[slot].times.leave_at;
    let (now, begun) = (stage.shard.world.time(), due(&stage));
    assert!(begun > now && begun < Micros::NEVER, "{begun:?}");

    let took = takes(&mut stage, "with a device less", Setting::Devices(DEVICES - 1));
    let last = stage.shard.roster.devices.last().unwrap();
    assert_eq!((leaves(&stage, FIRST), leaves(&stage, last)), (Micros::NEVER, now));
    assert!(took <= DEVICE_MAX, "{took} ns");

    let twice = Setting::Rate { group: None, stream: None, factor: Some(Factor(2_000_000)), over: Span::ZERO };
    let took = takes(&mut stage, "with all streams twice as fast", twice);
    assert!(due(&stage) < begun, "{:?} {begun:?}", due(&stage));
    assert!(took <= STREAM_MAX, "{took} ns");

    let took = takes(&mut stage, "with a phase", Setting::Phase(0));
    assert_eq!(due(&stage), begun);
    assert!(took <= NOBODY_MAX, "{took} ns");
}
