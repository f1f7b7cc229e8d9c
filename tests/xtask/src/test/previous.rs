//! The release before this one, built from the history of this repository: its programs and its chart.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ::tests::{project, unavailable::Unavailable};
use anyhow::{Context as _, Result, ensure};

use crate::cargo;

/// Release 0.1 as it was before plans, assignments, readings and totals had a format number.
const COMMIT: &str = "a3a29a2467752ade575daa26a83789f2f53f5e3e";

/// The folder of its sources.
pub(super) struct Previous(PathBuf);

impl Previous {
    /// Takes its sources out of the history, which a shallow clone does not have.
    pub(super) fn find_or_extract() -> Result<Previous, Unavailable> {
        let folder = cargo::target_dir().with_file_name("previous");
        let source = folder.join(COMMIT);
        if !source.exists() {
            extract(&folder, &source).map_err(|error| Unavailable::new("the history of this repository", error))?;
        }
        Ok(Previous(source))
    }

    /// Builds its programs; their folder.
    pub(super) fn build(&self) -> Result<PathBuf> {
        cargo::build_release_of(&self.0)
    }

    /// The folder of its chart.
    pub(super) fn chart(&self) -> PathBuf {
        self.0.join("manifests/chart")
    }
}

/// A folder that is there is whole: it gets its name last.
fn extract(folder: &Path, source: &Path) -> Result<()> {
    let (archive, unpacked) = (folder.join("source.tar"), folder.join("unpacked"));
    fs::create_dir_all(&unpacked).with_context(|| format!("failed to make {}", unpacked.display()))?;
    let mut git = Command::new("git");
    git.current_dir(project::root()).args(["archive", "--format=tar", "--output"]).arg(&archive).arg(COMMIT);
    let is_there = git.status().is_ok_and(|status| status.success());
    ensure!(is_there, "it has no commit {COMMIT}; run `git fetch --unshallow`");
    let mut tar = Command::new("tar");
    let status = tar.arg("-xf").arg(&archive).arg("-C").arg(&unpacked).status().context("tar does not start")?;
    ensure!(status.success(), "tar did not unpack {}", archive.display());
    fs::rename(&unpacked, source).with_context(|| format!("failed to make {}", source.display()))?;
    fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))
}
