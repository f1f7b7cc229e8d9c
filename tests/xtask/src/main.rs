//! The project's own commands, called as `cargo xtask NAME`.
#![expect(clippy::print_stdout, reason = "a command line tool of the project: its result is what it prints")]
#![expect(clippy::disallowed_methods, reason = "what is measured is real time")]

mod bench;
mod cargo;
mod cluster;
mod dashboards;
mod manifests;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own commands
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the checks that continuous integration runs
    ///
    /// Without a name, all but the long ones. The last line counts the tests. A step that cannot run here is printed
    /// as NOT RUN with its reason, and fails when CI is set. A failed property test is reproduced with the
    /// `PROPTEST_RNG_SEED` that the run prints.
    ///
    /// Example: cargo xtask test unit local
    Test(test::Args),
    /// Measures what the generator costs and prints one Markdown table
    ///
    /// Example: cargo xtask bench --quick
    Bench(bench::Args),
    /// Writes dashboards/*.json anew, from the tables of metrics
    Dashboards,
    /// Writes manifests/install.yaml anew, from the chart
    Manifests,
    /// A throw-away Kubernetes cluster of real nodes on this machine
    ///
    /// Needs root. Nothing of it reaches the machine's network, and nothing is left of it after `down`.
    ///
    /// Example: cargo xtask cluster up
    #[command(subcommand)]
    Cluster(cluster::Verb),
}

fn main() -> Result<ExitCode> {
    match Args::parse().command {
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Dashboards => dashboards::run(),
        Command::Manifests => manifests::run(),
        Command::Cluster(verb) => cluster::run(&verb),
    }
}
