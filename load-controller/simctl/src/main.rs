//! simctl: runs, scales and watches a fleet of simulated devices.
//!
//! | module | idea |
//! | --- | --- |
//! | `args`, `flags` | what can be typed; what several verbs share of it |
//! | `completion` | what the last word of a command line can be |
//! | `verbs` | one verb a file |
//! | `document`, `library` | the fleet's document, its models and the files they replay |
//! | `settings` | what was meant: document and flags, checked |
//! | `estimate`, `preflight` | what it will take, and whether this machine and the broker can |
//! | `local` | a run on this machine: workers, control socket, supervision |
//! | `clean` | what a run has left at its broker, removed |
//! | `cluster` | fleets of a Kubernetes cluster: which one, its objects, what hinders |
//! | `installation`, `engine` | the load controller's objects, and who builds and loads the images that they need |
//! | `cbor` | what bodies in CBOR say |
//! | `view`, `screen` | the live figures as lines, and lines on a terminal |
//! | `printer`, `excerpt`, `exit` | what goes out, the lines that an error speaks of, and the exit code |

mod args;
mod cbor;
mod clean;
mod cluster;
mod completion;
mod document;
mod engine;
mod estimate;
mod excerpt;
mod exit;
#[cfg(test)]
mod fixture;
mod flags;
mod installation;
mod keys;
mod library;
mod load_test;
mod local;
mod preflight;
mod printer;
mod screen;
mod settings;
mod sources;
mod text;
mod verbs;
mod view;
mod which;

use std::process::ExitCode;

use anyhow::Context;
use args::Cli;
use clap::CommandFactory as _;
use printer::Printer;
use verbs::Verb;

fn main() -> ExitCode {
    if let Some(words) = completion::asked(std::env::args_os()) {
        return completion::answer(&words);
    }
    let cli = Cli::read();
    let printer = Printer::new(cli.quiet);
    match run(cli.verb, printer) {
        Ok(code) => code.into(),
        Err(error) if exit::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            printer.error(excerpt::below(&format!("{error:#}")));
            exit::code_of(&error).into()
        }
    }
}

fn run(verb: Verb, printer: Printer) -> anyhow::Result<load_controller::run::verdict::ExitCode> {
    if let Verb::Worker(args) = verb {
        return args.run(printer);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    let ended = runtime.block_on(verb.run(Cli::command, printer));
    // A name look-up may still block a thread; nobody waits for it.
    runtime.shutdown_background();
    ended
}
