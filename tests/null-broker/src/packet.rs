//! What a client sends, read in place without a copy.
//!
//! A sink in a measurement must cost less than any generator, so this is no general codec: it reads the fields that
//! an answer needs and skips the rest. MQTT 3.1.1, chapters 2 and 3.

/// The largest packet taken: enough for any test, little enough that a broken length takes no memory.
const MAX_PACKET: usize = 16 * 1024 * 1024;

/// Bytes that are no MQTT packet of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A packet identifier, as it is on the wire.
pub(crate) type PacketId = [u8; 2];

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// The level of the protocol is 4 or 5.
    Connect {
        level: u8,
    },
    Publish(Publish<'a>),
    PubRel(PacketId),
    Subscribe(PacketId, Vec<&'a str>),
    Unsubscribe(PacketId, Vec<&'a str>),
    PingReq,
    Disconnect,
    /// PUBACK, PUBREC or PUBCOMP: the answer to nothing that we sent.
    Acknowledgement,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) qos: Qos,
    pub(crate) topic: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// The quality of service, with the identifier that an acknowledgement names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Zero,
    One(PacketId),
    Two(PacketId),
}

/// The first packet in `bytes` and its length, or `None` when it is not complete.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, Malformed> {
    let Some((header, body_length)) = fixed_header(bytes)? else {
        return Ok(None);
    };
    let end = header + body_length;
    match bytes.get(header..end) {
        Some(body) => Ok(Some((parse(bytes[0], body)?, end))),
        None => Ok(None),
    }
}

/// The lengths of the fixed header and of the rest (MQTT-2.2.3), `None` when the header is not complete.
fn fixed_header(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return if length <= MAX_PACKET { Ok(Some((index + 2, length))) } else { Err(Malformed) };
        }
    }
    if bytes.len() > 4 { Err(Malformed) } else { Ok(None) }
}

fn parse(first_byte: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let mut body = Body(body);
    match first_byte >> 4 {
        1 => connect(body),
        3 => publish(first_byte, body),
        4 | 5 | 7 => Ok(Packet::Acknowledgement),
        6 => Ok(Packet::PubRel(body.packet_id()?)),
        8 => Ok(Packet::Subscribe(body.packet_id()?, body.filters(1)?)),
        10 => Ok(Packet::Unsubscribe(body.packet_id()?, body.filters(0)?)),
        12 => Ok(Packet::PingReq),
        14 => Ok(Packet::Disconnect),
        _ => Err(Malformed),
    }
}

/// Only the protocol's name and level are looked at (MQTT-3.1.2-1, MQTT-3.1.2-2). What MQTT 5 adds to PUBLISH lies behind
/// what an answer needs; to its SUBSCRIBE there is none.
fn connect(mut body: Body<'_>) -> Result<Packet<'_>, Malformed> {
    match (body.string()?, body.take(1)?) {
        (b"MQTT", &[level @ (4 | 5)]) => Ok(Packet::Connect { level }),
        _ => Err(Malformed),
    }
}

fn publish(first_byte: u8, mut body: Body<'_>) -> Result<Packet<'_>, Malformed> {
    let topic = body.string()?;
    let qos = match (first_byte >> 1) & 3 {
        0 => Qos::Zero,
        1 => Qos::One(body.packet_id()?),
        2 => Qos::Two(body.packet_id()?),
        _ => return Err(Malformed),
    };
    Ok(Packet::Publish(Publish { qos, topic, payload: body.0 }))
}

/// What is left to read of a packet.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn packet_id(&mut self) -> Result<PacketId, Malformed> {
        self.take(2)?.try_into().map_err(|_| Malformed)
    }

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = u16::from_be_bytes(self.packet_id()?);
        self.take(usize::from(length))
    }

    /// Topic filters up to the end, each followed by `options` bytes.
    fn filters(&mut self, options: usize) -> Result<Vec<&'a str>, Malformed> {
        let mut filters = Vec::new();
        while !self.0.is_empty() {
            filters.push(std::str::from_utf8(self.string()?).map_err(|_| Malformed)?);
            self.take(options)?;
        }
        Ok(filters)
    }
}

/// Appends a PUBLISH at QoS 0 of a topic and payload that arrived in one packet, and so fit into one.
#[expect(clippy::cast_possible_truncation, reason = "seven bits, and a topic that came with a 16-bit length")]
pub(crate) fn write_publish(topic: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x30);
    let mut length = 2 + topic.len() + payload.len();
    // Seven bits a byte, the least significant first (MQTT-2.2.3).
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_that_is_written_is_read_back_whatever_its_length() {
        for length in [0, 1, 100, 120, 16_000, 17_000, 300_000] {
            let payload = vec![7; length];
            let mut bytes = Vec::new();
            write_publish(b"a/b", &payload, &mut bytes);
            let publish = Publish { qos: Qos::Zero, topic: b"a/b", payload: &payload };
            assert_eq!(first(&bytes), Ok(Some((Packet::Publish(publish), bytes.len()))));
            assert_eq!(first(&bytes[..bytes.len() - 1]), Ok(None));
        }
    }

    #[test]
    fn both_versions_may_connect() {
        for level in [4, 5] {
            let connect = [0x10, 7, 0, 4, b'M', b'Q', b'T', b'T', level];
            assert_eq!(first(&connect), Ok(Some((Packet::Connect { level }, connect.len()))));
        }
    }

    #[test]
    fn what_is_no_packet_is_malformed() {
        let endless_length = [0x30, 0xff, 0xff, 0xff, 0xff];
        let filter_past_the_end = [0x82, 5, 0, 1, 0, 9, b'a'];
        let mqtt_3_1 = [0x10, 7, 0, 4, b'M', b'Q', b'T', b'T', 3];
        let qos_3 = [0x36, 5, 0, 1, b'a', 0, 1];
        let reserved = [0xf0, 0];
        for bytes in [&endless_length[..], &filter_past_the_end, &mqtt_3_1, &qos_3, &reserved] {
            assert_eq!(first(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
