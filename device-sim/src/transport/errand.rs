//! A session of a few packets on a connection of its own: is the broker there, does it let us in, does it forget.

#![expect(clippy::disallowed_methods, reason = "an errand holds up its thread, in real time")]

use std::{
    fmt, io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use fleet_contract::units::Span;
use mio::{Events, Poll, Token, event::Event};

use super::{Connection, Error, Read, Route, Transport};
use crate::session::{
    Refusal,
    codec::{
        self, ConnackCode, Connect, Packet, Protocol,
        v5::{self, ConnectProperties, Reason},
    },
};

/// The largest CONNACK that is read; one of MQTT 5 may say a lot.
const CONNACK_MAX: usize = 64 * 1024;

/// How long a broker may take to close the connection after the goodbye.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// The longest keep-alive that an errand needs.
const KEEP_ALIVE: Span = Span::from_secs(10);

/// Says CONNECT with a clean session, awaits the CONNACK, says DISCONNECT; returns why the broker refuses, if it does.
///
/// Blocks for as long as `patience`.
pub fn introduce(
    route: &Route,
    address: SocketAddr,
    protocol: Protocol,
    connect: &Connect<'_>,
    patience: Duration,
) -> Result<Option<Refusal>, Error> {
    let mut packet = Vec::new();
    match protocol {
        Protocol::V311 => codec::write_connect(&mut packet, connect, true, KEEP_ALIVE),
        Protocol::V5 => v5::write_connect(&mut packet, connect, &ConnectProperties::default(), 0, true, KEEP_ALIVE),
    }
    .map_err(io::Error::other)?;
    let mut errand = Errand::open(route, address, patience)?;
    errand.send(&packet)?;
    let refusal = errand.connack(protocol)?;
    if refusal.is_some() {
        return Ok(refusal);
    }
    // The broker has answered; that it misses the goodbye is no matter. An ordinary end is the same in both versions.
    packet.clear();
    codec::write_disconnect(&mut packet);
    errand.finish(&packet);
    Ok(None)
}

/// A connection of its own with a deadline.
pub(crate) struct Errand {
    transport: Transport,
    poll: Poll,
    events: Events,
    connection: Connection,
    deadline: Instant,
    /// Whether the other end sends nothing more: that is told once, and then there is something to read, be it the end.
    is_ending: bool,
}

impl Errand {
    /// Connects, with all handshakes that the route asks for.
    pub(crate) fn open(route: &Route, address: SocketAddr, patience: Duration) -> Result<Self, Error> {
        let transport = Transport::new(route);
        let (poll, deadline) = (Poll::new()?, Instant::now() + patience);
        let connection = Connection::open(address, 0, route, poll.registry(), Token(0))?;
        let events = Events::with_capacity(4);
        let mut errand = Self { transport, poll, events, connection, deadline, is_ending: false };
        while !errand.connection.establish(&mut errand.transport)? {
            errand.wait()?;
        }
        Ok(errand)
    }

    /// Sends packets.
    pub(crate) fn send(&mut self, packets: &[u8]) -> Result<(), Error> {
        self.connection.write(packets, &mut self.transport).map(drop)
    }

    /// How large the buffer for [`Errand::receive`] is to be.
    pub(crate) fn inbox(&self, packet_max: usize) -> usize {
        self.transport.inbox(packet_max)
    }

    /// Reads what has come; what is left of it goes back with [`Errand::keep`].
    pub(crate) fn read(&mut self, inbox: &mut [u8]) -> Result<Read, Error> {
        self.connection.flush()?;
        self.connection.read(inbox, &mut self.transport)
    }

    /// Keeps the beginning of a packet for the next bytes.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.connection.keep(rest);
    }

    /// Says goodbye. That the broker misses it is no matter.
    pub(crate) fn finish(&mut self, packets: &[u8]) {
        let said = self.connection.write(packets, &mut self.transport);
        if let Err(error) = said.and_then(|_| self.connection.finish(&mut self.transport)) {
            tracing::debug!(%error, "a broker has closed before the goodbye");
        }
    }

    /// Says goodbye and lets the broker close first, within a second: whoever closes first keeps the connection's port for a
    /// minute, and many errands would use up those of this machine.
    pub(crate) fn part(&mut self, packets: &[u8], inbox: &mut [u8]) {
        self.limit(CLOSE_PATIENCE);
        if let Err(error) = self.until_closed(packets, inbox) {
            tracing::debug!(%error, "a broker does not close after the goodbye");
            self.finish(&[]);
        }
    }

    fn until_closed(&mut self, packets: &[u8], inbox: &mut [u8]) -> Result<(), Error> {
        self.send(packets)?;
        while !matches!(self.read(inbox)?, Read::Closed(_)) {
            self.wait()?;
        }
        Ok(())
    }

    /// Has it end after so long, if it would go on for longer.
    pub(crate) fn limit(&mut self, patience: Duration) {
        self.deadline = self.deadline.min(Instant::now() + patience);
    }

    /// Waits until something has happened on the connection.
    pub(crate) fn wait(&mut self) -> Result<(), Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, self.connection.overdue()).into());
        }
        if self.is_ending {
            return Ok(());
        }
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => self.is_ending = self.events.iter().any(Event::is_read_closed),
        }
        Ok(())
    }

    fn connack(&mut self, protocol: Protocol) -> Result<Option<Refusal>, Error> {
        let mut inbox = vec![0; self.transport.inbox(CONNACK_MAX)];
        loop {
            let read = self.read(&mut inbox)?;
            let (Read::More(length) | Read::Drained(length) | Read::Closed(length)) = read;
            match codec::read(&inbox[..length], protocol, CONNACK_MAX) {
                Ok(Some((packet, _))) => {
                    return answer(protocol, &packet);
                }
                Ok(None) if matches!(read, Read::Closed(_)) => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                Ok(None) => self.connection.keep(&inbox[..length]),
                Err(error) => return Err(no_connack(protocol, &error)),
            }
            self.wait()?;
        }
    }
}

/// What a CONNACK says.
fn answer(protocol: Protocol, packet: &Packet<'_>) -> Result<Option<Refusal>, Error> {
    match *packet {
        Packet::Connack { code: ConnackCode::Accepted, .. } | Packet::Connack5 { reason: Reason::Success, .. } => {
            Ok(None)
        }
        Packet::Connack { code, .. } => Ok(Some(Refusal::Code(code))),
        Packet::Connack5 { reason, .. } => Ok(Some(Refusal::Reason(reason))),
        _ => Err(no_connack(protocol, &"another packet")),
    }
}

fn no_connack(protocol: Protocol, found: &dyn fmt::Display) -> Error {
    let text = format!("the answer is no CONNACK of MQTT {protocol}: {found}");
    io::Error::new(io::ErrorKind::InvalidData, text).into()
}
