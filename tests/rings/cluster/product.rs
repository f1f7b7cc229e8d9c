//! The product in the cluster: its images, its installation, its `simctl`.

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use fleet_contract::metric::controller::PULLS;
use images::{Image, PROGRAMS, Reference};
use load_controller::resource::names::CONTROLLER_PORT;
use serde_json::Value;
use tests::{
    command, eventually,
    project::{self, PREVIOUS_BIN_DIR},
    simctl::{Finished, Simctl},
};

use super::{FOREIGN, PATIENCE, admin};

/// Where `simctl install` puts the controller.
pub(super) const NAMESPACE: &str = "simctl-system";

/// A second name of the worker's image, as a new version would have.
const NEXT_TAG: &str = "next";

/// The tag of the images of the release before this one.
pub(super) const PREVIOUS_TAG: &str = "previous";

/// Whether it is installed; it stays so from test to test.
static IS_INSTALLED: Mutex<bool> = Mutex::new(false);

/// What images are called after.
pub(super) fn registry() -> String {
    if FOREIGN.is_some() { env::var("E2E_REGISTRY").unwrap_or("ghcr.io/simctl".into()) } else { "localhost".into() }
}

/// Their tag.
pub(super) fn tag() -> String {
    if FOREIGN.is_some() { env::var("E2E_TAG").unwrap_or(env!("CARGO_PKG_VERSION").into()) } else { "test".into() }
}

/// The image of a program.
pub(super) fn image(program: &str) -> String {
    format!("{}/{program}:{}", registry(), tag())
}

/// The worker's image under another name.
pub(super) fn next_image() -> String {
    format!("localhost/device-sim:{NEXT_TAG}")
}

/// Writes the archive of all images.
pub(super) fn archive(folder: &Path) -> PathBuf {
    let image = |program: &str, tag: &str, from: &Path| {
        Image::read(Reference::new("localhost", program, tag), &from.join(program)).unwrap()
    };
    let of = |tag: &str, from: &Path| PROGRAMS.map(|program| image(program.name, tag, from)).to_vec();
    let programs = project::bin_dir().unwrap();
    let mut all = of("test", &programs);
    all.push(image("device-sim", NEXT_TAG, &programs));
    all.extend(project::from_environment(PREVIOUS_BIN_DIR).iter().flat_map(|programs| of(PREVIOUS_TAG, programs)));
    let archive = folder.join("images.tar");
    images::save(&all, &archive).unwrap();
    archive
}

/// Calls `simctl` in the cluster's network, as its administrator.
pub(super) fn call(simctl: &Simctl, args: &[&str]) -> Finished {
    let output = admin().run_in(&simctl.command(args)).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// As [`call`], from a place of its own, for what must succeed.
#[track_caller]
pub(super) fn simctl(args: &[&str]) -> Finished {
    let finished = call(&Simctl::new().unwrap(), args);
    assert_eq!(finished.code, Some(0), "simctl {}: {finished:?}", args.join(" "));
    finished
}

/// The flags by which the images are found.
pub(super) fn image_flags() -> Vec<String> {
    let policy = if FOREIGN.is_some() { "IfNotPresent" } else { "Never" };
    let flags = ["--image-registry", &registry(), "--image-tag", &tag(), "--image-pull-policy", policy];
    flags.map(str::to_owned).to_vec()
}

/// Installs it, unless an earlier test has.
pub(super) fn ensure_installed() {
    let mut is_installed = IS_INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*is_installed {
        install();
        *is_installed = true;
    }
}

/// Installs it by `simctl install`.
pub(super) fn install() -> Finished {
    let flags = image_flags();
    simctl(&[&["install"][..], &flags.iter().map(String::as_str).collect::<Vec<_>>()].concat())
}

/// Removes it, so that the next test installs it anew.
pub(super) fn forget_installation() {
    *IS_INSTALLED.lock().unwrap_or_else(PoisonError::into_inner) = false;
}

/// The pod that leads, once one does.
pub(super) fn leader() -> Value {
    let leads = || {
        let pods = admin().get(["pods", "-n", NAMESPACE, "-l", "simctl.io/leader=true"])?;
        let pods = pods["items"].as_array().into_iter().flatten();
        Ok(pods.cloned().find(|pod| pod["metadata"]["deletionTimestamp"].is_null()))
    };
    eventually("a controller leads", PATIENCE, leads).unwrap()
}

/// Awaits that the leader leaves the workers alone: nobody watches any more.
pub(super) fn is_unwatched() {
    let api = admin().api().unwrap();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:{CONTROLLER_PORT}/proxy/metrics", leader_name());
    let pulls = || {
        let text = api.get(&path).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix(PULLS.name)?.trim().parse::<f64>().ok());
        count.unwrap_or_default()
    };
    let mut last = (pulls(), Instant::now());
    let rests = || {
        let now = pulls();
        if now > last.0 {
            last = (now, Instant::now());
        }
        Ok((last.1.elapsed() > Duration::from_secs(3)).then_some(()))
    };
    eventually("the workers are left alone for three seconds", PATIENCE, rests).unwrap();
}

fn leader_name() -> String {
    leader()["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Kills the pod of the leader, and awaits that another one leads.
pub(super) fn kill_leader() {
    let name = leader_name();
    admin().kubectl(["delete", "pod", "-n", NAMESPACE, &name, "--grace-period=0", "--force"]).unwrap();
    let is_another = || Ok((leader_name() != name).then_some(()));
    eventually("another controller leads", PATIENCE, is_another).unwrap();
}

/// Calls the real Helm, in the cluster's network.
pub(super) fn helm(args: &[&str]) -> String {
    let mut helm = admin().command(admin().tools().program("helm"));
    command::text(helm.args(args)).unwrap()
}

/// The chart of this release.
pub(super) fn chart() -> PathBuf {
    project::root().join("manifests/chart")
}

/// Calls Helm with a chart and the images of a tag, and awaits what it makes.
pub(super) fn helm_brings(args: &[&str], chart: &Path, tag: &str) {
    let (registry, tag) = (format!("image.registry={}", registry()), format!("image.tag={tag}"));
    // As `simctl install` has it here: another one would be another document of each pod, and roll it.
    let policy = format!("image.pullPolicy={}", image_flags().last().unwrap());
    let values = ["--set", &registry, "--set", &tag, "--set", &policy];
    helm(&[args, &[chart.to_str().unwrap(), "--wait", "--timeout", "3m"], &values].concat());
}
