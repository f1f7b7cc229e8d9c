//! `simctl pause`: holds all messages back; sessions and keep-alives stay.

use load_controller::verdict::ExitCode;

use crate::{
    args::RunFlag,
    local::control::{Change, Remote},
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl pause
  simctl resume";

/// Hold all messages back
///
/// Sessions and keep-alives stay, nothing is offered, and the timetable goes on by the clock.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunFlag,
}

impl Args {
    /// Pauses the run.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Remote::find(&self.run).await?;
        remote.change(&Change::Paused { paused: true }).await?;
        printer.say(format_args!("fleet {} is paused; `simctl resume` goes on", remote.fleet()));
        Ok(ExitCode::Passed)
    }
}
