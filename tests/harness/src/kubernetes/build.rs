//! The programs of a cluster, built from Go's modules into the project's cache.
//!
//! etcd, the parts of Kubernetes' control plane and node, and `CoreDNS` are one program, `tests/kubernetes/main.go`.
//! kubectl is one of its own, because it is called thousands of times and should start quickly; so is Helm, which wants
//! other releases of the same libraries.
//! Needed are Go and its module proxy, and ten minutes of two cores at the first call. After that the result lies in
//! `.cache/kubernetes/`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    go::{Go, Recipe},
    progress::Progress,
    project,
    unavailable::Unavailable,
};

const HELM: &str = "v3.22.0";

/// The names under which the one program is called.
const NAMES: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns"];

/// The built programs.
#[derive(Clone, Debug)]
pub struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// The programs, built at the first call, which takes minutes.
    ///
    /// Builds at low priority, so that it can run beside other work. What Go prints is in
    /// `.cache/kubernetes/build.log`.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no Go or no module proxy.
    pub fn find_or_build() -> Result<Tools, Unavailable> {
        Tools::find_or_build_with(&Progress::default())
    }

    /// The same for somebody who wants to see how far it is.
    ///
    /// # Errors
    /// As [`Tools::find_or_build`].
    pub fn find_or_build_with(progress: &Progress) -> Result<Tools, Unavailable> {
        let recipe = Recipe {
            name: "kubernetes",
            module: module(),
            files: &["go.mod", "go.sum", "main.go", "kubectl/main.go", "pause/main.go"],
            // How it is built is in this very file.
            also: format!("{HELM} {NAMES:?}{}", include_str!("build.rs")),
        };
        let dir = recipe.find_or_build(progress, build);
        dir.map(|dir| Tools { dir }).map_err(|reason| Unavailable::new("Kubernetes", reason))
    }

    /// Where they lie: a directory for the search path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One of them: `kubectl`, `helm`, `etcd`, `kubelet` and so on.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The static program of the container that holds a pod's namespaces.
    pub fn pause(&self) -> PathBuf {
        self.dir.join("pause")
    }
}

/// The folder with `go.mod`.
pub(super) fn module() -> PathBuf {
    project::root().join("tests/kubernetes")
}

fn build(go: &Go, into: &Path) -> Result<()> {
    let release = required("k8s.io/kubernetes")?;
    let (major, minor) = numbers(&release)?;
    let stamps = kubernetes_flags(&release, major, minor);
    go.build(".", &into.join("kube"), &stamps)?;
    for name in NAMES {
        symlink("kube", into.join(name))?;
    }
    go.build("./kubectl", &into.join("kubectl"), &stamps)?;
    go.build("./pause", &into.join("pause"), &[])?;
    go.install(&format!("helm.sh/helm/v3/cmd/helm@{HELM}"), into, &helm_flags(major, minor))
}

/// Unstamped, every part of Kubernetes calls itself v0.0.0-master, and clients refuse it.
fn kubernetes_flags(release: &str, major: u32, minor: u32) -> Vec<String> {
    let version = "k8s.io/component-base/version";
    vec![
        format!("{version}.gitVersion={release}"),
        format!("{version}.gitMajor={major}"),
        format!("{version}.gitMinor={minor}"),
        format!("{version}.gitTreeState=clean"),
        format!("k8s.io/client-go/pkg/version.gitVersion={release}"),
    ]
}

/// `helm template` asks no cluster for its version, it takes this one.
fn helm_flags(major: u32, minor: u32) -> Vec<String> {
    let mut flags = vec![format!("helm.sh/helm/v3/internal/version.version={HELM}")];
    for package in ["helm.sh/helm/v3/pkg/lint/rules", "helm.sh/helm/v3/pkg/chartutil"] {
        flags.push(format!("{package}.k8sVersionMajor={major}"));
        flags.push(format!("{package}.k8sVersionMinor={minor}"));
    }
    flags
}

/// The version of a module that `go.mod` requires.
fn required(module_path: &str) -> Result<String> {
    let text = fs::read_to_string(module().join("go.mod"))?;
    let mut lines = text.lines().map(str::trim);
    let version = lines.find_map(|line| line.strip_prefix(module_path)?.strip_prefix(' '));
    Ok(version.with_context(|| format!("go.mod requires no {module_path}"))?.to_owned())
}

/// 1 and 34 of `v1.34.4`.
fn numbers(release: &str) -> Result<(u32, u32)> {
    let mut parts = release.trim_start_matches('v').split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        anyhow::bail!("{release} is no release");
    };
    Ok((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_go_mod() {
        let release = required("k8s.io/kubernetes").unwrap();
        assert_eq!(numbers(&release).unwrap().0, 1, "{release}");
        assert!(numbers("master").is_err());
    }

    #[test]
    fn every_name_that_is_linked_is_known_to_the_program() {
        let main = fs::read_to_string(module().join("main.go")).unwrap();
        for name in NAMES {
            assert!(main.contains(&format!("\"{name}\":")), "{name}");
        }
    }
}
