//! The newest plan of a worker, kept in a file, so that a restarted one never returns with old numbers.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use fleet_contract::{
    format::{self, Unreadable},
    plan::Plan,
};
use serde::Serialize;

/// A plan could not be kept or found again.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read or written.
    #[error("expected to keep the plan in {path}, found: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("expected a plan in {path}, found: {source}; delete the file to start from the assignment's plan", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Unreadable,
    },
}

/// The kept plan; `None` when there is none yet.
pub fn load(path: &Path) -> Result<Option<Plan>, StateError> {
    match fs::read(path) {
        Ok(bytes) => format::read(&bytes).map(Some).map_err(|source| StateError::Content { path: path.into(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io { path: path.into(), source }),
    }
}

/// Keeps `plan`: a crash in between leaves the plan before it.
pub fn save(path: &Path, plan: &Plan) -> Result<(), StateError> {
    replace(path, plan).map_err(|source| StateError::Io { path: path.into(), source })
}

/// Writes a value in the place of a file, as JSON: a crash in between leaves the file as it was.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = fs::File::create(&next)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(next, path)
}

/// The one that a worker runs: of one run the higher version, of two runs the one that started later.
pub fn newest(one: Plan, other: Plan) -> Plan {
    if (other.start, other.version) > (one.start, one.version) { other } else { one }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{plan::Setting, time::Micros};

    use super::*;

    fn plan(start: u64, version: u64) -> Plan {
        let mut plan = Plan::new(7, Micros(start), 100);
        (1..version).for_each(|version| plan.set(Micros(start + version), Setting::Devices(100)));
        plan
    }

    #[test]
    fn what_was_kept_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plan.json");
        assert_eq!(load(&path).unwrap(), None);
        save(&path, &plan(5, 1)).unwrap();
        save(&path, &plan(5, 3)).unwrap();
        assert_eq!(load(&path).unwrap(), Some(plan(5, 3)));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plan.json");
        fs::write(&path, "{\"version\":").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("expected a plan in") && error.contains("delete the file"), "{error}");
    }

    #[test]
    fn the_newest_plan_wins() {
        assert_eq!(newest(plan(5, 2), plan(5, 3)).version, 3);
        assert_eq!(newest(plan(5, 3), plan(5, 2)).version, 3);
        assert_eq!(newest(plan(5, 9), plan(6, 1)).start, Micros(6));
    }
}
