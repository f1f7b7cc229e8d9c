//! A real RabbitMQ with its MQTT plugin on loopback, from the distribution's packages.
//!
//! It is started by Erlang's own loader: the scripts that the packages bring know only the system's folders. Its data,
//! logs and cookie lie in a folder of its own, and the directory of Erlang's nodes, `epmd`, is a process of the test's
//! on a port of its own, which ends with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    debian::Packages,
    peer::{PASSWORD, Peer, USER},
    port,
    process::{Process, Signal, Stream},
    project,
    unavailable::Unavailable,
};

/// Erlang compiles much at each start: twelve seconds on two idle cores, a minute and a half on busy ones.
const PATIENCE: Duration = Duration::from_mins(4);

/// The packages' folders.
#[derive(Clone, Debug)]
pub struct Installation {
    packages: Packages,
    erlang: PathBuf,
    /// `erlexec`, `epmd` and the virtual machine.
    programs: PathBuf,
    rabbitmq: PathBuf,
}

impl Installation {
    /// The system's RabbitMQ where there is one, otherwise the project's, unpacked at the first call.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no network or no Debian.
    pub fn find_or_unpack() -> Result<Installation, Unavailable> {
        unpacked().map_err(|reason| Unavailable::new("RabbitMQ", reason))
    }

    fn epmd(&self, port: u16) -> Command {
        let mut command = Command::new(self.programs.join("epmd"));
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        command
    }

    /// The broker with its own folders below `dir`.
    fn command(&self, dir: &Path, ports: &Ports) -> Command {
        let mut command = Command::new(self.programs.join("erlexec"));
        self.packages.show(&mut command);
        command.current_dir(dir).env("HOME", dir);
        command.env("ROOTDIR", &self.erlang).env("BINDIR", &self.programs).env("EMU", "beam").env("PROGNAME", "erl");
        command.env("ERL_LIBS", self.rabbitmq.join("plugins")).env("RABBITMQ_HOME", &self.rabbitmq);
        command.env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", ports.epmd.to_string());
        command.env("RABBITMQ_DIST_PORT", ports.nodes.to_string()).env("RABBITMQ_NODENAME", "broker@localhost");
        command.env("RABBITMQ_LOGS", "-").env("RABBITMQ_UPGRADE_LOG", "-");
        for (name, file) in [
            ("LOG_BASE", "log"),
            ("MNESIA_BASE", "data"),
            ("FEATURE_FLAGS_FILE", "feature_flags"),
            ("PID_FILE", "pid"),
            ("GENERATED_CONFIG_DIR", "generated"),
            ("ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("CONFIG_FILE", "rabbitmq"),
            // Neither exists, so that the system's are not read.
            ("ADVANCED_CONFIG_FILE", "advanced.config"),
            ("CONF_ENV_FILE", "environment"),
        ] {
            command.env(format!("RABBITMQ_{name}"), dir.join(file));
        }
        command.args(["-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl", "+W", "w"]);
        command.args(["-kernel", "inet_dist_use_interface", "{127,0,0,1}"]);
        command.args(["-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"]);
        command
    }
}

fn unpacked() -> Result<Installation> {
    let packages = Packages::unpack(&["rabbitmq-server"])?;
    let erlang = packages.file("usr/lib/erlang")?;
    let programs = versioned(&erlang, "erts-")?.join("bin");
    let rabbitmq = versioned(&packages.file("usr/lib/rabbitmq/lib")?, "rabbitmq_server-")?;
    Ok(Installation { packages, erlang, programs, rabbitmq })
}

/// The folder in `dir` whose name is `name` and a version.
fn versioned(dir: &Path, name: &str) -> Result<PathBuf> {
    let mut entries = fs::read_dir(dir)?.filter_map(Result::ok);
    let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(name));
    Ok(found.with_context(|| format!("there is no {name}VERSION in {}", dir.display()))?.path())
}

#[derive(Debug)]
struct Ports {
    mqtt: u16,
    /// Where nodes would speak with each other.
    nodes: u16,
    epmd: u16,
}

/// A running broker with one user, that admits everybody who names none; killed on drop.
///
/// What it has of sessions and messages is on disk, so it keeps them over a stop and over a kill.
pub struct RabbitMq {
    installation: Installation,
    ports: Ports,
    // Before the folder, so that the processes end first.
    process: Process,
    _epmd: Process,
    dir: TempDir,
    starts: u32,
}

impl RabbitMq {
    /// Starts a broker and awaits that it listens.
    ///
    /// # Errors
    /// When RabbitMQ cannot be had on this machine ([`Unavailable`]), or does not start.
    pub fn start() -> Result<RabbitMq> {
        let installation = Installation::find_or_unpack()?;
        let [mqtt, nodes, epmd] = port::free_many()?;
        let (ports, dir) = (Ports { mqtt, nodes, epmd }, tempfile::tempdir()?);
        let template = fs::read_to_string(project::root().join("tests/rabbitmq/rabbitmq.conf"))
            .context("the committed configuration is not readable")?;
        let own =
            format!("mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}\ndefault_user = {USER}\ndefault_pass = {PASSWORD}\n");
        fs::write(dir.path().join("rabbitmq.conf"), template + &own)?;
        fs::write(dir.path().join("enabled_plugins"), "[rabbitmq_mqtt].\n")?;
        let names = Process::spawn("epmd", &mut installation.epmd(epmd), dir.path())?;
        let process = launch(&installation, dir.path(), &ports, 1)?;
        Ok(RabbitMq { installation, ports, process, _epmd: names, dir, starts: 1 })
    }
}

impl Peer for RabbitMq {
    fn port(&self) -> u16 {
        self.ports.mqtt
    }

    fn stop(&mut self) -> Result<()> {
        self.process.terminate(PATIENCE).map(drop)
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    fn start_again(&mut self) -> Result<()> {
        // Fails only when it has ended already.
        drop(self.process.signal(Signal::KILL));
        self.process.wait(PATIENCE)?;
        self.starts += 1;
        self.process = launch(&self.installation, self.dir.path(), &self.ports, self.starts)?;
        Ok(())
    }
}

fn launch(installation: &Installation, dir: &Path, ports: &Ports, start: u32) -> Result<Process> {
    let process = Process::spawn(&format!("rabbitmq-{start}"), &mut installation.command(dir, ports), dir)?;
    process.wait_for_line(Stream::Stdout, PATIENCE, |line| line.contains("Server startup complete"))?;
    Ok(process)
}
