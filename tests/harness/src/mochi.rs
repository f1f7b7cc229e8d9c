//! A real broker written in Go, mochi-mqtt, built from its module into the project's cache.
//!
//! Needed are Go and its module proxy, and half a minute at the first call. After that the program lies in
//! `.cache/mochi/`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    go::Recipe,
    peer::{Access, PASSWORD, Peer, USER},
    port,
    process::{Process, Signal, Stream},
    progress::Progress,
    project,
    unavailable::Unavailable,
};

/// How long it may take to listen and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

const PROGRAM: &str = "mochi";

/// The program, built at the first call.
///
/// # Errors
/// [`Unavailable`] with the reason, for example no Go or no module proxy.
pub fn find_or_build() -> Result<PathBuf, Unavailable> {
    built().map_err(|reason| Unavailable::new("mochi-mqtt", reason))
}

fn built() -> Result<PathBuf> {
    let recipe = Recipe {
        name: "mochi",
        module: project::root().join("tests/mochi"),
        files: &["go.mod", "go.sum", "main.go"],
        also: String::new(),
    };
    let dir = recipe.find_or_build(&Progress::default(), |go, into| go.build(".", &into.join(PROGRAM), &[]))?;
    Ok(dir.join(PROGRAM))
}

/// Where it keeps sessions and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In its memory: they end with it.
    Memory,
    /// In a file, which outlives a stop and a kill, and takes several transactions a message.
    File,
}

/// A running broker; killed on drop.
pub struct Mochi {
    program: PathBuf,
    port: u16,
    access: Access,
    storage: Storage,
    // Before the folder, so that the process ends first.
    process: Process,
    dir: TempDir,
    starts: u32,
}

impl Mochi {
    /// Starts a broker and awaits that it listens.
    ///
    /// # Errors
    /// When it cannot be had on this machine ([`Unavailable`]), or does not start.
    pub fn start(access: Access, storage: Storage) -> Result<Mochi> {
        let (program, port, dir) = (find_or_build()?, port::free()?, tempfile::tempdir()?);
        let process = launch(&program, port, access, storage, dir.path(), 1)?;
        Ok(Mochi { program, port, access, storage, process, dir, starts: 1 })
    }
}

impl Peer for Mochi {
    fn port(&self) -> u16 {
        self.port
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
        self.process = launch(&self.program, self.port, self.access, self.storage, self.dir.path(), self.starts)?;
        Ok(())
    }
}

fn launch(program: &Path, port: u16, access: Access, storage: Storage, dir: &Path, start: u32) -> Result<Process> {
    let mut command = Command::new(program);
    command.arg("-listen").arg(format!("127.0.0.1:{port}"));
    if storage == Storage::File {
        command.arg("-state").arg(dir.join("state"));
    }
    if access == Access::Guarded {
        command.args(["-user", USER, "-password", PASSWORD]);
    }
    let process = Process::spawn(&format!("mochi-{start}"), &mut command, dir)?;
    process.wait_for_line(Stream::Stderr, PATIENCE, |line| line.contains("mochi listens"))?;
    Ok(process)
}
