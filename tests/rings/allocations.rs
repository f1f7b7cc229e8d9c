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
    null_broker::{NullBroker, Routing, Settings},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const DEVICES: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(30);

/// How long is counted: 200 devices at 10 messages a second send some 12,000 messages in it.
const COUNTED: Duration = Duration::from_secs(6);

/// How long the load goes on before, in which nobody asks for a reading.
const GROWN: Duration = Duration::from_secs(1);

/// What the devices send and how, of which each message counts.
struct Load {
    name: &'static str,
    /// Of the document; `URL` is the broker's.
    spec: &'static str,
    qos: u8,
    /// At 3.1.1 alone, since the null broker takes no SUBSCRIBE of MQTT 5.
    is_observed: bool,
}

const LOADS: [Load; 4] = [
    Load {
        name: "QoS 0",
        spec: "observe: none, broker: {url: 'URL'}, groups: [{name: room, share: 100%, model: thermometer, \
               streams: {reading: {interval: 100ms, jitter: 0s, qos: 0}}}]",
        qos: 0,
        is_observed: false,
    },
    Load {
        name: "QoS 1",
        spec: "observe: none, broker: {url: 'URL'}, groups: [{name: room, share: 100%, model: thermometer, \
               streams: {reading: {interval: 100ms, jitter: 0s, qos: 1}}}]",
        qos: 1,
        is_observed: false,
    },
    Load {
        name: "MQTT 5, QoS 1, two streams",
        spec: "observe: none, broker: {url: 'URL', protocol: '5'}, groups: [{name: room, share: 100%, model: thermometer, \
               streams: {reading: {interval: 100ms, jitter: 0s, qos: 1}, battery: {interval: 100ms, qos: 1}}}]",
        qos: 1,
        is_observed: false,
    },
    Load {
        name: "QoS 1, two streams, all observed",
        spec: "observe: all, broker: {url: 'URL'}, groups: [{name: room, share: 100%, model: thermometer, \
               streams: {reading: {interval: 100ms, jitter: 0s, qos: 1}, battery: {interval: 100ms, qos: 1}}}]",
        qos: 1,
        is_observed: true,
    },
];

/// A second stream of the thermometer.
const BATTERY: &str = r#"
  battery:
    topic: "{fleet}/{id}/battery"
    interval: 1h
    payload: {json: {voltage: "{voltage}"}}
"#;

fn assignment(url: &str, spec: &str, clock: Clock) -> Assignment {
    let spec = spec.replace("URL", url);
    let document = format!(
        "{{apiVersion: simctl.io/v1alpha1, kind: Fleet, metadata: {{name: lab}}, spec: {{devices: {DEVICES}, seed: 7, {spec}}}}}"
    );
    let mut fleet: Fleet = serde_saphyr::from_str(&document).unwrap();
    let text = include_str!("../../device-sim/models/thermometer.yaml");
    let text = if spec.contains("battery") { format!("{text}{BATTERY}") } else { text.to_owned() };
    let model: Model = serde_saphyr::from_str(&text).unwrap();
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
fn count(&Load { spec, qos, is_observed, .. }: &Load) -> (u64, usize) {
    let logs = tempfile::tempdir().unwrap();
    let routing = if is_observed { Routing::Echo } else { Routing::Discard };
    let null = NullBroker::start(Settings { routing, ..Settings::default() }, logs.path()).unwrap();
    let options = Options { threads: 1, ..Options::default() };
    let engine = Engine::start(&assignment(&null.url(), spec, options.clock), &options).unwrap();
    null.wait_for_sessions(u64::from(DEVICES) + u64::from(is_observed), PATIENCE).unwrap();
    // Buffers have grown to what this load needs.
    wait_for_messages(&engine, 5_000);
    let before = messages(&engine);
    // And pages of histograms are taken again of which frequent readings have given back what was not hit between two of them.
    thread::sleep(GROWN);
    let region = Region::new(ALLOCATOR);
    // What is measured, not a wait for something: nobody asks the engine for anything meanwhile.
    thread::sleep(COUNTED);
    let change = region.change();
    let after = messages(&engine);
    engine.stop();
    if qos == 1 {
        assert!(after.acknowledged > before.acknowledged, "nothing was acknowledged");
    }
    assert_eq!(after.delivered > before.delivered, is_observed, "{after:?}");
    (after.sent - before.sent, change.allocations + change.reallocations)
}

#[test]
fn a_steady_load_allocates_nothing_per_message() {
    for load in &LOADS {
        let (name, (sent, allocations)) = (load.name, count(load));
        println!("{name}: {allocations} allocations for {sent} messages, seed 7");
        assert!(sent >= 10_000, "{name}: only {sent} messages were sent");
        // Pages of histograms count that a time hits for the first time: some dozens where a busy machine makes times vary.
        assert!((allocations as u64) < sent / 250, "{name}: {allocations} allocations for {sent} messages, seed 7");
    }
}
