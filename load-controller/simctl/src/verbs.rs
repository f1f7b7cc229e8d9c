//! The verbs, one a file, each with the same members in the same order: its examples, its flags, and what it does.

pub(crate) mod apply;
pub(crate) mod assignment;
pub(crate) mod completions;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod device;
pub(crate) mod example;
pub(crate) mod get;
pub(crate) mod images;
pub(crate) mod install;
pub(crate) mod logs;
pub(crate) mod models;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod resume;
pub(crate) mod rollout;
pub(crate) mod run;
pub(crate) mod sample;
pub(crate) mod scale;
pub(crate) mod schema;
pub(crate) mod set;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod uninstall;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod worker;

use load_controller::verdict::ExitCode;

use crate::{args::Verb, printer::Printer};

/// Does what was typed.
pub(crate) async fn dispatch(verb: Verb, printer: Printer) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(args) => Box::pin(args.run(printer)).await,
        Verb::Apply(args) => args.run(printer).await,
        Verb::Get(args) => args.run(printer).await,
        Verb::Describe(args) => args.run(printer).await,
        Verb::Status(args) => args.run(printer).await,
        Verb::Scale(args) => args.run(printer).await,
        Verb::Pause(args) => args.run(printer).await,
        Verb::Resume(args) => args.run(printer).await,
        Verb::Set(args) => args.run(printer).await,
        Verb::Device(args) => args.run(printer).await,
        Verb::Top(args) => args.run(printer).await,
        Verb::Logs(args) => args.run(printer).await,
        Verb::Wait(args) => args.run(printer).await,
        Verb::Rollout(args) => args.run(printer).await,
        Verb::Stop(args) => args.run(printer).await,
        Verb::Delete(args) => args.run(printer).await,
        Verb::Plan(args) => args.run(printer).await,
        Verb::Install(args) => args.run(printer).await,
        Verb::Uninstall(args) => args.run(printer).await,
        Verb::Images(args) => args.run(printer).await,
        Verb::Sample(args) => args.run(printer),
        Verb::Assignment(args) => args.run(printer),
        Verb::Validate(args) => args.run(printer),
        Verb::Example(args) => args.run(printer),
        Verb::Models(args) => args.run(printer),
        Verb::Schema(args) => args.run(printer),
        Verb::Completions(args) => args.run(printer),
        Verb::Version(args) => args.run(printer),
        Verb::Worker(args) => args.run(printer),
    }
}
