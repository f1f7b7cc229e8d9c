//! `simctl stop`: ends a run as its first Ctrl-C does.

use std::time::Duration;

use fleet_contract::units::Span;
use load_controller::verdict::ExitCode;

use crate::{args::RunFlag, local::control::Remote, printer::Printer};

const EXAMPLES: &str = "\
Examples:
  simctl stop
  simctl stop --no-wait
  simctl stop --run robotaxis";

/// Drain the fleet and end the run
///
/// As the first Ctrl-C does: nothing new is offered, messages under way settle, devices disconnect, and the run
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
    run: RunFlag,
}

impl Args {
    /// Asks the run to stop and waits until it is gone.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Remote::find(&self.run).await?;
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
