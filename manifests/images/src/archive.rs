//! Images as one file, which docker, podman, containerd, kind and k3d load: a pure function of programs and names.
//!
//! The same programs give the same bytes: no time, no order of a directory, no user of this machine gets in.
//!
//! The file is an OCI image layout, in which one name may stand for several processors and each node takes its own. It
//! has the list of Docker's older format as well, which knows one processor a name: the first one given. `docker save`
//! writes both, too.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use thiserror::Error;

use crate::{Architecture, Reference, program};

/// Nobody in particular, the user of images that need no privileges.
const USER: u32 = 65_532;

/// No build is newer than another one of the same bytes.
const CREATED: &str = "1970-01-01T00:00:00Z";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image of one static program, for one processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    reference: Reference,
    architecture: Architecture,
    program: Vec<u8>,
}

/// Why there is no image of a program.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Its file cannot be read.
    #[error("failed to read {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// Its file does not run alone on a known processor.
    #[error("{}: {reason}", .path.display())]
    NotAlone {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}

/// What an archive holds under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The name.
    pub reference: Reference,
    /// The processors that it runs on.
    pub architectures: Vec<Architecture>,
    /// What the image is for all of them: `sha256:…`, as a registry would call it.
    pub digest: String,
}

impl Image {
    /// The image of a program that lies in a file.
    pub fn read(reference: Reference, path: &Path) -> Result<Self, ImageError> {
        let program = fs::read(path).map_err(|error| ImageError::Unreadable(path.to_owned(), error))?;
        Self::new(reference, program).map_err(|reason| ImageError::NotAlone { path: path.to_owned(), reason })
    }

    /// The image of a program.
    ///
    /// # Errors
    /// Says why the program does not run alone; see [`Architecture::of`].
    pub fn new(reference: Reference, program: Vec<u8>) -> Result<Self, String> {
        Ok(Self { reference, architecture: Architecture::of(&program)?, program })
    }

    /// What it is called.
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The processor that it runs on.
    pub const fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The one layer: the program, and a directory that it may write to.
    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::with_capacity(self.program.len() + 4_096));
        add(&mut layer, &self.reference.program, 0o755, USER, &self.program)?;
        let mut directory = header(0o1777, USER, 0);
        directory.set_entry_type(EntryType::Directory);
        layer.append_data(&mut directory, "tmp/", io::empty())?;
        layer.into_inner()
    }

    /// As the OCI image specification has it.
    fn config(&self, layer: &str) -> Value {
        let Reference { program: name, tag, .. } = &self.reference;
        let mut config = json!({
            "User": format!("{USER}:{USER}"),
            "Entrypoint": [format!("/{name}")],
            "WorkingDir": "/",
            "Env": ["PATH=/"],
            "Labels": {
                "org.opencontainers.image.title": name,
                "org.opencontainers.image.version": tag,
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
            },
        });
        if let Some(known) = program::find(name) {
            config["Labels"]["org.opencontainers.image.description"] = known.description.into();
            if !known.ports.is_empty() {
                config["ExposedPorts"] = known.ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
            }
            if !known.arguments.is_empty() {
                config["Cmd"] = known.arguments.into();
            }
        }
        json!({
            "architecture": self.architecture.name(),
            "os": "linux",
            "created": CREATED,
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [layer] },
            "history": [{ "created": CREATED, "created_by": format!("simctl images build ({name})") }],
        })
    }
}

/// Writes an archive of all `images` to a file; see [`write()`].
pub fn save(images: &[Image], path: &Path) -> io::Result<Vec<Written>> {
    write(images, BufWriter::new(File::create(path)?))
}

/// Writes an archive of all `images`; those with the same name are one image for several processors.
pub fn write(images: &[Image], out: impl Write) -> io::Result<Vec<Written>> {
    let mut names: Vec<&Reference> = images.iter().map(Image::reference).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.to_string()));
    let mut blobs = Blobs { archive: Builder::new(out), written: BTreeSet::new() };
    let (mut index, mut docker, mut written) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let of_name: Vec<&Image> = images.iter().filter(|image| image.reference == *name).collect();
        let (mut descriptor, entry) = blobs.add_name(name, &of_name)?;
        let digest = descriptor["digest"].as_str().unwrap_or_default().to_owned();
        descriptor["annotations"] = json!({
            "io.containerd.image.name": name.to_string(), "org.opencontainers.image.ref.name": name.tag,
        });
        index.push(descriptor);
        docker.push(entry);
        let architectures = of_name.iter().map(|image| image.architecture).collect();
        written.push(Written { reference: name.clone(), architectures, digest });
    }
    let mut archive = blobs.archive;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": index });
    for (name, content) in [
        ("index.json", index),
        ("manifest.json", Value::Array(docker)),
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
    ] {
        add(&mut archive, name, 0o644, 0, content.to_string().as_bytes())?;
    }
    archive.into_inner()?.flush()?;
    Ok(written)
}

/// The parts of images, each named by the digest of its bytes and written once.
struct Blobs<W: Write> {
    archive: Builder<W>,
    written: BTreeSet<String>,
}

impl<W: Write> Blobs<W> {
    /// Adds the images that share a name; their index's descriptor, and the entry of the first one in Docker's list.
    fn add_name(&mut self, name: &Reference, images: &[&Image]) -> io::Result<(Value, Value)> {
        let (mut manifests, mut entry) = (Vec::new(), Value::Null);
        for image in images {
            let layer = self.add(LAYER, &image.layer()?)?;
            let config = image.config(layer["digest"].as_str().unwrap_or_default());
            let config = self.add(CONFIG, config.to_string().as_bytes())?;
            if entry.is_null() {
                entry = json!({ "Config": path(&config), "RepoTags": [name.to_string()], "Layers": [path(&layer)] });
            }
            let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
            let mut descriptor = self.add(MANIFEST, manifest.to_string().as_bytes())?;
            descriptor["platform"] = json!({ "architecture": image.architecture.name(), "os": "linux" });
            manifests.push(descriptor);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        Ok((self.add(INDEX, index.to_string().as_bytes())?, entry))
    }

    /// Adds one part; its descriptor.
    fn add(&mut self, media_type: &str, bytes: &[u8]) -> io::Result<Value> {
        let descriptor = json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() });
        let path = path(&descriptor);
        if !self.written.contains(&path) {
            add(&mut self.archive, &path, 0o644, 0, bytes)?;
            self.written.insert(path);
        }
        Ok(descriptor)
    }
}

/// Where a part lies in the archive.
fn path(descriptor: &Value) -> String {
    format!("blobs/{}", descriptor["digest"].as_str().unwrap_or_default().replace(':', "/"))
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
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

#[cfg(test)]
mod tests;
