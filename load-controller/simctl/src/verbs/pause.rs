//! `simctl pause`: holds all messages back; sessions and keep-alives stay.

use kube::ResourceExt as _;
use load_controller::run::{change::Change, verdict::ExitCode};

use crate::{
    cluster::{
        fleets::FleetName,
        live,
        objects::{self, DryRun},
        target::Target,
    },
    flags::TargetFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl pause
  simctl pause fleet/robotaxis -n load
  simctl resume";

/// Hold all messages back
///
/// Sessions and keep-alives stay, nothing is offered, and the timetable goes on by the clock.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`
    fleet: Option<FleetName>,
    /// Only try, in a cluster
    #[arg(long, value_name = "HOW")]
    dry_run: Option<DryRun>,
    #[command(flatten)]
    target: TargetFlags,
}

impl Args {
    /// Pauses the fleet.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let name = set_paused(true, &self.target, self.fleet.as_ref(), self.dry_run, printer).await?;
        printer.say(format_args!("fleet {name} is paused{}; `simctl resume` goes on", objects::trial(self.dry_run)));
        Ok(ExitCode::Passed)
    }
}

/// Pauses a fleet or lets it go on, wherever it runs; its name.
pub(super) async fn set_paused(
    paused: bool,
    target: &TargetFlags,
    fleet: Option<&FleetName>,
    dry_run: Option<DryRun>,
    printer: Printer,
) -> anyhow::Result<String> {
    match Target::find(target, fleet.map(|fleet| fleet.0.as_str()), printer).await? {
        Target::Local(remote) => {
            remote.change(&Change::Paused { paused }).await?;
            Ok(remote.fleet().to_owned())
        }
        Target::Cluster(cluster) => {
            let name = cluster.fleet(fleet).await?.name_any();
            cluster.change(&name, dry_run, |_| Ok(live::paused(paused))).await?;
            Ok(name)
        }
    }
}
