//! KWOK, which plays nodes, built from its Go module into the project's cache.
//!
//! It wants other releases of Kubernetes' libraries than a cluster, and is built only for rings with fake nodes: five
//! minutes of a core at the first call. After that it lies in `.cache/kwok/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::build::module;
use crate::{
    command,
    go::{Go, Recipe},
    progress::Progress,
    unavailable::Unavailable,
};

const RELEASE: &str = "v0.7.0";

/// What it does to fake nodes and pods; files of its module.
const STAGES: [&str; 5] = [
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    "pod/fast/pod-ready",
    "pod/fast/pod-complete",
    "pod/fast/pod-delete",
];

/// The built program.
#[derive(Clone, Debug)]
pub struct Kwok {
    dir: PathBuf,
}

impl Kwok {
    /// The program, built at the first call, which takes minutes.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no Go or no module proxy.
    pub fn find_or_build() -> Result<Kwok, Unavailable> {
        // How it is built is in this very file.
        let also = include_str!("kwok.rs").to_owned();
        let recipe = Recipe { name: "kwok", module: module(), files: &[], also };
        let dir = recipe.find_or_build(&Progress::default(), build);
        dir.map(|dir| Kwok { dir }).map_err(|reason| Unavailable::new("KWOK", reason))
    }

    pub(super) fn program(&self) -> PathBuf {
        self.dir.join("kwok")
    }

    /// What it does to its nodes and pods.
    pub(super) fn stages(&self) -> PathBuf {
        self.dir.join("stages.yaml")
    }
}

fn build(go: &Go, into: &Path) -> Result<()> {
    let stamp = format!("sigs.k8s.io/kwok/pkg/consts.Version={}", RELEASE.trim_start_matches('v'));
    go.install(&format!("sigs.k8s.io/kwok/cmd/kwok@{RELEASE}"), into, &[stamp])?;
    Ok(fs::write(into.join("stages.yaml"), stages()?)?)
}

/// Its own definitions as one document each.
fn stages() -> Result<String> {
    let cache = command::text(Command::new("go").args(["env", "GOMODCACHE"]).current_dir(module()))?;
    let stages = Path::new(cache.trim()).join(format!("sigs.k8s.io/kwok@{RELEASE}/kustomize/stage"));
    let read = |name: &str| {
        let path = stages.join(name).with_extension("yaml");
        fs::read_to_string(&path).with_context(|| format!("{} is not readable", path.display()))
    };
    Ok(STAGES.iter().map(|name| read(name)).collect::<Result<Vec<_>>>()?.join("\n---\n"))
}
