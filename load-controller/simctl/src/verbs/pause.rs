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
        settle,
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
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let paused = set_paused(true, &self.target, self.object.as_ref(), self.dry_run, printer).await?;
        paused.tell("is paused", "; `simctl resume` goes on", self.dry_run, printer);
        Ok(ExitCode::Passed)
    }
}

/// What was paused, or goes on.
pub(super) struct Paused {
    name: String,
    /// Whether a load test of the fleet goes on, and the change waits.
    is_tested: bool,
}

impl Paused {
    /// Says so.
    pub(super) fn tell(&self, what: &str, more: &str, dry_run: Option<DryRun>, printer: Printer) {
        let Self { name, is_tested } = self;
        if *is_tested {
            printer.say(format_args!("{name}: {}; `simctl pause loadtest/NAME` holds that back", settle::TESTED));
        } else {
            printer.say(format_args!("{name} {what}{}{more}", objects::trial(dry_run)));
        }
    }
}

/// Pauses a fleet or a load test, or lets it go on, wherever it runs.
pub(super) async fn set_paused(
    paused: bool,
    target: &TargetFlags,
    object: Option<&String>,
    dry_run: Option<DryRun>,
    printer: Printer,
) -> anyhow::Result<Paused> {
    let fleet = match kinds::read(object.map_or(&[], std::slice::from_ref))? {
        Meant::Fleets(names) => names.into_iter().next(),
        Meant::LoadTests(names) => {
            let cluster = Cluster::find(&target.cluster, printer).await?;
            let test = cluster.load_test(names.first()).await?;
            cluster.change_test(&test, json!({ "suspend": paused }), dry_run).await?;
            return Ok(Paused { name: format!("load test {}", test.name_any()), is_tested: false });
        }
    };
    let fleet = fleet.as_ref();
    match Target::find(target, fleet.map(|fleet| fleet.0.as_str()), printer).await? {
        Target::Local(remote) => {
            remote.change(&Change::Paused { paused }).await?;
            Ok(Paused { name: format!("fleet {}", remote.fleet()), is_tested: false })
        }
        Target::Cluster(cluster) => {
            let name = cluster.fleet(fleet).await?.name_any();
            let changed = cluster.change(&name, dry_run, |_| Ok(live::paused(paused))).await?;
            let is_tested = settle::is_tested(&changed.status.unwrap_or_default());
            Ok(Paused { name: format!("fleet {name}"), is_tested })
        }
    }
}
