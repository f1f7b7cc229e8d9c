//! `simctl validate`: all that is wrong with documents, at once.

use std::path::PathBuf;

use fleet_contract::model::Model;
use load_controller::{run::verdict::ExitCode, words};

use crate::{
    document::{self, Document, Reader},
    exit::Failure,
    load_test,
    printer::Printer,
    sources::{self, Object, Sources},
};

const EXAMPLES: &str = "\
Examples:
  simctl validate -f fleet.yaml
  simctl validate -f one.yaml -f two.yaml
  simctl validate -f models/my-thermometer.yaml
  simctl example robotaxis | simctl validate -f -";

/// Check documents
///
/// Says all that is wrong with each Fleet and `LoadTest`: file, line, column, field and what is allowed. Its models and the files that
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
    pub(super) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
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
            } else if object.is_load_test() {
                match load_test_of(&sources, object) {
                    Ok((said, doubts)) => {
                        printer.say(format_args!("{place}: {said}"));
                        doubts.iter().for_each(|doubt| printer.warn(format_args!("{place}: {doubt}")));
                    }
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
                printer.say(format_args!(
                    "{place}: {} is not checked, since it is neither Fleet nor LoadTest",
                    object.title()
                ));
            }
        }
        let is_ours = |object: &Object| object.is_model() || object.is_load_test();
        if fleets.is_empty() && !sources.objects.iter().any(is_ours) && wrong.is_empty() {
            let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
            wrong.push(format!("expected a Fleet, a LoadTest or a model in {}, found none", files.join(", ")));
        }
        if wrong.is_empty() {
            return Ok(ExitCode::Passed);
        }
        Err(Failure::document(format!("the document is not right\n{}", wrong.join("\n"))).into())
    }
}

/// `load test rush-hour of fleet robotaxis, 5 phases in 18 min, is right`, and what is doubtful. One of a fleet that is nowhere in
/// the files is checked as far as it goes: a cluster may have it.
fn load_test_of(sources: &Sources, object: &Object) -> Result<(String, Vec<String>), Failure> {
    let test = load_test::read(object)?;
    let document = if sources.fleets().is_empty() {
        None
    } else {
        Some(document::understand(sources, load_test::fleet(sources, object, &test)?, Reader::Machine)?)
    };
    load_test::settle(object, &test, document.as_ref())?;
    let doubts = document.map(|document| load_test::doubts(&test, &document)).unwrap_or_default();
    let lasts = test.spec.phases.iter().map(|phase| phase.duration.as_secs_f64()).sum();
    let said = format!(
        "load test {} of fleet {}, {} in {}, is right",
        test.metadata.name,
        test.spec.fleet,
        words::counted(test.spec.phases.len() as u64, "phase", "phases"),
        words::time(lasts)
    );
    Ok((said, doubts))
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
