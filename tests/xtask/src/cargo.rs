//! Calls cargo, shows what it prints, and counts the tests in it.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use ::tests::{arm64, progress::Progress, project};
use anyhow::{Context, Result, ensure};
use images::PROGRAMS;

/// Tests that ran, by their result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// What a call to cargo gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) success: bool,
    pub(crate) counts: Counts,
}

/// The cargo that called us, in the repository's root.
///
/// It does not see what that cargo has told us of this package: build scripts (ring's) watch these variables, and
/// would be run again, with all that depends on them, after each build by hand.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(project::root());
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_this_package(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

fn is_of_this_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| variable.starts_with(prefix))
}

/// Runs it to the end; stdout is passed on line by line and the test results in it are added up.
pub(crate) fn run(command: &mut Command) -> Result<Finished> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", command.get_program().display()))?;
    let stdout = child.stdout.take().context("the output was not captured")?;
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        writeln!(io::stdout(), "{}", String::from_utf8_lossy(&line))?;
        counts.add(Counts::of_line(&String::from_utf8_lossy(&line)).unwrap_or_default());
    }
    Ok(Finished { success: child.wait()?.success(), counts })
}

/// Runs a build to the end and counts the crates that it compiles; shows what cargo says where it fails. Whether it
/// succeeded.
fn run_with(command: &mut Command, progress: &Progress) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", command.get_program().display()))?;
    progress.begin("compiles", "crates");
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().context("the output was not captured")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if line.trim_start().starts_with("Compiling ") {
            progress.count();
        } else {
            said.push_str(&line);
            said.push('\n');
        }
    }
    let success = child.wait()?.success();
    if !success {
        write!(io::stderr(), "{said}")?;
    }
    Ok(success)
}

/// Builds what the rings and the bench start, optimized, and returns its directory.
///
/// The programs are static, so that the very same ones make the images: an empty image has no C library. A static
/// glibc resolves names without shared libraries since 2.34. The target is named, because then the flag is for the
/// programs alone and not for the procedural macros, which cargo loads.
pub(crate) fn build_release() -> Result<PathBuf> {
    build(&host()?, &[&products()[..], &["null-broker"]].concat(), |_| {}, |build| Ok(run(build)?.success))
}

/// Builds the programs that have an image, shows how far that is instead of what cargo says, and returns their
/// directory.
pub(crate) fn build_release_with(progress: &Progress) -> Result<PathBuf> {
    build(&host()?, &products(), |_| {}, |build| run_with(build, progress))
}

fn products() -> [&'static str; PROGRAMS.len()] {
    PROGRAMS.map(|program| program.name)
}

/// Builds the programs that have an image for arm64, and returns their directory.
pub(crate) fn build_release_for_arm64(compiler: &arm64::Compiler) -> Result<PathBuf> {
    let set_up = |cargo: &mut Command| compiler.set_up(cargo);
    build(arm64::TARGET, &products(), set_up, |build| Ok(run(build)?.success))
}

fn build(
    target: &str,
    programs: &[&str],
    set_up: impl FnOnce(&mut Command),
    run: impl FnOnce(&mut Command) -> Result<bool>,
) -> Result<PathBuf> {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    let mut build = command(&["build", "--release", "--locked", "--workspace", "--target", target]);
    build.args(programs.iter().flat_map(|name| ["--bin", name]));
    set_up(build.env("RUSTFLAGS", format!("{flags} -C target-feature=+crt-static")));
    ensure!(run(&mut build)?, "the release build for {target} failed");
    Ok(target_dir().join(target).join("release"))
}

/// The triple of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").current_dir(project::root()).output().context("rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// Where cargo builds, which is where this very program was built.
fn target_dir() -> PathBuf {
    let built = env::current_exe().ok();
    let target = built.as_deref().and_then(|path| path.parent()?.parent());
    target.map_or_else(|| project::root().join("target"), PathBuf::from)
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Of `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of_line(line: &str) -> Option<Counts> {
        let (_, figures) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let figure =
            |name: &str| figures.split("; ").find_map(|figure| figure.strip_suffix(name)?.trim().parse::<u32>().ok());
        Some(Counts { passed: figure("passed")?, failed: figure("failed")?, skipped: figure("ignored")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_line_of_a_test_binary_is_counted() {
        let line = "test result: FAILED. 18 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(Counts::of_line(line), Some(Counts { passed: 18, failed: 2, skipped: 1 }));
        assert_eq!(Counts::of_line("test a::b ... ok"), None);
    }
}
