//! The counts of a histogram, of which only the pages that were hit take memory.
//!
//! All cells would take 188 kB. The times of one stream mostly lie within two octaves, so that they hit some thirty
//! pages of half a kilobyte.

use super::cells::{CELLS, LONGEST_US, cell};

/// Cells of a page.
const PAGE: usize = 64;
/// Pages of a histogram.
const PAGES: usize = CELLS / PAGE;

/// A histogram with our bounds.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    /// One more than the place of a page in `hit`; 0 for a page that was never hit.
    places: [u16; PAGES],
    hit: Vec<[u64; PAGE]>,
}

impl Default for Pages {
    fn default() -> Self {
        Self { places: [0; PAGES], hit: Vec::new() }
    }
}

impl Pages {
    /// Counts a time of so many microseconds `count` times; what is longer than an hour counts as an hour.
    pub(super) fn record(&mut self, micros: u64, count: u64) {
        self.add_cell(cell(micros.clamp(1, LONGEST_US)), count);
    }

    /// Adds to the count of a cell.
    pub(super) fn add_cell(&mut self, cell: usize, count: u64) {
        let count_mut = &mut self.page_mut(cell / PAGE)[cell % PAGE];
        *count_mut = count_mut.saturating_add(count);
    }

    /// Takes from the count of a cell; false when there is not so much in it.
    pub(super) fn take_cell(&mut self, cell: usize, count: u64) -> bool {
        let count_mut = &mut self.page_mut(cell / PAGE)[cell % PAGE];
        let rest = count_mut.checked_sub(count);
        *count_mut = rest.unwrap_or_default();
        rest.is_some()
    }

    /// Adds all that another counted.
    pub(super) fn add(&mut self, other: &Self) {
        for (number, page) in other.pages() {
            for (mine, theirs) in self.page_mut(number).iter_mut().zip(page) {
                *mine = mine.saturating_add(*theirs);
            }
        }
    }

    /// The cells that are not empty, in ascending order, and their counts.
    pub(super) fn cells(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let of_page = |(number, page): (usize, &'_ [u64; PAGE])| {
            let cells = (number * PAGE..).zip(*page);
            cells.filter(|(_, count)| *count > 0)
        };
        self.pages().flat_map(of_page)
    }

    /// The pages that were hit, in ascending order.
    fn pages(&self) -> impl Iterator<Item = (usize, &[u64; PAGE])> + '_ {
        let hit = |(number, place): (usize, &u16)| Some((number, &self.hit[usize::from(*place).checked_sub(1)?]));
        self.places.iter().enumerate().filter_map(hit)
    }

    fn page_mut(&mut self, number: usize) -> &mut [u64; PAGE] {
        if self.places[number] == 0 {
            self.take_page(number);
        }
        &mut self.hit[usize::from(self.places[number]) - 1]
    }

    #[cold]
    fn take_page(&mut self, number: usize) {
        self.hit.push([0; PAGE]);
        self.places[number] = u16::try_from(self.hit.len()).expect("fewer pages than 65,536");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_hit_takes_memory() {
        let mut pages = Pages::default();
        (500..1_500).for_each(|micros| pages.record(micros, 1));
        assert_eq!((pages.hit.len(), pages.cells().count()), (17, 1_000));
        pages.record(u64::MAX, 2);
        pages.record(0, 3);
        assert_eq!(pages.cells().next(), Some((1, 3)));
        assert_eq!(pages.cells().last(), Some((cell(LONGEST_US), 2)));
    }

    #[test]
    fn no_more_is_taken_than_there_is() {
        let mut pages = Pages::default();
        pages.record(7, 2);
        assert!(pages.take_cell(7, 1));
        assert!(!pages.take_cell(7, 2));
        assert!(!pages.take_cell(900, 1));
        assert_eq!(pages.cells().count(), 0);
    }
}
