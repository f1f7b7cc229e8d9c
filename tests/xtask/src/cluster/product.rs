//! What a developer's cluster holds of the product.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use tests::{
    image::Image,
    kubernetes::Client,
    project::{self, BIN_DIR},
};

use crate::cargo;

/// The programs that have an image.
const PROGRAMS: [&str; 4] = ["load-controller", "device-sim", "broker", "simctl"];

/// What images are called after; no registry serves it, so that nodes never ask one.
const REGISTRY: &str = "localhost";
const TAG: &str = "dev";

/// The programs, and the images that hold them.
pub(super) struct Built {
    programs: PathBuf,
    /// Archives, one an image.
    pub(super) images: Vec<PathBuf>,
}

/// Builds the programs, unless `SIMCTL_BIN_DIR` names built ones, and writes the archives of their images,
/// `localhost/NAME:dev`.
pub(super) fn build() -> Result<Built> {
    let programs = env::var_os(BIN_DIR).map_or_else(cargo::build_release, |dir| Ok(PathBuf::from(dir)))?;
    let home = project::cache().join("images");
    fs::create_dir_all(&home)?;
    let archive = |name: &&str| {
        let path = home.join(name).with_extension("tar");
        Image::of_program(&format!("{REGISTRY}/{name}:{TAG}"), &programs.join(name))?.save(&path)?;
        Ok(path)
    };
    let images = PROGRAMS.iter().map(archive).collect::<Result<_>>()?;
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
