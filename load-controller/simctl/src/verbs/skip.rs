//! `simctl skip`: ends the phase that goes on, and begins the next.

use load_controller::run::verdict::ExitCode;

use crate::{cluster::target::Target, flags::TargetFlags, printer::Printer};

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

const IN_CLUSTER: &str = "expected a run on this machine, found a cluster, where phases are not known yet";

impl Args {
    /// Ends it.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Target::find_local(&self.target, None, printer, IN_CLUSTER).await?;
        remote.skip().await?;
        printer.say(format_args!("fleet {}: the phase is over", remote.fleet()));
        Ok(ExitCode::Passed)
    }
}
