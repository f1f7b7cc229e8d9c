//! MQTT 5 on the wire, where it differs from 3.1.1.
//!
//! A PUBACK, PUBREC, PUBREL or PUBCOMP without reason, a PINGREQ and an ordinary DISCONNECT are the same bytes in both
//! versions, and the functions beside this module write them. Section numbers in here are those of the OASIS standard,
//! MQTT 5.0.

mod property;
mod read;
mod reason;
mod write;

pub use property::{Alias, Properties, Property};
pub use reason::Reason;
pub use write::{
    Authentication, ConnectProperties, Retained, SubscribeOptions, write_auth, write_binary_property, write_connect,
    write_disconnect, write_message_expiry, write_properties, write_string_property, write_subscribe,
    write_unsubscribe, write_user_property,
};

pub(super) use read::packet;

/// Property identifiers (§2.2.2.2).
pub mod id {
    #![expect(missing_docs, reason = "the names are the standard's")]

    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const RESPONSE_INFORMATION: u8 = 0x1a;
    pub const SERVER_REFERENCE: u8 = 0x1c;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIERS_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2a;
}
