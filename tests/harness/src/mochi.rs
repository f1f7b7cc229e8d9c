//! A real broker written in Go, mochi-mqtt, built from its module into the project's cache.
//!
//! Needed are Go and its module proxy, and half a minute at the first call. After that the program lies in
//! `.cache/mochi/HASH/`, named by everything that it depends on.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    command,
    peer::{Access, PASSWORD, Peer, USER},
    port,
    process::{Process, Signal, Stream},
    project,
    unavailable::Unavailable,
};

/// How long it may take to listen and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A build that takes longer hangs.
const BUILD_PATIENCE: &str = "10m";

/// The program, built at the first call.
///
/// # Errors
/// [`Unavailable`] with the reason, for example no Go or no module proxy.
pub fn find_or_build() -> Result<PathBuf, Unavailable> {
    built().map_err(|reason| Unavailable::new("mochi-mqtt", reason))
}

fn built() -> Result<PathBuf> {
    let home = project::cache().join("mochi");
    fs::create_dir_all(&home)?;
    // Tests run side by side, also in several processes; the first one builds, the others wait.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let program = home.join(fingerprint()?);
    if !program.is_file() {
        // Renamed when complete, so that a broken build is never taken for the program.
        let fresh = home.join("building");
        build(&fresh)?;
        fs::rename(&fresh, &program)?;
    }
    Ok(program)
}

/// The folder with `go.mod`.
fn module() -> PathBuf {
    project::root().join("tests/mochi")
}

/// Names everything that the program depends on.
fn fingerprint() -> Result<String> {
    let version = command::text(Command::new("go").arg("version").current_dir(module()))?;
    let mut hash = Sha256::new_with_prefix(version);
    for file in ["go.mod", "go.sum", "main.go"] {
        hash.update(fs::read(module().join(file)).with_context(|| format!("tests/mochi/{file}"))?);
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

fn build(into: &Path) -> Result<()> {
    let mut command = Command::new("timeout");
    // In the foreground, so that Ctrl-C in a terminal ends the build, too.
    command.args(["--foreground", "--kill-after=10", BUILD_PATIENCE, "nice", "-n", "10"]);
    command.args(["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"]).arg(into).arg(".");
    // Without C the program is static, and no C compiler is needed.
    command::run(command.env("CGO_ENABLED", "0").current_dir(module()))?;
    Ok(())
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
