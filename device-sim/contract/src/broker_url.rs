//! The address of a broker: `mqtt://host:port`, or `ws://host:port/path`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Scheme, host and port of a broker, and over WebSocket the path there.
///
/// `tcp` means the same as `mqtt`; `ssl` and `tls` the same as `mqtts`. No scheme means `mqtt`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    transport: Transport,
    host: String,
    port: u16,
    /// Empty but over WebSocket.
    path: String,
}

/// Where most brokers take MQTT over WebSocket.
const DEFAULT_PATH: &str = "/mqtt";

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

impl Transport {
    /// Whether TLS is spoken.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::SecureWebSocket)
    }

    /// Whether WebSocket is spoken.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::SecureWebSocket)
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
            Self::Tls => 8883,
            Self::WebSocket => 80,
            Self::SecureWebSocket => 443,
        }
    }
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
    /// Only WebSocket has paths.
    #[error("expected no path but with ws:// and wss://, found `{0}`")]
    UnusedPath(String),
    /// The path cannot be asked for.
    #[error("expected a path of visible ASCII characters without `#`, found `{0}`")]
    Path(String),
}

impl BrokerUrl {
    /// An address of MQTT over TCP.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self { transport: Transport::Tcp, host: host.into(), port, path: String::new() }
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

    /// What is asked for over WebSocket, with its leading `/`; empty for other transports.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and, where it is not the scheme's usual one, port, as HTTP names them.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.transport.default_port() { host } else { format!("{host}:{}", self.port) }
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
        let transport = match scheme {
            "mqtt" | "tcp" => Transport::Tcp,
            "mqtts" | "ssl" | "tls" => Transport::Tls,
            "ws" => Transport::WebSocket,
            "wss" => Transport::SecureWebSocket,
            other => return Err(ParseError::Scheme(other.into())),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // A password may hold a slash; where there are no paths, it is recognised all the same.
        if authority.contains('@') || (!transport.is_websocket() && path.contains('@')) {
            return Err(ParseError::UserInfo);
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => transport.default_port(),
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| ParseError::Port(port.into()))?,
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || !host.chars().all(valid) {
            return Err(ParseError::Host(text.into()));
        }
        Ok(Self { transport, host: host.into(), port, path: path_of(transport, path)? })
    }
}

/// The path that is meant: over WebSocket none means the usual one. Who writes `/` means the root.
fn path_of(transport: Transport, path: &str) -> Result<String, ParseError> {
    match (transport.is_websocket(), path.trim_end_matches('/')) {
        (true, "") if path.is_empty() => Ok(DEFAULT_PATH.into()),
        (true, _) if path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') => Ok(path.into()),
        (true, _) => Err(ParseError::Path(path.into())),
        (false, "") => Ok(String::new()),
        (false, _) => Err(ParseError::UnusedPath(path.into())),
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
            write!(f, "{}://[{}]:{}{}", self.scheme(), self.host, self.port, self.path)
        } else {
            write!(f, "{}://{}:{}{}", self.scheme(), self.host, self.port, self.path)
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
            "format": "BrokerUrl",
            "description": "the address of a broker such as `mqtt://broker.example:1883`; mqtts:// is TLS, ws:// and wss:// WebSocket",
            "examples": ["mqtt://127.0.0.1:1883", "mqtts://broker.example:8883", "wss://broker.example/mqtt"],
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
        check("ws://broker", "ws://broker:80/mqtt");
        check("wss://broker/", "wss://broker:443/");
        check("ws://broker/?a=b", "ws://broker:80/?a=b");
    }

    #[test]
    fn websocket_has_a_path_and_nothing_else_has() {
        check("ws://broker:8080/devices/in?tenant=a@b", "ws://broker:8080/devices/in?tenant=a@b");
        check("wss://[::1]:1/x/", "wss://[::1]:1/x/");
        check("mqtt://broker/", "mqtt://broker:1883");
        check("mqtt://broker/x", "expected no path but with ws:// and wss://, found `/x`");
        check("ws://b/a b", "expected a path of visible ASCII characters without `#`, found `/a b`");
        check("ws://b/a#b", "expected a path of visible ASCII characters without `#`, found `/a#b`");
    }

    #[test]
    fn http_names_a_host_without_the_usual_port() {
        for (url, authority) in
            [("ws://b", "b"), ("ws://b:8080/x", "b:8080"), ("wss://[::1]", "[::1]"), ("wss://[::1]:80", "[::1]:80")]
        {
            assert_eq!(url.parse::<BrokerUrl>().unwrap().authority(), authority);
        }
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
