//! What happens to some devices does not delay the timetables of the others.
//!
//! Schedule lag counts from the instant at which a message was meant to be sent, for every message of every device, so
//! that a loop that was held up once shows in all that fell due meanwhile. A slow TLS handshake is in `handshakes.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]

mod peer;
#[path = "../common/until.rs"]
mod until;

use std::{collections::BTreeMap, net::SocketAddr, sync::Mutex};

use device_sim::{
    clock::Clock,
    engine::{Engine, Kind, Options},
    transport::make_room,
};
use fleet_contract::{
    document,
    fleet::Fleet,
    format::Format,
    model::Model,
    plan::{Plan, Shard},
    stats::{Stats, WorkerStats},
    units::Span,
    worker::Assignment,
};
use peer::{Odd, Peer};
use until::until;

/// Two fleets at once would delay each other, which is what is measured.
static ALONE: Mutex<()> = Mutex::new(());

/// The most that one message in a hundred may be late.
const LAG_P99: Span = Span::from_millis(20);

/// A fleet of `devices`, one in nine of them with bodies of `size`: these are of odd and of even numbers, so
/// that a connection more or less at the peer leaves some of them among those that it treats badly.
fn start(peer: SocketAddr, devices: u32, interval: &str, size: &str) -> Engine {
    let fleet = format!(
        "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: f}}\nspec:\n  devices: {devices}\n  \
         broker: {{url: \"mqtt://{peer}\"}}\n  observe: none\n  connect: {{rate: 5000/s, timeout: 500ms, \
         backoff: {{base: 100ms, cap: 200ms}}}}\n  groups: [{{name: small, share: 89%, model: small}}, \
         {{name: large, share: 11%, model: large}}]\n"
    );
    let model = |size: &str| {
        format!(
            "signals:\n  level: {{kind: sine, mean: 10, amplitude: 2, period: 1m}}\nstreams:\n  state: {{topic: \
             \"{{fleet}}/{{index}}\", interval: {interval}, qos: 0, size: {size}, payload: {{json: {{level: \
             \"{{level}}\"}}}}}}\n"
        )
    };
    let (mut fleet, _) = document::read::<Fleet>("fleet.yaml", &fleet).unwrap_or_else(|problems| panic!("{problems}"));
    for (name, size) in [("small", "200B"), ("large", size)] {
        let read = document::read::<Model>("model.yaml", &model(size));
        fleet.spec.models.insert(name.into(), read.unwrap_or_else(|problems| panic!("{problems}")).0);
    }
    let clock = Clock::new();
    let plan = Plan::new(7, clock.now(), devices);
    let shard = Shard { first: 0, devices };
    let assignment = Assignment { format: Format::FIRST, fleet, plan, shard, files: BTreeMap::new() };
    Engine::start(&assignment, &Options { kind: Kind::Native, threads: 1, clock, ..Options::default() }).unwrap()
}

/// The schedule lag is the engine's, the noise is the machine's: the best of three runs counts.
#[track_caller]
fn check_lag(run: impl Fn() -> Stats) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let lag = run().latency.schedule_lag;
        assert!(lag.count() >= 100, "only {} messages", lag.count());
        let p99 = lag.quantile(0.99).unwrap();
        if p99 < LAG_P99 {
            return;
        }
        seen.push(p99);
    }
    panic!("schedule lag p99 in seconds, three times: {seen:?}");
}

fn sent(stats: &Stats) -> u64 {
    stats.all_messages().sent
}

#[test]
fn a_broker_that_does_not_answer_some_delays_nobody_else() {
    let _alone = ALONE.lock();
    check_lag(|| {
        let peer = Peer::start(Odd::Silent);
        let engine = start(peer.address, 100, "100ms", "200B");
        let stats = until(&engine, "many attempts and messages", |reading| {
            reading.stats.connections.failed.values().sum::<u64>() >= 50 && sent(&reading.stats) >= 500
        });
        engine.stop();
        stats
    });
}

#[test]
fn a_broker_that_stops_reading_from_some_delays_nobody_else() {
    let _alone = ALONE.lock();
    check_lag(|| {
        let peer = Peer::start(Odd::Deaf);
        let engine = start(peer.address, 100, "100ms", "1MB");
        // What a socket does not take waits, then is withheld: the broker's side has stopped.
        let stats = until(&engine, "messages that are withheld", |reading| {
            reading.stats.all_messages().withheld >= 50 && sent(&reading.stats) >= 1_000
        });
        engine.stop();
        stats
    });
}

#[test]
fn ten_thousand_that_come_back_at_once_delay_nobody() {
    let _alone = ALONE.lock();
    // Both ends of each connection are open files of this process.
    let open_files = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let devices = u32::try_from((open_files - 500) / 2).unwrap().min(10_000);
    make_room(2 * devices);
    check_lag(|| {
        let peer = Peer::start(Odd::Served);
        let engine = start(peer.address, devices, "2s", "200B");
        let connected = |reading: &WorkerStats| reading.stats.devices.connected == devices;
        until(&engine, "all are connected", connected);
        peer.hang_up();
        let stats = until(&engine, "all are back", |reading| {
            reading.stats.connections.reconnects == u64::from(devices) && connected(reading)
        });
        engine.stop();
        stats
    });
}

#[test]
fn large_messages_of_some_delay_nobody_else() {
    let _alone = ALONE.lock();
    check_lag(|| {
        let peer = Peer::start(Odd::Served);
        let engine = start(peer.address, 100, "200ms", "1MB");
        let stats = until(&engine, "many messages", |reading| sent(&reading.stats) >= 1_000);
        assert!(stats.bytes.sent > 50_000_000, "{} bytes were sent: few of them in large messages", stats.bytes.sent);
        engine.stop();
        stats
    });
}
