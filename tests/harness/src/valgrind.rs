//! Valgrind's callgrind: how many instructions a program executes, whatever else the machine does meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

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

    /// `program`, whose arguments are yet to be added, with its events counted in `directory`.
    pub fn callgrind(&self, program: &Path, directory: &Path, counting: Counting) -> Command {
        let mut command = self.command();
        command.args(["--tool=callgrind", "--separate-threads=yes"]);
        if counting == Counting::CacheMisses {
            // Caches of every machine alike; what is read ahead is not simulated.
            command.args(["--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=8388608,16,64"]);
        }
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

/// What callgrind counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Instructions.
    Instructions,
    /// Instructions, and what the caches of a simulated processor do not hold; that takes twice as long.
    CacheMisses,
}

/// What a thread was counted to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions.
    pub instructions: u64,
    /// Reads and writes that the first data cache did not hold; 0 where caches were not simulated.
    pub data_misses: u64,
}

/// What the threads of a program did that [`Valgrind::callgrind`] has run to its end.
///
/// # Errors
/// When `directory` holds no counts.
pub fn counts_by_thread(directory: &Path) -> Result<Vec<Counts>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(COUNTS) {
            threads.extend(counts(&fs::read_to_string(entry.path())?));
        }
    }
    ensure!(!threads.is_empty(), "{} holds no counts of callgrind", directory.display());
    Ok(threads)
}

/// The sums that the file of a thread ends with; that of the whole process has none.
fn counts(text: &str) -> Option<Counts> {
    let events: Vec<&str> = text.lines().find_map(|line| line.strip_prefix("events: "))?.split_whitespace().collect();
    let totals: Vec<&str> =
        text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.split_whitespace().collect();
    let total = |name: &str| {
        let position = events.iter().position(|event| *event == name)?;
        // Sums of 0 at the end of the line are left out.
        totals.get(position).map_or(Some(0), |total| total.parse().ok())
    };
    let misses = ["D1mr", "D1mw"].map(|name| total(name).unwrap_or(0));
    Some(Counts { instructions: total("Ir")?, data_misses: misses.iter().sum() })
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
    fn each_thread_has_its_sums() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        assert!(counts_by_thread(directory.path()).is_err());
        write("callgrind.out", "events: Ir\n");
        write("callgrind.out-01", "events: Ir\nfn=(1) main\n3 900\n\ntotals: 7\n");
        write("callgrind.out-02", "events: Ir Dr Dw I1mr D1mr D1mw ILmr\n\ntotals: 40 9 8 7 6 5\n");
        write("stdout", "totals: 99\n");
        let mut threads = counts_by_thread(directory.path()).unwrap();
        threads.sort_by_key(|counts| counts.instructions);
        let [first, second] =
            [(7, 0), (40, 11)].map(|(instructions, data_misses)| Counts { instructions, data_misses });
        assert_eq!(threads, [first, second]);
    }
}
