//! A session in steady state allocates nothing. A test binary of its own, because its counting
//! allocator is the whole binary's.

#![expect(clippy::unwrap_used, reason = "helpers of a test: the lint only knows the test itself")]

use device_sim::index::StreamIndex;
use device_sim::session::codec::v5::{self, Alias};
use device_sim::session::codec::{Connect, PacketId, Protocol, PublishFrame, Qos, read};
use device_sim::session::{Event, Message, Options, Pool, Resend, Session};
use fleet_contract::time::Micros;

const LONG: &str = "The quick brown fox jumps over the lazy dog, and then once more, because a length of more than \
                    127 bytes takes two bytes to say, which moves what was written.";

/// Of which stream the messages are.
const STREAM: StreamIndex = StreamIndex::new(0);

/// A session that is up, and a broker that answers at once.
struct Rig {
    session: Session,
    pool: Pool,
    options: Options,
    out: Vec<u8>,
    now: Micros,
    seq: u32,
}

impl Rig {
    fn up() -> Self {
        let mut rig = Self {
            session: Session::new(),
            pool: Pool::new(),
            options: Options { clean: false, ..Options::default() },
            out: Vec::new(),
            now: Micros(0),
            seq: 0,
        };
        rig.reconnect(b"\x20\x02\x00\x00");
        rig
    }

    /// A session of MQTT 5 with a receive maximum of 20 and a topic alias maximum of 10.
    fn up5() -> Self {
        let mut rig = Self::up();
        rig.options.protocol = Protocol::V5;
        (rig.options.topic_aliases, rig.options.window) = (10, 32);
        rig.reconnect(b"\x20\x09\x00\x00\x06\x21\x00\x14\x22\x00\x0a");
        rig
    }

    fn reconnect(&mut self, connack: &[u8]) {
        let connect = Connect { client_id: "c", ..Connect::default() };
        self.session.connect(&connect, &self.options, self.now, &mut self.out).unwrap();
        self.receive(connack);
        while let Some(resend) = self.session.next_resend(&mut self.pool) {
            if let Resend::Publish(message) = resend {
                self.write(message.qos, Some(message.packet_id), message.dup);
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let (packet, _) = read(bytes, self.options.protocol, 1_000).unwrap().unwrap();
        let (pool, out) = (&mut self.pool, &mut self.out);
        let event = self.session.receive(pool, &self.options, packet, self.now, out).unwrap();
        assert!(!matches!(event, Event::Unsolicited(_)));
    }

    fn publish(&mut self, qos: Qos) -> Option<PacketId> {
        self.now.0 += 1_000;
        self.seq += 1;
        let message = Message { stream: STREAM, seq: self.seq, due: self.now, qos };
        let packet_id = self.session.publish(&mut self.pool, &self.options, message, self.now).unwrap();
        self.write(qos, packet_id, false);
        packet_id
    }

    fn write(&mut self, qos: Qos, packet_id: Option<PacketId>, dup: bool) {
        self.out.clear();
        let alias = self.session.alias(STREAM, &self.options);
        let mut frame = PublishFrame::begin(&mut self.out, qos, false, dup);
        if !matches!(alias, Alias::Use(_)) {
            self.out.extend_from_slice(b"fleet/7/temperature");
        }
        frame.end_topic(&mut self.out, packet_id);
        if self.options.protocol == Protocol::V5 {
            // So long that their length takes two bytes.
            let write = |out: &mut Vec<u8>| v5::write_user_property(out, "long", LONG);
            frame.write_properties(&mut self.out, alias, write).unwrap();
            self.session.bound(STREAM);
        }
        self.out.extend_from_slice(b"{\"celsius\":21.5}");
        frame.finish(&mut self.out).unwrap();
    }

    /// As many messages as the broker takes at once, one that it rejects, and a ping.
    fn round5(&mut self) {
        self.publish(Qos::AtMostOnce);
        for packet_id in [(); 20].map(|()| self.publish(Qos::AtLeastOnce)) {
            self.acknowledge(0x40, packet_id);
        }
        let packet_id = self.publish(Qos::ExactlyOnce);
        self.acknowledge(0x50, packet_id);
        self.acknowledge(0x70, packet_id);
        let [high, low] = self.publish(Qos::AtLeastOnce).unwrap().get().to_be_bytes();
        self.receive(&[0x40, 3, high, low, 0x97]);
        self.now = self.session.deadline(&self.options).unwrap();
        self.session.expire(&self.options, self.now, &mut self.out).unwrap();
        self.receive(b"\xd0\x00");
    }

    fn acknowledge(&mut self, kind: u8, packet_id: Option<PacketId>) {
        let [high, low] = packet_id.unwrap().get().to_be_bytes();
        self.receive(&[kind, 2, high, low]);
    }

    /// One message of each QoS there and one of QoS 2 back, a ping, a window of messages that
    /// wait for their acknowledgements, and a connection that is lost and taken up again.
    fn round(&mut self) {
        self.publish(Qos::AtMostOnce);
        let packet_id = self.publish(Qos::AtLeastOnce);
        self.acknowledge(0x40, packet_id);
        let packet_id = self.publish(Qos::ExactlyOnce);
        self.acknowledge(0x50, packet_id);
        self.acknowledge(0x70, packet_id);
        self.receive(b"\x34\x06\x00\x01t\x00\x07x");
        self.receive(b"\x62\x02\x00\x07");
        self.now = self.session.deadline(&self.options).unwrap();
        self.session.expire(&self.options, self.now, &mut self.out).unwrap();
        self.receive(b"\xd0\x00");
        let window = [(); 16].map(|()| self.publish(Qos::AtLeastOnce));
        self.session.lost(self.now);
        self.reconnect(b"\x20\x02\x01\x00");
        for packet_id in window {
            self.acknowledge(0x40, packet_id);
        }
    }
}

#[test]
fn a_session_in_steady_state_allocates_nothing() {
    let mut rig = Rig::up();
    // A message that is never released: the list of such is given back when a connection is lost
    // while it is empty.
    rig.receive(b"\x34\x06\x00\x01t\x00\x01x");
    rig.round();
    let allocations = allocation_counter::measure(|| (0..10_000).for_each(|_| rig.round()));
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
    assert!(allocation_counter::measure(|| drop(Rig::up())).count_total > 0, "nothing is counted");
    assert!(rig.seq > 100_000 && rig.pool.is_empty());
}

#[test]
fn a_session_of_mqtt_5_in_steady_state_allocates_nothing() {
    let mut rig = Rig::up5();
    rig.round5();
    let allocations = allocation_counter::measure(|| (0..10_000).for_each(|_| rig.round5()));
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
    assert!(rig.seq > 200_000 && rig.pool.is_empty());
}
