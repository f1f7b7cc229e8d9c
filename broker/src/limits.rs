//! How much a broker takes on, derived from the memory that it may use.
//!
//! Whoever embeds the broker asks [`Limits::devices`] *before* starting a fleet, so that a fleet that
//! is too large is refused with a remedy instead of failing half-way.

use std::time::Duration;

/// Memory that the broker may use when nothing else is said: 256 MiB.
pub const MEMORY_DEFAULT: u64 = 256 * MIB;

/// What a device is budgeted at, in bytes: its connection ([`CONNECTION_BYTES`]) and the growth of
/// ten reconnects ([`RECONNECT_BYTES`] each).
pub const DEVICE_BYTES: u64 = CONNECTION_BYTES + 10 * RECONNECT_BYTES;

/// Bytes of one connected client with one subscription of its own and messages under way, kernel
/// buffers excluded. An upper bound: `tests/broker/fleet.rs` measures and prints the real figure.
pub const CONNECTION_BYTES: u64 = 28 * KIB;

/// Bytes that stay behind after a client was killed and has connected again. An upper bound, the
/// promise that `tests/broker/fleet.rs` holds against measurement.
pub const RECONNECT_BYTES: u64 = 10 * KIB;

/// Connections beyond the devices: observers, viewers, control clients.
pub const SPARE_CONNECTIONS: usize = 64;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What a broker takes on before it refuses. Every refusal is counted by its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Clients connected at a time. One more is answered by "server unavailable" (CONNACK 3).
    pub connections: usize,
    /// Sessions, persistent ones of clients that are away included.
    pub sessions: usize,
    /// Bytes of a packet after its fixed header. A larger one ends its connection.
    pub packet_bytes: usize,
    /// Time that a client has to send CONNECT.
    pub connect_timeout: Duration,
    /// Messages of `QoS` 1 and 2 sent to a client and not yet acknowledged.
    pub in_flight: usize,
    /// Messages waiting for a client, connected or away. What does not fit is dropped and counted.
    pub queue_messages: usize,
    /// Bytes waiting for all clients together.
    pub queue_bytes: usize,
    /// Distinct topic filters since the start: the router never forgets one. A subscription beyond
    /// is answered by "failure" (SUBACK 128).
    pub filters: usize,
    /// Distinct topics since the start: the router never forgets one. Messages to further ones
    /// are dropped and counted.
    pub topics: usize,
    /// Topics with a retained message.
    pub retained: usize,
}

/// A fleet is larger than the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{asked} devices are too many for the built-in broker, which takes {taken} in the memory that it \
     may use ({} KiB a device); give it more memory or bring a broker with --broker \
     mqtt://HOST:PORT. Mosquitto on this machine: `sudo apt install mosquitto`, then \
     `mosquitto -p 1884` and --broker mqtt://127.0.0.1:1884",
    DEVICE_BYTES / KIB
)]
pub struct TooManyDevices {
    /// Devices asked for.
    pub asked: usize,
    /// Devices that the limits allow.
    pub taken: usize,
}

impl Limits {
    /// Whether a fleet of so many devices can connect, with room for observers; the error names the
    /// remedy.
    pub fn admit(&self, devices: usize) -> Result<(), TooManyDevices> {
        let taken = self.connections.saturating_sub(SPARE_CONNECTIONS);
        if devices <= taken {
            return Ok(());
        }
        Err(TooManyDevices { asked: devices, taken })
    }

    /// Devices for which `memory` bytes suffice: 2,048 for [`MEMORY_DEFAULT`].
    pub const fn devices(memory: u64) -> usize {
        let devices = memory / DEVICE_BYTES;
        // One thread routes for all of them; beyond this it is no question of memory any more.
        if devices < 65_536 { devices as usize } else { 65_536 }
    }

    /// Limits that keep the broker within about `memory` bytes.
    pub fn for_memory(memory: u64) -> Self {
        let connections = Self::devices(memory) + SPARE_CONNECTIONS;
        Self {
            connections,
            sessions: 2 * connections,
            packet_bytes: 256 * 1024,
            connect_timeout: Duration::from_secs(10),
            in_flight: 1_000,
            queue_messages: 20_000,
            queue_bytes: usize::try_from(memory / 4).unwrap_or(usize::MAX),
            filters: 4 * connections + 1_000,
            topics: 100_000,
            retained: 100_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::for_memory(MEMORY_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_memory_holds_about_two_thousand_devices() {
        assert_eq!(Limits::devices(MEMORY_DEFAULT), 2_048);
        assert_eq!(Limits::devices(2 * MEMORY_DEFAULT), 4_096);
        assert_eq!(Limits::devices(0), 0);
    }

    #[test]
    fn a_fleet_that_is_too_large_is_refused_with_the_remedy() {
        let limits = Limits::default();
        assert_eq!(limits.admit(2_048), Ok(()));
        let refused = limits.admit(2_049).unwrap_err();
        assert_eq!((refused.asked, refused.taken), (2_049, 2_048));
        let said = refused.to_string();
        for part in ["2049 devices", "takes 2048", "128 KiB", "--broker", "apt install"] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    }
}
