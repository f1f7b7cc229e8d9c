//! What some devices or a broker do makes no other device late, though each call of the operating system takes its time.

use std::ops::Range;

use super::{
    Stage,
    played::{Costs, Odd, Trouble},
};
use fleet_contract::{stats::Stats, units::Span};

/// One in nine devices is of the group with large bodies: these are of odd and of even numbers.
const GROUPS: &str = "{name: small, share: 89%, model: small}, {name: large, share: 11%, model: large}";

const SPEC: &str = "  connect: {rate: 5000/s, timeout: 500ms, backoff: {base: 100ms, cap: 200ms}}\n";

/// The most that one message in a hundred may be late: a pause of the loop, and what is done between two looks.
const LAG_P99: Span = Span::from_millis(5);

/// About what a machine of 2026 needs on loopback.
const COSTS: Costs = Costs { open: Span(30), write: Span(6), kibibyte: Span(1), read: Span(3), handshake: Span(150) };

/// Each says when messages are due, how long calls take, and which devices the broker treats badly.
const SEEDS: Range<u64> = 0..5;

/// So many devices with a message each `interval`, of which some have bodies of `size`.
fn stage(seed: u64, devices: u32, interval: &str, size: &str) -> Stage {
    let model = |size: &str| {
        format!(
            "signals: {{x: {{kind: counter, rate: 1}}}}\nstreams:\n  state: {{topic: '{{fleet}}/{{index}}', interval: \
             {interval}, qos: 0, size: {size}, payload: {{json: {{x: '{{x}}'}}}}}}\n"
        )
    };
    let mut stage = Stage::seeded(seed, devices, SPEC, GROUPS, &[("small", &model("200B")), ("large", &model(size))]);
    (stage.shard.world.costs, stage.shard.world.seed) = (COSTS, seed);
    stage
}

#[track_caller]
fn check_lag(seed: u64, stats: &Stats) {
    let lag = &stats.latency.schedule_lag;
    assert!(lag.count() >= 1_000, "seed {seed}: only {} messages", lag.count());
    let p99 = lag.quantile(0.99).unwrap();
    assert!(p99 <= LAG_P99, "seed {seed}: schedule lag p99 {p99}, at most {:?}", lag.max());
}

/// With a broker that lets some of the devices never connect, over a layer of its own or not.
#[track_caller]
fn check_without_some(odd: Odd, is_layered: bool) {
    for seed in SEEDS {
        let mut stage = stage(seed, 100, "100ms", "200B");
        (stage.shard.world.is_layered, stage.shard.world.odd) = (is_layered, odd);
        stage.run(Span::from_secs(10));
        let stats = stage.measured();
        let failed: u64 = stats.connections.failed.values().sum();
        assert!(
            failed >= 100 && stats.all_messages().sent >= 5_000,
            "seed {seed}: {failed} attempts failed, {:?}",
            stats.all_messages()
        );
        check_lag(seed, &stats);
    }
}

#[test]
fn a_broker_that_does_not_answer_some_delays_nobody_else() {
    check_without_some(Odd::Silent, false);
}

#[test]
fn handshakes_that_drag_on_delay_nobody_else() {
    check_without_some(Odd::Dragging, true);
}

#[test]
fn a_broker_that_stops_reading_from_some_delays_nobody_else() {
    for seed in SEEDS {
        let mut stage = stage(seed, 100, "100ms", "200KiB");
        stage.shard.world.odd = Odd::Deaf;
        stage.run(Span::from_secs(10));
        let stats = stage.measured();
        let all = stats.all_messages();
        // What a socket does not take waits, then is withheld: the broker's side has stopped.
        assert!(all.withheld >= 90 && all.sent >= 5_000, "seed {seed}: {all:?}");
        check_lag(seed, &stats);
    }
}

#[test]
fn a_thousand_that_come_back_at_once_delay_nobody() {
    for seed in SEEDS {
        let mut stage = stage(seed, 1_000, "2s", "200B");
        stage.run(Span::from_secs(4));
        assert_eq!(stage.shard.counted.stats.devices.connected, 1_000, "seed {seed}");
        stage.shard.world.trouble(Trouble::DropAll);
        stage.run(Span::from_secs(4));
        let stats = stage.measured();
        assert_eq!((stats.devices.connected, stats.connections.reconnects), (1_000, 1_000), "seed {seed}");
        check_lag(seed, &stats);
    }
}

#[test]
fn a_thousand_handshakes_at_once_delay_nobody() {
    for seed in SEEDS {
        let mut stage = stage(seed, 1_000, "2s", "200B");
        stage.shard.world.is_layered = true;
        stage.run(Span::from_secs(4));
        assert_eq!(stage.shard.counted.stats.devices.connected, 1_000, "seed {seed}");
        stage.shard.world.trouble(Trouble::DropAll);
        stage.run(Span::from_secs(4));
        let stats = stage.measured();
        assert_eq!((stats.devices.connected, stats.connections.reconnects), (1_000, 1_000), "seed {seed}");
        check_lag(seed, &stats);
    }
}

#[test]
fn large_messages_of_some_delay_nobody_else() {
    for seed in SEEDS {
        let mut stage = stage(seed, 100, "200ms", "1MB");
        stage.run(Span::from_secs(10));
        let stats = stage.measured();
        assert!(
            stats.bytes.sent > 200_000_000,
            "seed {seed}: {} bytes were sent: few of them in large messages",
            stats.bytes.sent
        );
        check_lag(seed, &stats);
    }
}
