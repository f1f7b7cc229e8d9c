//! `simctl images`: builds the images of the programs, and brings them to the nodes of a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use images::{Architecture, Image, ImageError, PROGRAMS, REGISTRY, Reference, TAG};
use load_controller::run::verdict::ExitCode;

use crate::{
    cluster::client::Cluster,
    engine::{self, Builder, Loader},
    exit::Failure,
    flags::ClusterFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl images build                                     images.tar, or images of docker
  simctl images build --from target/x86_64-unknown-linux-musl/release --archive images.tar
  simctl images build --from bin/amd64 --from bin/arm64   one archive for nodes of both processors
  simctl images build --builder docker --platform linux/amd64,linux/arm64
  simctl images load                                      to the kind or k3d cluster of the context
  simctl images load --containerd --archive images.tar    to this machine's containerd, as root
  simctl images load --registry registry.example/team     pushed there; then simctl install --image-registry …";

/// Build the container images, or bring them to the nodes of a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, clap::Subcommand)]
enum Step {
    /// Build the images, with docker, podman or buildah, or without any of them
    #[command(after_help = EXAMPLES)]
    Build(Build),
    /// Bring the images to the nodes of a cluster, or to a registry
    #[command(after_help = EXAMPLES)]
    Load(Load),
}

/// Which images, and what they are called.
#[derive(Debug, clap::Args)]
struct Names {
    /// Only that of this program; may be given several times [default: all]
    #[arg(long = "program", value_name = "NAME", value_parser = PossibleValuesParser::new(PROGRAMS.map(|program| program.name)))]
    programs: Vec<String>,
    /// The registry that the names begin with
    #[arg(long, value_name = "NAME", default_value = REGISTRY, env = "SIMCTL_IMAGE_REGISTRY")]
    image_registry: String,
    /// The tag
    #[arg(long, value_name = "TAG", default_value = TAG, env = "SIMCTL_IMAGE_TAG")]
    image_tag: String,
}

#[derive(Debug, clap::Args)]
struct Build {
    /// Who builds [default: an engine that answers if there is a Dockerfile, else simctl itself]
    #[arg(long, value_name = "WHO")]
    builder: Option<Builder>,
    /// The Dockerfile, whose targets are called as the programs
    #[arg(long, value_name = "FILE", default_value = "manifests/images/Dockerfile")]
    dockerfile: PathBuf,
    /// Where the static programs lie, for an archive of simctl's own; several times for several processors [default:
    /// beside simctl]
    #[arg(long, value_name = "DIRECTORY")]
    from: Vec<PathBuf>,
    /// What the images run on: linux/amd64, linux/arm64 or both [default: what the engine or the programs run on]
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    platforms: Vec<Architecture>,
    /// The archive that simctl writes
    #[arg(long, value_name = "FILE", default_value = "images.tar")]
    archive: PathBuf,
    #[command(flatten)]
    names: Names,
}

#[derive(Debug, clap::Args)]
struct Load {
    /// An archive that `simctl images build` has written [default: images.tar if there is one, else those of docker or
    /// podman]
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// To this cluster of kind
    #[arg(long, value_name = "NAME", group = "where")]
    kind: Option<String>,
    /// To this cluster of k3d
    #[arg(long, value_name = "NAME", group = "where")]
    k3d: Option<String>,
    /// To the containerd of this machine (needs root)
    #[arg(long, group = "where")]
    containerd: bool,
    /// To a registry: tagged and pushed by docker or podman
    #[arg(long, value_name = "NAME", group = "where", id = "push", long = "registry")]
    push: Option<String>,
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Args {
    /// Does the step.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        match self.step {
            Step::Build(step) => step.run(printer).await,
            Step::Load(step) => step.run(printer).await,
        }?;
        Ok(ExitCode::Passed)
    }
}

impl Names {
    fn all(&self) -> Vec<Reference> {
        let is_named = |program: &str| self.programs.is_empty() || self.programs.iter().any(|wanted| wanted == program);
        let reference = |program: &str| Reference::new(&self.image_registry, program, &self.image_tag);
        PROGRAMS.iter().map(|program| program.name).filter(|name| is_named(name)).map(reference).collect()
    }
}

impl Build {
    async fn run(self, printer: Printer) -> anyhow::Result<()> {
        let builder = match self.builder {
            Some(builder) => builder,
            None if self.from.is_empty() && self.dockerfile.is_file() => {
                Builder::find(&Builder::BUILDING).await.unwrap_or(Builder::Own)
            }
            None => Builder::Own,
        };
        if builder == Builder::Own {
            return self.write(printer);
        }
        for reference in self.names.all() {
            let name = reference.to_string();
            let words = builder.words(&self.dockerfile, &reference.program, &name, &self.platforms);
            engine::run(builder.program(), &words, printer).await?;
            printer.data(name)?;
        }
        Ok(())
    }

    /// Writes the archive from static programs.
    fn write(&self, printer: Printer) -> anyhow::Result<()> {
        let beside = || Ok(vec![std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default()]);
        let directories = if self.from.is_empty() { beside() } else { anyhow::Ok(self.from.clone()) }?;
        let mut images = Vec::new();
        for reference in self.names.all() {
            let of_name = directories.iter().map(|directory| read(&reference, directory));
            images.extend(chosen(of_name.collect::<Result<Vec<_>, _>>()?, &self.platforms)?);
        }
        let name = self.archive.display();
        let written = images::save(&images, &self.archive).with_context(|| format!("failed to write {name}"))?;
        for image in written {
            printer.data(image.reference)?;
            let platforms: Vec<_> = image.architectures.iter().map(ToString::to_string).collect();
            printer.say(format_args!("  for {}, {} in {name}", platforms.join(" and "), image.digest));
        }
        printer.say(format_args!("`simctl images load --archive {name}` brings them to a cluster"));
        Ok(())
    }
}

/// The image of the program in a directory.
fn read(reference: &Reference, directory: &Path) -> anyhow::Result<Image> {
    Image::read(reference.clone(), &directory.join(&reference.program)).map_err(|error| match error {
        ImageError::Unreadable(path, error) => {
            let name = path.display();
            anyhow::Error::new(error).context(format!("failed to read {name}; --from says where the programs lie"))
        }
        ImageError::NotAlone { .. } => Failure::refused(error.to_string()).into(),
    })
}

/// The images of one program for the wanted platforms, or for those that there are; not two for the same.
fn chosen(found: Vec<Image>, wanted: &[Architecture]) -> Result<Vec<Image>, Failure> {
    let name = |image: &Image| image.reference().program.clone();
    for (number, image) in found.iter().enumerate() {
        if found[..number].iter().any(|other| other.architecture() == image.architecture()) {
            let (name, platform) = (name(image), image.architecture());
            return Err(Failure::refused(format!("expected {name} once for {platform}, found it in two directories")));
        }
    }
    for platform in wanted {
        if found.iter().all(|image| image.architecture() != *platform) {
            let there: Vec<_> = found.iter().map(|image| image.architecture().to_string()).collect();
            let (name, there) = (found.first().map(name).unwrap_or_default(), there.join(" and "));
            return Err(Failure::refused(format!(
                "expected {name} for {platform}, found it for {there}; say --from for the directory of each platform"
            )));
        }
    }
    let is_wanted = |image: &Image| wanted.is_empty() || wanted.contains(&image.architecture());
    Ok(found.into_iter().filter(is_wanted).collect())
}

impl Load {
    async fn run(self, printer: Printer) -> anyhow::Result<()> {
        let here = PathBuf::from("images.tar");
        let archive = self.archive.clone().or_else(|| here.is_file().then_some(here));
        if let Some(registry) = &self.push {
            return self.push(registry, archive.as_deref(), printer).await;
        }
        let loader = self.loader(printer).await?;
        let saved;
        let archive = if let Some(archive) = archive {
            archive
        } else {
            saved = self.save(printer).await?;
            saved.0.clone()
        };
        anyhow::ensure!(archive.is_file(), "there is no {}; `simctl images build` writes it", archive.display());
        engine::run(loader.program(), &loader.words(&archive), printer).await?;
        printer.say("the nodes have the images; `simctl install` can use them");
        Ok(())
    }

    async fn loader(&self, printer: Printer) -> anyhow::Result<Loader> {
        if let Some(name) = &self.kind {
            return Ok(Loader::Kind(name.clone()));
        }
        if let Some(name) = &self.k3d {
            return Ok(Loader::K3d(name.clone()));
        }
        if self.containerd {
            return Ok(Loader::Containerd);
        }
        let cluster = Cluster::find(&self.cluster, printer).await?;
        Loader::of_context(cluster.context()).ok_or_else(|| {
            let context = cluster.context();
            Failure::usage(format!(
                "expected a context of kind or k3d, found `{context}`; say --kind NAME, --k3d NAME, --containerd on each \
                 node, or --registry NAME to push the images"
            ))
            .into()
        })
    }

    /// The images of an engine as an archive, which lasts as long as the answer.
    async fn save(&self, printer: Printer) -> anyhow::Result<(PathBuf, Scratch)> {
        let engine = self.engine().await?;
        let scratch = Scratch::new()?;
        let archive = scratch.0.join("images.tar");
        let mut words = vec!["save".to_owned(), "--output".into(), archive.display().to_string()];
        if engine == Builder::Podman {
            words.push("--multi-image-archive".into());
        }
        words.extend(self.names.all().iter().map(ToString::to_string));
        engine::run(engine.program(), &words, printer).await?;
        Ok((archive, scratch))
    }

    /// Tags the images for a registry, and pushes them.
    async fn push(&self, registry: &str, archive: Option<&Path>, printer: Printer) -> anyhow::Result<()> {
        let engine = self.engine().await?;
        if let Some(archive) = archive {
            engine::run(engine.program(), &["load", "--input", &archive.display().to_string()], printer).await?;
        }
        for from in self.names.all() {
            let to = Reference::new(registry, &from.program, &from.tag).to_string();
            engine::run(engine.program(), &["tag", &from.to_string(), &to], printer).await?;
            engine::run(engine.program(), &["push", &to], printer).await?;
            printer.data(&to)?;
        }
        printer.say(format_args!(
            "`simctl install --image-registry {registry} --image-tag {}` uses them",
            self.names.image_tag
        ));
        Ok(())
    }

    async fn engine(&self) -> anyhow::Result<Builder> {
        Builder::find(&Builder::KEEPING).await.ok_or_else(|| {
            Failure::refused(
                "expected docker or podman, found none that answers; `simctl images build` writes images.tar without them, \
                 and `simctl images load --archive images.tar` loads it",
            )
            .into()
        })
    }
}

/// A directory that goes when nobody needs it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("simctl-images-{}", std::process::id()));
        fs::create_dir(&directory).with_context(|| format!("failed to make {}", directory.display()))?;
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of 64 bytes: a header that names the machine, and no segments.
    fn image(machine: u8) -> Image {
        let mut program = vec![0; 64];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        program[18] = machine;
        Image::new(Reference::new(REGISTRY, "broker", TAG), program).unwrap()
    }

    #[track_caller]
    fn check(machines: &[u8], wanted: &[Architecture], expected: Result<&[Architecture], &str>) {
        let found = machines.iter().map(|machine| image(*machine)).collect();
        let chosen = chosen(found, wanted).map_err(|failure| failure.to_string());
        let chosen = chosen.map(|images| images.iter().map(Image::architecture).collect::<Vec<_>>());
        assert_eq!(chosen, expected.map(<[_]>::to_vec).map_err(String::from));
    }

    #[test]
    fn the_programs_of_the_wanted_platforms_are_taken() {
        use Architecture::{Amd64, Arm64};
        check(&[62], &[], Ok(&[Amd64]));
        check(&[62, 183], &[], Ok(&[Amd64, Arm64]));
        check(&[62, 183], &[Arm64], Ok(&[Arm64]));
        check(
            &[62],
            &[Amd64, Arm64],
            Err("expected broker for linux/arm64, found it for linux/amd64; say --from for the directory of each \
                 platform"),
        );
        check(&[183, 183], &[], Err("expected broker once for linux/arm64, found it in two directories"));
    }
}
