//! The counts of a histogram, of which only the pages that were hit take memory.
//!
//! All cells would take 188 kB. The times of one stream mostly lie within a few octaves, so that they hit some sixty
//! pages of a quarter of a kilobyte.

use std::collections::BTreeMap;

use super::cells::{CELLS, LONGEST_US, cell};

/// Cells of a page.
const PAGE: usize = 64;
/// Pages of a histogram.
const PAGES: usize = CELLS / PAGE;
/// Memory is taken for so many pages at a time, and kept for so many more than are in use.
const AHEAD: usize = 8;

/// A histogram with our bounds.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    /// One more than the place of a page in `hit`; 0 for a page that was never hit.
    places: [u16; PAGES],
    hit: Vec<[u32; PAGE]>,
    /// What no longer fits into the 32 bits of a cell, by cell.
    more: BTreeMap<usize, u64>,
}

impl Default for Pages {
    fn default() -> Self {
        Self { places: [0; PAGES], hit: Vec::new(), more: BTreeMap::new() }
    }
}

impl Pages {
    /// Counts a time of so many microseconds `count` times; what is longer than an hour counts as an hour.
    pub(super) fn record(&mut self, micros: u64, count: u64) {
        self.add_cell(cell(micros.clamp(1, LONGEST_US)), count);
    }

    /// Adds to the count of a cell.
    pub(super) fn add_cell(&mut self, cell: usize, count: u64) {
        let held = self.place_of(cell / PAGE);
        self.add_in(held, cell, count);
    }

    /// Adds to the counts of cells, of which neighbours mostly share a page.
    pub(super) fn add_cells(&mut self, cells: impl Iterator<Item = (usize, u64)>) {
        let (mut page, mut held) = (PAGES, 0);
        cells.for_each(|(cell, count)| {
            if cell / PAGE != page {
                page = cell / PAGE;
                held = self.place_of(page);
            }
            self.add_in(held, cell, count);
        });
    }

    /// Adds to the count of a cell whose page is at this place in `hit`.
    #[inline]
    fn add_in(&mut self, held: usize, cell: usize, count: u64) {
        let place = &mut self.hit[held][cell % PAGE];
        match u32::try_from(count).ok().and_then(|count| place.checked_add(count)) {
            Some(sum) => *place = sum,
            None => self.add_more(cell, count),
        }
    }

    #[cold]
    fn add_more(&mut self, cell: usize, count: u64) {
        let more = self.more.entry(cell).or_default();
        *more = more.saturating_add(count);
    }

    /// Takes from the count of a cell; false when there is not so much in it.
    pub(super) fn take_cell(&mut self, cell: usize, count: u64) -> bool {
        let page = self.place_of(cell / PAGE);
        let place = std::mem::take(&mut self.hit[page][cell % PAGE]);
        let held = u64::from(place).saturating_add(self.more.remove(&cell).unwrap_or_default());
        let rest = held.checked_sub(count);
        self.add_in(page, cell, rest.unwrap_or_default());
        rest.is_some()
    }

    /// Forgets all counts, and keeps the pages that were hit since it was cleared last.
    ///
    /// Rare times would otherwise hold a page each, twice for each thread, long after they have gone into a sum.
    pub(super) fn clear(&mut self) {
        let mut kept = 0;
        for place in self.places.iter_mut().filter(|place| **place > 0) {
            let was_hit = self.hit[usize::from(*place) - 1].iter().any(|count| *count > 0);
            kept += u16::from(was_hit);
            *place = if was_hit { kept } else { 0 };
        }
        self.hit.truncate(kept.into());
        self.hit.shrink_to(usize::from(kept) + AHEAD);
        self.hit.iter_mut().for_each(|page| page.fill(0));
        self.more.clear();
    }

    /// Adds all that another counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.add_cells(other.cells());
    }

    /// The memory that it takes, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.hit.capacity() * size_of::<[u32; PAGE]>() + self.more.len() * 64
    }

    /// The cells that are not empty, in ascending order, and their counts.
    pub(super) fn cells(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let more = |cell| if self.more.is_empty() { 0 } else { self.more.get(&cell).copied().unwrap_or_default() };
        let of_page = move |(number, page): (usize, &'_ [u32; PAGE])| {
            let cells = (number * PAGE..).zip(*page);
            let counts = cells.map(move |(cell, count)| (cell, u64::from(count).saturating_add(more(cell))));
            counts.filter(|(_, count)| *count > 0)
        };
        self.pages().flat_map(of_page)
    }

    /// The pages that were hit, in ascending order.
    fn pages(&self) -> impl Iterator<Item = (usize, &[u32; PAGE])> + '_ {
        let hit = |(number, place): (usize, &u16)| Some((number, &self.hit[usize::from(*place).checked_sub(1)?]));
        self.places.iter().enumerate().filter_map(hit)
    }

    /// The place of a page in `hit`, which it has from now on.
    fn place_of(&mut self, number: usize) -> usize {
        if self.places[number] == 0 {
            self.take_page(number);
        }
        usize::from(self.places[number]) - 1
    }

    #[cold]
    fn take_page(&mut self, number: usize) {
        if self.hit.len() == self.hit.capacity() {
            self.hit.reserve_exact(AHEAD);
        }
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
    fn a_page_that_was_not_hit_again_goes() {
        let mut pages = Pages::default();
        (500..1_500).for_each(|micros| pages.record(micros, 1));
        pages.clear();
        assert_eq!((pages.hit.len(), pages.cells().count()), (17, 0));
        let memory = pages.memory_bytes();
        for micros in [7, 1_400, 1_400] {
            pages.record(micros, 1);
        }
        pages.clear();
        assert_eq!((pages.hit.len(), pages.cells().count()), (2, 0));
        assert!(pages.memory_bytes() < memory, "{} bytes", pages.memory_bytes());
        for micros in [1_400, 600, 7, 7] {
            pages.record(micros, 1);
        }
        assert_eq!(pages.cells().collect::<Vec<_>>(), [(7, 2), (600, 1), (1_400, 1)]);
    }

    #[test]
    fn a_cell_holds_more_than_its_place() {
        let mut pages = Pages::default();
        for count in [u64::from(u32::MAX), 5, 1 << 40] {
            pages.record(7, count);
        }
        let sum = u64::from(u32::MAX) + 5 + (1 << 40);
        assert_eq!(pages.cells().collect::<Vec<_>>(), [(7, sum)]);
        let mut twice = pages.clone();
        twice.add(&pages);
        assert_eq!(twice.cells().collect::<Vec<_>>(), [(7, 2 * sum)]);
        assert!(twice.take_cell(7, 2 * sum - 3) && !pages.take_cell(7, sum + 1));
        assert_eq!(twice.cells().collect::<Vec<_>>(), [(7, 3)]);
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
