//! TLS for a Mosquitto on loopback: a certificate that is its own authority.

use std::{fs, path::Path};

use anyhow::Result;
use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::Settings;

/// What clients trust, in PEM.
pub const AUTHORITY: &str = "ca.pem";
const KEY: &str = "ca.key";

impl Settings {
    /// Speaks TLS as 127.0.0.1, with a fresh certificate that is written to [`AUTHORITY`] in `dir`.
    ///
    /// # Errors
    /// When the certificate and its key cannot be written.
    pub fn over_tls(self, dir: &Path) -> Result<Settings> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        fs::write(dir.join(AUTHORITY), cert.pem())?;
        fs::write(dir.join(KEY), signing_key.serialize_pem())?;
        Ok(self.with("certfile", dir.join(AUTHORITY).display()).with("keyfile", dir.join(KEY).display()))
    }
}
