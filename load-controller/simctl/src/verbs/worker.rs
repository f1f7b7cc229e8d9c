//! `simctl worker`: a worker process of a run; the same program as `device-sim`.

use device_sim::process;
use load_controller::run::verdict::ExitCode;

use crate::printer::Printer;

const EXAMPLES: &str = "\
Examples:
  simctl worker --api unix:/run/user/1000/worker.sock --with-parent";

/// Run the devices of a shard (simctl starts these processes itself)
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
// The flags that it takes over are a group of this name already.
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    worker: device_sim::args::Args,
}

impl Args {
    /// Runs until told to end; brings its own runtime and its own log.
    pub(crate) fn run(self, _: Printer) -> anyhow::Result<ExitCode> {
        process::run(self.worker)?;
        Ok(ExitCode::Passed)
    }
}
