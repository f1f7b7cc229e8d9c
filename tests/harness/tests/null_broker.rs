//! The null broker acknowledges what a real client sends, counts it, and echoes when told to.

use std::{io::Write, net::TcpStream, thread, time::Duration};

use rumqttc::{Client, Connection, Event, MqttOptions, Outgoing, Packet, QoS};
use tests::{
    null_broker::{NullBroker, Routing, Settings},
    process::Signal,
};

use super::PATIENCE;

fn start(routing: Routing) -> (tempfile::TempDir, NullBroker) {
    let logs = tempfile::tempdir().unwrap();
    let broker = NullBroker::start(Settings { routing, ..Settings::default() }, logs.path()).unwrap();
    (logs, broker)
}

fn client(broker: &NullBroker, id: &str) -> (Client, Connection) {
    let mut options = MqttOptions::new(id, "127.0.0.1", broker.port());
    options.set_keep_alive(Duration::from_secs(30)).set_max_packet_size(1 << 20, 1 << 20);
    Client::new(options, 16)
}

/// Polls until `wanted` has accepted `count` events.
fn wait_for(connection: &mut Connection, count: usize, mut wanted: impl FnMut(&Event) -> bool) {
    let mut seen = 0;
    while seen < count {
        let event = connection.recv_timeout(PATIENCE).expect("no event in time").expect("the connection broke");
        seen += usize::from(wanted(&event));
    }
}

#[test]
fn every_quality_of_service_is_acknowledged_and_counted() {
    let (_logs, broker) = start(Routing::Discard);
    let (client, mut connection) = client(&broker, "device");
    let qualities = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce];
    for (index, qos) in qualities.into_iter().enumerate() {
        // From a few bytes to several reads.
        client.publish("a/b", qos, false, vec![0; [10, 100, 1_000, 100_000][index]]).unwrap();
    }
    wait_for(&mut connection, 3, |event| matches!(event, Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))));
    let counters = broker.counters().unwrap();
    assert_eq!(["sessions", "qos0", "qos1", "qos2"].map(|name| counters.get(name)), [1, 1, 2, 1]);
    assert_eq!(counters.messages(), 4);
    assert!(counters.get("bytes_in") > 101_100 && counters.get("protocol_errors") == 0, "{counters:?}");

    client.disconnect().unwrap();
    wait_for(&mut connection, 1, |event| matches!(event, Event::Outgoing(Outgoing::Disconnect)));
    assert_eq!(broker.wait_for_sessions(0, PATIENCE).unwrap().get("closed"), 1);
}

#[test]
fn an_echo_reaches_matching_subscribers_once_in_order() {
    let (_logs, broker) = start(Routing::Echo);
    let (observer, mut inbox) = client(&broker, "observer");
    observer
        .subscribe_many(["a/#", "+/b"].map(|filter| rumqttc::SubscribeFilter::new(filter.into(), QoS::AtLeastOnce)))
        .unwrap();
    wait_for(&mut inbox, 1, |event| matches!(event, Event::Incoming(Packet::SubAck(_))));

    let (device, mut connection) = client(&broker, "device");
    let sender = thread::spawn(move || {
        for number in 0..1_000_u32 {
            for topic in ["a/b", "c/d"] {
                device.publish(topic, QoS::AtLeastOnce, false, number.to_be_bytes()).unwrap();
            }
        }
    });
    let acknowledgements = thread::spawn(move || {
        wait_for(&mut connection, 2_000, |event| matches!(event, Event::Incoming(Packet::PubAck(_))));
    });
    let mut next = 0_u32;
    wait_for(&mut inbox, 1_000, |event| {
        let Event::Incoming(Packet::Publish(publish)) = event else {
            return false;
        };
        assert_eq!((publish.topic.as_str(), &publish.payload[..]), ("a/b", &next.to_be_bytes()[..]));
        next += 1;
        true
    });
    sender.join().unwrap();
    acknowledgements.join().unwrap();
    let counters = broker.counters().unwrap();
    assert_eq!(["qos1", "delivered", "dropped"].map(|name| counters.get(name)), [2_000, 1_000, 0]);
}

#[test]
fn what_is_no_mqtt_ends_its_connection_only() {
    let (_logs, broker) = start(Routing::Discard);
    let (_client, mut connection) = client(&broker, "device");
    wait_for(&mut connection, 1, |event| matches!(event, Event::Incoming(Packet::ConnAck(_))));
    // A TLS handshake, and a PUBLISH that no CONNECT came before (MQTT-3.1.0-1).
    for bytes in [&[0x16, 3, 1, 0, 5, 1][..], &[0x30, 3, 0, 1, b'a']] {
        let mut stranger = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
        stranger.write_all(bytes).unwrap();
    }
    let rejected = || Ok((broker.counters()?.get("protocol_errors") == 2).then_some(()));
    tests::eventually("both strangers were rejected", PATIENCE, rejected).unwrap();
    assert_eq!(broker.counters().unwrap().get("sessions"), 1);
    broker.process().signal(Signal::TERM).unwrap();
}

#[test]
fn thousands_of_sessions_are_held_at_once() {
    let (_logs, broker) = start(Routing::Discard);
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'a'];
    let sessions: Vec<TcpStream> = (0..3_000)
        .map(|_| {
            let mut session = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
            session.write_all(&connect).unwrap();
            session
        })
        .collect();
    let counters = broker.wait_for_sessions(3_000, PATIENCE).unwrap();
    assert!(counters.connects_per_second() > 100.0, "{counters:?}");
    drop(sessions);
    broker.wait_for_sessions(0, PATIENCE).unwrap();
}
