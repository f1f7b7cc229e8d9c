//! The verbs, one a file, each with the same members in the same order: its examples, its flags, and what it does.

pub(crate) mod completions;
pub(crate) mod device;
pub(crate) mod example;
pub(crate) mod models;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod sample;
pub(crate) mod scale;
pub(crate) mod schema;
pub(crate) mod set;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod worker;

use load_controller::verdict::ExitCode;

use crate::{args::Verb, printer::Printer};

/// Does what was typed.
pub(crate) async fn dispatch(verb: Verb, printer: Printer) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(args) => Box::pin(args.run(printer)).await,
        Verb::Status(args) => args.run(printer).await,
        Verb::Scale(args) => args.run(printer).await,
        Verb::Pause(args) => args.run(printer).await,
        Verb::Resume(args) => args.run(printer).await,
        Verb::Set(args) => args.run(printer).await,
        Verb::Device(args) => args.run(printer).await,
        Verb::Stop(args) => args.run(printer).await,
        Verb::Plan(args) => args.run(printer).await,
        Verb::Sample(args) => args.run(printer),
        Verb::Validate(args) => args.run(printer),
        Verb::Example(args) => args.run(printer),
        Verb::Models(args) => args.run(printer),
        Verb::Schema(args) => args.run(printer),
        Verb::Completions(args) => args.run(printer),
        Verb::Version(args) => args.run(printer),
        Verb::Worker(args) => args.run(printer),
    }
}
