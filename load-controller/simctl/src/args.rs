//! The whole command line: `simctl`, or `kubectl simctl`, and then a verb.

use std::path::PathBuf;

use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser};

use crate::verbs::Verb;

const EXAMPLES: &str = "\
Examples:
  simctl run                          100 mixed devices against a broker of its own
  simctl run -f fleet.yaml            what the document says
  simctl scale 500                    in a second terminal, while it runs
  simctl apply -f fleet.yaml          the same fleet as workloads of a Kubernetes cluster
  simctl get                          the fleets of the cluster
  simctl example > fleet.yaml         a document to start from
  simctl validate -f fleet.yaml       is it right?

Exit codes:
  0 passed, 99 a promise was broken or the broker refuses devices,
  96 invalid (the generator cannot be trusted),
  104 bad document, 105 aborted, 2 usage, 1 anything else";

/// Simulated IoT devices, one real MQTT session each
///
/// Runs a fleet of simulated devices against any MQTT broker, on this machine or as workloads of a Kubernetes cluster,
/// judges every message, and scales while it runs.
#[derive(Debug, Parser)]
#[command(name = "simctl", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print results, warnings and errors only
    #[arg(short, long, global = true, env = "SIMCTL_QUIET", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) quiet: bool,
    /// What to do
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What kubectl calls its plugin `simctl` by (<https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>).
const PLUGIN: &str = "kubectl-simctl";

impl Cli {
    /// What was typed; ends the process with help or usage if that is asked for or wrong.
    pub(crate) fn read() -> Self {
        let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
        let is_plugin = program.file_stem().is_some_and(|name| name == PLUGIN);
        let command = if is_plugin { as_plugin(Self::command(), "kubectl simctl") } else { Self::command() };
        let matches = command.get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The same command as a plugin of kubectl, whose help says what to type there.
fn as_plugin(command: Command, name: &str) -> Command {
    let help = command.get_after_help().map(|help| help.to_string().replace("  simctl ", "  kubectl simctl "));
    let command = command.bin_name(name).mut_subcommands(|verb| {
        let name = format!("{name} {}", verb.get_name());
        as_plugin(verb, &name)
    });
    match help {
        Some(help) => command.after_help(help),
        None => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_of_a_verb_shows_examples_too() {
        for verb in Cli::command().get_subcommands() {
            for step in verb.get_subcommands().filter(|step| step.get_name() != "help" && verb.get_name() != "models") {
                let help = step.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("simctl "), "{} {} has no example", verb.get_name(), step.get_name());
            }
        }
    }

    #[test]
    fn as_a_plugin_of_kubectl_the_help_says_so() {
        let mut command = as_plugin(Cli::command(), "kubectl simctl");
        assert!(command.render_help().to_string().contains("Usage: kubectl simctl "));
        let error = as_plugin(Cli::command(), "kubectl simctl").try_get_matches_from([
            "kubectl-simctl",
            "rollout",
            "undo",
            "-h",
        ]);
        let help = error.unwrap_err().to_string();
        assert!(
            help.contains("Usage: kubectl simctl rollout undo") && help.contains("  kubectl simctl rollout"),
            "{help}"
        );
    }

    #[test]
    fn every_flag_of_a_run_has_a_variable() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        for flag in run.get_arguments().filter(|flag| flag.get_id() != "help") {
            let expected = format!("SIMCTL_{}", flag.get_id().as_str().to_uppercase());
            assert_eq!(flag.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "{}", flag.get_id());
        }
    }

    #[test]
    fn a_certificate_goes_with_its_key_and_a_key_with_its_certificate() {
        for (given, missing) in [("--certificate", "--key"), ("--key", "--certificate")] {
            let error = Cli::command().try_get_matches_from(["simctl", "run", given, "device.pem"]).unwrap_err();
            assert!(error.to_string().contains(&format!("{missing} <FILE>")), "{error}");
        }
    }

    /// The command lines of a document: what follows the image, or `args`, in words of a shell or of YAML.
    fn command_lines(text: &str) -> Vec<Vec<String>> {
        let words = |line: &str| {
            line.split(['"', ',', ' ', '[', ']']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let line = |line: &str| {
            line.split_once("$SIMCTL ").or_else(|| line.split_once("args: ")).map(|(_, rest)| rest.to_owned())
        };
        let without_shell = |line: String| line.split(" >>").next().unwrap_or_default().to_owned();
        text.lines().filter_map(line).map(|line| words(&without_shell(line))).collect()
    }

    #[test]
    fn pipelines_call_what_there_is() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/examples/pipelines");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            fleet_contract::document::Tree::parse("f", text.split("\n---\n").last().unwrap()).unwrap();
            for line in command_lines(&text) {
                let words = std::iter::once("simctl").chain(line.iter().map(String::as_str));
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{}: {line:?}: {error}", path.display()));
                seen += 1;
            }
        }
        assert_eq!(seen, 5, "two of GitHub, and one of each other");
    }

    #[test]
    fn every_verb_shows_examples() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("simctl "), "{} has no example", verb.get_name());
        }
    }
}
