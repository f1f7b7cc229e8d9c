//! A client of a cluster: kubectl, and whatever else has to run in the cluster's network.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{api::Api, build::Tools, namespace::Namespace};
use crate::{
    command,
    process::{Process, Stream},
    sandbox::Network,
};

/// How long a watch is trusted to tell what changes: on a busy machine some have told nothing for two minutes.
const WATCH_MAX: Duration = Duration::from_secs(15);

/// Names the kubeconfig of a cluster that exists already.
pub const EXISTING: &str = "E2E_KUBECONFIG";

/// A way into a cluster, as the user of one kubeconfig.
#[derive(Clone, Debug)]
pub struct Client {
    tools: Tools,
    kubeconfig: PathBuf,
    /// `None` for a cluster that is reached from this machine's own network.
    network: Option<Network>,
}

impl Client {
    pub(super) fn new(tools: &Tools, kubeconfig: PathBuf, network: Network) -> Client {
        Client { tools: tools.clone(), kubeconfig, network: Some(network) }
    }

    /// A client of the cluster that `E2E_KUBECONFIG` names; `None` where that is not set.
    ///
    /// The ambient context, which may be of somebody's production, is never taken.
    ///
    /// # Errors
    /// When that cluster does not answer as ready, or there is no kubectl to ask it with.
    pub fn from_environment() -> Result<Option<Client>> {
        let Some(kubeconfig) = env::var_os(EXISTING) else {
            return Ok(None);
        };
        let client = Client { tools: Tools::find_or_build()?, kubeconfig: kubeconfig.into(), network: None };
        client.kubectl(["get", "--raw", "/readyz"]).with_context(|| format!("the cluster of {EXISTING}"))?;
        Ok(Some(client))
    }

    /// The same cluster, as another user.
    #[must_use]
    pub fn with_kubeconfig(&self, kubeconfig: PathBuf) -> Client {
        Client { kubeconfig, ..self.clone() }
    }

    /// How the cluster is reached and as whom, valid in its network.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The programs of the cluster's release.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// `command`, to be run in the cluster's network with `KUBECONFIG` set, and with kubectl and helm in its path.
    pub fn run_in(&self, command: &Command) -> Command {
        let mut inside = match &self.network {
            Some(network) => network.enter(command),
            None => command::wrap(Command::new("env"), command),
        };
        let path = inside.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path);
        let mut search = self.tools.dir().as_os_str().to_owned();
        search.push(":");
        search.push(path.map_or_else(|| env::var_os("PATH").unwrap_or_default(), OsStr::to_owned));
        inside.env("PATH", search).env("KUBECONFIG", &self.kubeconfig);
        inside
    }

    /// A program in the cluster's network, as [`Client::run_in`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.run_in(&Command::new(program))
    }

    /// Runs kubectl to its end, and returns what it prints.
    ///
    /// # Errors
    /// When it does not succeed; the message is what it said.
    pub fn kubectl<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Result<String> {
        command::text(self.kubectl_command().args(args))
    }

    /// What `kubectl get ARGS -o json` shows.
    pub fn get<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Result<Value> {
        let text = command::text(self.kubectl_command().arg("get").args(args).args(["-o", "json"]))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Applies a document of one or more objects, server-side, so that every field that an API server of this release
    /// does not know is an error.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.apply_in(None, yaml)
    }

    /// The API server for many quick questions.
    pub fn api(&self) -> Result<Api> {
        Api::start(self)
    }

    /// Whether the cluster is one that existed before, and of whose nodes nothing is known.
    pub fn is_foreign(&self) -> bool {
        self.network.is_none()
    }

    /// A namespace with a random name, deleted on drop.
    pub fn namespace(&self, purpose: &str) -> Result<Namespace> {
        Namespace::create(self, purpose)
    }

    pub(super) fn apply_in(&self, namespace: Option<&str>, yaml: &str) -> Result<String> {
        // A file needs no second thread that writes while kubectl reads.
        let mut file = tempfile::tempfile()?;
        file.write_all(yaml.as_bytes())?;
        file.seek(SeekFrom::Start(0))?;
        let mut kubectl = self.kubectl_command();
        kubectl.args(["apply", "--server-side", "--validate=strict", "-f", "-"]);
        kubectl.args(namespace.iter().flat_map(|namespace| ["-n", namespace]));
        let output = kubectl.stdin::<File>(file).output().context("kubectl does not start")?;
        let says = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl apply failed: {}", says.trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Watches a field of one object (a JSON path such as `{.status.readyReplicas}`; empty where there is none) until
    /// `wanted` accepts its value, and returns that. The object need not exist yet.
    ///
    /// # Errors
    /// When that did not happen `within` the time; the message says which values were seen.
    pub fn wait_for(
        &self,
        object: &[&str],
        field: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let logs = tempfile::tempdir()?;
        let deadline = Instant::now() + within;
        let mut seen = String::new();
        loop {
            let mut kubectl = self.kubectl_command();
            kubectl.arg("get").args(object).args(["--watch", "-o"]).arg(format!("jsonpath={field}{{\"\\n\"}}"));
            let watch = Process::spawn("watch", &mut kubectl, logs.path())?;
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(value) = watch.wait_for_line(Stream::Stdout, left.min(WATCH_MAX), &wanted) {
                return Ok(value);
            }
            write!(seen, "{}{}", watch.output(Stream::Stdout)?, watch.output(Stream::Stderr)?)?;
            ensure!(
                Instant::now() < deadline,
                "not within {within:?}: {} with another {field}; seen: {}",
                object.join(" "),
                last_lines(&seen)
            );
            // The object does not exist yet, or the API server ended the watch, as it does from time to time, or has said nothing
            // for long: a new one begins with what there is.
        }
    }

    pub(super) fn kubectl_command(&self) -> Command {
        let mut kubectl = self.command(self.tools.program("kubectl"));
        if self.network.is_some() {
            // What kubectl learns of a cluster that ends with the test is no business of the home directory.
            kubectl.env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"));
        }
        kubectl.stdin(Stdio::null());
        kubectl
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join(", ")
}
