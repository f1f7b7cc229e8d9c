//! A session of a few packets on a connection of its own: is the broker there, does it let us in, does it forget.

use std::{
    fmt, io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use fleet_contract::units::Span;
use mio::{Events, Poll, Token};

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
    let mut errand = Errand::begin(route, address, patience)?;
    while !errand.connection.establish(&mut errand.transport)? {
        errand.wait()?;
    }
    errand.connection.write(&packet, &mut errand.transport)?;
    let refusal = errand.connack(protocol)?;
    if refusal.is_some() {
        return Ok(refusal);
    }
    // The broker has answered; that it misses the goodbye is no matter. An ordinary end is the same in both versions.
    packet.clear();
    codec::write_disconnect(&mut packet);
    let said = errand.connection.write(&packet, &mut errand.transport);
    if let Err(error) = said.and_then(|_| errand.connection.finish(&mut errand.transport)) {
        tracing::debug!(%error, "a broker has closed before the goodbye");
    }
    Ok(None)
}

struct Errand {
    transport: Transport,
    poll: Poll,
    events: Events,
    connection: Connection,
    deadline: Instant,
}

impl Errand {
    fn begin(route: &Route, address: SocketAddr, patience: Duration) -> Result<Self, Error> {
        let transport = Transport::new(route);
        let (poll, deadline) = (Poll::new()?, Instant::now() + patience);
        let connection = Connection::open(address, 0, route, poll.registry(), Token(0))?;
        Ok(Self { transport, poll, events: Events::with_capacity(4), connection, deadline })
    }

    /// Waits until something has happened on the connection.
    fn wait(&mut self) -> Result<(), Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, self.connection.overdue()).into());
        }
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn connack(&mut self, protocol: Protocol) -> Result<Option<Refusal>, Error> {
        let mut inbox = vec![0; self.transport.inbox(CONNACK_MAX)];
        loop {
            self.connection.flush()?;
            let read = self.connection.read(&mut inbox, &mut self.transport)?;
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
