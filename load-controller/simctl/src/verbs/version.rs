//! `simctl version`: what this program is.

use load_controller::run::verdict::ExitCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::printer::{Format, Printer};

const EXAMPLES: &str = "\
Examples:
  simctl version
  simctl version -o json";

/// Print the version
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(JsonSchema, Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys that programs read")]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    version: &'static str,
    api_version: &'static str,
    os: &'static str,
    architecture: &'static str,
}

impl Args {
    /// Prints the version.
    pub(super) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let version = Version {
            version: env!("CARGO_PKG_VERSION"),
            api_version: fleet_contract::fleet::API_VERSION,
            os: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
        };
        printer.figures(self.output, &version, || {
            format!(
                "simctl {} ({}-{}), documents {}",
                version.version, version.os, version.architecture, version.api_version
            )
        })?;
        Ok(ExitCode::Passed)
    }
}
