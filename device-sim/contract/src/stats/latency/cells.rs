//! The cells of an HDR histogram with our bounds: which times are counted together.
//!
//! Two octaves by ones, each further one in steps twice as wide, so that a time is exact to three digits
//! (<https://github.com/HdrHistogram/HdrHistogram/blob/master/src/main/java/org/HdrHistogram/AbstractHistogram.java>).

/// The longest time that is told apart from longer ones: one hour, in microseconds.
pub(super) const LONGEST_US: u64 = 3_600_000_000;

/// Cells of one octave: two for each of three decimal digits, of which the upper half is new.
const OCTAVE: usize = 1_024;
/// The binary digits of [`OCTAVE`].
const OCTAVE_BITS: u32 = OCTAVE.trailing_zeros();
/// Cells of a histogram with our bounds.
pub(super) const CELLS: usize = 23 * OCTAVE;

/// The cell of a time in microseconds, at most [`LONGEST_US`].
#[expect(clippy::cast_possible_truncation, reason = "two octaves, and the number of one")]
pub(super) const fn cell(micros: u64) -> usize {
    let octave = (micros | (OCTAVE as u64 / 2)).ilog2() + 1 - OCTAVE_BITS;
    match octave {
        0 => micros as usize,
        _ => octave as usize * OCTAVE + (micros >> (octave - 1)) as usize - OCTAVE,
    }
}

/// The lowest time that is counted in a cell, in microseconds.
pub(super) const fn lowest(cell: usize) -> u64 {
    match cell / OCTAVE {
        0 => cell as u64,
        octave => ((cell % OCTAVE + OCTAVE) as u64) << (octave - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_its_cell() {
        for number in 0..CELLS {
            let next = if number + 1 < CELLS { lowest(number + 1) } else { lowest(number) + 1 };
            assert_eq!((cell(lowest(number)), cell(next - 1)), (number, number));
        }
        assert!(cell(LONGEST_US) < CELLS);
    }
}
