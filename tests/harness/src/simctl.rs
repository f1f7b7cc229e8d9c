//! The built `simctl`, with a run-time directory of its own, so that tests find their own runs only.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    arm64::Emulator,
    process::{Process, Stream},
    project,
};

/// A place from which `simctl` is called: its own run-time directory and working directory, removed on drop.
pub struct Simctl {
    binary: PathBuf,
    dir: TempDir,
    /// What runs the binary where it is for another processor.
    emulator: Option<Emulator>,
}

/// What a finished call left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed as its result.
    pub stdout: String,
    /// What it said about its work.
    pub stderr: String,
}

impl Finished {
    /// The result as JSON.
    ///
    /// # Errors
    /// When it is not JSON; the message shows all that was printed.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("stdout is not JSON: {self:?}"))
    }
}

impl Simctl {
    /// A fresh place.
    ///
    /// # Errors
    /// When `simctl` has not been built; see [`project::binary`].
    pub fn new() -> Result<Simctl> {
        Simctl::at(project::binary("simctl")?)
    }

    /// A fresh place for a binary that is not beside the running test.
    pub fn at(binary: PathBuf) -> Result<Simctl> {
        Ok(Simctl { binary, dir: tempfile::tempdir()?, emulator: None })
    }

    /// A fresh place for a binary for another processor.
    pub fn emulated(binary: PathBuf, emulator: &Emulator) -> Result<Simctl> {
        Ok(Simctl { emulator: Some(emulator.clone()), ..Simctl::at(binary)? })
    }

    /// The working directory, where relative paths of arguments start.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A call, not yet started. No `SIMCTL_…` variable of the person who runs the tests reaches it, nor their clusters.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SIMCTL_")) {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.dir.path()).env("XDG_RUNTIME_DIR", self.dir.path());
        command.env("KUBECONFIG", self.dir.path().join("no-cluster.yaml")).env_remove("KUBERNETES_SERVICE_HOST");
        // What is no terminal has no colours, whatever the machine of the tests wants.
        command.env_remove("CLICOLOR_FORCE");
        match &self.emulator {
            Some(emulator) => emulator.run(&command),
            None => command,
        }
    }

    /// Starts a call that runs on, such as `run`; its logs are `NAME.stdout` and `NAME.stderr` in [`dir`](Self::dir).
    pub fn spawn(&self, name: &str, args: &[&str]) -> Result<Process> {
        Process::spawn(name, &mut self.command(args), self.dir.path())
    }

    /// Makes a call and awaits its end.
    ///
    /// # Errors
    /// When it has not ended `within` the deadline. An exit code other than 0 is no error: the caller judges it.
    pub fn call(&self, args: &[&str], within: Duration) -> Result<Finished> {
        finish(self.spawn(args.first().copied().unwrap_or("simctl"), args)?, within)
    }

    /// Makes a call with `-o json` and returns what it printed.
    ///
    /// # Errors
    /// When it has not ended `within` the deadline, ended with another code than 0, or printed no JSON.
    pub fn json(&self, args: &[&str], within: Duration) -> Result<Value> {
        let finished = self.call(&[args, &["-o", "json"]].concat(), within)?;
        ensure!(finished.code == Some(0), "simctl {args:?}: {finished:?}");
        finished.json()
    }
}

/// Awaits the end of a started call and collects what it left.
pub fn finish(mut process: Process, within: Duration) -> Result<Finished> {
    let code = process.wait(within)?.code();
    Ok(Finished { code, stdout: process.output(Stream::Stdout)?, stderr: process.output(Stream::Stderr)? })
}
