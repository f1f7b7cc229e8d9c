//! Calls cargo, shows what it prints, and counts the tests in it.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
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
/// They are those of `cargo run --release`, which is why packages are named: the whole workspace would ask more features
/// of their dependencies, and build them anew. All are static (`.cargo/config.toml`), so that they make the images, too.
pub(crate) fn build_release() -> Result<PathBuf> {
    let mut build = release(&products());
    build.args(["--package", "tests", "--bin", "null-broker"]);
    ensure!(run(&mut build)?.success, FAILED);
    Ok(target_dir().join("release"))
}

/// Builds the programs that have an image, shows how far that is instead of what cargo says, and returns their
/// directory.
pub(crate) fn build_release_with(progress: &Progress) -> Result<PathBuf> {
    ensure!(run_with(&mut release(&products()), progress)?, FAILED);
    Ok(target_dir().join("release"))
}

fn products() -> [&'static str; PROGRAMS.len()] {
    PROGRAMS.map(|program| program.name)
}

/// Builds the programs that have an image for arm64, and returns their directory.
pub(crate) fn build_release_for_arm64(compiler: &arm64::Compiler) -> Result<PathBuf> {
    let mut build = release(&products());
    compiler.set_up(build.args(["--target", arm64::TARGET]));
    ensure!(run(&mut build)?.success, FAILED);
    Ok(target_dir().with_file_name(arm64::TARGET).join("release"))
}

/// Builds the programs that have an image from the sources of another release, quickly rather than fast, and returns their
/// directory.
pub(crate) fn build_release_of(source: &Path) -> Result<PathBuf> {
    let target = source.join("target");
    let mut build = release(&products());
    build.current_dir(source).args(["--target", HOST, "--target-dir"]).arg(&target);
    // Its images are static, too, and what it computes is not measured.
    build.env("RUSTFLAGS", "-C target-feature=+crt-static");
    for (setting, value) in [("OPT_LEVEL", "1"), ("LTO", "off"), ("DEBUG", "0"), ("CODEGEN_UNITS", "16")] {
        build.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    ensure!(run(&mut build)?.success, FAILED);
    Ok(target.join(HOST).join("release"))
}

/// The target that this program itself was built for.
const HOST: &str = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

const FAILED: &str = "the release build failed";

/// The release build of programs, each of the package of its name.
fn release(programs: &[&str]) -> Command {
    let mut build = command(&["build", "--release", "--locked"]);
    build.args(programs.iter().flat_map(|name| ["--package", name, "--bin", name]));
    if let Ok(flags) = env::var("RUSTFLAGS") {
        // It takes the place of the flags of `.cargo/config.toml`.
        build.env("RUSTFLAGS", format!("{flags} -C target-feature=+crt-static"));
    }
    build
}

/// Where cargo builds for this machine, which is where this very program was built.
pub(crate) fn target_dir() -> PathBuf {
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
