//! Real workers for fake pods: what a kubelet would do for each of them, as far as a worker can tell.
//!
//! KWOK says that a pod is Ready at an address where nobody is. Here that address becomes one of the control plane's
//! network, and the pod's container a process that listens there: with the environment that the pod's specification
//! names, and its files from the ConfigMaps and Secrets that it mounts. Files are written once, and again when a test
//! says so. At all other fake pods' addresses nobody answers, as ever.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use ::base64::{Engine as _, prelude::BASE64_STANDARD};
use load_controller::resource::names::WORKER_PORT;
use serde_json::Value;
use tempfile::TempDir;
use tests::process::{Process, Stream};

use super::{
    PATIENCE, PLANE,
    clock::{Clock, Shift},
    site::{Site, program},
};

/// Where a worker listens that something stands before.
const PORT_BEHIND: u16 = WORKER_PORT + 1;

/// The running workers of a fleet; killed on drop.
pub(crate) struct Kubelet {
    // Dropped first: they listen at the addresses and read in the directory.
    workers: Vec<Process>,
    /// What stands before one of them, at its pod's address.
    _shift: Option<Shift>,
    _addresses: Addresses,
    dir: TempDir,
}

impl Kubelet {
    /// Starts the container of each pod of a fleet, and awaits that all of them listen.
    pub(crate) fn run(site: &Site, fleet: &str) -> Kubelet {
        Kubelet::run_each(site, fleet, None)
    }

    /// The same, where the worker in the pod of that name has this clock.
    pub(crate) fn run_with_clock(site: &Site, fleet: &str, pod: &str, clock: Clock) -> Kubelet {
        Kubelet::run_each(site, fleet, Some((pod, clock)))
    }

    fn run_each(site: &Site, fleet: &str, off: Option<(&str, Clock)>) -> Kubelet {
        let dir = tempfile::tempdir().unwrap();
        let pods = site.pods(fleet);
        let addresses = Addresses::add(pods.iter().map(|pod| text(&pod["status"]["podIP"])).collect(), dir.path());
        let mut objects = Objects { site, known: BTreeMap::new() };
        let is_off = |pod: &Value| off.is_some_and(|(name, _)| pod["metadata"]["name"] == name);
        let port = |pod: &Value| if is_off(pod) { PORT_BEHIND } else { WORKER_PORT };
        let workers: Vec<Process> = pods.iter().map(|pod| start(pod, port(pod), &mut objects, dir.path())).collect();
        for worker in &workers {
            worker.wait_for_line(Stream::Stderr, PATIENCE, |line| line.contains("the worker listens")).unwrap();
        }
        let shift = off.map(|(name, clock)| {
            let pod = pods.iter().find(|pod| is_off(pod)).unwrap_or_else(|| panic!("there is no pod {name}"));
            let at = |port: u16| SocketAddr::new(text(&pod["status"]["podIP"]).parse().unwrap(), port);
            Shift::start(at(WORKER_PORT), at(PORT_BEHIND), clock)
        });
        Kubelet { workers, _shift: shift, _addresses: addresses, dir }
    }

    /// Brings the files of all pods of the fleet up to date, as a kubelet does within two minutes.
    pub(crate) fn update(&self, site: &Site, fleet: &str) {
        let mut objects = Objects { site, known: BTreeMap::new() };
        for pod in site.pods(fleet) {
            let home = self.dir.path().join(text(&pod["metadata"]["name"]));
            for volume in list(&pod["spec"]["volumes"]) {
                write_volume(volume, &mut objects, &home.join(text(&volume["name"])));
            }
        }
    }

    /// Writes a file of a volume of a pod.
    pub(crate) fn write(&self, pod: &str, volume: &str, file: &str, content: &str) {
        fs::write(self.dir.path().join(pod).join(volume).join(file), content).unwrap();
    }

    /// The processes, in no order.
    pub(crate) fn workers(&mut self) -> &mut [Process] {
        &mut self.workers
    }
}

/// Addresses of pods that are this network's own.
struct Addresses {
    all: Vec<String>,
    /// The file of commands for `ip`.
    batch: PathBuf,
}

impl Addresses {
    fn add(all: Vec<String>, dir: &Path) -> Addresses {
        let addresses = Addresses { all, batch: dir.join("addresses") };
        addresses.each("add");
        addresses
    }

    fn each(&self, verb: &str) {
        let lines: String = self.all.iter().map(|address| format!("address {verb} {address}/32 dev lo\n")).collect();
        fs::write(&self.batch, lines).unwrap();
        let mut ip = Command::new("ip");
        ip.arg("-batch").arg(&self.batch);
        tests::command::run(&mut PLANE.network().enter(&ip)).unwrap();
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        // The next pod with such an address is one where nobody answers.
        self.each("delete");
    }
}

/// The ConfigMaps and Secrets of a namespace, each asked for once.
struct Objects<'a> {
    site: &'a Site,
    known: BTreeMap<String, Option<Value>>,
}

impl Objects<'_> {
    /// The object, if there is one.
    fn get(&mut self, object: String) -> Option<&Value> {
        let ask = |object: &String| {
            let found = self.site.namespace.kubectl(["get", object, "--ignore-not-found", "-o", "json"]).unwrap();
            (!found.trim().is_empty()).then(|| serde_json::from_str(&found).unwrap())
        };
        self.known.entry(object).or_insert_with_key(ask).as_ref()
    }
}

/// Starts the one container of a pod, whose worker listens at that port.
fn start(pod: &Value, port: u16, objects: &mut Objects<'_>, dir: &Path) -> Process {
    let name = text(&pod["metadata"]["name"]);
    let home = dir.join(&name);
    for volume in list(&pod["spec"]["volumes"]) {
        write_volume(volume, objects, &home.join(text(&volume["name"])));
    }
    let container = &pod["spec"]["containers"][0];
    let mut command = program("device-sim");
    for variable in list(&container["env"]) {
        let value = value_of(variable, pod);
        // A pod has a network and files of its own; this one shares them, and has a part of each.
        let value = value.replace(&format!("[::]:{WORKER_PORT}"), &format!("{}:{port}", text(&pod["status"]["podIP"])));
        command.env(text(&variable["name"]), within(&value, container, &home));
    }
    let logs = PLANE.logs().join(objects.site.namespace.name());
    Process::spawn(&name, &mut PLANE.network().enter(&command), &logs).unwrap()
}

/// What the variable of a container says: a value, or one of the pod's labels.
fn value_of(variable: &Value, pod: &Value) -> String {
    if let Some(value) = variable["value"].as_str() {
        return value.to_owned();
    }
    let path = text(&variable["valueFrom"]["fieldRef"]["fieldPath"]);
    let label = path.strip_prefix("metadata.labels['").and_then(|rest| rest.strip_suffix("']"));
    text(&pod["metadata"]["labels"][label.unwrap_or_else(|| panic!("a kubelet is asked for {path}"))])
}

/// Where a path of the container lies here.
fn within(value: &str, container: &Value, home: &Path) -> String {
    let mounted = list(&container["volumeMounts"]).find_map(|mount| {
        let rest = value.strip_prefix(&text(&mount["mountPath"]))?.strip_prefix('/')?;
        Some(home.join(text(&mount["name"])).join(rest).display().to_string())
    });
    mounted.unwrap_or_else(|| value.to_owned())
}

/// Writes the files of a volume; that of an `emptyDir` has none.
fn write_volume(volume: &Value, objects: &mut Objects<'_>, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let sources = [("configMap", "name", "configmap"), ("secret", "secretName", "secret")];
    for (source, name, kind) in sources {
        let source = &volume[source];
        for item in list(&source["items"]) {
            let object = format!("{kind}/{}", text(&source[name]));
            let Some(object) = objects.get(object.clone()) else {
                assert!(source["optional"] == true, "there is no {object}");
                continue;
            };
            let data = &object["data"][text(&item["key"])];
            let bytes = match kind {
                "secret" => BASE64_STANDARD.decode(text(data)).unwrap(),
                _ => text(data).into_bytes(),
            };
            fs::write(folder.join(text(&item["path"])), bytes).unwrap();
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a text, found {value}")).to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
