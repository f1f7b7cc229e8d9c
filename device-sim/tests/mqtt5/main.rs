//! Devices of MQTT 5 against a broker with narrow limits: these are kept, and all that it says is counted by name.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]

mod peer;
#[path = "../common/run.rs"]
#[expect(dead_code, reason = "the broker in there speaks 3.1.1")]
mod run;

use std::collections::BTreeSet;

use device_sim::{
    clock::Clock,
    engine::{Engine, Kind, Options, StartError},
};
use fleet_contract::{
    fleet::{Protocol, Qos, RetainHandling, StreamOverride, Subscription},
    model::{MessageProperties, StampMode},
    stamp::Stamp,
    stats::Received,
    units::{Bytes, Span},
    worker::Assignment,
};
use peer::{Answer, FORBIDDEN, Peer, UNHEARD};
use rumqttc::v5::mqttbytes::v5::RetainForwardRule;
use run::until;

const DEVICES: u32 = 5;

/// A fleet whose messages carry their stamp and some properties beside an untouched body.
fn assignment(peer: &Peer, clock: &Clock) -> Assignment {
    let mut assignment = run::assignment(peer.address, DEVICES, "  observe: none", clock);
    let spec = &mut assignment.fleet.spec;
    spec.broker.as_mut().unwrap().protocol = Protocol::V5;
    spec.connect.user_properties.insert("site".into(), "lab".into());
    let properties = MessageProperties {
        content_type: Some("application/json".parse().unwrap()),
        expiry: Some(Span::from_secs(60)),
        response_topic: Some("{fleet}/{index}/answer".parse().unwrap()),
        user: [("who".to_owned(), "{id}".parse().unwrap())].into(),
        ..MessageProperties::default()
    };
    for stream in ["zero", "one", "two"] {
        let (stamp, properties) = (Some(StampMode::Property), Some(properties.clone()));
        let change = StreamOverride { stamp, properties, ..StreamOverride::default() };
        spec.groups[0].streams.insert(stream.into(), change);
    }
    assignment
}

fn start(peer: &Peer) -> Engine {
    let clock = Clock::new();
    Engine::start(&assignment(peer, &clock), &Options { threads: 1, clock, ..Options::default() }).unwrap()
}

#[test]
fn limits_are_kept_and_the_body_is_left_alone() {
    // Receive maximum 2, topic alias maximum 1, maximum packet size 300.
    let peer = Peer::start(b"\x21\x00\x02\x22\x00\x01\x27\x00\x00\x01\x2c", Answer::Accept);
    let clock = Clock::new();
    let mut assignment = assignment(&peer, &clock);
    let two = assignment.fleet.spec.groups[0].streams.get_mut("two").unwrap();
    two.size = Some(Bytes(2_000));
    let engine = Engine::start(&assignment, &Options { threads: 1, clock, ..Options::default() }).unwrap();
    let stats = until(&engine, "messages of each kind", |reading| {
        let [zero, one, two] = &reading.stats.messages;
        zero.sent > 50 && one.acknowledged > 50 && two.withheld > 20
    });
    engine.stop();
    assert_eq!(stats.messages[2].sent, 0, "what is larger than the broker takes is never sent");
    let above = stats.too_large["two"];
    assert!(above.packets > 20 && above.largest > 2_000 && above.limit == 300, "{above:?}");
    assert_eq!(stats.receive_maximum, Some(2));
    assert!(stats.connections.lost.is_empty(), "{:?}", stats.connections.lost);
    let seen = peer.end();
    assert!(seen.outstanding_max <= 2, "{} messages at once", seen.outstanding_max);
    assert_eq!(seen.user_properties, [("site".to_owned(), "lab".to_owned())]);
    for message in &seen.messages {
        let index = message.topic.split('/').nth(1).unwrap();
        // The model's first stream by name is `one`, and the one alias is for it.
        assert!(message.topic == format!("f/{index}/one") || message.topic == format!("f/{index}/zero"));
        assert!(message.alias.is_none() || message.topic.ends_with("/one"));
        assert!(message.payload.ends_with(b"}") && !message.payload.windows(5).any(|bytes| bytes == b"stamp"));
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
        assert_eq!((message.expiry, message.response_topic.clone()), (Some(60), Some(format!("f/{index}/answer"))));
        let user = |name: &str| message.user.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(user("who"), Some(format!("f-{index}").as_str()));
        assert!(user("stamp").and_then(|text| Stamp::parse(text.as_bytes())).is_some_and(|stamp| stamp.run != 0));
    }
    let of_one: Vec<_> = seen.messages.iter().filter(|message| message.topic.ends_with("/one")).collect();
    let named = of_one.iter().filter(|message| message.is_named).count();
    assert!(of_one.len() > 50 && named == DEVICES as usize, "{named} of {} by name", of_one.len());
}

#[test]
fn a_rejection_is_counted_by_its_reason_and_frees_the_window() {
    let peer = Peer::start(b"\x21\x00\x01", Answer::Reject);
    let engine = start(&peer);
    let stats =
        until(&engine, "rejections", |reading| reading.stats.rejected.get("quota_exceeded").is_some_and(|n| *n > 50));
    engine.stop();
    assert_eq!((stats.messages[1].acknowledged, stats.messages[2].acknowledged), (0, 0));
    assert_eq!(peer.end().outstanding_max, 1);
}

/// The fleet, whose devices subscribe to these filters at QoS 2.
fn subscribed(peer: &Peer, filters: &[&str]) -> Engine {
    let clock = Clock::new();
    let mut assignment = assignment(peer, &clock);
    let subscription = |filter: &&str| Subscription {
        topic: (*filter).into(),
        qos: Qos::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
        share: None,
    };
    let subscriptions = &mut assignment.fleet.spec.groups[0].subscriptions;
    subscriptions.extend(filters.iter().map(subscription));
    subscriptions.push(Subscription { no_local: false, share: Some("{fleet}".into()), ..subscription(&"shared") });
    Engine::start(&assignment, &Options { threads: 1, clock, ..Options::default() }).unwrap()
}

#[test]
fn a_filter_is_refused_by_its_reason_and_a_command_of_qos_2_counts_once() {
    let peer = Peer::start(b"", Answer::Accept);
    let engine = subscribed(&peer, &["commands/{id}", FORBIDDEN]);
    let all = u64::from(DEVICES);
    let stats = until(&engine, "commands", |reading| {
        let received = &reading.stats.received;
        received.redelivered == all && received.messages[2] == all && reading.stats.messages[2].acknowledged > 50
    });
    engine.stop();
    let Received { messages, payload_bytes, redelivered: _, granted, refused, .. } = stats.received;
    assert_eq!((messages, payload_bytes, granted), ([0, 0, all], 5 * all, 2 * all));
    assert_eq!(refused, [("not_authorized".to_owned(), all)].into());
    assert!(stats.connections.lost.is_empty(), "{:?}", stats.connections.lost);
    let seen = peer.end();
    assert_eq!(seen.subscriptions.len(), DEVICES as usize, "one SUBSCRIBE of each device");
    let mut own = BTreeSet::new();
    for filters in &seen.subscriptions {
        let [commands, forbidden, shared] = &filters[..] else { panic!("{filters:?}") };
        own.insert(commands.path.as_str());
        assert_eq!((forbidden.path.as_str(), shared.path.as_str()), (FORBIDDEN, "$share/f/shared"));
        assert_eq!((commands.qos as u8, commands.nolocal, shared.nolocal), (2, true, false));
        assert!(commands.preserve_retain && commands.retain_forward_rule == RetainForwardRule::OnNewSubscribe);
    }
    assert_eq!(own, BTreeSet::from(["commands/f-0", "commands/f-1", "commands/f-2", "commands/f-3", "commands/f-4"]));
}

#[test]
fn what_the_broker_does_not_offer_is_refused_without_a_question() {
    // Wildcard subscription available 0, shared subscription available 0.
    let peer = Peer::start(b"\x28\x00\x2a\x00", Answer::Accept);
    let engine = subscribed(&peer, &["commands/{id}", "all/#"]);
    let all = u64::from(DEVICES);
    let stats = until(&engine, "grants", |reading| reading.stats.received.granted == all);
    engine.stop();
    let refused = ["shared_subscriptions_not_supported", "wildcard_subscriptions_not_supported"];
    assert_eq!(stats.received.refused, refused.map(|reason| (reason.to_owned(), all)).into());
    assert!(peer.end().subscriptions.iter().all(|filters| filters.len() == 1));
}

#[test]
fn a_subscribe_without_an_answer_holds_nothing_up_and_is_counted() {
    let peer = Peer::start(b"", Answer::Accept);
    let engine = subscribed(&peer, &[UNHEARD]);
    let stats = until(&engine, "messages", |reading| reading.stats.messages[2].acknowledged > 100);
    assert_eq!((stats.received.granted, stats.devices.connected), (0, DEVICES));
    // A hundred messages of five devices, five a second each, have taken longer than the two seconds that a broker gets
    // for an answer. Each device has asked for two filters.
    engine.drain();
    let stats = until(&engine, "the end of the drain", |reading| reading.is_drained);
    assert_eq!(stats.received.unanswered, 2 * u64::from(DEVICES));
    engine.stop();
    assert_eq!(peer.end().subscriptions.len(), DEVICES as usize);
}

#[test]
fn a_broker_that_ends_a_connection_is_counted_with_its_reason() {
    let peer = Peer::start(b"", Answer::Disconnect);
    let engine = start(&peer);
    until(&engine, "lost connections and new ones", |reading| {
        let connections = &reading.stats.connections;
        connections.lost.get("server_shutting_down").is_some_and(|n| *n > 5) && connections.reconnects > 0
    });
    engine.stop();
}

#[test]
fn a_broker_without_qos_2_is_left_by_a_fleet_that_needs_it() {
    let peer = Peer::start(b"\x24\x01", Answer::Accept);
    let engine = start(&peer);
    let stats = until(&engine, "refused devices", |reading| reading.stats.devices.refused == DEVICES);
    engine.stop();
    assert!(stats.connections.refused["qos_not_supported"] >= 5, "{:?}", stats.connections);
    assert_eq!(stats.all_messages().sent, 0);
}

#[test]
fn the_engine_to_compare_with_speaks_3_1_1_only() {
    let peer = Peer::start(b"", Answer::Accept);
    let clock = Clock::new();
    let options = Options { kind: Kind::Rumqttc, threads: 1, clock, ..Options::default() };
    let refused = Engine::start(&assignment(&peer, &options.clock), &options);
    assert!(matches!(refused, Err(StartError::CannotSpeak5)));
}
