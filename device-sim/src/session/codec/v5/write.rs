//! The packets of a client of MQTT 5 that 3.1.1 writes otherwise: appended to the output, or refused whole.

use fleet_contract::units::Span;

use super::{Reason, id};
use crate::session::codec::{
    Connect, FrameError, PacketId, Qos,
    name::{check_filter, check_length, check_string},
    write::{
        CONNECT, DISCONNECT, SUBSCRIBE, UNSUBSCRIBE, check_connect, keep_alive_seconds, remaining_length, write_field,
    },
};

const AUTH: u8 = 0xf0;

/// What a CONNECT says beside what 3.1.1 has (§3.1.2.11, §3.1.3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties {
    /// How many seconds the broker keeps a session that is not clean after the connection; `u32::MAX` is for ever.
    pub session_expiry: u32,
    /// How many messages of QoS 1 and 2 the broker may send before they are acknowledged; without it 65,535.
    pub receive_maximum: Option<std::num::NonZeroU16>,
    /// The largest packet that the client takes, in bytes.
    pub maximum_packet_size: Option<std::num::NonZeroU32>,
    /// User properties.
    pub user: Vec<(String, String)>,
    /// The first step of an enhanced authentication.
    pub authentication: Option<Authentication>,
    /// How many seconds after the end of the connection the broker publishes the will.
    pub will_delay: u32,
}

/// A step of an enhanced authentication (§4.12).
#[derive(Clone, PartialEq, Eq)]
pub struct Authentication {
    /// The name of the method, the same in each step.
    pub method: String,
    /// What the method says.
    pub data: Vec<u8>,
}

impl std::fmt::Debug for Authentication {
    /// Without the data, which may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication").field("method", &self.method).finish_non_exhaustive()
    }
}

/// What a subscription asks for (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// The highest quality of service that messages come with.
    pub qos: Qos,
    /// Whether the client's own messages are left out; not with a shared subscription (MQTT-3.8.3-4).
    pub is_no_local: bool,
    /// Whether messages keep the RETAIN flag that they were published with.
    pub retains_as_published: bool,
    /// Which retained messages are wanted.
    pub retained: Retained,
}

/// When a subscription brings retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retained {
    /// Each time that it is asked for, as in 3.1.1.
    #[default]
    Always = 0,
    /// When the broker did not have it yet.
    IfNew = 1,
    /// Never.
    Never = 2,
}

/// Appends CONNECT. The keep-alive is rounded up to whole seconds, at most 65,535; zero is off.
pub fn write_connect(
    out: &mut Vec<u8>,
    connect: &Connect<'_>,
    properties: &ConnectProperties,
    session_expiry: u32,
    is_clean_start: bool,
    keep_alive: Span,
) -> Result<(), FrameError> {
    // An empty client identifier asks for one, with or without a clean start; a password needs no user name.
    check_connect(connect, true, false)?;
    let &Connect { client_id, user, password, will } = connect;
    let mut flags = u8::from(is_clean_start) << 1;
    if let Some(will) = will {
        flags |= 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(password.is_some()) << 6 | u8::from(user.is_some()) << 7;
    write_packet(out, CONNECT, |out| {
        out.extend_from_slice(b"\x00\x04MQTT\x05");
        out.push(flags);
        out.extend_from_slice(&keep_alive_seconds(keep_alive).to_be_bytes());
        write_properties(out, |out| write_connect_properties(out, properties, session_expiry))?;
        write_field(out, client_id.as_bytes(), "client identifier")?;
        if let Some(will) = will {
            write_properties(out, |out| {
                write_u32(out, id::WILL_DELAY_INTERVAL, properties.will_delay);
                Ok(())
            })?;
            write_field(out, will.topic.as_bytes(), "will topic")?;
            write_field(out, will.payload, "will payload")?;
        }
        if let Some(user) = user {
            write_field(out, user.as_bytes(), "user name")?;
        }
        password.map_or(Ok(()), |password| write_field(out, password, "password"))
    })
}

fn write_connect_properties(
    out: &mut Vec<u8>,
    properties: &ConnectProperties,
    session_expiry: u32,
) -> Result<(), FrameError> {
    let ConnectProperties { receive_maximum, maximum_packet_size, user, authentication, .. } = properties;
    write_u32(out, id::SESSION_EXPIRY_INTERVAL, session_expiry);
    if let Some(maximum) = receive_maximum {
        out.push(id::RECEIVE_MAXIMUM);
        out.extend_from_slice(&maximum.get().to_be_bytes());
    }
    write_u32(out, id::MAXIMUM_PACKET_SIZE, maximum_packet_size.map_or(0, std::num::NonZeroU32::get));
    for (name, value) in user {
        write_user_property(out, name, value)?;
    }
    authentication.as_ref().map_or(Ok(()), |step| write_authentication(out, step))
}

/// Appends SUBSCRIBE for these filters.
pub fn write_subscribe(
    out: &mut Vec<u8>,
    packet_id: PacketId,
    filters: &[(&str, SubscribeOptions)],
) -> Result<(), FrameError> {
    if filters.is_empty() {
        return Err(FrameError::NoFilter);
    }
    filters.iter().try_for_each(|(filter, options)| check_subscription(filter, *options))?;
    write_packet(out, SUBSCRIBE, |out| {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
        out.push(0);
        filters.iter().try_for_each(|(filter, options)| {
            write_field(out, filter.as_bytes(), "filter")?;
            let SubscribeOptions { qos, is_no_local, retains_as_published, retained } = *options;
            let flags = u8::from(is_no_local) << 2 | u8::from(retains_as_published) << 3 | (retained as u8) << 4;
            out.push(flags | qos as u8);
            Ok(())
        })
    })
}

/// Appends UNSUBSCRIBE for these filters.
pub fn write_unsubscribe(out: &mut Vec<u8>, packet_id: PacketId, filters: &[&str]) -> Result<(), FrameError> {
    if filters.is_empty() {
        return Err(FrameError::NoFilter);
    }
    filters.iter().try_for_each(|filter| check_filter(filter))?;
    write_packet(out, UNSUBSCRIBE, |out| {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
        out.push(0);
        filters.iter().try_for_each(|filter| write_field(out, filter.as_bytes(), "filter"))
    })
}

/// Appends DISCONNECT; with a session expiry it takes the place of the one in CONNECT (§3.14.2.2.2).
pub fn write_disconnect(out: &mut Vec<u8>, reason: Reason, session_expiry: Option<u32>) -> Result<(), FrameError> {
    write_packet(out, DISCONNECT, |out| {
        out.push(reason.code());
        write_properties(out, |out| {
            if let Some(seconds) = session_expiry {
                out.push(id::SESSION_EXPIRY_INTERVAL);
                out.extend_from_slice(&seconds.to_be_bytes());
            }
            Ok(())
        })
    })
}

/// Appends AUTH: the next step of an enhanced authentication.
pub fn write_auth(out: &mut Vec<u8>, reason: Reason, step: &Authentication) -> Result<(), FrameError> {
    write_packet(out, AUTH, |out| {
        out.push(reason.code());
        write_properties(out, |out| write_authentication(out, step))
    })
}

/// Appends properties, with their length before them. On an error the packet is to be taken back.
pub fn write_properties(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), FrameError>,
) -> Result<(), FrameError> {
    write_with_length(out, write)
}

/// Appends what `write` does, with its length before it.
fn write_with_length(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), FrameError>,
) -> Result<(), FrameError> {
    let at = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - at - 1;
    // The usual length takes the one byte that is there, and nothing moves.
    if let Ok(byte @ 0..=127) = u8::try_from(length) {
        out[at] = byte;
        return Ok(());
    }
    let (bytes, count) = remaining_length(length)?;
    out.splice(at..=at, bytes[..count].iter().copied());
    Ok(())
}

/// Appends a user property.
pub fn write_user_property(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), FrameError> {
    check_string(name, "name of a user property")?;
    check_string(value, "value of a user property")?;
    out.push(id::USER_PROPERTY);
    write_field(out, name.as_bytes(), "name of a user property")?;
    write_field(out, value.as_bytes(), "value of a user property")
}

/// Appends a property that is a string.
pub fn write_string_property(out: &mut Vec<u8>, identifier: u8, text: &str) -> Result<(), FrameError> {
    check_string(text, "property")?;
    write_binary_property(out, identifier, text.as_bytes())
}

/// Appends a property that is binary data.
pub fn write_binary_property(out: &mut Vec<u8>, identifier: u8, bytes: &[u8]) -> Result<(), FrameError> {
    check_length(bytes, "property")?;
    out.push(identifier);
    write_field(out, bytes, "property")
}

/// Appends the property that says for how many seconds a message is worth delivering.
pub fn write_message_expiry(out: &mut Vec<u8>, seconds: u32) {
    out.push(id::MESSAGE_EXPIRY_INTERVAL);
    out.extend_from_slice(&seconds.to_be_bytes());
}

fn write_authentication(out: &mut Vec<u8>, step: &Authentication) -> Result<(), FrameError> {
    write_string_property(out, id::AUTHENTICATION_METHOD, &step.method)?;
    write_binary_property(out, id::AUTHENTICATION_DATA, &step.data)
}

/// Appends a number whose absence means zero.
fn write_u32(out: &mut Vec<u8>, identifier: u8, number: u32) {
    if number > 0 {
        out.push(identifier);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// A shared subscription is `$share/NAME/FILTER`, with a name that has no `/`, `+` or `#` (§4.8.2).
fn check_subscription(filter: &str, options: SubscribeOptions) -> Result<(), FrameError> {
    check_filter(filter)?;
    let Some(shared) = filter.strip_prefix("$share/") else { return Ok(()) };
    match shared.split_once('/') {
        Some((name, filter)) if !name.is_empty() && !name.contains(['+', '#']) && !options.is_no_local => {
            check_filter(filter)
        }
        _ => Err(FrameError::SharedSubscription),
    }
}

/// Appends a packet with its length; nothing when `write` fails.
fn write_packet(
    out: &mut Vec<u8>,
    header: u8,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), FrameError>,
) -> Result<(), FrameError> {
    let start = out.len();
    out.push(header);
    let written = write_with_length(out, write);
    if written.is_err() {
        out.truncate(start);
    }
    written
}
