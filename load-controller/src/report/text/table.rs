//! Columns that are as wide as their widest cell.

use crate::paint::{Palette, Tone};

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table with a heading.
pub(super) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<(Vec<String>, Option<Tone>)>,
    least: Least,
}

/// How wide columns are at least.
#[derive(Clone, Copy)]
struct Least {
    /// One of names.
    left: usize,
    /// One of figures.
    right: usize,
}

impl Least {
    /// As wide as the labels beside the table.
    const LABELS: Self = Self { left: 13, right: 8 };
    /// As the kinds of faults and a time, so that nine columns find room.
    const NARROW: Self = Self { left: 11, right: 6 };
}

impl Table {
    pub(super) const fn new(columns: Vec<(String, Align)>) -> Self {
        Self { columns, rows: Vec::new(), least: Least::LABELS }
    }

    /// A table of figures behind a name.
    pub(super) fn of_figures(names: &[&str]) -> Self {
        let align = |place: usize| if place == 0 { Align::Left } else { Align::Right };
        Self::new((0..).zip(names).map(|(place, name)| ((*name).to_owned(), align(place))).collect())
    }

    /// The same of many columns.
    pub(super) fn narrow(names: &[&str]) -> Self {
        Self { least: Least::NARROW, ..Self::of_figures(names) }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<String>, tone: Option<Tone>) {
        self.rows.push((cells, tone));
    }

    /// The lines of the table; unless it is narrow, the first column is at least as wide as the labels beside it.
    pub(super) fn render(&self, paint: Palette) -> String {
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut text = paint.paint(Tone::Faint, self.line(&heading)).to_string();
        text.push('\n');
        for (cells, tone) in &self.rows {
            let line = self.line(cells);
            text.push_str(&match tone {
                Some(tone) => paint.paint(*tone, line).to_string(),
                None => line,
            });
            text.push('\n');
        }
        text
    }

    fn line(&self, cells: &[String]) -> String {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let gap = " ".repeat(self.width(column).saturating_sub(cell.chars().count()));
            match self.columns[column].1 {
                Align::Left => format!("{cell}{gap}"),
                Align::Right => format!("{gap}{cell}"),
            }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().into()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|(cells, _)| cells[column].chars().count());
        let widest = cells.max().unwrap_or(0).max(self.columns[column].0.chars().count());
        match self.columns[column].1 {
            Align::Left => widest.max(self.least.left),
            Align::Right => widest.max(self.least.right),
        }
    }
}
