//! `cargo xtask manifests`: the chart as plain manifests.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result};
use tests::{helm::Helm, project};

/// Renders the chart with the real Helm.
pub(crate) fn run() -> Result<ExitCode> {
    let path = project::root().join("manifests/install.yaml");
    fs::write(&path, Helm::find_or_build()?.install_manifest()?)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}
