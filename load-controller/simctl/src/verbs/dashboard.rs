//! `simctl dashboard`: the dashboard of a fleet, in the Grafana of its cluster.

use std::{net::Ipv4Addr, process::Stdio, sync::Arc};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt as _, api::ListParams};
use load_controller::{resource::Fleet, run::verdict::ExitCode};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    signal::ctrl_c,
    task::JoinSet,
};

use crate::{
    cluster::{client::Cluster, fleets::FleetName, grafana::Grafana},
    flags::ClusterFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl dashboard                    of the fleet, where the namespace has one
  simctl dashboard fleet/robotaxis -n load --open
  simctl dashboard --grafana-namespace lab --grafana-service graphs --port 3000";

/// Show a fleet's dashboard in the Grafana of the cluster
///
/// Finds Grafana, forwards a port of this machine to it until Ctrl-C, and prints the address of the dashboard.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The fleet; may be left out
    fleet: Option<FleetName>,
    /// The namespace of Grafana [default: wherever there is one]
    #[arg(long, value_name = "NAME")]
    grafana_namespace: Option<String>,
    /// The Service of Grafana [default: the one with the label app.kubernetes.io/name=grafana]
    #[arg(long, value_name = "NAME")]
    grafana_service: Option<String>,
    /// The port of this machine [default: one that is free]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Open the address in a browser, too
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// The dashboard's name in every Grafana, as `dashboards/fleet-overview.json` has it.
const DASHBOARD: &str = "simctl-fleet-overview";

/// The ConfigMap that the installation brings it in.
const CONFIG_MAP: &str = "simctl-dashboard-fleet-overview";

/// What opens an address as the person's desktop does.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

impl Args {
    /// Forwards until somebody presses Ctrl-C.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let fleet = self.fleet(&cluster).await?;
        let grafana =
            Grafana::find(&cluster, self.grafana_namespace.as_deref(), self.grafana_service.as_deref()).await?;
        let grafana = Arc::new(grafana);
        // Says now what would fail later: no right, no pod.
        drop(grafana.connect().await?);
        warn_without_dashboard(&cluster, printer).await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))
            .await
            .with_context(|| format!("failed to listen on port {} of this machine", self.port))?;
        let url = address(listener.local_addr()?.port(), cluster.namespace(), fleet.as_deref());
        printer.say(format_args!("forwarding to {} until Ctrl-C", grafana.title()));
        printer.data(&url)?;
        if self.open {
            open(&url, printer);
        }
        tokio::select! {
            ended = forward(&listener, &grafana, printer) => ended?,
            pressed = ctrl_c() => pressed?,
        }
        Ok(ExitCode::Passed)
    }

    /// The fleet that is named, or the only one of the namespace; Grafana lets people choose among several.
    async fn fleet(&self, cluster: &Cluster) -> anyhow::Result<Option<String>> {
        if let Some(FleetName(name)) = &self.fleet {
            return Ok(Some(cluster.fleet_named(name).await?.name_any()));
        }
        let fleets = cluster.select::<Fleet>(false, None).await?;
        Ok(if let [fleet] = fleets.as_slice() { Some(fleet.name_any()) } else { None })
    }
}

/// `http://127.0.0.1:3000/d/simctl-fleet-overview?var-namespace=load&var-fleet=robotaxis`.
fn address(port: u16, namespace: &str, fleet: Option<&str>) -> String {
    let query = fleet.map(|fleet| format!("?var-namespace={namespace}&var-fleet={fleet}")).unwrap_or_default();
    format!("http://127.0.0.1:{port}/d/{DASHBOARD}{query}")
}

/// Gives each connection to this machine's port one to Grafana; ends with an error of the port alone.
async fn forward(listener: &TcpListener, grafana: &Arc<Grafana>, printer: Printer) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted?;
                connections.spawn(carry(client, Arc::clone(grafana), printer));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries bytes both ways until one side ends; a browser tries again by itself.
async fn carry(mut client: TcpStream, grafana: Arc<Grafana>, printer: Printer) {
    match grafana.connect().await {
        Ok((forwarder, mut server)) => {
            drop(copy_bidirectional(&mut client, &mut server).await);
            forwarder.abort();
        }
        Err(error) => printer.warn(format_args!("{} cannot be reached: {error:#}", grafana.title())),
    }
}

/// Grafana shows only dashboards that its sidecar finds in ConfigMaps.
async fn warn_without_dashboard(cluster: &Cluster, printer: Printer) {
    let params = ListParams::default().labels("app.kubernetes.io/part-of=simctl");
    let maps = cluster.ask(cluster.everywhere::<ConfigMap>().list_metadata(&params)).await;
    // Who may not look into all namespaces cannot know.
    if maps.is_ok_and(|maps| !maps.items.iter().any(|map| map.name_any() == CONFIG_MAP)) {
        printer.warn("no namespace has the dashboard for Grafana; `simctl install --monitoring` brings it");
    }
}

fn open(url: &str, printer: Printer) {
    let mut opener = std::process::Command::new(OPENER);
    opener.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = opener.spawn() {
        printer.warn(format_args!("no browser can be opened: {OPENER}: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_names_dashboard_namespace_and_fleet() {
        let expected = "http://127.0.0.1:3000/d/simctl-fleet-overview?var-namespace=load&var-fleet=robotaxis";
        assert_eq!(address(3000, "load", Some("robotaxis")), expected);
        assert_eq!(address(3000, "load", None), "http://127.0.0.1:3000/d/simctl-fleet-overview");
    }

    #[test]
    fn the_dashboard_is_the_one_that_the_chart_brings() {
        let text = include_str!("../../../../dashboards/fleet-overview.json");
        let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(dashboard["uid"], DASHBOARD);
        let variables: Vec<_> =
            dashboard["templating"]["list"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert!(variables.contains(&"namespace") && variables.contains(&"fleet"), "{variables:?}");
        assert!(include_str!("../../../../manifests/install.yaml").contains(&format!("name: {CONFIG_MAP}\n")));
    }
}
