//! `simctl resume`: goes on after a pause.

use load_controller::run::verdict::ExitCode;

use super::pause::set_paused;
use crate::{cluster::objects::DryRun, flags::TargetFlags, printer::Printer};

const EXAMPLES: &str = "\
Examples:
  simctl resume
  simctl resume fleet/robotaxis -n load
  simctl resume loadtest/rush-hour";

/// Go on after a pause
///
/// Messages that fell due during the pause are not made up for.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`; or a load test, such as `loadtest/rush-hour`
    #[arg(value_name = "FLEET|LOADTEST")]
    object: Option<String>,
    /// Only try, in a cluster
    #[arg(long, value_name = "HOW")]
    dry_run: Option<DryRun>,
    #[command(flatten)]
    target: TargetFlags,
}

impl Args {
    /// Lifts the pause.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let paused = set_paused(false, &self.target, self.object.as_ref(), self.dry_run, printer).await?;
        paused.tell("goes on", "", self.dry_run, printer);
        Ok(ExitCode::Passed)
    }
}
