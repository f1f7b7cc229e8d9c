//! The request that makes WebSocket of HTTP, and its answer (RFC 6455, section 4.1).

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::Failure;

/// What the server's proof is made of (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest head of an answer.
const HEAD_MAX: usize = 8 * 1024;

/// The most fields that it may have.
const FIELDS_MAX: usize = 64;

/// Whom and what to ask.
#[derive(Debug)]
pub(in crate::transport) struct Endpoint {
    /// The request up to the key.
    head: String,
}

impl Endpoint {
    /// An endpoint at a host, with its port unless that is the usual one, and a path; the request has these fields, too
    /// (RFC 6455, section 4.1, item 12).
    pub(in crate::transport) fn new(authority: &str, path: &str, headers: &BTreeMap<String, String>) -> Self {
        let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n{more}Sec-WebSocket-Key: "
        );
        Self { head }
    }
}

/// An upgrade that was asked for.
#[derive(Debug)]
pub(super) struct Upgrade {
    request: String,
    /// What proves that the answer is one to this request.
    accept: String,
    /// What has come of the answer.
    answer: Vec<u8>,
}

impl Upgrade {
    /// A request with a key of its own.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, Failure> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| Failure::Random(error.to_string()))?;
        Ok(Self::with_key(endpoint, &BASE64_STANDARD.encode(nonce)))
    }

    pub(super) fn with_key(endpoint: &Endpoint, key: &str) -> Self {
        let digest = sha1_smol::Sha1::from(format!("{key}{GUID}")).digest().bytes();
        let request = format!("{}{key}\r\n\r\n", endpoint.head);
        Self { request, accept: BASE64_STANDARD.encode(digest), answer: Vec::new() }
    }

    /// The request.
    pub(super) fn request(&self) -> &[u8] {
        self.request.as_bytes()
    }

    /// Takes more of the answer. `None` while it is not whole; then how many of `bytes` came after it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        self.answer.extend_from_slice(bytes);
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut answer = httparse::Response::new(&mut fields);
        match answer.parse(&self.answer) {
            Ok(httparse::Status::Partial) if self.answer.len() > HEAD_MAX => Err(Failure::NotSpoken),
            Ok(httparse::Status::Partial) => Ok(None),
            Ok(httparse::Status::Complete(length)) if length > HEAD_MAX => Err(Failure::NotSpoken),
            Ok(httparse::Status::Complete(length)) => {
                self.check(&answer)?;
                Ok(Some(self.answer.len() - length))
            }
            Err(_) => Err(Failure::NotSpoken),
        }
    }

    fn check(&self, answer: &httparse::Response<'_, '_>) -> Result<(), Failure> {
        match answer.code {
            Some(101) => {}
            code => return Err(Failure::UpgradeRefused(code.unwrap_or_default())),
        }
        let has = |name: &str, wanted: &str| {
            let values = answer.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            values.flat_map(|field| field.value.split(|byte| *byte == b',')).any(|value| {
                let value = value.trim_ascii();
                value.eq_ignore_ascii_case(wanted.as_bytes())
            })
        };
        if !has("upgrade", "websocket") || !has("connection", "upgrade") {
            return Err(Failure::UpgradeInvalid("no upgrade to `websocket`"));
        }
        let proof = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("sec-websocket-accept"));
        if proof.is_none_or(|field| field.value.trim_ascii() != self.accept.as_bytes()) {
            return Err(Failure::UpgradeInvalid("an answer to another request"));
        }
        // MQTT-6.0.0-4: the server is to choose the subprotocol.
        if has("sec-websocket-protocol", "mqtt") { Ok(()) } else { Err(Failure::NoMqtt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the proof of RFC 6455, section 1.3.
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

    fn upgrade() -> Upgrade {
        Upgrade::with_key(&Endpoint::new("server.example.com", "/chat", &BTreeMap::new()), "dGhlIHNhbXBsZSBub25jZQ==")
    }

    #[test]
    fn the_request_is_that_of_the_standard() {
        insta::assert_snapshot!(String::from_utf8_lossy(upgrade().request()).replace('\r', ""), @r"
        GET /chat HTTP/1.1
        Host: server.example.com
        Upgrade: websocket
        Connection: Upgrade
        Sec-WebSocket-Version: 13
        Sec-WebSocket-Protocol: mqtt
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
        ");
    }

    #[test]
    fn the_request_has_the_fields_that_a_gateway_asks_for() {
        let headers = [("Authorization".to_owned(), "Bearer abc".to_owned())].into();
        let upgrade = Upgrade::with_key(&Endpoint::new("gateway.example", "/", &headers), "key");
        let request = String::from_utf8_lossy(upgrade.request());
        assert!(request.starts_with("GET / HTTP/1.1\r\nHost: gateway.example\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: Bearer abc\r\nSec-WebSocket-Key: key\r\n\r\n"), "{request}");
    }

    #[test]
    fn an_answer_may_come_byte_by_byte_and_bring_more() {
        let mut slow = upgrade();
        let (last, first) = ANSWER.as_bytes().split_last().unwrap();
        for byte in first {
            assert_eq!(slow.take(&[*byte]), Ok(None));
        }
        assert_eq!(slow.take(&[*last, b'a', b'b']), Ok(Some(2)));
    }

    #[test]
    fn a_head_that_is_too_long_is_refused_whether_it_comes_whole_or_in_parts() {
        let field = format!("X-Long: {}\r\n\r\n", "x".repeat(HEAD_MAX));
        let answer = ANSWER.replacen("\r\n\r\n", &format!("\r\n{field}"), 1);
        let mut parts = upgrade();
        let verdict = answer.as_bytes().chunks(1_000).find_map(|part| parts.take(part).transpose());
        assert_eq!(verdict, Some(Err(Failure::NotSpoken)));
        assert_eq!(upgrade().take(answer.as_bytes()), Err(Failure::NotSpoken));
    }

    #[test]
    fn what_is_wrong_has_a_name() {
        let check = |from: &str, to: &str, expected: Failure| {
            let answer = ANSWER.replace(from, to);
            assert_ne!(answer, ANSWER);
            assert_eq!(upgrade().take(answer.as_bytes()), Err(expected));
        };
        check("HTTP/1.1 101", "SSH-2.0-x", Failure::NotSpoken);
        check("101 Switching", "404 Not", Failure::UpgradeRefused(404));
        check("WebSocket", "h2c", Failure::UpgradeInvalid("no upgrade to `websocket`"));
        check("keep-alive, Upgrade", "close", Failure::UpgradeInvalid("no upgrade to `websocket`"));
        check("s3pPLM", "s3pPLm", Failure::UpgradeInvalid("an answer to another request"));
        check("mqtt", "chat", Failure::NoMqtt);
        assert_eq!(upgrade().take(&[b"HTTP/1.1 101 ", &[b'x'; HEAD_MAX][..]].concat()), Err(Failure::NotSpoken));
        let names = [Failure::UpgradeRefused(404), Failure::NoMqtt].map(|failure| <&'static str>::from(&failure));
        assert_eq!(names, ["websocket_upgrade_refused", "websocket_no_mqtt"]);
    }
}
