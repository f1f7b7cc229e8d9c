//! What an agent wants to be done, in the order in which it said so. The engine has one of these a thread, which is used again and
//! again: it grows to its size once.

#![cfg_attr(not(test), allow(dead_code, reason = "telemetry wants nothing but its birth message"))]

use fleet_contract::time::Micros;

use crate::{index::StreamIndex, session::codec::v5::SubscribeOptions};

/// What an agent wants to be done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    list: Vec<Effect>,
    /// The texts and bytes of these.
    bytes: Vec<u8>,
}

/// One of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Publish { stream: StreamIndex, kept: Part },
    Subscribe { filter: Part, options: SubscribeOptions },
    Unsubscribe { filter: Part },
    Timer { stream: StreamIndex, at: Micros },
    Will { payload: Part },
}

/// Some of the bytes of [`Effects`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    begin: usize,
    end: usize,
}

impl Effects {
    /// A message is due now. `kept` is what its body is made of beside stamp and device: the engine keeps it as long as the message
    /// may have to be made again, and hands it to [`encode`](super::Agent::encode).
    pub(crate) fn publish(&mut self, stream: StreamIndex, kept: &[u8]) {
        let kept = self.part(kept);
        self.list.push(Effect::Publish { stream, kept });
    }

    /// The device subscribes to a filter. Without a session there is nobody to ask, and that counts as refused.
    pub(crate) fn subscribe(&mut self, filter: &str, options: SubscribeOptions) {
        let filter = self.part(filter.as_bytes());
        self.list.push(Effect::Subscribe { filter, options });
    }

    /// The device unsubscribes from a filter.
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let filter = self.part(filter.as_bytes());
        self.list.push(Effect::Unsubscribe { filter });
    }

    /// An event stream falls due at an instant, or never, with or without a connection; each stream has one timer. It is never
    /// due twice at the same instant.
    pub(crate) fn timer(&mut self, stream: StreamIndex, at: Micros) {
        self.list.push(Effect::Timer { stream, at });
    }

    /// The payload of the device's will from the next CONNECT on; topic, QoS and retain are the document's.
    pub(crate) fn will(&mut self, payload: &[u8]) {
        let payload = self.part(payload);
        self.list.push(Effect::Will { payload });
    }

    /// Whether nothing is wanted.
    pub(crate) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets all of it.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }

    /// All of it, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Effect> {
        self.list.iter().copied()
    }

    /// The bytes of a part.
    pub(crate) fn bytes(&self, Part { begin, end }: Part) -> &[u8] {
        &self.bytes[begin..end]
    }

    /// A part that was a text when it was said.
    pub(crate) fn text(&self, part: Part) -> &str {
        std::str::from_utf8(self.bytes(part)).unwrap_or_default()
    }

    fn part(&mut self, bytes: &[u8]) -> Part {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Part { begin, end: self.bytes.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_come_in_the_order_in_which_they_were_said() {
        let mut effects = Effects::default();
        assert!(effects.is_empty());
        effects.unsubscribe("a/b");
        effects.publish(StreamIndex::new(1), b"12");
        effects.will(b"");
        let texts = effects.iter().map(|effect| match effect {
            Effect::Unsubscribe { filter } => effects.text(filter),
            Effect::Publish { kept, .. } => effects.text(kept),
            Effect::Will { payload } => effects.text(payload),
            Effect::Subscribe { .. } | Effect::Timer { .. } => "",
        });
        assert_eq!(texts.collect::<Vec<_>>(), ["a/b", "12", ""]);
        effects.clear();
        assert_eq!((effects.is_empty(), effects.iter().count()), (true, 0));
    }
}
