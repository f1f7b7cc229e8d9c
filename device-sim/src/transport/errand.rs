//! A session of a few packets on a connection of its own: is the broker there, does it let us in, does it forget.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use fleet_contract::units::Span;
use mio::{Events, Poll, Token};

use super::{Connection, Error, Read, Route, Transport};
use crate::session::codec::{self, Connect};

/// A CONNACK (MQTT 3.1.1, section 3.2).
const CONNACK: usize = 4;

/// The longest keep-alive that an errand needs.
const KEEP_ALIVE: Span = Span::from_secs(10);

/// Says CONNECT with a clean session, awaits the CONNACK, says DISCONNECT; returns the broker's return code.
///
/// Blocks for as long as `patience`.
pub fn introduce(route: &Route, address: SocketAddr, connect: &Connect<'_>, patience: Duration) -> Result<u8, Error> {
    let mut packet = Vec::new();
    codec::write_connect(&mut packet, connect, true, KEEP_ALIVE).map_err(io::Error::other)?;
    let mut errand = Errand::begin(route, address, patience)?;
    while !errand.connection.establish(&mut errand.transport)? {
        errand.wait()?;
    }
    errand.connection.write(&packet, &mut errand.transport)?;
    let code = errand.connack()?;
    // The broker has answered; that it misses the goodbye is no matter.
    packet.clear();
    codec::write_disconnect(&mut packet);
    let said = errand.connection.write(&packet, &mut errand.transport);
    if let Err(error) = said.and_then(|_| errand.connection.finish(&mut errand.transport)) {
        tracing::debug!(%error, "a broker has closed before the goodbye");
    }
    Ok(code)
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

    fn connack(&mut self) -> Result<u8, Error> {
        let mut inbox = vec![0; self.transport.inbox(CONNACK)];
        loop {
            self.connection.flush()?;
            let read = self.connection.read(&mut inbox, &mut self.transport)?;
            let (Read::More(length) | Read::Drained(length) | Read::Closed(length)) = read;
            match inbox[..length] {
                [0x20, 2, _, code, ..] => return Ok(code),
                [0x20, 2, ..] | [0x20] | [] => {}
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is no MQTT 3.1.1").into()),
            }
            if matches!(read, Read::Closed(_)) {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.connection.keep(&inbox[..length]);
            self.wait()?;
        }
    }
}
