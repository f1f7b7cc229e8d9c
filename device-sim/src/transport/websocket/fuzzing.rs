//! The door through which the fuzz targets, a workspace of their own, reach what is private here. Nobody else builds it.

use super::{Endpoint, Failure, Masks, frame, upgrade};

/// The key of the example in RFC 6455, section 1.3, so that an answer to it can be among the seeds.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Waits for the answer to a request for an upgrade.
#[derive(Debug)]
pub struct Upgrade(upgrade::Upgrade);

impl Default for Upgrade {
    fn default() -> Self {
        Self(upgrade::Upgrade::with_key(&Endpoint::new("localhost", "/mqtt", &std::collections::BTreeMap::new()), KEY))
    }
}

impl Upgrade {
    /// Takes more of the answer. `None` while it is not whole; then how many of `bytes` came after it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        self.0.take(bytes)
    }
}

/// Takes frames off, however their bytes are split.
#[derive(Debug, Default)]
pub struct Decoder {
    decoder: frame::Decoder,
    masks: Masks,
    answers: Vec<u8>,
}

impl Decoder {
    /// What frames of data hold of these bytes.
    pub fn decode(&mut self, mut bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let length = self.decoder.decode(&mut bytes, &mut self.masks, &mut self.answers)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Everything that was answered.
    pub fn answers(&self) -> &[u8] {
        &self.answers
    }

    /// Whether nothing follows.
    pub fn is_closed(&self) -> bool {
        self.decoder.is_closed()
    }
}
