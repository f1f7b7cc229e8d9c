//! The address of a broker: `mqtt://host:port`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Scheme, host and port of a broker.
///
/// `tcp` means the same as `mqtt`; `ssl` and `tls` the same as `mqtts`. No scheme means `mqtt`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    transport: Transport,
    host: String,
    port: u16,
}

/// How bytes travel to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// MQTT over TCP, port 1883.
    Tcp,
    /// MQTT over TLS, port 8883.
    Tls,
    /// MQTT over WebSocket, port 80.
    WebSocket,
    /// MQTT over WebSocket over TLS, port 443.
    SecureWebSocket,
}

/// Why an address is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The scheme is none that MQTT uses.
    #[error("expected mqtt://, tcp://, mqtts://, ssl://, tls://, ws:// or wss://, found `{0}://`")]
    Scheme(String),
    /// Passwords do not belong into documents, flags and logs.
    #[error("expected no user or password in the address: they belong into `credentials`")]
    UserInfo,
    /// There is no host.
    #[error("expected mqtt://HOST:PORT, found `{0}`")]
    Host(String),
    /// The port is no number from 1 to 65535.
    #[error("expected a port from 1 to 65535, found `{0}`")]
    Port(String),
}

impl BrokerUrl {
    /// An address of MQTT over TCP.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self { transport: Transport::Tcp, host: host.into(), port }
    }

    /// How bytes travel there.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Host name or address; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the address is one of this machine's loopback addresses.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    const fn scheme(&self) -> &'static str {
        match self.transport {
            Transport::Tcp => "mqtt",
            Transport::Tls => "mqtts",
            Transport::WebSocket => "ws",
            Transport::SecureWebSocket => "wss",
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("mqtt", text.trim()));
        let (transport, default_port) = match scheme {
            "mqtt" | "tcp" => (Transport::Tcp, 1883),
            "mqtts" | "ssl" | "tls" => (Transport::Tls, 8883),
            "ws" => (Transport::WebSocket, 80),
            "wss" => (Transport::SecureWebSocket, 443),
            other => return Err(ParseError::Scheme(other.into())),
        };
        if rest.contains('@') {
            return Err(ParseError::UserInfo);
        }
        let (host, port) = split_port(rest.trim_end_matches('/'));
        let port = match port {
            None => default_port,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| ParseError::Port(port.into()))?,
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || !host.chars().all(valid) {
            return Err(ParseError::Host(text.into()));
        }
        Ok(Self { transport, host: host.into(), port })
    }
}

/// Host and port of `host`, `host:port`, `[v6]`, `[v6]:port` and a bare IPv6 address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match authority.split_once(':') {
        Some((_, rest)) if rest.contains(':') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.scheme(), self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.scheme(), self.host, self.port)
        }
    }
}

impl Serialize for BrokerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BrokerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for BrokerUrl {
    fn schema_name() -> Cow<'static, str> {
        "BrokerUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "description": "the address of a broker such as `mqtt://broker.example:1883`",
            "examples": ["mqtt://127.0.0.1:1883"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(text.parse::<BrokerUrl>().map_or_else(|error| error.to_string(), |url| url.to_string()), expected);
    }

    #[test]
    fn every_usual_scheme_is_understood() {
        check("localhost", "mqtt://localhost:1883");
        check("tcp://broker:1884", "mqtt://broker:1884");
        check("ssl://broker", "mqtts://broker:8883");
        check("tls://broker", "mqtts://broker:8883");
        check("ws://broker", "ws://broker:80");
        check("wss://broker/", "wss://broker:443");
    }

    #[test]
    fn ipv6_addresses_keep_their_brackets() {
        check("mqtt://[::1]:1885", "mqtt://[::1]:1885");
        check("::1", "mqtt://[::1]:1883");
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("http://x", "expected mqtt://, tcp://, mqtts://, ssl://, tls://, ws:// or wss://, found `http://`");
        check("mqtt://me:secret@x", "expected no user or password in the address: they belong into `credentials`");
        check("mqtt://x:0", "expected a port from 1 to 65535, found `0`");
        check("mqtt://", "expected mqtt://HOST:PORT, found `mqtt://`");
    }

    #[test]
    fn loopback_is_recognised() {
        assert!("127.0.0.2".parse::<BrokerUrl>().is_ok_and(|url| url.is_loopback()));
        assert!("mqtt://[::1]".parse::<BrokerUrl>().is_ok_and(|url| url.is_loopback()));
        assert!("broker.example".parse::<BrokerUrl>().is_ok_and(|url| !url.is_loopback()));
    }
}
