//! `simctl install`: brings the load controller into a cluster.

use std::time::Duration;

use fleet_contract::units::Span;
use images::{REGISTRY, TAG};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Node, Pod},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use load_controller::{resource::names::CONTROLLER, run::verdict::ExitCode, words};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::{
    cluster::{
        client::{Cluster, ClusterError},
        helm::Release,
        hindrance::{self, Observed},
        objects::{DryRun, Manner, trial},
        settle::{Progress, reasons},
    },
    exit::Failure,
    flags::ClusterFlags,
    installation::{self, Choice, NAMESPACE, PROMETHEUS_OPERATOR, STACK, kind, name},
    library,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl install
  simctl install --demo                                a fleet of 100 devices, too
  simctl install --monitoring                          monitors and alerts for the Prometheus Operator, too
  simctl install -n load-testing --image-registry registry.example/team
  simctl install --dry-run=server";

/// Bring the load controller into a cluster
///
/// Applies the same objects as the Helm chart does with its defaults, and waits until the controller is available.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A fleet to play with, too: 100 mixed devices and a broker of their own
    #[arg(long)]
    demo: bool,
    /// Monitors and alerts for the Prometheus Operator, too; the dashboards for Grafana come in any case
    #[arg(long)]
    monitoring: bool,
    /// The registry that the names of the images begin with
    #[arg(long, value_name = "NAME", default_value = REGISTRY, env = "SIMCTL_IMAGE_REGISTRY")]
    image_registry: String,
    /// The tag of the images
    #[arg(long, value_name = "TAG", default_value = TAG, env = "SIMCTL_IMAGE_TAG")]
    image_tag: String,
    /// When nodes ask the registry
    #[arg(long, value_name = "WHEN", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// Only try: what would be applied
    #[arg(long, value_name = "HOW")]
    dry_run: Option<DryRun>,
    /// Do not wait until the controller is available
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "3m")]
    timeout: Span,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Args {
    /// Applies all objects, waits, and says what can be done next.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let choice = Choice {
            namespace: self.cluster.namespace.clone().unwrap_or_else(|| NAMESPACE.into()),
            registry: self.image_registry.clone(),
            tag: self.image_tag.clone(),
            pull_policy: self.image_pull_policy.clone(),
        };
        let objects = installation::objects(&choice)?;
        let here = Cluster::new(&ClusterFlags { namespace: None, ..self.cluster.clone() }).await?;
        let cluster = here.within(&choice.namespace);
        printer.say(cluster.title());
        refuse_other_owners(&cluster).await?;
        refuse_missing_images(&cluster, &objects, &choice).await?;
        for object in &objects {
            self.apply(&cluster, object, printer).await?;
        }
        if self.monitoring {
            self.monitor(&cluster, &choice, printer).await?;
        }
        if self.dry_run.is_some() {
            return Ok(ExitCode::Passed);
        }
        if !self.no_wait {
            self.wait(&cluster, printer).await?;
        }
        if self.demo {
            demo(&here, printer).await?;
        } else {
            printer.say("`simctl apply -f fleet.yaml` makes a fleet, `simctl example` shows documents");
        }
        Ok(ExitCode::Passed)
    }

    async fn apply(&self, cluster: &Cluster, object: &Value, printer: Printer) -> anyhow::Result<()> {
        // A namespace that somebody else has made stays theirs.
        if kind(object) == "Namespace"
            && cluster
                .ask_for(cluster.everywhere::<Namespace>().get(name(object)))
                .await?
                .is_some_and(|it| !is_ours(&it))
        {
            return Ok(());
        }
        let place = cluster.place(object).await?;
        if self.dry_run == Some(DryRun::Client) {
            return Ok(printer.data(format_args!("{} (dry run)", place.title()))?);
        }
        // The objects are the controller's own: what an earlier installation wrote is taken over.
        let manner = Manner { dry_run: self.dry_run, force: true };
        let (outcome, _) = match cluster.apply(&place, object, manner).await {
            // A trial makes no namespace, so nothing can be tried in it.
            Err(error) if self.dry_run.is_some() && error.is_not_found() => {
                return Ok(printer.data(format_args!("{} created (its namespace does not exist yet)", place.title()))?);
            }
            applied => applied?,
        };
        let trial = trial(self.dry_run);
        printer.data(format_args!("{} {}{trial}", place.title(), outcome.word()))?;
        if kind(object) == "CustomResourceDefinition" && self.dry_run.is_none() {
            established(cluster, name(object)).await?;
        }
        Ok(())
    }

    /// Applies the monitors and alerts that the cluster can have, and says what it lacks.
    async fn monitor(&self, cluster: &Cluster, choice: &Choice, printer: Printer) -> anyhow::Result<()> {
        let known = cluster.kinds(PROMETHEUS_OPERATOR).await?;
        let (mut present, absent): (Vec<_>, Vec<_>) =
            installation::monitors(choice)?.into_iter().partition(|object| known.iter().any(|it| it == kind(object)));
        if known.iter().any(|kind| kind == "Prometheus") {
            let labels = prometheus_labels(cluster).await?;
            present.iter_mut().for_each(|object| installation::label(object, &labels));
        }
        for object in &present {
            self.apply(cluster, object, printer).await?;
        }
        if !absent.is_empty() {
            let kinds: Vec<_> = absent.iter().map(kind).collect();
            printer.warn(format_args!(
                "the cluster knows no {} of {PROMETHEUS_OPERATOR}, so that no Prometheus finds the fleets; \
                 `{STACK}` brings the Prometheus Operator and Grafana, then `simctl install --monitoring` again",
                kinds.join(", ")
            ));
        }
        Ok(())
    }

    /// Waits until the controller is available, or cannot become so.
    async fn wait(&self, cluster: &Cluster, printer: Printer) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut progress = Progress::new(printer);
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            ticks.tick().await;
            let deployment = cluster.ask(cluster.api::<Deployment>().get(CONTROLLER)).await?;
            if is_available(&deployment) {
                progress.clear();
                let took = words::time(started.elapsed().as_secs_f64());
                printer.say(format_args!("the load controller is available after {took}"));
                return Ok(());
            }
            let found = self.hindrances(cluster).await?;
            let is_hopeless = found.iter().any(|hindrance| hindrance.contains("cannot get the image"));
            let mut lines = vec!["the load controller starts".to_owned()];
            lines.extend(found.iter().map(|hindrance| format!("  {hindrance}")));
            progress.show(&lines);
            let is_late = started.elapsed() >= self.timeout.as_duration();
            if is_late || is_hopeless {
                progress.clear();
                let after = words::time(started.elapsed().as_secs_f64());
                anyhow::bail!("the load controller is not available after {after}{}", reasons(&found));
            }
        }
    }

    async fn hindrances(&self, cluster: &Cluster) -> Result<Vec<String>, ClusterError> {
        let params = ListParams::default().labels(&format!("app.kubernetes.io/name={CONTROLLER}"));
        let pods = cluster.ask(cluster.api::<Pod>().list(&params)).await?.items;
        Ok(hindrance::find(&Observed { pods, ..Observed::default() }))
    }
}

fn is_ours(namespace: &Namespace) -> bool {
    namespace.labels().get("app.kubernetes.io/part-of").is_some_and(|part| part == "simctl")
}

fn is_available(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) >= wanted
            && status.available_replicas.unwrap_or(0) >= wanted
    })
}

/// One controller is enough for a cluster, and one that Helm has installed is Helm's.
async fn refuse_other_owners(cluster: &Cluster) -> anyhow::Result<()> {
    for controller in cluster.controllers().await? {
        let namespace = controller.namespace().unwrap_or_default();
        if let Some(release) = Release::of(&controller) {
            let Release { name, namespace } = &release;
            return Err(Failure::refused(format!(
                "this installation is Helm's release {name} in namespace {namespace}; use `helm upgrade {name} CHART \
                 --namespace {namespace}`, or hand it over: `helm uninstall {release}` leaves all fleets, \
                 then `simctl install -n {namespace}`"
            ))
            .into());
        }
        if namespace != cluster.namespace() {
            return Err(Failure::refused(format!(
                "there is a load controller in namespace {namespace}, and one is enough for a cluster; \
                 `simctl install -n {namespace}` renews it, `simctl uninstall -n {namespace}` removes it"
            ))
            .into());
        }
    }
    Ok(())
}

/// The labels by which the first Prometheus of the cluster finds monitors; none where it takes all of them.
async fn prometheus_labels(cluster: &Cluster) -> Result<Map<String, Value>, ClusterError> {
    let (group, version) = PROMETHEUS_OPERATOR.split_once('/').unwrap_or_default();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, "Prometheus"));
    let resource = ApiResource { plural: "prometheuses".into(), ..resource };
    let api: Api<DynamicObject> = Api::all_with(cluster.client().clone(), &resource);
    let found = cluster.ask(api.list(&ListParams::default())).await?.items;
    Ok(found.first().map(|prometheus| installation::selected_by(&prometheus.data)).unwrap_or_default())
}

async fn refuse_missing_images(cluster: &Cluster, objects: &[Value], choice: &Choice) -> anyhow::Result<()> {
    let nodes = match cluster.ask(cluster.everywhere::<Node>().list(&ListParams::default())).await {
        Ok(nodes) => nodes.items,
        // Whoever may not see the nodes sees later what they lack.
        Err(error) if error.is_forbidden() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let statuses = nodes.iter().filter_map(|node| node.status.as_ref());
    let images = statuses.flat_map(|status| status.images.iter().flatten());
    let present: Vec<String> = images.flat_map(|image| image.names.iter().flatten().cloned()).collect();
    let wanted = installation::images(objects);
    let missing: Vec<_> =
        installation::unavailable(&wanted, &present, choice).into_iter().map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "no node has {} and none can pull it; `simctl images build` and `simctl images load` bring the images to the nodes",
        missing.join(", ")
    ))
    .into())
}

/// Waits until the API server serves a kind that it was taught.
async fn established(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let definition = cluster.ask(cluster.everywhere::<CustomResourceDefinition>().get(name)).await?;
        let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
        if conditions.into_iter().flatten().any(|it| it.type_ == "Established" && it.status == "True") {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "the API server does not serve {name} after 30 s");
    }
}

/// The fleet of `simctl run`, in the namespace of the context.
async fn demo(cluster: &Cluster, printer: Printer) -> anyhow::Result<()> {
    let fleet: Value = serde_saphyr::from_str(library::EXAMPLES[0].1)?;
    let place = cluster.place(&fleet).await?;
    // One that is there may have been scaled since, and changed: it is somebody's.
    if cluster.fleet_named(&place.name).await.is_ok() {
        printer.data(format_args!("{} unchanged", place.title()))?;
        printer.say("it is there already, and stays as it is");
        return Ok(());
    }
    let (outcome, _) = cluster.apply(&place, &fleet, Manner::default()).await.map_err(ClusterError::of_document)?;
    printer.data(format_args!("{} {}", place.title(), outcome.word()))?;
    let namespace = cluster.namespace();
    printer.say(format_args!("in namespace {namespace}; `simctl get -w` watches it, `simctl scale 500` scales it"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_controller_is_available_when_its_newest_pods_are() {
        let deployment = |observed: i64, updated: i32, available: i32| {
            let object = json!({
                "metadata": {"generation": 2}, "spec": {"replicas": 2, "selector": {}, "template": {}},
                "status": {"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available},
            });
            serde_json::from_value::<Deployment>(object).unwrap()
        };
        assert!(is_available(&deployment(2, 2, 2)));
        assert!(!is_available(&deployment(1, 2, 2)) && !is_available(&deployment(2, 1, 2)));
        assert!(!is_available(&deployment(2, 2, 1)));
    }
}
