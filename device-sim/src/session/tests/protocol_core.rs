//! The session against an independent implementation: the server of `mqtt-protocol-core`, which
//! reports whatever breaks the protocol.

use std::collections::BTreeMap;

use fleet_contract::qos::Qos;
use fleet_contract::time::Micros;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::Event as TheirEvent;
use mqtt_protocol_core::mqtt::packet::{
    Packet as Theirs, Property, Qos as TheirQos, ReceiveMaximum, SubEntry, TopicAliasMaximum, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::prelude::GenericPacketTrait;
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};
use mqtt_protocol_core::mqtt::{Connection, Version, role};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::codec::v5::{Alias, SubscribeOptions};
use super::super::codec::{self, Connect, Protocol, PublishFrame, Will, read};
use super::super::{Event, Message, Options, Phase, Pool, Resend, Session};
use super::codec_oracle::qos;
use crate::index::StreamIndex;

/// Of which stream the messages are: the one whose topic has an alias.
const STREAM: StreamIndex = StreamIndex::new(0);

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Publish(Qos),
    Downlink(Qos),
    Subscribe,
    Unsubscribe,
    Silence,
    /// So many bytes arrive at the server.
    Upstream(usize),
    /// So many bytes arrive at the device.
    Downstream(usize),
    Resend(usize),
    Lose,
    Disconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop_oneof![0..40_usize, Just(usize::MAX)];
    prop_oneof![
        3 => Just(Step::Connect),
        8 => qos().prop_map(Step::Publish),
        3 => qos().prop_map(Step::Downlink),
        1 => Just(Step::Subscribe),
        1 => Just(Step::Unsubscribe),
        1 => Just(Step::Silence),
        8 => bytes().prop_map(Step::Upstream),
        8 => bytes().prop_map(Step::Downstream),
        4 => (1..4_usize).prop_map(Step::Resend),
        1 => Just(Step::Lose),
        1 => Just(Step::Disconnect),
    ]
}

struct World {
    session: Session,
    pool: Pool,
    options: Options,
    now: Micros,
    seq: u32,
    upstream: Vec<u8>,
    arrived: Vec<u8>,
    downstream: Vec<u8>,
    inbox: Vec<u8>,
    server: Connection<role::Server>,
    receive_maximum: u16,
    has_session: bool,
    /// What the server took in: QoS and number of times, by sequence.
    taken_in: BTreeMap<u32, (TheirQos, u32)>,
    told: Told,
}

/// What the session has told of its messages, by sequence.
#[derive(Default)]
struct Told {
    acknowledged: Vec<u32>,
    abandoned: Vec<u32>,
    accepted: Vec<u32>,
}

impl World {
    fn new(clean: bool, protocol: Protocol, receive_maximum: u16) -> Self {
        let version = match protocol {
            Protocol::V311 => Version::V3_1_1,
            Protocol::V5 => Version::V5_0,
        };
        let mut server = Connection::<role::Server>::new(version);
        server.set_auto_pub_response(true);
        server.set_auto_ping_response(true);
        Self {
            session: Session::new(),
            pool: Pool::new(),
            options: Options { clean, window: 10, protocol, topic_aliases: 1, ..Options::default() },
            receive_maximum,
            now: Micros(0),
            seq: 0,
            upstream: Vec::new(),
            arrived: Vec::new(),
            downstream: Vec::new(),
            inbox: Vec::new(),
            server,
            has_session: false,
            taken_in: BTreeMap::new(),
            told: Told::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        self.now.0 += 1_000;
        match step {
            Step::Connect if self.session.phase() == Phase::Offline => self.connect(),
            Step::Publish(qos) => self.publish(*qos),
            Step::Downlink(qos) => self.downlink(*qos),
            Step::Upstream(bytes) => self.carry_upstream(*bytes),
            Step::Downstream(bytes) => self.carry_downstream(*bytes),
            Step::Resend(packets) => self.resend(*packets),
            Step::Lose => self.lose(),
            Step::Disconnect => self.session.disconnect(self.now, &mut self.upstream),
            Step::Silence => self.keep_alive(),
            Step::Subscribe if self.session.phase() == Phase::Up => {
                self.subscribe();
            }
            Step::Unsubscribe if self.session.phase() == Phase::Up => {
                let (session, out) = (&mut self.session, &mut self.upstream);
                let asked = match self.options.protocol {
                    Protocol::V311 => session.unsubscribe(&self.pool, &["d/+"], self.now, out),
                    Protocol::V5 => session.unsubscribe5(&self.pool, &["d/+"], self.now, out),
                };
                asked.unwrap();
            }
            Step::Connect | Step::Subscribe | Step::Unsubscribe => {}
        }
    }

    fn connect(&mut self) {
        let will = Will { topic: "w", payload: b"gone", qos: Qos::AtLeastOnce, retain: true };
        let connect = Connect { client_id: "c", user: Some("u"), password: Some(b"p"), will: Some(will) };
        self.session.connect(&connect, &self.options, self.now, &mut self.upstream).unwrap();
    }

    fn subscribe(&mut self) {
        let filters = [("d/+", Qos::AtLeastOnce), ("#", Qos::ExactlyOnce)];
        let filters = filters.map(|(filter, qos)| (filter, SubscribeOptions { qos, ..SubscribeOptions::default() }));
        let asked = self.session.subscribe(&self.pool, self.options.protocol, &filters, self.now, &mut self.upstream);
        asked.unwrap();
    }

    fn publish(&mut self, qos: Qos) {
        let message = Message { stream: STREAM, seq: self.seq, due: self.now, qos };
        if let Ok(packet_id) = self.session.publish(&mut self.pool, &self.options, message, self.now) {
            self.write_publish(self.seq, qos, packet_id, false);
            if qos != Qos::AtMostOnce {
                self.told.accepted.push(self.seq);
            }
            self.seq += 1;
        }
    }

    fn write_publish(&mut self, seq: u32, qos: Qos, packet_id: Option<codec::PacketId>, dup: bool) {
        let alias = self.session.alias(STREAM, &self.options);
        let out = &mut self.upstream;
        let mut frame = PublishFrame::begin(out, qos, false, dup);
        if !matches!(alias, Alias::Use(_)) {
            out.push(b't');
        }
        frame.end_topic(out, packet_id);
        if self.options.protocol == Protocol::V5 {
            frame.write_properties(out, alias, |_| Ok(())).unwrap();
            self.session.bound(STREAM);
        }
        out.extend_from_slice(&seq.to_be_bytes());
        frame.finish(out).unwrap();
    }

    fn resend(&mut self, packets: usize) {
        for _ in 0..packets {
            match self.session.next_resend(&mut self.pool) {
                None => return,
                Some(Resend::Release(packet_id)) => codec::write_pubrel(&mut self.upstream, packet_id),
                Some(Resend::Publish(message)) => {
                    self.write_publish(message.seq, message.qos, Some(message.packet_id), message.dup);
                }
            }
        }
    }

    /// Time passes without traffic; the device asks, and the server has not noticed yet.
    fn keep_alive(&mut self) {
        if let (Phase::Up, Some(deadline)) = (self.session.phase(), self.session.deadline(&self.options)) {
            self.now = deadline;
            if self.session.expire(&self.options, self.now, &mut self.upstream).is_err() {
                self.lose();
            }
        }
    }

    fn downlink(&mut self, qos: Qos) {
        let their_qos = TheirQos::try_from(qos as u8).unwrap();
        if !self.has_session || self.session.phase() != Phase::Up {
            return;
        }
        let packet_id = match qos {
            Qos::AtMostOnce => None,
            _ => Some(self.server.acquire_packet_id().unwrap()),
        };
        macro_rules! publish {
            ($version:ident) => {{
                let publish = $version::Publish::builder().topic_name("d/1").unwrap().qos(their_qos).payload("x");
                let publish = match packet_id {
                    None => publish.build(),
                    Some(packet_id) => publish.packet_id(packet_id).build(),
                };
                self.server.checked_send(publish.unwrap())
            }};
        }
        let events = match self.options.protocol {
            Protocol::V311 => publish!(v3_1_1),
            Protocol::V5 => publish!(v5_0),
        };
        self.note_theirs(events);
    }

    /// The server gets whole packets: it would keep half of one beyond the end of a connection.
    fn carry_upstream(&mut self, bytes: usize) {
        let bytes = bytes.min(self.upstream.len());
        self.arrived.extend(self.upstream.drain(..bytes));
        while let Ok(header) = rumqttc::mqttbytes::check(self.arrived.iter(), 1_000) {
            let packet: Vec<u8> = self.arrived.drain(..header.frame_length()).collect();
            let events = self.server.recv(&mut Cursor::new(&packet[..]));
            self.note_theirs(events);
        }
    }

    fn note_theirs(&mut self, events: Vec<TheirEvent>) {
        for event in events {
            match event {
                TheirEvent::NotifyError(error) => panic!("the server found a fault: {error:?}"),
                TheirEvent::RequestSendPacket { packet, .. } => {
                    self.downstream.extend(packet.to_continuous_buffer());
                }
                TheirEvent::NotifyPacketReceived(packet) => self.serve(packet),
                _ => {}
            }
        }
    }

    fn serve(&mut self, packet: Theirs) {
        match packet {
            Theirs::V3_1_1Connect(connect) => {
                assert_eq!((connect.client_id(), connect.will_topic()), ("c", Some("w")));
                let present = self.has_session && !self.options.clean;
                self.has_session = true;
                let connack = v3_1_1::Connack::builder().session_present(present);
                let connack = connack.return_code(ConnectReturnCode::Accepted).build().unwrap();
                let events = self.server.checked_send(connack);
                self.note_theirs(events);
            }
            Theirs::V5_0Connect(connect) => {
                assert_eq!((connect.client_id(), connect.will_topic()), ("c", Some("w")));
                let present = self.has_session && !self.options.clean;
                self.has_session = true;
                let limits = vec![
                    Property::ReceiveMaximum(ReceiveMaximum::new(self.receive_maximum).unwrap()),
                    Property::TopicAliasMaximum(TopicAliasMaximum::new(1).unwrap()),
                ];
                let connack = v5_0::Connack::builder().session_present(present).props(limits);
                let connack = connack.reason_code(ConnectReasonCode::Success).build().unwrap();
                let events = self.server.checked_send(connack);
                self.note_theirs(events);
            }
            Theirs::V3_1_1Publish(publish) => self.take_in(publish.payload().as_slice(), publish.qos()),
            Theirs::V5_0Publish(publish) => {
                assert_eq!(publish.topic_name(), "t");
                self.take_in(publish.payload().as_slice(), publish.qos());
            }
            Theirs::V5_0Subscribe(subscribe) => {
                let codes: Vec<_> = subscribe.entries().iter().map(|_| SubackReasonCode::GrantedQos1).collect();
                let suback = v5_0::Suback::builder().packet_id(subscribe.packet_id()).reason_codes(codes);
                let events = self.server.checked_send(suback.build().unwrap());
                self.note_theirs(events);
            }
            Theirs::V5_0Unsubscribe(unsubscribe) => {
                let codes = vec![UnsubackReasonCode::Success];
                let unsuback = v5_0::Unsuback::builder().packet_id(unsubscribe.packet_id()).reason_codes(codes);
                let events = self.server.checked_send(unsuback.build().unwrap());
                self.note_theirs(events);
            }
            Theirs::V3_1_1Subscribe(subscribe) => {
                let codes = subscribe.entries().iter().map(|_: &SubEntry| SubackReturnCode::SuccessMaximumQos1);
                let suback = v3_1_1::Suback::builder().packet_id(subscribe.packet_id()).return_codes(codes.collect());
                let events = self.server.checked_send(suback.build().unwrap());
                self.note_theirs(events);
            }
            Theirs::V3_1_1Unsubscribe(unsubscribe) => {
                let unsuback = v3_1_1::Unsuback::builder().packet_id(unsubscribe.packet_id()).build().unwrap();
                let events = self.server.checked_send(unsuback);
                self.note_theirs(events);
            }
            _ => {}
        }
    }

    fn take_in(&mut self, payload: &[u8], qos: TheirQos) {
        let seq = u32::from_be_bytes(payload.try_into().unwrap());
        self.taken_in.entry(seq).or_insert((qos, 0)).1 += 1;
    }

    fn carry_downstream(&mut self, bytes: usize) {
        let bytes = bytes.min(self.downstream.len());
        self.inbox.extend(self.downstream.drain(..bytes));
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        while let Some((packet, size)) = read(rest, self.options.protocol, 1_000).unwrap() {
            rest = &rest[size..];
            let (pool, out) = (&mut self.pool, &mut self.upstream);
            let event = self.session.receive(pool, &self.options, packet, self.now, out).unwrap();
            match event {
                Event::Connected { .. } => {
                    while let Some(message) = self.session.abandon(&mut self.pool) {
                        self.told.abandoned.push(message.seq);
                    }
                }
                Event::Acknowledged(message) => {
                    assert!(self.taken_in.contains_key(&message.seq), "acknowledged and not taken in");
                    self.told.acknowledged.push(message.seq);
                }
                Event::Refused(code) => panic!("refused: {code}"),
                _ => {}
            }
        }
        self.inbox = rest.to_vec();
    }

    fn lose(&mut self) {
        self.session.lost(self.now);
        let _ = self.server.notify_closed();
        self.upstream.clear();
        self.arrived.clear();
        self.downstream.clear();
        self.inbox.clear();
    }

    fn settle(&mut self) {
        self.lose();
        self.connect();
        // With a receive maximum of 1, each message of QoS 2 takes two turns of its own.
        for _ in 0..30 {
            self.carry_upstream(usize::MAX);
            self.carry_downstream(usize::MAX);
            self.resend(usize::MAX);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_server_of_another_make_finds_no_fault(
        steps in vec(step(), 1..200),
        clean: bool,
        protocol in prop_oneof![Just(Protocol::V311), Just(Protocol::V5)],
        receive_maximum in 1..12_u16,
    ) {
        let mut world = World::new(clean, protocol, receive_maximum);
        for step in &steps {
            world.step(step);
        }
        world.settle();
        prop_assert!(world.pool.is_empty());
        let mut ended = [&world.told.acknowledged[..], &world.told.abandoned].concat();
        ended.sort_unstable();
        prop_assert_eq!(ended, world.told.accepted);
        if !clean {
            prop_assert!(world.told.abandoned.is_empty());
            for (qos, times) in world.taken_in.values() {
                prop_assert!(*qos != TheirQos::ExactlyOnce || *times == 1, "QoS 2 taken in {} times", times);
            }
        }
    }
}
