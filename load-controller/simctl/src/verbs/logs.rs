//! `simctl logs`: what the pods of a fleet write, side by side.

use std::{collections::HashSet, time::Duration};

use clap::ValueEnum;
use fleet_contract::units::Span;
use futures::{
    AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{ResourceExt as _, api::LogParams};
use load_controller::{resource::names::WORKER_CONTAINER, run::verdict::ExitCode};
use tokio::signal::ctrl_c;

use crate::{
    cluster::{client::Cluster, fleets::FleetName},
    exit::Failure,
    flags::ClusterFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl logs                             of all pods of the only fleet
  simctl logs fleet/robotaxis -f --tail 10
  simctl logs --pod robotaxis-3 --previous
  simctl logs --of broker";

/// Print what the pods of a fleet write
///
/// Each line begins with its pod where there are several. With `-f` pods that come later are followed, too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`
    fleet: Option<FleetName>,
    /// Go on as lines come, until you end it
    #[arg(short, long, conflicts_with = "previous")]
    follow: bool,
    /// Only the last lines of each pod
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    tail: Option<i64>,
    /// Only lines that are younger, such as `5m`
    #[arg(long, value_name = "TIME")]
    since: Option<Span>,
    /// Only this pod
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// Which pods
    #[arg(long, value_name = "WHICH", default_value = "workers")]
    of: Which,
    /// Of the container before the last restart
    #[arg(short, long)]
    previous: bool,
    /// With the time of each line
    #[arg(long)]
    timestamps: bool,
    /// How many pods may be followed at once
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_pods: usize,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Those that run devices
    Workers,
    /// The broker's
    Broker,
}

impl Which {
    const fn component(self) -> &'static str {
        match self {
            Self::Workers => "worker",
            Self::Broker => "broker",
        }
    }

    const fn container(self) -> &'static str {
        match self {
            Self::Workers => WORKER_CONTAINER,
            Self::Broker => "broker",
        }
    }
}

/// How many pods are asked at once, where the order is kept.
const ASKED_AT_ONCE: usize = 8;
/// How often new pods are looked for.
const LOOK: Duration = Duration::from_secs(2);

type Lines = BoxStream<'static, std::io::Result<String>>;

impl Args {
    /// Prints the lines, pod by pod or as they come.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let name = cluster.fleet(self.fleet.as_ref()).await?.name_any();
        let pods = self.pods(&cluster, &name).await?;
        let has_prefix = self.pod.is_none() && pods.len() > 1;
        if self.follow {
            self.follow(&cluster, &name, printer).await?;
        } else {
            self.print(&cluster, pods, has_prefix, printer).await?;
        }
        Ok(ExitCode::Passed)
    }

    async fn pods(&self, cluster: &Cluster, fleet: &str) -> anyhow::Result<Vec<Pod>> {
        let mut pods = cluster.pods_of(fleet).await?;
        let component = Some(self.of.component());
        pods.retain(|pod| pod.labels().get("app.kubernetes.io/component").map(String::as_str) == component);
        if let Some(wanted) = &self.pod {
            pods.retain(|pod| pod.name_any() == *wanted);
            anyhow::ensure!(
                !pods.is_empty(),
                "there is no pod {wanted} of fleet {fleet}; `simctl describe` lists them"
            );
        }
        Ok(pods)
    }

    async fn print(&self, cluster: &Cluster, pods: Vec<Pod>, has_prefix: bool, printer: Printer) -> anyhow::Result<()> {
        if pods.is_empty() {
            printer.say("there are no pods; `simctl describe` says why");
        }
        let asked = pods.iter().map(|pod| async {
            let name = pod.name_any();
            let text = cluster.ask(cluster.api::<Pod>().logs(&name, &self.params())).await;
            (name, text)
        });
        let mut answers = stream::iter(asked).buffered(ASKED_AT_ONCE);
        while let Some((name, text)) = answers.next().await {
            match text {
                Ok(text) => {
                    for line in text.lines() {
                        printer.data(with_prefix(has_prefix.then_some(&name), line))?;
                    }
                }
                // Of many pods, one that has not started yet is no reason to hide the others.
                Err(error) if has_prefix => printer.warn(format_args!("{name}: {error}")),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn follow(&self, cluster: &Cluster, fleet: &str, printer: Printer) -> anyhow::Result<()> {
        let mut followed = HashSet::new();
        let mut lines: SelectAll<Lines> = SelectAll::new();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    for pod in self.pods(cluster, fleet).await? {
                        let Some(life) = life(&pod, self.of.container()) else { continue };
                        if followed.contains(&life) {
                            continue;
                        }
                        if lines.len() >= self.max_pods {
                            let expected = self.max_pods;
                            return Err(Failure::usage(format!(
                                "expected at most {expected} pods to follow, found more; choose one with --pod, or raise --max-pods"
                            ))
                            .into());
                        }
                        lines.push(self.open(cluster, &pod).await?);
                        followed.insert(life);
                    }
                }
                Some(line) = lines.next(), if !lines.is_empty() => match line {
                    Ok(line) => printer.data(line)?,
                    Err(error) => printer.warn(format_args!("a log broke off: {error}")),
                },
                pressed = ctrl_c() => { pressed?; return Ok(()); }
            }
        }
    }

    async fn open(&self, cluster: &Cluster, pod: &Pod) -> anyhow::Result<Lines> {
        let name = pod.name_any();
        let api = cluster.api::<Pod>();
        let stream = cluster.ask(api.log_stream(&name, &self.params())).await?;
        let prefix = self.pod.is_none().then_some(name);
        let lines = futures::io::BufReader::new(stream).lines();
        Ok(lines.map_ok(move |line| with_prefix(prefix.as_ref(), &line)).boxed())
    }

    fn params(&self) -> LogParams {
        LogParams {
            container: Some(self.of.container().into()),
            follow: self.follow,
            previous: self.previous,
            since_seconds: self
                .since
                .map(|since| i64::try_from(since.as_duration().as_secs()).unwrap_or(i64::MAX).max(1)),
            tail_lines: self.tail,
            timestamps: self.timestamps,
            ..LogParams::default()
        }
    }
}

fn with_prefix(pod: Option<&String>, line: &str) -> String {
    pod.map_or_else(|| line.to_owned(), |pod| format!("[{pod}] {line}"))
}

/// A container's life, which has a log of its own; none while it does not run.
fn life(pod: &Pod, container: &str) -> Option<(String, i32)> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let is_running = |status: &&ContainerStatus| {
        status.name == container && status.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    let status = statuses.iter().find(is_running)?;
    Some((pod.uid()?, status.restart_count))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(state: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a-0", "uid": "u"}, "status": {"containerStatuses": [
            {"name": "device-sim", "image": "i", "imageID": "", "ready": false, "restartCount": 2, "state": state},
        ]}}))
        .unwrap()
    }

    #[test]
    fn each_life_of_a_container_has_a_log_of_its_own() {
        assert_eq!(life(&pod(&json!({"running": {}})), "device-sim"), Some(("u".into(), 2)));
        assert_eq!(life(&pod(&json!({"waiting": {"reason": "CrashLoopBackOff"}})), "device-sim"), None);
        assert_eq!(life(&pod(&json!({"running": {}})), "broker"), None);
    }

    #[test]
    fn lines_of_several_pods_can_be_told_apart() {
        assert_eq!(with_prefix(Some(&"a-0".into()), "hello"), "[a-0] hello");
        assert_eq!(with_prefix(None, "hello"), "hello");
    }
}
