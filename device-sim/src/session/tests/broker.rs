//! A broker that keeps to the standard, for one client; it speaks through rumqttc's codec.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;
use fleet_contract::qos::Qos;
use rumqttc::mqttbytes::{Error, QoS as TheirQos, v4};

/// When a broker passes a QoS 2 message on (§4.3.3: method A or B).
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    OnRelease,
    OnPublish,
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
    pub(super) fn new(method: Method) -> Self {
        Self {
            method,
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
    }

    pub(super) fn write(&mut self, packet: &v4::Packet) {
        packet.write(&mut self.output, 1_000).unwrap();
    }

    pub(super) fn take_in(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        loop {
            match v4::Packet::read(&mut self.input, 1_000) {
                Ok(packet) => self.receive(packet),
                Err(Error::InsufficientBytes(_)) => return,
                Err(error) => panic!("the device wrote what is no packet: {error:?}"),
            }
        }
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
