//! The places of devices, streams, groups and series, as types of their own, so that the compiler refuses one for another.

/// The place of a device among those of the fleet, from 0 on, whichever worker runs it. `{index}` in names adds the document's
/// `firstIndex` to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceIndex(u32);

impl DeviceIndex {
    /// The device that has `number` devices before it.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its place, from 0 on.
    pub const fn place(self) -> usize {
        self.0 as usize
    }

    /// How many devices are before it.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The place of a stream among those of its model, from 0 on, in the order of [`Model::streams`](crate::model::Model::streams). A
/// model has at most 10,000 streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamIndex(u16);

impl StreamIndex {
    /// The stream at `place`.
    #[expect(clippy::cast_possible_truncation, reason = "a model has at most 10,000 streams")]
    pub const fn new(place: usize) -> Self {
        debug_assert!(place <= u16::MAX as usize);
        Self(place as u16)
    }

    /// The first `count` streams of a model, in order.
    pub fn first(count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(Self::new)
    }

    /// Its place, from 0 on.
    pub const fn place(self) -> usize {
        self.0 as usize
    }

    /// How many streams are before it.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// The place of a group among those of its fleet, from 0 on, in the order of the document. A fleet has at most 255 groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupIndex(u8);

impl GroupIndex {
    /// The group at `place`.
    #[expect(clippy::cast_possible_truncation, reason = "a fleet has at most 255 groups")]
    pub(crate) const fn new(place: usize) -> Self {
        debug_assert!(place <= u8::MAX as usize);
        Self(place as u8)
    }

    /// Its place, from 0 on.
    pub(crate) const fn place(self) -> usize {
        self.0 as usize
    }
}

/// The place of a stream among those of all groups of its fleet, from 0 on, where [`StreamIndex`] is its place in one model: what
/// is counted and timed has such places. The streams of a group are behind each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeriesAt(usize);

impl SeriesAt {
    /// The stream at `place`.
    pub(crate) const fn new(place: usize) -> Self {
        Self(place)
    }

    /// The place of a stream of the group whose first one is here.
    pub(crate) const fn plus(self, stream: StreamIndex) -> Self {
        Self(self.0 + stream.place())
    }

    /// Its place, from 0 on.
    pub(crate) const fn place(self) -> usize {
        self.0
    }
}
