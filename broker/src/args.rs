//! The command line: what was typed, and what is meant by it.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use broker::{Config, File, Limits, MEMORY_DEFAULT, Users};
use clap::Parser;
use fleet_contract::units::Bytes;

const EXAMPLES: &str = "\
Examples:
  broker                                   listen on 127.0.0.1:1883
  broker --listen '[::]:1883'              listen on every address, IPv4 and IPv6
  broker --listen 127.0.0.1:0              take a free port; the log says which
  broker --users users.txt                 lines of name:password, read again when they change
  broker --data /var/lib/broker            keep sessions and retained messages over a restart
  broker --memory 1GiB                     room for 8,192 devices
  broker --config broker.yaml --metrics 127.0.0.1:9883

Configuration file (every field optional, unknown ones are refused):
  listen: 127.0.0.1:1883
  metrics: 127.0.0.1:9883
  users: users.txt
  anonymous: anonymous.txt
  data: /var/lib/broker
  memory: 256MiB
  limits: {connections: 2112, sessions: 4224, packet: 256KiB, inFlight: 1000,
           queueMessages: 20000, queueBytes: 64MiB, filters: 9448, topics: 100000,
           retained: 100000}

Exit codes: 0 stopped as asked, 1 failed, 2 wrong flags or configuration.

Without --data nothing is kept on disk. With it, sessions and retained messages outlive a stop by
SIGTERM or Ctrl-C; a broker that is killed begins with none. For more devices, or to measure a broker, bring one; on Debian or Ubuntu:
  sudo apt install mosquitto && mosquitto -p 1883";

/// An MQTT 3.1.1 broker for some thousand simulated devices on one machine
///
/// Flags override the configuration file, the file overrides the defaults.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Args {
    /// Configuration file, YAML
    #[arg(long, value_name = "FILE", env = "SIMCTL_BROKER_CONFIG")]
    config: Option<PathBuf>,

    /// Address for clients; port 0 takes a free one [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDRESS:PORT", env = "SIMCTL_BROKER_LISTEN", value_parser = fleet_contract::listen::parse)]
    listen: Option<SocketAddr>,

    /// Address for /metrics, /healthz and /readyz over HTTP [default: none]
    #[arg(long, value_name = "ADDRESS:PORT", env = "SIMCTL_BROKER_METRICS", value_parser = fleet_contract::listen::parse)]
    metrics: Option<SocketAddr>,

    /// File of name:password lines; everybody may connect without
    #[arg(long, value_name = "FILE", env = "SIMCTL_BROKER_USERS")]
    users: Option<PathBuf>,

    /// File that says `true` while clients without credentials may connect beside the users [default: they may not]
    #[arg(long, value_name = "FILE", env = "SIMCTL_BROKER_ANONYMOUS")]
    anonymous: Option<PathBuf>,

    /// Folder in which sessions and retained messages outlive a stop [default: none]
    #[arg(long, value_name = "FOLDER", env = "SIMCTL_BROKER_DATA")]
    data: Option<PathBuf>,

    /// Memory from which the limits follow, 128 KiB a device [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "SIMCTL_BROKER_MEMORY")]
    memory: Option<Bytes>,

    /// Clients connected at a time [default: from --memory]
    #[arg(long, value_name = "N", env = "SIMCTL_BROKER_CONNECTIONS")]
    connections: Option<usize>,

    /// Largest packet [default: 256KiB]
    #[arg(long, value_name = "SIZE", env = "SIMCTL_BROKER_PACKET")]
    packet: Option<Bytes>,

    /// What is logged to stderr, as for the crate tracing: info, broker=debug
    #[arg(long, value_name = "FILTER", env = "SIMCTL_BROKER_LOG", default_value = "info")]
    pub(crate) log: String,
}

/// What was meant, validated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) broker: Config,
    pub(crate) metrics: Option<SocketAddr>,
}

impl Args {
    /// Reads the files that the flags name, and merges.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let file = match &self.config {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        let memory = self.memory.or(file.memory).map_or(MEMORY_DEFAULT, |m| m.0);
        let mut limits = Limits::for_memory(memory);
        file.limits.apply(&mut limits);
        if let Some(connections) = self.connections {
            limits.connections = connections;
        }
        if let Some(packet) = self.packet {
            limits.packet_bytes = usize::try_from(packet.0).context("--packet is too large")?;
        }
        limits.sessions = limits.sessions.max(limits.connections);
        let users = match (self.users.or(file.users), self.anonymous.or(file.anonymous)) {
            (Some(users), Some(anonymous)) => Some(Users::read(&users)?.or_anonymous(&anonymous)?),
            (Some(users), None) => Some(Users::read(&users)?),
            (None, Some(_)) => bail!("--anonymous needs --users: without users everybody may connect"),
            (None, None) => None,
        };
        let defaults = Config::default();
        Ok(Settings {
            broker: Config {
                listen: self.listen.or(file.listen).unwrap_or(defaults.listen),
                limits,
                users,
                data: self.data.or(file.data),
            },
            metrics: self.metrics.or(file.metrics),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn settings(flags: &[&str]) -> anyhow::Result<Settings> {
        let flags = std::iter::once(&"broker").chain(flags);
        Args::try_parse_from(flags)?.settings()
    }

    #[test]
    fn the_command_is_well_formed_and_every_flag_has_a_variable() {
        let command = Args::command();
        command.clone().debug_assert();
        for flag in command.get_arguments().filter(|a| a.get_long().is_some()) {
            let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned());
            let long = flag.get_long().unwrap();
            let expected = format!("SIMCTL_BROKER_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(variable, Some(expected));
        }
    }

    #[test]
    fn flags_override_the_file_and_the_file_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.yaml");
        std::fs::write(&path, "listen: 127.0.0.1:1\nmetrics: 127.0.0.1:2\nmemory: 1GiB\n").unwrap();
        let config = path.to_str().unwrap();
        let merged = settings(&["--config", config, "--listen", "127.0.0.1:3"]).unwrap();
        assert_eq!(merged.broker.listen.port(), 3);
        assert_eq!(merged.metrics.unwrap().port(), 2);
        assert_eq!(merged.broker.limits.connections, 8_192 + broker::SPARE_CONNECTIONS);
        assert_eq!(merged.broker.limits.packet_bytes, 256 * 1024);
    }

    #[test]
    fn without_flags_it_listens_on_loopback() {
        let defaults = Settings { broker: Config::default(), metrics: None };
        assert_eq!(settings(&[]).unwrap(), defaults);
    }
}
