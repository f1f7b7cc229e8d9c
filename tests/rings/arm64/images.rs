//! Images of both processors, made from the programs of both.

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use images::PROGRAMS;
use serde_json::Value;
use tests::{arm64, project, simctl::Simctl};

use super::{emulated, succeeds};

fn directory(of: &Path) -> String {
    of.parent().unwrap().display().to_string()
}

fn directories() -> (String, String) {
    (directory(&project::binary("simctl").unwrap()), directory(&arm64::binary("simctl").unwrap()))
}

/// The JSON of an archive, by path; its layers are left out.
fn documents(archive: &Path) -> BTreeMap<String, Value> {
    let mut documents = BTreeMap::new();
    for entry in tar::Archive::new(fs::File::open(archive).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        if let Ok(document) = serde_json::from_slice(&text) {
            documents.insert(entry.path().unwrap().display().to_string(), document);
        }
    }
    documents
}

#[test]
fn one_archive_holds_each_program_for_both_processors() {
    let simctl = Simctl::new().unwrap();
    let (here, there) = directories();
    let flags = ["images", "build", "--from", &here, "--from", &there, "--archive", "both.tar"];
    let named = succeeds(&simctl, &[&flags[..], &["--platform", "linux/amd64,linux/arm64"]].concat()).stdout;
    assert_eq!(named.lines().count(), PROGRAMS.len(), "{named}");

    let documents = documents(&simctl.dir().join("both.tar"));
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        documents[&format!("blobs/{}", digest.replace(':', "/"))].clone()
    };
    let names = documents["index.json"]["manifests"].as_array().unwrap();
    assert_eq!(names.len(), PROGRAMS.len());
    for name in names {
        let platforms = blob(name)["manifests"].clone();
        let architectures: Vec<Value> = platforms
            .as_array()
            .unwrap()
            .iter()
            .map(|platform| {
                let config = blob(&blob(platform)["config"]);
                assert_eq!(config["architecture"], platform["platform"]["architecture"], "{name}");
                config["architecture"].clone()
            })
            .collect();
        assert_eq!(architectures, ["amd64", "arm64"], "{name}");
    }
}

#[test]
fn the_bytes_are_the_same_whoever_writes_them() {
    let (here, there) = (Simctl::new().unwrap(), emulated());
    let (_, programs) = directories();
    let flags = ["images", "build", "--archive", "images.tar", "--platform", "linux/arm64"];
    succeeds(&here, &[&flags[..], &["--from", &programs]].concat());
    // It finds its fellows beside itself.
    succeeds(&there, &[&flags[..], &["--builder", "own"]].concat());
    let archive = |simctl: &Simctl| fs::read(simctl.dir().join("images.tar")).unwrap();
    assert!(archive(&here) == archive(&there));
}

#[test]
fn a_platform_that_nobody_has_built_is_refused() {
    let simctl = Simctl::new().unwrap();
    let (here, _) = directories();
    let flags = ["images", "build", "--from", &here, "--platform", "linux/arm64"];
    let refused = simctl.call(&flags, super::PATIENCE).unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("expected device-sim for linux/arm64, found it for linux/amd64"), "{refused:?}");
    assert!(!simctl.dir().join("images.tar").exists(), "nothing is written");
}
