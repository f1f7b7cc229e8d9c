//! What a developer's cluster holds of the product.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use images::{Image, PROGRAMS, Reference};
use tests::{
    kubernetes::Client,
    progress::Progress,
    project::{self, BIN_DIR},
};

use crate::cargo;

/// What images are called after; no registry serves it, so that nodes never ask one.
const REGISTRY: &str = "localhost";
const TAG: &str = "dev";

/// The programs, and the images that hold them.
pub(super) struct Built {
    programs: PathBuf,
    /// The archive of all images.
    pub(super) images: PathBuf,
}

/// Builds the programs, unless `SIMCTL_BIN_DIR` names built ones, and writes the archive of their images,
/// `localhost/NAME:dev`.
pub(super) fn build(progress: &Progress) -> Result<Built> {
    let built = |dir| Ok(PathBuf::from(dir));
    let programs = env::var_os(BIN_DIR).map_or_else(|| cargo::build_release_with(progress), built)?;
    progress.begin("writes the images", "");
    let home = project::cache().join("images");
    fs::create_dir_all(&home)?;
    let images = home.join("all.tar");
    let read = |name: &str| Image::read(Reference::new(REGISTRY, name, TAG), &programs.join(name));
    let of_programs = PROGRAMS.iter().map(|program| read(program.name)).collect::<Result<Vec<_>, _>>()?;
    images::save(&of_programs, &images).with_context(|| format!("{} cannot be written", images.display()))?;
    Ok(Built { programs, images })
}

/// Installs it as a person does, by `simctl install`; the images are on the nodes already.
pub(super) fn install(client: &Client, built: &Built) -> Result<()> {
    let flags = ["--image-registry", REGISTRY, "--image-tag", TAG, "--image-pull-policy", "Never"];
    let mut simctl = Command::new(built.programs.join("simctl"));
    let status = client.run_in(simctl.arg("install").args(flags)).status()?;
    ensure!(status.success(), "simctl install failed");
    fs::write(programs_of_cluster(), built.programs.display().to_string())?;
    Ok(())
}

/// The directory of the `simctl` that belongs to the cluster; `None` where nobody has installed it.
pub(super) fn programs() -> Option<PathBuf> {
    let dir = PathBuf::from(fs::read_to_string(programs_of_cluster()).ok()?);
    Path::is_dir(&dir).then_some(dir)
}

fn programs_of_cluster() -> PathBuf {
    project::cache().join("cluster/programs")
}
