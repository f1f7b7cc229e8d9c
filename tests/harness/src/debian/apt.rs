//! `apt-get`, kept out of the system: it asks, downloads, and installs nothing.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::Packages;
use crate::command::{self, run};

/// What Debian signs its lists with.
const KEYS: (&str, &str) = ("debian-archive-keyring", "usr/share/keyrings/debian-archive-keyring.gpg");

/// `apt-get` with the options that keep it out of the system.
pub(super) struct Apt {
    options: Vec<OsString>,
}

impl Apt {
    /// With the system's lists.
    pub(super) fn of_the_system() -> Apt {
        Apt { options: Vec::new() }
    }

    /// With lists of the packages of these processors; the system's own where there are none.
    pub(super) fn with_own_lists(home: &Path, processors: &[String]) -> Result<Apt> {
        let mut options = own_lists(home)?;
        for processor in processors {
            options.extend(["-o".into(), format!("APT::Architectures::={processor}").into()]);
        }
        Ok(Apt { options })
    }

    /// With lists of one release of Debian, for a system that has no package yet.
    pub(super) fn of_release(codename: &str, home: &Path) -> Result<Apt> {
        let (package, file) = KEYS;
        let keys = Packages::unpack(&[package])?.file(file)?;
        let mut options = own_lists(home)?;
        let sources = home.join("apt/sources.list");
        fs::write(&sources, format!("deb [signed-by={}] {} {codename} main\n", keys.display(), mirror()?))?;
        for (key, path) in [
            ("Etc::sourcelist", &*sources),
            ("Etc::sourceparts", "/dev/null".as_ref()),
            ("State::status", "/dev/null".as_ref()),
        ] {
            options.extend(["-o".into(), format!("Dir::{key}={}", path.display()).into()]);
        }
        Ok(Apt { options })
    }

    /// One source of several may be out of reach without harm, so the exit code says nothing.
    pub(super) fn update(&self) -> Result<()> {
        self.command("update").output().context("apt-get does not start")?;
        Ok(())
    }

    /// As [`Apt::update`], where every source is needed.
    pub(super) fn update_all(&self) -> Result<()> {
        run(self.command("update").args(["-o", "APT::Update::Error-Mode=any"])).map(drop)
    }

    /// Downloads into `into` what the system lacks of `names` and of the packages that they need.
    pub(super) fn download(&self, names: &[&str], into: &Path) -> Result<Vec<PathBuf>> {
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

/// The version of a package that the system has or would install; none where its lists do not know the package.
///
/// # Errors
/// When this is no Debian.
pub fn candidate(name: &str) -> Result<Option<String>> {
    let policy = command::text(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", name]))?;
    Ok(candidate_of(&policy).map(str::to_owned))
}

/// The candidate in what `apt-cache policy` prints of one package.
fn candidate_of(policy: &str) -> Option<&str> {
    policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: ")).filter(|version| *version != "(none)")
}

/// The options for lists and a cache in `home`.
fn own_lists(home: &Path) -> Result<Vec<OsString>> {
    let mut options = Vec::new();
    for (key, dir) in [("Dir::State::lists", "apt/lists"), ("Dir::Cache", "apt/cache")] {
        let dir = home.join(dir);
        fs::create_dir_all(dir.join("partial"))?;
        fs::create_dir_all(dir.join("archives/partial"))?;
        options.extend(["-o".into(), format!("{key}={}", dir.display()).into()]);
    }
    Ok(options)
}

/// Where the system has Debian from: every mirror has all releases.
fn mirror() -> Result<String> {
    let mut sources = Command::new("apt-get");
    sources.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]);
    mirror_in(&command::text(&mut sources)?)
}

/// The first of the addresses that `apt-get indextargets` prints. There is no address of our own: which mirror a machine
/// may ask is its administrator's choice.
fn mirror_in(addresses: &str) -> Result<String> {
    let first = addresses.lines().map(str::trim).find(|address| !address.is_empty());
    first.map(str::to_owned).context(
        "apt-get knows no source of Debian: name one in /etc/apt/sources.list.d and run `apt-get update`, or install \
         the package of the system",
    )
}

/// The processors of packages, this system's first; nothing where all of them are for this system.
pub(super) fn processors(names: &[&str]) -> Result<Vec<String>> {
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
    fn a_mirror_is_the_systems_or_none() {
        let first = "http://mirror.example/debian";
        assert_eq!(mirror_in(&format!("\n{first}\nhttp://other.example/debian\n")).unwrap(), first);
        let error = mirror_in("\n").unwrap_err().to_string();
        assert!(error.contains("/etc/apt/sources.list.d"), "{error}");
    }

    #[test]
    fn a_package_has_a_candidate_where_the_lists_know_it() {
        let policy = "tool:\n  Installed: (none)\n  Candidate: 3.10.8-1.1+deb12u1\n  Version table:\n";
        assert_eq!(candidate_of(policy), Some("3.10.8-1.1+deb12u1"));
        assert_eq!(candidate_of("tool:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(candidate_of(""), None);
    }

    #[test]
    fn lists_of_other_processors_are_fetched_only_where_one_is_wanted() {
        assert!(processors(&["mosquitto", "qemu-user-static"]).unwrap().is_empty());
        let both = processors(&["rustc-web", "libstd-rust-web-dev:arm64", "libc6:arm64"]).unwrap();
        assert_eq!((both.len(), both.last().map(String::as_str)), (2, Some("arm64")));
    }
}
