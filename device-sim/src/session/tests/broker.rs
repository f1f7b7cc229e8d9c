//! A broker that keeps to the standard, for one client; it speaks through rumqttc's codecs, and thinks in 3.1.1.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use fleet_contract::{fleet::Protocol, qos::Qos};
use rumqttc::mqttbytes::{Error, QoS as TheirQos, v4};
use rumqttc::v5::mqttbytes::{self as mqttbytes5, v5};

/// When a broker passes a QoS 2 message on (§4.3.3: method A or B).
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    OnRelease,
    OnPublish,
}

/// What a broker of MQTT 5 calls itself able to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) receive_maximum: u16,
    pub(super) topic_alias_maximum: u16,
}

/// A message of the broker's to the device.
#[derive(Debug)]
pub(super) struct Downlink {
    pkid: u16,
    seq: u32,
    qos: Qos,
    is_released: bool,
}

/// A broker that keeps to the standard, for one client.
#[derive(Debug)]
pub(super) struct Broker {
    method: Method,
    protocol: Protocol,
    limits: Limits,
    /// The topics that aliases stand for, and messages that are neither acknowledged nor rejected, of this connection.
    aliases: BTreeMap<u16, Bytes>,
    outstanding: BTreeSet<u16>,
    /// Whether the client knows of this session. One that never saw CONNACK does not know that a
    /// new one began; the standard has no answer to that, so this broker begins yet another.
    has_session: bool,
    pub(super) is_connected: bool,
    input: BytesMut,
    pub(super) output: BytesMut,
    /// Answers that are owed; they go with the connection.
    pub(super) answers: Vec<v4::Packet>,
    /// QoS 2 identifiers that are not yet released, with their message.
    received: BTreeMap<u16, u32>,
    /// How often each message was delivered, and how often within this session.
    pub(super) delivered: BTreeMap<u32, (u32, u32)>,
    pub(super) downlinks: VecDeque<Downlink>,
    /// Messages to the device that it has acknowledged.
    pub(super) passed_on: Vec<u32>,
    next_pkid: u16,
}

impl Broker {
    pub(super) fn new(method: Method, protocol: Protocol, limits: Limits) -> Self {
        Self {
            method,
            protocol,
            limits,
            aliases: BTreeMap::new(),
            outstanding: BTreeSet::new(),
            has_session: false,
            is_connected: false,
            input: BytesMut::new(),
            output: BytesMut::new(),
            answers: Vec::new(),
            received: BTreeMap::new(),
            delivered: BTreeMap::new(),
            downlinks: VecDeque::new(),
            passed_on: Vec::new(),
            next_pkid: 1,
        }
    }

    pub(super) fn forget(&mut self) {
        self.has_session = false;
        self.received.clear();
        self.downlinks.clear();
        self.next_pkid = 1;
        self.delivered.values_mut().for_each(|(_, in_session)| *in_session = 0);
    }

    pub(super) fn close(&mut self) {
        self.is_connected = false;
        self.input.clear();
        self.output.clear();
        self.answers.clear();
        self.aliases.clear();
        self.outstanding.clear();
    }

    pub(super) fn write(&mut self, packet: &v4::Packet) {
        if let v4::Packet::PubAck(v4::PubAck { pkid }) | v4::Packet::PubComp(v4::PubComp { pkid }) = packet {
            self.outstanding.remove(pkid);
        }
        match (self.protocol, packet) {
            (Protocol::V5, v4::Packet::ConnAck(connack)) => self.write_connack5(connack.session_present),
            (Protocol::V5, v4::Packet::Publish(publish)) => {
                let qos = mqttbytes5::qos(publish.qos as u8).unwrap();
                let mut publish5 = v5::Publish::new(publish.topic.clone(), qos, publish.payload.clone(), None);
                (publish5.pkid, publish5.dup) = (publish.pkid, publish.dup);
                publish5.write(&mut self.output).unwrap();
            }
            // The others are the same bytes.
            (_, packet) => drop(packet.write(&mut self.output, 1_000).unwrap()),
        }
    }

    fn write_connack5(&mut self, session_present: bool) {
        let Limits { receive_maximum, topic_alias_maximum } = self.limits;
        self.output.extend_from_slice(&[0x20, 9, u8::from(session_present), 0, 6, 0x21]);
        self.output.extend_from_slice(&receive_maximum.to_be_bytes());
        self.output.extend_from_slice(&[0x22]);
        self.output.extend_from_slice(&topic_alias_maximum.to_be_bytes());
    }

    /// Rejects a message in place of the answer that is owed. One that was passed on already is not rejected.
    pub(super) fn reject(&mut self, answer: &v4::Packet) {
        let (header, pkid) = match (answer, self.method) {
            (v4::Packet::PubAck(v4::PubAck { pkid }), _) => (0x40, *pkid),
            (v4::Packet::PubRec(v4::PubRec { pkid }), Method::OnRelease) => {
                self.received.remove(pkid);
                (0x50, *pkid)
            }
            _ => return self.write(answer),
        };
        self.outstanding.remove(&pkid);
        let [high, low] = pkid.to_be_bytes();
        let quota_exceeded = 0x97;
        self.output.extend_from_slice(&[header, 3, high, low, quota_exceeded]);
    }

    pub(super) fn take_in(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some(packet) = self.read() {
            self.receive(packet);
        }
    }

    fn read(&mut self) -> Option<v4::Packet> {
        match self.protocol {
            Protocol::V311 => match v4::Packet::read(&mut self.input, 1_000) {
                Ok(packet) => Some(packet),
                Err(Error::InsufficientBytes(_)) => None,
                Err(error) => panic!("the device wrote what is no packet: {error:?}"),
            },
            Protocol::V5 => match v5::Packet::read(&mut self.input, Some(1_000)) {
                Ok(packet) => Some(self.in_words_of_3_1_1(packet)),
                Err(mqttbytes5::Error::InsufficientBytes(_)) => None,
                Err(error) => panic!("the device wrote what is no packet: {error:?}"),
            },
        }
    }

    fn in_words_of_3_1_1(&mut self, packet: v5::Packet) -> v4::Packet {
        match packet {
            v5::Packet::Connect(connect, ..) => v4::Packet::Connect(v4::Connect {
                protocol: rumqttc::mqttbytes::Protocol::V5,
                keep_alive: connect.keep_alive,
                client_id: connect.client_id,
                clean_session: connect.clean_start,
                last_will: None,
                login: None,
            }),
            v5::Packet::Publish(publish) => self.without_alias(publish),
            v5::Packet::PubAck(ack) => v4::Packet::PubAck(v4::PubAck::new(ack.pkid)),
            v5::Packet::PubRec(ack) => v4::Packet::PubRec(v4::PubRec::new(ack.pkid)),
            v5::Packet::PubRel(ack) => v4::Packet::PubRel(v4::PubRel::new(ack.pkid)),
            v5::Packet::PubComp(ack) => v4::Packet::PubComp(v4::PubComp::new(ack.pkid)),
            other => panic!("the device has no reason to send {other:?}"),
        }
    }

    fn without_alias(&mut self, publish: v5::Publish) -> v4::Packet {
        let mut topic = publish.topic;
        if let Some(alias) = publish.properties.and_then(|properties| properties.topic_alias) {
            assert!((1..=self.limits.topic_alias_maximum).contains(&alias), "alias {alias} is not allowed");
            if topic.is_empty() {
                topic = self.aliases.get(&alias).expect("an alias is bound before it is used").clone();
            }
            self.aliases.insert(alias, topic.clone());
        }
        if publish.pkid > 0 {
            self.outstanding.insert(publish.pkid);
            let most = usize::from(self.limits.receive_maximum);
            assert!(self.outstanding.len() <= most, "more than {most} messages at once");
        }
        let topic = std::str::from_utf8(&topic).unwrap();
        let qos = rumqttc::mqttbytes::qos(publish.qos as u8).unwrap();
        let mut publish4 = v4::Publish::new(topic, qos, publish.payload);
        (publish4.pkid, publish4.dup) = (publish.pkid, publish.dup);
        v4::Packet::Publish(publish4)
    }

    fn receive(&mut self, packet: v4::Packet) {
        match packet {
            v4::Packet::Connect(connect) => self.accept(&connect),
            _ if !self.is_connected => panic!("{packet:?} came before CONNECT"),
            packet => {
                self.has_session = true;
                self.serve(packet);
            }
        }
    }

    fn serve(&mut self, packet: v4::Packet) {
        match packet {
            v4::Packet::Publish(publish) => self.receive_publish(&publish),
            v4::Packet::PubRel(v4::PubRel { pkid }) => {
                if let Some(seq) = self.received.remove(&pkid)
                    && matches!(self.method, Method::OnRelease)
                {
                    self.deliver(seq);
                }
                self.answers.push(v4::Packet::PubComp(v4::PubComp::new(pkid)));
            }
            v4::Packet::PubAck(v4::PubAck { pkid }) => self.end_downlink(pkid, Qos::AtLeastOnce),
            v4::Packet::PubComp(v4::PubComp { pkid }) => self.end_downlink(pkid, Qos::ExactlyOnce),
            v4::Packet::PubRec(v4::PubRec { pkid }) => {
                let downlink = self.downlinks.iter_mut().find(|downlink| downlink.pkid == pkid);
                downlink.expect("the device receives what was published").is_released = true;
                self.write(&v4::Packet::PubRel(v4::PubRel::new(pkid)));
            }
            other => panic!("the device has no reason to send {other:?}"),
        }
    }

    fn accept(&mut self, connect: &v4::Connect) {
        assert!(!self.is_connected, "a second CONNECT");
        self.is_connected = true;
        if connect.clean_session || !self.has_session {
            self.forget();
        }
        let present = self.has_session;
        self.write(&v4::Packet::ConnAck(v4::ConnAck::new(v4::ConnectReturnCode::Success, present)));
        for downlink in std::mem::take(&mut self.downlinks) {
            self.send_downlink(&downlink, true);
            self.downlinks.push_back(downlink);
        }
    }

    fn receive_publish(&mut self, publish: &v4::Publish) {
        let seq = u32::from_be_bytes(publish.payload[..].try_into().unwrap());
        assert_eq!(publish.topic, "t");
        match publish.qos {
            TheirQos::AtMostOnce => self.deliver(seq),
            TheirQos::AtLeastOnce => {
                self.deliver(seq);
                self.answers.push(v4::Packet::PubAck(v4::PubAck::new(publish.pkid)));
            }
            TheirQos::ExactlyOnce => {
                match self.received.insert(publish.pkid, seq) {
                    None if matches!(self.method, Method::OnPublish) => self.deliver(seq),
                    None => {}
                    Some(before) => {
                        assert!(publish.dup, "an identifier in use came without DUP");
                        assert_eq!(before, seq, "an identifier in use came with another message");
                    }
                }
                self.answers.push(v4::Packet::PubRec(v4::PubRec::new(publish.pkid)));
            }
        }
    }

    fn deliver(&mut self, seq: u32) {
        let (ever, in_session) = self.delivered.entry(seq).or_default();
        *ever += 1;
        *in_session += 1;
    }

    pub(super) fn publish(&mut self, seq: u32, qos: Qos) {
        let downlink = Downlink { pkid: self.next_pkid, seq, qos, is_released: false };
        self.next_pkid += 1;
        self.send_downlink(&downlink, false);
        if qos != Qos::AtMostOnce {
            self.downlinks.push_back(downlink);
        }
    }

    fn send_downlink(&mut self, downlink: &Downlink, dup: bool) {
        let &Downlink { pkid, seq, qos, is_released } = downlink;
        if is_released {
            return self.write(&v4::Packet::PubRel(v4::PubRel::new(pkid)));
        }
        let their_qos = rumqttc::mqttbytes::qos(qos as u8).unwrap();
        let mut publish = v4::Publish::new("d", their_qos, seq.to_be_bytes());
        publish.pkid = pkid;
        publish.dup = dup;
        self.write(&v4::Packet::Publish(publish));
    }

    fn end_downlink(&mut self, pkid: u16, qos: Qos) {
        let is_ended = |downlink: &Downlink| (downlink.pkid, downlink.qos) == (pkid, qos);
        self.passed_on.extend(self.downlinks.iter().filter(|downlink| is_ended(downlink)).map(|downlink| downlink.seq));
        self.downlinks.retain(|downlink| !is_ended(downlink));
    }
}
