//! `simctl skip`: ends the phase that goes on, and begins the next.

use load_controller::run::verdict::ExitCode;

use crate::{cluster::target::Target, exit::Failure, flags::TargetFlags, printer::Printer};

const EXAMPLES: &str = "\
Examples:
  simctl skip
  simctl skip --run robotaxis";

/// End the phase that goes on
///
/// For a run on this machine that has phases. The next one begins with as many devices as if this one had gone to its end; skipping
/// the last one ends the run.
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
                remote.skip().await?;
                printer.say(format_args!("fleet {}: the phase is over", remote.fleet()));
                Ok(ExitCode::Passed)
            }
            Target::Cluster(_) => {
                Err(Failure::usage("expected a run on this machine, found a cluster, where phases are not known yet")
                    .into())
            }
        }
    }
}
