//! `simctl models`: the models that are built in and those of this directory, and their documents.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fleet_contract::{builtin, document, model::Model};
use load_controller::run::verdict::ExitCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    exit::Failure,
    printer::{Format, Printer, columns},
    text,
};

const EXAMPLES: &str = "\
Examples:
  simctl models
  simctl models show thermometer > models/my-thermometer.yaml
  simctl run --model street-light";

/// List models, or show one
///
/// Those that are built in, and those of the current directory: a model beside a document, `models/NAME.yaml`, comes
/// before the built-in one of that name.
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

#[derive(JsonSchema, Serialize)]
pub(super) struct Listed {
    name: String,
    /// Its file; nothing of a model that is built in.
    file: Option<PathBuf>,
    streams: Vec<String>,
    description: String,
}

/// Where models are, below the current directory.
const DIRECTORY: &str = "models";

impl Args {
    /// Prints the list or the document.
    pub(super) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        match self.action {
            Some(Action::Show { model }) => printer.data(show(&model)?)?,
            None => {
                let own: Vec<_> = files(Path::new(DIRECTORY)).into_iter().map(of_file).collect();
                // One that a model of this directory stands before is out of reach here.
                let is_free = |builtin: &&builtin::Builtin| own.iter().all(|own| own.name != builtin.name);
                let built_in = builtin::ALL.iter().filter(is_free).map(listed).collect::<anyhow::Result<Vec<_>>>()?;
                let models: Vec<_> = own.into_iter().chain(built_in).collect();
                printer.figures(self.output, &models, || table(&models, printer))?;
            }
        }
        Ok(ExitCode::Passed)
    }
}

fn show(name: &str) -> Result<String, Failure> {
    let own = files(Path::new(DIRECTORY));
    if let Some(file) = own.iter().find(|file| file.file_stem().is_some_and(|stem| stem == name)) {
        return text::read(file).map_err(Failure::document);
    }
    builtin::find(name).map(|model| model.document.to_owned()).ok_or_else(|| {
        let known = builtin::ALL.iter().map(|model| model.name.to_owned());
        let known: Vec<_> = known.chain(own.iter().map(|file| name_of(file))).collect();
        Failure::usage(format!("expected one of {}, found `{name}`", known.join(", ")))
    })
}

/// The models of a directory, in the order of their names.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries
        .filter(|file| file.extension().is_some_and(|extension| extension == "yaml") && file.is_file())
        .collect();
    files.sort();
    files
}

fn name_of(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// One that cannot be read is listed, too: whoever looks for it is to learn why it is of no use.
fn of_file(file: PathBuf) -> Listed {
    let title = file.display().to_string();
    let read = text::read(&file).ok().and_then(|text| document::read::<Model>(&title, &text).ok());
    let (streams, description) = match read {
        Some((model, _)) => (model.streams.into_keys().collect(), model.description),
        None => (Vec::new(), format!("not right: `simctl validate -f {title}` says why")),
    };
    Listed { name: name_of(&file), file: Some(file), streams, description }
}

fn listed(builtin: &builtin::Builtin) -> anyhow::Result<Listed> {
    let model: Model = serde_saphyr::from_str(builtin.document)?;
    let streams = model.streams.keys().cloned().collect();
    Ok(Listed { name: builtin.name.into(), file: None, streams, description: model.description })
}

fn table(models: &[Listed], printer: Printer) -> String {
    let mut rows = vec![["NAME", "FROM", "STREAMS", "WHAT IT IS"].map(String::from).to_vec()];
    rows.extend(models.iter().map(|model| {
        let from = model.file.as_ref().map_or_else(|| "built in".into(), |file| file.display().to_string());
        vec![model.name.clone(), from, model.streams.join(", "), model.description.clone()]
    }));
    columns(printer.palette(), &[], &rows)
}
