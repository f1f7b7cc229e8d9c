//! `simctl disconnect`: cuts the connections of a share of the devices, all at one instant.

use fleet_contract::units::Share;
use load_controller::run::{change::Change, verdict::ExitCode};

use crate::{
    cluster::{fleets::FleetName, target::Target},
    exit::Failure,
    flags::TargetFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl disconnect --share 30%
  simctl disconnect robotaxis --share 100%";

/// Cut the connections of some devices, all at one instant
///
/// The devices close without a word, so that the broker publishes their wills, and connect again as after any loss. Which
/// ones are hit depends on the seed and on how many cuts there were before, not on the worker that they run in.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`
    fleet: Option<FleetName>,
    /// How many of the devices, `0.01%` to `100%`
    #[arg(long, value_name = "SHARE")]
    share: Share,
    #[command(flatten)]
    target: TargetFlags,
}

const IN_CLUSTER: &str = "expected a run on this machine, found a cluster, where faults stand in load tests";

impl Args {
    /// Cuts them.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        if self.share == Share::NONE {
            return Err(Failure::usage("expected --share of more than 0%, found `0%`").into());
        }
        let fleet = self.fleet.as_ref().map(|fleet| fleet.0.as_str());
        let remote = Target::find_local(&self.target, fleet, printer, IN_CLUSTER).await?;
        remote.change(&Change::Disconnect { disconnect: self.share }).await?;
        printer.say(format_args!("fleet {}: {} of the devices are cut off", remote.fleet(), self.share));
        Ok(ExitCode::Passed)
    }
}
