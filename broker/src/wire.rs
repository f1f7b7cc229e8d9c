//! Packets from bytes and bytes from packets, MQTT 3.1.1.
//!
//! PUBLISH, the packet of the hot path, is coded in place; the rest is rumqttc's codec, behind the
//! checks that it leaves out: reserved bits of the fixed header, connect flags, topic names.
//! A client whose packet fails any of them is closed (MQTT-4.8.0-1).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes::{self, Error, v4};
use rumqttc::{QoS, SubscribeFilter};

/// Why a connection is closed by what its client sent. The name is the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Fault {
    #[error("a packet does not have the form that MQTT 3.1.1 requires")]
    Malformed,
    #[error("a packet is larger than the limit")]
    PacketTooLarge,
    #[error("a packet came that a client may not send, or not now")]
    Unexpected,
    #[error("a topic name or filter is not valid")]
    InvalidTopic,
}

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hello {
    /// A valid CONNECT of MQTT 3.1.1.
    Connect(v4::Connect),
    /// MQTT 5, which this broker does not speak yet.
    Version5,
    /// Any other version of the protocol.
    UnknownVersion,
}

/// What a connected client may send.
#[derive(Debug)]
pub(crate) enum Packet<'a> {
    Publish(Publish<'a>),
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe(u16, Vec<SubscribeFilter>),
    Unsubscribe(u16, Vec<String>),
    PingReq,
    Disconnect,
}

/// A PUBLISH, borrowed from the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// 0 at `QoS` 0.
    pub(crate) id: u16,
}

/// Length of the first packet in the buffer, or nothing while it is incomplete.
///
/// A packet above `max` bytes is refused by its announced length, before it has been read.
pub(crate) fn frame(input: &[u8], max: usize) -> Result<Option<usize>, Fault> {
    match mqttbytes::check(input.iter(), max) {
        Ok(header) => Ok(Some(header.frame_length())),
        Err(Error::InsufficientBytes(_)) => Ok(None),
        Err(Error::PayloadSizeLimitExceeded(_)) => Err(Fault::PacketTooLarge),
        Err(_) => Err(Fault::Malformed),
    }
}

/// Whether the buffer can become a CONNECT. Tells other protocols before a whole packet is there.
pub(crate) fn may_be_connect(input: &[u8]) -> bool {
    input.first().is_none_or(|byte| *byte == 0x10)
}

/// Decodes the packet that must be the first of a connection (MQTT-3.1.0-1).
pub(crate) fn hello(frame: &[u8]) -> Result<Hello, Fault> {
    if !may_be_connect(frame) {
        return Err(Fault::Unexpected);
    }
    let mut body = body(frame);
    let name = string(&mut body)?;
    let level = byte(&mut body)?;
    match (name, level) {
        ("MQTT", 4) => {}
        ("MQTT", 5) => return Ok(Hello::Version5),
        ("MQTT" | "MQIsdp", _) => return Ok(Hello::UnknownVersion),
        _ => return Err(Fault::Malformed),
    }
    valid_connect_flags(byte(&mut body)?)?;
    match decode(frame)? {
        v4::Packet::Connect(connect) if connect.client_id.contains('\0') => Err(Fault::Malformed),
        v4::Packet::Connect(connect) => Ok(Hello::Connect(connect)),
        _ => Err(Fault::Unexpected),
    }
}

/// MQTT-3.1.2-3, MQTT-3.1.2-11 to MQTT-3.1.2-15 and MQTT-3.1.2-22.
fn valid_connect_flags(flags: u8) -> Result<(), Fault> {
    let [reserved, will, retain, password, user] = [0x01, 0x04, 0x20, 0x40, 0x80].map(|bit| flags & bit != 0);
    let will_qos = (flags >> 3) & 3;
    let valid = !reserved && will_qos < 3 && (will || (will_qos == 0 && !retain)) && (user || !password);
    if valid { Ok(()) } else { Err(Fault::Malformed) }
}

/// Decodes a packet of a connected client.
pub(crate) fn packet(frame: &[u8]) -> Result<Packet<'_>, Fault> {
    valid_fixed_header(frame[0])?;
    if frame[0] >> 4 == 3 {
        return publish(frame).map(Packet::Publish);
    }
    match decode(frame)? {
        v4::Packet::PubAck(ack) => Ok(Packet::PubAck(ack.pkid)),
        v4::Packet::PubRec(ack) => Ok(Packet::PubRec(ack.pkid)),
        v4::Packet::PubRel(ack) => Ok(Packet::PubRel(ack.pkid)),
        v4::Packet::PubComp(ack) => Ok(Packet::PubComp(ack.pkid)),
        v4::Packet::Subscribe(subscribe) => {
            let filters = subscribe.filters.iter().map(|filter| filter.path.as_str());
            valid_filters(subscribe.pkid, filters)?;
            Ok(Packet::Subscribe(subscribe.pkid, subscribe.filters))
        }
        v4::Packet::Unsubscribe(unsubscribe) => {
            let filters = unsubscribe.topics.iter().map(String::as_str);
            valid_filters(unsubscribe.pkid, filters)?;
            Ok(Packet::Unsubscribe(unsubscribe.pkid, unsubscribe.topics))
        }
        v4::Packet::PingReq => Ok(Packet::PingReq),
        v4::Packet::Disconnect => Ok(Packet::Disconnect),
        // A second CONNECT (MQTT-3.1.0-2), and what only a server sends.
        _ => Err(Fault::Unexpected),
    }
}

/// Reserved bits must be as the standard lists them (MQTT-2.2.2-2).
fn valid_fixed_header(first: u8) -> Result<(), Fault> {
    let flags = first & 0x0f;
    let valid = match first >> 4 {
        3 => flags & 0x06 != 0x06 && (flags & 0x06 != 0 || flags & 0x08 == 0),
        6 | 8 | 10 => flags == 2,
        _ => flags == 0,
    };
    if valid { Ok(()) } else { Err(Fault::Malformed) }
}

fn valid_filters<'a>(id: u16, filters: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
    let mut count = 0;
    for filter in filters {
        count += 1;
        if !mqttbytes::valid_filter(filter) || filter.contains('\0') {
            return Err(Fault::InvalidTopic);
        }
    }
    if id == 0 || count == 0 {
        return Err(Fault::Malformed);
    }
    Ok(())
}

fn publish(frame: &[u8]) -> Result<Publish<'_>, Fault> {
    let first = frame[0];
    let qos = match (first >> 1) & 3 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        _ => return Err(Fault::Malformed),
    };
    let mut body = body(frame);
    let topic = string(&mut body)?;
    if !is_valid_topic(topic) {
        return Err(Fault::InvalidTopic);
    }
    let id = match qos {
        QoS::AtMostOnce => 0,
        _ => match short(&mut body)? {
            0 => return Err(Fault::Malformed),
            id => id,
        },
    };
    Ok(Publish { topic, payload: body, qos, retain: first & 1 != 0, id })
}

/// MQTT-3.3.2-2, MQTT-4.7.3-1, MQTT-4.7.3-2.
pub(crate) fn is_valid_topic(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#', '\0'])
}

fn decode(frame: &[u8]) -> Result<v4::Packet, Fault> {
    let mut stream = BytesMut::from(frame);
    v4::Packet::read(&mut stream, frame.len()).map_err(|_| Fault::Malformed)
}

/// What follows the fixed header of a complete packet.
fn body(frame: &[u8]) -> &[u8] {
    let length_bytes = frame[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    &frame[2 + length_bytes..]
}

fn byte(body: &mut &[u8]) -> Result<u8, Fault> {
    body.try_get_u8().map_err(|_| Fault::Malformed)
}

fn short(body: &mut &[u8]) -> Result<u16, Fault> {
    body.try_get_u16().map_err(|_| Fault::Malformed)
}

fn string<'a>(body: &mut &'a [u8]) -> Result<&'a str, Fault> {
    let length = usize::from(short(body)?);
    let (text, rest) = body.split_at_checked(length).ok_or(Fault::Malformed)?;
    *body = rest;
    std::str::from_utf8(text).map_err(|_| Fault::Malformed)
}

/// The answer to a CONNECT (MQTT 3.1.1, 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ConnectCode {
    Accepted = 0,
    UnacceptableVersion = 1,
    IdentifierRejected = 2,
    ServerUnavailable = 3,
    BadCredentials = 4,
    NotAuthorized = 5,
}

pub(crate) fn put_connack(out: &mut BytesMut, session_present: bool, code: ConnectCode) {
    out.put_slice(&[0x20, 2, u8::from(session_present), code as u8]);
}

/// MQTT 5: unsupported protocol version (0x84), no properties.
pub(crate) fn put_connack_version5(out: &mut BytesMut) {
    out.put_slice(&[0x20, 3, 0, 0x84, 0]);
}

/// `granted` holds the quality of service of each filter, or nothing where it was refused.
pub(crate) fn put_suback(out: &mut BytesMut, id: u16, granted: &[Option<QoS>]) {
    out.put_u8(0x90);
    put_remaining_length(out, 2 + granted.len());
    out.put_u16(id);
    out.extend(granted.iter().map(|qos| qos.map_or(0x80, |qos| qos as u8)));
}

pub(crate) fn put_unsuback(out: &mut BytesMut, id: u16) {
    out.put_slice(&[0xb0, 2]);
    out.put_u16(id);
}

pub(crate) fn put_pingresp(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP, which carry nothing but a packet identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reply {
    Acknowledge = 0x40,
    Receive = 0x50,
    Release = 0x62,
    Complete = 0x70,
}

pub(crate) fn put_reply(out: &mut BytesMut, reply: Reply, id: u16) {
    out.put_slice(&[reply as u8, 2]);
    out.put_u16(id);
}

/// How a message goes to one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) duplicate: bool,
    /// Ignored at `QoS` 0.
    pub(crate) id: u16,
}

pub(crate) fn put_publish(out: &mut BytesMut, header: Header, topic: &Bytes, payload: &Bytes) {
    let id_length = if header.qos == QoS::AtMostOnce { 0 } else { 2 };
    let flags = u8::from(header.duplicate) << 3 | (header.qos as u8) << 1 | u8::from(header.retain);
    out.put_u8(0x30 | flags);
    put_remaining_length(out, 2 + topic.len() + id_length + payload.len());
    // Topics come from a PUBLISH or CONNECT, whose length field has the same 16 bits.
    out.put_u16(u16::try_from(topic.len()).unwrap_or(u16::MAX));
    out.put_slice(topic);
    if id_length > 0 {
        out.put_u16(header.id);
    }
    out.put_slice(payload);
}

fn put_remaining_length(out: &mut BytesMut, mut length: usize) {
    while length > 0x7f {
        out.put_u8(0x80 | length.to_le_bytes()[0]);
        length >>= 7;
    }
    out.put_u8(length.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(packet: &v4::Packet) -> BytesMut {
        let mut buffer = BytesMut::new();
        packet.write(&mut buffer, usize::MAX).unwrap();
        buffer
    }

    fn connect() -> v4::Connect {
        let mut connect = v4::Connect::new("device");
        connect.last_will = Some(v4::LastWill::new("will", "gone", QoS::AtLeastOnce, true));
        connect.set_login("user", "password");
        connect
    }

    #[test]
    fn a_connect_is_told_by_its_version() {
        let mut frame = encoded(&v4::Packet::Connect(connect()));
        assert_eq!(hello(&frame), Ok(Hello::Connect(connect())));
        frame[8] = 5;
        assert_eq!(hello(&frame), Ok(Hello::Version5));
        frame[8] = 6;
        assert_eq!(hello(&frame), Ok(Hello::UnknownVersion));
        frame[8] = 4;
        frame[4] = b'X';
        assert_eq!(hello(&frame), Err(Fault::Malformed));
        assert_eq!(hello(&[0xc0, 0]), Err(Fault::Unexpected));
    }

    #[test]
    fn connect_flags_that_contradict_each_other_are_malformed() {
        for flags in [0x00, 0x02, 0x04, 0x2c, 0x80, 0xc0, 0xf6] {
            assert_eq!(valid_connect_flags(flags), Ok(()), "{flags:#x}");
        }
        for flags in [0x01, 0x08, 0x20, 0x1c, 0x40] {
            assert_eq!(valid_connect_flags(flags), Err(Fault::Malformed), "{flags:#x}");
        }
    }

    #[test]
    fn reserved_bits_are_malformed() {
        for first in [0x36, 0x38, 0x41, 0x60, 0x80, 0xa0, 0xc1, 0xe1] {
            assert_eq!(valid_fixed_header(first), Err(Fault::Malformed), "{first:#x}");
        }
    }

    #[test]
    fn a_packet_above_the_limit_is_refused_by_its_announced_length() {
        assert_eq!(frame(&[0x30, 0xff, 0xff, 0xff, 0x7f], 1000), Err(Fault::PacketTooLarge));
        assert_eq!(frame(&[0x30, 0xff, 0xff, 0xff, 0xff], 1000), Err(Fault::Malformed));
        assert_eq!(frame(&[0x30, 0x05, 0], 1000), Ok(None));
        assert_eq!(frame(&[0xc0, 0x00, 0xc0], 1000), Ok(Some(2)));
    }

    #[test]
    fn topics_that_no_message_can_have_are_refused() {
        for topic in ["", "a/+", "#", "a\0"] {
            let publish = v4::Publish::new(topic, QoS::AtMostOnce, "");
            let frame = encoded(&v4::Packet::Publish(publish));
            assert!(matches!(packet(&frame), Err(Fault::InvalidTopic)), "{topic:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 2..80)) {
            if let Ok(Some(length)) = frame(&bytes, 64) {
                // Which of the two is not the point: neither may panic.
                drop(packet(&bytes[..length]));
                drop(hello(&bytes[..length]));
            }
        }

        #[test]
        fn a_publish_reads_as_rumqttc_wrote_it(
            topic in "[a-zé/]{1,40}",
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            qos in 0u8..3,
            retain: bool,
            id in 1u16..,
        ) {
            let mut written = v4::Publish::new(&topic, mqttbytes::qos(qos).unwrap(), payload.clone());
            written.pkid = if qos == 0 { 0 } else { id };
            written.retain = retain;
            let frame = encoded(&v4::Packet::Publish(written.clone()));
            let read = publish(&frame).unwrap();
            prop_assert_eq!((read.topic, read.payload), (topic.as_str(), payload.as_slice()));
            prop_assert_eq!((read.qos, read.retain, read.id), (written.qos, retain, written.pkid));

            let mut ours = BytesMut::new();
            let header = Header { qos: read.qos, retain, duplicate: false, id: read.id };
            put_publish(&mut ours, header, &Bytes::from(topic), &Bytes::from(payload));
            prop_assert_eq!(ours, frame);
        }
    }
}
