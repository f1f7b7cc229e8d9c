//! The packets of a broker of MQTT 5, from their bodies.

use super::{Properties, Property, Reason, reason};
use crate::session::codec::{
    Packet, ProtocolError, Publish, Qos, SUBACK_FAILURE, name::check_topic_bytes, read::read_packet_id,
};

/// Reads the body of a packet whose fixed header was checked.
pub(in crate::session::codec) fn packet(header: u8, body: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    match header >> 4 {
        2 => connack(header, body),
        3 => publish(header, body),
        4..=7 => acknowledgement(header, body),
        9 | 11 => answer(header, body),
        13 if body.is_empty() => Ok(Packet::Pingresp),
        14 => {
            let (reason, properties) = ending(header, body)?;
            Ok(Packet::Disconnect { reason, properties })
        }
        15 if body.len() != 1 => {
            let (reason, properties) = ending(header, body)?;
            Ok(Packet::Auth { reason, properties })
        }
        _ => Err(ProtocolError::WrongLength(header)),
    }
}

fn connack(header: u8, body: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    // A broker that knows nothing of MQTT 5 answers as in 3.1.1, where this is the return code for it.
    if body == [0, 1] {
        let reason = Reason::UnsupportedProtocolVersion;
        return Ok(Packet::Connack5 { session_present: false, reason, properties: Properties::default() });
    }
    let [flags, code, rest @ ..] = body else { return Err(ProtocolError::WrongLength(header)) };
    let reason = read_reason(header, *code)?;
    if *flags > 1 || (*flags == 1 && reason != Reason::Success) {
        return Err(ProtocolError::ConnackFlags(*flags));
    }
    let properties = last_properties(header, rest)?;
    Ok(Packet::Connack5 { session_present: *flags == 1, reason, properties })
}

fn publish(header: u8, body: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    let wrong_length = ProtocolError::WrongLength(header);
    let (length, rest) = body.split_first_chunk::<2>().ok_or(wrong_length)?;
    let (topic, mut rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(wrong_length)?;
    let qos = Qos::try_from(header >> 1 & 0b11).map_err(|_| ProtocolError::InvalidQos)?;
    let mut packet_id = None;
    if qos != Qos::AtMostOnce {
        let (id, after) = rest.split_first_chunk::<2>().ok_or(wrong_length)?;
        packet_id = Some(read_packet_id(*id)?);
        rest = after;
    }
    let (properties, payload) = Properties::read(header >> 4, rest)?;
    // No CONNECT of ours allows any (MQTT-3.1.2-26).
    if properties.iter().any(|property| matches!(property, Property::TopicAlias(_))) {
        return Err(ProtocolError::TopicAlias);
    }
    let topic = check_topic_bytes(topic, "topic").map_err(ProtocolError::InvalidTopic)?;
    let (retain, dup) = (header & 0b0001 != 0, header & 0b1000 != 0);
    Ok(Packet::Publish(Publish { topic, payload, packet_id, qos, retain, dup, properties }))
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP; without reason and properties they are those of 3.1.1.
fn acknowledgement(header: u8, body: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    let (id, rest) = body.split_first_chunk::<2>().ok_or(ProtocolError::WrongLength(header))?;
    let packet_id = read_packet_id(*id)?;
    let reason = match rest {
        [] => Reason::Success,
        [code, rest @ ..] => {
            if !rest.is_empty() {
                last_properties(header, rest)?;
            }
            read_reason(header, *code)?
        }
    };
    Ok(match (header >> 4, reason.is_error()) {
        (4, false) => Packet::Puback(packet_id),
        (4, true) => Packet::Rejected { packet_id, qos: Qos::AtLeastOnce, reason },
        (5, false) => Packet::Pubrec(packet_id),
        (5, true) => Packet::Rejected { packet_id, qos: Qos::ExactlyOnce, reason },
        // That the other side knows nothing of the identifier ends the exchange as well.
        (6, _) => Packet::Pubrel(packet_id),
        _ => Packet::Pubcomp(packet_id),
    })
}

/// SUBACK and UNSUBACK: a reason for each filter.
fn answer(header: u8, body: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    let (id, rest) = body.split_first_chunk::<2>().ok_or(ProtocolError::WrongLength(header))?;
    let packet_id = read_packet_id(*id)?;
    let (_, codes) = Properties::read(header >> 4, rest)?;
    if codes.is_empty() {
        return Err(ProtocolError::WrongLength(header));
    }
    codes.iter().try_for_each(|code| read_reason(header, *code).map(|_| ()))?;
    Ok(if header >> 4 == 9 {
        Packet::Suback { packet_id, codes }
    } else if codes.iter().any(|code| *code >= SUBACK_FAILURE) {
        Packet::UnsubackFailure { packet_id, codes }
    } else {
        Packet::Unsuback(packet_id)
    })
}

/// DISCONNECT and AUTH: reason and properties, either of which may be left out.
fn ending(header: u8, body: &[u8]) -> Result<(Reason, Properties<'_>), ProtocolError> {
    match body {
        [] => Ok((Reason::Success, Properties::default())),
        [code] => Ok((read_reason(header, *code)?, Properties::default())),
        [code, rest @ ..] => Ok((read_reason(header, *code)?, last_properties(header, rest)?)),
    }
}

/// Properties with which the packet ends.
fn last_properties(header: u8, body: &[u8]) -> Result<Properties<'_>, ProtocolError> {
    match Properties::read(header >> 4, body)? {
        (properties, []) => Ok(properties),
        _ => Err(ProtocolError::WrongLength(header)),
    }
}

fn read_reason(header: u8, code: u8) -> Result<Reason, ProtocolError> {
    let packet_type = header >> 4;
    Reason::new(code)
        .filter(|_| reason::is_allowed(packet_type, code))
        .ok_or(ProtocolError::Reason { packet_type, code })
}
