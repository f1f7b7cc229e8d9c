//! `simctl skip`: ends the phase that goes on, and begins the next.

use kube::ResourceExt as _;
use load_controller::run::verdict::ExitCode;
use serde_json::json;

use crate::{
    cluster::{load_tests::TestName, target::Target},
    exit::Failure,
    flags::TargetFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl skip
  simctl skip --run robotaxis
  simctl skip loadtest/rush-hour -n load";

/// End the phase that goes on
///
/// Of a run on this machine that has phases, or of a load test of a cluster. The next one begins with as many devices as if this
/// one had gone to its end; skipping the last one ends the run.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The load test of a cluster, if several go on: `rush-hour` or `loadtest/rush-hour`
    #[arg(value_name = "LOADTEST")]
    test: Option<TestName>,
    #[command(flatten)]
    target: TargetFlags,
}

impl Args {
    /// Ends it.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        match Target::find(&self.target, None, printer).await? {
            Target::Local(remote) => {
                remote.skip().await?;
                printer.say(format_args!("fleet {}: the phase is over", remote.fleet()));
            }
            Target::Cluster(cluster) => {
                let test = cluster.load_test(self.test.as_ref()).await?;
                let Some(phase) = test.status.as_ref().and_then(|status| status.phase.clone()) else {
                    let name = test.name_any();
                    return Err(Failure::refused(format!("load test {name} has no phase that goes on")).into());
                };
                cluster.change_test(&test, json!({ "skip": phase }), None).await?;
                printer.say(format_args!("load test {}: phase {phase} is over", test.name_any()));
            }
        }
        Ok(ExitCode::Passed)
    }
}
