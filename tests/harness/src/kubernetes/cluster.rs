//! A cluster of real nodes with real containers, of which a node can die.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context, Result, anyhow};
use images::{Image, Reference};

use super::{
    build::Tools,
    client::Client,
    control_plane::{self, ControlPlane},
    node::{self, Cut, Node},
};
use crate::{debian::Packages, process::Process, sandbox::Network, unavailable::Unavailable};

/// What a node needs: the container runtime, the plugins that give pods a network, and what kube-proxy writes rules
/// with.
const PACKAGES: [&str; 6] = ["containerd", "runc", "containernetworking-plugins", "nftables", "iproute2", "mount"];

/// The image of the container that holds a pod's namespaces, as `tests/kubernetes/containerd.toml` names it:
/// `localhost/pause:1`.
const PAUSE: [&str; 3] = ["localhost", "pause", "1"];

const COREFILE: &str = include_str!("../../../kubernetes/Corefile");

/// Which cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many nodes, `node1` and so on.
    pub nodes: u8,
    /// Archives of images that every node has from the start.
    pub images: Vec<PathBuf>,
    /// How soon a node that says nothing counts as dead.
    pub patience: NodePatience,
}

/// How soon a node that says nothing counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePatience {
    /// Kubernetes' own 50 s.
    Default,
    /// 12 s.
    Short,
}

/// A running cluster; all of it ends on drop, or with the process that started it.
pub struct Cluster {
    // Dropped first: nodes hang on the control plane's network.
    nodes: Mutex<BTreeMap<u8, Node>>,
    plane: ControlPlane,
    _dns: Process,
    packages: Packages,
    patience: NodePatience,
    /// Copies of the archives that a node starts with; a node that was killed has forgotten all images.
    images: Mutex<Vec<PathBuf>>,
}

impl Cluster {
    /// What a cluster needs, built and unpacked at the first call, which takes minutes.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub fn requirements() -> Result<(Tools, Packages), Unavailable> {
        let (tools, _) = ControlPlane::requirements()?;
        let needed = |what| move |reason| Unavailable::new(what, reason);
        node::check().map_err(needed("a place for nodes"))?;
        Ok((tools, Packages::unpack(&PACKAGES).map_err(needed("Debian's containerd"))?))
    }

    /// Starts one and awaits that its nodes are Ready.
    ///
    /// # Errors
    /// When a part of it cannot be had on this machine ([`Unavailable`]), or does not start.
    pub fn start(settings: &Settings) -> Result<Cluster> {
        let (tools, packages) = Cluster::requirements()?;
        let controller_manager = settings.patience.controller_manager();
        let plane_settings = control_plane::Settings { fake_nodes: 0, controller_manager };
        let plane = ControlPlane::start_with(&tools, &packages, &plane_settings)?;
        // The way from the pods of one node to those of another one is through here.
        plane.sandbox().run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        let dns = start_dns(&plane)?;
        let (nodes, images) = (Mutex::default(), Mutex::default());
        let cluster = Cluster { nodes, plane, _dns: dns, packages, patience: settings.patience, images };
        let [registry, name, tag] = PAUSE;
        let pause = Image::read(Reference::new(registry, name, tag), &tools.pause())?;
        cluster.save(|archive| Ok(images::save(&[pause], archive).map(drop)?))?;
        settings.images.iter().try_for_each(|image| cluster.save(|archive| copy(image, archive)).map(drop))?;
        let numbers: Vec<u8> = (1..=settings.nodes).collect();
        // Each takes seconds, most of them waiting.
        at_once(&numbers, |number| {
            let node = cluster.make_node(*number)?;
            cluster.nodes().insert(*number, node);
            Ok(())
        })?;
        Ok(cluster)
    }

    /// Speaks to a cluster that another process of ours holds, by process 1 of its control plane.
    ///
    /// # Errors
    /// [`Unavailable`] where a cluster could not run at all.
    pub fn attach(init: u32, kubeconfig: PathBuf) -> Result<Client, Unavailable> {
        let (tools, packages) = Cluster::requirements()?;
        Ok(Client::new(&tools, kubeconfig, Network::of(init, packages)))
    }

    /// Speaks to it as its administrator.
    pub fn client(&self) -> &Client {
        self.plane.client()
    }

    /// Its control plane, for other users and its network.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Gives every node an image, from an archive as `docker save` writes it.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let archive = &self.save(|copied| copy(archive, copied))?;
        let nodes = self.nodes();
        let nodes: Vec<&Node> = nodes.values().collect();
        at_once(&nodes, |node| node.load(archive))
    }

    /// Ends `nodeNUMBER` as when power fails: nothing in it gets a chance to say so.
    pub fn kill_node(&self, number: u8) -> Result<()> {
        let node = self.nodes().remove(&number);
        node.with_context(|| format!("node{number} is not running"))?.kill()
    }

    /// Starts a node that was killed, under its name and without memory, and awaits that it is Ready.
    pub fn start_node(&self, number: u8) -> Result<()> {
        let node = self.make_node(number)?;
        self.nodes().insert(number, node);
        Ok(())
    }

    /// Cuts `nodeNUMBER` off, until it is mended.
    pub fn cut(&self, number: u8, cut: Cut) -> Result<()> {
        self.nodes().get(&number).with_context(|| format!("node{number} is not running"))?.cut(cut)
    }

    /// Lets everything pass to and from `nodeNUMBER` again.
    pub fn mend(&self, number: u8) -> Result<()> {
        self.nodes().get(&number).with_context(|| format!("node{number} is not running"))?.mend()
    }

    fn make_node(&self, number: u8) -> Result<Node> {
        let images = self.images().clone();
        Node::start(&self.plane, &self.packages, number, self.patience.lease_seconds(), &images)
            .with_context(|| format!("node{number}"))
    }

    /// Keeps an archive that `write` writes, for nodes that start from now on.
    fn save(&self, write: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let mut images = self.images();
        let archive = self.plane.sandbox().state().join(format!("image-{}.tar", images.len()));
        write(&archive)?;
        images.push(archive.clone());
        Ok(archive)
    }

    fn images(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<u8, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodePatience {
    fn controller_manager(self) -> Vec<String> {
        match self {
            NodePatience::Default => Vec::new(),
            NodePatience::Short => {
                let period = ["--node-monitor-grace-period=12s", "--node-monitor-period=1s"];
                // One node in ten seconds is what a large cluster wants. With a rate of exactly 1 a queue that was stopped
                // while no node was Ready yet is never started again: a stopped one says that its rate is 1.
                [period.as_slice(), &["--node-eviction-rate=2"]].concat().into_iter().map(str::to_owned).collect()
            }
        }
    }

    /// A node renews its lease four times in this time.
    fn lease_seconds(self) -> u32 {
        match self {
            NodePatience::Default => 40,
            NodePatience::Short => 8,
        }
    }
}

/// The cluster's names, answered by a plain process on the control plane's address.
fn start_dns(plane: &ControlPlane) -> Result<Process> {
    fs::write(plane.sandbox().state().join("Corefile"), COREFILE)?;
    plane.spawn_tool("coredns", &["-conf".to_owned(), "Corefile".to_owned()])
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| from.display().to_string()).map(drop)
}

/// Does one thing for all of them at once, and fails with the first failure once all have ended.
fn at_once<T: Sync>(all: &[T], one: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = all.iter().map(|item| scope.spawn(move || one(item))).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a panic"))));
        results.collect::<Vec<_>>().into_iter().collect()
    })
}
