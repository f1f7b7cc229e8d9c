//! Container images made without a container engine and without a base image.
//!
//! An image is one layer with a program that needs nothing else, written as `docker save` writes it: `docker load`,
//! `ctr images import`, `kind load image-archive` and `k3d image import` take it. The same program gives the same
//! bytes and therefore the same digest, on every machine and at any time.
//!
//! This module depends on nothing else of the harness.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A user without rights and without a name, as in distroless images.
const USER: &str = "65532:65532";

/// An image that is to be written.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    /// Go's name of the processor, as images have it.
    architecture: &'static str,
    entrypoint: String,
    layer: Vec<u8>,
    labels: BTreeMap<String, String>,
}

impl Image {
    /// The image `name` (`registry/repository:tag`) of a statically linked program, which becomes its entry point.
    ///
    /// # Errors
    /// When the file is not readable, or no program for a processor that is known here.
    pub fn of_program(name: &str, program: &Path) -> Result<Image> {
        let bytes = fs::read(program).with_context(|| format!("{} is not readable", program.display()))?;
        let file = program.file_name().with_context(|| format!("{} is no file", program.display()))?;
        let architecture = architecture(&bytes).with_context(|| program.display().to_string())?;
        let layer = layer(Path::new(file), &bytes)?;
        let entrypoint = format!("/{}", file.display());
        Ok(Image { name: name.to_owned(), architecture, entrypoint, layer, labels: BTreeMap::new() })
    }

    /// Sets a label, such as `org.opencontainers.image.version`.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Image {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Writes the archive to a file, and returns the image's ID.
    pub fn save(&self, path: &Path) -> Result<String> {
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        self.write(file)
    }

    /// Writes the archive, and returns the image's ID: `sha256:` and the digest of its configuration.
    pub fn write(&self, into: impl Write) -> Result<String> {
        let config = self.config().to_string();
        let digest = hex(config.as_bytes());
        let config_name = format!("{digest}.json");
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": ["layer.tar"]}]);
        let mut archive = tar::Builder::new(into);
        append(&mut archive, Path::new("manifest.json"), 0o644, manifest.to_string().as_bytes())?;
        append(&mut archive, Path::new(&config_name), 0o644, config.as_bytes())?;
        append(&mut archive, Path::new("layer.tar"), 0o644, &self.layer)?;
        archive.into_inner()?.flush()?;
        Ok(format!("sha256:{digest}"))
    }

    /// As the OCI image specification has it.
    fn config(&self) -> Value {
        json!({
            "architecture": self.architecture,
            "os": "linux",
            // No build is newer than another one of the same bytes.
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": USER,
                "Env": ["PATH=/"],
                "Entrypoint": [self.entrypoint],
                "WorkingDir": "/",
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&self.layer))]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "simctl"}],
        })
    }
}

/// One file at the root.
fn layer(name: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::with_capacity(bytes.len() + 4096));
    append(&mut layer, name, 0o755, bytes)?;
    Ok(layer.into_inner()?)
}

/// Owned by root and without a time, so that the same bytes give the same archive.
fn append(archive: &mut tar::Builder<impl Write>, path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(bytes.len())?);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

/// Which processor a program is for: the field `e_machine` of its ELF header.
fn architecture(program: &[u8]) -> Result<&'static str> {
    match program {
        [0x7f, b'E', b'L', b'F', ..] => {}
        _ => bail!("this is no Linux program"),
    }
    match program.get(18..20) {
        Some([62, 0]) => Ok("amd64"),
        Some([183, 0]) => Ok("arm64"),
        other => bail!("images are made for amd64 and arm64, this is for machine {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn image() -> Image {
        Image::of_program("localhost/tests:1", &std::env::current_exe().unwrap()).unwrap().label("a", "b")
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        });
        entries.collect()
    }

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        assert_eq!(image().write(&mut one).unwrap(), image().write(&mut other).unwrap());
        assert!(one == other);
        assert_ne!(image().label("a", "c").write(Vec::new()).unwrap(), image().write(Vec::new()).unwrap());
    }

    #[test]
    fn names_in_the_archive_are_digests_of_what_they_name() {
        let mut archive = Vec::new();
        let id = image().write(&mut archive).unwrap();
        let files = files(&archive);
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let config = &files[manifest[0]["Config"].as_str().unwrap()];
        assert_eq!(id, format!("sha256:{}", hex(config)));
        let config: Value = serde_json::from_slice(config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&files["layer.tar"])));
        assert_eq!(config["config"]["User"], USER);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let error = Image::of_program("x", Path::new(file!()).file_name().map_or(Path::new("x"), Path::new));
        assert!(error.is_err());
        assert!(architecture(b"#!/bin/sh").is_err());
        assert_eq!(architecture(&[&[0x7f, b'E', b'L', b'F'][..], &[0; 14], &[183, 0]].concat()).unwrap(), "arm64");
    }
}
