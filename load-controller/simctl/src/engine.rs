//! The programs of other people that build images and bring them to nodes: docker, podman, buildah, kind, k3d, ctr.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;
use images::Architecture;
use tokio::process::Command;

use crate::printer::Printer;

/// A program that builds images from a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Builder {
    /// Docker
    Docker,
    /// Podman
    Podman,
    /// Buildah
    Buildah,
    /// None: simctl writes the archive itself, from static programs
    Own,
}

impl Builder {
    /// Those that build from a Dockerfile.
    pub(crate) const BUILDING: [Self; 3] = [Self::Docker, Self::Podman, Self::Buildah];
    /// Those that keep images by name, and save, load and push them.
    pub(crate) const KEEPING: [Self; 2] = [Self::Docker, Self::Podman];

    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
            Self::Own => "simctl",
        }
    }

    /// What is typed to build `target` of a Dockerfile as `name`, on the engine's own platform where none is named.
    pub(crate) fn words(self, file: &Path, target: &str, name: &str, platforms: &[Architecture]) -> Vec<String> {
        let mut words = vec!["build".to_owned(), "--file".into(), file.display().to_string()];
        words.extend(["--target".into(), target.into()]);
        if !platforms.is_empty() {
            let platforms: Vec<_> = platforms.iter().map(ToString::to_string).collect();
            words.extend(["--platform".into(), platforms.join(",")]);
        }
        // Podman and Buildah call an image by a tag, and several of them by a manifest.
        let is_manifest = platforms.len() > 1 && self != Self::Docker;
        words.extend([if is_manifest { "--manifest" } else { "--tag" }.into(), name.into(), ".".into()]);
        words
    }

    /// The first of these engines that answers; one whose service is down does not count.
    pub(crate) async fn find(engines: &[Self]) -> Option<Self> {
        for engine in engines {
            if is_there(engine.program()) && answers(engine.program(), &["info"]).await {
                return Some(*engine);
            }
        }
        None
    }
}

/// Something that brings an archive of images to the nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loader {
    /// A cluster of kind, by its name.
    Kind(String),
    /// A cluster of k3d, by its name.
    K3d(String),
    /// The containerd of this machine.
    Containerd,
}

impl Loader {
    /// What fits the context of the kubeconfig: kind and k3d call theirs after themselves.
    pub(crate) fn of_context(context: &str) -> Option<Self> {
        match context.split_once('-') {
            Some(("kind", name)) => Some(Self::Kind(name.into())),
            Some(("k3d", name)) => Some(Self::K3d(name.into())),
            _ => None,
        }
    }

    /// The program that does it.
    pub(crate) const fn program(&self) -> &'static str {
        match self {
            Self::Kind(_) => "kind",
            Self::K3d(_) => "k3d",
            Self::Containerd => "ctr",
        }
    }

    /// What is typed to load `archive`.
    pub(crate) fn words<'a>(&'a self, archive: &'a Path) -> Vec<&'a OsStr> {
        let words = match self {
            Self::Kind(name) => vec!["load", "image-archive", "--name", name],
            Self::K3d(name) => vec!["image", "import", "--cluster", name],
            Self::Containerd => vec!["--namespace", "k8s.io", "images", "import"],
        };
        words.into_iter().map(OsStr::new).chain([archive.as_os_str()]).collect()
    }
}

/// Whether a program is in the `PATH`.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(program)).any(|file: PathBuf| file.is_file())
}

async fn answers(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let asked = tokio::time::timeout(std::time::Duration::from_secs(5), command.status()).await;
    asked.is_ok_and(|status| status.is_ok_and(|status| status.success()))
}

/// Runs a program in the open: what it is called with is said, and what it says goes where simctl's talk goes.
pub(crate) async fn run<S: AsRef<OsStr>>(program: &str, words: &[S], printer: Printer) -> anyhow::Result<()> {
    let shown: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
    printer.say(format_args!("+ {program} {}", shown.join(" ")));
    anyhow::ensure!(is_there(program), "expected `{program}` in the PATH, found none");
    let status = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        // Data is ours alone.
        .stdout(std::io::stderr())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("failed to start {program}"))?;
    anyhow::ensure!(status.success(), "`{program} {}` failed: {status}", shown.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_of_kind_and_k3d_tell_their_cluster() {
        assert_eq!(Loader::of_context("kind-dev"), Some(Loader::Kind("dev".into())));
        assert_eq!(Loader::of_context("k3d-my-lab"), Some(Loader::K3d("my-lab".into())));
        assert_eq!(Loader::of_context("production"), None);
    }

    #[test]
    fn each_builder_is_called_as_it_wants() {
        let typed = |builder: Builder, platforms: &[Architecture]| {
            builder.words(Path::new("Dockerfile"), "broker", "x/broker:1", platforms).join(" ")
        };
        let both = [Architecture::Amd64, Architecture::Arm64];
        assert_eq!(typed(Builder::Docker, &[]), "build --file Dockerfile --target broker --tag x/broker:1 .");
        assert_eq!(
            typed(Builder::Docker, &both),
            "build --file Dockerfile --target broker --platform linux/amd64,linux/arm64 --tag x/broker:1 ."
        );
        assert_eq!(
            typed(Builder::Podman, &both),
            "build --file Dockerfile --target broker --platform linux/amd64,linux/arm64 --manifest x/broker:1 ."
        );
        assert_eq!(
            typed(Builder::Buildah, &both[1..]),
            "build --file Dockerfile --target broker --platform linux/arm64 --tag x/broker:1 ."
        );
    }

    #[test]
    fn each_loader_is_called_as_it_wants() {
        let typed = |loader: &Loader| {
            let words: Vec<_> =
                loader.words(Path::new("i.tar")).into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
            format!("{} {}", loader.program(), words.join(" "))
        };
        assert_eq!(typed(&Loader::Kind("dev".into())), "kind load image-archive --name dev i.tar");
        assert_eq!(typed(&Loader::K3d("dev".into())), "k3d image import --cluster dev i.tar");
        assert_eq!(typed(&Loader::Containerd), "ctr --namespace k8s.io images import i.tar");
    }
}
