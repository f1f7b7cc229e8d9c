//! A distribution as it travels, read without unfolding it: `HdrHistogram`'s V2 format.
//!
//! In pages, the histogram of a stream takes some 16 kB; whoever keeps those of a thousand workers keeps them packed, in
//! a few hundred bytes each. The format is a header and one number a cell: how often its
//! value was recorded or, if negative, how many cells hold nothing
//! (<https://github.com/HdrHistogram/HdrHistogram/blob/master/src/main/java/org/HdrHistogram/AbstractHistogram.java>).

use super::cells::{CELLS, LONGEST_US};

/// Of cookie, payload's length, offset, digits, lowest and highest value, and ratio.
const HEADER_BYTES: usize = 40;

/// A histogram with our bounds in the V2 format; whatever can be read of it is right.
#[derive(Debug, Clone)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    /// Errs with the bytes when they are those of something else, or of a histogram with other bounds.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, Vec<u8>> {
        let packed = Self(bytes.into_boxed_slice());
        let fits = packed.cells().end().is_some_and(|end| end <= CELLS);
        if fits && packed.has_our_header() { Ok(packed) } else { Err(packed.0.into_vec()) }
    }

    fn has_our_header(&self) -> bool {
        let payload = self.0.len().checked_sub(HEADER_BYTES).and_then(|length| u32::try_from(length).ok());
        payload.is_some_and(|length| self.0.starts_with(&header_of(length)))
    }

    /// As it travels.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The cells that are not empty, in ascending order, and their counts.
    pub(super) fn cells(&self) -> Cells<'_> {
        Cells { rest: self.0.get(HEADER_BYTES..).unwrap_or_default(), index: 0 }
    }
}

/// The header of a histogram with our bounds and a payload of `length` bytes.
fn header_of(length: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let parts = [
        &0x1c84_9313_u32.to_be_bytes()[..],
        &length.to_be_bytes(),
        // No offset, and three digits.
        &0_u32.to_be_bytes(),
        &3_u32.to_be_bytes(),
        &1_u64.to_be_bytes(),
        &LONGEST_US.to_be_bytes(),
        &1.0_f64.to_be_bytes(),
    ];
    for (place, byte) in header.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    header
}

/// The cells that are not empty: index and count.
pub(super) struct Cells<'a> {
    rest: &'a [u8],
    index: usize,
}

impl Iterator for Cells<'_> {
    type Item = (usize, u64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (number, rest) = number(self.rest)?;
            self.rest = rest;
            let index = self.index;
            self.index = index.saturating_add(cells_of(number));
            if number > 0 {
                return Some((index, number.unsigned_abs()));
            }
        }
    }

    /// Keeps its place in registers, where `next` writes it to memory for each cell: a controller reads some millions a second.
    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(self, first: B, mut add: F) -> B {
        let (mut sum, mut index, mut bytes) = (first, self.index, self.rest);
        while let Some((number, rest)) = number(bytes) {
            if number > 0 {
                sum = add(sum, (index, number.unsigned_abs()));
            }
            index = index.saturating_add(cells_of(number));
            bytes = rest;
        }
        sum
    }
}

impl Cells<'_> {
    /// The index behind the last cell; `None` when the bytes end within a number.
    fn end(self) -> Option<usize> {
        let (mut index, mut bytes) = (self.index, self.rest);
        while let Some((number, rest)) = number(bytes) {
            index = index.saturating_add(cells_of(number));
            bytes = rest;
        }
        bytes.is_empty().then_some(index)
    }
}

/// The cells that a number stands for: itself, or so many that are empty.
#[inline]
fn cells_of(number: i64) -> usize {
    if number < 0 { usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX) } else { 1 }
}

/// The first number, and what follows it: zigzag, then seven bits a byte with the lowest first, and a ninth byte whole.
#[inline]
fn number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    match bytes {
        // Nearly all of them.
        [first, rest @ ..] if *first < 0x80 => Some((unfolded(u64::from(*first)), rest)),
        [first, second, rest @ ..] if *second < 0x80 => {
            Some((unfolded(u64::from(*first & 0x7f) | u64::from(*second) << 7), rest))
        }
        _ => long_number(bytes),
    }
}

#[cold]
fn long_number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut bits = 0;
    for (place, &byte) in bytes.iter().take(9).enumerate() {
        let is_last = byte < 0x80 || place == 8;
        let part = if place == 8 { byte } else { byte & 0x7f };
        bits |= u64::from(part) << (7 * place);
        if is_last {
            return Some((unfolded(bits), &bytes[place + 1..]));
        }
    }
    None
}

/// The signed number of a zigzag one.
#[inline]
const fn unfolded(bits: u64) -> i64 {
    (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use hdrhistogram::{
        Histogram,
        serialization::{Serializer as _, V2Serializer},
    };
    use proptest::prelude::*;

    use super::{super::cells::lowest, *};

    fn histogram(values: &[(u64, u64)]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_US, 3).unwrap();
        for (value, count) in values {
            histogram.record_n(*value, *count).unwrap();
        }
        histogram
    }

    fn bytes(histogram: &Histogram<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn what_was_recorded_is_what_is_read(
            values in prop::collection::vec((1_u64..LONGEST_US, 1_u64..1 << 40), 0..100)
        ) {
            let histogram = histogram(&values);
            let packed = Packed::new(bytes(&histogram)).unwrap();
            let mut again = super::tests::histogram(&[]);
            packed.cells().for_each(|(cell, count)| again.record_n(lowest(cell), count).unwrap());
            prop_assert_eq!(again, histogram);
        }

        #[test]
        fn foreign_bytes_are_refused_and_never_a_panic(
            place in 0_usize..60, byte: u8, more in prop::collection::vec(any::<u8>(), 0..20)
        ) {
            let mut bytes = bytes(&histogram(&[(1, 1), (100, 1 << 40), (5_000_000, 3)]));
            let length = bytes.len();
            bytes[place % length] = byte;
            bytes.extend(more);
            if let Ok(packed) = Packed::new(bytes) {
                let mut histogram = histogram(&[]);
                packed.cells().for_each(|(cell, count)| histogram.record_n(lowest(cell), count).unwrap());
            }
        }
    }

    #[test]
    fn the_cells_are_those_of_the_library() {
        let mut all = histogram(&[]);
        (0..CELLS).for_each(|index| all.record_n(lowest(index), 1).unwrap());
        assert_eq!((all.distinct_values(), all.len()), (CELLS, CELLS as u64));
        assert_eq!(all.iter_recorded().count(), CELLS, "each has a cell of its own");
        assert_eq!(Packed::new(bytes(&all)).unwrap().cells().count(), CELLS);
    }

    #[test]
    fn a_histogram_with_other_bounds_or_a_part_of_one_is_refused() {
        let mut other = Histogram::<u64>::new_with_bounds(1, 1_000, 2).unwrap();
        other.record(7).unwrap();
        assert!(Packed::new(bytes(&other)).is_err());
        let whole = bytes(&histogram(&[(1 << 30, 1 << 50)]));
        (0..whole.len()).for_each(|length| assert!(Packed::new(whole[..length].to_vec()).is_err(), "{length}"));
    }
}
