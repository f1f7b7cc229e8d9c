//! A real Prometheus on loopback, of this machine or of a sandbox, from the distribution's package; and its `promtool`.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    command,
    debian::Packages,
    eventually, port,
    process::{Process, Stream},
    sandbox::Network,
    unavailable::Unavailable,
};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The programs.
#[derive(Clone, Debug)]
pub struct Tools {
    packages: Packages,
}

impl Tools {
    /// The package, unpacked at the first call.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no network or no Debian.
    pub fn find_or_unpack() -> Result<Tools, Unavailable> {
        let unpacked = || -> Result<Tools> {
            let tools = Tools { packages: Packages::unpack(&["prometheus"])? };
            command::run(tools.promtool().arg("--version"))?;
            Ok(tools)
        };
        unpacked().map_err(|reason| Unavailable::new("Prometheus", reason))
    }

    /// The tool that checks rules and configurations, and that asks a server.
    pub fn promtool(&self) -> Command {
        self.packages.command("promtool")
    }
}

/// A running server; killed on drop.
pub struct Prometheus {
    tools: Tools,
    /// `None` for this machine's own.
    network: Option<Network>,
    url: String,
    process: Process,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts a server with this configuration (YAML) on a free port, and awaits that it answers.
    ///
    /// # Errors
    /// When Prometheus cannot be had on this machine ([`Unavailable`]), or does not start.
    pub fn start(configuration: &str) -> Result<Prometheus> {
        Prometheus::launch(None, configuration)
    }

    /// As [`Prometheus::start`], in the network of a sandbox.
    pub fn start_in(network: Network, configuration: &str) -> Result<Prometheus> {
        Prometheus::launch(Some(network), configuration)
    }

    fn launch(network: Option<Network>, configuration: &str) -> Result<Prometheus> {
        let (tools, dir, port) = (Tools::find_or_unpack()?, tempfile::tempdir()?, port::free()?);
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, configuration)?;
        let mut command = tools.packages.command("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::spawn("prometheus", &mut entered(network.as_ref(), command), dir.path())?;
        process.wait_for_line(Stream::Stderr, PATIENCE, |line| line.contains("Server is ready"))?;
        Ok(Prometheus { tools, network, url: format!("http://127.0.0.1:{port}"), process, _dir: dir })
    }

    /// The samples that a query gives now: each its labels and its value.
    ///
    /// # Errors
    /// When the server does not take the query.
    pub fn query(&self, query: &str) -> Result<Vec<Sample>> {
        self.process.ensure_running()?;
        let mut promtool = self.tools.promtool();
        promtool.args(["query", "instant", "-o", "json", &self.url, query]);
        let text = command::text(&mut entered(self.network.as_ref(), promtool))?;
        let found: Value = serde_json::from_str(&text).with_context(|| format!("promtool says {text}"))?;
        let samples = found.as_array().with_context(|| format!("{query} gives no vector: {text}"))?;
        samples.iter().map(Sample::of).collect()
    }

    /// Awaits that a query of `panel` gives a number.
    ///
    /// # Errors
    /// When it gave none `within` the time, which it never does for a metric that nobody exports.
    pub fn wait_for_data(&self, panel: &str, query: &str, within: Duration) -> Result<()> {
        eventually(&format!("{panel}: {query} has data"), within, || {
            Ok(self.query(query)?.iter().any(|sample| sample.value.is_finite()).then_some(()))
        })
    }
}

fn entered(network: Option<&Network>, command: Command) -> Command {
    match network {
        Some(network) => network.enter(&command),
        None => command,
    }
}

/// One sample of a query's result.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The labels, as a JSON object.
    pub labels: Value,
    /// The value, which may be no number.
    pub value: f64,
}

impl Sample {
    fn of(sample: &Value) -> Result<Sample> {
        let value = sample["value"][1].as_str().and_then(|value| value.parse().ok());
        ensure!(sample["metric"].is_object(), "{sample} is no sample");
        Ok(Sample { labels: sample["metric"].clone(), value: value.with_context(|| format!("{sample} has no value"))? })
    }
}
