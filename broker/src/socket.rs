//! A client's socket: frames in, bytes out.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;

use crate::metrics::Metrics;
use crate::wire::{self, Fault, Hello};

/// Bytes read at a time.
const READ_BYTES: usize = 8 * 1024;

/// Why nothing more comes from a socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the client closed the connection without DISCONNECT")]
    Lost,
    #[error("reading or writing failed: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a socket was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    Read,
    Written,
}

/// A socket with its buffers, which hold memory only while they hold bytes.
pub(crate) struct Socket {
    stream: TcpStream,
    input: BytesMut,
    /// What waits to be written.
    pub(crate) out: BytesMut,
    packet_bytes: usize,
    metrics: Arc<Metrics>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, packet_bytes: usize, metrics: Arc<Metrics>) -> Self {
        Self { stream, input: BytesMut::new(), out: BytesMut::new(), packet_bytes, metrics }
    }

    /// Waits for the first packet.
    pub(crate) async fn hello(&mut self) -> Result<Hello, Broken> {
        loop {
            if let Some(frame) = self.frame()? {
                return Ok(wire::hello(&frame)?);
            }
            if !wire::may_be_connect(&self.input) {
                return Err(Fault::Unexpected.into());
            }
            self.ready(true).await?;
        }
    }

    /// Takes the first complete packet out of what was read.
    pub(crate) fn frame(&mut self) -> Result<Option<BytesMut>, Fault> {
        let frame = match wire::frame(&self.input, self.packet_bytes)? {
            Some(length) => Some(self.input.split_to(length)),
            None => None,
        };
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        Ok(frame)
    }

    /// Waits until something was read, unless `may_read` forbids it, or until everything that waited
    /// to be written is written. Cancel-safe.
    pub(crate) async fn ready(&mut self, may_read: bool) -> Result<Ready, Broken> {
        loop {
            tokio::select! {
                readable = self.stream.readable(), if may_read => {
                    readable?;
                    self.input.reserve(READ_BYTES);
                    match self.stream.try_read_buf(&mut self.input) {
                        Ok(0) => return Err(Broken::Lost),
                        Ok(length) => {
                            self.metrics.traffic.bytes_in.inc_by(length as u64);
                            return Ok(Ready::Read);
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                writable = self.stream.writable(), if !self.out.is_empty() => {
                    writable?;
                    self.flush()?;
                    if self.out.is_empty() {
                        return Ok(Ready::Written);
                    }
                }
            }
        }
    }

    /// Writes as much as the socket takes now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.metrics.traffic.bytes_out.inc_by(length as u64);
                    self.out.advance(length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out = BytesMut::new();
        Ok(())
    }
}
