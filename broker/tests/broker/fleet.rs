//! Figures of the process as a whole: connects per second, memory per device and reconnect, latency
//! and CPU time under load. Each is printed (`cargo test -p broker fleet -- --nocapture`), and held to its promise where it is
//! not the machine's as well.

#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{CONNECTION_BYTES, RECONNECT_BYTES};
use hdrhistogram::Histogram;
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use crate::client::{Client, PATIENCE};
use crate::process::Process;

const DEVICES: usize = 2_000;
const ROUNDS: usize = 5;

/// Connects the fleet, 200 devices at a time; each subscribes to its commands and reports once.
async fn connect(process: &Process, ids: &str) -> (Vec<Client>, Duration) {
    let since = Instant::now();
    let permits = Arc::new(Semaphore::new(200));
    let mut joining = JoinSet::new();
    for n in 0..DEVICES {
        let (permits, address, id) = (Arc::clone(&permits), process.address, format!("{ids}-{n}"));
        joining.spawn(async move {
            let _permit = permits.acquire().await.unwrap();
            let mut device = Client::connect(address, &id).await;
            let command = format!("fleet/{n}/command");
            device.subscribe(&command, QoS::AtLeastOnce).await;
            let report = format!("fleet/{n}/report");
            device.publish(&report, QoS::AtLeastOnce, &"x".repeat(200)).await;
            device
        });
    }
    let devices = joining.join_all().await;
    (devices, since.elapsed())
}

async fn until_connected(process: &Process, connections: u64) {
    let reached = async {
        while process.metric("simctl_broker_connections") != connections {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("connected in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_fleet_comes_back_fast_and_leaves_little_behind() {
    let process = Process::start(&[]);
    let mut viewer = Client::connect(process.address, "viewer").await;
    viewer.subscribe("fleet/#", QoS::AtMostOnce).await;
    let base = process.resident_kib();
    let mut resident = Vec::new();
    let (mut devices, mut slowest) = connect(&process, "device").await;
    for round in 1..=ROUNDS {
        for _ in 0..DEVICES {
            viewer.message().await;
        }
        until_connected(&process, 1 + DEVICES as u64).await;
        resident.push(process.resident_kib());
        // Killed: no DISCONNECT. The last round brings client ids never seen before.
        drop(devices);
        until_connected(&process, 1).await;
        let ids = if round < ROUNDS { "device" } else { "other" };
        let took;
        (devices, took) = connect(&process, ids).await;
        slowest = slowest.max(took);
    }
    resident.push(process.resident_kib());

    let per_second = DEVICES as f64 / slowest.as_secs_f64();
    let per_device = (resident[0] - base) as f64 / DEVICES as f64;
    let growth = (resident[ROUNDS] - resident[0]) as f64 / (DEVICES * ROUNDS) as f64;
    println!("{DEVICES} devices: at least {per_second:.0} connects/s");
    println!("memory: {base} KiB without devices, then {resident:?} KiB");
    println!("        {per_device:.2} KiB a device, {growth:.3} KiB a reconnect");
    assert!(per_second >= 500.0);
    assert!(per_device * 1024.0 <= CONNECTION_BYTES as f64);
    assert!(growth * 1024.0 <= RECONNECT_BYTES as f64);
    assert_eq!(process.stop("-TERM").code(), Some(0));
}

const PUBLISHERS: usize = 1_000;
const INTERVAL: Duration = Duration::from_millis(100);
const MESSAGES: usize = 40;

/// One device of the load: publishes on its timetable, whether or not it was acknowledged.
async fn publish_on_time(address: std::net::SocketAddr, n: usize, start: tokio::time::Instant) {
    let mut device = Client::connect(address, &format!("device-{n}")).await;
    let phase = INTERVAL * u32::try_from(n).unwrap() / u32::try_from(PUBLISHERS).unwrap();
    let mut due = interval_at(start + phase, INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut acknowledged = 0;
    for sequence in 1..=MESSAGES {
        due.tick().await;
        let stamp = (tokio::time::Instant::now() - start).as_micros();
        let payload = format!("{stamp:0200}");
        let mut publish = Publish::new(format!("load/{n}"), QoS::AtLeastOnce, payload);
        publish.pkid = u16::try_from(sequence).unwrap();
        device.send(Packet::Publish(publish)).await;
        while sequence - acknowledged > 1 {
            assert!(matches!(device.receive().await, Packet::PubAck(_)));
            acknowledged += 1;
        }
    }
    while acknowledged < MESSAGES {
        assert!(matches!(device.receive().await, Packet::PubAck(_)));
        acknowledged += 1;
    }
}

/// The most CPU time that a message may cost the broker, from its publisher to a subscriber with all acknowledgements; without
/// optimization, as tests are compiled. With more, two cores would not carry 10,000 messages a second.
const MESSAGE_MICROS_MAX: f64 = 200.0;

/// Every message must arrive. How soon is the machine's figure as much as the broker's, so it is printed; what it costs is the
/// broker's alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_a_second_arrive_and_cost_little() {
    let process = Process::start(&[]);
    let mut viewer = Client::connect(process.address, "viewer").await;
    viewer.subscribe("load/#", QoS::AtLeastOnce).await;
    let start = tokio::time::Instant::now() + Duration::from_secs(2);
    let mut publishers = JoinSet::new();
    for n in 0..PUBLISHERS {
        publishers.spawn(publish_on_time(process.address, n, start));
    }
    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
    let cpu = process.cpu();
    let all = async {
        while latency.len() < (PUBLISHERS * MESSAGES) as u64 {
            let Packet::Publish(message) = viewer.receive().await else {
                panic!("no message");
            };
            let now = u64::try_from((tokio::time::Instant::now() - start).as_micros()).unwrap();
            let sent: u64 = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
            latency.saturating_record(now.saturating_sub(sent).max(1));
            let pkid = message.pkid;
            viewer.send(Packet::PubAck(PubAck { pkid })).await;
        }
    };
    let finished = timeout(Duration::from_secs(40), all).await;
    assert!(finished.is_ok(), "{} messages arrived", latency.len());
    publishers.join_all().await;
    let quantile = |q| Duration::from_micros(latency.value_at_quantile(q));
    let (p50, p99, max) = (quantile(0.5), quantile(0.99), quantile(1.0));
    let messages = latency.len();
    println!("{messages} messages at 10,000/s, QoS 1: p50 {p50:?}, p99 {p99:?}, max {max:?}");
    let cpu = process.cpu().abs_diff(cpu).as_secs_f64() * 1e6 / messages as f64;
    println!("broker: {cpu:.1} CPU-s a million messages, {} KiB", process.resident_kib());
    assert!(cpu <= MESSAGE_MICROS_MAX, "{cpu:.1} µs a message");
    assert_eq!(process.stop("-TERM").code(), Some(0));
}
