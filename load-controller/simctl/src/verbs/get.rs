//! `simctl get`: the fleets of a cluster, as kubectl shows objects.

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    runtime::watcher::{self, Event, watcher},
};
use load_controller::{resource::Fleet, run::verdict::ExitCode};
use tokio::signal::ctrl_c;

use crate::{
    cluster::{
        client::Cluster,
        fleets::{self, FleetName},
        show::{self, Number},
        table::{Columns, Growing},
    },
    exit::Failure,
    flags::ClusterFlags,
    printer::{Output, Printer, columns},
};

const EXAMPLES: &str = "\
Examples:
  simctl get                      the fleets of the namespace
  simctl get fleet robotaxis -o yaml
  simctl get -A -o wide
  simctl get -l team=maps -w      go on as they change";

/// Show the fleets of a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names, such as `robotaxis`, `fleet robotaxis` or `fleet/robotaxis` [default: all]
    #[arg(value_name = "FLEET")]
    fleets: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only those with these labels, such as `team=maps,stage!=test`
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
    /// Go on as they change, until you end it
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Args {
    /// Prints the fleets, and with `--watch` each change of one.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let names = fleets::names(&self.fleets)?;
        if !names.is_empty() && (self.all_namespaces || self.selector.is_some()) {
            return Err(Failure::usage("expected names or -A and -l, found both").into());
        }
        let cluster = Cluster::find_all(&self.cluster, self.all_namespaces, printer).await?;
        if self.watch {
            return self.watch(&cluster, &names, printer).await;
        }
        let found = self.find(&cluster, &names).await?;
        if found.is_empty() && matches!(self.output, Output::Table | Output::Wide) {
            let place =
                if self.all_namespaces { "the cluster".into() } else { format!("namespace {}", cluster.namespace()) };
            printer.say(format_args!("there is no fleet in {place}"));
            return Ok(ExitCode::Passed);
        }
        let number = if names.len() == 1 { Number::One } else { Number::List };
        let shape = self.columns();
        show::objects(printer, self.output, number, &found, || {
            let now = Timestamp::now();
            let mut rows = vec![shape.heading()];
            rows.extend(found.iter().map(|fleet| shape.row(fleet, now)));
            columns(printer.palette(), &shape.right(), &rows)
        })?;
        Ok(ExitCode::Passed)
    }

    fn columns(&self) -> Columns {
        Columns { namespace: self.all_namespaces, wide: self.output == Output::Wide }
    }

    async fn find(&self, cluster: &Cluster, names: &[FleetName]) -> anyhow::Result<Vec<Fleet>> {
        if names.is_empty() {
            return Ok(cluster.select(self.all_namespaces, self.selector.as_deref()).await?);
        }
        let mut found = Vec::new();
        for FleetName(name) in names {
            found.push(cluster.fleet_named(name).await?);
        }
        Ok(found)
    }

    async fn watch(&self, cluster: &Cluster, names: &[FleetName], printer: Printer) -> anyhow::Result<ExitCode> {
        // Asked once before, so that what is wrong with the cluster ends the verb instead of being retried for ever.
        let found = self.find(cluster, names).await?;
        let api = if self.all_namespaces { cluster.everywhere::<Fleet>() } else { cluster.fleets() };
        let config = watcher::Config { label_selector: self.selector.clone(), ..watcher::Config::default() };
        let mut changes = watcher(api, config).boxed();
        let shape = self.columns();
        let mut table = Growing::new(&shape.heading(), shape.right());
        found.iter().for_each(|fleet| table.fit(&shape.row(fleet, Timestamp::now())));
        if matches!(self.output, Output::Table | Output::Wide) {
            printer.data(table.line(&shape.heading()))?;
        }
        loop {
            let change = tokio::select! {
                change = changes.try_next() => change?,
                pressed = ctrl_c() => { pressed?; return Ok(ExitCode::Passed); }
            };
            let Some(change) = change else { return Ok(ExitCode::Passed) };
            let (Event::Apply(fleet) | Event::InitApply(fleet) | Event::Delete(fleet)) = change else { continue };
            if names.is_empty() || names.iter().any(|FleetName(name)| *name == fleet.name_any()) {
                let row = shape.row(&fleet, Timestamp::now());
                show::objects(printer, self.output, Number::One, &[fleet], || table.line(&row))?;
            }
        }
    }
}
