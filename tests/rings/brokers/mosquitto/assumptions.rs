//! The broker that the other tests of this ring rely on does what they assume of it.

use std::time::Duration;

use rumqttc::{Client, ConnAck, ConnectReturnCode, Connection, ConnectionError, Event, MqttOptions, Packet, QoS};
use tests::mosquitto::{Installation, Mosquitto, Settings};

use crate::PATIENCE;

fn options(broker: &Mosquitto, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, "127.0.0.1", broker.port());
    options.set_keep_alive(Duration::from_secs(30));
    options
}

/// A session that the broker keeps while it is away.
fn persistent(broker: &Mosquitto, id: &str) -> (Client, Connection) {
    let mut options = options(broker, id);
    options.set_clean_session(false);
    Client::new(options, 16)
}

/// Polls until a packet that `wanted` turns into something.
#[track_caller]
fn wait_for<T>(connection: &mut Connection, mut wanted: impl FnMut(Packet) -> Option<T>) -> T {
    loop {
        let event = connection.recv_timeout(PATIENCE).expect("no event in time").expect("the connection broke");
        if let Event::Incoming(packet) = event
            && let Some(found) = wanted(packet)
        {
            return found;
        }
    }
}

/// Subscribes a persistent session, and publishes to it while it is away.
fn leave_messages(broker: &Mosquitto, count: u8) {
    let (observer, mut inbox) = persistent(broker, "observer");
    observer.subscribe("a/#", QoS::AtLeastOnce).unwrap();
    wait_for(&mut inbox, |packet| matches!(packet, Packet::SubAck(_)).then_some(()));
    drop(inbox);

    let (device, mut connection) = Client::new(options(broker, "device"), 300);
    for number in 0..count {
        device.publish("a/b", QoS::AtLeastOnce, false, [number]).unwrap();
    }
    for _ in 0..count {
        wait_for(&mut connection, |packet| matches!(packet, Packet::PubAck(_)).then_some(()));
    }
}

#[test]
fn a_stopped_broker_keeps_what_it_acknowledged() {
    let mut broker = Mosquitto::start(Settings::new().unwrap().persistent()).unwrap();
    leave_messages(&broker, 50);
    assert!(broker.stop().unwrap().success());
    broker.start_again().unwrap();

    let (_observer, mut inbox) = persistent(&broker, "observer");
    for number in 0..50 {
        let publish = wait_for(&mut inbox, |packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        });
        assert_eq!(publish.payload[..], [number]);
    }
}

#[test]
fn a_killed_broker_loses_what_it_had_not_written() {
    let mut broker = Mosquitto::start(Settings::new().unwrap().persistent()).unwrap();
    leave_messages(&broker, 50);
    broker.kill().unwrap();
    broker.start_again().unwrap();

    let (_observer, mut inbox) = persistent(&broker, "observer");
    let session_present = wait_for(&mut inbox, |packet| match packet {
        Packet::ConnAck(ConnAck { session_present, .. }) => Some(session_present),
        _ => None,
    });
    assert!(!session_present);
}

#[test]
fn a_password_file_admits_its_users_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passwords");
    Installation::find_or_unpack().unwrap().write_password_file(&file, "fleet", "secret").unwrap();
    let broker = Mosquitto::start(Settings::new().unwrap().password_file(&file)).unwrap();

    let mut right = options(&broker, "right");
    right.set_credentials("fleet", "secret");
    let (_client, mut connection) = Client::new(right, 16);
    wait_for(&mut connection, |packet| matches!(packet, Packet::ConnAck(_)).then_some(()));

    let (_client, mut refused) = Client::new(options(&broker, "nobody"), 16);
    let error = refused.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized)), "{error:?}");
}
