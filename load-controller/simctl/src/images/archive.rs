//! Images as one file, as `docker save` writes them: a pure function of programs and names.
//!
//! The same programs give the same bytes: no time, no order of a directory, no user of this machine gets in. The format
//! is that of Docker's image specification 1.2, which docker, podman, containerd, kind and k3d load.

use std::io::{self, Write};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Reference, elf::Architecture};

/// Nobody in particular, the user of images that need no privileges.
const USER: u32 = 65_532;

/// An image to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image<'a> {
    /// What it is called.
    pub(crate) reference: &'a Reference,
    /// The static program that it runs.
    pub(crate) program: &'a [u8],
    /// What it runs on.
    pub(crate) architecture: Architecture,
}

/// Writes an archive of all `images`.
pub(crate) fn write(images: &[Image<'_>], out: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(out);
    let mut manifest = Vec::new();
    for image in images {
        let layer = layer(image)?;
        let layer_hash = sha256(&layer);
        let config = config(image, &layer_hash);
        let (config_name, layer_name) = (format!("{}.json", sha256(&config)), format!("{layer_hash}/layer.tar"));
        add(&mut archive, &config_name, 0o644, 0, &config)?;
        add(&mut archive, &layer_name, 0o644, 0, &layer)?;
        manifest.push(json!({
            "Config": config_name, "RepoTags": [image.reference.to_string()], "Layers": [layer_name],
        }));
    }
    add(&mut archive, "manifest.json", 0o644, 0, &serde_json::to_vec(&manifest)?)?;
    archive.into_inner()?.flush()
}

/// The one layer: the program, and a directory that it may write to.
fn layer(image: &Image<'_>) -> io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::with_capacity(image.program.len() + 4_096));
    add(&mut layer, &image.reference.program, 0o755, USER, image.program)?;
    let mut directory = header(0o1777, USER, 0);
    directory.set_entry_type(EntryType::Directory);
    layer.append_data(&mut directory, "tmp/", io::empty())?;
    layer.into_inner()
}

fn config(image: &Image<'_>, layer_hash: &str) -> Vec<u8> {
    let Reference { program, tag, .. } = image.reference;
    let config = json!({
        "architecture": image.architecture.name(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": [format!("/{program}")],
            "WorkingDir": "/",
            "Env": ["PATH=/"],
            "Labels": {
                "org.opencontainers.image.title": program,
                "org.opencontainers.image.version": tag,
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_hash}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": format!("simctl images build ({program})") }],
    });
    config.to_string().into_bytes()
}

fn add<W: Write>(archive: &mut Builder<W>, name: &str, mode: u32, user: u32, content: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(mode, user, content.len() as u64), name, content)
}

/// A header in which nothing depends on this machine or this moment.
fn header(mode: u32, user: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(user.into());
    header.set_gid(user.into());
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read as _};

    use serde_json::Value;

    use super::*;

    fn archive(programs: &[(&str, &[u8])]) -> Vec<u8> {
        let references: Vec<_> =
            programs.iter().map(|(name, _)| Reference::new("localhost/simctl", name, "1")).collect();
        let images: Vec<_> = references
            .iter()
            .zip(programs)
            .map(|(reference, (_, program))| Image { reference, program, architecture: Architecture::Arm64 })
            .collect();
        let mut out = Vec::new();
        write(&images, &mut out).unwrap();
        out
    }

    fn files(archive: &[u8]) -> BTreeMap<String, (Header, Vec<u8>)> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), (entry.header().clone(), content));
        }
        files
    }

    #[test]
    fn the_same_programs_give_the_same_bytes() {
        let programs: [(&str, &[u8]); 2] = [("broker", b"one"), ("simctl", b"two")];
        assert_eq!(archive(&programs), archive(&programs));
        assert_ne!(archive(&programs), archive(&[("broker", b"one"), ("simctl", b"other")]));
    }

    #[test]
    fn each_image_has_its_name_its_program_and_a_config_that_names_the_layer() {
        let files = files(&archive(&[("broker", b"one"), ("simctl", b"two")]));
        let manifest: Value = serde_json::from_slice(&files["manifest.json"].1).unwrap();
        assert_eq!(manifest[1]["RepoTags"][0], "localhost/simctl/simctl:1");
        let (layer, config) = (manifest[1]["Layers"][0].as_str().unwrap(), manifest[1]["Config"].as_str().unwrap());
        let config_bytes = &files[config].1;
        assert_eq!(config, format!("{}.json", sha256(config_bytes)));
        let config: Value = serde_json::from_slice(config_bytes).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(&files[layer].1)));
        assert_eq!((&config["architecture"], &config["config"]["User"]), (&"arm64".into(), &"65532:65532".into()));
        let inside = self::files(&files[layer].1);
        let (header, program) = &inside["simctl"];
        assert_eq!(
            (program.as_slice(), header.mode().unwrap(), header.mtime().unwrap()),
            (b"two".as_slice(), 0o755, 0)
        );
        assert_eq!(header.uid().unwrap(), 65_532);
    }
}
