//! The plan in a file that somebody else changes.
//!
//! A volume of a `ConfigMap` changes by the swap of a symbolic link above the file, some time after its object did. So
//! it is the content that is compared, and the file is simply read now and then.

use std::{fs, io, path::PathBuf};

use fleet_contract::{format, plan::Plan};

use crate::args::SettingsError;

/// A file with a plan, and what it held at the last look.
#[derive(Debug)]
pub(super) struct Mounted {
    path: PathBuf,
    last: Look,
}

/// What a look at the file has shown.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Nothing,
    Content(Vec<u8>),
    Failure(io::ErrorKind),
}

impl Mounted {
    /// The file at `path`, not looked at yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, last: Look::Nothing }
    }

    /// The plan that the file holds, if it has changed since the last look. An error is told once.
    pub(super) fn look(&mut self) -> Result<Option<Plan>, SettingsError> {
        let read = fs::read(&self.path);
        let look = read.as_ref().map_or_else(|error| Look::Failure(error.kind()), |bytes| Look::Content(bytes.clone()));
        if look == self.last {
            return Ok(None);
        }
        self.last = look;
        let (what, path) = ("a plan", self.path.clone());
        let bytes = read.map_err(|source| SettingsError::Read { what, path: path.clone(), source })?;
        format::read(&bytes).map(Some).map_err(|source| SettingsError::Content { what, path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use fleet_contract::time::Micros;

    use super::*;

    /// Makes `content` the file `plan.json` of a volume as kubelet does: a new directory, and a link that is renamed.
    fn swap(volume: &std::path::Path, name: &str, content: &str) {
        let directory = volume.join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("plan.json"), content).unwrap();
        symlink(name, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    }

    fn plan(devices: u32) -> (Plan, String) {
        let plan = Plan::new(7, Micros(1), devices);
        let text = serde_json::to_string(&plan).unwrap();
        (plan, text)
    }

    #[test]
    fn a_change_of_the_volume_is_seen_once() {
        let volume = tempfile::tempdir().unwrap();
        let ((first, first_text), (second, second_text)) = (plan(1), plan(2));
        swap(volume.path(), "..one", &first_text);
        symlink("..data/plan.json", volume.path().join("plan.json")).unwrap();
        let mut mounted = Mounted::new(volume.path().join("plan.json"));
        assert_eq!(mounted.look().unwrap(), Some(first));
        assert_eq!(mounted.look().unwrap(), None);
        swap(volume.path(), "..two", &second_text);
        assert_eq!(mounted.look().unwrap(), Some(second));
        assert_eq!(mounted.look().unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_told_once_and_read_again() {
        let volume = tempfile::tempdir().unwrap();
        let path = volume.path().join("plan.json");
        let mut mounted = Mounted::new(path.clone());
        assert!(mounted.look().unwrap_err().to_string().contains("No such file"));
        assert_eq!(mounted.look().unwrap(), None);
        fs::write(&path, "{").unwrap();
        assert!(mounted.look().unwrap_err().to_string().contains("expected a plan in"));
        assert_eq!(mounted.look().unwrap(), None);
        fs::write(&path, plan(3).1).unwrap();
        assert_eq!(mounted.look().unwrap(), Some(plan(3).0));
    }
}
