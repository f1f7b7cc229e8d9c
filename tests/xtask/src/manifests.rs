//! `cargo xtask manifests`: the files that the chart copies, and the chart as plain manifests.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result};
use tests::{
    helm::{self, Helm},
    project,
};

/// Copies the kinds and dashboards into the chart, and renders it with the real Helm.
pub(crate) fn run() -> Result<ExitCode> {
    for (path, text) in helm::chart_copies()? {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{}", path.display());
    }
    let helm = Helm::find_or_build()?;
    for (name, text) in [("install.yaml", helm.install_manifest()?), ("monitors.yaml", helm.monitors_manifest()?)] {
        let path = project::root().join("manifests").join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
