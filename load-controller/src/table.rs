//! Tables that people read: columns that are as wide as their widest cell, two blanks apart.
//!
//! A cell is as wide as a terminal shows it (UAX #11), which is not its number of letters: an ideograph takes two columns, and an
//! accent that stands on its letter takes none.

use unicode_width::UnicodeWidthStr as _;

use crate::paint::{Palette, Tone};

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// As names do.
    Left,
    /// As figures do.
    Right,
}

/// A table with a heading.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    tone: Tone,
    rows: Vec<(Vec<String>, Option<Tone>)>,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    align: Align,
    width: usize,
}

impl Column {
    fn new(name: String, align: Align) -> Self {
        Self { width: name.width(), name, align }
    }

    fn padded(&self, cell: &str) -> String {
        let gap = " ".repeat(self.width.saturating_sub(cell.width()));
        match self.align {
            Align::Left => format!("{cell}{gap}"),
            Align::Right => format!("{gap}{cell}"),
        }
    }
}

impl Table {
    /// A table with these columns and no rows. Its heading is in this tone.
    pub fn new(columns: impl IntoIterator<Item = (String, Align)>, tone: Tone) -> Self {
        let columns = columns.into_iter().map(|(name, align)| Column::new(name, align)).collect();
        Self { columns, tone, rows: Vec::new() }
    }

    /// The same, with columns that are at least so wide: those of names, and those of figures.
    #[must_use]
    pub fn at_least(mut self, left: usize, right: usize) -> Self {
        for column in &mut self.columns {
            let least = match column.align {
                Align::Left => left,
                Align::Right => right,
            };
            column.width = column.width.max(least);
        }
        self
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: Vec<String>, tone: Option<Tone>) {
        self.fit(&cells);
        self.rows.push((cells, tone));
    }

    /// Makes room for a row that comes later.
    pub fn fit(&mut self, cells: &[String]) {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.width = column.width.max(cell.width());
        }
    }

    /// A row as a line, for a table that is printed while its rows come. A column that is too narrow is wider from now on.
    pub fn line(&mut self, cells: &[String]) -> String {
        self.fit(cells);
        self.side_by_side(cells.iter().map(String::as_str))
    }

    /// The heading and the rows, a line each.
    pub fn render(&self, palette: Palette) -> String {
        let heading = self.side_by_side(self.columns.iter().map(|column| column.name.as_str()));
        let mut text = format!("{}\n", palette.paint(self.tone, heading));
        for (cells, tone) in &self.rows {
            let line = self.side_by_side(cells.iter().map(String::as_str));
            text.push_str(&match tone {
                Some(tone) => palette.paint(*tone, line).to_string(),
                None => line,
            });
            text.push('\n');
        }
        text
    }

    fn side_by_side<'a>(&self, cells: impl Iterator<Item = &'a str>) -> String {
        let padded: Vec<String> = self.columns.iter().zip(cells).map(|(column, cell)| column.padded(cell)).collect();
        padded.join("  ").trim_end().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells<const N: usize>(cells: [&str; N]) -> Vec<String> {
        cells.map(String::from).to_vec()
    }

    fn table() -> Table {
        Table::new([("NAME".to_owned(), Align::Left), ("DEVICES".to_owned(), Align::Right)], Tone::Strong)
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_or_as_the_least() {
        let mut table = table();
        table.row(cells(["taxi", "90"]), None);
        table.row(cells(["charger", "10000000"]), None);
        assert_eq!(
            table.render(Palette::Plain),
            "NAME      DEVICES\n\
             taxi           90\n\
             charger  10000000\n"
        );
        assert_eq!(
            table.at_least(9, 8).render(Palette::Plain),
            "NAME        DEVICES\n\
             taxi             90\n\
             charger    10000000\n"
        );
    }

    #[test]
    fn a_cell_is_as_wide_as_a_terminal_shows_it() {
        let mut table = table();
        // Two ideographs of two columns each, and an e with an accent of no column.
        for name in ["東京", "cafe\u{301}"] {
            table.row(cells([name, "90"]), None);
        }
        assert_eq!(
            table.render(Palette::Plain),
            "NAME  DEVICES\n\
             東京       90\n\
             cafe\u{301}       90\n"
        );
    }

    #[test]
    fn rows_that_come_later_stand_below_the_heading() {
        let mut table = table();
        assert_eq!(table.line(&cells(["robotaxis", "5"])), "robotaxis        5");
        assert_eq!(table.line(&cells(["a", "500"])), "a              500");
    }

    #[test]
    fn a_line_is_painted_without_the_blanks_at_its_end() {
        let mut table = Table::new([("NAME".to_owned(), Align::Left)], Tone::Faint);
        table.row(cells(["a"]), Some(Tone::Bad));
        table.row(cells(["robotaxis"]), None);
        assert_eq!(table.render(Palette::Coloured), "\x1b[2mNAME\x1b[0m\n\x1b[31ma\x1b[0m\nrobotaxis\n");
    }
}
