//! `simctl schema`: the JSON Schema of a document or of a report, for editors and other tools.

use clap::ValueEnum;
use fleet_contract::{fleet::Fleet, model::Model};
use load_controller::{report::Report, verdict::ExitCode};

use schemars::generate::SchemaSettings;

use crate::printer::Printer;

const EXAMPLES: &str = "\
Examples:
  simctl schema fleet > fleet.schema.json
  simctl schema model > model.schema.json
  simctl schema report > report.schema.json

An editor checks a document while you type when its first line is:
  # yaml-language-server: $schema=fleet.schema.json";

/// Print the JSON Schema of a document or of a report
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The kind of document
    #[arg(value_name = "KIND", default_value = "fleet")]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// A population of devices
    Fleet,
    /// What devices measure and send, in a file of its own: `models/NAME.yaml`
    Model,
    /// What a run measured: `run -o json`, `status -o json` and the file `report.json`
    Report,
}

impl Args {
    /// Prints the schema.
    pub(crate) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let schema = match self.kind {
            Kind::Fleet => schemars::schema_for!(Fleet),
            Kind::Model => schemars::schema_for!(Model),
            // Of what is written, not of what may be read: no key is missing.
            Kind::Report => {
                SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Report>()
            }
        };
        printer.data(serde_json::to_string_pretty(&schema)?)?;
        Ok(ExitCode::Passed)
    }
}
