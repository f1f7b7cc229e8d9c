//! `simctl get`: the fleets and load tests of a cluster, as kubectl shows objects.

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    runtime::watcher::{self, Event, watcher},
};
use load_controller::{
    resource::{Fleet, LoadTest},
    run::verdict::ExitCode,
};
use serde::Serialize;
use tokio::signal::ctrl_c;

use crate::{
    cluster::{
        client::Cluster,
        fleets::{FleetName, Ours},
        kinds::{self, Meant},
        load_tests::TestName,
        show::{self, Number},
        table::{Columns, Row},
    },
    exit::Failure,
    flags::ClusterFlags,
    printer::{Output, Printer, columns, table},
};

const EXAMPLES: &str = "\
Examples:
  simctl get                      the fleets of the namespace
  simctl get fleet robotaxis -o yaml
  simctl get -A -o wide
  simctl get loadtests            the load tests of the namespace
  simctl get -l team=maps -w      go on as they change";

/// Show the fleets of a cluster, or its load tests
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names, such as `robotaxis`, `fleet/robotaxis` or `loadtest/rush-hour`, or the kind alone [default: all fleets]
    #[arg(value_name = "FLEET|LOADTEST")]
    objects: Vec<String>,
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
    /// Prints them, and with `--watch` each change of one.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        match kinds::read(&self.objects)? {
            Meant::Fleets(names) => {
                self.show::<Fleet>(&names.into_iter().map(|FleetName(name)| name).collect::<Vec<_>>(), printer).await
            }
            Meant::LoadTests(names) => {
                self.show::<LoadTest>(&names.into_iter().map(|TestName(name)| name).collect::<Vec<_>>(), printer).await
            }
        }
    }

    async fn show<K: Ours + Row + Serialize>(&self, names: &[String], printer: Printer) -> anyhow::Result<ExitCode> {
        if !names.is_empty() && (self.all_namespaces || self.selector.is_some()) {
            return Err(Failure::usage("expected names or -A and -l, found both").into());
        }
        let cluster = Cluster::find_all(&self.cluster, self.all_namespaces, printer).await?;
        if self.watch {
            return self.watch::<K>(&cluster, names, printer).await;
        }
        let found: Vec<K> = self.find(&cluster, names).await?;
        if found.is_empty() && matches!(self.output, Output::Table | Output::Wide) {
            let place =
                if self.all_namespaces { "the cluster".into() } else { format!("namespace {}", cluster.namespace()) };
            printer.say(format_args!("there is no {} in {place}", K::ONE));
            return Ok(ExitCode::Passed);
        }
        let number = if names.len() == 1 { Number::One } else { Number::List };
        let shape = self.columns();
        show::objects(printer, self.output, number, &found, || {
            let now = Timestamp::now();
            let mut rows = vec![K::heading(shape)];
            rows.extend(found.iter().map(|object| object.row(shape, now)));
            columns(printer.palette(), &K::right(shape), &rows)
        })?;
        Ok(ExitCode::Passed)
    }

    fn columns(&self) -> Columns {
        Columns { namespace: self.all_namespaces, wide: self.output == Output::Wide }
    }

    async fn find<K: Ours>(&self, cluster: &Cluster, names: &[String]) -> anyhow::Result<Vec<K>> {
        if names.is_empty() {
            return Ok(cluster.select(self.all_namespaces, self.selector.as_deref()).await?);
        }
        let mut found = Vec::new();
        for name in names {
            found.push(cluster.named(name).await?);
        }
        Ok(found)
    }

    async fn watch<K: Ours + Row + Serialize>(
        &self,
        cluster: &Cluster,
        names: &[String],
        printer: Printer,
    ) -> anyhow::Result<ExitCode> {
        // Asked once before, so that what is wrong with the cluster ends the verb instead of being retried for ever.
        let found: Vec<K> = self.find(cluster, names).await?;
        let api = if self.all_namespaces { cluster.everywhere::<K>() } else { cluster.api() };
        let config = watcher::Config { label_selector: self.selector.clone(), ..watcher::Config::default() };
        let mut changes = watcher(api, config).boxed();
        let shape = self.columns();
        let mut table = table(&K::heading(shape), &K::right(shape));
        found.iter().for_each(|object| table.fit(&object.row(shape, Timestamp::now())));
        if matches!(self.output, Output::Table | Output::Wide) {
            printer.data(table.line(&K::heading(shape)))?;
        }
        loop {
            let change = tokio::select! {
                change = changes.try_next() => change?,
                pressed = ctrl_c() => { pressed?; return Ok(ExitCode::Passed); }
            };
            let Some(change) = change else { return Ok(ExitCode::Passed) };
            let (Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) = change else { continue };
            if names.is_empty() || names.contains(&object.name_any()) {
                let row = object.row(shape, Timestamp::now());
                show::objects(printer, self.output, Number::One, &[object], || table.line(&row))?;
            }
        }
    }
}
