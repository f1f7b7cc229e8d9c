//! What can be typed after `load-controller`, and what it means.

use std::net::SocketAddr;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use fleet_contract::allowed::AllowedBrokers;
use load_controller::{
    controller::{Settings, plan::Images},
    limits::Limits,
    resource::{broker::Storage, crd},
};

const EXAMPLES: &str = "\
Examples:
  load-controller run                              look after the fleets of all namespaces
  load-controller run --watch-namespaces a,b       only of these
  load-controller run --leader-election=false      the only controller there is
  load-controller crd | kubectl apply -f -         define the kinds Fleet and FleetQuery

Exit codes: 0 stopped as asked, 1 failed, 2 wrong flags.";

/// Turns Fleets into workloads of a Kubernetes cluster
///
/// In a pod it finds the cluster by its service account, elsewhere by KUBECONFIG.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look after fleets until SIGTERM
    Run(Box<Run>),
    /// Print the CustomResourceDefinitions as YAML
    Crd {
        /// One of them [default: all]
        #[arg(value_enum)]
        kind: Option<crd::Kind>,
    },
    /// Print the version
    Version,
}

/// How to look after fleets.
#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// The controller's own namespace, where its Lease is
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = "simctl-system")]
    pub(crate) namespace: String,
    /// Namespaces with fleets, with commas between them [default: all]
    #[arg(long, value_name = "NAMES", env = "SIMCTL_WATCH_NAMESPACES", value_delimiter = ',')]
    pub(crate) watch_namespaces: Vec<String>,
    /// Image of the workers, for fleets that name none
    #[arg(long, value_name = "IMAGE", env = "SIMCTL_WORKER_IMAGE", default_value = concat!("ghcr.io/simctl/device-sim:", env!("CARGO_PKG_VERSION")))]
    pub(crate) worker_image: String,
    /// Image of the broker, for fleets that name no broker
    #[arg(long, value_name = "IMAGE", env = "SIMCTL_BROKER_IMAGE", default_value = concat!("ghcr.io/simctl/broker:", env!("CARGO_PKG_VERSION")))]
    pub(crate) broker_image: String,
    /// When nodes ask the registry for images [default: Kubernetes decides by the tag]
    #[arg(long, value_name = "POLICY", env = "SIMCTL_IMAGE_PULL_POLICY")]
    pub(crate) image_pull_policy: Option<PullPolicy>,
    /// Claim volumes of this size for new brokers, such as 1Gi [default: the pod's own]
    #[arg(long, value_name = "QUANTITY", env = "SIMCTL_BROKER_STORAGE")]
    pub(crate) broker_storage: Option<String>,
    /// Storage class of these claims [default: the cluster's]
    #[arg(long, value_name = "NAME", env = "SIMCTL_BROKER_STORAGE_CLASS", requires = "broker_storage")]
    pub(crate) broker_storage_class: Option<String>,
    /// Where brokers of fleets may be: hosts, such as *.example, and networks, such as 10.0.0.0/8, with commas between
    /// them [default: anywhere]
    ///
    /// Addresses of the pod, its node and the platform are refused unless a network of their own is named.
    #[arg(long, value_name = "RULES", env = "SIMCTL_LIMIT_BROKERS", default_value = "", hide_default_value = true)]
    pub(crate) limit_brokers: AllowedBrokers,
    /// Devices that the fleets of a namespace may have together, older fleets first [default: no limit]
    #[arg(long, value_name = "N", env = "SIMCTL_LIMIT_DEVICES_PER_NAMESPACE")]
    pub(crate) limit_devices_per_namespace: Option<u32>,
    /// Messages a second that the fleets of a namespace may send together, older fleets first [default: no limit]
    #[arg(long, value_name = "N", env = "SIMCTL_LIMIT_MESSAGES_PER_SECOND")]
    pub(crate) limit_messages_per_second: Option<u32>,
    /// Address for metrics and health over HTTP
    #[arg(long, value_name = "ADDRESS:PORT", env = "SIMCTL_LISTEN", default_value = "[::]:8080",
          value_parser = fleet_contract::listen::parse)]
    pub(crate) listen: SocketAddr,
    /// Whether controllers elect one of them by a Lease
    #[arg(long, value_name = "BOOL", env = "SIMCTL_LEADER_ELECTION", default_value_t = true, num_args = 0..=1,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) leader_election: bool,
    /// Who this controller is: the name of its pod
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "load-controller")]
    pub(crate) identity: String,
    /// What is logged to stderr, as for the crate tracing: info, debug
    #[arg(long, value_name = "FILTER", env = "SIMCTL_LOG", default_value = "info")]
    pub(crate) log: String,
}

/// When a node asks the registry for an image.
#[derive(Debug, Clone, Copy, ValueEnum, strum::IntoStaticStr)]
#[value(rename_all = "PascalCase")]
pub(crate) enum PullPolicy {
    /// At every start of a container
    Always,
    /// When the node does not have the image
    IfNotPresent,
    /// Never: the node must have it
    Never,
}

impl Run {
    /// What is meant.
    pub(crate) fn settings(&self) -> Settings {
        let namespaces = self.watch_namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        Settings {
            namespaces: namespaces.map(Into::into).collect(),
            images: Images {
                worker: self.worker_image.clone(),
                broker: self.broker_image.clone(),
                pull_policy: self.image_pull_policy.map(|policy| <&str>::from(policy).to_owned()),
            },
            storage: self.broker_storage.clone().map(|size| Storage { size, class: self.broker_storage_class.clone() }),
            limits: Limits {
                brokers: self.limit_brokers.clone(),
                devices_per_namespace: self.limit_devices_per_namespace,
                messages_per_second: self.limit_messages_per_second,
            },
            identity: self.identity.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn run(flags: &[&str]) -> Run {
        let typed = ["load-controller", "run"].iter().chain(flags);
        match Args::try_parse_from(typed).unwrap().command {
            Command::Run(run) => *run,
            other => panic!("expected run, found {other:?}"),
        }
    }

    #[test]
    fn the_command_is_well_formed_and_every_flag_has_a_variable() {
        let command = Args::command();
        command.clone().debug_assert();
        let run = command.find_subcommand("run").unwrap();
        for flag in run.get_arguments().filter(|flag| flag.get_long().is_some() && flag.get_id() != "help") {
            assert!(flag.get_env().is_some(), "{} has no variable", flag.get_id());
        }
    }

    #[test]
    fn what_is_typed_is_what_is_meant() {
        let settings = run(&["--watch-namespaces", "a, b,", "--image-pull-policy", "IfNotPresent"]).settings();
        assert_eq!(settings.namespaces, ["a", "b"]);
        assert_eq!(settings.images.pull_policy.as_deref(), Some("IfNotPresent"));
        let storage = run(&["--broker-storage", "1Gi", "--broker-storage-class=fast"]).settings().storage.unwrap();
        assert_eq!((storage.size.as_str(), storage.class.as_deref()), ("1Gi", Some("fast")));
        let limits =
            run(&["--limit-brokers=10.0.0.0/8,*.example", "--limit-devices-per-namespace=0"]).settings().limits;
        assert_eq!(
            (limits.brokers.to_string().as_str(), limits.devices_per_namespace),
            ("10.0.0.0/8,*.example", Some(0))
        );
        assert_eq!(run(&[]).settings().limits, Limits::default());
        assert!(run(&[]).leader_election && !run(&["--leader-election=false"]).leader_election);
    }
}
