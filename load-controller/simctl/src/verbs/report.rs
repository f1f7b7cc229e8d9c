//! `simctl report`: what a run has left, in another format.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;
use load_controller::{
    report::{
        Report, csv, json, junit, markdown,
        text::{self, Paint, Style, Width},
    },
    run::verdict::ExitCode,
    yaml,
};

use crate::{exit::Failure, printer::Printer, text as files};

const EXAMPLES: &str = "\
Examples:
  simctl report out
  simctl report out -o markdown >> \"$GITHUB_STEP_SUMMARY\"
  simctl report out -o junit --exit-code
  simctl run -o json | tee report.json | simctl report - -o markdown";

/// Print the report of a run that has ended
///
/// Reads the directory that `run --report` has written, a file `report.json`, or standard input.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The directory of a report, or its file `report.json`; `-` reads that from standard input
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// End with the exit code of the run's verdict
    #[arg(long)]
    exit_code: bool,
}

/// The formats of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The same with all that there is
    Wide,
    /// One page with charts
    Html,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// For pipelines: a test for the run and for each threshold
    Junit,
    /// The run second by second
    Csv,
    /// For summaries of pipelines, and comments
    Markdown,
}

impl Args {
    /// Reads the report and prints it.
    pub(crate) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let file = if self.path.is_dir() { self.path.join("report.json") } else { self.path.clone() };
        let text = if file == Path::new("-") { files::read_stdin("stdin") } else { files::read(&file) };
        let text = text.map_err(|message| anyhow::anyhow!("{message}; `simctl run --report DIR` writes one"))?;
        let report: Report = serde_json::from_str(&text)
            .map_err(|error| Failure::document(format!("expected a report in {}, found: {error}", file.display())))?;
        let paint = if printer.palette().has_colors() { Paint::Coloured } else { Paint::Plain };
        let table = |width| text::render(&report, Style { width, paint });
        let shown = match self.output {
            Format::Table => table(Width::Table),
            Format::Wide => table(Width::Wide),
            Format::Html => page(&self.path)?,
            Format::Json => json::render(&report),
            Format::Yaml => yaml::text(&report).context("failed to write YAML")?,
            Format::Junit => junit::render(&report),
            Format::Csv => csv::timeline(&report.timeline),
            Format::Markdown => markdown::render(&report),
        };
        printer.data(shown.trim_end())?;
        Ok(if self.exit_code { report.exit_code() } else { ExitCode::Passed })
    }
}

/// The page of a report, whose charts of percentiles need more than its figures: it was written with them.
fn page(directory: &Path) -> Result<String, Failure> {
    let file = directory.join("report.html");
    fs::read_to_string(&file).map_err(|error| {
        Failure::usage(format!("expected the directory of a report beside -o html, found {}: {error}", file.display()))
    })
}
