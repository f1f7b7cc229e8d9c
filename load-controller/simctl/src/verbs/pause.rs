//! `simctl pause`: holds all messages back; sessions and keep-alives stay.

use kube::ResourceExt as _;
use load_controller::run::{change::Change, verdict::ExitCode};

use serde_json::json;

use crate::{
    cluster::{
        client::Cluster,
        kinds::{self, Meant},
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
  simctl pause loadtest/rush-hour
  simctl resume";

/// Hold all messages back
///
/// Sessions and keep-alives stay, nothing is offered, and the timetable goes on by the clock.
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
    /// Pauses the fleet.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let name = set_paused(true, &self.target, self.object.as_ref(), self.dry_run, printer).await?;
        printer.say(format_args!("{name} is paused{}; `simctl resume` goes on", objects::trial(self.dry_run)));
        Ok(ExitCode::Passed)
    }
}

/// Pauses a fleet or a load test, or lets it go on, wherever it runs; what it is called.
pub(super) async fn set_paused(
    paused: bool,
    target: &TargetFlags,
    object: Option<&String>,
    dry_run: Option<DryRun>,
    printer: Printer,
) -> anyhow::Result<String> {
    let fleet = match kinds::read(object.map_or(&[], std::slice::from_ref))? {
        Meant::Fleets(names) => names.into_iter().next(),
        Meant::LoadTests(names) => {
            let cluster = Cluster::find(&target.cluster, printer).await?;
            let test = cluster.load_test(names.first()).await?;
            cluster.change_test(&test, json!({ "suspend": paused }), dry_run).await?;
            return Ok(format!("load test {}", test.name_any()));
        }
    };
    let fleet = fleet.as_ref();
    match Target::find(target, fleet.map(|fleet| fleet.0.as_str()), printer).await? {
        Target::Local(remote) => {
            remote.change(&Change::Paused { paused }).await?;
            Ok(format!("fleet {}", remote.fleet()))
        }
        Target::Cluster(cluster) => {
            let name = cluster.fleet(fleet).await?.name_any();
            cluster.change(&name, dry_run, |_| Ok(live::paused(paused))).await?;
            Ok(format!("fleet {name}"))
        }
    }
}
