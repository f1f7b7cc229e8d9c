//! `simctl schema`: the JSON Schema of a document or of a report, for editors and other tools.

use clap::ValueEnum;
use fleet_contract::{fleet::Fleet, load_test::LoadTest, model::Model, worker::DeviceStatus};
use load_controller::{
    report::{LostInReport, Report},
    run::verdict::ExitCode,
};

use schemars::{JsonSchema, Schema, generate::SchemaSettings};

use super::{broker_credentials::Credentials, models, plan, sample, version};
use crate::{clean::Cleaned, keys, printer::Printer};

const EXAMPLES: &str = "\
Examples:
  simctl schema fleet > fleet.schema.json
  simctl schema loadtest > loadtest.schema.json
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
    /// What is done to a fleet, and what must come of it
    #[value(name = "loadtest")]
    LoadTest,
    /// What devices measure and send, in a file of its own: `models/NAME.yaml`
    Model,
    /// What a run measured: `run -o json`, `status -o json` and the file `report.json`
    Report,
    /// What a fleet will take: `plan -o json`
    Plan,
    /// What was removed from a broker and what stays: `clean -o json`
    Clean,
    /// What is known of a device: `device -o json`
    Device,
    /// The models: `models -o json`
    Models,
    /// What this program is: `version -o json`
    Version,
    /// How to look into the broker of a fleet's own: `broker-credentials -o json`
    BrokerCredentials,
    /// A message that a device would send: a line of `sample`
    Sample,
    /// A message that did not arrive: a line of the file `lost.jsonl`
    Lost,
}

impl Args {
    /// Prints the schema.
    pub(super) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let schema = match self.kind {
            Kind::Fleet => schemars::schema_for!(Fleet),
            Kind::LoadTest => schemars::schema_for!(LoadTest),
            Kind::Model => schemars::schema_for!(Model),
            Kind::Report => output::<Report>(),
            Kind::Plan => output::<plan::Plan>(),
            Kind::Clean => output::<Cleaned>(),
            Kind::Device => output::<DeviceStatus>(),
            Kind::Models => output::<Vec<models::Listed>>(),
            Kind::Version => output::<version::Version>(),
            Kind::BrokerCredentials => output::<Credentials>(),
            Kind::Sample => as_written::<sample::Line<'_>>(),
            Kind::Lost => output::<LostInReport>(),
        };
        printer.data(serde_json::to_string_pretty(&schema)?)?;
        Ok(ExitCode::Passed)
    }
}

/// The schema of what is written in the one style of keys.
fn output<T: JsonSchema>() -> Schema {
    keys::styled_schema(as_written::<T>().to_value())
        .try_into()
        .expect("a schema stays one when its keys are written in another way")
}

/// The schema of what is written, not of what may be read: no key is missing.
fn as_written<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>()
}
