//! `simctl resume`: goes on after a pause.

use load_controller::verdict::ExitCode;

use crate::{
    args::RunFlag,
    local::control::{Change, Remote},
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl resume";

/// Go on after a pause
///
/// Messages that fell due during the pause are not made up for.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunFlag,
}

impl Args {
    /// Lifts the pause.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Remote::find(&self.run).await?;
        remote.change(&Change::Paused { paused: false }).await?;
        printer.say(format_args!("fleet {} goes on", remote.fleet()));
        Ok(ExitCode::Passed)
    }
}
