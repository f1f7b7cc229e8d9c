//! The release before this one, built from the history of this repository: its programs and its chart.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ::tests::project;
use anyhow::{Context as _, Result, ensure};

use crate::cargo;

/// Release 0.1 as it was before plans, assignments, readings and totals had a format number.
const COMMIT: &str = "a3a29a2467752ade575daa26a83789f2f53f5e3e";

/// A built release.
pub(super) struct Previous {
    /// The folder of its programs.
    pub(super) programs: PathBuf,
    /// The folder of its chart.
    pub(super) chart: PathBuf,
}

impl Previous {
    /// Takes its sources out of the history, and builds its programs once.
    ///
    /// # Errors
    /// When the history is not there (a shallow clone), or the build fails.
    pub(super) fn find_or_build() -> Result<Previous> {
        let folder = cargo::target_dir().with_file_name("previous").join(COMMIT);
        let source = folder.join("source");
        if !source.join("Cargo.toml").exists() {
            extract(&folder, &source)?;
        }
        Ok(Previous { programs: cargo::build_release_of(&source)?, chart: source.join("manifests/chart") })
    }
}

fn extract(folder: &Path, source: &Path) -> Result<()> {
    fs::create_dir_all(source).with_context(|| format!("failed to make {}", source.display()))?;
    let archive = folder.join("source.tar");
    let mut git = Command::new("git");
    git.current_dir(project::root()).args(["archive", "--format=tar", "--output"]).arg(&archive).arg(COMMIT);
    let is_there = git.status().is_ok_and(|status| status.success());
    ensure!(is_there, "expected the whole history with commit {COMMIT}, found less; run `git fetch --unshallow`");
    let mut tar = Command::new("tar");
    let unpacked = tar.arg("-xf").arg(&archive).arg("-C").arg(source).status().context("tar does not start")?;
    ensure!(unpacked.success(), "tar did not unpack {}", archive.display());
    fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))
}
