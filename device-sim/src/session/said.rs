//! MQTT 5: what a broker says beside the reason for which it refuses or ends a connection. It is made for people, who
//! get it in the pre-flight and in the report; a broker may say what it likes, so that it is cut and cleaned.

use super::codec::{
    Packet,
    v5::{Properties, Property, Reason},
};

/// Characters of a text that are kept.
const CHARS_MAX: usize = 200;

/// Why the broker refuses or ends a connection, and what it says of that.
pub(crate) fn by_broker(packet: &Packet<'_>) -> Option<(Reason, String)> {
    let (reason, properties) = match packet {
        Packet::Connack5 { reason, properties, .. } if reason.is_error() => (*reason, *properties),
        Packet::Disconnect { reason, properties } => (*reason, *properties),
        _ => return None,
    };
    text(properties).map(|text| (reason, text))
}

fn text(properties: Properties<'_>) -> Option<String> {
    let mut said = Vec::new();
    for property in properties.iter() {
        match property {
            Property::ReasonString(text) => said.push(shown(text)),
            Property::ServerReference(server) => said.push(format!("use {}", shown(server))),
            _ => {}
        }
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// Without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::codec::{self, Protocol};

    fn of(packet: &[u8]) -> Option<String> {
        let (reason, text) = by_broker(&codec::read(packet, Protocol::V5, 1_024).unwrap().unwrap().0)?;
        Some(format!("{reason}: {text}"))
    }

    #[test]
    fn reason_strings_and_server_references_are_told_without_what_a_terminal_obeys() {
        // CONNACK 0x87 with "pay\x1b", and one that accepts.
        assert_eq!(of(b"\x20\x0a\x00\x87\x07\x1f\x00\x04pay\x1b").as_deref(), Some("not_authorized: pay\u{fffd}"));
        assert_eq!(of(b"\x20\x09\x00\x00\x06\x1f\x00\x03hey"), None);
        // DISCONNECT 0x9d, "server moved", with a server reference; and one that says nothing.
        assert_eq!(of(b"\xe0\x08\x9d\x06\x1c\x00\x03b:1").as_deref(), Some("server_moved: use b:1"));
        assert_eq!(of(b"\xe0\x01\x9d"), None);
    }
}
