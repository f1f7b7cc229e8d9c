//! A sink of its own process that acknowledges and does nothing else, so that the generator is what is measured.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    cores::Core,
    eventually,
    process::{Process, Signal, Stream},
    project,
};

/// How long it may take to listen and to answer; it answers between two turns of its loop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running null broker; killed on drop.
pub struct NullBroker {
    process: Process,
    port: u16,
}

/// How a null broker is started.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The binary, where it is not beside the running test; see [`project::binary`].
    pub binary: Option<PathBuf>,
    /// The only core it may use.
    pub core: Option<Core>,
    /// What becomes of a PUBLISH.
    pub routing: Routing,
}

/// What becomes of a PUBLISH beside its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// Nothing.
    #[default]
    Discard,
    /// It is forwarded at QoS 0 to every session with a matching subscription.
    Echo,
}

/// What it counted since it started.
#[derive(Clone, Debug, PartialEq)]
pub struct Counters(Value);

impl NullBroker {
    /// Starts one on a free port of 127.0.0.1, with its logs in `logs`.
    ///
    /// # Errors
    /// When `null-broker` has not been built or does not listen.
    pub fn start(settings: Settings, logs: &Path) -> Result<NullBroker> {
        let mut command = Command::new(settings.binary.map_or_else(|| project::binary("null-broker"), Ok)?);
        command.args(["--port", "0"]);
        if settings.routing == Routing::Echo {
            command.arg("--echo");
        }
        let process = match settings.core {
            Some(core) => Process::spawn_on(core, "null-broker", &mut command, logs)?,
            None => Process::spawn("null-broker", &mut command, logs)?,
        };
        let line = process.wait_for_line(Stream::Stdout, PATIENCE, |line| line.starts_with("listening on "))?;
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        Ok(NullBroker { process, port: port.with_context(|| format!("no port in {line:?}"))? })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address as `simctl --broker` takes it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// What it has counted up to now.
    pub fn counters(&self) -> Result<Counters> {
        self.process.signal(Signal::USR1)?;
        let line = self.process.wait_for_line(Stream::Stdout, PATIENCE, |line| line.starts_with('{'))?;
        Ok(Counters(serde_json::from_str(&line)?))
    }

    /// Awaits that `count` sessions are open.
    pub fn wait_for_sessions(&self, count: u64, within: Duration) -> Result<Counters> {
        eventually(&format!("{count} open sessions"), within, || {
            let counters = self.counters()?;
            Ok((counters.get("sessions") == count).then_some(counters))
        })
    }

    /// Its process, to measure it.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

impl Counters {
    /// The counter of a name, 0 for one that does not exist; names as in its line of JSON.
    pub fn get(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_default()
    }

    /// Messages received at all QoS together.
    pub fn messages(&self) -> u64 {
        ["qos0", "qos1", "qos2"].map(|name| self.get(name)).iter().sum()
    }

    /// Sessions opened per second, from the first connection since there was none to the last CONNACK.
    pub fn connects_per_second(&self) -> f64 {
        self.0["connects_per_second"].as_f64().unwrap_or_default()
    }
}
