//! What goes into a session and what comes out of it.

use std::fmt;

use fleet_contract::qos::Qos;
use fleet_contract::time::Micros;

use super::codec::v5::{Properties, Reason};
use super::codec::{ConnackCode, FrameError, PacketId, Publish};
use super::pool::InFlight;
use crate::index::StreamIndex;

/// A message that a device wants to send: what it says is a pure function of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The device's stream that it belongs to.
    pub stream: StreamIndex,
    /// Its number within stream and epoch.
    pub seq: u32,
    /// When it is meant to be sent.
    pub due: Micros,
    /// How it is to be delivered.
    pub qos: Qos,
}

/// Why a message cannot be sent now. The variant's name is the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Withheld {
    /// The session is not up.
    #[error("the session is not up")]
    Offline,
    /// As many messages are in flight as may be.
    #[error("the in-flight window is full")]
    WindowFull,
    /// Its packet is larger than the broker takes; it never will be smaller.
    #[error("the packet is larger than the broker takes")]
    TooLarge,
    /// The messages of the last connection go first: [`next_resend`](super::Session::next_resend) is not yet through.
    #[error("earlier messages are still to be resent")]
    Recovering,
}

/// Why a subscription cannot be asked for now. Nothing was written. The variant's name is the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RequestError {
    /// The session is not up.
    #[error("the session is not up")]
    Offline,
    /// All 65,535 packet identifiers are in use.
    #[error("every packet identifier is in use")]
    NoPacketId,
    /// The packet would not be valid.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The packet is larger than the broker takes.
    #[error("the packet is larger than the broker takes")]
    TooLarge,
}

/// What a packet from the broker meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The session is up. The driver takes out what is abandoned, then resends, then publishes. It
    /// subscribes again when the session is not present, and when the last connection was lost
    /// before a SUBACK.
    Connected {
        /// Whether the broker has kept this client's session.
        session_present: bool,
    },
    /// The broker refused the connection, which the driver is to close.
    Refused(Refusal),
    /// A message of QoS 1 or 2 is delivered: PUBACK or PUBCOMP came. It is no longer in flight.
    Acknowledged(InFlight),
    /// MQTT 5: the broker does not take a message of QoS 1 or 2, which is no longer in flight.
    Rejected(InFlight, Reason),
    /// MQTT 5: the broker ends the connection, which the driver is to close. [`Reason::Success`] gives no reason.
    Disconnected(Reason),
    /// MQTT 5: the broker goes on with an enhanced authentication. The driver answers with
    /// [`v5::write_auth`](super::codec::v5::write_auth), whether the session is up or waits for its CONNACK.
    Challenged(Reason, Properties<'a>),
    /// A message arrived, and the answer that its QoS asks for is written. At QoS 2 it is passed
    /// on once, however often it comes.
    Received(Publish<'a>),
    /// A message of QoS 2 came again that was passed on already, and the answer is written.
    Repeated(PacketId),
    /// A SUBSCRIBE was answered.
    Subscribed {
        /// As [`subscribe`](super::Session::subscribe) returned it.
        packet_id: PacketId,
        /// One for each filter: the granted QoS, or [`SUBACK_FAILURE`](super::codec::SUBACK_FAILURE).
        codes: &'a [u8],
    },
    /// An UNSUBSCRIBE was answered.
    Unsubscribed(PacketId),
    /// MQTT 5: an UNSUBSCRIBE was answered, and not done for each of its filters.
    NotUnsubscribed {
        /// As [`unsubscribe`](super::Session::unsubscribe) returned it.
        packet_id: PacketId,
        /// One for each filter; an error is 0x80 or more.
        codes: &'a [u8],
    },
    /// A PINGREQ was answered.
    Pong,
    /// An acknowledgement for which nothing is in flight; brokers that resend cause it, and it
    /// changes nothing.
    Unsolicited(PacketId),
    /// A step within the delivery of a message, or a packet that came too late to matter.
    Progress,
}

/// Why a broker refused a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// In the words of MQTT 3.1.1.
    Code(ConnackCode),
    /// In the words of MQTT 5.
    Reason(Reason),
}

impl From<Refusal> for &'static str {
    /// The metric label.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Code(code) => code.into(),
            Refusal::Reason(reason) => reason.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((*self).into())
    }
}

/// What a new connection is to send again, in this order (MQTT-4.4.0-1, MQTT-4.6.0-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// PUBLISH, with the DUP flag and the packet identifier of the message.
    Publish(InFlight),
    /// PUBREL.
    Release(PacketId),
}

/// Why a connection counts as dead. The variant's name is the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Dead {
    /// CONNACK did not come within the connect timeout.
    #[error("the broker did not answer CONNECT")]
    NoConnack,
    /// Nothing came after PINGREQ for half the keep-alive, at most 10 s.
    #[error("the broker did not answer PINGREQ")]
    NoPingresp,
    /// The connection was still open 10 s after it was to be closed.
    #[error("the connection did not close")]
    NoClose,
}
