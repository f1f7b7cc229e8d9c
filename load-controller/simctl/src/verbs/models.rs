//! `simctl models`: the models that are built in, and their documents.

use fleet_contract::{builtin, model::Model};
use load_controller::verdict::ExitCode;
use serde::Serialize;

use crate::{
    exit::Failure,
    printer::{Format, Printer, columns},
};

const EXAMPLES: &str = "\
Examples:
  simctl models
  simctl models show thermometer > models/my-thermometer.yaml
  simctl run --model street-light";

/// List the built-in models, or show one
///
/// A model beside a document, `models/NAME.yaml`, comes before the built-in one of that name.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to do; without it the models are listed
    #[command(subcommand)]
    action: Option<Action>,
    /// How to print the list
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the document of a model
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        model: String,
    },
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    streams: Vec<String>,
    description: String,
}

impl Args {
    /// Prints the list or the document.
    pub(crate) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        match self.action {
            Some(Action::Show { model }) => printer.data(show(&model)?)?,
            None => {
                let models = builtin::ALL.iter().map(listed).collect::<anyhow::Result<Vec<_>>>()?;
                printer.value(self.output, &models, || table(&models, printer))?;
            }
        }
        Ok(ExitCode::Passed)
    }
}

fn show(name: &str) -> Result<&'static str, Failure> {
    builtin::find(name).map(|model| model.document).ok_or_else(|| {
        let known: Vec<_> = builtin::ALL.iter().map(|model| model.name).collect();
        Failure::usage(format!("expected one of {}, found `{name}`", known.join(", ")))
    })
}

fn listed(builtin: &builtin::Builtin) -> anyhow::Result<Listed> {
    let model: Model = serde_saphyr::from_str(builtin.document)?;
    let streams = model.streams.keys().cloned().collect();
    Ok(Listed { name: builtin.name, streams, description: model.description })
}

fn table(models: &[Listed], printer: Printer) -> String {
    let mut rows = vec![["NAME", "STREAMS", "WHAT IT IS"].map(String::from).to_vec()];
    rows.extend(
        models.iter().map(|model| vec![model.name.into(), model.streams.join(", "), model.description.clone()]),
    );
    columns(printer.palette(), &[], &rows)
}
