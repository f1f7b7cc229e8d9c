//! The verbs, one a file, each with the same members in the same order: its examples, its flags, and what it does.

pub(crate) mod abort;
pub(crate) mod apply;
pub(crate) mod assignment;
pub(crate) mod broker_credentials;
pub(crate) mod clean;
pub(crate) mod completions;
pub(crate) mod dashboard;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod device;
pub(crate) mod disconnect;
pub(crate) mod example;
pub(crate) mod get;
pub(crate) mod images;
pub(crate) mod install;
pub(crate) mod logs;
pub(crate) mod models;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod resume;
pub(crate) mod rollout;
pub(crate) mod run;
pub(crate) mod sample;
pub(crate) mod scale;
pub(crate) mod schema;
pub(crate) mod set;
pub(crate) mod skip;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod uninstall;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod worker;

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
            Self::Schema(args) => args.run(printer),
            Self::Completions(args) => args.run(&mut whole(), printer),
            Self::Version(args) => args.run(printer),
            Self::Worker(args) => args.run(printer),
        }
    }
}
