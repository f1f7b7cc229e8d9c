//! `simctl abort`: ends a run as its second Ctrl-C does.

use load_controller::run::verdict::ExitCode;

use crate::{cluster::target::Target, flags::TargetFlags, printer::Printer};

const EXAMPLES: &str = "\
Examples:
  simctl abort
  simctl abort --run robotaxis";

/// End the run at once, without a drain
///
/// For a run on this machine. Messages under way are not judged, so that its verdict is `aborted` and its exit code 105; `simctl stop`
/// lets them settle.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetFlags,
}

const IN_CLUSTER: &str = "expected a run on this machine, found a cluster: `simctl delete` removes a fleet";

impl Args {
    /// Ends it.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Target::find_local(&self.target, None, printer, IN_CLUSTER).await?;
        remote.abort().await?;
        printer.say(format_args!("fleet {} is aborted; its own terminal shows the summary", remote.fleet()));
        Ok(ExitCode::Passed)
    }
}
