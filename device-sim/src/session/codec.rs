//! MQTT 3.1.1 and 5 on the wire, as a client needs it.
//!
//! Writing appends to a caller's buffer in place, and reading borrows from a caller's bytes, so
//! neither side allocates. What comes from a broker is checked strictly and never panics; what
//! would break the protocol is refused before a byte of it is written. Section numbers and
//! `MQTT-…` labels are those of the OASIS standard, MQTT 3.1.1, and in [`v5`] those of MQTT 5.0.

mod name;
mod publish;
mod read;
pub mod v5;
mod write;

use std::num::NonZeroU16;

pub use fleet_contract::fleet::Protocol;
pub use fleet_contract::qos::Qos;

pub use name::{check_filter, check_topic};
pub use publish::PublishFrame;
pub use read::read;
use v5::{Properties, Reason};
pub use write::{
    Connect, Will, write_connect, write_disconnect, write_pingreq, write_puback, write_pubcomp, write_pubrec,
    write_pubrel, write_subscribe, write_unsubscribe,
};

/// The largest remaining length that four bytes can say (§2.2.3).
pub const MAX_REMAINING_LENGTH: usize = 268_435_455;

/// A packet identifier: 1 to 65,535 (MQTT-2.3.1-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The identifier with this number; none for zero.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// Its number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

/// A packet that a broker may send, borrowed from the bytes that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The broker accepts or refuses the connection.
    Connack {
        /// Whether the broker has kept state of this client (MQTT-3.2.2-2).
        session_present: bool,
        /// Its answer.
        code: ConnackCode,
    },
    /// A message for a subscription of ours.
    Publish(Publish<'a>),
    /// A QoS 1 message of ours is delivered.
    Puback(PacketId),
    /// A QoS 2 message of ours is received.
    Pubrec(PacketId),
    /// A QoS 2 message of the broker's is released.
    Pubrel(PacketId),
    /// A QoS 2 message of ours is delivered.
    Pubcomp(PacketId),
    /// The answer to a SUBSCRIBE.
    Suback {
        /// Of the SUBSCRIBE.
        packet_id: PacketId,
        /// One for each filter: the granted QoS 0 to 2, or [`SUBACK_FAILURE`].
        codes: &'a [u8],
    },
    /// The answer to an UNSUBSCRIBE.
    Unsuback(PacketId),
    /// The answer to a PINGREQ.
    Pingresp,
    /// MQTT 5: the broker accepts or refuses the connection, and says what it allows.
    Connack5 {
        /// Whether the broker has kept state of this client (MQTT-3.2.2-2).
        session_present: bool,
        /// Its answer.
        reason: Reason,
        /// What it allows.
        properties: Properties<'a>,
    },
    /// MQTT 5: a message of ours is not accepted: a PUBACK or PUBREC whose reason is an error.
    Rejected {
        /// Of the PUBLISH.
        packet_id: PacketId,
        /// Which of the two it was.
        qos: Qos,
        /// Why.
        reason: Reason,
    },
    /// MQTT 5: the answer to an UNSUBSCRIBE, with at least one filter that the broker goes on to serve.
    UnsubackFailure {
        /// Of the UNSUBSCRIBE.
        packet_id: PacketId,
        /// One for each filter; an error is 0x80 or more.
        codes: &'a [u8],
    },
    /// MQTT 5: the broker ends the connection.
    Disconnect {
        /// Why.
        reason: Reason,
        /// What it adds.
        properties: Properties<'a>,
    },
    /// MQTT 5: a step of an enhanced authentication.
    Auth {
        /// Whether it is the last one.
        reason: Reason,
        /// Method and data.
        properties: Properties<'a>,
    },
}

/// The return code of a filter that the broker refused (§3.9.3); in MQTT 5 the lowest of several.
pub const SUBACK_FAILURE: u8 = 0x80;

/// A message as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Its topic: not empty, no wildcards.
    pub topic: &'a str,
    /// Its application payload.
    pub payload: &'a [u8],
    /// Present exactly when the QoS is not 0.
    pub packet_id: Option<PacketId>,
    /// How it was delivered.
    pub qos: Qos,
    /// Whether it is a retained message that a new subscription brought.
    pub retain: bool,
    /// Whether the broker may have sent it before.
    pub dup: bool,
    /// What MQTT 5 says of it; empty in 3.1.1.
    pub properties: Properties<'a>,
}

/// The answer in a CONNACK (§3.2.2.3). The variant's name is the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum ConnackCode {
    /// 0: connected.
    Accepted,
    /// 1: the broker does not speak MQTT 3.1.1.
    UnacceptableProtocolVersion,
    /// 2: the client identifier is not allowed.
    IdentifierRejected,
    /// 3: the service is unavailable.
    ServerUnavailable,
    /// 4: user name or password is malformed.
    BadUserNameOrPassword,
    /// 5: the client may not connect.
    NotAuthorized,
}

impl ConnackCode {
    /// The code with this number; 6 and more are reserved.
    pub fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Accepted,
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }
}

/// Why something cannot be put on the wire. Nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum FrameError {
    /// A string or binary field passes 65,535 bytes (§1.5.3).
    #[error("the {field} has {length} bytes; at most 65,535 fit")]
    TooLong {
        /// What it is.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// The packet passes the remaining length that four bytes can say (§2.2.3).
    #[error("the packet has {0} bytes after its fixed header; at most 268,435,455 fit")]
    PacketTooLarge(usize),
    /// A string is not UTF-8 (MQTT-1.5.3-1).
    #[error("the {0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A string holds U+0000 (MQTT-1.5.3-2).
    #[error("the {0} contains U+0000")]
    NullCharacter(&'static str),
    /// A topic or filter has no character (MQTT-4.7.3-1).
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// A topic holds `+` or `#` (MQTT-3.3.2-2).
    #[error("the {0} contains a wildcard")]
    Wildcard(&'static str),
    /// A wildcard of a filter does not fill its level, or `#` is not last (§4.7.1).
    #[error("a wildcard of the filter does not fill its level, or '#' is not the last one")]
    InvalidFilter,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter (MQTT-3.8.3-3, MQTT-3.10.3-2).
    #[error("a subscription needs at least one filter")]
    NoFilter,
    /// An empty client identifier in a persistent session (MQTT-3.1.3-7).
    #[error("an empty client identifier needs a clean session")]
    EmptyClientId,
    /// A password without a user name (MQTT-3.1.2-22).
    #[error("a password needs a user name")]
    PasswordWithoutUser,
    /// A PUBLISH of QoS 1 or 2 without packet identifier, or one of QoS 0 with it
    /// (MQTT-2.3.1-1, MQTT-2.3.1-5).
    #[error("a packet identifier goes with QoS 1 and 2, and with them only")]
    PacketId,
    /// MQTT 5: a shared subscription without a name or filter, or one that leaves own messages out (§4.8.2).
    #[error("a shared subscription is `$share/NAME/FILTER`, and brings messages of its own client, too")]
    SharedSubscription,
    /// [`PublishFrame::end_topic`] was not called.
    #[error("the topic of the frame was not ended")]
    TopicNotEnded,
}

/// What a broker did that MQTT forbids; the connection must be closed (MQTT-4.8.0-1).
/// The variant's name is the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ProtocolError {
    /// Packet type 0 or 15 (§2.2.1).
    #[error("packet type {0} is reserved")]
    ReservedType(u8),
    /// A packet that only clients send (§2.2.1).
    #[error("packet type {0} is for clients to send")]
    ClientPacket(u8),
    /// Flags of the fixed header other than prescribed (MQTT-2.2.2-2).
    #[error("fixed header {0:#04x} has wrong flags")]
    ReservedFlags(u8),
    /// A PUBLISH with QoS 3 (MQTT-3.3.1-4).
    #[error("a PUBLISH has QoS 3")]
    InvalidQos,
    /// A PUBLISH with DUP and QoS 0 (MQTT-3.3.1-2).
    #[error("a PUBLISH of QoS 0 has the DUP flag")]
    DupAtMostOnce,
    /// A remaining length of more than four bytes (§2.2.3).
    #[error("the remaining length has more than four bytes")]
    RemainingLength,
    /// A packet larger than the caller accepts.
    #[error("a packet has {size} bytes; at most {max} are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The largest accepted.
        max: usize,
    },
    /// The fields of a packet do not fill it exactly.
    #[error("fixed header {0:#04x} and remaining length disagree with the packet's fields")]
    WrongLength(u8),
    /// Packet identifier 0 (MQTT-2.3.1-1).
    #[error("a packet identifier is zero")]
    PacketIdZero,
    /// A topic that is not a topic: empty, not UTF-8, with U+0000 or with wildcards.
    #[error("a PUBLISH has an invalid topic: {0}")]
    InvalidTopic(#[source] FrameError),
    /// Reserved CONNACK flags (§3.2.2.1), or "session present" in a refusal (MQTT-3.2.2-4).
    #[error("a CONNACK has flags {0:#04x}")]
    ConnackFlags(u8),
    /// A reserved CONNACK return code (§3.2.2.3).
    #[error("a CONNACK has return code {0}")]
    ConnackCode(u8),
    /// A reserved SUBACK return code (MQTT-3.9.3-2).
    #[error("a SUBACK has return code {0:#04x}")]
    SubackCode(u8),
    /// As many SUBACK return codes as filters are due (MQTT-3.9.3-1).
    #[error("a SUBACK answers {found} filters; {expected} were asked")]
    SubackCount {
        /// The filters in the SUBSCRIBE.
        expected: usize,
        /// The codes in the SUBACK.
        found: usize,
    },
    /// MQTT 5: the properties do not fit their packet, or their length takes more than four bytes (§2.2.2.1).
    #[error("the properties do not fit their packet")]
    PropertyLength,
    /// MQTT 5: a property that does not exist, or not in this packet (§2.2.2.2).
    #[error("a packet has the property {0:#04x}, which is none of its own")]
    UnexpectedProperty(u8),
    /// MQTT 5: a property that comes at most once came again (§2.2.2.2).
    #[error("a packet has the property {0:#04x} twice")]
    RepeatedProperty(u8),
    /// MQTT 5: a property that is cut off, or whose value is out of its range.
    #[error("the property {0:#04x} has an impossible value")]
    PropertyValue(u8),
    /// MQTT 5: a reason code that does not exist, or not in this packet (§2.4).
    #[error("a packet of type {packet_type} has the reason code {code:#04x}")]
    Reason {
        /// Its type.
        packet_type: u8,
        /// The code.
        code: u8,
    },
    /// MQTT 5: a topic alias, which no CONNECT of ours allows (MQTT-3.3.2-10).
    #[error("a PUBLISH has a topic alias, which was not allowed")]
    TopicAlias,
    /// MQTT 5: an AUTH although no authentication was begun (MQTT-4.12.0-6).
    #[error("an AUTH came although no enhanced authentication was begun")]
    UnexpectedAuth,
    /// CONNACK is the broker's first packet (MQTT-3.2.0-1).
    #[error("a packet came before CONNACK")]
    BeforeConnack,
    /// CONNACK comes once.
    #[error("a second CONNACK came")]
    SecondConnack,
    /// "Session present" answers a clean CONNECT (MQTT-3.2.2-1).
    #[error("the broker kept a session although a clean one was asked for")]
    SessionNotClean,
}
