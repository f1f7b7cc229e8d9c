//! `simctl uninstall`: takes the load controller out of a cluster.

use std::{collections::BTreeSet, time::Duration};

use fleet_contract::units::Span;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use load_controller::{resource::Fleet, run::verdict::ExitCode, words};
use tokio::time::Instant;

use crate::{
    cluster::{
        client::Cluster,
        helm::Release,
        objects::{DryRun, Place, trial},
        settle::Progress,
    },
    exit::Failure,
    flags::ClusterFlags,
    installation::{self, Choice, NAMESPACE, PROMETHEUS_OPERATOR, kind, name},
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl uninstall                    fleets stay, without a controller
  simctl uninstall --all              and all fleets of the cluster
  simctl uninstall --dry-run=server";

/// Take the load controller out of a cluster
///
/// While there are fleets, the cluster goes on knowing what a Fleet is and who may write one, since to forget the kind
/// would remove them; `--all` removes them first.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Remove all fleets of the cluster, too
    #[arg(long)]
    all: bool,
    /// Only try: what would be removed
    #[arg(long, value_name = "HOW")]
    dry_run: Option<DryRun>,
    /// How long to wait until the fleets' pods, and the namespace, are gone
    #[arg(long, value_name = "TIME", default_value = "3m")]
    timeout: Span,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Args {
    /// Removes the objects, what others need at last.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let namespace = self.cluster.namespace.clone().unwrap_or_else(|| NAMESPACE.into());
        let choice = Choice { namespace: namespace.clone(), ..Choice::default() };
        let mut objects = installation::objects(&choice)?;
        let cluster = Cluster::new(&self.cluster).await?.within(namespace);
        printer.say(cluster.title());
        let elsewhere = refuse_helms(&cluster).await?;
        let mut fleets = if cluster.knows_fleets().await? { cluster.select(true, None).await? } else { Vec::new() };
        if self.all {
            self.remove_fleets(&cluster, &fleets, printer).await?;
            fleets.clear();
        }
        let trial = trial(self.dry_run);
        let known = cluster.kinds(PROMETHEUS_OPERATOR).await?;
        objects.extend(
            installation::monitors(&choice)?.into_iter().filter(|it| known.iter().any(|known| known == kind(it))),
        );
        for object in objects.iter().rev() {
            if installation::stays_with_fleets(object) && !fleets.is_empty() {
                printer.say(format_args!(
                    "{} stays because of {}; --all removes them, too",
                    name(object),
                    listed(&fleets)
                ));
                continue;
            }
            if let Some(other) = elsewhere.first().filter(|_| installation::is_shared(object)) {
                printer.say(format_args!("{} stays because of the load controller in namespace {other}", name(object)));
                continue;
            }
            if kind(object) == "Namespace" && !self.may_remove_namespace(&cluster, name(object), &fleets).await? {
                continue;
            }
            let place = cluster.place(object).await?;
            if cluster.remove(&place, self.dry_run).await? {
                printer.data(format_args!("{} deleted{trial}", place.title()))?;
                // These two end only when all is gone that they hold.
                if matches!(kind(object), "Namespace" | "CustomResourceDefinition") && self.dry_run.is_none() {
                    self.wait(&cluster, &place, printer).await?;
                }
            }
        }
        Ok(ExitCode::Passed)
    }

    /// Waits until an object is gone, and with it all that was in it.
    async fn wait(&self, cluster: &Cluster, place: &Place, printer: Printer) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut progress = Progress::new(printer);
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            if cluster.ask_for(place.api.get_metadata(&place.name)).await?.is_none() {
                progress.clear();
                return Ok(());
            }
            progress.show(&[format!("{} is being emptied", place.title())]);
            if started.elapsed() >= self.timeout.as_duration() {
                progress.clear();
                let title = place.title();
                anyhow::bail!("{title} was not gone after {}; `kubectl describe {title}` says why", self.timeout);
            }
            ticks.tick().await;
        }
    }

    /// A namespace that somebody else has made, or in which fleets are, stays.
    async fn may_remove_namespace(&self, cluster: &Cluster, name: &str, fleets: &[Fleet]) -> anyhow::Result<bool> {
        let found = cluster.ask_for(cluster.everywhere::<Namespace>().get(name)).await?;
        let is_ours =
            |it: &Namespace| it.labels().get("app.kubernetes.io/part-of").is_some_and(|part| part == "simctl");
        Ok(found.is_some_and(|it| is_ours(&it))
            && !fleets.iter().any(|fleet| fleet.namespace().as_deref() == Some(name)))
    }

    /// Removes all fleets while the API server still knows them, and waits until their pods are gone.
    async fn remove_fleets(&self, cluster: &Cluster, fleets: &[Fleet], printer: Printer) -> anyhow::Result<()> {
        let params = DeleteParams { dry_run: self.dry_run == Some(DryRun::Server), ..DeleteParams::background() };
        for fleet in fleets {
            let within = cluster.within(fleet.namespace().unwrap_or_default());
            if self.dry_run != Some(DryRun::Client) {
                within.ask_for(within.fleets().delete(&fleet.name_any(), &params)).await?;
            }
            let trial = trial(self.dry_run);
            printer.data(format_args!("fleet.simctl.io/{} deleted{trial}", fleet.name_any()))?;
        }
        if self.dry_run.is_some() {
            return Ok(());
        }
        let started = Instant::now();
        let mut progress = Progress::new(printer);
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            ticks.tick().await;
            let pods = self.pods(cluster).await?;
            if pods == 0 {
                progress.clear();
                return Ok(());
            }
            progress.show(&[format!("{} of the fleets to go", words::counted(pods as u64, "pod", "pods"))]);
            if started.elapsed() >= self.timeout.as_duration() {
                progress.clear();
                anyhow::bail!("{pods} pods of the fleets were not gone after {}", self.timeout);
            }
        }
    }

    async fn pods(&self, cluster: &Cluster) -> anyhow::Result<usize> {
        let params = ListParams::default().labels(load_controller::resource::names::FLEET_LABEL);
        let pods = cluster.ask(cluster.everywhere::<k8s_openapi::api::core::v1::Pod>().list_metadata(&params)).await?;
        Ok(pods.items.len())
    }
}

/// Refuses to take apart a release of Helm; the namespaces of other load controllers.
async fn refuse_helms(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let is_here = |it: &Deployment| it.namespace().as_deref() == Some(cluster.namespace());
    let (here, elsewhere): (Vec<_>, Vec<_>) = cluster.controllers().await?.into_iter().partition(is_here);
    let meant = if here.is_empty() { &elsewhere } else { &here };
    if let Some(release) = meant.iter().find_map(Release::of) {
        let Release { name, namespace } = &release;
        return Err(Failure::refused(format!(
            "this installation is Helm's release {name} in namespace {namespace}; use `helm uninstall {release}`"
        ))
        .into());
    }
    Ok(elsewhere.iter().filter_map(ResourceExt::namespace).collect())
}

/// `2 fleets: load/a, lab/b`.
fn listed(fleets: &[Fleet]) -> String {
    let names: BTreeSet<_> =
        fleets.iter().map(|fleet| format!("{}/{}", fleet.namespace().unwrap_or_default(), fleet.name_any())).collect();
    let number = words::counted(names.len() as u64, "fleet", "fleets");
    format!("{number}: {}", names.into_iter().collect::<Vec<_>>().join(", "))
}
