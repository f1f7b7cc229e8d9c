//! Packages of the distribution, unpacked into the project's cache and never installed.
//!
//! `apt-get` itself says which of the wanted packages, and of those that they need, this system lacks; these are
//! downloaded and unpacked side by side. Where the system's package lists are missing or stale, lists of our own are
//! fetched into the cache. Nothing outside the cache is written and no right of root is needed.
//!
//! A package of another processor, `NAME:arm64`, is unpacked alone: what it needs would run there, and nothing does.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    command::{self, run},
    project,
};

/// Where Debian keeps programs.
const PROGRAMS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// Packages that can be used: the system's own where it has them, unpacked ones where not.
#[derive(Clone, Debug)]
pub struct Packages {
    root: PathBuf,
    /// Of the unpacked programs and of the system's.
    path: OsString,
    /// Of the unpacked libraries; empty where the system lacked nothing.
    libraries: OsString,
}

impl Packages {
    /// What `names` and the packages that they need hold, unpacked at the first call.
    ///
    /// # Errors
    /// When something is missing and cannot be downloaded, for example no network or no Debian.
    pub fn unpack(names: &[&str]) -> Result<Packages> {
        // A search path could not hold the colon of `NAME:arm64`.
        let home = project::cache().join("debian").join(names.join("+").replace(':', "_"));
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
            for package in download(names, &home)? {
                run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&fresh))?;
            }
            fs::rename(&fresh, &root)?;
            // What is unpacked need not be kept a second time, nor what led to it.
            for done in ["packages", "apt"].map(|name| home.join(name)) {
                drop(fs::remove_dir_all(done));
            }
        }
        Ok(Packages { path: path(&root)?, libraries: libraries(&root)?, root })
    }

    /// A file of a package, by its path from the root: the unpacked one, otherwise the system's.
    ///
    /// # Errors
    /// When neither exists.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        let candidates = [self.root.join(path), Path::new("/").join(path)];
        let found = candidates.into_iter().find(|candidate| candidate.exists());
        found.with_context(|| format!("{path} is in none of the packages"))
    }

    /// A command of the packages, or any other that needs to find them.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(self.program(program.as_ref()));
        self.show(&mut command);
        command
    }

    /// Lets `command` find the programs and libraries of the packages.
    pub fn show(&self, command: &mut Command) {
        command.env("PATH", &self.path);
        if !self.libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", &self.libraries);
        }
    }

    /// The program's path; the bare name, which then does not start, where nobody has it.
    pub fn program(&self, name: &OsStr) -> PathBuf {
        let found = env::split_paths(&self.path).map(|dir| dir.join(name)).find(|path| path.is_file());
        found.unwrap_or_else(|| PathBuf::from(name))
    }
}

/// The search path: unpacked programs, the caller's path, and where Debian keeps programs of the administrator, which
/// not every user has in the path.
fn path(root: &Path) -> Result<OsString> {
    let mut dirs: Vec<PathBuf> = PROGRAMS.iter().map(|dir| root.join(dir)).filter(|dir| dir.is_dir()).collect();
    dirs.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    dirs.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    Ok(env::join_paths(dirs)?)
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
    Ok(env::join_paths(dirs)?)
}

/// Downloads the packages that the system lacks.
fn download(names: &[&str], home: &Path) -> Result<Vec<PathBuf>> {
    let packages = home.join("packages");
    fs::create_dir_all(&packages)?;
    let system = Apt { options: Vec::new() };
    match system.download(names, &packages) {
        Ok(files) => Ok(files),
        Err(first) => {
            let own = Apt::with_own_lists(home, &processors(names)?)?;
            own.update()?;
            own.download(names, &packages).with_context(|| format!("with the system's package lists: {first:#}"))
        }
    }
}

/// `apt-get` with the options that keep it out of the system.
struct Apt {
    options: Vec<OsString>,
}

impl Apt {
    /// With lists of the packages of these processors; the system's own where there are none.
    fn with_own_lists(home: &Path, processors: &[String]) -> Result<Apt> {
        let mut options = Vec::new();
        for processor in processors {
            options.extend(["-o".into(), format!("APT::Architectures::={processor}").into()]);
        }
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

    fn download(&self, names: &[&str], into: &Path) -> Result<Vec<PathBuf>> {
        let (foreign, own): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains(':'));
        let mut missing = self.missing(&own)?;
        missing.extend(foreign.into_iter().map(str::to_owned));
        if missing.is_empty() {
            return Ok(Vec::new());
        }
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

    /// The packages that installing `names` would bring.
    fn missing(&self, names: &[&str]) -> Result<Vec<String>> {
        let output = run(self.command("install").args(["--simulate", "--no-install-recommends"]).args(names))?;
        Ok(installed_by(&String::from_utf8_lossy(&output.stdout)))
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

/// The processors of packages, this system's first; nothing where all of them are for this system.
fn processors(names: &[&str]) -> Result<Vec<String>> {
    let mut foreign: Vec<String> = names.iter().filter_map(|name| Some(name.split_once(':')?.1.to_owned())).collect();
    foreign.sort();
    foreign.dedup();
    if foreign.is_empty() {
        return Ok(foreign);
    }
    let own = command::text(Command::new("dpkg").arg("--print-architecture"))?;
    Ok([vec![own.trim().to_owned()], foreign].concat())
}

/// The names in what `apt-get install --simulate` prints. An upgrade of what the system has (its version is in square
/// brackets) is left out: the system's own serves.
fn installed_by(plan: &str) -> Vec<String> {
    let inst = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_once(' '));
    inst.filter(|(_, rest)| !rest.starts_with('[')).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plan_adds_is_downloaded_and_what_it_upgrades_is_not() {
        let plan = "Reading package lists...\nInst libc6 [2.36-9] (2.36-9+deb12u13 Debian:12.12 [amd64])\n\
                    Inst runc (1.1.5+ds1-1 Debian:12.12 [amd64])\nConf runc (1.1.5+ds1-1 Debian:12.12 [amd64])\n";
        assert_eq!(installed_by(plan), ["runc"]);
    }

    #[test]
    fn lists_of_other_processors_are_fetched_only_where_one_is_wanted() {
        assert!(processors(&["mosquitto", "qemu-user-static"]).unwrap().is_empty());
        let both = processors(&["rustc-web", "libstd-rust-web-dev:arm64", "libc6:arm64"]).unwrap();
        assert_eq!((both.len(), both.last().map(String::as_str)), (2, Some("arm64")));
    }

    #[test]
    fn packages_that_the_system_has_need_no_download() {
        let packages = Packages::unpack(&["dpkg"]).unwrap();
        assert!(packages.file("usr/bin/dpkg-deb").unwrap().starts_with("/usr/bin"));
        let output = packages.command("dpkg-deb").arg("--version").output().unwrap();
        assert!(output.status.success());
    }
}
