//! The configuration file: YAML, every field optional.
//!
//! ```yaml
//! listen: 127.0.0.1:1883
//! metrics: 127.0.0.1:9883
//! users: /etc/simctl/broker-users
//! anonymous: /etc/simctl/broker-anonymous
//! data: /var/lib/simctl-broker
//! memory: 256MiB
//! limits:
//!   connections: 2048
//!   packet: 256KiB
//! ```
//!
//! An unknown field is an error with its line and column.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fleet_contract::units::Bytes;
use serde::Deserialize;

use crate::limits::Limits;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file does not say what it should; the message has line and column.
    #[error("{path}: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Position, finding, and the lines around it.
        message: String,
    },
}

/// What a configuration file says. Relative paths in it start at the working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Where clients connect.
    pub listen: Option<SocketAddr>,
    /// Where metrics and health are served over HTTP.
    pub metrics: Option<SocketAddr>,
    /// The file of names and passwords.
    pub users: Option<PathBuf>,
    /// The file that says whether clients without credentials may connect, too.
    pub anonymous: Option<PathBuf>,
    /// The folder in which sessions and retained messages outlive a stop.
    pub data: Option<PathBuf>,
    /// Memory that the limits are derived from.
    pub memory: Option<Bytes>,
    /// Limits that are not to follow from the memory.
    pub limits: LimitsFile,
}

/// The limits of a configuration file; see [`Limits`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct LimitsFile {
    connections: Option<usize>,
    sessions: Option<usize>,
    packet: Option<Bytes>,
    in_flight: Option<usize>,
    queue_messages: Option<usize>,
    queue_bytes: Option<Bytes>,
    filters: Option<usize>,
    topics: Option<usize>,
    retained: Option<usize>,
}

impl File {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|message| ConfigError::Content { path: path.to_owned(), message })
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }
}

impl LimitsFile {
    /// Replaces what the file names.
    pub fn apply(self, limits: &mut Limits) {
        let LimitsFile {
            connections,
            sessions,
            packet,
            in_flight,
            queue_messages,
            queue_bytes,
            filters,
            topics,
            retained,
        } = self;
        replace(&mut limits.connections, connections);
        replace(&mut limits.sessions, sessions);
        replace(&mut limits.packet_bytes, packet.map(bytes));
        // There are 65,535 packet identifiers; half of them keeps the search for a free one short.
        replace(&mut limits.in_flight, in_flight.map(|n| n.clamp(1, 32_000)));
        replace(&mut limits.queue_messages, queue_messages);
        replace(&mut limits.queue_bytes, queue_bytes.map(bytes));
        replace(&mut limits.filters, filters);
        replace(&mut limits.topics, topics);
        replace(&mut limits.retained, retained);
    }
}

fn replace<T>(limit: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *limit = value;
    }
}

fn bytes(size: Bytes) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_empty() {
        assert_eq!(File::parse(""), Ok(File::default()));
        assert_eq!(File::parse("\n"), Ok(File::default()));
    }

    #[test]
    fn limits_replace_what_follows_from_the_memory() {
        let file =
            File::parse("listen: '[::1]:1883'\nmemory: 512MiB\nlimits:\n  packet: 1MiB\n  inFlight: 99999\n").unwrap();
        assert_eq!(file.listen, Some("[::1]:1883".parse().unwrap()));
        let mut limits = Limits::for_memory(file.memory.unwrap().0);
        file.limits.apply(&mut limits);
        assert_eq!(limits.connections, 4096 + crate::limits::SPARE_CONNECTIONS);
        assert_eq!(limits.packet_bytes, 1 << 20);
        assert_eq!(limits.in_flight, 32_000);
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_position() {
        let error = File::parse("listen: 127.0.0.1:1883\nlimits:\n  conections: 5\n").unwrap_err();
        assert!(error.contains("conections"), "{error}");
        assert!(error.contains("line 3") && error.contains("column 3"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_position() {
        let error = File::parse("memory: 256megs\n").unwrap_err();
        assert!(error.contains("`256megs`") && error.contains("`4KiB`") && error.contains("line 1"), "{error}");
    }
}
