//! Tells messages apart that carry no stamp: by topic and body, and where bodies are equal by their order.
//!
//! That proves less than a stamp. Of equal bodies the oldest that has not arrived counts as arrived, so that a lost one
//! and a later duplicate look like one that was late; and what another run sends of the same body is taken for ours.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hasher},
};

use fleet_contract::{time::Micros, units::Span};

use crate::index::{DeviceIndex, StreamIndex};

/// Messages of a stream that are remembered at most.
const REMEMBERED_MAX: usize = 65_536;

/// The digest of a body; the same in all threads of a process.
pub(crate) fn digest(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

/// A message without a stamp that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) digest: u64,
    pub(crate) seq: u32,
    pub(crate) due: Micros,
    pub(crate) sent: Micros,
}

/// The messages without a stamp that a shard has sent of late, by device and stream.
#[derive(Debug, Default)]
pub(crate) struct Bodies(HashMap<(DeviceIndex, StreamIndex), VecDeque<(Body, bool)>>);

impl Bodies {
    /// Remembers a message, and forgets what was sent more than `kept` before it.
    pub(crate) fn sent(&mut self, device: DeviceIndex, stream: StreamIndex, body: Body, kept: Span) {
        let row = self.0.entry((device, stream)).or_default();
        while row.front().is_some_and(|(old, _)| old.sent.after(kept) < body.sent) || row.len() >= REMEMBERED_MAX {
            row.pop_front();
        }
        row.push_back((body, false));
    }

    /// Which message has arrived: the oldest of this body that has not arrived yet, else the newest that has.
    pub(crate) fn arrived(&mut self, device: DeviceIndex, stream: StreamIndex, digest: u64) -> Option<Body> {
        let row = self.0.get_mut(&(device, stream))?;
        let is_equal = |entry: &&mut (Body, bool)| entry.0.digest == digest;
        if let Some((body, has_arrived)) = row.iter_mut().filter(is_equal).find(|(_, has_arrived)| !has_arrived) {
            *has_arrived = true;
            return Some(*body);
        }
        row.iter_mut().rev().find(is_equal).map(|(body, _)| *body)
    }

    /// Forgets a device that has gone.
    pub(crate) fn forget(&mut self, device: DeviceIndex, streams: usize) {
        if !self.0.is_empty() {
            for stream in StreamIndex::first(streams) {
                self.0.remove(&(device, stream));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceIndex = DeviceIndex::new(7);
    const STREAM: StreamIndex = StreamIndex::new(2);
    const KEPT: Span = Span::from_secs(10);

    fn bodies(of: &[(u32, &str)]) -> Bodies {
        let mut bodies = Bodies::default();
        for &(seq, text) in of {
            let at = Micros(u64::from(seq) * 1_000_000);
            bodies.sent(DEVICE, STREAM, Body { digest: digest(text.as_bytes()), seq, due: at, sent: at }, KEPT);
        }
        bodies
    }

    fn arrived(bodies: &mut Bodies, text: &str) -> Option<u32> {
        bodies.arrived(DEVICE, STREAM, digest(text.as_bytes())).map(|body| body.seq)
    }

    #[test]
    fn bodies_that_differ_are_told_apart_whatever_their_order() {
        let mut bodies = bodies(&[(0, "a"), (1, "b"), (2, "c")]);
        assert_eq!(["c", "a", "b", "c"].map(|text| arrived(&mut bodies, text)), [Some(2), Some(0), Some(1), Some(2)]);
        assert_eq!(arrived(&mut bodies, "d"), None, "nobody has sent it");
        assert_eq!(bodies.arrived(DEVICE, StreamIndex::new(3), digest(b"a")), None, "it was another stream's");
    }

    #[test]
    fn of_equal_bodies_the_oldest_has_arrived() {
        let mut bodies = bodies(&[(0, "on"), (1, "on"), (2, "off"), (3, "on")]);
        assert_eq!(["on"; 4].map(|text| arrived(&mut bodies, text)), [Some(0), Some(1), Some(3), Some(3)]);
    }

    #[test]
    fn what_was_sent_long_ago_and_by_those_who_have_gone_is_forgotten() {
        let mut bodies = bodies(&[(0, "a"), (9, "b"), (11, "c")]);
        assert_eq!(["a", "b"].map(|text| arrived(&mut bodies, text)), [None, Some(9)]);
        bodies.forget(DEVICE, 3);
        assert!(bodies.0.is_empty());
    }
}
