//! Which fleet is meant: that of a run on this machine, or one of a cluster. One rule for all verbs.
//!
//! The local run if its socket answers, else the current context if it knows Fleets. `--target` overrides; a flag that
//! only one of the two can have (`--run`; `-n`, `--context`, `--kubeconfig`) means that one. The choice is always said.

use super::client::Cluster;
use crate::{
    exit::Failure,
    flags::{Place, RunFlag, TargetFlags},
    local::{control::Remote, socket},
    printer::Printer,
};

/// The fleet's whereabouts, found.
pub(crate) enum Target {
    /// A run on this machine.
    Local(Remote),
    /// A cluster; which of its fleets is the verb's question.
    Cluster(Cluster),
}

impl Target {
    /// Finds it, and says what was found. A fleet's name chooses among the runs of this machine, too.
    pub(crate) async fn find(flags: &TargetFlags, fleet: Option<&str>, printer: Printer) -> anyhow::Result<Self> {
        let has_run = !socket::list().await.is_empty();
        match decide(flags, has_run)? {
            Decision::Local => {
                let run = flags.run.run.clone().or_else(|| fleet.map(String::from));
                let remote = Remote::find(&RunFlag { run }).await?;
                printer.say(format_args!("local run {}, process {}", remote.fleet(), remote.pid()));
                Ok(Self::Local(remote))
            }
            Decision::Cluster => Ok(Self::Cluster(Cluster::find(&flags.cluster, printer).await?)),
            Decision::Probe => match probe(flags).await {
                Ok(cluster) => {
                    printer.say(cluster.title());
                    Ok(Self::Cluster(cluster))
                }
                Err(why) => anyhow::bail!(
                    "no fleet is running on this machine; start one with `simctl run`, in another terminal; \
                     nor is there one in a cluster: {why}"
                ),
            },
        }
    }
}

impl Target {
    /// The same for a verb of this machine alone; `why` refuses a cluster.
    pub(crate) async fn find_local(
        flags: &TargetFlags,
        fleet: Option<&str>,
        printer: Printer,
        why: &str,
    ) -> anyhow::Result<Remote> {
        match Self::find(flags, fleet, printer).await? {
            Self::Local(remote) => Ok(remote),
            Self::Cluster(_) => Err(Failure::usage(why).into()),
        }
    }
}

/// What the flags and the sockets of this machine say.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// The run on this machine, or the error that there is none.
    Local,
    /// The cluster, or the error that it does not answer.
    Cluster,
    /// The cluster if it knows Fleets.
    Probe,
}

fn decide(flags: &TargetFlags, has_run: bool) -> Result<Decision, Failure> {
    let TargetFlags { target, run, cluster } = flags;
    let (names_run, names_cluster) = (run.run.is_some(), cluster.is_given());
    match target {
        Some(Place::Local) if names_cluster => {
            Err(Failure::usage("expected no --namespace, --context or --kubeconfig beside --target local, found one"))
        }
        Some(Place::Cluster) if names_run => {
            Err(Failure::usage("expected no --run beside --target cluster, found one"))
        }
        None if names_run && names_cluster => {
            Err(Failure::usage("expected a run of this machine (--run) or a cluster (--context, -n), found both"))
        }
        Some(Place::Local) => Ok(Decision::Local),
        Some(Place::Cluster) => Ok(Decision::Cluster),
        None if names_run => Ok(Decision::Local),
        None if names_cluster => Ok(Decision::Cluster),
        None if has_run => Ok(Decision::Local),
        None => Ok(Decision::Probe),
    }
}

/// The cluster of the current context if it knows Fleets, or why not.
async fn probe(flags: &TargetFlags) -> Result<Cluster, String> {
    let cluster = Cluster::new(&flags.cluster).await.map_err(|error| error.to_string())?;
    match cluster.knows_fleets().await {
        Ok(true) => Ok(cluster),
        Ok(false) => Err(format!("that of context {} knows no Fleets; `simctl install` teaches it", cluster.context())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::ClusterFlags;

    fn flags(target: Option<Place>, run: Option<&str>, namespace: Option<&str>) -> TargetFlags {
        TargetFlags {
            target,
            run: RunFlag { run: run.map(String::from) },
            cluster: ClusterFlags { namespace: namespace.map(String::from), ..ClusterFlags::default() },
        }
    }

    #[track_caller]
    fn check(flags: &TargetFlags, has_run: bool, expected: &Decision) {
        assert_eq!(decide(flags, has_run).as_ref().ok(), Some(expected));
    }

    #[test]
    fn a_run_on_this_machine_comes_first() {
        check(&flags(None, None, None), true, &Decision::Local);
        check(&flags(None, None, None), false, &Decision::Probe);
    }

    #[test]
    fn the_flag_overrides() {
        check(&flags(Some(Place::Cluster), None, None), true, &Decision::Cluster);
        check(&flags(Some(Place::Local), None, None), false, &Decision::Local);
    }

    #[test]
    fn what_only_one_of_them_has_means_that_one() {
        check(&flags(None, None, Some("load")), true, &Decision::Cluster);
        check(&flags(None, Some("demo"), None), false, &Decision::Local);
    }

    #[test]
    fn contradictions_are_refused() {
        for flags in [
            flags(Some(Place::Local), None, Some("load")),
            flags(Some(Place::Cluster), Some("demo"), None),
            flags(None, Some("demo"), Some("load")),
        ] {
            let failure = decide(&flags, true).unwrap_err();
            assert_eq!(failure.code, load_controller::run::verdict::ExitCode::Usage, "{failure}");
        }
    }
}
