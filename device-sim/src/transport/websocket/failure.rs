//! The ways in which WebSocket fails, by name.

/// Why there is no WebSocket with a broker. The variant's name, after `websocket_`, is the metric label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "websocket_")]
pub enum Failure {
    /// What answers is no HTTP.
    #[error("expected an answer in HTTP, found something else; is this the broker's port for WebSocket?")]
    NotSpoken,
    /// The server does not upgrade.
    #[error("expected `101 Switching Protocols`, found status {0}; is the path of the address the broker's?")]
    UpgradeRefused(u16),
    /// The server says that it upgrades, but to something else or not for us.
    #[error("expected an upgrade as RFC 6455 has it, found {0}")]
    UpgradeInvalid(&'static str),
    /// The server speaks WebSocket, but does not offer MQTT.
    #[error("expected the subprotocol `mqtt`, found none or another; is the path of the address the broker's?")]
    NoMqtt,
    /// The server closed before it has answered.
    #[error("the broker closed the connection before it upgraded to WebSocket")]
    UpgradeClosed,
    /// The broker broke the protocol.
    #[error("the broker broke the WebSocket protocol: {0}")]
    ProtocolViolation(&'static str),
    /// There is no randomness to be had.
    #[error("the operating system gives no random bytes: {0}")]
    Random(String),
}
