//! MQTT over WebSocket (RFC 6455; MQTT 3.1.1, section 6): the client's side of the framing.
//!
//! A frame may hold part of a packet or many of them, so that frames are taken off as their bytes come, without
//! waiting for their ends.

mod failure;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod upgrade;

pub use failure::Failure;
pub(super) use frame::{Masks, write_data};
pub(super) use upgrade::Endpoint;

use frame::Decoder;
use upgrade::Upgrade;

/// WebSocket of one connection.
#[derive(Debug)]
pub(super) struct WebSocket {
    /// Until the broker has agreed.
    upgrade: Option<Upgrade>,
    decoder: Decoder,
}

impl WebSocket {
    /// WebSocket that has not been agreed upon yet.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, Failure> {
        Ok(Self { upgrade: Some(Upgrade::new(endpoint)?), decoder: Decoder::default() })
    }

    /// What asks the broker for the upgrade; nothing once it has agreed.
    pub(super) fn request(&self) -> &[u8] {
        self.upgrade.as_ref().map_or(&[], Upgrade::request)
    }

    /// Takes more of the broker's answer. `None` while it is not whole; then how many bytes of `bytes` came after it.
    pub(super) fn upgrade(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let Some(upgrade) = &mut self.upgrade else { return Ok(Some(bytes.len())) };
        let rest = upgrade.take(bytes)?;
        if rest.is_some() {
            self.upgrade = None;
        }
        Ok(rest)
    }

    /// Takes the frames off `bytes`, in place; how many bytes they held. Appends to `answers` what is to be answered.
    pub(super) fn decode(
        &mut self,
        bytes: &mut [u8],
        masks: &mut Masks,
        answers: &mut Vec<u8>,
    ) -> Result<usize, Failure> {
        self.decoder.decode(bytes, masks, answers)
    }

    /// Whether the broker has said that nothing follows.
    pub(super) const fn is_closed(&self) -> bool {
        self.decoder.is_closed()
    }

    /// Appends that nothing follows, unless that was said.
    pub(super) fn write_close(&mut self, mask: [u8; 4], out: &mut Vec<u8>) {
        if !self.decoder.is_closed() {
            frame::write_close(frame::NORMAL, mask, out);
        }
    }
}
