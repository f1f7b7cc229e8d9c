//! `cargo deny`, from a cache of the project's own.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use tests::project;

use super::{
    outcome::{InCi, Outcome},
    step::Context,
};
use crate::cargo;

/// The release that `deny.toml` was written for.
const VERSION: &str = "0.20.2";

/// The checks that need nothing but `Cargo.lock`, in which known advisories are named as bans.
pub(super) fn check(_: &Context) -> Result<Outcome> {
    let deny = installed()?;
    let kinds = ["bans", "licenses", "sources"];
    let mut passed = 0;
    for kind in kinds {
        let mut command = Command::new(&deny);
        // A licence that nobody uses is no fault; whatever is one is an error.
        command.current_dir(project::root()).args(["--locked", "--log-level", "error", "check", kind]);
        passed += u32::from(cargo::run(&mut command)?.success);
    }
    let failed = u32::try_from(kinds.len())? - passed;
    Ok(Outcome::Ran(cargo::Counts { passed, failed, skipped: 0 }))
}

/// The advisory database lies on a host that not every machine reaches; the bans of `deny.toml` hold there.
pub(super) fn advisories(_: &Context) -> Result<Outcome> {
    let deny = installed()?;
    let run = |args: &[&str]| -> Result<Output> {
        let mut command = Command::new(&deny);
        command.current_dir(project::root()).args(["--locked", "--log-level", "error"]).args(args);
        // A host that neither answers nor refuses must not hold the run: a transfer below 1 KB/s for 20 s ends.
        command.env("GIT_HTTP_LOW_SPEED_LIMIT", "1000").env("GIT_HTTP_LOW_SPEED_TIME", "20");
        command.env("GIT_TERMINAL_PROMPT", "0").output().context("cargo-deny does not start")
    };
    let fetched = run(&["fetch", "db"])?;
    if !fetched.status.success() {
        let says = String::from_utf8_lossy(&fetched.stderr).into_owned();
        let why = says.lines().find_map(|line| line.trim().strip_prefix("fatal: ")).unwrap_or("it cannot be fetched");
        let reason = format!("needs the advisory database, because {why}; the bans of deny.toml hold instead");
        return Ok(Outcome::NotRun { reason, in_ci: InCi::Passes });
    }
    let checked = run(&["check", "--disable-fetch", "advisories"])?;
    print!("{}", String::from_utf8_lossy(&checked.stderr));
    Ok(Outcome::of_one(checked.status.success()))
}

/// Builds cargo-deny once, unoptimized: it runs for seconds and would build for minutes.
fn installed() -> Result<PathBuf> {
    let tools = project::cache().join("tools");
    let path = tools.join("bin/cargo-deny");
    if version(&path).is_some_and(|found| found.contains(VERSION)) {
        return Ok(path);
    }
    fs::create_dir_all(&tools)?;
    let build = project::cache().join("build-cargo-deny");
    let mut install = cargo::command(&["install", "cargo-deny", "--locked", "--no-default-features", "--force"]);
    install.args(["--version", VERSION]).arg("--root").arg(&tools).arg("--target-dir").arg(&build);
    for (setting, value) in [("OPT_LEVEL", "0"), ("LTO", "off"), ("CODEGEN_UNITS", "64"), ("DEBUG", "0")] {
        install.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    ensure!(cargo::run(&mut install)?.success, "cargo-deny {VERSION} cannot be built");
    // Hundreds of megabytes that nobody needs again.
    drop(fs::remove_dir_all(build));
    Ok(path)
}

fn version(path: &PathBuf) -> Option<String> {
    let output = Command::new(path).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
