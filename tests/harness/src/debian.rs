//! Packages of the distribution, unpacked into the project's cache and never installed.
//!
//! `apt-get` itself says which of the wanted packages, and of those that they need, this system lacks; these are
//! downloaded and unpacked side by side. Where the system's package lists are missing or stale, lists of our own are
//! fetched into the cache. Nothing outside the cache is written and no right of root is needed.
//!
//! A package of another processor, `NAME:arm64`, is unpacked alone: what it needs would run there, and nothing does.
//! What needs a later release of Debian than this system may be is [`Release`]'s.

mod apt;
mod release;

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use self::apt::{Apt, processors};
pub use self::{apt::candidate, release::Release};
use crate::{command::run, project};

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
        let root = unpacked(&home, |packages| download(names, &home, packages))?;
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

/// The path in `dir` whose name is `name` and more, such as a version.
///
/// # Errors
/// When there is none.
pub fn versioned(dir: &Path, name: &str) -> Result<PathBuf> {
    let mut entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?.filter_map(Result::ok);
    let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(name));
    Ok(found.with_context(|| format!("there is no {name}VERSION in {}", dir.display()))?.path())
}

/// The folder in `home` that holds what `download` brings into a folder, unpacked at the first call.
fn unpacked(home: &Path, download: impl FnOnce(&Path) -> Result<Vec<PathBuf>>) -> Result<PathBuf> {
    fs::create_dir_all(home)?;
    // Tests run side by side, also in several processes; the first one unpacks, the others wait.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let root = home.join("root");
    if !root.is_dir() {
        let packages = home.join("packages");
        fs::create_dir_all(&packages)?;
        // Renamed when complete, so that a broken download is never taken for an installation.
        let fresh = home.join("unpacking");
        drop(fs::remove_dir_all(&fresh));
        fs::create_dir_all(&fresh)?;
        for package in download(&packages)? {
            run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&fresh))?;
        }
        fs::rename(&fresh, &root)?;
        // What is unpacked need not be kept a second time, nor what led to it.
        for done in ["packages", "apt"].map(|name| home.join(name)) {
            drop(fs::remove_dir_all(done));
        }
    }
    Ok(root)
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
        // Debian keeps them one level lower, in a directory named by the architecture, and some packages their own below that.
        for below in folders(&base)? {
            dirs.extend(folders(&below)?);
            dirs.push(below);
        }
        dirs.push(base);
    }
    Ok(env::join_paths(dirs)?)
}

/// The directories directly in a directory.
fn folders(of: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(of)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

/// Downloads the packages that the system lacks into `packages`.
fn download(names: &[&str], home: &Path, packages: &Path) -> Result<Vec<PathBuf>> {
    Apt::of_the_system().download(names, packages).or_else(|first| {
        let own = Apt::with_own_lists(home, &processors(names)?)?;
        own.update()?;
        own.download(names, packages).with_context(|| format!("with the system's package lists: {first:#}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_the_system_has_need_no_download() {
        let packages = Packages::unpack(&["dpkg"]).unwrap();
        assert!(packages.file("usr/bin/dpkg-deb").unwrap().starts_with("/usr/bin"));
        let output = packages.command("dpkg-deb").arg("--version").output().unwrap();
        assert!(output.status.success());
    }
}
