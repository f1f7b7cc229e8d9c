//! Properties as they arrive: checked whole when their packet is read, and decoded where somebody looks.

use std::num::NonZeroU16;

use super::id;
use crate::session::codec::{ProtocolError, write::PUBLISH};

/// The properties of a packet, borrowed from its bytes; none in MQTT 3.1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a>(&'a [u8]);

/// A property of a broker's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Property<'a> {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifiersAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// How the topic of a PUBLISH is said (§3.3.2.3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alias {
    /// By its name.
    #[default]
    None,
    /// By its name, which this number stands for from now on.
    Bind(NonZeroU16),
    /// By this number; the topic stays empty.
    Use(NonZeroU16),
}

/// Properties that a packet of a broker may have, as bits by identifier.
pub(super) fn allowed(packet_type: u8) -> u64 {
    let bits = |ids: &[u8]| ids.iter().fold(0_u64, |bits, id| bits | 1 << id);
    let notes = bits(&[id::REASON_STRING, id::USER_PROPERTY]);
    match packet_type {
        2 => {
            notes
                | bits(&[id::SESSION_EXPIRY_INTERVAL, id::ASSIGNED_CLIENT_IDENTIFIER, id::SERVER_KEEP_ALIVE])
                | bits(&[id::AUTHENTICATION_METHOD, id::AUTHENTICATION_DATA, id::RESPONSE_INFORMATION])
                | bits(&[id::SERVER_REFERENCE, id::RECEIVE_MAXIMUM, id::TOPIC_ALIAS_MAXIMUM, id::MAXIMUM_QOS])
                | bits(&[id::RETAIN_AVAILABLE, id::MAXIMUM_PACKET_SIZE, id::WILDCARD_SUBSCRIPTION_AVAILABLE])
                | bits(&[id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE, id::SHARED_SUBSCRIPTION_AVAILABLE])
        }
        3 => {
            bits(&[id::PAYLOAD_FORMAT_INDICATOR, id::MESSAGE_EXPIRY_INTERVAL, id::CONTENT_TYPE, id::RESPONSE_TOPIC])
                | bits(&[id::CORRELATION_DATA, id::SUBSCRIPTION_IDENTIFIER, id::TOPIC_ALIAS, id::USER_PROPERTY])
        }
        14 => notes | bits(&[id::SERVER_REFERENCE]),
        15 => notes | bits(&[id::AUTHENTICATION_METHOD, id::AUTHENTICATION_DATA]),
        _ => notes,
    }
}

/// Those that a packet may have more than once.
const REPEATABLE: u64 = 1 << id::USER_PROPERTY | 1 << id::SUBSCRIPTION_IDENTIFIER;

impl<'a> Properties<'a> {
    /// Each of them, in their order.
    pub fn iter(self) -> impl Iterator<Item = Property<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || next(&mut rest).ok())
    }

    /// The first user property of that name.
    pub fn user(self, name: &str) -> Option<&'a str> {
        self.iter().find_map(|property| match property {
            Property::User(key, value) if key == name => Some(value),
            _ => None,
        })
    }

    /// Splits the properties of a PUBLISH off the front of `body`, their length before them.
    pub fn of_publish(body: &'a [u8]) -> Result<(Self, &'a [u8]), ProtocolError> {
        Self::read(PUBLISH >> 4, body)
    }

    /// Splits the properties of a packet of this type off the front of `body`.
    pub(super) fn read(packet_type: u8, body: &'a [u8]) -> Result<(Self, &'a [u8]), ProtocolError> {
        let mut rest = body;
        let length = variable(&mut rest).ok_or(ProtocolError::PropertyLength)?;
        let (properties, rest) = usize::try_from(length)
            .ok()
            .and_then(|at| rest.split_at_checked(at))
            .ok_or(ProtocolError::PropertyLength)?;
        check(properties, allowed(packet_type))?;
        Ok((Self(properties), rest))
    }
}

fn check(mut properties: &[u8], allowed: u64) -> Result<(), ProtocolError> {
    let mut seen = 0_u64;
    while let Some(&identifier) = properties.first() {
        if identifier >= 64 || allowed & 1 << identifier == 0 {
            return Err(ProtocolError::UnexpectedProperty(identifier));
        }
        if seen & 1 << identifier != 0 && REPEATABLE & 1 << identifier == 0 {
            return Err(ProtocolError::RepeatedProperty(identifier));
        }
        seen |= 1 << identifier;
        next(&mut properties)?;
    }
    Ok(())
}

/// Takes one property off the front.
fn next<'a>(rest: &mut &'a [u8]) -> Result<Property<'a>, ProtocolError> {
    let (&identifier, after) = rest.split_first().ok_or(ProtocolError::PropertyLength)?;
    *rest = after;
    value(identifier, rest).ok_or(ProtocolError::PropertyValue(identifier))
}

fn value<'a>(identifier: u8, rest: &mut &'a [u8]) -> Option<Property<'a>> {
    Some(match identifier {
        id::PAYLOAD_FORMAT_INDICATOR => Property::PayloadFormatIndicator(u8::from(flag(rest)?)),
        id::MESSAGE_EXPIRY_INTERVAL => Property::MessageExpiryInterval(four(rest)?),
        id::CONTENT_TYPE => Property::ContentType(string(rest)?),
        id::RESPONSE_TOPIC => Property::ResponseTopic(string(rest)?),
        id::CORRELATION_DATA => Property::CorrelationData(binary(rest)?),
        id::SUBSCRIPTION_IDENTIFIER => Property::SubscriptionIdentifier(variable(rest).filter(|id| *id > 0)?),
        id::SESSION_EXPIRY_INTERVAL => Property::SessionExpiryInterval(four(rest)?),
        id::ASSIGNED_CLIENT_IDENTIFIER => Property::AssignedClientIdentifier(string(rest)?),
        id::SERVER_KEEP_ALIVE => Property::ServerKeepAlive(two(rest)?),
        id::AUTHENTICATION_METHOD => Property::AuthenticationMethod(string(rest)?),
        id::AUTHENTICATION_DATA => Property::AuthenticationData(binary(rest)?),
        id::RESPONSE_INFORMATION => Property::ResponseInformation(string(rest)?),
        id::SERVER_REFERENCE => Property::ServerReference(string(rest)?),
        id::REASON_STRING => Property::ReasonString(string(rest)?),
        id::RECEIVE_MAXIMUM => Property::ReceiveMaximum(two(rest).filter(|maximum| *maximum > 0)?),
        id::TOPIC_ALIAS_MAXIMUM => Property::TopicAliasMaximum(two(rest)?),
        id::TOPIC_ALIAS => Property::TopicAlias(two(rest).filter(|alias| *alias > 0)?),
        id::MAXIMUM_QOS => Property::MaximumQos(u8::from(flag(rest)?)),
        id::RETAIN_AVAILABLE => Property::RetainAvailable(flag(rest)?),
        id::USER_PROPERTY => Property::User(string(rest)?, string(rest)?),
        id::MAXIMUM_PACKET_SIZE => Property::MaximumPacketSize(four(rest).filter(|size| *size > 0)?),
        id::WILDCARD_SUBSCRIPTION_AVAILABLE => Property::WildcardSubscriptionAvailable(flag(rest)?),
        id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE => Property::SubscriptionIdentifiersAvailable(flag(rest)?),
        id::SHARED_SUBSCRIPTION_AVAILABLE => Property::SharedSubscriptionAvailable(flag(rest)?),
        _ => return None,
    })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(bytes)
}

/// A byte that is 0 or 1.
fn flag(rest: &mut &[u8]) -> Option<bool> {
    match take::<1>(rest)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

fn two(rest: &mut &[u8]) -> Option<u16> {
    take(rest).map(|bytes| u16::from_be_bytes(*bytes))
}

fn four(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(|bytes| u32::from_be_bytes(*bytes))
}

fn binary<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(two(rest)?);
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// UTF-8 without U+0000 (MQTT-1.5.4-1, MQTT-1.5.4-2).
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let bytes = binary(rest)?;
    if memchr::memchr(0, bytes).is_some() {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// A variable byte integer of at most four bytes, and of no more than it needs (MQTT-1.5.5-1).
fn variable(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for index in 0..4 {
        let &[digit] = take::<1>(rest)?;
        number |= u32::from(digit & 0x7f) << (7 * index);
        if digit & 0x80 == 0 {
            return (digit > 0 || index == 0).then_some(number);
        }
    }
    None
}
