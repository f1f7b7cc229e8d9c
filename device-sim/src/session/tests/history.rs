//! Random histories against a faithful broker: what must hold whatever happens to a connection.
//!
//! Connections are lost with any number of bytes of either direction undelivered, the broker
//! answers in any order, and it may forget the session.

use std::collections::{BTreeMap, BTreeSet};

use fleet_contract::qos::Qos;
use fleet_contract::time::Micros;
use fleet_contract::units::Span;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::codec::v5::Alias;
use super::super::codec::{self, Connect, Packet, Protocol, PublishFrame, read};
use super::super::{Event, InFlight, Message, Options, Phase, Pool, Resend, Session, Stage, Withheld};
use super::broker::{Broker, Limits, Method};
use super::codec_oracle::qos;
use crate::index::StreamIndex;

/// Of which stream the messages are: the one whose topic has an alias.
const STREAM: StreamIndex = StreamIndex::new(0);

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Connect,
    Publish(Qos),
    /// The broker publishes to the device.
    Downlink(Qos),
    /// So many bytes arrive at the broker.
    Upstream(usize),
    /// So many bytes arrive at the device.
    Downstream(usize),
    /// The broker writes one of the answers that it owes.
    Answer(usize),
    /// In MQTT 5 the broker rejects a message instead.
    Reject(usize),
    /// The device resends so many packets.
    Resend(usize),
    Lose,
    /// The broker forgets the session while there is no connection.
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop_oneof![0..40_usize, Just(usize::MAX)];
    prop_oneof![
        3 => Just(Step::Connect),
        8 => qos().prop_map(Step::Publish),
        2 => qos().prop_map(Step::Downlink),
        8 => bytes().prop_map(Step::Upstream),
        8 => bytes().prop_map(Step::Downstream),
        8 => (0..100_usize).prop_map(Step::Answer),
        1 => (0..100_usize).prop_map(Step::Reject),
        4 => (1..4_usize).prop_map(Step::Resend),
        1 => Just(Step::Lose),
        1 => Just(Step::Forget),
    ]
}

/// What was published.
#[derive(Default)]
struct Sent {
    /// In the broker's present session.
    in_session: BTreeSet<u32>,
    /// Over the present connection.
    in_connection: BTreeSet<u32>,
    /// Once more, last.
    last_again: Option<u32>,
}

/// The session, its broker, and what is known of each message.
struct World {
    session: Session,
    pool: Pool,
    options: Options,
    now: Micros,
    upstream: Vec<u8>,
    inbox: Vec<u8>,
    broker: Broker,
    next_seq: u32,
    in_flight: BTreeMap<u32, InFlight>,
    acknowledged: BTreeSet<u32>,
    /// Given up, by the session or by the broker.
    abandoned: BTreeSet<u32>,
    sent: Sent,
    qos_2: BTreeSet<u32>,
    next_downlink: u32,
    received: BTreeMap<u32, (Qos, u32)>,
}

impl World {
    fn new(clean: bool, window: u16, method: Method, protocol: Protocol, limits: Limits) -> Self {
        let options =
            Options { keep_alive: Span::ZERO, clean, window, protocol, topic_aliases: 1, ..Options::default() };
        Self {
            session: Session::new(),
            pool: Pool::new(),
            options,
            now: Micros(0),
            upstream: Vec::new(),
            inbox: Vec::new(),
            broker: Broker::new(method, protocol, limits),
            next_seq: 0,
            in_flight: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            sent: Sent::default(),
            qos_2: BTreeSet::new(),
            next_downlink: 0,
            received: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        self.now.0 += 1;
        match step {
            Step::Connect => self.connect(),
            Step::Publish(qos) => self.publish(*qos),
            Step::Downlink(qos) => self.downlink(*qos),
            Step::Upstream(bytes) => self.carry_upstream(*bytes),
            Step::Downstream(bytes) => self.carry_downstream(*bytes),
            Step::Answer(index) => self.answer(*index),
            Step::Reject(index) => self.reject(*index),
            Step::Resend(packets) => self.resend(*packets),
            Step::Lose => self.lose(),
            Step::Forget if self.session.phase() == Phase::Offline => self.broker.forget(),
            Step::Forget => {}
        }
        self.check();
    }

    fn connect(&mut self) {
        if self.session.phase() != Phase::Offline {
            return;
        }
        let connect = Connect { client_id: "c", ..Connect::default() };
        self.session.connect(&connect, &self.options, self.now, &mut self.upstream).unwrap();
    }

    fn publish(&mut self, qos: Qos) {
        let message = Message { stream: STREAM, seq: self.next_seq, due: self.now, qos };
        match self.session.publish(&mut self.pool, &self.options, message, self.now) {
            Err(Withheld::Offline) => assert_ne!(self.session.phase(), Phase::Up),
            Err(Withheld::WindowFull) => assert!(self.is_full()),
            Err(Withheld::TooLarge) => panic!("the session does not see the packet"),
            Err(Withheld::Recovering) => assert!(self.session.is_recovering()),
            Ok(packet_id) => {
                self.write_publish(message.seq, qos, packet_id, false);
                self.next_seq += 1;
                let Some(packet_id) = packet_id else { return };
                for earlier in self.in_flight.values() {
                    assert_ne!(earlier.packet_id, packet_id, "two messages under one identifier");
                    let was_sent = self.sent.in_connection.contains(&earlier.seq);
                    assert!(was_sent, "a new message overtook one that was to be resent");
                }
                self.remember(message, packet_id);
            }
        }
    }

    /// Whether the window of either side is used up.
    fn is_full(&self) -> bool {
        let receive_maximum = self.session.terms().map_or(u16::MAX, |terms| terms.receive_maximum);
        self.session.in_flight() >= self.options.window.min(receive_maximum)
    }

    fn remember(&mut self, message: Message, packet_id: codec::PacketId) {
        let Message { stream, seq, due, qos } = message;
        let stage = Stage::Published;
        let message = InFlight { due, sent: self.now, seq, stream, packet_id, qos, stage, dup: false };
        self.in_flight.insert(seq, message);
        self.sent.in_session.insert(seq);
        self.sent.in_connection.insert(seq);
        if qos == Qos::ExactlyOnce {
            self.qos_2.insert(seq);
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
                None => return assert!(!self.session.is_recovering() || self.is_full()),
                Some(Resend::Release(packet_id)) => {
                    codec::write_pubrel(&mut self.upstream, packet_id);
                    self.is_with_the_broker(packet_id);
                }
                Some(Resend::Publish(message)) => {
                    let known = &self.in_flight[&message.seq];
                    assert_eq!((message.packet_id, message.qos), (known.packet_id, known.qos));
                    assert_eq!(message.dup, !self.sent.in_session.insert(message.seq), "DUP exactly on resends");
                    assert!(self.sent.last_again < Some(message.seq), "resent out of order");
                    self.sent.last_again = Some(message.seq);
                    self.sent.in_connection.insert(message.seq);
                    self.write_publish(message.seq, message.qos, Some(message.packet_id), message.dup);
                }
            }
        }
    }

    /// PUBREC says that a message needs no PUBLISH any more.
    fn is_with_the_broker(&mut self, packet_id: codec::PacketId) {
        let known = self.in_flight.values().find(|message| message.packet_id == packet_id);
        self.sent.in_connection.extend(known.map(|message| message.seq));
    }

    fn downlink(&mut self, qos: Qos) {
        if self.broker.is_connected {
            self.broker.publish(self.next_downlink, qos);
            self.next_downlink += 1;
        }
    }

    fn carry_upstream(&mut self, bytes: usize) {
        let bytes = bytes.min(self.upstream.len());
        let arriving: Vec<u8> = self.upstream.drain(..bytes).collect();
        self.broker.take_in(&arriving);
    }

    fn carry_downstream(&mut self, bytes: usize) {
        let bytes = bytes.min(self.broker.output.len());
        self.inbox.extend_from_slice(&self.broker.output.split_to(bytes));
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        while let Some((packet, size)) = read(rest, self.options.protocol, 1_000).unwrap() {
            rest = &rest[size..];
            if let Packet::Pubrec(packet_id) = packet {
                self.is_with_the_broker(packet_id);
            }
            let event =
                self.session.receive(&mut self.pool, &self.options, packet, self.now, &mut self.upstream).unwrap();
            self.note(event);
        }
        self.inbox = rest.to_vec();
    }

    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Connected { session_present } => self.connected(session_present),
            Event::Acknowledged(message) => {
                let known = self.in_flight.remove(&message.seq).expect("what is acknowledged was in flight");
                assert_eq!((message.packet_id, message.due), (known.packet_id, known.due));
                assert!(self.broker.delivered.contains_key(&message.seq), "acknowledged and not delivered");
                assert!(self.acknowledged.insert(message.seq));
            }
            Event::Rejected(message, _) => {
                assert!(self.in_flight.remove(&message.seq).is_some(), "what is rejected was in flight");
                assert!(self.abandoned.insert(message.seq));
            }
            Event::Received(publish) => {
                let seq = u32::from_be_bytes(publish.payload.try_into().unwrap());
                self.received.entry(seq).or_insert((publish.qos, 0)).1 += 1;
            }
            // A broker whose connection was lost before it answered is asked twice.
            Event::Progress | Event::Repeated(_) | Event::Unsolicited(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    fn connected(&mut self, session_present: bool) {
        self.sent.last_again = None;
        if !session_present {
            self.sent.in_session.clear();
        }
        while let Some(message) = self.session.abandon(&mut self.pool) {
            assert!(!session_present, "a present session has nothing to abandon");
            assert!(self.options.clean || message.stage == Stage::Released, "a message could have been sent again");
            assert!(self.in_flight.remove(&message.seq).is_some());
            assert!(self.abandoned.insert(message.seq));
        }
        assert!(!self.options.clean || self.in_flight.is_empty(), "a clean session began with old messages");
    }

    fn answer(&mut self, index: usize) {
        if !self.broker.answers.is_empty() {
            let packet = self.broker.answers.remove(index % self.broker.answers.len());
            self.broker.write(&packet);
        }
    }

    fn reject(&mut self, index: usize) {
        if self.options.protocol == Protocol::V311 {
            return self.answer(index);
        }
        if !self.broker.answers.is_empty() {
            let packet = self.broker.answers.remove(index % self.broker.answers.len());
            self.broker.reject(&packet);
        }
    }

    fn lose(&mut self) {
        self.session.lost(self.now);
        self.upstream.clear();
        self.inbox.clear();
        self.broker.close();
        self.sent.in_connection.clear();
    }

    /// What holds at any moment.
    fn check(&self) {
        assert_eq!(usize::from(self.session.in_flight()), self.in_flight.len());
        assert_eq!(self.pool.len(), self.in_flight.len());
        assert!(self.session.in_flight() <= self.options.window);
        for seq in self.acknowledged.union(&self.abandoned) {
            assert!(!self.in_flight.contains_key(seq));
        }
        assert!(self.acknowledged.is_disjoint(&self.abandoned));
        for seq in &self.qos_2 {
            let (_, in_session) = self.broker.delivered.get(seq).copied().unwrap_or_default();
            assert!(in_session <= 1, "QoS 2 delivered {in_session} times");
        }
        for seq in &self.broker.passed_on {
            assert!(self.received.contains_key(seq), "acknowledged to the broker and not passed on");
        }
        for (qos, times) in self.received.values() {
            assert!(*qos != Qos::ExactlyOnce || *times == 1, "QoS 2 passed on {times} times");
        }
    }

    /// Lets everything arrive that can, over a connection of its own.
    fn settle(&mut self) {
        self.lose();
        self.connect();
        // With a receive maximum of 1, each message of QoS 2 takes two turns of its own.
        for _ in 0..120 {
            self.carry_upstream(usize::MAX);
            while !self.broker.answers.is_empty() {
                self.answer(0);
            }
            self.carry_downstream(usize::MAX);
            self.resend(usize::MAX);
            self.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_message_is_acknowledged_or_in_flight_or_abandoned(
        steps in vec(step(), 1..300),
        clean: bool,
        window in prop_oneof![1..4_u16, Just(50)],
        method in prop_oneof![Just(Method::OnRelease), Just(Method::OnPublish)],
        protocol in prop_oneof![Just(Protocol::V311), Just(Protocol::V5)],
        receive_maximum in prop_oneof![1..4_u16, Just(u16::MAX)],
        topic_alias_maximum in 0..2_u16,
    ) {
        let limits = Limits { receive_maximum, topic_alias_maximum };
        let mut world = World::new(clean, window, method, protocol, limits);
        for step in &steps {
            world.step(step);
        }
        world.settle();
        prop_assert!(world.pool.is_empty() && world.in_flight.is_empty());
        prop_assert!(world.broker.downlinks.is_empty(), "{:?}", world.broker.downlinks);
    }
}
