//! The fleet on rumqttc's clients against a real broker on loopback: the same accounts, and the same messages.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]

#[path = "common/run.rs"]
mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use device_sim::{
    clock::Clock,
    engine::{Engine, Kind, Options, StartError},
};
use fleet_contract::{plan::Setting, stamp::Stamp, time::Micros, units::Span};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use run::{Run, TestBroker, assignment};

fn start(devices: u32, threads: usize, extra: &str) -> Run {
    Run::start(Kind::Rumqttc, devices, threads, &format!("  observe: none\n{extra}"))
}

#[test]
fn every_message_of_qos_1_and_2_is_acknowledged() {
    for threads in [1, 3] {
        let run = start(40, threads, "");
        run.until_connected(40);
        run.until_sent(2_000);
        let stats = run.drain();
        for messages in &stats.messages {
            assert!(messages.sent > 200, "{messages:?}");
            assert_eq!((messages.withheld, messages.abandoned, messages.resent), (0, 0, 0));
            assert_eq!(messages.unobserved, messages.sent);
        }
        assert_eq!(stats.messages[0].acknowledged, 0);
        assert_eq!(stats.messages[1].acknowledged, stats.messages[1].sent);
        assert_eq!(stats.messages[2].acknowledged, stats.messages[2].sent);
        assert_eq!(stats.latency.publish_ack.count(), stats.messages[1].sent + stats.messages[2].sent);
        assert_eq!(stats.latency.schedule_lag.count(), stats.all_messages().offered);
        assert_eq!((stats.connections.accepted, stats.latency.connect.count()), (40, 40));
        assert_eq!((stats.devices.connected, stats.connections.unsolicited), (0, 0));
        assert!(stats.connections.lost.is_empty(), "{:?}", stats.connections.lost);
    }
}

#[test]
fn scaling_touches_only_the_devices_that_come_or_go() {
    let run = start(20, 2, "");
    run.until_connected(20);
    for devices in [61, 7, 101, 1, 0, 13] {
        run.set(Setting::Devices(devices));
        run.until("the new number of devices", |reading| {
            reading.stats.devices.connected == devices && reading.stats.devices.leaving == 0
        });
    }
    let stats = run.drain();
    assert_eq!(stats.connections.reconnects, 0);
    assert_eq!(stats.connections.accepted, 20 + 41 + 94 + 13);
    assert!(stats.connections.lost.is_empty(), "{:?}", stats.connections.lost);
}

#[test]
fn pause_and_interval_follow_the_plan() {
    let run = start(10, 1, "");
    run.until_sent(100);
    run.set(Setting::Paused(true));
    let paused = run.engine.stats();
    let before = paused.stats.all_messages().offered;
    run.until("half a second", |reading| reading.at.since(paused.at) > Span::from_millis(500));
    let stats = run.engine.stats().stats;
    // What was due just before the pause may be offered just after it.
    assert!(stats.all_messages().offered <= before + 10, "{} after {before}", stats.all_messages().offered);
    assert_eq!(stats.devices.connected, 10);
    run.set(Setting::Paused(false));
    run.set(Setting::Interval { stream: Some("one".into()), interval: Some(Span::from_millis(20)) });
    let before = run.engine.stats();
    run.until("five times the messages", |reading| {
        let elapsed = reading.at.since(before.at).as_secs_f64();
        let sent = reading.stats.messages[1].sent - before.stats.messages[1].sent;
        elapsed > 1.0 && (sent as f64 / elapsed - 500.0).abs() < 50.0
    });
    run.drain();
}

#[test]
fn what_a_broken_connection_costs_is_counted() {
    for (session, is_clean) in [("clean", true), ("persistent", false)] {
        let mut run = start(
            20,
            2,
            &format!("  connect: {{session: {session}, backoff: {{base: 100ms, cap: 500ms}}}}\n  lossAfter: 3s\n"),
        );
        run.until_sent(500);
        run.broker.stop();
        let down = run.until("the loss of all connections", |reading| reading.stats.devices.connected == 0);
        assert_eq!(down.connections.lost.values().sum::<u64>(), 20);
        run.until("a refused attempt", |reading| reading.stats.connections.failed.contains_key("connection_refused"));
        run.broker.resume();
        let back = run.until_connected(20);
        run.until_sent(back.all_messages().sent + 500);
        let stats = run.drain();
        assert_eq!((stats.connections.reconnects, stats.latency.recovery.count()), (20, 20));
        assert!(stats.all_messages().withheld_offline > 0);
        for messages in &stats.messages[1..] {
            assert_eq!(messages.sent, messages.acknowledged + messages.abandoned, "{messages:?}");
            // rumqttc sends again what a clean session would have forgotten, never otherwise.
            assert!(!is_clean || messages.resent == 0, "{messages:?}");
        }
    }
}

#[test]
fn what_fell_due_offline_is_caught_up_with() {
    let mut run = start(
        5,
        1,
        "  offline: {catchUp: {max: 3}}\n  connect: {backoff: {base: 500ms, cap: 500ms}}\n  lossAfter: 3s\n",
    );
    run.until_sent(100);
    run.broker.stop();
    let down = run.until("the loss of all connections", |reading| reading.stats.devices.connected == 0);
    run.until("more than can be caught up with", |reading| {
        reading.stats.all_messages().withheld_offline > down.all_messages().withheld_offline + 20
    });
    run.broker.resume();
    let back = run.until_connected(5);
    run.until_sent(back.all_messages().sent + 100);
    let stats = run.drain();
    let all = stats.all_messages();
    assert_eq!(all.withheld, all.withheld_offline);
    // They carry the due instants of the outage.
    assert!(stats.latency.publish_ack.max().unwrap() > Span::from_millis(100));
}

#[test]
fn a_device_tells_what_it_does() {
    let run = start(5, 2, "");
    run.until_sent(100);
    let status = run.engine.device(3).unwrap();
    assert_eq!((status.client_id.as_str(), status.state.as_str()), ("f-3", "up"));
    assert_eq!((status.streams.len(), status.sessions), (3, 1));
    assert!(status.streams[0].payload.contains("temperature"), "{status:?}");
    assert!(run.engine.device(5).is_none());
    run.drain();
    assert!(run.engine.device(3).is_none());
}

#[test]
fn an_engine_that_follows_nothing_cannot_observe() {
    let clock = Clock::new();
    let assignment = assignment(([127, 0, 0, 1], 1).into(), 1, "", &clock);
    let error = Engine::start(&assignment, &Options { kind: Kind::Rumqttc, threads: 1, clock, ..Options::default() })
        .unwrap_err();
    assert!(matches!(error, StartError::CannotObserve("all")), "{error}");
    assert!(error.to_string().contains("`observe: none`"), "{error}");
}

#[test]
fn an_engine_that_only_publishes_cannot_subscribe() {
    let clock = Clock::new();
    let mut assignment = assignment(([127, 0, 0, 1], 1).into(), 1, "  observe: none", &clock);
    let subscriptions = serde_json::json!([{"topic": "commands/{id}"}]);
    assignment.fleet.spec.groups[0].subscriptions = serde_json::from_value(subscriptions).unwrap();
    let error = Engine::start(&assignment, &Options { kind: Kind::Rumqttc, threads: 1, clock, ..Options::default() })
        .unwrap_err();
    assert!(matches!(&error, StartError::CannotSubscribe(group) if group == "all"), "{error}");
}

#[test]
fn kinds_have_names() {
    assert_eq!("rumqttc".parse(), Ok(Kind::Rumqttc));
    assert_eq!((Kind::Native.to_string(), Kind::default()), ("native".into(), Kind::Native));
    assert_eq!(serde_json::to_string(&Kind::Rumqttc).unwrap(), "\"rumqttc\"");
}

#[test]
fn it_stops_in_the_midst_of_everything_and_inside_a_runtime() {
    let run = start(30, 2, "");
    run.until_sent(50);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { run.engine.stop() });
}

/// What a subscriber sees: by topic and due instant, the payload without its stamp.
type Seen = BTreeMap<String, BTreeMap<Micros, String>>;

/// Both engines run the same assignment at the same time, each with a broker of its own.
#[test]
fn a_subscriber_sees_the_same_messages_from_both_engines() {
    let clock = Clock::new();
    let brokers = [TestBroker::start(), TestBroker::start()];
    let arrivals = brokers.each_ref().map(|broker| subscribe(broker.address));
    let mut assignments =
        brokers.each_ref().map(|broker| assignment(broker.address, 10, "  seed: 11\n  observe: none\n", &clock));
    assignments[1].plan = assignments[0].plan.clone();
    let kinds = [Kind::Native, Kind::Rumqttc];
    let engines = [0, 1].map(|number| {
        Engine::start(&assignments[number], &Options { kind: kinds[number], threads: 1, clock, ..Options::default() })
            .unwrap()
    });
    for engine in &engines {
        run::until(engine, "enough messages", |reading| reading.stats.all_messages().sent >= 500);
    }
    engines.iter().for_each(Engine::drain);
    let sent = engines
        .each_ref()
        .map(|engine| run::until(engine, "the fleet drained", |reading| reading.is_drained).all_messages().sent);
    let [native, rumqttc] = [0, 1].map(|number| collect(&arrivals[number], sent[number]));

    assert_eq!(native.keys().collect::<Vec<_>>(), rumqttc.keys().collect::<Vec<_>>());
    assert_eq!(native.len(), 30);
    let mut compared = 0;
    for (topic, ours) in &native {
        let theirs = &rumqttc[topic];
        // They have not connected, nor left, at the same instant.
        let from = ours.keys().next().max(theirs.keys().next()).unwrap();
        let until = ours.keys().next_back().min(theirs.keys().next_back()).unwrap();
        let both: BTreeSet<_> = ours.range(from..=until).collect();
        assert_eq!(both, theirs.range(from..=until).collect(), "{topic}");
        compared += both.len();
    }
    assert!(compared > 300, "only {compared} messages could be compared");
}

/// Subscribes to everything and waits until the broker has granted it.
fn subscribe(broker: SocketAddr) -> Receiver<(String, Vec<u8>)> {
    let (client, mut connection) =
        Client::new(MqttOptions::new("subscriber", broker.ip().to_string(), broker.port()), 10);
    client.subscribe("#", QoS::ExactlyOnce).unwrap();
    let (granted, is_granted) = mpsc::channel();
    let (arrivals, arrived) = mpsc::channel();
    thread::spawn(move || {
        for event in connection.iter() {
            let is_wanted = match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => granted.send(()).is_ok(),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    arrivals.send((publish.topic, publish.payload.to_vec())).is_ok()
                }
                Ok(_) => true,
                Err(_) => false,
            };
            if !is_wanted {
                break;
            }
        }
    });
    is_granted.recv_timeout(Duration::from_secs(10)).unwrap();
    arrived
}

fn collect(arrivals: &Receiver<(String, Vec<u8>)>, count: u64) -> Seen {
    let mut seen = Seen::new();
    for _ in 0..count {
        let (topic, payload) = arrivals.recv_timeout(Duration::from_secs(20)).unwrap();
        let stamp = Stamp::find(&payload).unwrap();
        let body = String::from_utf8(payload).unwrap();
        let (content, _) = body.split_once("\"stamp\"").unwrap();
        let before = seen.entry(topic).or_default().insert(stamp.due, content.to_owned());
        assert!(before.is_none(), "two messages of one due instant: {body}");
    }
    seen
}
