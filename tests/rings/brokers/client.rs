//! A client of another make, that looks at a broker from beside the fleet.

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, Publish, QoS};
use tests::peer::Peer;

use crate::PATIENCE;

/// A client of MQTT 3.1.1 with a clean session.
pub(crate) fn connect(broker: &dyn Peer, id: &str) -> (Client, Connection) {
    Client::new(MqttOptions::new(id, "127.0.0.1", broker.port()), 16)
}

/// Has the broker keep a message of any size for whoever subscribes later.
#[track_caller]
pub(crate) fn retain(broker: &dyn Peer, topic: &str, body: Vec<u8>) {
    let mut options = MqttOptions::new("keeper", "127.0.0.1", broker.port());
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut connection) = Client::new(options, 16);
    client.publish(topic, QoS::AtLeastOnce, true, body).unwrap();
    wait_for(&mut connection, |packet| matches!(packet, Packet::PubAck(_)).then_some(()));
}

/// Whether the broker has kept a session of this client id; it has one from then on.
#[track_caller]
pub(crate) fn has_session(broker: &dyn Peer, id: &str) -> bool {
    let mut options = MqttOptions::new(id, "127.0.0.1", broker.port());
    options.set_clean_session(false);
    let (_client, mut connection) = Client::new(options, 16);
    wait_for(&mut connection, |packet| match packet {
        Packet::ConnAck(answer) => Some(answer.session_present),
        _ => None,
    })
}

/// Polls until a packet that `wanted` turns into something.
#[track_caller]
pub(crate) fn wait_for<T>(connection: &mut Connection, mut wanted: impl FnMut(Packet) -> Option<T>) -> T {
    loop {
        let event = connection.recv_timeout(PATIENCE).expect("no event in time").expect("the connection broke");
        if let Event::Incoming(packet) = event
            && let Some(found) = wanted(packet)
        {
            return found;
        }
    }
}

/// A client that is subscribed to `filter` at QoS 1.
#[track_caller]
pub(crate) fn subscribed(broker: &dyn Peer, id: &str, filter: &str) -> (Client, Connection) {
    let (client, mut connection) = connect(broker, id);
    client.subscribe(filter, QoS::AtLeastOnce).unwrap();
    wait_for(&mut connection, |packet| matches!(packet, Packet::SubAck(_)).then_some(()));
    (client, connection)
}

/// The next message.
#[track_caller]
pub(crate) fn message(connection: &mut Connection) -> Publish {
    wait_for(connection, |packet| match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    })
}
