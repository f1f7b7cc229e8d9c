//! When devices go, the memory that they took goes with them, in a worker that is started as workers are.
//!
//! In a program of its own, because what the kernel counts is a process. What tells on memory here are the devices
//! themselves, their timers and rows, and the messages of QoS 1 in flight, which the peer leaves unanswered.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

#[expect(dead_code, reason = "the peer here treats nobody badly")]
mod peer;
#[expect(dead_code, reason = "the peer here is no broker of ours")]
#[path = "../common/run.rs"]
mod run;

use std::{
    env, fs,
    net::SocketAddr,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use device_sim::{
    clock::Clock,
    engine::{Engine, Kind, Options},
};
use fleet_contract::{plan::Setting, worker::ALLOCATOR};
use peer::{Odd, Peer};
use run::{assignment_of, until};

/// Both ends of a connection are in this process, and some machines allow 20,000 open files.
const MANY: u32 = 9_000;
const FEW: u32 = 10;

/// So many messages are put in flight before memory is looked at.
const IN_FLIGHT: u64 = 6 * MANY as u64;

/// The memory that comes is at least as much, in KiB, so that what stays can be told from noise.
const CAME_MIN: u64 = 4 * 1024;

/// Of what came at most so much may stay: histograms, buffers and the allocator's fragments.
const LEFT_PERCENT: u64 = 40;

const SPEC: &str = "  observe: none\n  lossAfter: 1s\n  connect: {rate: 5000/s}\n";

const MODEL: &str = r#"
signals:
  level: {kind: sine, mean: 10, amplitude: 2, period: 1m}
streams:
  state: {topic: "{fleet}/{index}", interval: 500ms, qos: 1, payload: {json: {level: "{level}"}}}
"#;

fn start(peer: SocketAddr, clock: Clock) -> Engine {
    let assignment = assignment_of(MODEL, peer, FEW, SPEC, &clock);
    Engine::start(&assignment, &Options { kind: Kind::Native, threads: 1, clock, ..Options::default() }).unwrap()
}

/// Scales the fleet, and waits until it is as large as that.
fn scale(engine: &Engine, clock: Clock, devices: u32) {
    let mut plan = (*engine.plan()).clone();
    plan.set(clock.now(), Setting::Devices(devices));
    assert!(engine.set_plan(plan));
    until(engine, "a fleet of that size", |reading| reading.stats.devices.connected == devices);
}

/// The resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn sent(engine: &Engine) -> u64 {
    engine.stats().stats.all_messages().sent
}

/// Waits until no more than `expected` KiB are resident, but not for ever: a sweep gives memory back, a fraction of a
/// second after the last device.
fn settled(expected: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    while resident() > expected && Instant::now() < deadline {
        sleep(Duration::from_millis(20));
    }
    resident()
}

#[test]
fn most_of_the_memory_of_devices_goes_with_them() {
    // The allocator reads its variable when the process starts.
    if env::var_os(ALLOCATOR.0).is_some() {
        return grow_and_shrink();
    }
    let mut again = Command::new(env::current_exe().unwrap());
    let again = again.args(["--nocapture", "most_of_the_memory_of_devices_goes_with_them"]);
    assert!(again.env(ALLOCATOR.0, ALLOCATOR.1).status().unwrap().success());
}

fn grow_and_shrink() {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let needed = 2 * u64::from(MANY) + 500;
    assert!(limit >= needed, "expected {needed} open files for {MANY} devices and their peer, found {limit}");
    let peer = Peer::start(Odd::Served);
    let clock = Clock::new();
    let engine = start(peer.address, clock);
    until(&engine, "a small fleet", |reading| reading.stats.devices.connected == FEW);
    let before = resident();
    // The second time shows what is never given back and adds up.
    for round in 1..=2 {
        scale(&engine, clock, MANY);
        let sent = sent(&engine);
        until(&engine, "messages in flight", |reading| reading.stats.all_messages().sent >= sent + IN_FLIGHT);
        let most = resident();
        let came = most.saturating_sub(before);
        assert!(came >= CAME_MIN, "only {came} KiB came with {MANY} devices: too little to tell");
        scale(&engine, clock, FEW);
        let left = settled(before + came * LEFT_PERCENT / 100);
        assert!(
            left <= before + came * LEFT_PERCENT / 100,
            "round {round}: of {came} KiB that came with {MANY} devices {} KiB stayed",
            left - before
        );
    }
    engine.stop();
}
