//! A real node: containerd, kubelet and kube-proxy in a sandbox of their own, wired to the control plane's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    PATIENCE,
    control_plane::{self, ControlPlane},
};
use crate::{
    command,
    debian::Packages,
    process::{Process, Stream},
    sandbox::{self, Sandbox},
};

/// Makes its file systems and its network.
const FURNISH: &str = include_str!("../../../kubernetes/node.sh");

/// Its configuration: a file's name in `/var/lib/node`, and its text with places to fill.
const FILES: [(&str, &str); 5] = [
    ("containerd.toml", include_str!("../../../kubernetes/containerd.toml")),
    ("cni/bridge.conflist", include_str!("../../../kubernetes/bridge.conflist")),
    ("kubelet.yaml", include_str!("../../../kubernetes/kubelet.yaml")),
    ("kube-proxy.yaml", include_str!("../../../kubernetes/kube-proxy.yaml")),
    ("resolv.conf", "nameserver 127.0.0.1\n"),
];

/// A running node; ends on drop as a machine does when power fails.
pub(super) struct Node {
    // Dropped first, it ends the programs.
    sandbox: Sandbox,
    programs: Vec<Process>,
    identity: Identity,
}

/// What a node is cut off from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its own programs from the API server; its pods speak to all others.
    ApiServer,
    /// Everything on it from everything that is elsewhere.
    Everything,
}

/// Who a node is.
struct Identity {
    name: String,
    address: String,
    /// The addresses of its pods.
    pods: String,
}

impl Identity {
    fn new(number: u8) -> Identity {
        Identity {
            name: format!("node{number}"),
            address: format!("10.250.0.{}", 10 + u16::from(number)),
            pods: format!("10.244.{number}.0/24"),
        }
    }
}

/// Whether a node would still see the project.
pub(super) fn check() -> Result<()> {
    sandbox::ensure_project_is_outside_of(&["/run", "/var/lib", "/var/log"])
}

impl Node {
    /// Starts the node `nodeNUMBER` and awaits that it is Ready. After `lease_seconds` without a sign of it, it counts
    /// as dead.
    pub(super) fn start(
        plane: &ControlPlane,
        packages: &Packages,
        number: u8,
        lease_seconds: u32,
        images: &[PathBuf],
    ) -> Result<Node> {
        let identity = Identity::new(number);
        let sandbox = Sandbox::start(&identity.name, packages)?;
        let mut node = Node { sandbox, programs: Vec::new(), identity };
        node.wire(plane)?;
        node.configure(plane, packages, lease_seconds)?;
        node.launch(plane, images)
            .with_context(|| format!("the node does not start; its logs are in {}", node.sandbox.logs().display()))?;
        Ok(node)
    }

    /// Gives it an image from an archive as `docker save` writes it.
    pub(super) fn load(&self, archive: &Path) -> Result<()> {
        let mut import = Command::new("ctr");
        import.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
        command::run(&mut self.sandbox.inside(&import)).map(drop)
    }

    /// Drops what goes between it and others, until it is mended.
    pub(super) fn cut(&self, cut: Cut) -> Result<()> {
        let chain = |hook: &str| format!("add chain inet cut {hook} {{ type filter hook {hook} priority 0; }};");
        let rules = match cut {
            Cut::ApiServer => {
                let (out, address, port) = (chain("output"), control_plane::ADDRESS, control_plane::PORT);
                format!("{out} add rule inet cut output ip daddr {address} tcp dport {port} drop")
            }
            Cut::Everything => {
                let chains = ["input", "output", "forward"].map(chain).concat();
                let rule = |hook: &str, side: &str| format!("add rule inet cut {hook} {side}name wire0 drop;");
                let rules =
                    [rule("input", "iif"), rule("output", "oif"), rule("forward", "iif"), rule("forward", "oif")];
                chains + &rules.concat()
            }
        };
        self.sandbox.run("nft", &[&format!("add table inet cut; {rules}")]).map(drop)
    }

    /// Lets everything pass again.
    pub(super) fn mend(&self) -> Result<()> {
        self.sandbox.run("nft", &["delete table inet cut"]).map(drop)
    }

    /// Ends it as when power fails: nothing in it gets a chance to say so.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.sandbox.end()
    }

    /// A cable to the control plane's switch, and the way to its pods.
    fn wire(&self, plane: &ControlPlane) -> Result<()> {
        let Identity { name, address, pods } = &self.identity;
        let (cable, init) = (format!("to-{name}"), self.sandbox.init().to_string());
        let network = plane.network();
        let ip = |args: &[&str]| command::run(&mut network.enter(Command::new("ip").args(args)));
        // That of a node that was killed goes away by itself, at a time of the kernel's choice.
        drop(ip(&["link", "delete", &cable]));
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", "wire0", "netns", &init])?;
        ip(&["link", "set", &cable, "master", "wire", "up"])?;
        ip(&["route", "replace", pods, "via", address])?;
        Ok(())
    }

    /// Writes what becomes `/var/lib`, and lets the sandbox become a machine with it.
    fn configure(&self, plane: &ControlPlane, packages: &Packages, lease_seconds: u32) -> Result<()> {
        let Identity { name, address, pods } = &self.identity;
        let (lib, group) = (self.sandbox.state().join("lib"), self.sandbox.control_group());
        let home = lib.join("node");
        fs::create_dir_all(home.join("cni"))?;
        let plugins = packages.file("usr/lib/cni")?.display().to_string();
        let places = [
            ("@NAME@", name.as_str()),
            ("@PODS@", pods),
            ("@ALLPODS@", control_plane::PODS),
            ("@GROUP@", &group),
            ("@DNS@", control_plane::ADDRESS),
            ("@CNI@", &plugins),
            ("@LEASE@", &lease_seconds.to_string()),
        ];
        for (file, template) in FILES {
            let text = places.iter().fold(template.to_owned(), |text, (place, value)| text.replace(place, value));
            fs::write(home.join(file), text)?;
        }
        let authority = plane.authority();
        fs::write(home.join("authority.crt"), authority.certificate())?;
        let kubelet = (format!("system:node:{name}"), Some("system:nodes"));
        for (file, (user, group)) in [("kubelet", kubelet), ("kube-proxy", ("system:kube-proxy".to_owned(), None))] {
            let kubeconfig = authority.kubeconfig(&control_plane::url(), &authority.user(&user, group)?);
            fs::write(home.join(file).with_extension("conf"), kubeconfig)?;
        }
        let lib = lib.display().to_string();
        self.sandbox.run("bash", &["-c", FURNISH, "bash", &lib, address, control_plane::ADDRESS, &group])?;
        Ok(())
    }

    fn launch(&mut self, plane: &ControlPlane, images: &[PathBuf]) -> Result<()> {
        let tools = plane.client().tools();
        let containerd = self.spawn(Path::new("containerd"), &["--config=/var/lib/node/containerd.toml"])?;
        containerd.wait_for_line(Stream::Stderr, PATIENCE, |line| line.contains("successfully booted"))?;
        images.iter().try_for_each(|image| self.load(image))?;
        let Identity { name, address, .. } = &self.identity;
        let kubelet = [
            "--config=/var/lib/node/kubelet.yaml",
            "--kubeconfig=/var/lib/node/kubelet.conf",
            &format!("--hostname-override={name}"),
            &format!("--node-ip={address}"),
        ];
        let kubelet = self.spawn(&tools.program("kubelet"), &kubelet)?;
        let proxy = self.spawn(&tools.program("kube-proxy"), &["--config=/var/lib/node/kube-proxy.yaml"])?;
        let ready = "{.status.conditions[?(@.type==\"Ready\")].status}";
        plane.client().wait_for(&["node", name], ready, PATIENCE, |state| state == "True")?;
        self.programs = vec![containerd, kubelet, proxy];
        self.programs.iter().try_for_each(Process::ensure_running)
    }

    fn spawn(&self, program: &Path, args: &[&str]) -> Result<Process> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let mut command = self.sandbox.inside(Command::new(program).args(args));
        Process::spawn(&name, &mut command, &self.sandbox.logs())
    }
}
