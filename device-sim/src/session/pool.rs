//! The in-flight messages of all sessions of a shard.
//!
//! A session owns lists of entries here, linked by index, so that an idle session costs nothing
//! and a message in flight costs 40 bytes and no allocation once the pool has grown to its
//! working size. No payload is kept: what a device sends is a pure function of stream, sequence
//! and due time, and is encoded again when it must be sent again.

use fleet_contract::qos::Qos;
use fleet_contract::time::Micros;
use slab::Slab;

use super::codec::PacketId;
use crate::index::StreamIndex;

/// A message of QoS 1 or 2 that was handed to a session and is not yet acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// When it was meant to be sent.
    pub due: Micros,
    /// When it was first handed to the session.
    pub sent: Micros,
    /// Its number within stream and epoch.
    pub seq: u32,
    /// The device's stream that it belongs to.
    pub stream: StreamIndex,
    /// The packet identifier that it is in flight under.
    pub packet_id: PacketId,
    /// How it is delivered; never [`Qos::AtMostOnce`].
    pub qos: Qos,
    /// How far its delivery has come.
    pub stage: Stage,
    /// Whether its last transmission carried the DUP flag.
    pub dup: bool,
}

/// How far the delivery of a message in flight has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// PUBLISH was sent; PUBACK (QoS 1) or PUBREC (QoS 2) is awaited.
    Published,
    /// The broker has answered a QoS 2 message with PUBREC, PUBREL was sent; PUBCOMP is awaited.
    Released,
}

/// The in-flight messages of all sessions of a shard.
#[derive(Debug, Default)]
pub struct Pool {
    entries: Slab<Entry>,
}

impl Pool {
    /// A pool that grows as it is used.
    pub fn new() -> Self {
        Self::default()
    }

    /// A pool that does not allocate before `entries` messages are in flight at once.
    pub fn with_capacity(entries: usize) -> Self {
        Self { entries: Slab::with_capacity(entries) }
    }

    /// How many messages it holds: those in flight, and those given up but not yet taken out by
    /// [`Session::abandon`](super::Session::abandon).
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no session has a message here.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it takes far more memory than sessions with at most so many messages have use for. A message cannot be
    /// moved within its pool, so they are to move to another one then, by
    /// [`Session::move_messages`](super::Session::move_messages).
    pub fn is_oversized_for(&self, entries: usize) -> bool {
        self.entries.capacity() > 2 * entries + 1_024
    }

    pub(super) fn get(&self, at: Link) -> &Entry {
        &self.entries[at.index()]
    }

    pub(super) fn get_mut(&mut self, at: Link) -> &mut Entry {
        &mut self.entries[at.index()]
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: InFlight,
    next: Link,
    /// Not yet sent in this session of the broker: the next PUBLISH is a new one, without DUP.
    pub(super) is_unsent: bool,
}

impl Entry {
    pub(super) fn next(&self) -> Link {
        self.next
    }
}

/// The index of an entry, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(u32);

impl Link {
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    fn new(index: usize) -> Self {
        // 2^32 entries would be 160 GiB: the allocator has given up long before.
        Self(u32::try_from(index).expect("a pool holds fewer than 2^32 messages"))
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A first-in, first-out list of entries of one session.
///
/// Brokers acknowledge in order, so [`List::take`], which walks from the front, usually finds its
/// message at once.
#[derive(Debug)]
pub(super) struct List {
    head: Link,
    tail: Link,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: Link::NONE, tail: Link::NONE };

    pub(super) fn head(&self) -> Link {
        self.head
    }

    pub(super) fn push(&mut self, pool: &mut Pool, message: InFlight) {
        let entry = Entry { message, next: Link::NONE, is_unsent: false };
        let at = Link::new(pool.entries.insert(entry));
        if self.tail.is_none() {
            self.head = at;
        } else {
            pool.get_mut(self.tail).next = at;
        }
        self.tail = at;
    }

    pub(super) fn pop(&mut self, pool: &mut Pool) -> Option<InFlight> {
        (!self.head.is_none()).then(|| self.unlink(pool, Link::NONE, self.head).message)
    }

    /// Moves all messages to the end of `other` and says how many there were.
    pub(super) fn move_to(&mut self, other: &mut List, pool: &mut Pool) -> u16 {
        let mut moved = 0;
        while let Some(message) = self.pop(pool) {
            other.push(pool, message);
            moved += 1;
        }
        moved
    }

    /// Moves all messages to the end of a list in another pool; where the one at `watched` is now.
    pub(super) fn move_to_pool(&mut self, from: &mut Pool, to: &mut Pool, watched: Link) -> Option<Link> {
        let (mut moved, mut found) = (Self::EMPTY, None);
        while !self.head.is_none() {
            let at = self.head;
            let Entry { message, is_unsent, next: _ } = self.unlink(from, Link::NONE, at);
            moved.push(to, message);
            to.get_mut(moved.tail).is_unsent = is_unsent;
            found = found.or((at == watched).then_some(moved.tail));
        }
        *self = moved;
        found
    }

    /// Takes the message with this packet identifier and QoS out, with the place that it had.
    pub(super) fn take(&mut self, pool: &mut Pool, packet_id: PacketId, qos: Qos) -> Option<(Taken, InFlight)> {
        let (mut previous, mut at) = (Link::NONE, self.head);
        while !at.is_none() {
            let entry = pool.get(at);
            if entry.message.packet_id == packet_id {
                if entry.message.qos != qos {
                    return None;
                }
                let entry = self.unlink(pool, previous, at);
                return Some((Taken { at, next: entry.next }, entry.message));
            }
            (previous, at) = (at, entry.next);
        }
        None
    }

    pub(super) fn iter<'p>(&self, pool: &'p Pool) -> impl Iterator<Item = &'p InFlight> + use<'p> {
        let mut at = self.head;
        std::iter::from_fn(move || {
            let entry = (!at.is_none()).then(|| pool.get(at))?;
            at = entry.next;
            Some(&entry.message)
        })
    }

    fn unlink(&mut self, pool: &mut Pool, previous: Link, at: Link) -> Entry {
        let entry = pool.entries.remove(at.index());
        if previous.is_none() {
            self.head = entry.next;
        } else {
            pool.get_mut(previous).next = entry.next;
        }
        if self.tail == at {
            self.tail = previous;
        }
        entry
    }
}

/// Where a message stood that was taken out of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) at: Link,
    pub(super) next: Link,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_flight_costs_40_bytes() {
        assert_eq!(size_of::<Entry>(), 40);
        // What the slab itself stores: the vacant slot hides in a niche.
        assert_eq!(size_of::<Option<Entry>>(), 40);
    }

    fn message(id: u16) -> InFlight {
        InFlight {
            due: Micros(0),
            sent: Micros(0),
            seq: u32::from(id),
            stream: StreamIndex::new(0),
            packet_id: PacketId::new(id).unwrap(),
            qos: Qos::AtLeastOnce,
            stage: Stage::Published,
            dup: false,
        }
    }

    #[test]
    fn any_place_can_be_taken_and_the_rest_keeps_its_order() {
        for taken in 1..=4 {
            let (mut pool, mut list) = (Pool::new(), List::EMPTY);
            (1..=4).for_each(|id| list.push(&mut pool, message(id)));
            let id = PacketId::new(taken).unwrap();
            assert!(list.take(&mut pool, id, Qos::ExactlyOnce).is_none());
            assert!(list.take(&mut pool, id, Qos::AtLeastOnce).is_some());
            list.push(&mut pool, message(5));
            let left: Vec<u32> = std::iter::from_fn(|| list.pop(&mut pool)).map(|message| message.seq).collect();
            let expected: Vec<u32> = (1..=5).filter(|&seq| seq != u32::from(taken)).collect();
            assert_eq!(left, expected);
            assert!(pool.is_empty());
        }
    }
}
