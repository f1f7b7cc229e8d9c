//! The verbs, one a file, each with the same members in the same order: its examples, its flags, and what it does.

mod abort;
mod apply;
mod assignment;
mod broker_credentials;
mod clean;
mod completions;
mod dashboard;
mod delete;
mod describe;
mod device;
mod disconnect;
mod example;
mod explain;
mod get;
mod images;
mod install;
mod logs;
mod models;
mod pause;
mod plan;
mod report;
mod resume;
mod rollout;
mod run;
mod sample;
mod scale;
mod schema;
mod set;
mod skip;
mod status;
mod stop;
mod top;
mod uninstall;
mod validate;
mod version;
mod wait;
mod worker;

use clap::{Command, Subcommand};
use load_controller::run::verdict::ExitCode;

use crate::printer::Printer;

/// Every verb, in the order of `--help`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Box<run::Args>),
    Apply(apply::Args),
    Get(get::Args),
    Describe(describe::Args),
    Status(status::Args),
    Scale(scale::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Set(set::Args),
    Disconnect(disconnect::Args),
    Device(device::Args),
    Top(top::Args),
    Dashboard(dashboard::Args),
    Logs(logs::Args),
    BrokerCredentials(broker_credentials::Args),
    Wait(wait::Args),
    Rollout(rollout::Args),
    Skip(skip::Args),
    Stop(stop::Args),
    Abort(abort::Args),
    Report(report::Args),
    Clean(Box<clean::Args>),
    Delete(delete::Args),
    Plan(Box<plan::Args>),
    Install(install::Args),
    Uninstall(uninstall::Args),
    Images(images::Args),
    Sample(sample::Args),
    Assignment(Box<assignment::Args>),
    Validate(validate::Args),
    Example(example::Args),
    Models(models::Args),
    Explain(explain::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    Version(version::Args),
    #[command(hide = true)]
    Worker(worker::Args),
}

impl Verb {
    /// Does what was typed. `whole` is the command line of which this is a verb.
    pub(crate) async fn run(self, whole: fn() -> Command, printer: Printer) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(args) => Box::pin(args.run(printer)).await,
            Self::Apply(args) => args.run(printer).await,
            Self::Get(args) => args.run(printer).await,
            Self::Describe(args) => args.run(printer).await,
            Self::Status(args) => args.run(printer).await,
            Self::Scale(args) => args.run(printer).await,
            Self::Pause(args) => args.run(printer).await,
            Self::Resume(args) => args.run(printer).await,
            Self::Set(args) => args.run(printer).await,
            Self::Disconnect(args) => args.run(printer).await,
            Self::Device(args) => args.run(printer).await,
            Self::Top(args) => args.run(printer).await,
            Self::Dashboard(args) => args.run(printer).await,
            Self::Logs(args) => args.run(printer).await,
            Self::BrokerCredentials(args) => args.run(printer).await,
            Self::Wait(args) => args.run(printer).await,
            Self::Rollout(args) => args.run(printer).await,
            Self::Skip(args) => args.run(printer).await,
            Self::Stop(args) => args.run(printer).await,
            Self::Abort(args) => args.run(printer).await,
            Self::Report(args) => args.run(printer).await,
            Self::Clean(args) => Box::pin(args.run(printer)).await,
            Self::Delete(args) => args.run(printer).await,
            Self::Plan(args) => args.run(printer).await,
            Self::Install(args) => args.run(printer).await,
            Self::Uninstall(args) => args.run(printer).await,
            Self::Images(args) => args.run(printer).await,
            Self::Sample(args) => args.run(printer),
            Self::Assignment(args) => args.run(printer),
            Self::Validate(args) => args.run(printer),
            Self::Example(args) => args.run(printer),
            Self::Models(args) => args.run(printer),
            Self::Explain(args) => args.run(printer),
            Self::Schema(args) => args.run(printer),
            Self::Completions(args) => args.run(&mut whole(), printer),
            Self::Version(args) => args.run(printer),
            Self::Worker(args) => args.run(printer),
        }
    }
}
