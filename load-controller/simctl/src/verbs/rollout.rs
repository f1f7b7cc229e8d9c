//! `simctl rollout`: how a new document or image reaches the pods, its history, and the way back.

use std::time::Duration;

use fleet_contract::units::Span;
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::ConfigMap};
use kube::{
    ResourceExt as _,
    api::{ListParams, PostParams},
};
use load_controller::{
    resource::{
        Fleet,
        names::{self, FLEET_LABEL},
    },
    run::verdict::ExitCode,
    words,
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    cluster::{
        FIELD_MANAGER,
        client::{Cluster, ClusterError},
        fleets::FleetName,
        hindrance, revision,
        revision::Revision,
        settle::{Progress, TESTED, is_tested, reasons},
        table::age,
    },
    flags::ClusterFlags,
    printer::{Format, Printer, columns},
};

const EXAMPLES: &str = "\
Examples:
  simctl rollout status                         waits until every pod runs the newest document
  simctl rollout history fleet/robotaxis
  simctl rollout undo fleet/robotaxis           back to the document before
  simctl rollout undo --to-revision 3
  simctl rollout restart";

/// Follow, list, undo or repeat the roll-out of a fleet's document
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, clap::Subcommand)]
enum Step {
    /// Wait until every pod runs the newest document
    #[command(after_help = EXAMPLES)]
    Status(Status),
    /// List the documents that the fleet has had
    #[command(after_help = EXAMPLES)]
    History(History),
    /// Bring an earlier document back; devices, pause and intervals stay as they are
    #[command(after_help = EXAMPLES)]
    Undo(Undo),
    /// Start every pod anew, one after the other
    #[command(after_help = EXAMPLES)]
    Restart(Restart),
}

#[derive(Debug, clap::Args)]
struct Status {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`
    fleet: Option<FleetName>,
    /// Do not wait: say how it stands
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "10m")]
    timeout: Span,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Debug, clap::Args)]
struct History {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`
    fleet: Option<FleetName>,
    /// Show this revision's specification
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Debug, clap::Args)]
struct Undo {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`
    fleet: Option<FleetName>,
    /// The revision to go back to [default: the one before]
    #[arg(long, value_name = "N")]
    to_revision: Option<u64>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Debug, clap::Args)]
struct Restart {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`
    fleet: Option<FleetName>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Args {
    /// Does the step.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        match self.step {
            Step::Status(step) => step.run(printer).await,
            Step::History(step) => step.run(printer).await,
            Step::Undo(step) => step.run(printer).await,
            Step::Restart(step) => step.run(printer).await,
        }?;
        Ok(ExitCode::Passed)
    }
}

impl Status {
    async fn run(self, printer: Printer) -> anyhow::Result<()> {
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let name = cluster.fleet(self.fleet.as_ref()).await?.name_any();
        let started = Instant::now();
        let mut progress = Progress::new(printer);
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            ticks.tick().await;
            let fleet = cluster.fleet_named(&name).await?;
            let set = cluster.ask_for(cluster.api::<StatefulSet>().get(&names::workers(&name))).await?;
            let (is_done, line) = rollout(&fleet, set.as_ref());
            if is_done || self.no_wait {
                progress.clear();
                return Ok(printer.data(line)?);
            }
            progress.show(&[line]);
            if started.elapsed() >= self.timeout.as_duration() {
                progress.clear();
                let found = hindrance::find(&cluster.observe(&fleet).await?);
                anyhow::bail!("fleet {name} was not rolled out after {}{}", self.timeout, reasons(&found));
            }
        }
    }
}

/// Whether every pod runs the newest document, and a line about it.
fn rollout(fleet: &Fleet, set: Option<&StatefulSet>) -> (bool, String) {
    let name = fleet.name_any();
    let status = fleet.status.clone().unwrap_or_default();
    if status.observed_generation < fleet.metadata.generation {
        if is_tested(&fleet.status.clone().unwrap_or_default()) {
            return (false, format!("fleet {name}: {TESTED}"));
        }
        return (false, format!("fleet {name}: the load controller has not looked at the change yet"));
    }
    let Some(set) = set else {
        return (fleet.devices() == 0, format!("fleet {name}: there are no pods"));
    };
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    let found = set.status.clone().unwrap_or_default();
    let is_seen = found.observed_generation >= set.metadata.generation;
    // Where nothing is under way, Kubernetes leaves the count of updated pods out.
    let is_settled = found.update_revision == found.current_revision;
    let updated = found.updated_replicas.unwrap_or(if is_settled { wanted } else { 0 });
    let ready = found.ready_replicas.unwrap_or(0);
    let of = |count: i32| format!("{count} of {wanted}");
    if is_seen && updated >= wanted && ready >= wanted && found.replicas == wanted {
        return (true, format!("fleet {name}: {} pods run revision {} and are ready", of(wanted), status.revision));
    }
    (false, format!("fleet {name}: {} pods updated, {} ready", of(updated), of(ready)))
}

impl History {
    async fn run(self, printer: Printer) -> anyhow::Result<()> {
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let fleet = cluster.fleet(self.fleet.as_ref()).await?;
        let history = revisions(&cluster, &fleet.name_any()).await?;
        if let Some(number) = self.revision {
            let revision = revision::choose(&history, number, Some(number))?;
            return printer.value(Format::Yaml, &revision.spec, String::new);
        }
        let current = fleet.status.as_ref().map_or(0, |status| status.revision);
        Ok(printer.data(table(&history, current, Timestamp::now(), printer))?)
    }
}

fn table(history: &[Revision], current: u64, now: Timestamp, printer: Printer) -> String {
    let mut rows = vec![["REVISION", "AGE", "CONFIGMAP", "CHANGED"].map(String::from).to_vec()];
    for (position, revision) in history.iter().enumerate() {
        let changed = match position.checked_sub(1).map(|before| &history[before]) {
            Some(before) => revision::changes(&before.spec, &revision.spec).join(", "),
            None => "-".into(),
        };
        let mark = if revision.number == current { " (current)" } else { "" };
        rows.push(vec![
            format!("{}{mark}", revision.number),
            age(revision.created.as_ref(), now),
            revision.config_map.clone(),
            changed,
        ]);
    }
    columns(printer.palette(), &[], &rows)
}

async fn revisions(cluster: &Cluster, fleet: &str) -> Result<Vec<Revision>, ClusterError> {
    let params = ListParams::default().labels(&format!("{FLEET_LABEL}={fleet}"));
    Ok(revision::history(&cluster.ask(cluster.api::<ConfigMap>().list(&params)).await?.items))
}

impl Undo {
    async fn run(self, printer: Printer) -> anyhow::Result<()> {
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let name = cluster.fleet(self.fleet.as_ref()).await?.name_any();
        let history = revisions(&cluster, &name).await?;
        let current = cluster.fleet_named(&name).await?.status.map_or(0, |status| status.revision);
        let revision = revision::choose(&history, current, self.to_revision)?;
        let changed = loop {
            let mut fleet = cluster.fleet_named(&name).await?;
            let spec = revision::restored(fleet.spec.written(), &revision.spec);
            let changed = revision::changes(fleet.spec.written(), &spec);
            if changed.is_empty() {
                break changed;
            }
            fleet.spec = spec.into();
            let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
            match cluster.ask(cluster.fleets().replace(&name, &params, &fleet)).await {
                // Somebody else was faster: what they wrote is to be seen first.
                Err(error) if error.is_conflict() => {}
                answer => {
                    answer.map_err(ClusterError::of_document)?;
                    break changed;
                }
            }
        };
        let number = revision.number;
        if changed.is_empty() {
            printer.say(format_args!("fleet {name} is as revision {number} has it already"));
        } else {
            printer.say(format_args!("fleet {name} goes back to revision {number}: {}", changed.join(", ")));
            printer.say("`simctl rollout status` follows it");
        }
        Ok(())
    }
}

impl Restart {
    async fn run(self, printer: Printer) -> anyhow::Result<()> {
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let fleet = cluster.fleet(self.fleet.as_ref()).await?;
        let name = fleet.name_any();
        let now = Timestamp::now().to_string();
        // As `kubectl rollout restart` does, by its own annotation: keys of ours are the load controller's.
        let patch = json!({ "pod": { "annotations": { "kubectl.kubernetes.io/restartedAt": now } } });
        cluster.change(&name, None, |_| Ok(patch.clone())).await?;
        let pods = words::counted(fleet.status.map_or(0, |status| status.pods).into(), "pod", "pods");
        printer.say(format_args!(
            "fleet {name}: {pods} start anew, one after the other; `simctl rollout status` follows it"
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(status: &Value, set: Option<&Value>, expected: (bool, &str)) {
        let fleet = serde_json::from_value(json!({
            "apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "a", "generation": 2},
            "spec": {"devices": 5}, "status": status,
        }))
        .unwrap();
        let set = set.map(|status| {
            let object = json!({
                "metadata": {"generation": 4},
                "spec": {"replicas": 3, "selector": {}, "serviceName": "a", "template": {}}, "status": status,
            });
            serde_json::from_value::<StatefulSet>(object).unwrap()
        });
        let (is_done, line) = rollout(&fleet, set.as_ref());
        assert_eq!((is_done, line.as_str()), expected);
    }

    #[test]
    fn a_rollout_is_done_when_every_pod_is_new_and_ready() {
        let seen = json!({"observedGeneration": 2, "revision": 7});
        let done = json!({"observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3});
        check(&seen, Some(&done), (true, "fleet a: 3 of 3 pods run revision 7 and are ready"));
        let half = json!({"observedGeneration": 4, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 3});
        check(&seen, Some(&half), (false, "fleet a: 2 of 3 pods updated, 3 of 3 ready"));
        let old = json!({"observedGeneration": 3, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3});
        check(&seen, Some(&old), (false, "fleet a: 3 of 3 pods updated, 3 of 3 ready"));
    }

    #[test]
    fn a_change_that_nobody_looked_at_is_not_rolled_out() {
        let unseen = json!({"observedGeneration": 1});
        check(&unseen, None, (false, "fleet a: the load controller has not looked at the change yet"));
        check(&json!({"observedGeneration": 2}), None, (false, "fleet a: there are no pods"));
    }
}
