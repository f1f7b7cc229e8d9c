//! The folders of this repository that tests read and write.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The root of the repository.
pub fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// What was unpacked or built for the tests alone: `.cache/`, ignored by Git, safe to delete.
pub fn cache() -> PathBuf {
    root().join(".cache")
}

/// Names the directory with the built binaries where it is not that of the running test.
pub const BIN_DIR: &str = "SIMCTL_BIN_DIR";

/// Name the directories with the programs and the chart of the release before this one, where they were built.
pub const PREVIOUS_BIN_DIR: &str = "SIMCTL_PREVIOUS_BIN_DIR";
/// See [`PREVIOUS_BIN_DIR`].
pub const PREVIOUS_CHART: &str = "SIMCTL_PREVIOUS_CHART";

/// Set where tests are to be run that cut parts of a cluster off from others for minutes.
pub const PARTITIONS: &str = "SIMCTL_TEST_PARTITIONS";

/// The path that a variable of the environment names, if it is set.
pub fn from_environment(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

/// The directory that holds `simctl`, `device-sim`, `broker` and `null-broker`.
///
/// `SIMCTL_BIN_DIR` where set (`cargo xtask test` sets it to the release build), otherwise the target directory
/// from which the running test was started.
pub fn bin_dir() -> Result<PathBuf> {
    if let Some(dir) = from_environment(BIN_DIR) {
        return Ok(dir);
    }
    let test = env::current_exe().context("the path of the running test is unknown")?;
    // target/PROFILE/deps/TEST for a test, target/PROFILE/xtask for a binary.
    let dir = test.parent().context("the running test has no directory")?;
    let profile = if dir.ends_with("deps") { dir.parent() } else { Some(dir) };
    Ok(profile.context("the running test has no target directory")?.to_path_buf())
}

/// The path of a built binary of this workspace.
///
/// # Errors
/// When it has not been built; the message says how to.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = bin_dir()?.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} does not exist; build it (cargo build --bin {name}) or name its directory in {BIN_DIR}",
        path.display()
    );
    Ok(path)
}
