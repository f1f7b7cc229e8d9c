//! Every packet that a client sends, except PUBLISH: appended to the output, or refused whole.

use fleet_contract::units::Span;

use super::name::{check_filter, check_length, check_string, check_topic_bytes};
use super::{FrameError, MAX_REMAINING_LENGTH, PacketId, Qos};

// First bytes: packet type and prescribed flags (§2.2).
pub(super) const CONNECT: u8 = 0x10;
pub(super) const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
pub(super) const SUBSCRIBE: u8 = 0x82;
pub(super) const UNSUBSCRIBE: u8 = 0xa2;
const PINGREQ: u8 = 0xc0;
pub(super) const DISCONNECT: u8 = 0xe0;

/// Who connects, and what the broker publishes when the connection is lost (§3.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Connect<'a> {
    /// The client identifier; may be empty in a clean session only.
    pub client_id: &'a str,
    /// The user name, if any.
    pub user: Option<&'a str>,
    /// The password, if any; needs a user name.
    pub password: Option<&'a [u8]>,
    /// What the broker publishes when the connection is lost.
    pub will: Option<Will<'a>>,
}

/// What the broker publishes when a connection ends without DISCONNECT (§3.1.2.5).
#[derive(Clone, Copy, Debug)]
pub struct Will<'a> {
    /// Where it is published.
    pub topic: &'a str,
    /// What is published.
    pub payload: &'a [u8],
    /// How it is delivered.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscriptions.
    pub retain: bool,
}

/// Appends CONNECT. The keep-alive is rounded up to whole seconds, at most 65,535; zero is off.
pub fn write_connect(
    out: &mut Vec<u8>,
    connect: &Connect<'_>,
    is_clean: bool,
    keep_alive: Span,
) -> Result<(), FrameError> {
    let &Connect { client_id, user, password, will } = connect;
    check_connect(connect, is_clean, true)?;
    let mut flags = u8::from(is_clean) << 1;
    let mut length = 10 + 2 + client_id.len();
    if let Some(Will { topic, payload, qos, retain }) = will {
        flags |= 0x04 | (qos as u8) << 3 | u8::from(retain) << 5;
        length += 2 + topic.len() + 2 + payload.len();
    }
    if let Some(password) = password {
        flags |= 0x40;
        length += 2 + password.len();
    }
    if let Some(user) = user {
        flags |= 0x80;
        length += 2 + user.len();
    }
    write_header(out, CONNECT, length)?;
    out.extend_from_slice(b"\x00\x04MQTT\x04");
    out.push(flags);
    out.extend_from_slice(&keep_alive_seconds(keep_alive).to_be_bytes());
    write_field(out, client_id.as_bytes(), "client identifier")?;
    if let Some(will) = will {
        write_field(out, will.topic.as_bytes(), "will topic")?;
        write_field(out, will.payload, "will payload")?;
    }
    if let Some(user) = user {
        write_field(out, user.as_bytes(), "user name")?;
    }
    if let Some(password) = password {
        write_field(out, password, "password")?;
    }
    Ok(())
}

/// Appends SUBSCRIBE for these filters.
pub fn write_subscribe(out: &mut Vec<u8>, packet_id: PacketId, filters: &[(&str, Qos)]) -> Result<(), FrameError> {
    check_filters(filters.iter().map(|(filter, _)| *filter))?;
    let length: usize = filters.iter().map(|(filter, _)| 2 + filter.len() + 1).sum();
    write_header(out, SUBSCRIBE, 2 + length)?;
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    for (filter, qos) in filters {
        write_field(out, filter.as_bytes(), "filter")?;
        out.push(*qos as u8);
    }
    Ok(())
}

/// Appends UNSUBSCRIBE for these filters.
pub fn write_unsubscribe(out: &mut Vec<u8>, packet_id: PacketId, filters: &[&str]) -> Result<(), FrameError> {
    check_filters(filters.iter().copied())?;
    let length: usize = filters.iter().map(|filter| 2 + filter.len()).sum();
    write_header(out, UNSUBSCRIBE, 2 + length)?;
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    for filter in filters {
        write_field(out, filter.as_bytes(), "filter")?;
    }
    Ok(())
}

/// Appends PUBACK.
pub fn write_puback(out: &mut Vec<u8>, packet_id: PacketId) {
    write_ack(out, PUBACK, packet_id);
}

/// Appends PUBREC.
pub fn write_pubrec(out: &mut Vec<u8>, packet_id: PacketId) {
    write_ack(out, PUBREC, packet_id);
}

/// Appends PUBREL.
pub fn write_pubrel(out: &mut Vec<u8>, packet_id: PacketId) {
    write_ack(out, PUBREL, packet_id);
}

/// Appends PUBCOMP.
pub fn write_pubcomp(out: &mut Vec<u8>, packet_id: PacketId) {
    write_ack(out, PUBCOMP, packet_id);
}

/// Appends PINGREQ.
pub fn write_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PINGREQ, 0]);
}

/// Appends DISCONNECT.
pub fn write_disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[DISCONNECT, 0]);
}

/// The bytes of a remaining length, and how many of them count (§2.2.3).
pub(super) fn remaining_length(length: usize) -> Result<([u8; 4], usize), FrameError> {
    if length > MAX_REMAINING_LENGTH {
        return Err(FrameError::PacketTooLarge(length));
    }
    let (mut bytes, mut count, mut rest) = ([0; 4], 0, length);
    loop {
        let digit = rest.to_le_bytes()[0] & 0x7f;
        rest >>= 7;
        bytes[count] = if rest > 0 { digit | 0x80 } else { digit };
        count += 1;
        if rest == 0 {
            return Ok((bytes, count));
        }
    }
}

/// Whether the client identifier may be empty, and whether a password needs a user name, is the version's to say.
pub(super) fn check_connect(connect: &Connect<'_>, may_be_nameless: bool, needs_user: bool) -> Result<(), FrameError> {
    let Connect { client_id, user, password, will } = connect;
    check_string(client_id, "client identifier")?;
    if client_id.is_empty() && !may_be_nameless {
        return Err(FrameError::EmptyClientId);
    }
    if let Some(user) = user {
        check_string(user, "user name")?;
    }
    if let Some(password) = password {
        check_length(password, "password")?;
        if needs_user {
            user.ok_or(FrameError::PasswordWithoutUser)?;
        }
    }
    if let Some(will) = will {
        check_topic_bytes(will.topic.as_bytes(), "will topic")?;
        check_length(will.payload, "will payload")?;
    }
    Ok(())
}

fn check_filters<'a>(mut filters: impl ExactSizeIterator<Item = &'a str>) -> Result<(), FrameError> {
    if filters.len() == 0 {
        return Err(FrameError::NoFilter);
    }
    filters.try_for_each(check_filter)
}

/// Rounded up, so that the broker never waits for less than the client does.
pub(super) fn keep_alive_seconds(keep_alive: Span) -> u16 {
    u16::try_from(keep_alive.0.div_ceil(1_000_000)).unwrap_or(u16::MAX)
}

fn write_header(out: &mut Vec<u8>, header: u8, length: usize) -> Result<(), FrameError> {
    let (bytes, count) = remaining_length(length)?;
    out.reserve(1 + count + length);
    out.push(header);
    out.extend_from_slice(&bytes[..count]);
    Ok(())
}

pub(super) fn write_field(out: &mut Vec<u8>, bytes: &[u8], field: &'static str) -> Result<(), FrameError> {
    out.extend_from_slice(&check_length(bytes, field)?.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn write_ack(out: &mut Vec<u8>, header: u8, packet_id: PacketId) {
    let [high, low] = packet_id.get().to_be_bytes();
    out.extend_from_slice(&[header, 2, high, low]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(connect: &Connect<'_>, is_clean: bool) -> FrameError {
        let mut out = b"before".to_vec();
        let error = write_connect(&mut out, connect, is_clean, Span::ZERO).unwrap_err();
        assert_eq!(out, b"before");
        error
    }

    #[test]
    fn a_connect_that_no_broker_may_accept_is_not_written() {
        let will = Will { topic: "t", payload: b"", qos: Qos::AtMostOnce, retain: false };
        let c = Connect { client_id: "c", ..Connect::default() };
        let long = "a".repeat(65_536);
        let too_long = |field| FrameError::TooLong { field, length: 65_536 };
        assert_eq!(refused(&Connect::default(), false), FrameError::EmptyClientId);
        assert_eq!(refused(&Connect { client_id: &long, ..c }, true), too_long("client identifier"));
        assert_eq!(refused(&Connect { password: Some(b"p"), ..c }, true), FrameError::PasswordWithoutUser);
        assert_eq!(refused(&Connect { user: Some(&long), ..c }, true), too_long("user name"));
        assert_eq!(
            refused(&Connect { user: Some("u"), password: Some(long.as_bytes()), ..c }, true),
            too_long("password")
        );
        assert_eq!(
            refused(&Connect { will: Some(Will { topic: "a/+", ..will }), ..c }, true),
            FrameError::Wildcard("will topic")
        );
        assert_eq!(
            refused(&Connect { will: Some(Will { payload: long.as_bytes(), ..will }), ..c }, true),
            too_long("will payload")
        );
        assert_eq!(refused(&Connect { client_id: "a\0b", ..c }, true), FrameError::NullCharacter("client identifier"));
    }

    #[test]
    fn a_subscription_with_a_bad_filter_is_not_written() {
        let (mut out, id) = (Vec::new(), PacketId::new(1).unwrap());
        let filters = [("a", Qos::AtMostOnce), ("a/#/b", Qos::AtMostOnce)];
        assert_eq!(write_subscribe(&mut out, id, &filters), Err(FrameError::InvalidFilter));
        assert_eq!(write_subscribe(&mut out, id, &[]), Err(FrameError::NoFilter));
        assert_eq!(write_unsubscribe(&mut out, id, &["a", ""]), Err(FrameError::Empty("filter")));
        assert_eq!(write_unsubscribe(&mut out, id, &[]), Err(FrameError::NoFilter));
        assert!(out.is_empty());
    }

    #[test]
    fn a_keep_alive_is_rounded_up_and_never_rounded_to_off() {
        assert_eq!(keep_alive_seconds(Span::ZERO), 0);
        assert_eq!(keep_alive_seconds(Span(1)), 1);
        assert_eq!(keep_alive_seconds(Span::from_millis(1_500)), 2);
        assert_eq!(keep_alive_seconds(Span::from_secs(100_000)), u16::MAX);
    }

    #[test]
    fn a_remaining_length_past_four_bytes_is_refused() {
        assert_eq!(remaining_length(MAX_REMAINING_LENGTH), Ok(([0xff, 0xff, 0xff, 0x7f], 4)));
        let past = MAX_REMAINING_LENGTH + 1;
        assert_eq!(remaining_length(past), Err(FrameError::PacketTooLarge(past)));
    }
}
