//! The packets that a broker sends, borrowed from the bytes that came.

use super::name::check_topic_bytes;
use super::{ConnackCode, Packet, PacketId, Protocol, ProtocolError, Publish, Qos, SUBACK_FAILURE, v5};

/// Reads one packet from the front of `bytes`: the packet, and how many bytes it takes.
///
/// `Ok(None)` says that more bytes are needed. `max_size` bounds a whole packet, header included,
/// and is checked as soon as the length is known, before the packet has come.
pub fn read(bytes: &[u8], protocol: Protocol, max_size: usize) -> Result<Option<(Packet<'_>, usize)>, ProtocolError> {
    let Some(&header) = bytes.first() else {
        return Ok(None);
    };
    check_header(header, protocol)?;
    let Some((length, body)) = remaining_length(bytes)? else {
        return Ok(None);
    };
    let size = body + length;
    if size > max_size {
        return Err(ProtocolError::TooLarge { size, max: max_size });
    }
    match (bytes.get(body..size), protocol) {
        (None, _) => Ok(None),
        (Some(body), Protocol::V311) => Ok(Some((packet(header, body)?, size))),
        (Some(body), Protocol::V5) => Ok(Some((v5::packet(header, body)?, size))),
    }
}

/// Packet type and flags of the fixed header (§2.2.1, §2.2.2).
fn check_header(header: u8, protocol: Protocol) -> Result<(), ProtocolError> {
    match (header >> 4, header & 0x0f) {
        (3, flags) if flags & 0b0110 == 0b0110 => Err(ProtocolError::InvalidQos),
        (3, flags) if flags & 0b1110 == 0b1000 => Err(ProtocolError::DupAtMostOnce),
        (3, _) | (2 | 4 | 5 | 7 | 9 | 11 | 13, 0) | (6, 0b0010) => Ok(()),
        (14 | 15, 0) if protocol == Protocol::V5 => Ok(()),
        (14 | 15, _) if protocol == Protocol::V5 => Err(ProtocolError::ReservedFlags(header)),
        (2 | 4..=7 | 9 | 11 | 13, _) => Err(ProtocolError::ReservedFlags(header)),
        (kind @ (0 | 15), _) => Err(ProtocolError::ReservedType(kind)),
        (kind, _) => Err(ProtocolError::ClientPacket(kind)),
    }
}

/// The remaining length and where it ends (§2.2.3).
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
    let mut length = 0;
    for index in 1..=4 {
        let Some(&digit) = bytes.get(index) else {
            return Ok(None);
        };
        length |= usize::from(digit & 0x7f) << (7 * (index - 1));
        if digit & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    Err(ProtocolError::RemainingLength)
}

fn packet(header: u8, body: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    match header >> 4 {
        2 => connack(header, body),
        3 => publish(header, body),
        4 => Ok(Packet::Puback(lone_packet_id(header, body)?)),
        5 => Ok(Packet::Pubrec(lone_packet_id(header, body)?)),
        6 => Ok(Packet::Pubrel(lone_packet_id(header, body)?)),
        7 => Ok(Packet::Pubcomp(lone_packet_id(header, body)?)),
        9 => suback(header, body),
        11 => Ok(Packet::Unsuback(lone_packet_id(header, body)?)),
        13 if body.is_empty() => Ok(Packet::Pingresp),
        _ => Err(ProtocolError::WrongLength(header)),
    }
}

fn connack(header: u8, body: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    let &[flags, code] = body else {
        return Err(ProtocolError::WrongLength(header));
    };
    let code = ConnackCode::new(code).ok_or(ProtocolError::ConnackCode(code))?;
    if flags > 1 || (flags == 1 && code != ConnackCode::Accepted) {
        return Err(ProtocolError::ConnackFlags(flags));
    }
    Ok(Packet::Connack { session_present: flags == 1, code })
}

fn publish(header: u8, body: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    let wrong_length = ProtocolError::WrongLength(header);
    let (length, rest) = body.split_first_chunk::<2>().ok_or(wrong_length)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (topic, mut payload) = rest.split_at_checked(length).ok_or(wrong_length)?;
    let topic = check_topic_bytes(topic, "topic").map_err(ProtocolError::InvalidTopic)?;
    let qos = Qos::try_from(header >> 1 & 0b11).map_err(|_| ProtocolError::InvalidQos)?;
    let mut packet_id = None;
    if qos != Qos::AtMostOnce {
        let (id, rest) = payload.split_first_chunk::<2>().ok_or(wrong_length)?;
        packet_id = Some(read_packet_id(*id)?);
        payload = rest;
    }
    let (retain, dup) = (header & 0b0001 != 0, header & 0b1000 != 0);
    Ok(Packet::Publish(Publish { topic, payload, packet_id, qos, retain, dup, properties: v5::Properties::default() }))
}

fn suback(header: u8, body: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    let wrong_length = ProtocolError::WrongLength(header);
    let (id, codes) = body.split_first_chunk::<2>().ok_or(wrong_length)?;
    let packet_id = read_packet_id(*id)?;
    if codes.is_empty() {
        return Err(wrong_length);
    }
    match codes.iter().find(|&&code| code > 2 && code != SUBACK_FAILURE) {
        Some(&code) => Err(ProtocolError::SubackCode(code)),
        None => Ok(Packet::Suback { packet_id, codes }),
    }
}

fn lone_packet_id(header: u8, body: &[u8]) -> Result<PacketId, ProtocolError> {
    let id = <[u8; 2]>::try_from(body).map_err(|_| ProtocolError::WrongLength(header))?;
    read_packet_id(id)
}

pub(super) fn read_packet_id(bytes: [u8; 2]) -> Result<PacketId, ProtocolError> {
    PacketId::new(u16::from_be_bytes(bytes)).ok_or(ProtocolError::PacketIdZero)
}
