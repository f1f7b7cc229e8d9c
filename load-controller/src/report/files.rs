//! The files of `--report DIR`: how they get there. Which ones there are is in `format.rs`.
//!
//! Each file appears at once or not at all, and `report.json` comes last: where it is, all others are.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use fleet_contract::stats::Stats;

use super::{
    Report,
    format::{LAST, Source, files},
    thin::Thinning,
};
use crate::{packed, run::facts::RunFacts};

/// Why a file of the report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("expected to write the report's files to {}, found: {source}; make room or name another directory", path.display())]
pub struct WriteError {
    /// The file.
    path: PathBuf,
    /// What the system said.
    #[source]
    source: io::Error,
}

/// Why a directory cannot be had for a report.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It cannot be written to.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It holds a report.
    #[error("expected a directory without a report, found {}; say --force to replace it, or name another directory", path.display())]
    Taken {
        /// One of the report's files.
        path: PathBuf,
    },
    /// Another run holds it.
    #[error("expected a directory of this run's own, found {} held by another run; name another directory", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
    },
}

/// What becomes of a report that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// It stays, and the directory is not to be had.
    Keep,
    /// It is replaced when the new one is written.
    Replace,
}

/// A directory for the report of one run, from before its start until its files are written.
///
/// Nothing is left of it where the run writes no file.
#[derive(Debug)]
pub struct Claim {
    directory: PathBuf,
    /// Locked as long as the run goes on; the kernel gives the lock back with the process.
    _lock: fs::File,
}

impl Claim {
    /// Makes the directory, if it is missing, and tries to write to it.
    ///
    /// # Errors
    ///
    /// When files cannot be made there, another run holds it, or there is a report that is to stay.
    pub fn new(directory: &Path, present: Present) -> Result<Self, ClaimError> {
        let wrong = |source| WriteError { path: directory.into(), source };
        fs::create_dir_all(directory).map_err(wrong)?;
        let lock = fs::File::open(directory).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ClaimError::Held { path: directory.into() }),
            Err(fs::TryLockError::Error(source)) => return Err(wrong(source).into()),
        }
        let claim = Self { directory: directory.into(), _lock: lock };
        let mut paths = files().map(|file| directory.join(file.name));
        match paths.find(|path| path.symlink_metadata().is_ok()) {
            Some(path) if present == Present::Keep => return Err(ClaimError::Taken { path }),
            _ => drop(nameless(directory).map_err(wrong)?),
        }
        Ok(claim)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes the files of the report.
    ///
    /// # Errors
    ///
    /// At the first file that cannot be written; those before it stay.
    pub fn write(&self, report: &Report, stats: &Stats, facts: &RunFacts) -> Result<(), WriteError> {
        write(&self.directory, report, stats, facts)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Only an empty directory can be removed, and whoever made one for a report finds it made again.
        fs::remove_dir(&self.directory).unwrap_or_default();
    }
}

/// Writes all files; those of an earlier report are replaced, and its last one goes first.
fn write(directory: &Path, report: &Report, stats: &Stats, facts: &RunFacts) -> Result<(), WriteError> {
    let last = directory.join(LAST);
    match fs::remove_file(&last) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(WriteError { path: last, source }),
        _ => {}
    }
    let source = Source { report, stats, facts };
    for file in files() {
        let path = directory.join(file.name);
        write_at_once(directory, &path, &(file.content)(&source)).map_err(|source| WriteError { path, source })?;
    }
    Ok(())
}

/// How much of a packed report is kept, in bytes: eight ConfigMaps of 768 KiB.
pub const PACKED_MAX: usize = 8 * PART_MAX;

/// How much of it one ConfigMap holds, in bytes: with what Base64 adds, the API server takes 1 MiB.
pub const PART_MAX: usize = 768 << 10;

/// All files by name, compressed, for where there is no disk; where they would be too large, thinned (`thin.rs`). `report.json` is
/// always among them.
pub fn pack(report: &Report, stats: &Stats, facts: &RunFacts) -> Vec<u8> {
    pack_within(PACKED_MAX, report, stats, facts)
}

fn pack_within(most: usize, report: &Report, stats: &Stats, facts: &RunFacts) -> Vec<u8> {
    let mut thinning = Thinning::NONE;
    loop {
        let thinned = thinning.of(report, stats, facts);
        let source = Source { report: &thinned, stats, facts };
        let files = files().filter(|file| thinning.has(file.name)).map(|file| (file.name, (file.content)(&source)));
        let files: BTreeMap<&'static str, String> = files.collect();
        let packed = packed::pack(&serde_json::to_vec(&files).expect("texts by name are a value of JSON"));
        if packed.len() <= most {
            return packed;
        }
        let largest = files.iter().filter(|(name, _)| **name != LAST).max_by_key(|(_, text)| text.len());
        match thinning.next(&thinned, largest.map(|(name, _)| *name)) {
            Some(next) => thinning = next,
            None => return packed,
        }
    }
}

/// The files of a packed report, by name.
///
/// # Errors
///
/// When it is not whole.
pub fn unpack(packed: &[u8]) -> io::Result<BTreeMap<String, String>> {
    let text = packed::unpack(packed, UNPACKED_MAX)?;
    Ok(serde_json::from_slice(&text)?)
}

/// The most bytes of the files of a report.
const UNPACKED_MAX: u64 = 256 << 20;

/// Under another name first, and on the disk before it gets its own: a full disk leaves no half of a file.
fn write_at_once(directory: &Path, path: &Path, content: &str) -> io::Result<()> {
    let mut file = nameless(directory)?;
    file.write_all(content.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// A file in the directory that goes unless it is given a name.
fn nameless(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    let readable = fs::Permissions::from_mode(0o644);
    tempfile::Builder::new().permissions(readable).prefix(".report-").tempfile_in(directory)
}

#[cfg(test)]
mod tests {
    use fleet_contract::{series::SENT, units::Span};

    use super::*;
    use crate::{
        fixture::{facts, stats_of},
        run::stage::Stage,
    };

    fn written(directory: &Path) -> Result<(), ClaimError> {
        let (stats, facts) = (stats_of(50), facts());
        Ok(Claim::new(directory, Present::Replace)?.write(&Report::new(&stats, &facts), &stats, &facts)?)
    }

    #[test]
    fn a_report_is_replaced_only_on_request() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("out");
        written(&directory).unwrap();
        let refused = Claim::new(&directory, Present::Keep).unwrap_err().to_string();
        assert!(refused.contains("out/report.txt; say --force to replace it"), "{refused}");
        written(&directory).unwrap();
        fs::remove_file(directory.join("report.txt")).unwrap();
        assert!(matches!(Claim::new(&directory, Present::Keep), Err(ClaimError::Taken { .. })));
    }

    #[test]
    fn what_would_be_too_large_is_thinned_before_files_are_left_out_and_the_figures_stay() {
        let (stats, mut facts) = (stats_of(50), facts());
        for second in 1..=200 {
            facts.timeline.push(facts.started.after(Span::from_secs(second)), &stats_of(second), Stage::Running);
        }
        let report = Report::new(&stats, &facts);
        let pack = |most: usize| pack_within(most, &report, &stats, &facts);
        let read = |packed: &[u8]| {
            let files = unpack(packed).unwrap();
            let report: Report = serde_json::from_str(&files[LAST]).unwrap();
            (files.into_keys().collect::<Vec<_>>(), report)
        };
        let whole = pack(usize::MAX);
        assert_eq!((read(&whole).0.len(), read(&whole).1.notes), (files().count(), report.notes.clone()));
        let thinned = pack(whole.len() - 1);
        let (names, found) = read(&thinned);
        assert!(thinned.len() < whole.len());
        assert_eq!((names.len(), found.timeline.readings_per_point), (files().count(), 2));
        // The note is in each file that shows notes.
        let text = &unpack(&thinned).unwrap()["report.txt"];
        assert!(text.contains("a row of the timeline holds 2"), "{text}");
        let (names, found) = read(&pack(1));
        assert_eq!((names, found.messages.all.get(&SENT)), (vec![LAST.to_owned()], Some(50)));
        assert!(found.notes.last().unwrap().contains("report.html"), "{:?}", found.notes);
    }

    #[test]
    fn a_claim_holds_its_directory_and_leaves_none_that_is_empty() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a/b");
        let claim = Claim::new(&directory, Present::Keep).unwrap();
        assert!(matches!(Claim::new(&directory, Present::Replace), Err(ClaimError::Held { .. })));
        drop(claim);
        assert!(!directory.exists());
    }

    #[test]
    fn all_files_are_there_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        written(&directory.path().join("new")).unwrap();
        let mut names: Vec<String> = fs::read_dir(directory.path().join("new"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        insta::assert_snapshot!(names.join(" "), @"connect.hgrm end_to_end.hgrm faults.csv fleet.yaml groups.csv junit.xml latency.hlog lost.jsonl offline_detection.hgrm phases.csv publish_ack.hgrm recovery.hgrm report.html report.json report.md report.txt schedule_lag.hgrm streams.csv timeline.csv");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = written(&file.join("report")).unwrap_err().to_string();
        assert!(error.contains("file/report, found: Not a directory"), "{error}");
    }

    #[test]
    fn a_device_without_room_is_an_error_and_leaves_no_half() {
        // The root may write anywhere, but nobody may make files in /proc.
        let error = written(Path::new("/proc/self")).unwrap_err().to_string();
        assert!(error.contains("write the report's files to /proc/self, found"), "{error}");
    }
}
