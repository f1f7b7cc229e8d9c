//! The files of `--report DIR`.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `report.json` | the report, as `-o json` prints it |
//! | `report.txt` | the wide table |
//! | `report.html` | one page with charts, without anything from elsewhere |
//! | `timeline.csv` | the run second by second |
//! | `lost.jsonl` | each lost message that is known by name, one JSON object a line |
//! | `fleet.yaml` | the resolved document: running it again repeats the run |
//! | `connect.hgrm`, `publish_ack.hgrm`, `end_to_end.hgrm`, `schedule_lag.hgrm`, `recovery.hgrm` | the distributions |
//!
//! Each file appears at once or not at all, and `report.json` comes last: where it is, all others are.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use fleet_contract::stats::{Latencies, Stats};

use super::{
    LostInReport, Report, csv, hgrm, html, json,
    text::{self, Paint, Style, Width},
};
use crate::facts::RunFacts;

/// Why a file of the report could not be written.
#[derive(Debug, thiserror::Error)]
#[error("expected to write the report's file {}, found: {source}; make room or name another directory", path.display())]
pub struct WriteError {
    /// The file.
    path: PathBuf,
    /// What the system said.
    #[source]
    source: io::Error,
}

/// Writes all files into `directory`, which is made if it is missing; files of an earlier report are replaced.
///
/// Errs at the first file that cannot be written; those before it stay.
pub fn write(directory: &Path, report: &Report, stats: &Stats, facts: &RunFacts) -> Result<(), WriteError> {
    fs::create_dir_all(directory).map_err(|source| WriteError { path: directory.into(), source })?;
    for (name, content) in contents(report, stats, facts) {
        let path = directory.join(name);
        write_at_once(directory, &path, &content).map_err(|source| WriteError { path, source })?;
    }
    Ok(())
}

/// The names of the files and what they hold, in the order in which they are written.
fn contents(report: &Report, stats: &Stats, facts: &RunFacts) -> Vec<(&'static str, String)> {
    let Latencies { connect, publish_ack, end_to_end, schedule_lag, recovery } = &stats.latency;
    let wide = Style { width: Width::Wide, paint: Paint::Plain };
    vec![
        ("report.txt", text::render(report, wide)),
        ("report.html", html::render(report, &stats.latency)),
        ("timeline.csv", csv::render(&report.timeline)),
        ("lost.jsonl", lost(stats)),
        ("fleet.yaml", serde_saphyr::to_string(&facts.fleet).expect("what was read from YAML can be written as YAML")),
        ("connect.hgrm", hgrm::render(connect)),
        ("publish_ack.hgrm", hgrm::render(publish_ack)),
        ("end_to_end.hgrm", hgrm::render(end_to_end)),
        ("schedule_lag.hgrm", hgrm::render(schedule_lag)),
        ("recovery.hgrm", hgrm::render(recovery)),
        ("report.json", json::render(report)),
    ]
}

fn lost(stats: &Stats) -> String {
    let line = |message| serde_json::to_string(&LostInReport::new(message)).expect("numbers and strings") + "\n";
    stats.lost.iter().map(line).collect()
}

/// Under another name first, and on the disk before it gets its own: a full disk leaves no half of a file.
fn write_at_once(directory: &Path, path: &Path, content: &str) -> io::Result<()> {
    let readable = fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new().permissions(readable).prefix(".report-").tempfile_in(directory)?;
    file.write_all(content.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{facts, stats_of};

    fn written(directory: &Path) -> Result<(), WriteError> {
        let (stats, facts) = (stats_of(50), facts());
        write(directory, &Report::new(&stats, &facts), &stats, &facts)
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
        insta::assert_snapshot!(names.join(" "), @"connect.hgrm end_to_end.hgrm fleet.yaml lost.jsonl publish_ack.hgrm recovery.hgrm report.html report.json report.txt schedule_lag.hgrm timeline.csv");
    }

    #[test]
    fn the_document_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join("fleet.yaml")).unwrap();
        assert_eq!(serde_saphyr::from_str::<fleet_contract::fleet::Fleet>(&text).unwrap(), facts().fleet);
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
        assert!(error.contains("/proc/self/report.txt"), "{error}");
    }
}
