//! MQTT 5: what a broker says beside the reason for which it refuses or ends a connection. It is made for people, who
//! get it in the report; a broker may say what it likes, so that it is cut and cleaned.

use std::collections::BTreeMap;

use crate::{
    engine::causes,
    session::codec::{
        Packet,
        v5::{Properties, Property, Reason},
    },
};

/// Texts that are counted by themselves; a broker that says something new each time is counted together.
const TEXTS_MAX: usize = 16;

/// Characters of a text that are kept.
const CHARS_MAX: usize = 200;

/// What the texts beyond [`TEXTS_MAX`] are counted as.
const OTHERS: &str = "something else";

/// What the broker says of the end of a connection, or of its refusal.
pub(super) fn by_broker(packet: &Packet<'_>) -> Option<String> {
    match packet {
        Packet::Connack5 { reason, properties, .. } if reason.is_error() => text(*reason, *properties),
        Packet::Disconnect { reason, properties } => text(*reason, *properties),
        _ => None,
    }
}

fn text(reason: Reason, properties: Properties<'_>) -> Option<String> {
    let mut said = Vec::new();
    for property in properties.iter() {
        match property {
            Property::ReasonString(text) => said.push(shown(text)),
            Property::ServerReference(server) => said.push(format!("use {}", shown(server))),
            _ => {}
        }
    }
    let reason: &'static str = reason.into();
    (!said.is_empty()).then(|| format!("{reason}: {}", said.join("; ")))
}

/// Without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).take(CHARS_MAX).collect()
}

/// Counts a text.
pub(super) fn note(counts: &mut BTreeMap<String, u64>, text: String) {
    let is_new = !counts.contains_key(&text);
    let text = if is_new && counts.len() >= TEXTS_MAX { OTHERS.into() } else { text };
    causes::add(counts, &text, 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::codec::{self, Protocol};

    fn of(packet: &[u8]) -> Option<String> {
        by_broker(&codec::read(packet, Protocol::V5, 1_024).unwrap().unwrap().0)
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

    #[test]
    fn a_broker_that_says_something_new_each_time_takes_no_memory() {
        let mut counts = BTreeMap::new();
        (0..1_000).for_each(|number| note(&mut counts, format!("text {number}")));
        assert_eq!((counts.len(), counts[OTHERS]), (TEXTS_MAX + 1, 984));
    }
}
