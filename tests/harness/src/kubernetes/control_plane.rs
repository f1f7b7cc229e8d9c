//! A control plane in a network of its own: etcd, the API server, the controller manager and the scheduler, and beside
//! them KWOK, which plays nodes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use super::{
    PATIENCE,
    authority::{self, Authority},
    build::Tools,
    client::Client,
    detour::Detour,
    fake_nodes,
    kwok::Kwok,
};
use crate::{
    debian::Packages,
    eventually,
    process::Process,
    sandbox::{Network, Sandbox},
    unavailable::Unavailable,
    usage::Cpu,
};

mod arguments;

pub(super) use arguments::{ADDRESS, PODS};

/// Where the API server listens.
pub(super) const PORT: u16 = 6443;

/// Of the bridge, locally administered.
const HARDWARE_ADDRESS: &str = "02:00:0a:fa:00:01";

/// The environment variable that lets Kubernetes' controllers ask the API server only as often as by their defaults: each
/// 20 times a second, and 30 times at once. Tests raise both, because they would wait for nothing else.
pub const DEFAULT_RATES: &str = "SIMCTL_TEST_DEFAULT_RATES";

/// How it differs from the smallest one.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Nodes that KWOK plays, each with room for 1,000 pods. Only pods that tolerate `kwok.x-k8s.io/node` go there.
    pub fake_nodes: u32,
    /// Further arguments of the controller manager.
    pub controller_manager: Vec<String>,
}

/// A running control plane; all of it ends on drop, or with the process that started it.
pub struct ControlPlane {
    // Dropped first, it ends the programs.
    sandbox: Sandbox,
    programs: Vec<Process>,
    authority: Authority,
    tools: Tools,
    client: Client,
    users: AtomicU32,
}

impl ControlPlane {
    /// What a control plane needs, built and unpacked at the first call, which takes minutes.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub fn requirements() -> Result<(Tools, Packages), Unavailable> {
        Sandbox::check().map_err(|reason| Unavailable::new("namespaces", reason))?;
        let packages =
            Packages::unpack(&["iproute2"]).map_err(|reason| Unavailable::new("Debian's iproute2", reason))?;
        Ok((Tools::find_or_build()?, packages))
    }

    /// Starts one and awaits that it takes objects, and that its fake nodes are Ready.
    ///
    /// # Errors
    /// When a part of it cannot be had on this machine ([`Unavailable`]), or does not start.
    pub fn start(settings: &Settings) -> Result<ControlPlane> {
        let (tools, packages) = ControlPlane::requirements()?;
        // Before anything runs, because it may have to be built.
        let kwok = if settings.fake_nodes > 0 { Some(Kwok::find_or_build()?) } else { None };
        let mut plane = ControlPlane::start_with(&tools, &packages, settings)?;
        // Nobody answers at a fake pod's address. Saying so at once spares callers their timeouts.
        plane.sandbox.run("ip", &["route", "add", "unreachable", "default"])?;
        if let Some(kwok) = kwok {
            let kwok = fake_nodes::start(&plane, &kwok, settings.fake_nodes)?;
            plane.programs.push(kwok);
        }
        Ok(plane)
    }

    pub(super) fn start_with(tools: &Tools, packages: &Packages, settings: &Settings) -> Result<ControlPlane> {
        let sandbox = Sandbox::start("control-plane", packages)?;
        // A bridge without ports carries an address as a network card does: Kubernetes takes none on loopback.
        // Without a hardware address of its own it would take that of a port, and change it when a node dies; until the
        // other nodes have noticed, they would seem dead, too.
        sandbox.run("ip", &["link", "add", "wire", "address", HARDWARE_ADDRESS, "type", "bridge"])?;
        sandbox.run("ip", &["address", "add", &format!("{ADDRESS}/24"), "dev", "wire"])?;
        sandbox.run("ip", &["link", "set", "wire", "up"])?;
        let authority = Authority::new()?;
        write_identities(&sandbox, &authority)?;
        let client = Client::new(tools, sandbox.state().join("admin.conf"), sandbox.network());
        let users = AtomicU32::new(0);
        let mut plane = ControlPlane { sandbox, programs: Vec::new(), authority, tools: tools.clone(), client, users };
        plane.launch(settings)?;
        Ok(plane)
    }

    /// Speaks to it as its administrator.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its network, which everything that speaks to it must be in.
    pub fn network(&self) -> Network {
        self.sandbox.network()
    }

    /// Where its parts write what they say, a file each; kept until the next test.
    pub fn logs(&self) -> PathBuf {
        self.sandbox.logs()
    }

    /// CPU time of one of its programs, such as `kube-apiserver`.
    ///
    /// # Errors
    /// When it has ended, or there is none of that name.
    pub fn cpu(&self, program: &str) -> Result<Cpu> {
        let found = self.programs.iter().find(|process| process.name() == program);
        found.with_context(|| format!("{program} is no part of the control plane"))?.cpu()
    }

    /// Speaks to it as a service account, with no other rights than those of that.
    pub fn service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        let token = self.client.kubectl(["create", "token", name, "-n", namespace, "--duration", "2h"])?;
        self.user_with(&self.authority.kubeconfig_with_token(&url(), token.trim()))
    }

    /// Speaks to it as a user and member of a group, both of which may be new to it.
    pub fn user(&self, user: &str, group: &str) -> Result<Client> {
        let identity = self.authority.user(user, Some(group))?;
        self.user_with(&self.authority.kubeconfig(&url(), &identity))
    }

    /// A way of `client` to the API server that a test can break without harm to anybody else.
    pub fn detour(&self, client: &Client) -> Result<Detour> {
        Detour::start(client, &self.network(), &self.logs(), |url| {
            self.user_with(&self.authority.kubeconfig_without_identity(url))
        })
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Starts one of the release's programs in its directory.
    pub(super) fn spawn_tool(&self, name: &str, args: &[String]) -> Result<Process> {
        self.spawn(name, &self.tools.program(name), args)
    }

    /// Starts a program in its directory.
    pub(super) fn spawn(&self, name: &str, program: &Path, args: &[String]) -> Result<Process> {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.sandbox.state());
        Process::spawn(name, &mut self.sandbox.inside(&command), &self.sandbox.logs())
    }

    /// An error where one of its programs has ended.
    pub(super) fn ensure_running(&self) -> Result<()> {
        self.programs.iter().try_for_each(Process::ensure_running)
    }

    fn user_with(&self, kubeconfig: &str) -> Result<Client> {
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        let path = self.sandbox.state().join(format!("user-{number}.conf"));
        fs::write(&path, kubeconfig)?;
        Ok(self.client.with_kubeconfig(path))
    }

    fn launch(&mut self, settings: &Settings) -> Result<()> {
        self.programs.push(self.spawn_tool("etcd", &arguments::etcd())?);
        self.programs.push(self.spawn_tool("kube-apiserver", &arguments::api_server())?);
        self.until("the API server is ready", &["get", "--raw", "/readyz"])?;
        let manager = arguments::controller_manager(&settings.controller_manager);
        self.programs.push(self.spawn_tool("kube-controller-manager", &manager)?);
        self.programs.push(self.spawn_tool("kube-scheduler", &arguments::scheduler())?);
        // Without it the API server refuses pods.
        self.until("there is a default service account", &["get", "serviceaccount", "default"])
    }

    fn until(&self, what: &str, probe: &[&str]) -> Result<()> {
        let succeeds = || {
            self.ensure_running()?;
            Ok(self.client.kubectl(probe).ok())
        };
        eventually(what, PATIENCE, succeeds)
            .map(drop)
            .with_context(|| format!("the control plane does not start; its logs are in {}", self.logs().display()))
    }
}

/// How the API server is reached in its network.
pub(super) fn url() -> String {
    format!("https://{ADDRESS}:{PORT}")
}

fn write_identities(sandbox: &Sandbox, authority: &Authority) -> Result<()> {
    let dir = sandbox.state();
    fs::write(dir.join("authority.crt"), authority.certificate())?;
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    let names = [service.as_slice(), &[ADDRESS, arguments::API_SERVICE, "127.0.0.1"]].concat();
    authority.server("kube-apiserver", &names)?.write(&dir, "api-server")?;
    authority.user("kube-apiserver", Some("system:masters"))?.write(&dir, "kubelet-client")?;
    authority.user("front-proxy", None)?.write(&dir, "front-proxy")?;
    authority::write_token_key(&dir)?;
    let users = [
        ("admin", "admin", Some("system:masters")),
        ("controller-manager", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
    ];
    for (file, user, group) in users {
        let kubeconfig = authority.kubeconfig(&url(), &authority.user(user, group)?);
        fs::write(dir.join(file).with_extension("conf"), kubeconfig)?;
    }
    Ok(())
}
