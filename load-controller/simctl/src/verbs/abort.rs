//! `simctl abort`: ends a run as its second Ctrl-C does.

use kube::ResourceExt as _;
use load_controller::run::verdict::ExitCode;
use serde_json::json;

use crate::{
    cluster::{load_tests::TestName, target::Target},
    flags::TargetFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl abort
  simctl abort --run robotaxis
  simctl abort loadtest/rush-hour -n load";

/// End the run at once, without a drain
///
/// Of a run on this machine, or of a load test of a cluster, whose fleet goes on with its own number of devices. Messages under way are not judged, so that its verdict is `aborted` and its exit code 105; `simctl stop`
/// lets them settle.
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
                remote.abort().await?;
                printer.say(format_args!("fleet {} is aborted; its own terminal shows the summary", remote.fleet()));
            }
            Target::Cluster(cluster) => {
                let test = cluster.load_test(self.test.as_ref()).await?;
                cluster.change_test(&test, json!({ "abort": true }), None).await?;
                let name = test.name_any();
                let has_begun = test.started().is_some();
                let report = format!("; `simctl report loadtest/{name}` shows how far it came");
                let more = if has_begun { report.as_str() } else { ", before its start" };
                printer.say(format_args!("load test {name} is aborted{more}"));
            }
        }
        Ok(ExitCode::Passed)
    }
}
