//! A volume that a broker's claim gets: a folder of this machine, which all of its nodes see.

use std::{fs, fs::Permissions, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;

use super::admin;

/// The storage class of the volume, of which there is no object: nobody makes volumes of it but the test.
pub(super) const CLASS: &str = "by-hand";

/// What a claim may ask of it.
pub(super) const SIZE: &str = "16Mi";

/// A volume; it goes with the value.
pub(super) struct Volume {
    name: String,
    _folder: TempDir,
}

impl Volume {
    pub(super) fn make(name: &str) -> Volume {
        let folder = tempfile::tempdir().unwrap();
        // The broker's process is somebody else, and Kubernetes leaves the owner of such a folder alone.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let object = format!(
            "apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: {SIZE}}}
  accessModes: [ReadWriteOnce]
  storageClassName: {CLASS}
  persistentVolumeReclaimPolicy: Retain
  hostPath: {{path: {}}}
",
            folder.path().display()
        );
        admin().apply(&object).unwrap();
        Volume { name: name.to_owned(), _folder: folder }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(error) = admin().kubectl(["delete", "persistentvolume", &self.name, "--wait=false"]) {
            eprintln!("the volume {} stays: {error:#}", self.name);
        }
    }
}
