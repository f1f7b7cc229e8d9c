//! What can be typed: the verbs, and the flags that several verbs share.
//!
//! A verb's own flags stand beside it in [`crate::verbs`]. Each flag that describes a run can also be given as a
//! variable `SIMCTL_…`; the flag wins over the variable, both win over the document.

use std::path::PathBuf;

use clap::{
    Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{Observe, Qos},
    units::{Rate, Span},
};

use crate::{cluster::target::Place, verbs};

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

/// Every verb, in the order of `--help`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Box<verbs::run::Args>),
    Apply(verbs::apply::Args),
    Get(verbs::get::Args),
    Describe(verbs::describe::Args),
    Status(verbs::status::Args),
    Scale(verbs::scale::Args),
    Pause(verbs::pause::Args),
    Resume(verbs::resume::Args),
    Set(verbs::set::Args),
    Device(verbs::device::Args),
    Top(verbs::top::Args),
    Logs(verbs::logs::Args),
    Wait(verbs::wait::Args),
    Rollout(verbs::rollout::Args),
    Stop(verbs::stop::Args),
    Delete(verbs::delete::Args),
    Plan(Box<verbs::plan::Args>),
    Install(verbs::install::Args),
    Uninstall(verbs::uninstall::Args),
    Images(verbs::images::Args),
    Sample(verbs::sample::Args),
    Assignment(Box<verbs::assignment::Args>),
    Validate(verbs::validate::Args),
    Example(verbs::example::Args),
    Models(verbs::models::Args),
    Schema(verbs::schema::Args),
    Completions(verbs::completions::Args),
    Version(verbs::version::Args),
    #[command(hide = true)]
    Worker(verbs::worker::Args),
}

/// Which fleet, and what is different from its document.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct FleetFlags {
    /// The document of the fleet; `-` reads standard input
    #[arg(short, long, value_name = "FILE", env = "SIMCTL_FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How many devices [default: the document's, else 100]
    #[arg(long, value_name = "N", env = "SIMCTL_DEVICES", value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub(crate) devices: Option<u32>,
    /// All devices are of this model
    #[arg(long, value_name = "NAME", env = "SIMCTL_MODEL")]
    pub(crate) model: Option<String>,
    /// Time between two messages of each periodic stream, such as `1s` or `200ms`
    #[arg(long, value_name = "TIME", env = "SIMCTL_INTERVAL", value_parser = interval)]
    pub(crate) interval: Option<Span>,
    /// Quality of service of each stream: 0, 1 or 2
    #[arg(long, value_name = "QOS", env = "SIMCTL_QOS", value_parser = qos)]
    pub(crate) qos: Option<Qos>,
    /// The broker, `mqtt://HOST:PORT` [default: the document's, else one of its own on this machine]
    #[arg(long, value_name = "URL", env = "SIMCTL_BROKER")]
    pub(crate) broker: Option<BrokerUrl>,
    /// The user name, a template such as `{id}`
    #[arg(long, value_name = "NAME", env = "SIMCTL_USERNAME")]
    pub(crate) username: Option<String>,
    /// A file that holds the password
    #[arg(long, value_name = "FILE", env = "SIMCTL_PASSWORD_FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// The same seed gives the same devices, timetables and values
    #[arg(long, value_name = "N", env = "SIMCTL_SEED")]
    pub(crate) seed: Option<u64>,
    /// How many devices connect a second, such as `500/s`
    #[arg(long, value_name = "RATE", env = "SIMCTL_CONNECT_RATE")]
    pub(crate) connect_rate: Option<Rate>,
    /// Whose messages are followed to their delivery
    #[arg(long, value_name = "WHICH", env = "SIMCTL_OBSERVE", value_parser = observe())]
    pub(crate) observe: Option<Observe>,
}

/// Which of the runs on this machine.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct RunFlag {
    /// The run that is meant, when there are several: a fleet's name or a process id
    #[arg(long, value_name = "NAME|PID", env = "SIMCTL_RUN")]
    pub(crate) run: Option<String>,
}

/// Where the fleet runs, and which one is meant.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct TargetFlags {
    /// Where the fleet runs [default: on this machine if a run answers, else in the cluster of the current context]
    #[arg(long, value_name = "WHERE", env = "SIMCTL_TARGET")]
    pub(crate) target: Option<Place>,
    #[command(flatten)]
    pub(crate) run: RunFlag,
    #[command(flatten)]
    pub(crate) cluster: ClusterFlags,
}

/// Which cluster, and which namespace of it; the flags of kubectl.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct ClusterFlags {
    /// The namespace [default: the context's]
    #[arg(short, long, value_name = "NAME", help_heading = CLUSTER)]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", help_heading = CLUSTER)]
    pub(crate) context: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE", help_heading = CLUSTER)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

const CLUSTER: &str = "Cluster";

impl ClusterFlags {
    /// Whether anything was said about the cluster.
    pub(crate) const fn is_given(&self) -> bool {
        let Self { namespace, context, kubeconfig } = self;
        namespace.is_some() || context.is_some() || kubeconfig.is_some()
    }
}

/// A length of time that is not zero.
pub(crate) fn interval(text: &str) -> Result<Span, String> {
    match text.parse::<Span>() {
        Ok(Span::ZERO) => Err("expected more than no time, found `0s`".into()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

fn qos(text: &str) -> Result<Qos, String> {
    text.parse::<u8>().map_err(|_| format!("expected a QoS of 0, 1 or 2, found `{text}`")).and_then(Qos::try_from)
}

fn observe() -> impl TypedValueParser<Value = Observe> {
    PossibleValuesParser::new(["all", "sample", "none"]).map(|which| match which.as_str() {
        "all" => Observe::All,
        "sample" => Observe::Sample,
        _ => Observe::None,
    })
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
    fn every_verb_shows_examples() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("simctl "), "{} has no example", verb.get_name());
        }
    }

    #[test]
    fn an_interval_is_more_than_nothing() {
        assert!(interval("0s").is_err() && interval("soon").is_err());
        assert_eq!(interval("200ms"), Ok(Span::from_millis(200)));
    }
}
