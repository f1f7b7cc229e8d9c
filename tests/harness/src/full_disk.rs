//! A directory without space, for a report that cannot be written.
//!
//! Two ways, neither of which fills a disk that others use:
//!
//! - [`on_a_tiny_disk`] gives the command a mount namespace in which one directory is a full tmpfs. The write
//!   fails with ENOSPC, as on a real full disk. Works for root, and without root where the kernel allows user
//!   namespaces.
//! - [`with_tiny_files`] forbids the command to make any file larger than a few KiB. The write fails with EFBIG.
//!   Works for everybody, but for every file of the command.
//!
//! Inside the namespace the directory looks empty but for its ballast, and what the command could still write there
//! is gone with it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::command::wrap;

/// Mounts a tmpfs of 64 KiB over `$1`, fills it, and becomes the command.
const TINY_DISK: &str = r#"
dir=$1; shift
mount -t tmpfs -o size=64k full "$dir" || exit 125
head -c 65536 /dev/zero > "$dir/ballast" || exit 125
exec "$@"
"#;

/// Ignores the signal that a too large file would send, so that the write fails instead of ending the process, and
/// becomes the command. `ulimit -f` counts blocks of 512 bytes.
const TINY_FILES: &str = r#"
blocks=$1; shift
trap '' XFSZ
ulimit -f "$blocks" || exit 125
exec "$@"
"#;

/// `command`, to which `dir` (which must exist) is a full disk.
///
/// # Errors
/// When this machine lets us make no mount namespace; use [`with_tiny_files`] then.
pub fn on_a_tiny_disk(command: &Command, dir: &Path) -> Result<Command> {
    ensure!(dir.is_dir(), "{} is no directory", dir.display());
    let mut reason = String::new();
    for flags in [["--mount", "--user", "--map-root-user"].as_slice(), &["--mount"]] {
        let mut probe = Command::new("unshare");
        probe.args(flags).args(["--", "sh", "-c", TINY_DISK, "sh"]).arg(dir).arg("true");
        let output = probe.output().context("unshare does not start")?;
        if output.status.success() {
            let mut wrapped = Command::new("unshare");
            wrapped.args(flags).args(["--", "sh", "-c", TINY_DISK, "sh"]).arg(dir);
            return Ok(wrap(wrapped, command));
        }
        String::from_utf8_lossy(&output.stderr).trim().clone_into(&mut reason);
    }
    bail!("no mount namespace on this machine: {reason}")
}

/// `command`, for which no file may grow past `bytes`, rounded down to 512.
pub fn with_tiny_files(command: &Command, bytes: u64) -> Command {
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", TINY_FILES, "sh"]).arg((bytes / 512).to_string());
    wrap(wrapped, command)
}
