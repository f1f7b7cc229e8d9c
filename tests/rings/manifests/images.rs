//! The Dockerfile, held to rules: no engine can fetch its base images here, so that it is read, not built.

use std::{collections::BTreeMap, fs};

use images::{PROGRAMS, Program};
use tests::project;

fn dockerfile() -> String {
    fs::read_to_string(project::root().join("manifests/images/Dockerfile")).unwrap()
}

/// The instructions, each on one line, by the stage that they are in; before the first stage by "".
fn stages(text: &str) -> BTreeMap<String, Vec<String>> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let joined = lines.replace("\\\n", " ");
    let (mut stages, mut stage) = (BTreeMap::new(), String::new());
    for line in joined.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")) {
        if let Some(from) = line.strip_prefix("FROM ") {
            from.rsplit_once(" AS ").unwrap_or_else(|| panic!("{line} has no name")).1.clone_into(&mut stage);
        }
        if !line.is_empty() {
            stages.entry(stage.clone()).or_insert_with(Vec::new).push(line);
        }
    }
    stages
}

fn one<'a>(stage: &'a [String], instruction: &str) -> &'a str {
    let found: Vec<&str> = stage.iter().filter_map(|line| line.strip_prefix(instruction)).collect();
    assert_eq!(found.len(), 1, "{instruction} in {stage:#?}");
    found[0].trim()
}

#[test]
fn every_program_is_an_image_of_nothing_else_and_runs_as_nobody() {
    let stages = stages(&dockerfile());
    for Program { name, description, ports, arguments } in PROGRAMS {
        let stage = &stages[name];
        assert_eq!(stage[0], format!("FROM scratch AS {name}"));
        assert_eq!(one(stage, "USER"), "65532:65532");
        assert_eq!(one(stage, "COPY"), format!("--from=build /out/{name} /{name}"));
        assert_eq!(one(stage, "ENTRYPOINT"), format!("[\"/{name}\"]"));
        for label in ["title", "description", "source", "licenses", "version", "revision"] {
            let label = format!("org.opencontainers.image.{label}=");
            assert!(one(stage, "LABEL").contains(&label), "{name} lacks {label}");
        }
        // What the images say that are made without an engine.
        assert!(one(stage, "LABEL").contains(&format!("description=\"{description}\"")), "{name}: {description}");
        let optional = |instruction: &str| stage.iter().find_map(|line| line.strip_prefix(instruction));
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        assert_eq!(optional("EXPOSE ").unwrap_or_default(), ports.join(" "));
        let command = serde_json::to_string(arguments).unwrap();
        assert_eq!(optional("CMD ").unwrap_or("[]"), command);
        let version = stage.iter().find(|line| line.starts_with("ARG VERSION=")).unwrap();
        assert_eq!(version, concat!("ARG VERSION=", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn the_build_is_reproducible_static_and_for_both_processors() {
    let text = dockerfile();
    let stages = stages(&text);
    let build = &stages["build"];
    assert!(build[0].starts_with("FROM --platform=$BUILDPLATFORM rust:"), "{}", build[0]);
    let toolchain = fs::read_to_string(project::root().join("rust-toolchain.toml")).unwrap();
    let release = one(&stages[""], "ARG RUST=");
    assert!(toolchain.contains(&format!("\"{release}\"")), "the image's {release} is not that of {toolchain}");
    for needed in ["--locked", "+crt-static", "amd64)", "arm64)", "--mount=type=cache"] {
        assert!(text.contains(needed), "{needed}");
    }
    for Program { name, .. } in PROGRAMS {
        assert!(build.iter().any(|line| line.contains(&format!("--bin {name}"))), "{name} is not built");
    }
}

#[test]
fn nothing_moves_under_a_fixed_name() {
    let text = dockerfile();
    assert!(!text.contains("latest") && !text.contains("ADD ") && !text.contains("sudo"));
    for (stage, lines) in stages(&text) {
        for from in lines.iter().filter_map(|line| line.strip_prefix("FROM ")) {
            let image = from.split(" AS ").next().unwrap().rsplit(' ').next().unwrap();
            assert!(image == "scratch" || image.contains(':'), "{stage}: {image} has no version");
        }
        for line in lines.iter().filter(|line| line.contains("apt-get install")) {
            assert!(line.contains("--no-install-recommends") && line.contains("rm -rf /var/lib/apt/lists"), "{line}");
        }
    }
}
