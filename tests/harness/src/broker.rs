//! The project's own broker as a process, which a test kills and starts again.

use std::{
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    port,
    process::{Process, Signal, Stream},
    project,
};

/// How long it may take to listen and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker on loopback; killed on drop.
pub struct Broker {
    port: u16,
    args: Vec<String>,
    logs: TempDir,
    process: Process,
    starts: u32,
}

impl Broker {
    /// Starts `broker` on a free port with further arguments, and awaits that it listens.
    ///
    /// # Errors
    /// When it has not been built or does not listen.
    pub fn start(args: &[&str]) -> Result<Broker> {
        let (port, logs) = (port::free()?, tempfile::tempdir()?);
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let process = launch(port, &args, &logs, 1)?;
        Ok(Broker { port, args, logs, process, starts: 1 })
    }

    /// The port of 127.0.0.1 that it listens on, the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address as `simctl --broker` takes it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Ends it with a signal.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.signal(signal)?;
        self.process.wait(PATIENCE)
    }

    /// Starts it again on its port, once it has ended.
    pub fn start_again(&mut self) -> Result<()> {
        self.process.wait(PATIENCE)?;
        self.starts += 1;
        self.process = launch(self.port, &self.args, &self.logs, self.starts)?;
        Ok(())
    }
}

fn launch(port: u16, args: &[String], logs: &TempDir, start: u32) -> Result<Process> {
    let mut command = Command::new(project::binary("broker")?);
    command.arg("--listen").arg(format!("127.0.0.1:{port}")).args(args);
    let process = Process::spawn(&format!("broker-{start}"), &mut command, logs.path())?;
    process.wait_for_line(Stream::Stderr, PATIENCE, |line| line.contains("broker listens"))?;
    Ok(process)
}
