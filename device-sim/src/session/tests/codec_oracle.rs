//! The codec against rumqttc's: what one writes the other reads, in both directions.

use bytes::BytesMut;
use fleet_contract::qos::Qos;
use fleet_contract::units::Span;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rumqttc::mqttbytes::{QoS as TheirQos, v4};

use super::super::codec::v5::Properties;
use super::super::codec::{self, Connect, FrameError, Packet, PacketId, Protocol, Publish, PublishFrame, Will, read};

const NO_LIMIT: usize = 1 << 28;

fn their_qos(qos: Qos) -> TheirQos {
    match qos {
        Qos::AtMostOnce => TheirQos::AtMostOnce,
        Qos::AtLeastOnce => TheirQos::AtLeastOnce,
        Qos::ExactlyOnce => TheirQos::ExactlyOnce,
    }
}

pub(super) fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

pub(super) fn packet_id() -> impl Strategy<Value = u16> {
    1..=u16::MAX
}

pub(super) fn topic() -> impl Strategy<Value = String> {
    "[^\\x00+#]{1,40}"
}

pub(super) fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..130), vec(any::<u8>(), 16_300..16_500)]
}

/// Any packet that a broker sends, as rumqttc writes it.
pub(super) fn broker_packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<bool>()
            .prop_map(|present| v4::Packet::ConnAck(v4::ConnAck::new(v4::ConnectReturnCode::Success, present))),
        (topic(), vec(any::<u8>(), 0..100), qos(), packet_id(), any::<[bool; 2]>()).prop_map(their_publish),
        packet_id().prop_map(|id| v4::Packet::PubAck(v4::PubAck::new(id))),
        packet_id().prop_map(|id| v4::Packet::PubRec(v4::PubRec::new(id))),
        packet_id().prop_map(|id| v4::Packet::PubRel(v4::PubRel::new(id))),
        packet_id().prop_map(|id| v4::Packet::PubComp(v4::PubComp::new(id))),
        (packet_id(), vec(suback_code(), 1..4)).prop_map(|(id, codes)| v4::Packet::SubAck(v4::SubAck::new(id, codes))),
        packet_id().prop_map(|id| v4::Packet::UnsubAck(v4::UnsubAck::new(id))),
        Just(v4::Packet::PingResp),
    ]
    .prop_map(|packet| encode(&packet))
}

fn their_publish((topic, payload, qos, id, [retain, dup]): (String, Vec<u8>, Qos, u16, [bool; 2])) -> v4::Packet {
    let mut publish = v4::Publish::new(topic, their_qos(qos), payload);
    publish.pkid = if qos == Qos::AtMostOnce { 0 } else { id };
    publish.retain = retain;
    publish.dup = dup && qos != Qos::AtMostOnce;
    v4::Packet::Publish(publish)
}

fn suback_code() -> impl Strategy<Value = v4::SubscribeReasonCode> {
    prop_oneof![
        Just(v4::SubscribeReasonCode::Failure),
        qos().prop_map(|qos| v4::SubscribeReasonCode::Success(their_qos(qos))),
    ]
}

fn encode(packet: &v4::Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, NO_LIMIT).unwrap();
    bytes.to_vec()
}

/// The only packet in `bytes`, as rumqttc reads it.
#[track_caller]
pub(super) fn decode(bytes: &[u8]) -> v4::Packet {
    let mut stream = BytesMut::from(bytes);
    let packet = v4::Packet::read(&mut stream, NO_LIMIT).unwrap();
    assert!(stream.is_empty(), "{} bytes are left", stream.len());
    packet
}

/// What we read, in their words.
fn translate(packet: &Packet<'_>) -> v4::Packet {
    match *packet {
        Packet::Connack { session_present, code } => {
            assert_eq!(code, codec::ConnackCode::Accepted);
            v4::Packet::ConnAck(v4::ConnAck::new(v4::ConnectReturnCode::Success, session_present))
        }
        Packet::Publish(Publish { topic, payload, packet_id, qos, retain, dup, properties }) => {
            assert_eq!(properties, Properties::default());
            let id = packet_id.map_or(0, PacketId::get);
            their_publish((topic.to_owned(), payload.to_vec(), qos, id, [retain, dup]))
        }
        Packet::Puback(id) => v4::Packet::PubAck(v4::PubAck::new(id.get())),
        Packet::Pubrec(id) => v4::Packet::PubRec(v4::PubRec::new(id.get())),
        Packet::Pubrel(id) => v4::Packet::PubRel(v4::PubRel::new(id.get())),
        Packet::Pubcomp(id) => v4::Packet::PubComp(v4::PubComp::new(id.get())),
        Packet::Suback { packet_id, codes } => {
            let code = |&code: &u8| match Qos::try_from(code) {
                Ok(qos) => v4::SubscribeReasonCode::Success(their_qos(qos)),
                Err(_) => v4::SubscribeReasonCode::Failure,
            };
            v4::Packet::SubAck(v4::SubAck::new(packet_id.get(), codes.iter().map(code).collect()))
        }
        Packet::Unsuback(id) => v4::Packet::UnsubAck(v4::UnsubAck::new(id.get())),
        Packet::Pingresp => v4::Packet::PingResp,
        other => panic!("3.1.1 has no {other:?}"),
    }
}

fn write_publish(out: &mut Vec<u8>, publish: &Publish<'_>) -> Result<(), FrameError> {
    let mut frame = PublishFrame::begin(out, publish.qos, publish.retain, publish.dup);
    out.extend_from_slice(publish.topic.as_bytes());
    frame.end_topic(out, publish.packet_id);
    out.extend_from_slice(publish.payload);
    frame.finish(out).map(|_| ())
}

#[test]
fn an_acknowledgement_reads_the_same() {
    type Write = fn(&mut Vec<u8>, PacketId);
    type Their = fn(u16) -> v4::Packet;
    let kinds: [(Write, Their); 4] = [
        (codec::write_puback, |id| v4::Packet::PubAck(v4::PubAck::new(id))),
        (codec::write_pubrec, |id| v4::Packet::PubRec(v4::PubRec::new(id))),
        (codec::write_pubrel, |id| v4::Packet::PubRel(v4::PubRel::new(id))),
        (codec::write_pubcomp, |id| v4::Packet::PubComp(v4::PubComp::new(id))),
    ];
    for (write, theirs) in kinds {
        for number in [1, 255, 256, u16::MAX] {
            let mut out = Vec::new();
            write(&mut out, PacketId::new(number).unwrap());
            assert_eq!(decode(&out), theirs(number));
            assert_eq!(out, encode(&theirs(number)));
        }
    }
}

#[test]
fn ping_and_disconnect_read_the_same() {
    let mut out = Vec::new();
    codec::write_pingreq(&mut out);
    assert_eq!(decode(&out), v4::Packet::PingReq);
    out.clear();
    codec::write_disconnect(&mut out);
    assert_eq!(decode(&out), v4::Packet::Disconnect);
}

proptest! {
    #[test]
    fn what_a_broker_writes_reads_the_same(bytes in broker_packet()) {
        let (packet, size) = read(&bytes, Protocol::V311, NO_LIMIT).unwrap().unwrap();
        prop_assert_eq!(size, bytes.len());
        prop_assert_eq!(translate(&packet), decode(&bytes));
    }

    #[test]
    fn a_publish_reads_the_same(
        topic in topic(), payload in payload(), qos in qos(), id in packet_id(), flags: [bool; 2],
    ) {
        let packet_id = PacketId::new(id).filter(|_| qos != Qos::AtMostOnce);
        let publish = Publish { topic: &topic, payload: &payload, packet_id, qos, retain: flags[0], dup: flags[1], properties: Properties::default() };
        // Behind another one: a frame may be anywhere in the output.
        let mut out = Vec::new();
        write_publish(&mut out, &publish).unwrap();
        let first = out.len();
        write_publish(&mut out, &publish).unwrap();
        prop_assert_eq!(&out[..first], &out[first..]);
        let theirs = their_publish((topic.clone(), payload.clone(), qos, id, flags));
        prop_assert_eq!(decode(&out[first..]), theirs.clone());
        prop_assert_eq!(&out[first..], &encode(&theirs)[..]);
        let sent = Publish { dup: flags[1] && qos != Qos::AtMostOnce, ..publish };
        prop_assert_eq!(read(&out, Protocol::V311, NO_LIMIT), Ok(Some((Packet::Publish(sent), first))));
    }

    #[test]
    fn a_connect_reads_the_same(
        client_id in "[a-z0-9]{1,30}",
        // rumqttc cannot say an empty password.
        login in option::of(("[^\\x00]{1,20}", "[^\\x00]{1,20}")),
        will in option::of((topic(), vec(any::<u8>(), 0..200), qos(), any::<bool>())),
        clean: bool,
        keep_alive in 0..=u16::MAX,
    ) {
        let connect = Connect {
            client_id: &client_id,
            user: login.as_ref().map(|(user, _)| user.as_str()),
            password: login.as_ref().map(|(_, password)| password.as_bytes()),
            will: will.as_ref().map(|(topic, payload, qos, retain)| {
                Will { topic, payload, qos: *qos, retain: *retain }
            }),
        };
        let mut out = b"before".to_vec();
        codec::write_connect(&mut out, &connect, clean, Span::from_secs(u64::from(keep_alive))).unwrap();
        let theirs = v4::Packet::Connect(v4::Connect {
            protocol: rumqttc::mqttbytes::Protocol::V4,
            keep_alive,
            client_id: client_id.clone(),
            clean_session: clean,
            last_will: will.map(|(topic, payload, qos, retain)| {
                v4::LastWill::new(topic, payload, their_qos(qos), retain)
            }),
            login: login.map(|(user, password)| v4::Login::new(user, password)),
        });
        prop_assert_eq!(decode(&out[6..]), theirs.clone());
        prop_assert_eq!(&out[6..], &encode(&theirs)[..]);
    }

    #[test]
    fn a_subscription_reads_the_same(
        filters in vec((prop_oneof![topic(), Just("a/+/#".to_owned())], qos()), 1..5), id in packet_id(),
    ) {
        let ours: Vec<(&str, Qos)> = filters.iter().map(|(filter, qos)| (filter.as_str(), *qos)).collect();
        let mut out = Vec::new();
        codec::write_subscribe(&mut out, PacketId::new(id).unwrap(), &ours).unwrap();
        let theirs = filters.iter().map(|(filter, qos)| v4::SubscribeFilter::new(filter.clone(), their_qos(*qos)));
        prop_assert_eq!(decode(&out), v4::Packet::Subscribe(v4::Subscribe { pkid: id, filters: theirs.collect() }));

        let ours: Vec<&str> = filters.iter().map(|(filter, _)| filter.as_str()).collect();
        out.clear();
        codec::write_unsubscribe(&mut out, PacketId::new(id).unwrap(), &ours).unwrap();
        let topics = filters.into_iter().map(|(filter, _)| filter).collect();
        prop_assert_eq!(decode(&out), v4::Packet::Unsubscribe(v4::Unsubscribe { pkid: id, topics }));
    }
}
