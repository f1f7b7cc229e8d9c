//! `simctl validate`: all that is wrong with documents, at once.

use std::path::PathBuf;

use load_controller::verdict::ExitCode;

use crate::{document, exit::Failure, printer::Printer};

const EXAMPLES: &str = "\
Examples:
  simctl validate -f fleet.yaml
  simctl validate -f one.yaml -f two.yaml
  simctl example robotaxis | simctl validate -f -";

/// Check documents
///
/// Says all that is wrong with each: file, line, column, field and what is allowed. Models beside the document and
/// the files that they replay are checked too. The exit code is 104 if anything is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A document; `-` reads standard input
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
}

impl Args {
    /// Checks every document, and fails when one is wrong.
    pub(crate) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let mut wrong = Vec::new();
        for file in &self.files {
            match document::read(file) {
                Ok(document) => {
                    let fleet = &document.fleet;
                    let (name, devices) = (&fleet.metadata.name, fleet.spec.devices);
                    let devices =
                        if document.leaves_devices_open { "any number of".into() } else { devices.to_string() };
                    printer.say(format_args!("{}: fleet {name} of {devices} devices is right", file.display()));
                }
                Err(failure) => wrong.push(failure.to_string()),
            }
        }
        if wrong.is_empty() {
            return Ok(ExitCode::Passed);
        }
        Err(Failure::document(format!("the document is not right\n{}", wrong.join("\n"))).into())
    }
}
