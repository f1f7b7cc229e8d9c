//! `simctl example`: documents that work, to start from.

use load_controller::run::verdict::ExitCode;

use crate::{
    exit::Failure,
    library,
    printer::{Printer, columns},
};

const EXAMPLES: &str = "\
Examples:
  simctl example > fleet.yaml         the fleet of `simctl run`
  simctl example --list               what else there is
  simctl example robotaxis | simctl run -f -";

/// Print a document that works
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The name of the example
    #[arg(value_name = "NAME", default_value = "demo")]
    example: String,
    /// Print the names of all examples
    #[arg(long, short)]
    list: bool,
}

impl Args {
    /// Prints the document, or the list of all.
    pub(super) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        if self.list {
            let mut rows = vec![vec!["NAME".to_owned(), "WHAT IT SHOWS".to_owned()]];
            rows.extend(
                library::EXAMPLES.iter().map(|(name, text)| vec![(*name).into(), library::headline(text).into()]),
            );
            printer.data(columns(printer.palette(), &[], &rows))?;
            return Ok(ExitCode::Passed);
        }
        let text = library::example(&self.example).ok_or_else(|| {
            let names: Vec<_> = library::EXAMPLES.iter().map(|(name, _)| *name).collect();
            Failure::usage(format!("expected one of {}, found `{}`", names.join(", "), self.example))
        })?;
        printer.data(text)?;
        Ok(ExitCode::Passed)
    }
}
