//! Mosquitto from the distribution's package, unpacked into the project's cache and never installed.
//!
//! `apt-get` itself says which of the packages that Mosquitto needs this system lacks; those, and Mosquitto, are
//! downloaded and unpacked side by side. Where the system's package lists are missing or stale, lists of our own are
//! fetched into the cache. Nothing outside the cache is written and no right of root is needed.

use std::{
    ffi::OsString,
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use thiserror::Error;

use crate::project;

/// Where a system that has Mosquitto keeps it.
const SYSTEM: [&str; 2] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

/// Mosquitto cannot be had on this machine.
#[derive(Debug, Error)]
#[error("NOT RUN: {}", self.reason())]
pub struct Unavailable {
    reason: anyhow::Error,
}

impl Unavailable {
    /// What is needed and why it cannot be had, without the NOT RUN.
    pub fn reason(&self) -> String {
        format!("needs Mosquitto, because {:#}", self.reason)
    }
}

/// A Mosquitto that can be started.
#[derive(Clone, Debug)]
pub struct Installation {
    binary: PathBuf,
    /// Libraries that the system lacks; empty for a system's own Mosquitto.
    libraries: OsString,
}

impl Installation {
    /// The system's Mosquitto where there is one, otherwise the project's, unpacked at the first call.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no network or no Debian.
    pub fn find_or_unpack() -> Result<Installation, Unavailable> {
        if let Some(binary) = SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file()) {
            return Ok(Installation { binary, libraries: OsString::new() });
        }
        unpacked().map_err(|reason| Unavailable { reason })
    }

    /// The broker, yet without arguments.
    pub fn command(&self) -> Command {
        self.tool(&self.binary)
    }

    /// A password file with one user.
    pub fn write_password_file(&self, path: &Path, user: &str, password: &str) -> Result<()> {
        let passwd = self.binary.with_file_name("mosquitto_passwd");
        let in_bin = self.binary.with_file_name("../bin/mosquitto_passwd");
        let tool = if passwd.is_file() { passwd } else { in_bin };
        run(self.tool(&tool).args(["-c", "-b"]).arg(path).args([user, password]))?;
        Ok(())
    }

    fn tool(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        if !self.libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", &self.libraries);
        }
        command
    }
}

fn unpacked() -> Result<Installation> {
    let home = project::cache().join("mosquitto");
    fs::create_dir_all(&home)?;
    // Tests run side by side, also in several processes; the first one unpacks, the others wait.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let root = home.join("root");
    if !root.is_dir() {
        // Renamed when complete, so that a broken download is never taken for an installation.
        let fresh = home.join("unpacking");
        drop(fs::remove_dir_all(&fresh));
        fs::create_dir_all(&fresh)?;
        let packages = download(&home)?;
        for package in packages {
            run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&fresh))?;
        }
        fs::rename(&fresh, &root)?;
    }
    let installation = Installation { binary: root.join("usr/sbin/mosquitto"), libraries: libraries(&root)? };
    let help = installation.command().arg("-h").output().context("the unpacked Mosquitto does not start")?;
    let says = String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).into_owned();
    ensure!(says.contains("mosquitto version"), "the unpacked Mosquitto does not start: {says}");
    Ok(installation)
}

/// The directories with shared libraries below `root`, as `LD_LIBRARY_PATH` takes them.
fn libraries(root: &Path) -> Result<OsString> {
    let mut dirs = Vec::new();
    for base in ["lib", "usr/lib"].map(|base| root.join(base)).into_iter().filter(|base| base.is_dir()) {
        // Debian keeps them one level lower, in a directory named by the architecture.
        for entry in fs::read_dir(&base)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            }
        }
        dirs.push(base);
    }
    Ok(std::env::join_paths(dirs)?)
}

/// Downloads Mosquitto's package and those it needs and the system lacks.
fn download(home: &Path) -> Result<Vec<PathBuf>> {
    let packages = home.join("packages");
    fs::create_dir_all(&packages)?;
    let system = Apt { options: Vec::new() };
    match system.download(&packages) {
        Ok(files) => Ok(files),
        Err(first) => {
            let own = Apt::with_own_lists(home)?;
            own.update()?;
            own.download(&packages).with_context(|| format!("with the system's package lists: {first:#}"))
        }
    }
}

/// `apt-get` with the options that keep it out of the system.
struct Apt {
    options: Vec<OsString>,
}

impl Apt {
    fn with_own_lists(home: &Path) -> Result<Apt> {
        let mut options = Vec::new();
        for (key, dir) in [("Dir::State::lists", "apt/lists"), ("Dir::Cache", "apt/cache")] {
            let dir = home.join(dir);
            fs::create_dir_all(dir.join("partial"))?;
            fs::create_dir_all(dir.join("archives/partial"))?;
            options.extend(["-o".into(), format!("{key}={}", dir.display()).into()]);
        }
        Ok(Apt { options })
    }

    /// One source of several may be out of reach without harm, so the exit code says nothing.
    fn update(&self) -> Result<()> {
        self.command("update").output().context("apt-get does not start")?;
        Ok(())
    }

    fn download(&self, into: &Path) -> Result<Vec<PathBuf>> {
        let missing = self.missing()?;
        run(self.command("download").args(&missing).current_dir(into))?;
        let mut files = Vec::new();
        for entry in fs::read_dir(into)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                files.push(path);
            }
        }
        Ok(files)
    }

    /// The names of the packages that installing Mosquitto would bring.
    fn missing(&self) -> Result<Vec<String>> {
        let output = run(self.command("install").args(["--simulate", "--no-install-recommends", "mosquitto"]))?;
        let plan = String::from_utf8_lossy(&output.stdout).into_owned();
        let names: Vec<String> = plan
            .lines()
            .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next().map(str::to_owned))
            .collect();
        ensure!(names.iter().any(|name| name == "mosquitto"), "apt-get would not install mosquitto:\n{plan}");
        Ok(names)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C").args(&self.options);
        // Without the first, root's apt-get downloads as a user that may not enter the cache.
        command.args(["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30"]);
        command.arg(verb);
        command
    }
}

/// Runs to the end; a failure shows what was run and what it said.
fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{} does not start", command.get_program().display()))?;
    let says = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", says.trim());
    Ok(output)
}
