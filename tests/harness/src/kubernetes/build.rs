//! The programs of a cluster, built from Go's modules into the project's cache.
//!
//! etcd, the four parts of Kubernetes' control plane and node, `CoreDNS` and kubectl are one program,
//! `tests/kubernetes/main.go`; KWOK and Helm want other releases of the same libraries and are programs of their own.
//! Needed are Go and its module proxy, and a quarter of an hour of two cores at the first call. After that the result
//! lies in `.cache/kubernetes/HASH/`, named by everything that it depends on.

use std::{
    fs,
    fs::File,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::{command, project, unavailable::Unavailable};

const KWOK: &str = "v0.7.0";
const HELM: &str = "v3.22.0";

/// The names under which the one program is called.
const NAMES: [&str; 8] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kubectl",
];

/// What KWOK does to fake nodes and pods; files of its module.
const STAGES: [&str; 5] = [
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    "pod/fast/pod-ready",
    "pod/fast/pod-complete",
    "pod/fast/pod-delete",
];

/// A build that takes longer hangs: the slowest one seen took half an hour, beside much other work.
const PATIENCE: &str = "45m";

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
        find_or_build().map_err(|reason| Unavailable::new("Kubernetes", reason))
    }

    /// Where they lie: a directory for the search path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One of them: `kubectl`, `helm`, `kwok`, `etcd`, `kubelet` and so on.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The static program of the container that holds a pod's namespaces.
    pub fn pause(&self) -> PathBuf {
        self.dir.join("pause")
    }

    /// What KWOK does to its nodes and pods.
    pub fn stages(&self) -> PathBuf {
        self.dir.join("stages.yaml")
    }
}

/// The folder with `go.mod`.
fn module() -> PathBuf {
    project::root().join("tests/kubernetes")
}

fn find_or_build() -> Result<Tools> {
    let home = project::cache().join("kubernetes");
    fs::create_dir_all(&home)?;
    // Tests run side by side, also in several processes; the first one builds, the others wait.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let dir = home.join(fingerprint()?);
    if !dir.is_dir() {
        // Renamed when complete, so that a broken build is never taken for the programs.
        let fresh = home.join("building");
        drop(fs::remove_dir_all(&fresh));
        fs::create_dir_all(&fresh)?;
        build(&Go { log: home.join("build.log") }, &fresh)?;
        fs::rename(&fresh, &dir)?;
        remove_others(&home, &dir)?;
    }
    Ok(Tools { dir })
}

/// Earlier builds, of 280 MB each. What still runs of one keeps its file.
fn remove_others(home: &Path, dir: &Path) -> Result<()> {
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        if path.is_dir() && path != dir {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Names everything that the result depends on.
fn fingerprint() -> Result<String> {
    let version = command::text(Command::new("go").arg("version").current_dir(module()))?;
    let mut hash = Sha256::new_with_prefix(format!("{version}{KWOK} {HELM} {NAMES:?} {STAGES:?}"));
    // How it is built is in this very file.
    hash.update(include_str!("build.rs"));
    for file in ["go.mod", "go.sum", "main.go", "pause/main.go"] {
        hash.update(fs::read(module().join(file)).with_context(|| format!("tests/kubernetes/{file}"))?);
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

fn build(go: &Go, into: &Path) -> Result<()> {
    let release = required("k8s.io/kubernetes")?;
    let (major, minor) = numbers(&release)?;
    File::create(&go.log)?;
    go.build(".", &into.join("kube"), &kubernetes_flags(&release, major, minor))?;
    for name in NAMES {
        symlink("kube", into.join(name))?;
    }
    go.build("./pause", &into.join("pause"), &[])?;
    let stamp = format!("sigs.k8s.io/kwok/pkg/consts.Version={}", KWOK.trim_start_matches('v'));
    go.install(&format!("sigs.k8s.io/kwok/cmd/kwok@{KWOK}"), into, &[stamp])?;
    go.install(&format!("helm.sh/helm/v3/cmd/helm@{HELM}"), into, &helm_flags(major, minor))?;
    fs::write(into.join("stages.yaml"), stages()?)?;
    Ok(())
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

/// KWOK's own definitions as one document each.
fn stages() -> Result<String> {
    let cache = command::text(Command::new("go").args(["env", "GOMODCACHE"]).current_dir(module()))?;
    let stages = Path::new(cache.trim()).join(format!("sigs.k8s.io/kwok@{KWOK}/kustomize/stage"));
    let read = |name: &str| {
        let path = stages.join(name).with_extension("yaml");
        fs::read_to_string(&path).with_context(|| format!("{} is not readable", path.display()))
    };
    Ok(STAGES.iter().map(|name| read(name)).collect::<Result<Vec<_>>>()?.join("\n---\n"))
}

/// Calls of Go, at low priority and for a bounded time.
struct Go {
    log: PathBuf,
}

impl Go {
    fn build(&self, package: &str, into: &Path, stamps: &[String]) -> Result<()> {
        let mut command = Go::command("build", stamps);
        self.run(command.arg("-o").arg(into).arg(package))
    }

    /// A program of another module, with the versions that it was released with.
    fn install(&self, package: &str, into: &Path, stamps: &[String]) -> Result<()> {
        let mut command = Go::command("install", stamps);
        self.run(command.arg(package).env("GOBIN", into))
    }

    fn command(verb: &str, stamps: &[String]) -> Command {
        let stamps: String = stamps.iter().map(|stamp| format!(" -X {stamp}")).collect();
        let mut command = Command::new("timeout");
        // In the foreground, so that Ctrl-C in a terminal ends the build, too.
        command.args(["--foreground", "--kill-after=10", PATIENCE, "nice", "-n", "10"]);
        command.args(["go", verb, "-trimpath", "-buildvcs=false"]).arg("-ldflags").arg(format!("-s -w{stamps}"));
        // Without C the programs are static, and no C compiler is needed.
        command.env("CGO_ENABLED", "0").current_dir(module());
        command
    }

    /// Twice where the first try fails: Go asks for a thousand files, and none again that the network lost.
    fn run(&self, command: &mut Command) -> Result<()> {
        if self.attempt(command)?.success() {
            return Ok(());
        }
        let status = self.attempt(command)?;
        ensure!(status.success(), "Go failed ({status}): {}", self.tail()?);
        Ok(())
    }

    fn attempt(&self, command: &mut Command) -> Result<ExitStatus> {
        let log = File::options().append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.status().context("timeout does not start")
    }

    fn tail(&self) -> Result<String> {
        let text = fs::read_to_string(&self.log)?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("go: downloading")).collect();
        Ok(lines[lines.len().saturating_sub(3)..].join("; "))
    }
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
