//! A session and a broker that sends anything at any time, cut anywhere, while the device goes on with its life: no
//! message is forgotten, settled twice or sent under an identifier in use, and a broker cannot make it write much.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use device_sim::{
    index::StreamIndex,
    session::{
        Event, InFlight, Message, Options, Phase, Pool, RequestError, Resend, Session, Withheld,
        codec::{
            self, Connect, PacketId, Protocol, PublishFrame, Qos,
            v5::{self, Alias, Authentication, ConnectProperties, SubscribeOptions},
        },
    },
};
use fleet_contract::{time::Micros, units::Span};
use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};

/// The largest packet that the device takes; small, so that it is met.
const PACKET_MAX: usize = 512;

/// The longest answer that a packet asks for: an acknowledgement with its identifier.
const ANSWER_MAX: usize = 4;

const FILTERS: [&str; 3] = ["a", "a/+", "$share/g/a/#"];

#[derive(Arbitrary, Debug)]
struct History {
    is_mqtt5: bool,
    is_clean: bool,
    authenticates: bool,
    window: u8,
    keep_alive_seconds: u8,
    topic_aliases: u8,
    first_packet_id: u16,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// What the device does.
    Connect,
    Publish {
        qos: u8,
        stream: u8,
    },
    Resend {
        packets: u8,
    },
    Subscribe {
        filters: u8,
    },
    Unsubscribe {
        filters: u8,
    },
    Disconnect,
    End,
    Leave,
    /// Its shard has become small, and with it the pool.
    Move,
    /// What becomes of the connection.
    Lose,
    Wait {
        milliseconds: u16,
    },
    Arrive {
        bytes: u8,
    },
    /// What the broker sends.
    Bytes(Vec<u8>),
    Connack {
        is_present: bool,
        code: u8,
        properties: Vec<u8>,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP for a message in flight, or for what is none.
    Acknowledge {
        kind: u8,
        message: u8,
        reason: Option<u8>,
    },
    /// SUBACK or UNSUBACK for the last request.
    Answer {
        is_suback: bool,
        codes: Vec<u8>,
    },
    Message {
        qos: u8,
        packet_id: u16,
        payload: u8,
    },
}

fuzz_target!(|history: History| {
    let mut world = World::new(&history);
    for step in &history.steps {
        world.step(step);
        world.check();
    }
    world.leave();
    assert!(world.pool.is_empty(), "a device that left is still in the pool");
});

struct World {
    session: Session,
    pool: Pool,
    options: Options,
    now: Micros,
    /// Written by the broker, and not yet arrived.
    wire: Vec<u8>,
    /// Arrived, and no whole packet yet.
    inbox: Vec<u8>,
    next_seq: u32,
    in_flight: BTreeMap<u32, InFlight>,
    /// The streams whose alias the broker of this connection knows.
    bound: BTreeSet<StreamIndex>,
    last_request: u16,
}

impl World {
    fn new(history: &History) -> Self {
        let authentication =
            history.authenticates.then(|| Authentication { method: "m".into(), data: b"d"[..].into() });
        let properties = ConnectProperties { authentication, ..ConnectProperties::default() };
        let options = Options {
            keep_alive: Span::from_secs(history.keep_alive_seconds.into()),
            clean: history.is_clean,
            window: history.window.into(),
            protocol: if history.is_mqtt5 { Protocol::V5 } else { Protocol::V311 },
            properties,
            topic_aliases: history.topic_aliases.into(),
            ..Options::default()
        };
        Self {
            session: Session::starting_at(history.first_packet_id),
            pool: Pool::new(),
            options,
            now: Micros(1_000_000),
            wire: Vec::new(),
            inbox: Vec::new(),
            next_seq: 0,
            in_flight: BTreeMap::new(),
            bound: BTreeSet::new(),
            last_request: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Connect => self.connect(),
            Step::Publish { qos, stream } => self.publish(quality(*qos), StreamIndex::new((*stream).into())),
            Step::Resend { packets } => self.resend(*packets),
            Step::Subscribe { filters } => self.subscribe(usize::from(*filters) % (FILTERS.len() + 1)),
            Step::Unsubscribe { filters } => self.unsubscribe(usize::from(*filters) % (FILTERS.len() + 1)),
            Step::Disconnect => self.session.disconnect(self.now, &mut Vec::new()),
            Step::End if self.is_mqtt5() => self.session.end(self.now, &mut Vec::new()).expect("a valid packet"),
            Step::End => {}
            Step::Leave => self.leave(),
            Step::Move => {
                let mut pool = Pool::new();
                self.session.move_messages(&mut self.pool, &mut pool);
                self.pool = pool;
            }
            Step::Lose => self.lose(),
            Step::Wait { milliseconds } => self.wait(Span::from_millis((*milliseconds).into())),
            Step::Arrive { bytes } => self.arrive((*bytes).into()),
            Step::Bytes(bytes) => self.wire.extend_from_slice(bytes),
            Step::Connack { is_present, code, properties } => {
                let properties = self.with_properties(properties);
                self.write(0x20, &[&[u8::from(*is_present), *code], &properties[..]].concat());
            }
            Step::Acknowledge { kind, message, reason } => self.acknowledge(*kind, (*message).into(), *reason),
            Step::Answer { is_suback, codes } => {
                let (header, properties) = (if *is_suback { 0x90 } else { 0xb0 }, self.with_properties(&[]));
                self.write(header, &[&self.last_request.to_be_bytes()[..], &properties, codes].concat());
            }
            Step::Message { qos, packet_id, payload } => self.message(quality(*qos), *packet_id, (*payload).into()),
        }
    }

    fn is_mqtt5(&self) -> bool {
        self.options.protocol == Protocol::V5
    }

    fn connect(&mut self) {
        self.lose();
        let connect = Connect { client_id: if self.options.clean { "" } else { "c" }, ..Connect::default() };
        let written = self.session.connect(&connect, &self.options, self.now, &mut Vec::new());
        written.expect("a CONNECT that is valid whatever the broker has said");
    }

    fn publish(&mut self, qos: Qos, stream: StreamIndex) {
        let message = Message { stream, seq: self.next_seq, due: self.now, qos };
        match self.session.publish(&mut self.pool, &self.options, message, self.now) {
            Err(Withheld::Offline) => assert_ne!(self.session.phase(), Phase::Up),
            Err(Withheld::Recovering) => assert!(self.session.is_recovering()),
            Err(Withheld::WindowFull) => assert_ne!(qos, Qos::AtMostOnce),
            Err(Withheld::TooLarge) => panic!("the session does not see the packet"),
            Ok(packet_id) => {
                assert_eq!(packet_id.is_some(), qos != Qos::AtMostOnce);
                self.next_seq += 1;
                self.write_publish(message, packet_id, false);
                let Some(packet_id) = packet_id else { return };
                let is_used = self.in_flight.values().any(|other| other.packet_id == packet_id);
                assert!(!is_used, "two messages under one identifier");
                let stage = device_sim::session::Stage::Published;
                let Message { stream, seq, due, qos } = message;
                let entry = InFlight { due, sent: self.now, seq, stream, packet_id, qos, stage, dup: false };
                self.in_flight.insert(seq, entry);
            }
        }
    }

    /// As the engine does it: a packet that is larger than the broker takes is not written, and taken back.
    fn write_publish(&mut self, message: Message, packet_id: Option<PacketId>, dup: bool) -> bool {
        let alias = self.session.alias(message.stream, &self.options);
        let mut out = Vec::new();
        let mut frame = PublishFrame::begin(&mut out, message.qos, false, dup);
        if let Alias::Use(_) = alias {
            assert!(self.bound.contains(&message.stream), "an alias that the broker does not know");
        } else {
            out.push(b't');
        }
        frame.end_topic(&mut out, packet_id);
        if self.is_mqtt5() {
            frame.write_properties(&mut out, alias, |_| Ok(())).expect("valid properties");
        } else {
            assert_eq!(alias, Alias::None);
        }
        let length = frame.finish(&mut out).expect("a valid PUBLISH").len();
        let fits = length <= self.session.maximum_packet_size();
        if fits && let Alias::Bind(_) = alias {
            self.session.bound(message.stream);
            self.bound.insert(message.stream);
        }
        fits
    }

    fn resend(&mut self, packets: u8) {
        for _ in 0..packets {
            match self.session.next_resend(&mut self.pool) {
                None => return,
                Some(Resend::Release(packet_id)) => {
                    assert!(self.in_flight.values().any(|message| message.packet_id == packet_id));
                }
                Some(Resend::Publish(InFlight { stream, seq, due, qos, packet_id, dup, .. })) => {
                    assert_eq!(self.in_flight[&seq].packet_id, packet_id);
                    if !self.write_publish(Message { stream, seq, due, qos }, Some(packet_id), dup) {
                        let retracted = self.session.retract(&mut self.pool, packet_id);
                        assert_eq!(retracted.map(|message| message.seq), Some(seq));
                        self.in_flight.remove(&seq);
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, filters: usize) {
        let (filters, mut out) = (&FILTERS[..filters], Vec::new());
        let asked = if self.is_mqtt5() {
            let filters: Vec<_> = filters.iter().map(|filter| (*filter, SubscribeOptions::default())).collect();
            self.session.subscribe5(&self.pool, &filters, self.now, &mut out)
        } else {
            let filters: Vec<_> = filters.iter().map(|filter| (*filter, Qos::AtLeastOnce)).collect();
            self.session.subscribe(&self.pool, &filters, self.now, &mut out)
        };
        self.asked(asked);
    }

    fn unsubscribe(&mut self, filters: usize) {
        let (filters, mut out) = (&FILTERS[..filters], Vec::new());
        let asked = if self.is_mqtt5() {
            self.session.unsubscribe5(&self.pool, filters, self.now, &mut out)
        } else {
            self.session.unsubscribe(&self.pool, filters, self.now, &mut out)
        };
        self.asked(asked);
    }

    fn asked(&mut self, asked: Result<PacketId, RequestError>) {
        if let Ok(packet_id) = asked {
            let is_used = self.in_flight.values().any(|message| message.packet_id == packet_id);
            assert!(!is_used, "a request under the identifier of a message");
            self.last_request = packet_id.get();
        }
    }

    fn leave(&mut self) {
        self.lose();
        self.session.give_up(&mut self.pool);
        self.abandon();
        assert!(self.in_flight.is_empty(), "what is given up is all that was in flight");
    }

    fn lose(&mut self) {
        self.session.lost(self.now);
        self.wire.clear();
        self.inbox.clear();
        self.bound.clear();
    }

    /// Time passes, and the session does what is due; as late as it may be.
    fn wait(&mut self, span: Span) {
        self.now = self.now.after(span);
        let mut out = Vec::new();
        match self.session.expire(&self.options, self.now, &mut out) {
            Err(_) => self.lose(),
            Ok(()) => {
                let deadline = self.session.deadline(&self.options);
                assert!(deadline.is_none_or(|deadline| deadline > self.now), "a deadline that never passes");
            }
        }
    }

    /// Takes in what arrives, as the engine does.
    fn arrive(&mut self, bytes: usize) {
        let bytes = bytes.min(self.wire.len());
        self.inbox.extend(self.wire.drain(..bytes));
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        loop {
            match codec::read(rest, self.options.protocol, PACKET_MAX) {
                Ok(None) => break self.inbox = rest.to_vec(),
                Err(_) => return self.lose(),
                Ok(Some((packet, length))) => {
                    rest = &rest[length..];
                    let mut out = Vec::new();
                    match self.session.receive(&mut self.pool, &self.options, packet, self.now, &mut out) {
                        Err(_) => return self.lose(),
                        Ok(event) => self.note(event),
                    }
                    assert!(out.len() <= ANSWER_MAX, "{} bytes of answer to {packet:?}", out.len());
                }
            }
        }
        assert!(self.inbox.len() < PACKET_MAX, "more is kept than a packet can have");
    }

    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Acknowledged(message) | Event::Rejected(message, _) => self.settled(message),
            Event::Connected { session_present } => {
                assert!(!session_present || !self.options.clean);
                self.abandon();
                assert!(!self.options.clean || self.in_flight.is_empty(), "a clean session began with old messages");
            }
            Event::Refused(_) | Event::Disconnected(_) => assert_eq!(self.session.phase(), Phase::Closing),
            Event::Challenged(reason, _) => {
                let step = self.options.properties.authentication.as_ref().expect("a device that authenticates");
                v5::write_auth(&mut Vec::new(), reason, step).expect("a valid AUTH");
            }
            Event::Received(_)
            | Event::Repeated(_)
            | Event::Subscribed { .. }
            | Event::Unsubscribed(_)
            | Event::NotUnsubscribed { .. }
            | Event::Pong
            | Event::Unsolicited(_)
            | Event::Progress => {}
        }
    }

    fn abandon(&mut self) {
        while let Some(message) = self.session.abandon(&mut self.pool) {
            self.settled(message);
        }
    }

    fn settled(&mut self, message: InFlight) {
        let known = self.in_flight.remove(&message.seq).expect("what is settled was in flight");
        let identity = |message: &InFlight| (message.packet_id, message.qos, message.stream, message.due);
        assert_eq!(identity(&message), identity(&known));
    }

    fn acknowledge(&mut self, kind: u8, message: usize, reason: Option<u8>) {
        let packet_id = self.in_flight.values().nth(message).map_or(message as u16, |known| known.packet_id.get());
        let header = [0x40, 0x50, 0x62, 0x70][usize::from(kind) % 4];
        let reason = reason.filter(|_| self.is_mqtt5());
        self.write(header, &[&packet_id.to_be_bytes()[..], reason.as_slice()].concat());
    }

    fn message(&mut self, qos: Qos, packet_id: u16, payload: usize) {
        let packet_id = packet_id.to_be_bytes();
        let packet_id = if qos == Qos::AtMostOnce { &[][..] } else { &packet_id };
        let properties = self.with_properties(&[]);
        let body = [&b"\x00\x01t"[..], packet_id, &properties, &vec![0; payload]].concat();
        self.write(0x30 | (qos as u8) << 1, &body);
    }

    /// Properties with their length; 3.1.1 has none.
    fn with_properties(&self, properties: &[u8]) -> Vec<u8> {
        if !self.is_mqtt5() {
            return Vec::new();
        }
        let properties = &properties[..properties.len().min(127)];
        [&[properties.len() as u8], properties].concat()
    }

    fn write(&mut self, header: u8, body: &[u8]) {
        let [low, high] = [body.len() & 0x7f, body.len() >> 7];
        assert!(high < 0x80, "the broker's own packets are short");
        self.wire.extend_from_slice(&[header, low as u8 | 0x80, high as u8]);
        self.wire.extend_from_slice(body);
    }

    /// What holds at any moment.
    fn check(&self) {
        assert_eq!(usize::from(self.session.in_flight()), self.in_flight.len());
        assert_eq!(self.pool.len(), self.in_flight.len());
        assert!(self.session.in_flight() <= self.options.window);
    }
}

fn quality(qos: u8) -> Qos {
    Qos::try_from(qos % 3).expect("0 to 2")
}
