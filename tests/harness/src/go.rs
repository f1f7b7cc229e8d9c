//! Programs built from Go's modules into the project's cache: `.cache/NAME/HASH/`, named by everything that they depend on.
//!
//! Needed are Go and its module proxy. What Go prints is in `.cache/NAME/build.log`.

use std::{
    fs,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::{command, progress::Progress, project};

/// A build that takes longer hangs: the slowest one seen took half an hour, beside much other work.
const PATIENCE: &str = "45m";

/// Builds that nobody has used for so long are removed. Younger ones are of branches that one comes back to.
const KEPT: Duration = Duration::from_hours(24);

/// What a build depends on.
pub(crate) struct Recipe<'a> {
    /// Its folder in the cache.
    pub(crate) name: &'static str,
    /// The folder with `go.mod`.
    pub(crate) module: PathBuf,
    /// Files in there.
    pub(crate) files: &'a [&'a str],
    /// All else, such as releases and the source of the build.
    pub(crate) also: String,
}

impl Recipe<'_> {
    /// The folder that `build` has filled, now or at an earlier call.
    ///
    /// # Errors
    /// Without Go, and when the build fails; the message has the end of what Go said.
    pub(crate) fn find_or_build(
        &self,
        progress: &Progress,
        build: impl FnOnce(&Go, &Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let home = project::cache().join(self.name);
        fs::create_dir_all(&home)?;
        progress.begin(format!("waits for another build of {}", self.name), "");
        // Tests run side by side, also in several processes; the first one builds, the others wait.
        let lock = File::create(home.join("lock"))?;
        lock.lock()?;
        let dir = home.join(self.fingerprint()?);
        if !dir.is_dir() {
            // Renamed when complete, so that a broken build is never taken for the programs.
            let fresh = home.join("building");
            drop(fs::remove_dir_all(&fresh));
            fs::create_dir_all(&fresh)?;
            let log = home.join("build.log");
            File::create(&log)?;
            build(&Go { module: &self.module, log, progress }, &fresh)?;
            fs::rename(&fresh, &dir)?;
            remove_unused(&home, SystemTime::now())?;
        }
        File::open(&dir)?.set_modified(SystemTime::now())?;
        Ok(dir)
    }

    fn fingerprint(&self) -> Result<String> {
        let version = command::text(Command::new("go").arg("version").current_dir(&self.module))?;
        let mut hash = Sha256::new_with_prefix(format!("{version}{}", self.also));
        for file in self.files {
            let path = self.module.join(file);
            hash.update(fs::read(&path).with_context(|| path.display().to_string())?);
        }
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Removes builds that were used last [`KEPT`] before `now`. What still runs of one keeps its file.
fn remove_unused(home: &Path, now: SystemTime) -> Result<()> {
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        let data = entry.metadata()?;
        if data.is_dir() && now.duration_since(data.modified()?).is_ok_and(|age| age > KEPT) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Calls of Go, at low priority and for a bounded time.
pub(crate) struct Go<'a> {
    module: &'a Path,
    log: PathBuf,
    progress: &'a Progress,
}

impl Go<'_> {
    /// A program of the module.
    pub(crate) fn build(&self, package: &str, into: &Path, stamps: &[String]) -> Result<()> {
        let name = into.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.run(&name, self.command("build", stamps).arg("-o").arg(into).arg(package))
    }

    /// A program of another module, with the versions that it was released with.
    pub(crate) fn install(&self, package: &str, into: &Path, stamps: &[String]) -> Result<()> {
        let name = package.rsplit('/').next().unwrap_or(package);
        self.run(name, self.command("install", stamps).arg(package).env("GOBIN", into))
    }

    fn command(&self, verb: &str, stamps: &[String]) -> Command {
        let stamps: String = stamps.iter().map(|stamp| format!(" -X {stamp}")).collect();
        let mut command = Command::new("timeout");
        // In the foreground, so that Ctrl-C in a terminal ends the build, too.
        command.args(["--foreground", "--kill-after=10", PATIENCE, "nice", "-n", "10"]);
        command.args(["go", verb, "-v", "-trimpath", "-buildvcs=false", "-ldflags"]).arg(format!("-s -w{stamps}"));
        // Without C the programs are static, and no C compiler is needed.
        command.env("CGO_ENABLED", "0").current_dir(self.module);
        command
    }

    /// Twice where the first try fails: Go asks for a thousand files, and none again that the network lost.
    fn run(&self, name: &str, command: &mut Command) -> Result<()> {
        self.progress.begin(format!("compiles {name}"), "packages");
        if self.attempt(command)?.success() {
            return Ok(());
        }
        let status = self.attempt(command)?;
        ensure!(status.success(), "Go failed ({status}): {}", self.tail()?);
        Ok(())
    }

    fn attempt(&self, command: &mut Command) -> Result<ExitStatus> {
        let mut log = File::options().append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(Stdio::piped());
        let mut child = command.spawn().context("timeout does not start")?;
        let said = BufReader::new(child.stderr.take().context("the output was not captured")?);
        for line in said.split(b'\n') {
            let line = line?;
            log.write_all(&[&line, &b"\n"[..]].concat())?;
            if is_package(&String::from_utf8_lossy(&line)) {
                self.progress.count();
            }
        }
        Ok(child.wait()?)
    }

    fn tail(&self) -> Result<String> {
        let text = fs::read_to_string(&self.log)?;
        let lines: Vec<&str> = text.lines().filter(|line| !is_package(line) && !is_download(line)).collect();
        Ok(lines[lines.len().saturating_sub(3)..].join("; "))
    }
}

/// Whether Go names a package that it compiles, as `-v` makes it do.
fn is_package(line: &str) -> bool {
    !line.is_empty() && !line.contains(char::is_whitespace)
}

fn is_download(line: &str) -> bool {
    line.starts_with("go: downloading")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_from_what_else_go_says() {
        assert!(is_package("k8s.io/api/core/v1") && is_package("fmt"));
        for line in ["go: downloading k8s.io/api v0.34.4", "# k8s.io/api", "a.go:3:1: undefined: x", ""] {
            assert!(!is_package(line), "{line}");
        }
    }

    #[test]
    fn only_builds_that_nobody_uses_any_more_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (name, age) in [("used", KEPT / 2), ("unused", KEPT * 2)] {
            let dir = home.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("program"), "").unwrap();
            File::open(&dir).unwrap().set_modified(now - age).unwrap();
        }
        fs::write(home.path().join("lock"), "").unwrap();
        remove_unused(home.path(), now).unwrap();
        assert!(home.path().join("used/program").exists() && home.path().join("lock").exists());
        assert!(!home.path().join("unused").exists());
    }
}
