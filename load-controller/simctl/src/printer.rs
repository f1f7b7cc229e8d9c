//! All that simctl prints: data to standard output, talk to standard error.
//!
//! Nothing else in this package writes to either, so quiet, colours and formats are decided here once.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use clap::ValueEnum;
pub(crate) use load_controller::paint::{Palette, Tone};
use load_controller::{
    table::{Align, Table},
    yaml,
};
use serde::Serialize;

use crate::keys;

/// How data is printed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
}

/// How objects of a cluster are printed, as kubectl has it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// For people who want it all
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// Kind and name alone
    Name,
}

/// Where simctl prints, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    is_quiet: bool,
    is_terminal: bool,
    /// The colours of data.
    palette: Palette,
    /// The colours of talk.
    talk: Palette,
}

/// The colours of a stream, as its terminal and the environment have it: none with `NO_COLOR` (<https://no-color.org>) or
/// `TERM=dumb`, and in a pipe with `CLICOLOR_FORCE` alone (<https://bixense.com/clicolors>).
fn palette_of<S: RawStream>(stream: &S) -> Palette {
    if AutoStream::choice(stream) == ColorChoice::Never { Palette::Plain } else { Palette::Coloured }
}

impl Printer {
    /// A printer for this process.
    pub(crate) fn new(is_quiet: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_terminal = io::stdout().is_terminal() && !is_dumb;
        Self { is_quiet, is_terminal, palette: palette_of(&io::stdout()), talk: palette_of(&io::stderr()) }
    }

    /// The colours of standard output.
    pub(crate) const fn palette(self) -> Palette {
        self.palette
    }

    /// Whether standard output is a terminal that can be drawn on.
    pub(crate) const fn is_terminal(self) -> bool {
        self.is_terminal
    }

    /// Whether talk is unwanted.
    pub(crate) const fn is_quiet(self) -> bool {
        self.is_quiet
    }

    /// Data: text to standard output, with one line feed at its end.
    #[expect(clippy::unused_self, reason = "printing is the printer's alone")]
    pub(crate) fn data(self, text: impl fmt::Display) -> io::Result<()> {
        let text = text.to_string();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        // Nothing is no line: what reads names, one a line, must find none.
        if !text.is_empty() && !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Data: `value` in a format for programs, `table` for people.
    pub(crate) fn value<T: Serialize>(
        self,
        format: Format,
        value: &T,
        table: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        let text = match format {
            Format::Table => table(),
            Format::Json => serde_json::to_string_pretty(value)?,
            Format::Yaml => yaml::text(value)?,
        };
        Ok(self.data(text)?)
    }

    /// As [`Printer::value`], with the keys that all figures of simctl have; see [`keys`].
    pub(crate) fn figures<T: Serialize>(
        self,
        format: Format,
        value: &T,
        table: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        self.value(format, &keys::styled(serde_json::to_value(value)?), table)
    }

    /// Talk: what happens, for people; silent with `--quiet`.
    pub(crate) fn say(self, text: impl fmt::Display) {
        if !self.is_quiet {
            talk(format_args!("{text}"));
        }
    }

    /// A warning; shown with `--quiet` too.
    pub(crate) fn warn(self, text: impl fmt::Display) {
        talk(format_args!("{} {text}", self.talk.paint(Tone::Warning, "warning:")));
    }

    /// The error that ends simctl.
    pub(crate) fn error(self, text: impl fmt::Display) {
        talk(format_args!("{} {text}", self.talk.paint(Tone::Bad, "error:")));
    }
}

/// One line to standard error; nobody can be told when that fails.
fn talk(line: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Columns side by side, the first row as heading; numbers to the right where `right` says so.
pub(crate) fn columns(palette: Palette, right: &[usize], rows: &[Vec<String>]) -> String {
    let Some((heading, rows)) = rows.split_first() else { return String::new() };
    let mut table = table(heading, right);
    rows.iter().for_each(|row| table.row(row.clone(), None));
    table.render(palette)
}

/// A table with this heading and no rows.
pub(crate) fn table(heading: &[String], right: &[usize]) -> Table {
    let align = |at: usize| if right.contains(&at) { Align::Right } else { Align::Left };
    Table::new(heading.iter().enumerate().map(|(at, name)| (name.clone(), align(at))), Tone::Strong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["NAME", "DEVICES"], ["taxi", "90"], ["charger", "1000"]].map(|row| row.map(String::from).to_vec());
        insta::assert_snapshot!(columns(Palette::Plain, &[1], &rows), @r"
        NAME     DEVICES
        taxi          90
        charger     1000
        ");
    }
}
