//! The MQTT session of one device, 3.1.1 or 5: what was promised, what is awaited, what comes next.
//!
//! Sans I/O: no clock, no socket, no `async`. Bytes to send are appended to a buffer of the
//! caller's, packets that came are handed in as [`codec::read`] found them, and the time is an
//! argument. A hundred thousand sessions run side by side on one machine, so a session is at most
//! 64 bytes; what is in flight lives in the shard's [`Pool`], and what few sessions need is boxed.
//!
//! The life of a connection, as its driver sees it:
//!
//! ```text
//! connect ─► receive(CONNACK) = Connected ─► abandon… ─► next_resend… ─► publish, receive, expire
//!    ▲                                                                               │
//!    └──────────────── backoff ◄─ lost ◄─ transport closed, Dead, ProtocolError ◄────┘
//! ```
//!
//! What this module does not do: it keeps no payload (a message is encoded again from stream,
//! sequence and due time), it queues nothing (what does not fit is [`Withheld`]), and it does not
//! decide when to reconnect ([`backoff`] says how long to wait).

pub mod backoff;
pub mod codec;
mod event;
mod pool;
mod receive;
mod recover;
pub(crate) mod said;
mod send;
mod terms;
#[cfg(test)]
mod tests;

use fleet_contract::time::Micros;
use fleet_contract::units::Span;

pub use self::event::{Dead, Event, Message, Refusal, RequestError, Resend, Withheld};
pub use self::pool::{InFlight, Pool, Stage};
pub use self::terms::Terms;

use self::codec::v5::{self, ConnectProperties, Reason};
use self::codec::{Connect, FrameError, PacketId, Protocol};
use self::pool::{Link, List};

/// How long a broker may leave a PINGREQ unanswered, and a DISCONNECT with the connection open.
const MAX_RESPONSE: Span = Span::from_secs(10);

/// The session of one device.
#[derive(Debug)]
pub struct Session {
    last_sent: Micros,
    /// The start of what is being waited for: CONNACK while connecting, PINGRESP after a PINGREQ,
    /// the end of the connection while closing and its return while offline; otherwise the last
    /// packet received.
    since: Micros,
    rare: Option<Box<Rare>>,
    /// Awaiting PUBACK or PUBREC, in the order of their first PUBLISH.
    publishing: List,
    /// Awaiting PUBCOMP, in the order of their PUBREC.
    releasing: List,
    /// Given up, not yet taken out by the driver.
    abandoned: List,
    /// The next message to resend.
    cursor: Link,
    /// The number to try next for a packet identifier.
    next_id: u16,
    /// So many identifiers from `next_id` on are certainly free.
    free_ids: u16,
    /// The length of `publishing` and `releasing` together.
    in_flight: u16,
    phase: Phase,
    recovery: Recovery,
    is_pinging: bool,
}

/// What few sessions need.
#[derive(Debug, Default)]
struct Rare {
    /// QoS 2 messages of the broker that were passed on and are not yet released (§4.3.3).
    received: Vec<PacketId>,
    /// SUBSCRIBE and UNSUBSCRIBE packets that are not yet answered.
    requests: Vec<Request>,
    /// What the broker allows on this connection; in MQTT 5 only.
    terms: Option<Terms>,
    /// The client identifier that the broker has given to a client without one (MQTT-3.2.2-16).
    assigned_id: Option<Box<str>>,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.received.capacity() == 0 && self.requests.is_empty() && self.terms.is_none() && self.assigned_id.is_none()
    }
}

#[derive(Debug)]
struct Request {
    packet_id: PacketId,
    /// How many filters a SUBSCRIBE holds; none in an UNSUBSCRIBE.
    filters: Option<usize>,
}

/// Where a session stands with its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// There is no connection.
    Offline,
    /// CONNECT was written, CONNACK is awaited.
    Connecting,
    /// The broker has accepted the connection.
    Up,
    /// DISCONNECT was written, or the broker refused the connection: the driver is to write what
    /// is left, close the transport and call [`Session::lost`].
    Closing,
}

/// How far a new connection has taken up what the last one left (MQTT-4.4.0-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    Releases,
    Publishes,
    Done,
}

/// How the sessions of a group behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// A PINGREQ is sent when nothing was sent, or nothing came, for so long; zero is off.
    pub keep_alive: Span,
    /// Whether the broker is to forget the session when the connection ends (§3.1.2.4).
    pub clean: bool,
    /// How many messages of QoS 1 and 2 may be in flight at once; with 0 there can be none.
    pub window: u16,
    /// How long a broker may leave a CONNECT unanswered.
    pub connect_timeout: Span,
    /// The version of MQTT.
    pub protocol: Protocol,
    /// What a CONNECT of MQTT 5 says beside the rest. A clean session has no use for its session expiry.
    pub properties: ConnectProperties,
    /// In MQTT 5: how many topics may be sent as aliases, if the broker takes so many; at most 64.
    pub topic_aliases: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep_alive: Span::from_secs(60),
            clean: true,
            window: 16,
            connect_timeout: Span::from_secs(10),
            protocol: Protocol::V311,
            properties: ConnectProperties { session_expiry: u32::MAX, ..ConnectProperties::default() },
            topic_aliases: 0,
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Self {
            last_sent: Micros(0),
            since: Micros(0),
            rare: None,
            publishing: List::EMPTY,
            releasing: List::EMPTY,
            abandoned: List::EMPTY,
            cursor: Link::NONE,
            next_id: 1,
            free_ids: u16::MAX,
            in_flight: 0,
            phase: Phase::Offline,
            recovery: Recovery::Done,
            is_pinging: false,
        }
    }
}

impl Session {
    /// A session that was never connected.
    pub fn new() -> Self {
        Self::default()
    }

    /// A session that was never connected and whose packet identifiers start at `first`; for 0, at 1.
    ///
    /// A process that starts again should not start where its predecessor did: the broker may still hold QoS 2
    /// identifiers of a persistent session, and would take a new message for a duplicate of an old one (§4.3.3).
    pub fn starting_at(first: u16) -> Self {
        Self { next_id: first.max(1), ..Self::default() }
    }

    /// Where it stands with its broker.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When that began; while the session is up, when the broker was last heard or asked.
    pub fn since(&self) -> Micros {
        self.since
    }

    /// How many messages of QoS 1 and 2 are in flight, those that wait for a new connection
    /// included.
    pub fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// Whether messages of the last connection are still to be resent before new ones may go.
    pub fn is_recovering(&self) -> bool {
        self.recovery != Recovery::Done
    }

    /// Writes CONNECT for a transport that has just been opened.
    ///
    /// On an error the session stays offline.
    pub fn connect(
        &mut self,
        connect: &Connect<'_>,
        options: &Options,
        now: Micros,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        self.lost(now);
        match options.protocol {
            Protocol::V311 => codec::write_connect(out, connect, options.clean, options.keep_alive)?,
            Protocol::V5 => self.write_connect5(connect, options, out)?,
        }
        self.phase = Phase::Connecting;
        self.last_sent = now;
        Ok(())
    }

    fn write_connect5(&self, connect: &Connect<'_>, options: &Options, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let mut connect = *connect;
        // Whoever was given a name goes by it from then on, or its session would be another one's.
        if let Some(assigned) = self.rare.as_ref().and_then(|rare| rare.assigned_id.as_deref())
            && connect.client_id.is_empty()
        {
            connect.client_id = assigned;
        }
        let (expiry, keep_alive) = (options.properties.session_expiry, options.keep_alive);
        let expiry = if options.clean { 0 } else { expiry };
        v5::write_connect(out, &connect, &options.properties, expiry, options.clean, keep_alive)
    }

    /// Writes DISCONNECT, upon which the broker publishes no will (MQTT-3.14.4-3); nothing else
    /// may be sent afterwards, and what is in flight stays so. An offline session has nobody to
    /// tell.
    pub fn disconnect(&mut self, now: Micros, out: &mut Vec<u8>) {
        if matches!(self.phase, Phase::Connecting | Phase::Up) {
            codec::write_disconnect(out);
            self.close(now);
        }
    }

    /// Writes a DISCONNECT of MQTT 5 that makes the broker forget the session at once.
    pub fn end(&mut self, now: Micros, out: &mut Vec<u8>) -> Result<(), FrameError> {
        if matches!(self.phase, Phase::Connecting | Phase::Up) {
            v5::write_disconnect(out, Reason::Success, Some(0))?;
            self.close(now);
        }
        Ok(())
    }

    /// The transport is gone, whoever closed it. What is in flight waits for the next connection.
    pub fn lost(&mut self, now: Micros) {
        self.phase = Phase::Offline;
        self.since = now;
        self.is_pinging = false;
        self.stop_recovery();
        if let Some(rare) = &mut self.rare {
            rare.requests.clear();
            rare.terms = None;
            if rare.received.is_empty() && rare.assigned_id.is_none() {
                self.rare = None;
            }
        }
    }

    /// When the driver has written bytes of its own, such as resent messages, or when what was
    /// written long ago has left only now.
    pub fn sent(&mut self, now: Micros) {
        self.last_sent = now;
    }

    /// When [`Session::expire`] is to be called next; not before, and no harm if it is later.
    pub fn deadline(&self, options: &Options) -> Option<Micros> {
        match self.phase {
            Phase::Offline => None,
            Phase::Connecting => Some(self.since.after(options.connect_timeout)),
            Phase::Closing => Some(self.since.after(MAX_RESPONSE)),
            Phase::Up if self.keep_alive(options) == Span::ZERO => None,
            Phase::Up if self.is_pinging => Some(self.since.after(response_time(self.keep_alive(options)))),
            // A device that only sends at QoS 0 would never notice that nobody is there, so
            // silence of the broker asks for a PINGREQ, too.
            Phase::Up => Some(self.last_sent.min(self.since).after(self.keep_alive(options))),
        }
    }

    /// Does what is due at `now`: writes a PINGREQ, or finds the connection dead; before the
    /// deadline nothing. What has come is to be received first.
    pub fn expire(&mut self, options: &Options, now: Micros, out: &mut Vec<u8>) -> Result<(), Dead> {
        if self.deadline(options).is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        match self.phase {
            Phase::Connecting => Err(Dead::NoConnack),
            Phase::Closing => Err(Dead::NoClose),
            Phase::Up if self.is_pinging => Err(Dead::NoPingresp),
            Phase::Up | Phase::Offline => {
                codec::write_pingreq(out);
                self.is_pinging = true;
                self.since = now;
                self.last_sent = now;
                Ok(())
            }
        }
    }

    fn close(&mut self, now: Micros) {
        self.phase = Phase::Closing;
        self.since = now;
        self.stop_recovery();
    }
}

/// Half the keep-alive: the broker would close at one and a half (MQTT-3.1.2-24), so by then
/// one of the two has noticed.
fn response_time(keep_alive: Span) -> Span {
    Span(keep_alive.0 / 2).min(MAX_RESPONSE)
}
