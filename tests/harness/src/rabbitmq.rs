//! A real RabbitMQ with its MQTT plugin on loopback, from Debian's packages.
//!
//! Its release 4 is wanted, which speaks MQTT 5 (since 3.13) and has a user for clients that name none (since 4.0).
//! Debian has it since trixie; on an earlier system it comes from there, with Erlang and all libraries.
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
    debian::{Packages, Release, candidate, versioned},
    peer::{PASSWORD, Peer, USER},
    port,
    process::{Process, Signal, Stream},
    project,
    unavailable::Unavailable,
};

/// Erlang compiles much at each start: ten seconds on two cores, a minute and a half on busy ones.
const PATIENCE: Duration = Duration::from_mins(4);

const PACKAGE: &str = "rabbitmq-server";

/// The first release of Debian with a RabbitMQ that does.
const DEBIAN: &str = "trixie";

/// What a broker starts of Erlang.
const PROGRAMS: [&str; 5] = ["beam.smp", "epmd", "erl_child_setup", "erlexec", "inet_gethost"];

/// The packages' folders.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The system's, whose libraries are to be shown to the programs; none where the programs know their own.
    packages: Option<Packages>,
    erlang: PathBuf,
    /// The folder of [`PROGRAMS`].
    programs: PathBuf,
    rabbitmq: PathBuf,
}

impl Installation {
    /// The system's RabbitMQ where its release does, otherwise Debian's, unpacked at the first call.
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
        if let Some(packages) = &self.packages {
            packages.show(&mut command);
        }
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
        // Else Erlang watches the machine with more programs, and RabbitMQ asks them nothing.
        for watch in ["start_cpu_sup", "start_disksup", "start_memsup"] {
            command.args(["-os_mon", watch, "false"]);
        }
        command.args(["-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"]);
        command
    }
}

fn unpacked() -> Result<Installation> {
    match candidate(PACKAGE)? {
        Some(version) if speaks_mqtt_5(&version) => of_the_system(),
        _ => of_debian(),
    }
}

/// Whether a RabbitMQ of this version is the one that is wanted.
fn speaks_mqtt_5(version: &str) -> bool {
    version.split_once('.').and_then(|(major, _)| major.parse().ok()).is_some_and(|major: u32| major >= 4)
}

fn of_the_system() -> Result<Installation> {
    let packages = Packages::unpack(&[PACKAGE])?;
    let erlang = packages.file("usr/lib/erlang")?;
    let programs = versioned(&erlang, "erts-")?.join("bin");
    let rabbitmq = versioned(&packages.file("usr/lib/rabbitmq/lib")?, "rabbitmq_server-")?;
    Ok(Installation { packages: Some(packages), erlang, programs, rabbitmq })
}

fn of_debian() -> Result<Installation> {
    let release = Release::unpack(DEBIAN, &[PACKAGE])?;
    let erlang = release.file("usr/lib/erlang")?;
    let programs = release.starters(&versioned(&erlang, "erts-")?.join("bin"), &PROGRAMS)?;
    let rabbitmq = versioned(&release.file("usr/lib/rabbitmq/lib")?, "rabbitmq_server-")?;
    Ok(Installation { packages: None, erlang, programs, rabbitmq })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_5_with_a_user_for_the_nameless_came_with_release_4() {
        assert!(speaks_mqtt_5("4.0.5-6+deb13u2") && speaks_mqtt_5("10.1"));
        assert!(!speaks_mqtt_5("3.10.8-1.1+deb12u1") && !speaks_mqtt_5("3.13.7") && !speaks_mqtt_5(""));
    }
}
