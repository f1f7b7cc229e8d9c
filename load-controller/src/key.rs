//! The controller's key: what fleets' secrets are derived from, so that no Secret of a fleet is ever read.
//!
//! A secret is HMAC-SHA256(key, purpose, UID of the fleet).

use std::sync::Arc;

use fleet_contract::model::payload::hex;
use ring::hmac;

/// Bytes of the key: as many as SHA-256 gives.
pub const KEY_BYTES: usize = 32;

/// What a derived secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The token of the workers' API.
    Token,
    /// The password of the devices at the fleet's own broker.
    Devices,
    /// The password of the observer there.
    Observer,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Devices => "devices",
            Self::Observer => "observer",
        }
    }
}

/// The controller's key. Never printed.
#[derive(Clone)]
pub struct Key(Arc<hmac::Key>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// The key of these bytes.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// The secret of the fleet with that UID, 64 hexadecimal digits.
    pub fn derive(&self, purpose: Purpose, uid: &str) -> String {
        // No purpose holds a zero byte, so that no two pairs give the same text.
        let tag = hmac::sign(&self.0, &[purpose.name().as_bytes(), b"\0", uid.as_bytes()].concat());
        hex(tag.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_that_of_its_purpose_fleet_and_key_alone() {
        let key = Key::new(&[7; KEY_BYTES]);
        let token = key.derive(Purpose::Token, "uid");
        assert_eq!(token, Key::new(&[7; KEY_BYTES]).derive(Purpose::Token, "uid"));
        assert_eq!(token.len(), 64);
        assert_ne!(token, key.derive(Purpose::Devices, "uid"));
        assert_ne!(key.derive(Purpose::Observer, "uid"), key.derive(Purpose::Devices, "uid"));
        assert_ne!(token, key.derive(Purpose::Token, "other"));
        assert_ne!(token, Key::new(&[8; KEY_BYTES]).derive(Purpose::Token, "uid"));
    }

    #[test]
    fn the_key_is_not_printed() {
        assert_eq!(format!("{:?}", Key::new(&[7; KEY_BYTES])), "Key(…)");
    }
}
