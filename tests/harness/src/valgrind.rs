//! Valgrind's callgrind: how many instructions a program executes, whatever else the machine does meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{command::run, debian::Packages, unavailable::Unavailable};

/// Where a system that has Valgrind keeps it; the second one was installed by hand.
const SYSTEM: [&str; 2] = ["/usr/bin/valgrind", "/usr/local/bin/valgrind"];
/// Where Debian's package keeps its tools.
const TOOLS: &str = "usr/libexec/valgrind";
/// What the files of counts are called, before the number of the process and of the thread.
const COUNTS: &str = "callgrind.out";

/// A Valgrind that can be started.
#[derive(Clone, Debug)]
pub struct Valgrind {
    binary: PathBuf,
    /// `None` for a system's own Valgrind, which knows where its tools are.
    tools: Option<PathBuf>,
}

impl Valgrind {
    /// The system's Valgrind where there is one, otherwise the project's, unpacked at the first call.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no network or no Debian.
    pub fn find_or_unpack() -> Result<Valgrind, Unavailable> {
        if let Some(binary) = SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file()) {
            return Ok(Valgrind { binary, tools: None });
        }
        unpacked().map_err(|reason| Unavailable::new("Valgrind", reason))
    }

    /// `program`, whose arguments are yet to be added, with its instructions counted in `directory`.
    pub fn callgrind(&self, program: &Path, directory: &Path) -> Command {
        let mut command = self.command();
        command.args(["--tool=callgrind", "--separate-threads=yes"]);
        command.arg(format!("--callgrind-out-file={}", directory.join(COUNTS).display()));
        command.arg(program);
        command
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        if let Some(tools) = &self.tools {
            command.env("VALGRIND_LIB", tools);
        }
        command
    }
}

/// The instructions of the thread that executed most, of a program that [`Valgrind::callgrind`] has run to its end.
///
/// # Errors
/// When `directory` holds no counts.
pub fn instructions_of_busiest_thread(directory: &Path) -> Result<u64> {
    let mut busiest = None;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(COUNTS) {
            busiest = busiest.max(total(&fs::read_to_string(entry.path())?));
        }
    }
    busiest.with_context(|| format!("{} holds no counts of callgrind", directory.display()))
}

/// The sum that the file of a thread ends with; that of the whole process has none.
fn total(counts: &str) -> Option<u64> {
    counts.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

fn unpacked() -> Result<Valgrind> {
    let packages = Packages::unpack(&["valgrind"])?;
    let valgrind = Valgrind { binary: packages.file("usr/bin/valgrind")?, tools: Some(packages.file(TOOLS)?) };
    let version = run(valgrind.command().arg("--version"))?;
    ensure!(version.stdout.starts_with(b"valgrind-"), "the unpacked Valgrind does not start");
    Ok(valgrind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread_is_that_of_the_highest_total() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        assert!(instructions_of_busiest_thread(directory.path()).is_err());
        write("callgrind.out", "events: Ir\n");
        write("callgrind.out-01", "events: Ir\nfn=(1) main\n3 900\n\ntotals: 7\n");
        write("callgrind.out-02", "events: Ir\n\ntotals: 40\n");
        write("stdout", "totals: 99\n");
        assert_eq!(instructions_of_busiest_thread(directory.path()).unwrap(), 40);
    }
}
