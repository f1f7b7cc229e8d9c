//! Places in a shard, as types of their own: the place of a device is neither its number in the fleet nor the place of one
//! of its streams.

use std::ops::{Index, IndexMut};

use super::device::{Device, StreamState};
use crate::index::StreamIndex;

/// The place of a device among those of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

impl Slot {
    /// The slot at `place`.
    #[expect(clippy::cast_possible_truncation, reason = "a shard has fewer than 2^32 devices")]
    pub(super) const fn new(place: usize) -> Self {
        Self(place as u32)
    }

    /// Its place, from 0 on.
    pub(super) const fn place(self) -> usize {
        self.0 as usize
    }

    /// How many slots are before it.
    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// The place of a device's stream among those of its shard; a device's are behind each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamAt(u32);

impl StreamAt {
    /// Where a stream of a device is whose first one is here.
    pub(super) const fn plus(self, stream: StreamIndex) -> Self {
        Self(self.0 + stream.number() as u32)
    }
}

/// Some of the slots of a shard, a bit each: what takes milliseconds to count among a hundred thousand devices takes
/// microseconds here.
#[derive(Debug)]
pub(super) struct SlotSet(Vec<u64>);

impl SlotSet {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn insert(&mut self, slot: Slot) {
        let (word, bit) = Self::place(slot);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let (word, bit) = Self::place(slot);
        if let Some(found) = self.0.get_mut(word) {
            *found &= !bit;
        }
    }

    #[cfg(test)]
    pub(super) fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = Self::place(slot);
        self.0.get(word).is_some_and(|found| found & bit != 0)
    }

    /// How many of the slots from `first` on are in it.
    pub(super) fn count_from(&self, first: Slot) -> u32 {
        let (word, bit) = Self::place(first);
        let Some((partial, whole)) = self.0.get(word..).and_then(<[u64]>::split_first) else { return 0 };
        (partial & !(bit - 1)).count_ones() + whole.iter().map(|word| word.count_ones()).sum::<u32>()
    }

    /// The word and the bit of a slot.
    const fn place(slot: Slot) -> (usize, u64) {
        (slot.place() / 64, 1 << (slot.number() % 64))
    }
}

/// The devices of a shard.
#[derive(Debug)]
pub(super) struct Devices<C>(Vec<Device<C>>);

impl<C> Devices<C> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The slots of all of them, in order.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<C> {
        (0..self.0.len()).map(Slot::new)
    }

    /// The device in a slot, if it has not gone meanwhile.
    pub(super) fn get(&self, slot: Slot) -> Option<&Device<C>> {
        self.0.get(slot.place())
    }

    /// The slot that the next device gets.
    pub(super) const fn next(&self) -> Slot {
        Slot::new(self.0.len())
    }

    /// The last slot, if there is any.
    pub(super) fn last(&self) -> Option<Slot> {
        self.0.len().checked_sub(1).map(Slot::new)
    }

    pub(super) fn push(&mut self, device: Device<C>) {
        self.0.push(device);
    }

    pub(super) fn pop(&mut self) -> Option<Device<C>> {
        self.0.pop()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Device<C>)> {
        self.0.iter().enumerate().map(|(place, device)| (Slot::new(place), device))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Device<C>> {
        self.0.iter_mut()
    }

    /// Gives memory back that is far more than they need; whether it has.
    pub(super) fn trim(&mut self) -> bool {
        let is_much = self.0.capacity() > 2 * self.0.len() + 1_024;
        if is_much {
            self.0.shrink_to_fit();
        }
        is_much
    }
}

impl<C> Index<Slot> for Devices<C> {
    type Output = Device<C>;

    fn index(&self, slot: Slot) -> &Device<C> {
        &self.0[slot.place()]
    }
}

impl<C> IndexMut<Slot> for Devices<C> {
    fn index_mut(&mut self, slot: Slot) -> &mut Device<C> {
        &mut self.0[slot.place()]
    }
}

/// The streams of all devices of a shard.
#[derive(Debug)]
pub(super) struct StreamStates(Vec<StreamState>);

impl StreamStates {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Where the next one comes.
    pub(super) fn next(&self) -> StreamAt {
        StreamAt(u32::try_from(self.0.len()).expect("a shard has fewer than 2^32 streams"))
    }

    pub(super) fn push(&mut self, stream: StreamState) {
        self.0.push(stream);
    }

    pub(super) fn get(&self, at: StreamAt) -> Option<&StreamState> {
        self.0.get(at.0 as usize)
    }

    /// So many from `first` on.
    pub(super) fn of(&self, first: StreamAt, count: usize) -> &[StreamState] {
        &self.0[first.0 as usize..][..count]
    }

    /// So many from `first` on.
    pub(super) fn of_mut(&mut self, first: StreamAt, count: usize) -> &mut [StreamState] {
        &mut self.0[first.0 as usize..][..count]
    }

    /// Takes those from `first` on out.
    pub(super) fn split_off(&mut self, first: StreamAt) -> std::vec::Drain<'_, StreamState> {
        self.0.drain(first.0 as usize..)
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }
}

impl Index<StreamAt> for StreamStates {
    type Output = StreamState;

    fn index(&self, at: StreamAt) -> &StreamState {
        &self.0[at.0 as usize]
    }
}

impl IndexMut<StreamAt> for StreamStates {
    fn index_mut(&mut self, at: StreamAt) -> &mut StreamState {
        &mut self.0[at.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_counts_its_slots_from_any_one_on() {
        let mut set = SlotSet::new();
        assert_eq!(set.count_from(Slot::new(0)), 0);
        for place in [0, 63, 64, 130, 63, 500] {
            set.insert(Slot::new(place));
        }
        set.remove(Slot::new(130));
        set.remove(Slot::new(9_000));
        let count_from = |place| set.count_from(Slot::new(place));
        assert_eq!([0, 1, 63, 64, 65, 500, 501, 100_000].map(count_from), [4, 3, 3, 2, 1, 1, 0, 0]);
    }
}
