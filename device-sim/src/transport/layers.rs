//! What lies between the packets of a connection and its socket: WebSocket frames, TLS records, or both.
//!
//! A connection keeps only its state and what is no whole record yet; the buffers are its thread's. Each step leaves
//! in [`Buffers::out`] what is to be sent.

use mio::net::TcpStream;

use super::{
    Error, Read, Transport, socket,
    tls::{self, Tls},
    websocket::{self, Masks, WebSocket},
};

/// What is read from a socket at once, with what is no whole record yet: more than a record has (RFC 8446, section
/// 5.1, 16 KiB and some), and than a handshake with a long chain of certificates has.
const WIRE: usize = 80 * 1024;

/// The buffers that the layered connections of a thread share.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// Bytes as they came over the wire.
    pub(super) wire: Box<[u8]>,
    /// Bytes as they are to go over the wire.
    pub(super) out: Vec<u8>,
    /// Frames before they become records.
    framed: Vec<u8>,
    /// What came out of records, before there is anywhere else to put it.
    plain: Vec<u8>,
    masks: Masks,
}

impl Buffers {
    /// Buffers whose masks begin with this seed.
    pub(super) fn new(mask_seed: u64) -> Self {
        Self { wire: vec![0; WIRE].into(), masks: Masks::new(mask_seed), ..Self::default() }
    }
}

/// The layers of a connection, the one over the other.
#[derive(Debug)]
pub(super) struct Layers {
    stage: Stage,
    tls: Option<Box<Tls>>,
    websocket: Option<Box<WebSocket>>,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Tcp,
    Tls,
    Upgrade,
    Up,
}

/// Whether there may be more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    More,
    Drained,
    Closed,
}

impl Layers {
    /// Layers over a socket that is not connected yet.
    pub(super) fn new(tls: Option<Tls>, websocket: Option<WebSocket>) -> Self {
        Self { stage: Stage::Tcp, tls: tls.map(Box::new), websocket: websocket.map(Box::new) }
    }

    /// Whether the socket is still to be connected.
    pub(super) fn is_new(&self) -> bool {
        self.stage == Stage::Tcp
    }

    /// What an attempt is called that takes too long where it stands.
    pub(super) const fn overdue(&self) -> &'static str {
        match self.stage {
            Stage::Tcp | Stage::Up => "connect_timeout",
            Stage::Tls => "tls_handshake_timeout",
            Stage::Upgrade => "websocket_upgrade_timeout",
        }
    }

    /// Goes on with the handshakes, over a socket that is connected; whether they are over. What the peer has sent
    /// beyond them goes to `partial`.
    pub(super) fn greet(
        &mut self,
        stream: &TcpStream,
        partial: &mut Vec<u8>,
        transport: &mut Transport,
    ) -> Result<bool, Error> {
        let buffers = &mut transport.buffers;
        buffers.out.clear();
        if self.stage == Stage::Tcp {
            self.start(buffers)?;
        }
        let mut plain = std::mem::take(&mut buffers.plain);
        plain.clear();
        let received = self.receive(stream, WIRE, buffers, |bytes| plain.extend_from_slice(bytes));
        let greeted = received.and_then(|flow| self.advance(flow, &plain, partial, buffers));
        buffers.plain = plain;
        greeted
    }

    /// The first word is ours.
    fn start(&mut self, buffers: &mut Buffers) -> Result<(), Error> {
        if let Some(tls) = &mut self.tls {
            self.stage = Stage::Tls;
            tls.process(&mut [], |_| (), &mut buffers.out)?;
        } else {
            self.ask_for_upgrade(buffers)?;
        }
        Ok(())
    }

    /// Asks for the upgrade where WebSocket is spoken; else the handshakes are over.
    fn ask_for_upgrade(&mut self, buffers: &mut Buffers) -> Result<(), Error> {
        let Some(websocket) = &self.websocket else {
            self.stage = Stage::Up;
            return Ok(());
        };
        self.stage = Stage::Upgrade;
        match &mut self.tls {
            Some(tls) => tls.seal(websocket.request(), &mut buffers.out)?,
            None => buffers.out.extend_from_slice(websocket.request()),
        }
        Ok(())
    }

    fn advance(
        &mut self,
        flow: Flow,
        plain: &[u8],
        partial: &mut Vec<u8>,
        buffers: &mut Buffers,
    ) -> Result<bool, Error> {
        if self.stage == Stage::Tls && self.tls.as_ref().is_some_and(|tls| tls.is_up()) {
            self.ask_for_upgrade(buffers)?;
        }
        let mut early = plain;
        if self.stage == Stage::Upgrade
            && let Some(websocket) = &mut self.websocket
            && let Some(rest) = websocket.upgrade(plain)?
        {
            self.stage = Stage::Up;
            early = &plain[plain.len() - rest..];
        }
        match (self.stage, flow) {
            (Stage::Up, _) => {
                let mut early = early.to_vec();
                let length = self.unframe(&mut early, buffers)?.0;
                partial.extend_from_slice(&early[..length]);
                Ok(true)
            }
            (Stage::Tls, Flow::Closed) => Err(tls::Failure::HandshakeClosed.into()),
            (_, Flow::Closed) => Err(websocket::Failure::UpgradeClosed.into()),
            _ => Ok(false),
        }
    }

    /// Puts `bytes` into frames and records.
    pub(super) fn seal(&mut self, bytes: &[u8], transport: &mut Transport) -> Result<(), Error> {
        let Buffers { out, framed, masks, .. } = &mut transport.buffers;
        out.clear();
        match (&mut self.websocket, &mut self.tls) {
            (Some(_), None) => websocket::write_data(bytes, masks.next(), out),
            (None, Some(tls)) => tls.seal(bytes, out)?,
            (Some(_), Some(tls)) => {
                framed.clear();
                websocket::write_data(bytes, masks.next(), framed);
                tls.seal(framed, out)?;
            }
            (None, None) => out.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// Says in each layer that nothing follows.
    pub(super) fn close(&mut self, transport: &mut Transport) -> Result<(), Error> {
        let Buffers { out, framed, masks, .. } = &mut transport.buffers;
        out.clear();
        framed.clear();
        if let Some(websocket) = &mut self.websocket {
            websocket.write_close(masks.next(), framed);
        }
        match &mut self.tls {
            None => out.extend_from_slice(framed),
            Some(tls) => {
                if !framed.is_empty() {
                    tls.seal(framed, out)?;
                }
                tls.close(out)?;
            }
        }
        Ok(())
    }

    /// Reads once, and appends the packets' bytes to the `kept` ones in `buffer`.
    pub(super) fn read(
        &mut self,
        stream: &TcpStream,
        buffer: &mut [u8],
        kept: usize,
        transport: &mut Transport,
    ) -> Result<Read, Error> {
        let buffers = &mut transport.buffers;
        buffers.out.clear();
        let mut end = kept;
        // No layer makes more bytes of what it gets.
        let flow = self.receive(stream, buffer.len() - kept, buffers, |bytes| {
            buffer[end..end + bytes.len()].copy_from_slice(bytes);
            end += bytes.len();
        })?;
        let (length, is_over) = self.unframe(&mut buffer[kept..end], buffers)?;
        let end = kept + length;
        Ok(match flow {
            Flow::Closed => Read::Closed(end),
            _ if is_over => Read::Closed(end),
            Flow::More => Read::More(end),
            Flow::Drained => Read::Drained(end),
        })
    }

    /// Reads the socket once, takes what came out of its records and hands it to `plain`.
    fn receive(
        &mut self,
        stream: &TcpStream,
        room: usize,
        buffers: &mut Buffers,
        mut plain: impl FnMut(&[u8]),
    ) -> Result<Flow, Error> {
        let Buffers { wire, out, .. } = buffers;
        let room = room.min(wire.len());
        let pending = self.tls.as_mut().map_or(0, |tls| tls.take_pending(wire));
        if pending >= room {
            return Err(tls::Failure::Endless.into());
        }
        let read = socket::read(stream, &mut wire[pending..room])?;
        let filled = pending + read.unwrap_or(0);
        let mut flow = match read {
            Some(0) => Flow::Closed,
            _ if filled == room => Flow::More,
            _ => Flow::Drained,
        };
        match &mut self.tls {
            None => plain(&wire[..filled]),
            Some(tls) => {
                let taken = tls.process(&mut wire[..filled], plain, out)?;
                tls.keep_pending(&wire[taken..filled]);
                if tls.is_closed() {
                    flow = Flow::Closed;
                }
            }
        }
        Ok(flow)
    }

    /// Takes the frames off `bytes`, in place; how many bytes are left, and whether they were the last.
    fn unframe(&mut self, bytes: &mut [u8], buffers: &mut Buffers) -> Result<(usize, bool), Error> {
        let Some(websocket) = &mut self.websocket else { return Ok((bytes.len(), false)) };
        let Buffers { out, framed, masks, .. } = buffers;
        framed.clear();
        let decoded = websocket.decode(bytes, masks, framed);
        match &mut self.tls {
            Some(tls) if !framed.is_empty() => tls.seal(framed, out)?,
            _ => out.extend_from_slice(framed),
        }
        Ok((decoded?, websocket.is_closed()))
    }
}
