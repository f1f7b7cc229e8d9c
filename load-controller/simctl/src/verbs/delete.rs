//! `simctl delete`: removes fleets and load tests from a cluster, with all that belongs to them.

use std::{path::PathBuf, time::Duration};

use fleet_contract::units::Span;
use kube::ResourceExt;
use load_controller::{
    resource::{Fleet, LoadTest},
    run::verdict::ExitCode,
    words,
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    cluster::{
        client::Cluster,
        fleets::{FleetName, Ours},
        kinds::{self, Meant},
        load_tests::TestName,
        manifest,
        objects::{DryRun, trial},
        settle::Progress,
    },
    exit::Failure,
    flags::ClusterFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl delete fleet/robotaxis
  simctl delete loadtest/rush-hour
  simctl delete -f fleet.yaml             all that the file describes
  simctl delete -l team=maps
  simctl delete --all --no-wait";

/// Remove fleets from a cluster, or load tests
///
/// A load test that goes on ends, and its fleet is its own again; its reports go with it. Of fleets the devices disconnect, then their pods go, and all else that belongs to them. Waits until the pods are gone.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names, such as `robotaxis`, `fleet/robotaxis` or `loadtest/rush-hour`
    #[arg(value_name = "FLEET|LOADTEST", required_unless_present_any = ["files", "selector", "all"])]
    objects: Vec<String>,
    /// What these documents describe; `-` reads standard input
    #[arg(short, long = "file", visible_alias = "filename", value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// All of the namespace
    #[arg(long)]
    all: bool,
    /// One that does not exist is no error
    #[arg(long)]
    ignore_not_found: bool,
    /// Only try: what would be removed
    #[arg(long, value_name = "HOW")]
    dry_run: Option<DryRun>,
    /// Do not wait until the pods are gone
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "2m")]
    timeout: Span,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Args {
    /// Removes them, and waits until nothing is left of them.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let (kind, names) = match kinds::read(&self.objects)? {
            Meant::Fleets(names) => ("Fleet", names.into_iter().map(|FleetName(name)| name).collect::<Vec<_>>()),
            Meant::LoadTests(names) => ("LoadTest", names.into_iter().map(|TestName(name)| name).collect()),
        };
        let ways = [!names.is_empty(), !self.files.is_empty(), self.selector.is_some() || self.all];
        if ways.into_iter().filter(|way| *way).count() != 1 {
            return Err(Failure::usage("expected names, -f or one of -l and --all, found more than one of them").into());
        }
        let manifests = if self.files.is_empty() { Vec::new() } else { manifest::read(&self.files)? };
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let mut objects: Vec<_> = manifests.into_iter().map(|manifest| manifest.object).collect();
        let names = if !names.is_empty() || !self.files.is_empty() {
            names
        } else if kind == "Fleet" {
            self.chosen::<Fleet>(&cluster).await?
        } else {
            self.chosen::<LoadTest>(&cluster).await?
        };
        for name in names {
            objects.push(json!({
                "apiVersion": fleet_contract::fleet::API_VERSION, "kind": kind, "metadata": { "name": name },
            }));
        }
        let mut gone = Vec::new();
        // What came last may need what came first.
        for object in objects.iter().rev() {
            let place = cluster.place(object).await?;
            let title = place.title();
            let trial = trial(self.dry_run);
            if cluster.remove(&place, self.dry_run).await? {
                printer.data(format_args!("{title} deleted{trial}"))?;
                if place.resource.kind == "Fleet" {
                    let namespace = object.pointer("/metadata/namespace").and_then(serde_json::Value::as_str);
                    gone.push((cluster.within(namespace.unwrap_or(cluster.namespace())), place.name));
                }
            } else if !self.ignore_not_found {
                anyhow::bail!("there is no {title} in namespace {}", cluster.namespace());
            }
        }
        if self.dry_run.is_none() && !self.no_wait {
            for (cluster, name) in gone {
                self.wait(&cluster, &name, printer).await?;
            }
        }
        Ok(ExitCode::Passed)
    }

    /// Those with the labels of `--selector`, or all.
    async fn chosen<K: Ours>(&self, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
        let found: Vec<K> = cluster.select(false, self.selector.as_deref()).await?;
        Ok(found.iter().map(ResourceExt::name_any).collect())
    }

    async fn wait(&self, cluster: &Cluster, name: &str, printer: Printer) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut progress = Progress::new(printer);
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            ticks.tick().await;
            let fleet = cluster.ask_for(cluster.fleets().get_metadata(name)).await?;
            let pods = cluster.pods_of(name).await?;
            if fleet.is_none() && pods.is_empty() {
                progress.clear();
                return Ok(());
            }
            progress.show(&[format!("fleet {name}: {} to go", words::counted(pods.len() as u64, "pod", "pods"))]);
            if started.elapsed() >= self.timeout.as_duration() {
                progress.clear();
                let pods: Vec<_> = pods.iter().take(3).map(ResourceExt::name_any).collect();
                anyhow::bail!(
                    "fleet {name} was not gone after {}; pods left: {}; `kubectl describe pod` says why",
                    self.timeout,
                    pods.join(", ")
                );
            }
        }
    }
}
