//! A steady load allocates nothing per message: the engine within this process, whose allocations are counted.
//!
//! Only this one test may run in this binary, because the counter counts all of its threads.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{alloc::System, collections::BTreeMap, thread, time::Duration};

use device_sim::{
    clock::Clock,
    engine::{Engine, Options},
};
use fleet_contract::{
    fleet::Fleet,
    format::Format,
    model::Model,
    plan::{Plan, Shard},
    stats::Messages,
    worker::Assignment,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tests::{
    eventually,
    null_broker::{NullBroker, Settings},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const DEVICES: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(30);

/// How long is counted: 200 devices at 10 messages a second send some 12,000 messages in it.
const COUNTED: Duration = Duration::from_secs(6);

fn assignment(url: &str, qos: u8, clock: Clock) -> Assignment {
    let document = format!(
        "{{apiVersion: simctl.io/v1alpha1, kind: Fleet, metadata: {{name: lab}}, spec: {{\
          devices: {DEVICES}, seed: 7, observe: none, broker: {{url: \"{url}\"}}, groups: [{{\
            name: room, share: 100%, model: thermometer, \
            streams: {{reading: {{interval: 100ms, jitter: 0s, qos: {qos}}}}}}}]}}}}"
    );
    let mut fleet: Fleet = serde_saphyr::from_str(&document).unwrap();
    let model: Model = serde_saphyr::from_str(include_str!("../../device-sim/models/thermometer.yaml")).unwrap();
    fleet.spec.models.insert("thermometer".to_owned(), model);
    let plan = Plan::new(1, clock.now(), DEVICES);
    Assignment { format: Format::FIRST, fleet, plan, shard: Shard::of(0, DEVICES), files: BTreeMap::new() }
}

fn messages(engine: &Engine) -> Messages {
    engine.stats().stats.all_messages()
}

/// Awaits that so many messages have been sent.
fn wait_for_messages(engine: &Engine, sent: u64) {
    let enough = || Ok((messages(engine).sent >= sent).then_some(()));
    eventually(&format!("{sent} messages are sent"), PATIENCE, enough).unwrap();
}

/// Messages sent, and allocations made by all threads meanwhile.
fn count(qos: u8) -> (u64, usize) {
    let logs = tempfile::tempdir().unwrap();
    let null = NullBroker::start(Settings::default(), logs.path()).unwrap();
    let options = Options { threads: 1, ..Options::default() };
    let engine = Engine::start(&assignment(&null.url(), qos, options.clock), &options).unwrap();
    null.wait_for_sessions(DEVICES.into(), PATIENCE).unwrap();
    // Buffers have grown to what this load needs.
    wait_for_messages(&engine, 5_000);
    let before = messages(&engine);
    let region = Region::new(ALLOCATOR);
    // What is measured, not a wait for something: nobody asks the engine for anything meanwhile.
    thread::sleep(COUNTED);
    let change = region.change();
    let after = messages(&engine);
    engine.stop();
    if qos == 1 {
        assert!(after.acknowledged > before.acknowledged, "nothing was acknowledged");
    }
    (after.sent - before.sent, change.allocations + change.reallocations)
}

#[test]
fn a_steady_load_allocates_nothing_per_message() {
    for qos in [0, 1] {
        let (sent, allocations) = count(qos);
        println!("QoS {qos}: {allocations} allocations for {sent} messages, seed 7");
        assert!(sent >= 10_000, "QoS {qos}: only {sent} messages were sent");
        assert!(
            (allocations as u64) < sent / 1_000,
            "QoS {qos}: {allocations} allocations for {sent} messages, seed 7"
        );
    }
}
