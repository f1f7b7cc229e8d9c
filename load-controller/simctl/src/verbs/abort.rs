//! `simctl abort`: ends a run as its second Ctrl-C does.

use load_controller::run::verdict::ExitCode;

use crate::{cluster::target::Target, exit::Failure, flags::TargetFlags, printer::Printer};

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

impl Args {
    /// Ends it.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        match Target::find(&self.target, None, printer).await? {
            Target::Local(remote) => {
                remote.abort().await?;
                printer.say(format_args!("fleet {} is aborted; its own terminal shows the summary", remote.fleet()));
                Ok(ExitCode::Passed)
            }
            Target::Cluster(_) => {
                Err(Failure::usage("expected a run on this machine, found a cluster: `simctl delete` removes a fleet")
                    .into())
            }
        }
    }
}
