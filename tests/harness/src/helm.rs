//! The real Helm, and what it makes of the project's chart.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{command, kubernetes::Tools, project, unavailable::Unavailable};

/// The namespace of `install.yaml`, and where the documentation installs.
pub const NAMESPACE: &str = "simctl-system";

/// The release that `install.yaml` is rendered as.
const RELEASE: &str = "simctl";

/// What a Helm without a cluster takes the cluster for; one built from its module says 1.20 by itself.
const KUBERNETES: &str = "1.34.0";

/// Lines that only Helm's own releases may have: nothing else may take objects for Helm's.
const HELMS_OWN: [&str; 2] = ["helm.sh/chart:", "app.kubernetes.io/managed-by: Helm"];

/// A Helm that can be started.
#[derive(Clone, Debug)]
pub struct Helm {
    program: PathBuf,
}

impl Helm {
    /// Helm from its Go module, built at the first call together with a cluster's programs, which takes minutes.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no Go or no module proxy.
    pub fn find_or_build() -> Result<Helm, Unavailable> {
        Tools::find_or_build().map(|tools| Helm { program: tools.program("helm") })
    }

    /// A call, not yet started.
    pub fn command(&self) -> Command {
        Command::new(&self.program)
    }

    /// The chart with its defaults and what `flags` change, as Helm would install it.
    ///
    /// # Errors
    /// When Helm refuses; the message shows what it said.
    pub fn template(&self, flags: &[&str]) -> Result<String> {
        let mut helm = self.command();
        helm.args(["template", RELEASE]).arg(chart());
        helm.args(["--namespace", NAMESPACE, "--kube-version", KUBERNETES]).args(flags);
        command::text(&mut helm)
    }

    /// What `manifests/install.yaml` should hold: the chart with its defaults and the namespace, for whoever has no
    /// Helm.
    pub fn install_manifest(&self) -> Result<String> {
        Ok(format!("{HEAD}{}", for_all(&self.template(&[])?)))
    }

    /// What `manifests/monitors.yaml` should hold: the chart's objects for the Prometheus Operator.
    pub fn monitors_manifest(&self) -> Result<String> {
        let kinds =
            ["podMonitor", "serviceMonitor", "prometheusRule"].map(|kind| format!("metrics.{kind}.enabled=true"));
        let rendered = self.template(&["--set", &kinds.join(","), "--show-only", "templates/monitors.yaml"])?;
        Ok(format!("{MONITORS_HEAD}{}", for_all(&rendered)))
    }
}

/// What Helm has rendered, without the lines that are its own.
fn for_all(rendered: &str) -> String {
    let is_for_all = |line: &&str| !HELMS_OWN.iter().any(|own| line.trim_start().starts_with(own));
    rendered.lines().filter(is_for_all).flat_map(|line| [line, "\n"]).collect()
}

const MONITORS_HEAD: &str = "\
# Monitors and alerts for the Prometheus Operator, for `kubectl apply --server-side -f monitors.yaml`.
# Rendered from the chart by `cargo xtask manifests`; change that, not this.
";

const HEAD: &str = "\
# The load controller and the kind Fleet, for `kubectl apply --server-side -f install.yaml`.
# Rendered from the chart by `cargo xtask manifests`; change that, not this.
---
apiVersion: v1
kind: Namespace
metadata:
  name: simctl-system
  labels:
    app.kubernetes.io/part-of: simctl
    pod-security.kubernetes.io/enforce: restricted
";

/// The chart's folder.
pub fn chart() -> PathBuf {
    project::root().join("manifests/chart")
}

/// The files of the chart that are copies, because Helm packages nothing from outside the chart and complains about
/// symbolic links: each with what it must hold.
///
/// # Errors
/// When a folder or a file of the originals cannot be read.
pub fn chart_copies() -> Result<Vec<(PathBuf, String)>> {
    let mut copies = Vec::new();
    for (folder, copied) in [("manifests/crd", "crd"), ("dashboards", "dashboards")] {
        let folder = project::root().join(folder);
        let entries = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in entries {
            let original = entry?.path();
            if let Some(name) = original.file_name().filter(|_| original.is_file()) {
                let text =
                    fs::read_to_string(&original).with_context(|| format!("{} cannot be read", original.display()))?;
                copies.push((chart().join(copied).join(name), text));
            }
        }
    }
    copies.sort();
    Ok(copies)
}
