//! A connection of a device: opened, read and written without blocking.
//!
//! What the socket does not take at once is kept, bounded by the caller; what is no whole packet yet is kept, too.
//! Both are boxed, because most connections never need either. So are the layers of a connection that is not plain.

use std::net::{Shutdown, SocketAddr};

use mio::{Interest, Registry, Token, net::TcpStream};

use super::{Error, Route, Transport, layers::Layers, socket};

/// A connection that is open or about to be.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "an idle connection is to hold one word for each, not three")]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes that the socket has not taken yet, as they are to go over the wire.
    unsent: Option<Box<Vec<u8>>>,
    /// Of a plain connection only while it holds the beginning of a packet.
    beside: Option<Box<Beside>>,
}

/// What an idle plain connection has not.
#[derive(Debug, Default)]
struct Beside {
    /// The beginning of a packet whose end has not come yet.
    partial: Vec<u8>,
    layers: Option<Layers>,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The socket took everything.
    All,
    /// Some bytes wait until the socket is writable again.
    Some,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes are in the buffer, the partial packet of before included; there may be more to read.
    More(usize),
    /// So many bytes are in the buffer, and the socket has no more.
    Drained(usize),
    /// The peer has closed; so many bytes came before.
    Closed(usize),
}

impl Connection {
    /// Begins to connect; readiness says when [`establish`](Self::establish) can go on. `turn` chooses among the
    /// route's source addresses and ports.
    pub(crate) fn open(
        address: SocketAddr,
        turn: u32,
        route: &Route,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, Error> {
        let (source, ports) = route.origin(address, turn)?;
        let mut stream = socket::connect(address, source, ports.as_ref())?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let layers = route.layers()?;
        let beside = layers.map(|layers| Box::new(Beside { layers: Some(layers), ..Beside::default() }));
        Ok(Self { stream, unsent: None, beside })
    }

    /// Goes on to establish the connection, its layers included; whether it is. An error says why it never will be.
    pub(crate) fn establish(&mut self, transport: &mut Transport) -> Result<bool, Error> {
        let Self { stream, unsent, beside } = self;
        let Some((layers, partial)) = layered(beside) else { return Ok(socket::is_connected(stream)?) };
        if layers.is_new() && !socket::is_connected(stream)? {
            return Ok(false);
        }
        flush(stream, unsent)?;
        let greeted = layers.greet(stream, partial, transport);
        // A peer that is refused is told why, as far as it listens.
        let sent = send(stream, unsent, transport.outgoing());
        let is_established = greeted?;
        sent?;
        Ok(is_established)
    }

    /// Whether TLS or WebSocket lie between the packets and the socket.
    pub(crate) fn is_layered(&self) -> bool {
        self.beside.as_ref().is_some_and(|beside| beside.layers.is_some())
    }

    /// What an attempt to connect that takes too long is called, by what it waits for.
    pub(crate) fn overdue(&self) -> &'static str {
        let layers = self.beside.as_ref().and_then(|beside| beside.layers.as_ref());
        layers.map_or("connect_timeout", Layers::overdue)
    }

    /// Writes `bytes` after what still waits.
    pub(crate) fn write(&mut self, bytes: &[u8], transport: &mut Transport) -> Result<Written, Error> {
        let Self { stream, unsent, beside } = self;
        let Some((layers, _)) = layered(beside) else { return send(stream, unsent, bytes) };
        layers.seal(bytes, transport)?;
        send(stream, unsent, transport.outgoing())
    }

    /// Writes what still waits.
    pub(crate) fn flush(&mut self) -> Result<Written, Error> {
        flush(&self.stream, &mut self.unsent)
    }

    /// How many bytes still wait.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent.as_ref().map_or(0, |unsent| unsent.len())
    }

    /// Reads once, into `buffer` from its beginning, behind the partial packet of before.
    pub(crate) fn read(&mut self, buffer: &mut [u8], transport: &mut Transport) -> Result<Read, Error> {
        let Self { stream, unsent, beside } = self;
        let kept = beside.as_mut().map_or(0, |beside| {
            let partial = std::mem::take(&mut beside.partial);
            buffer[..partial.len()].copy_from_slice(&partial);
            partial.len()
        });
        let Some((layers, _)) = layered(beside) else {
            *beside = None;
            return match socket::read(stream, &mut buffer[kept..])? {
                None => Ok(Read::Drained(kept)),
                Some(0) => Ok(Read::Closed(kept)),
                Some(read) if kept + read < buffer.len() => Ok(Read::Drained(kept + read)),
                Some(read) => Ok(Read::More(kept + read)),
            };
        };
        let read = layers.read(stream, buffer, kept, transport);
        // Answers to pings, or the reason why the connection ends here.
        let sent = send(stream, unsent, transport.outgoing());
        let read = read?;
        if !matches!(read, Read::Closed(_)) {
            sent?;
        }
        Ok(read)
    }

    /// Acknowledges at once what has been read, for one that answers messages with nothing: a peer with Nagle's algorithm
    /// keeps its next small packet until the acknowledgement of the last one comes, which Linux puts off by 40 ms.
    pub(crate) fn acknowledge(&self) {
        socket::acknowledge(&self.stream);
    }

    /// How many bytes of a packet are kept until its end comes.
    pub(crate) fn kept(&self) -> usize {
        self.beside.as_ref().map_or(0, |beside| beside.partial.len())
    }

    /// Keeps the beginning of a packet until its end comes.
    pub(crate) fn keep(&mut self, partial: &[u8]) {
        if !partial.is_empty() {
            self.beside.get_or_insert_default().partial = partial.to_vec();
        }
    }

    /// Lets its end be a reset. Where the system refuses that, it ends by an orderly close.
    pub(crate) fn reset_on_close(&self) {
        drop(socket::reset_on_close(&self.stream));
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish(&mut self, transport: &mut Transport) -> Result<(), Error> {
        let Self { stream, unsent, beside } = self;
        if let Some((layers, _)) = layered(beside) {
            layers.close(transport)?;
            send(stream, unsent, transport.outgoing())?;
        }
        Ok(stream.shutdown(Shutdown::Write)?)
    }
}

/// The layers of a connection that is not plain, and its partial packet.
fn layered(beside: &mut Option<Box<Beside>>) -> Option<(&mut Layers, &mut Vec<u8>)> {
    let Beside { partial, layers } = beside.as_deref_mut()?;
    Some((layers.as_mut()?, partial))
}

#[expect(clippy::box_collection, reason = "see `Connection`")]
fn send(stream: &TcpStream, unsent: &mut Option<Box<Vec<u8>>>, bytes: &[u8]) -> Result<Written, Error> {
    if let Some(waiting) = unsent {
        waiting.extend_from_slice(bytes);
        return flush(stream, unsent);
    }
    let taken = socket::write(stream, bytes)?;
    if taken == bytes.len() {
        return Ok(Written::All);
    }
    *unsent = Some(Box::new(bytes[taken..].to_vec()));
    Ok(Written::Some)
}

#[expect(clippy::box_collection, reason = "see `Connection`")]
fn flush(stream: &TcpStream, unsent: &mut Option<Box<Vec<u8>>>) -> Result<Written, Error> {
    let Some(waiting) = unsent else { return Ok(Written::All) };
    let taken = socket::write(stream, waiting)?;
    if taken < waiting.len() {
        waiting.drain(..taken);
        return Ok(Written::Some);
    }
    *unsent = None;
    Ok(Written::All)
}

#[cfg(test)]
mod size {
    use super::*;

    #[test]
    fn a_plain_connection_is_a_socket_and_two_words() {
        let socket = size_of::<TcpStream>().next_multiple_of(size_of::<usize>());
        assert_eq!(size_of::<Connection>(), socket + 2 * size_of::<usize>());
        assert_eq!(size_of::<Option<Connection>>(), size_of::<Connection>());
    }
}
