//! The engine against a real broker on loopback: every message is accounted for, whatever happens.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]

#[path = "common/run.rs"]
mod run;

use device_sim::{
    clock::Clock,
    engine::{Engine, Kind, Options},
};
use fleet_contract::{cost::USUAL_PAUSE, plan::Setting, units::Span};
use run::{Run, TestBroker, assignment, until};

#[test]
fn every_message_of_each_qos_arrives_once() {
    for threads in [1, 3] {
        let run = Run::start(Kind::Native, 50, threads, "");
        run.until_connected(50);
        run.until_sent(3_000);
        let stats = run.drain();
        for messages in &stats.messages {
            assert!(messages.sent > 200);
            assert_eq!(messages.delivered + messages.unobserved, messages.sent, "{messages:?}");
            assert_eq!((messages.lost, messages.duplicated, messages.reordered), (0, 0, 0));
        }
        assert_eq!(stats.messages[1].acknowledged, stats.messages[1].sent);
        assert_eq!(stats.messages[2].acknowledged, stats.messages[2].sent);
        assert_eq!(stats.devices.connected, 0);
        assert!(stats.latency.end_to_end.count() >= stats.all_messages().delivered);
        assert_eq!(stats.latency.schedule_lag.count(), stats.all_messages().offered);
    }
}

#[test]
fn a_broker_where_none_may_be_is_not_connected_to() {
    for kind in [Kind::Native, Kind::Rumqttc] {
        let reason = "address_not_allowed";
        let (broker, clock) = (TestBroker::start(), Clock::new());
        let assignment = assignment(broker.address, 3, "  observe: none\n", &clock);
        let allowed_brokers = Some("10.0.0.0/8,localhost".parse().unwrap());
        let options = Options { kind, threads: 1, clock, allowed_brokers, ..Options::default() };
        let engine = Engine::start(&assignment, &options).unwrap();
        let refused =
            |failed: &std::collections::BTreeMap<String, u64>| failed.get(reason).is_some_and(|count| *count >= 3);
        let stats = until(&engine, "each device was held back", |reading| refused(&reading.stats.connections.failed));
        assert_eq!((stats.connections.accepted, stats.devices.failed), (0, 3), "{:?}", stats.connections);
    }
}

#[test]
fn scaling_touches_only_the_devices_that_come_or_go() {
    let run = Run::start(Kind::Native, 20, 2, "");
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
    assert_eq!(stats.all_messages().lost, 0);
}

#[test]
fn a_device_that_comes_back_goes_on_with_its_sequence() {
    let run = Run::start(Kind::Native, 20, 1, "");
    run.until_sent(400);
    let sent = || run.engine.device(19).map_or(0, |device| device.streams[1].sent);
    let before = sent();
    run.set(Setting::Devices(5));
    run.until("the tail is gone", |reading| reading.stats.devices.connected == 5 && reading.stats.devices.leaving == 0);
    run.set(Setting::Devices(20));
    run.until_connected(20);
    let after = sent();
    assert!(before > 0 && after >= before, "{after} after {before}: a sequence is used once in an epoch");
    let stats = run.drain();
    assert_eq!((stats.all_messages().lost, stats.all_messages().duplicated, stats.all_messages().reordered), (0, 0, 0));
}

#[test]
fn a_paused_fleet_stays_connected_and_offers_nothing() {
    let run = Run::start(Kind::Native, 10, 1, "");
    run.until_connected(10);
    run.until_sent(100);
    run.set(Setting::Paused(true));
    let paused = run.clock.now();
    // What fell due just before the pause is offered by the turn of a thread that follows, behind the reading that it gives.
    run.until("a turn in the pause", |reading| reading.begun >= paused.after(USUAL_PAUSE));
    let before = run.engine.stats();
    let offered = before.stats.all_messages().offered;
    run.until("half a second of the pause", |reading| {
        assert_eq!((reading.stats.all_messages().offered, reading.stats.devices.connected), (offered, 10));
        reading.begun >= before.at.after(Span::from_millis(500))
    });
    run.set(Setting::Paused(false));
    run.until_sent(offered + 100);
    run.drain();
}

#[test]
fn a_new_interval_holds_from_its_instant_on() {
    let run = Run::start(Kind::Native, 10, 1, "");
    run.until_connected(10);
    run.set(Setting::Interval { stream: Some("one".into()), interval: Some(Span::from_millis(10)) });
    let before = run.engine.stats();
    // The timetable is kept however late a thread is, so the rate comes as near as one likes: what a late reading differs by
    // does not grow with the time.
    run.until("ten times the messages", |reading| {
        let elapsed = reading.at.since(before.at).as_secs_f64();
        let offered = reading.stats.messages[1].offered - before.stats.messages[1].offered;
        elapsed > 1.0 && (offered as f64 / elapsed - 1_000.0).abs() < 20.0
    });
    run.drain();
}

#[test]
fn a_broker_that_is_gone_and_comes_back_costs_only_what_it_must() {
    let mut run = Run::start(
        Kind::Native,
        30,
        2,
        "  connect: {session: persistent, backoff: {base: 100ms, cap: 500ms}}\n  lossAfter: 3s\n",
    );
    run.until_sent(1_000);
    run.broker.stop();
    run.until("the loss of all connections", |reading| reading.stats.devices.connected == 0);
    run.broker.resume();
    let back = run.until_connected(30);
    run.until_sent(back.all_messages().sent + 500);
    let stats = run.drain();
    assert_eq!(stats.connections.reconnects, 30);
    assert_eq!(stats.latency.recovery.count(), 30);
    assert_eq!(stats.observer.losses, 1);
    // QoS 1 that was not acknowledged was sent again; nothing that was acknowledged after the return is missing.
    assert_eq!(stats.messages[1].acknowledged, stats.messages[1].sent);
    assert!(stats.all_messages().withheld_offline > 0);
}

#[test]
fn a_device_tells_what_it_does() {
    let run = Run::start(Kind::Native, 5, 2, "");
    run.until_sent(100);
    let status = run.engine.device(3).unwrap();
    assert_eq!((status.client_id.as_str(), status.state.as_str()), ("f-3", "up"));
    assert_eq!(status.streams.len(), 3);
    assert!(status.streams[0].payload.contains("temperature"), "{status:?}");
    assert!(run.engine.device(5).is_none());
    run.drain();
}

#[test]
fn without_an_observer_acknowledgements_decide() {
    let run = Run::start(Kind::Native, 10, 1, "  observe: none\n");
    run.until_sent(200);
    let stats = run.drain();
    let all = stats.all_messages();
    assert_eq!((all.observed, all.delivered, all.lost), (0, 0, 0));
    assert_eq!(all.unobserved, all.sent);
    assert_eq!(stats.messages[1].acknowledged, stats.messages[1].sent);
}

#[test]
fn a_sample_is_followed_and_the_rest_is_not() {
    let run = Run::start(Kind::Native, 100, 2, "  observe: sample\n  observer: {sample: 30%}\n");
    run.until_sent(2_000);
    let all = run.drain().all_messages();
    let share = all.observed as f64 / all.sent as f64;
    assert!((0.15..0.45).contains(&share), "{share} of the messages were observed");
    assert_eq!(all.delivered, all.observed);
}

#[test]
fn devices_come_and_go_as_often_as_the_plan_lets_them() {
    let run = Run::start(Kind::Native, 4, 2, "");
    run.until_connected(4);
    let mut plan = (*run.engine.plan()).clone();
    let begin = run.clock.now().after(Span::from_millis(200));
    for (millis, devices) in [(0, 10), (600, 4), (1_200, 10), (1_800, 2)] {
        plan.set(begin.after(Span::from_millis(millis)), Setting::Devices(devices));
    }
    assert!(run.engine.set_plan(plan));
    let stats = run.until("both spikes are over", |reading| {
        reading.at > begin.after(Span::from_millis(1_900)) && reading.stats.devices.connected == 2
    });
    assert_eq!((stats.connections.accepted, stats.connections.reconnects), (4 + 6 + 6, 0));
    assert!(stats.connections.lost.is_empty(), "{:?}", stats.connections.lost);
    assert_eq!((stats.devices.desired, stats.devices.leaving), (2, 0));
}
