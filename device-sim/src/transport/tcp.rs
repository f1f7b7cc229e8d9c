//! A TCP connection of a device: opened, read and written without blocking.
//!
//! What the socket does not take at once is kept, bounded by the caller; what is no whole packet yet is kept, too.
//! Both are boxed, because most connections never need either.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
};

use mio::{Interest, Registry, Token, net::TcpStream};

/// A connection that is open or about to be.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "an idle connection is to hold one word for each, not three")]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes that the socket has not taken yet.
    unsent: Option<Box<Vec<u8>>>,
    /// The beginning of a packet whose end has not come yet.
    partial: Option<Box<Vec<u8>>>,
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
    /// Begins to connect; readiness to write says that it is decided.
    pub(crate) fn open(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, unsent: None, partial: None })
    }

    /// Whether the connection is established; an error says why it never will be.
    pub(crate) fn is_established(&self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                // A small PUBLISH must not wait for the acknowledgement of the last one (Nagle, RFC 896).
                self.stream.set_nodelay(true)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes `bytes` after what still waits.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<Written> {
        if let Some(unsent) = &mut self.unsent {
            unsent.extend_from_slice(bytes);
            return self.flush();
        }
        let taken = write_some(&mut self.stream, bytes)?;
        if taken == bytes.len() {
            return Ok(Written::All);
        }
        self.unsent = Some(Box::new(bytes[taken..].to_vec()));
        Ok(Written::Some)
    }

    /// Writes what still waits.
    pub(crate) fn flush(&mut self) -> io::Result<Written> {
        let Some(unsent) = &mut self.unsent else { return Ok(Written::All) };
        let taken = write_some(&mut self.stream, unsent)?;
        if taken < unsent.len() {
            unsent.drain(..taken);
            return Ok(Written::Some);
        }
        self.unsent = None;
        Ok(Written::All)
    }

    /// How many bytes still wait.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent.as_ref().map_or(0, |unsent| unsent.len())
    }

    /// Reads once, into `buffer` from its beginning, behind the partial packet of before.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        let kept = self.partial.take().map_or(0, |partial| {
            buffer[..partial.len()].copy_from_slice(&partial);
            partial.len()
        });
        loop {
            return match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => Ok(Read::Closed(kept)),
                Ok(read) if kept + read < buffer.len() => Ok(Read::Drained(kept + read)),
                Ok(read) => Ok(Read::More(kept + read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Read::Drained(kept)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Keeps the beginning of a packet until its end comes.
    pub(crate) fn keep(&mut self, partial: &[u8]) {
        if !partial.is_empty() {
            self.partial = Some(Box::new(partial.to_vec()));
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.write(&bytes[taken..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}
