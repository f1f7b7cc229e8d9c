//! `simctl completions`: what a shell needs to complete simctl's words.

use clap::Command;
use clap_complete::Shell;
use load_controller::run::verdict::ExitCode;

use crate::{completion, printer::Printer};

const EXAMPLES: &str = "\
Examples:
  simctl completions bash > ~/.local/share/bash-completion/completions/simctl
  simctl completions zsh > ~/.zfunc/_simctl
  simctl completions fish > ~/.config/fish/completions/simctl.fish
  ln -s simctl kubectl_complete-simctl          beside simctl and kubectl-simctl: for `kubectl simctl`, in each shell";

/// Print the completions of a shell
///
/// In bash, zsh and fish they complete names of fleets, namespaces and contexts, too: simctl asks the cluster for them,
/// two seconds at most.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

impl Args {
    /// Prints the script that the shell reads to complete `whole`.
    pub(super) fn run(self, whole: &mut Command, printer: Printer) -> anyhow::Result<ExitCode> {
        if let Some(script) = completion::script(self.shell) {
            printer.data(script)?;
        } else {
            let mut script = Vec::new();
            clap_complete::generate(self.shell, whole, "simctl", &mut script);
            printer.data(String::from_utf8(script)?)?;
        }
        Ok(ExitCode::Passed)
    }
}
