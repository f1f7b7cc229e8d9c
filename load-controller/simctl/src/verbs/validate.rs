//! `simctl validate`: all that is wrong with documents, at once.

use std::path::PathBuf;

use fleet_contract::model::Model;
use load_controller::run::verdict::ExitCode;

use crate::{
    document::{self, Document, Reader},
    exit::Failure,
    printer::Printer,
    sources::{self, Object},
};

const EXAMPLES: &str = "\
Examples:
  simctl validate -f fleet.yaml
  simctl validate -f one.yaml -f two.yaml
  simctl validate -f models/my-thermometer.yaml
  simctl example robotaxis | simctl validate -f -";

/// Check documents
///
/// Says all that is wrong with each Fleet: file, line, column, field and what is allowed. Its models and the files that
/// they replay are checked too, beside the document and in a ConfigMap of the same files; so is a model in a file of its
/// own. Objects of other kinds are named and left to the cluster. The exit code is 104 if anything is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A document or a directory of documents; `-` reads standard input
    #[arg(short, long = "file", visible_alias = "filename", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
}

impl Args {
    /// Checks every Fleet, names what else there is, and fails when one is wrong.
    pub(crate) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let sources = sources::read(&self.files);
        let mut wrong = sources.wrong.clone();
        let fleets = sources.fleets();
        let libraries: Vec<_> = fleets.iter().filter_map(|fleet| sources.library(fleet)).collect();
        for object in &sources.objects {
            let place = object.place();
            if object.is_fleet() {
                match document::understand(&sources, object, Reader::Machine) {
                    Ok(document) => printer.say(format_args!("{place}: {}", right(&document))),
                    Err(failure) => wrong.push(failure.to_string()),
                }
            } else if object.is_model() {
                match document::check_model(object) {
                    Ok(model) => printer.say(format_args!("{place}: {}", right_model(&model))),
                    Err(failure) => wrong.push(failure.to_string()),
                }
            } else if libraries.iter().any(|library| std::ptr::eq(*library, object)) {
                printer.say(format_args!("{place}: {} is checked as far as fleets name its models", object.title()));
            } else {
                printer.say(format_args!("{place}: {} is not checked, since it is no Fleet", object.title()));
            }
        }
        if fleets.is_empty() && !sources.objects.iter().any(Object::is_model) && wrong.is_empty() {
            let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
            wrong.push(format!("expected a Fleet or a model in {}, found none", files.join(", ")));
        }
        if wrong.is_empty() {
            return Ok(ExitCode::Passed);
        }
        Err(Failure::document(format!("the document is not right\n{}", wrong.join("\n"))).into())
    }
}

/// `the model of the streams reading, state is right`
fn right_model(model: &Model) -> String {
    let streams: Vec<_> = model.streams.keys().map(String::as_str).collect();
    format!("the model with the streams {} is right", streams.join(", "))
}

/// `fleet lab of 10 devices is right`
fn right(document: &Document) -> String {
    let (name, devices) = (&document.fleet.metadata.name, document.fleet.spec.devices);
    let devices = if document.leaves_devices_open { "any number of".into() } else { devices.to_string() };
    format!("fleet {name} of {devices} devices is right")
}
