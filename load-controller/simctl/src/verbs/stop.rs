//! `simctl stop`: ends a run as its first Ctrl-C does.

use std::time::Duration;

use fleet_contract::units::Span;
use load_controller::run::verdict::ExitCode;

use crate::{cluster::target::Target, flags::TargetFlags, printer::Printer};

const EXAMPLES: &str = "\
Examples:
  simctl stop
  simctl stop --no-wait
  simctl stop --run robotaxis";

/// Drain the fleet and end the run
///
/// For a run on this machine. As the first Ctrl-C does: nothing new is offered, messages under way settle, devices disconnect, and the run
/// prints its summary in its own terminal.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Do not wait until the run has ended
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "2m")]
    timeout: Span,
    #[command(flatten)]
    target: TargetFlags,
}

/// A fleet of a cluster is there until somebody removes it, so "stop" could mean two things.
const IN_CLUSTER: &str = "a fleet of a cluster does not stop: `simctl delete fleet/NAME` removes it, \
                          `simctl scale fleet/NAME 0` keeps it without devices";

impl Args {
    /// Asks the run to stop and waits until it is gone.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Target::find_local(&self.target, None, printer, IN_CLUSTER).await?;
        remote.stop().await?;
        if self.no_wait {
            printer.say(format_args!("fleet {} drains", remote.fleet()));
            return Ok(ExitCode::Passed);
        }
        printer.say(format_args!("fleet {} drains …", remote.fleet()));
        let deadline = tokio::time::Instant::now() + self.timeout.as_duration();
        while remote.is_alive().await {
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "fleet {} was still draining after {}; process {}",
                remote.fleet(),
                self.timeout,
                remote.pid()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        printer.say(format_args!("fleet {} has stopped; its own terminal shows the summary", remote.fleet()));
        Ok(ExitCode::Passed)
    }
}
