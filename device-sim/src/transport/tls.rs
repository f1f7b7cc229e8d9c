//! TLS of one connection, on buffers that are not its own: what rustls calls unbuffered.
//!
//! So an idle connection holds its keys and the certificates of its peer, and no buffer.

mod config;
mod failure;
#[cfg(test)]
mod tests;
mod tickets;

use std::fmt;

use rustls::{
    client::{ClientConnectionData, UnbufferedClientConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
        WriteTraffic,
    },
};

pub(super) use config::config;
pub use failure::Failure;

/// What a record may be longer than what it holds, generously.
const RECORD_MARGIN: usize = 64;

/// What a record holds at most.
const RECORD: usize = 16 * 1024;

/// TLS of one connection.
pub(super) struct Tls {
    connection: UnbufferedClientConnection,
    /// What has come of a record, or a message of the handshake, that is not whole yet.
    pending: Vec<u8>,
    is_up: bool,
    is_closed: bool,
}

impl fmt::Debug for Tls {
    /// Keys are never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection: _, pending, is_up, is_closed } = self;
        let mut shown = f.debug_struct("Tls");
        shown.field("pending", &pending.len()).field("is_up", is_up).field("is_closed", is_closed);
        shown.finish_non_exhaustive()
    }
}

impl Tls {
    /// TLS that has not said anything yet.
    pub(super) const fn new(connection: UnbufferedClientConnection) -> Self {
        Self { connection, pending: Vec::new(), is_up: false, is_closed: false }
    }

    /// Whether the handshake is over.
    pub(super) const fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether the peer has said that nothing follows.
    pub(super) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Moves what is not whole yet to the beginning of `wire`; how much it is.
    pub(super) fn take_pending(&mut self, wire: &mut [u8]) -> usize {
        let pending = std::mem::take(&mut self.pending);
        wire[..pending.len()].copy_from_slice(&pending);
        pending.len()
    }

    /// Keeps what is not whole yet.
    pub(super) fn keep_pending(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.pending = rest.to_vec();
        }
    }

    /// Takes records, hands what they hold to `plain` and appends what is to be answered to `out`; how many bytes
    /// were taken.
    pub(super) fn process(
        &mut self,
        records: &mut [u8],
        mut plain: impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<usize, Failure> {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut records[taken..]);
            taken += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(Failure::from)?;
                        taken += record.discard;
                        plain(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => append(out, 0, |room| encode(&mut data, room))?,
                // What was encoded is in `out`, which the caller sends.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.is_closed = true,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.is_up = true;
                    return Ok(taken);
                }
                Ok(_) => return Ok(taken),
                Err(error) => {
                    self.tell_why(&mut records[taken..], out);
                    return Err(error.into());
                }
            }
        }
    }

    /// Appends the alert that tells the peer what is wrong. `rest` is what was not taken: rustls remembers where in it
    /// the messages are that it has not come to.
    fn tell_why(&mut self, rest: &mut [u8], out: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut alert)) = self.connection.process_tls_records(rest).state
            && let Err(failure) = append(out, 0, |room| encode(&mut alert, room))
        {
            tracing::debug!(%failure, "a broker is not told why TLS ends");
        }
    }

    /// Appends `bytes` to `out`, in records.
    pub(super) fn seal(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let size = bytes.len() + (bytes.len() / RECORD + 1) * RECORD_MARGIN;
        self.with_traffic(out, size, |traffic, room| traffic.encrypt(bytes, room))
    }

    /// Appends to `out` that nothing follows.
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method itself is not general enough")]
    pub(super) fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.with_traffic(out, RECORD_MARGIN, |traffic, room| traffic.queue_close_notify(room))
    }

    fn with_traffic(
        &mut self,
        out: &mut Vec<u8>,
        size: usize,
        mut write: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Failure> {
        loop {
            // With what is not whole yet, where rustls remembers the beginnings of messages; nothing of it is new.
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.pending);
            debug_assert_eq!(discard, 0, "what was whole has been taken");
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    return append(out, size, |room| match write(&mut traffic, room) {
                        Ok(written) => Ok(written),
                        Err(EncryptError::InsufficientSize(size)) => Err(Some(size)),
                        Err(EncryptError::EncryptExhausted) => Err(None),
                    });
                }
                // An update of the keys goes first.
                ConnectionState::EncodeTlsData(mut data) => append(out, 0, |room| encode(&mut data, room))?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.is_closed = true,
                _ => return Err(Failure::Over),
            }
        }
    }
}

fn encode(
    data: &mut EncodeTlsData<'_, ClientConnectionData>,
    room: &mut [u8],
) -> Result<usize, Option<InsufficientSizeError>> {
    data.encode(room).map_err(|error| match error {
        EncodeError::InsufficientSize(size) => Some(size),
        EncodeError::AlreadyEncoded => None,
    })
}

type Traffic<'c> = WriteTraffic<'c, ClientConnectionData>;

/// Appends what `write` writes to `out`, and gives it as much room as it asks for.
fn append(
    out: &mut Vec<u8>,
    mut size: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), Failure> {
    let start = out.len();
    loop {
        out.resize(start + size, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(Some(InsufficientSizeError { required_size })) if required_size > size => size = required_size,
            Err(_) => {
                out.truncate(start);
                return Err(Failure::Over);
            }
        }
    }
}
