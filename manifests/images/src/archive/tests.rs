use std::{collections::BTreeMap, io::Read as _};

use super::*;
use crate::architecture::tests::program;

const AMD64: u8 = 62;
const ARM64: u8 = 183;

/// A static program that ends with `text`, so that two may differ.
fn binary(machine: u8, text: &str) -> Vec<u8> {
    [&program(machine, &[1])[..], text.as_bytes()].concat()
}

fn image(name: &str, machine: u8, text: &str) -> Image {
    Image::new(Reference::new("localhost/simctl", name, "1"), binary(machine, text)).unwrap()
}

fn archive(images: &[Image]) -> (Vec<u8>, Vec<Written>) {
    let mut out = Vec::new();
    let written = write(images, &mut out).unwrap();
    (out, written)
}

type Files = BTreeMap<String, (Header, Vec<u8>)>;

fn files(archive: &[u8]) -> Files {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let name = entry.path().unwrap().display().to_string();
        assert!(files.insert(name, (entry.header().clone(), content)).is_none(), "nothing stands twice");
    }
    files
}

fn json(files: &Files, path: &str) -> Value {
    serde_json::from_slice(&files[path].1).unwrap()
}

/// What a descriptor stands for, which its digest and size prove.
#[track_caller]
fn blob<'a>(files: &'a Files, descriptor: &Value) -> &'a [u8] {
    let bytes = &files[&path(descriptor)].1;
    assert_eq!(descriptor["digest"], digest(bytes));
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

#[track_caller]
fn described(files: &Files, descriptor: &Value) -> Value {
    serde_json::from_slice(blob(files, descriptor)).unwrap()
}

#[test]
fn the_same_programs_give_the_same_bytes() {
    let images = [image("broker", ARM64, "one"), image("simctl", ARM64, "two")];
    assert!(archive(&images) == archive(&images));
    assert!(archive(&images) != archive(&[image("broker", ARM64, "one"), image("simctl", ARM64, "other")]));
}

#[test]
fn a_name_leads_by_digests_to_its_program() {
    let (bytes, written) = archive(&[image("broker", ARM64, "one"), image("simctl", ARM64, "two")]);
    let files = files(&bytes);
    let names = json(&files, "index.json")["manifests"].clone();
    assert_eq!(names[1]["annotations"]["io.containerd.image.name"], "localhost/simctl/simctl:1");
    assert_eq!(names[1]["digest"], written[1].digest);
    let platforms = described(&files, &names[1]);
    let manifest = described(&files, &platforms["manifests"][0]);
    let config = described(&files, &manifest["config"]);
    assert_eq!((&config["architecture"], &config["config"]["User"]), (&"arm64".into(), &"65532:65532".into()));
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    let inside = self::files(blob(&files, &manifest["layers"][0]));
    let (header, program) = &inside["simctl"];
    assert!(*program == binary(ARM64, "two"));
    assert_eq!((header.mode().unwrap(), header.mtime().unwrap(), header.uid().unwrap()), (0o755, 0, 65_532));
    assert_eq!(inside["tmp/"].0.mode().unwrap(), 0o1777);
}

#[test]
fn one_name_holds_the_programs_of_both_processors() {
    let (bytes, written) = archive(&[image("broker", AMD64, "one"), image("broker", ARM64, "one")]);
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].architectures, [Architecture::Amd64, Architecture::Arm64]);
    let files = files(&bytes);
    let names = json(&files, "index.json")["manifests"].clone();
    assert_eq!(names.as_array().unwrap().len(), 1);
    let platforms = described(&files, &names[0])["manifests"].clone();
    for (number, name) in ["amd64", "arm64"].into_iter().enumerate() {
        assert_eq!(platforms[number]["platform"], json!({"architecture": name, "os": "linux"}));
        let manifest = described(&files, &platforms[number]);
        assert_eq!(described(&files, &manifest["config"])["architecture"], name);
    }
}

#[test]
fn the_older_list_names_the_first_processor() {
    let (bytes, _) = archive(&[image("broker", ARM64, "one"), image("broker", AMD64, "one")]);
    let files = files(&bytes);
    let list = json(&files, "manifest.json");
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["RepoTags"], json!(["localhost/simctl/broker:1"]));
    assert_eq!(json(&files, list[0]["Config"].as_str().unwrap())["architecture"], "arm64");
    assert!(files.contains_key(list[0]["Layers"][0].as_str().unwrap()));
}

#[test]
fn an_image_says_what_it_is() {
    let config = image("load-controller", AMD64, "").config("sha256:0")["config"].clone();
    let labels = config["Labels"].as_object().unwrap();
    for label in ["title", "description", "version", "licenses", "source"] {
        let text = labels[&format!("org.opencontainers.image.{label}")].as_str().unwrap();
        assert!(!text.is_empty(), "{label}");
    }
    assert_eq!((&config["Cmd"], &config["ExposedPorts"]), (&json!(["run"]), &json!({"8080/tcp": {}})));
    let stranger = image("pause", AMD64, "").config("sha256:0")["config"].clone();
    assert!(stranger.get("Cmd").is_none() && stranger.get("ExposedPorts").is_none());
}

#[test]
fn two_names_of_one_program_share_its_layer() {
    let next = Image::new(Reference::new("localhost/simctl", "broker", "2"), binary(ARM64, "one")).unwrap();
    let (bytes, written) = archive(&[image("broker", ARM64, "one"), next]);
    assert_ne!(written[0].digest, written[1].digest);
    let list = json(&files(&bytes), "manifest.json");
    assert_eq!(list[0]["Layers"], list[1]["Layers"]);
}

#[test]
fn what_is_no_program_is_refused_with_its_file() {
    let error = Image::read(Reference::new("localhost", "x", "1"), Path::new(file!()).parent().unwrap());
    assert!(error.is_err());
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let error = Image::read(Reference::new("localhost", "x", "1"), &here).unwrap_err().to_string();
    assert!(error.contains("Cargo.toml: expected a static program for Linux"), "{error}");
}
