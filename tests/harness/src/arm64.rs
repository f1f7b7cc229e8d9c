//! A compiler for arm64, and a processor that runs what it makes, on a machine that has neither.
//!
//! The standard library for arm64 is rustup's where this project's toolchain has it, otherwise that of Debian's compiler
//! for web browsers, which is new enough. The C compiler, the linker and QEMU are Debian's. All of it is unpacked into
//! the project's cache and never installed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    command::{self, text},
    debian::Packages,
    project,
    unavailable::Unavailable,
};

/// What cargo calls the platform.
pub const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Names the directory with the programs for arm64.
pub const BIN_DIR: &str = "SIMCTL_ARM64_BIN_DIR";

/// What links for arm64 and compiles the C and assembly of dependencies.
const C_COMPILER: [&str; 2] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];

/// A Rust compiler and its standard libraries for this machine and for arm64.
const RUST_COMPILER: [&str; 2] = ["rustc-web", "libstd-rust-web-dev:arm64"];

/// A system's calls and a processor's instructions, each translated.
const EMULATOR: &str = "qemu-user-static";

/// What the first twenty bytes of a program for arm64 are, and which bits of them count (ELF-64, little-endian, Linux or
/// System V, executable or position-independent, `EM_AARCH64`); as Linux reads it in `binfmt_misc`.
const MAGIC: &str = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
const MASK: &str = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

/// Registers what `$1` says for this namespace alone, and becomes the command that follows.
const REGISTER: &str = r#"
set -eu
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
printf %s "$1" > /proc/sys/fs/binfmt_misc/register
shift
exec "$@"
"#;

/// Everything that builds for [`TARGET`].
#[derive(Clone, Debug)]
pub struct Compiler {
    packages: Packages,
    /// `None` where this project's own toolchain has a standard library for arm64.
    rustc: Option<PathBuf>,
}

/// Runs programs for arm64, and the programs that these start.
///
/// Linux itself is told to hand such programs to QEMU, in a user namespace of each command's own, which needs no root
/// and leaves the system as it is.
#[derive(Clone, Debug)]
pub struct Emulator {
    qemu: PathBuf,
}

impl Compiler {
    /// What this machine lacks is unpacked at the first call: 170 MB are downloaded.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no network or no Debian.
    pub fn find_or_unpack() -> Result<Compiler, Unavailable> {
        let unpacked = || {
            if has_target("rustc".as_ref())? {
                return Ok(Compiler { packages: Packages::unpack(&C_COMPILER)?, rustc: None });
            }
            let packages = Packages::unpack(&[RUST_COMPILER, C_COMPILER].concat())
                .with_context(|| format!("`rustup target add {TARGET}` has not been called, and without it"))?;
            let rustc = packages.program("rustc".as_ref());
            let compiler = Compiler { rustc: Some(packages.file("usr/bin/rustc").unwrap_or(rustc)), packages };
            compiler.check()?;
            Ok(compiler)
        };
        unpacked().map_err(|reason: anyhow::Error| Unavailable::new("a compiler for arm64", reason))
    }

    /// Lets a call of cargo for [`TARGET`] find all of it.
    pub fn set_up(&self, cargo: &mut Command) {
        self.packages.show(cargo);
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
    }

    fn check(&self) -> Result<()> {
        let Some(rustc) = &self.rustc else { return Ok(()) };
        let mut command = self.packages.command(rustc);
        let said = text(command.arg("--version"))?;
        let found = release(&said).with_context(|| format!("{} says {said}", rustc.display()))?;
        let needed = env!("CARGO_PKG_RUST_VERSION");
        ensure!(Some(found) >= release(&format!("rustc {needed}")), "Debian's is {found:?} and {needed} is needed");
        Ok(())
    }
}

impl Emulator {
    /// QEMU is unpacked at the first call.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example a Linux before 6.7, which knows `binfmt_misc` for the whole system
    /// only.
    pub fn find_or_unpack() -> Result<Emulator, Unavailable> {
        let unpacked = || {
            let emulator = Emulator { qemu: Packages::unpack(&[EMULATOR])?.file("usr/bin/qemu-aarch64-static")? };
            command::run(&mut emulator.run(&Command::new("true")))
                .context("Linux takes no emulator in a user namespace")?;
            Ok(emulator)
        };
        unpacked().map_err(|reason: anyhow::Error| Unavailable::new("an emulator of arm64", reason))
    }

    /// `command`, whose program and whose children's programs may be for arm64. What is started is the program itself,
    /// so that a signal meets it.
    pub fn run(&self, command: &Command) -> Command {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", REGISTER, "sh"]);
        // F: opened here and now, so that it is found wherever the program's root is.
        unshare.arg(format!(":simctl-arm64:M::{MAGIC}:{MASK}:{}:F", self.qemu.display()));
        command::wrap(unshare, command)
    }
}

/// The path of a program for arm64.
///
/// # Errors
/// When there is none; the message says what builds it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = std::env::var_os(BIN_DIR)
        .with_context(|| format!("{BIN_DIR} is not set; `cargo xtask test arm64` builds the programs and sets it"))?;
    let path = Path::new(&dir).join(name);
    if !path.is_file() {
        bail!("{} does not exist; `cargo xtask test arm64` builds it", path.display());
    }
    Ok(path)
}

/// Whether a compiler has a standard library for arm64.
fn has_target(rustc: &Path) -> Result<bool> {
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", TARGET]).current_dir(project::root());
    Ok(Path::new(text(&mut command)?.trim()).is_dir())
}

/// 1 and 96 of `rustc 1.96.0 (… )`.
fn release(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("rustc ")?.split(['.', ' ']);
    Some((numbers.next()?.trim().parse().ok()?, numbers.next()?.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        assert_eq!(release("rustc 1.96.0 (ac68faa20 2026-06-01) (built from a source tarball)\n"), Some((1, 96)));
        assert_eq!(release("rustc 1.95"), Some((1, 95)));
        assert!(release("rustc 1.100.0 (x)") > release("rustc 1.95"));
        assert_eq!(release("cargo 1.95.0"), None);
    }

    #[test]
    fn a_pattern_and_its_mask_have_a_header_s_length() {
        // Four escapes of four characters are three letters in the pattern.
        assert_eq!((MAGIC.len() - 3) / 4 + 3, 20);
        assert_eq!(MASK.len() / 4, 20);
    }
}
