//! The tables of the report, which stand between lines that begin with a label.

use crate::{
    paint::Tone,
    table::{Align, Table},
};

/// A table whose columns are as wide as the labels, or wider.
pub(super) fn of(columns: impl IntoIterator<Item = (String, Align)>) -> Table {
    Table::new(columns, Tone::Faint).at_least(13, 8)
}

/// The same of figures behind a name.
pub(super) fn of_figures(names: &[&str]) -> Table {
    of(figures(names))
}

/// The same with columns as wide as the kinds of faults and a time, so that nine of them find room.
pub(super) fn narrow(names: &[&str]) -> Table {
    Table::new(figures(names), Tone::Faint).at_least(11, 6)
}

fn figures(names: &[&str]) -> impl Iterator<Item = (String, Align)> {
    let align = |place: usize| if place == 0 { Align::Left } else { Align::Right };
    names.iter().enumerate().map(move |(place, name)| ((*name).to_owned(), align(place)))
}
