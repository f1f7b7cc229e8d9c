//! `simctl plan`: what a fleet will take, and whether this machine and the broker can, without starting it.

use std::fmt::Write as _;

use device_sim::engine;
use fleet_contract::split::devices_per_process;
use k8s_openapi::api::core::v1::{Node, Pod, ResourceQuota};
use kube::{Api, api::ListParams, core::ObjectList};
use load_controller::{run::verdict::ExitCode, words};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cluster::{
        capacity::{self, Found, Need, Price},
        client::{Cluster, ClusterError},
    },
    estimate::Estimate,
    exit::Failure,
    flags::{ClusterFlags, FleetFlags, Place},
    preflight::{self, Check, Outcome, Target, machine::Machine},
    printer::{Format, Palette, Printer, Tone, columns},
    settings::Settings,
};

const EXAMPLES: &str = "\
Examples:
  simctl plan -f fleet.yaml
  simctl plan --model robotaxi --devices 5000 --broker mqtt://broker.example
  simctl plan -f fleet.yaml --offline -o json
  simctl plan -f fleet.yaml --target cluster --price-per-cpu-hour 0.04 --price-per-gib-hour 0.005";

/// Show what a fleet will take, and run the pre-flight
///
/// Expected messages, bytes, CPU, memory, ports and worker processes; then whether this machine allows it and the
/// broker answers. Nothing is started. The exit code is 1 if the run would not start, 99 if the broker refuses it.
///
/// With `--target cluster` (or any flag that names one) it is about pods: what they ask for and cost, and whether
/// quotas, nodes and ports allow it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetFlags,
    /// Do not ask the broker, nor the cluster
    #[arg(long)]
    offline: bool,
    /// For this machine or for a cluster [default: this machine]
    #[arg(long, value_name = "WHERE", env = "SIMCTL_TARGET")]
    target: Option<Place>,
    /// What a core costs an hour
    #[arg(long, value_name = "PRICE", value_parser = price)]
    price_per_cpu_hour: Option<f64>,
    /// What a GiB of memory costs an hour
    #[arg(long, value_name = "PRICE", value_parser = price)]
    price_per_gib_hour: Option<f64>,
    #[command(flatten)]
    cluster: ClusterFlags,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(JsonSchema, Serialize)]
pub(super) struct Plan {
    #[serde(flatten)]
    estimate: Estimate,
    /// What its pods ask for, if it is for a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Need>,
    preflight: Vec<Check>,
}

/// An amount of money, in whatever currency.
fn price(text: &str) -> Result<f64, String> {
    let price = text.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| format!("expected a price such as `0.04`, found `{text}`"))
}

impl Args {
    /// Prints estimate and pre-flight.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let settings = Settings::new(&self.fleet)?;
        let has_price = self.price_per_cpu_hour.is_some() || self.price_per_gib_hour.is_some();
        match self.target {
            Some(Place::Local) if has_price || self.cluster.is_given() => {
                Err(Failure::usage("expected prices and --namespace, --context or --kubeconfig with --target cluster")
                    .into())
            }
            None if !has_price && !self.cluster.is_given() => self.plan_run(&settings, printer).await,
            Some(Place::Local) => self.plan_run(&settings, printer).await,
            None | Some(Place::Cluster) => self.plan_pods(&settings, printer).await,
        }
    }

    async fn plan_pods(self, settings: &Settings, printer: Printer) -> anyhow::Result<ExitCode> {
        let spec = &settings.fleet().spec;
        let estimate = Estimate::new(&settings.document, spec.devices_per_pod, 1)?;
        let need = Need::new(spec, Price { cpu: self.price_per_cpu_hour, gib: self.price_per_gib_hour });
        let preflight = if self.offline {
            Vec::new()
        } else {
            let cluster = Cluster::find(&self.cluster, printer).await?;
            capacity::check(spec, &need, &find(&cluster).await?)
        };
        print(&Plan { estimate, cluster: Some(need), preflight }, self.output, printer)
    }

    async fn plan_run(self, settings: &Settings, printer: Printer) -> anyhow::Result<ExitCode> {
        let machine = Machine::read(0)?;
        let estimate = Estimate::new(&settings.document, devices_per_process(machine.open_files), engine::threads(0))?;
        let target = settings.broker().map_or(Target::Embedded, Target::At);
        let mut preflight = preflight::check(&estimate, &machine, target);
        if !self.offline {
            preflight.extend(preflight::broker::check(&settings.document).await);
        }
        print(&Plan { estimate, cluster: None, preflight }, self.output, printer)
    }
}

/// What a cluster says about its room; what may not be read is absent.
async fn find(cluster: &Cluster) -> Result<Found, ClusterError> {
    let (quotas, nodes, pods) = tokio::join!(
        list::<ResourceQuota>(cluster, cluster.api()),
        list::<Node>(cluster, cluster.everywhere()),
        list::<Pod>(cluster, cluster.everywhere()),
    );
    Ok(Found { quotas: quotas?, nodes: nodes?, pods: pods? })
}

async fn list<K: Clone + std::fmt::Debug + DeserializeOwned>(
    cluster: &Cluster,
    api: Api<K>,
) -> Result<Option<Vec<K>>, ClusterError> {
    match cluster.ask(api.list(&ListParams::default())).await {
        Ok(ObjectList { items, .. }) => Ok(Some(items)),
        Err(error) if error.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}

fn print(plan: &Plan, output: Format, printer: Printer) -> anyhow::Result<ExitCode> {
    printer.figures(output, plan, || table(plan, printer.palette()))?;
    Ok(preflight::exit_code(&plan.preflight))
}

fn table(plan: &Plan, palette: Palette) -> String {
    let Plan { estimate, cluster, preflight } = plan;
    let mut rows = vec![
        ["GROUP", "MODEL", "DEVICES", "STREAM", "QOS", "INTERVAL", "MSG/S", "BYTES EACH"].map(String::from).to_vec(),
    ];
    for group in &estimate.groups {
        for (position, stream) in group.streams.iter().enumerate() {
            let first = |text: String| if position == 0 { text } else { String::new() };
            rows.push(vec![
                first(group.name.clone()),
                first(group.model.clone()),
                first(words::count(group.devices.into())),
                stream.name.clone(),
                stream.qos.to_string(),
                stream.interval_seconds.map_or_else(|| "by rule".into(), words::time),
                words::number(stream.messages_per_second),
                words::number(stream.message_bytes),
            ]);
        }
    }
    let mut text = columns(palette, &[2, 4, 5, 6, 7], &rows);
    let label = |name: &str| palette.paint(Tone::Faint, format_args!("{name:<16}")).to_string();
    let mut facts = vec![
        (
            "devices",
            format!(
                "{}, all connected after {}",
                words::count(estimate.devices.into()),
                words::time(estimate.connect_seconds)
            ),
        ),
        ("messages", format!("{}/s", words::number(estimate.messages_per_second))),
        ("bytes", format!("{}/s", words::bytes(estimate.bytes_per_second))),
    ];
    facts.extend(match cluster {
        Some(need) => pods(need),
        None => processes(estimate),
    });
    text.push('\n');
    for (name, fact) in facts {
        let _ = writeln!(text, "{} {fact}", label(name));
    }
    if !preflight.is_empty() {
        let _ = write!(text, "\n{}\n", palette.paint(Tone::Strong, "pre-flight"));
    }
    for check in preflight {
        text.push_str(&line(check, palette, &label(check.name)));
    }
    text
}

/// What a run on this machine takes.
fn processes(estimate: &Estimate) -> Vec<(&'static str, String)> {
    vec![
        ("cpu", format!("about {:.2} cores", estimate.cpu_cores)),
        ("memory", format!("about {}, sockets of the kernel included", words::bytes(estimate.memory_bytes as f64))),
        ("ports", words::count(estimate.ports)),
        ("workers", words::counted(estimate.workers.into(), "process", "processes")),
    ]
}

/// What the pods of a fleet take.
fn pods(need: &Need) -> Vec<(&'static str, String)> {
    let each = words::devices(need.devices_per_pod);
    let mut facts = vec![
        ("pods", format!("{}, of up to {each} each", words::count(need.pods.into()))),
        ("cpu", format!("{:.2} cores asked for, {:.2} by each pod", need.cpu_cores, need.cpu_cores_per_pod)),
        (
            "memory",
            format!(
                "{} asked for, {} by each pod",
                words::bytes(need.memory_bytes),
                words::bytes(need.memory_bytes_per_pod)
            ),
        ),
        ("ports", format!("{} of each pod", words::count(need.ports_per_pod.into()))),
    ];
    facts.extend(need.cost_per_hour.map(|cost| ("cost", format!("{} an hour", money(cost)))));
    facts
}

/// An amount of money: in hundredths, or as finely as it takes to be more than nothing.
fn money(amount: f64) -> String {
    if amount >= 1.0 { format!("{amount:.2}") } else { format!("{amount:.4}") }
}

/// A check as one line, and a second one with its remedy.
fn line(check: &Check, palette: Palette, label: &str) -> String {
    let outcome = match check.outcome {
        Outcome::Ok => palette.paint(Tone::Good, "ok     "),
        Outcome::Warning => palette.paint(Tone::Warning, "warning"),
        Outcome::Failed => palette.paint(Tone::Bad, "failed "),
        Outcome::Refused => palette.paint(Tone::Bad, "refused"),
    };
    let remedy = check.remedy.as_ref().map(|remedy| format!("\n{:25}remedy: {remedy}", "")).unwrap_or_default();
    format!("{label} {outcome} {}{remedy}\n", check.found)
}
