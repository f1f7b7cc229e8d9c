//! The objects of documents as `kubectl -f` takes them: files, directories and standard input, several in one text.
//!
//! A text holds documents apart by `---`, with comments and empty ones between them, and Lists of objects. Each object
//! keeps the lines that it has in the whole text. Words of YAML 1.1 mean in objects of other kinds what they mean to
//! kubectl; in a Fleet they are mistakes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fleet_contract::document::Tree;
use load_controller::resource::names::GROUP;
use serde_json::Value;

use crate::{cluster::objects, text};

/// What messages call standard input.
pub(crate) const STDIN: &str = "stdin";

/// An object that somebody has written down.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// The file's name.
    pub(crate) file: String,
    /// Where the file is: models and recordings may lie beside it.
    pub(crate) directory: Option<PathBuf>,
    /// What it says, and where.
    pub(crate) tree: Tree,
}

impl Object {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    /// Its namespace, if it names one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.text("/metadata/namespace")
    }

    /// Whether it is a Fleet of ours. What says nothing of its kind was meant to be one.
    pub(crate) fn is_fleet(&self) -> bool {
        let group = self.text("/apiVersion").and_then(|version| version.split_once('/')).map(|(group, _)| group);
        match self.text("/kind") {
            None => !self.is_model(),
            Some("Fleet") => group.is_none_or(|group| group == GROUP),
            Some(_) => false,
        }
    }

    /// Whether it is a load test of ours.
    pub(crate) fn is_load_test(&self) -> bool {
        let group = self.text("/apiVersion").and_then(|version| version.split_once('/')).map(|(group, _)| group);
        self.text("/kind") == Some("LoadTest") && group.is_none_or(|group| group == GROUP)
    }

    /// Whether it is a model, which has no kind: its fields are nothing that a Fleet has at its top.
    pub(crate) fn is_model(&self) -> bool {
        let value = self.tree.value();
        value.get("kind").is_none() && value.get("spec").is_none() && value.get("streams").is_some()
    }

    /// `secret/a` or `fleet.simctl.io/a`, as kubectl names objects.
    pub(crate) fn title(&self) -> String {
        if self.is_model() {
            return "a model".into();
        }
        let version = self.text("/apiVersion").unwrap_or_default();
        let group = version.split_once('/').map(|(group, _)| group).unwrap_or_default();
        objects::title(self.text("/kind").unwrap_or("Fleet"), group, self.name())
    }

    /// `fleet.yaml:12`: the line at which it begins.
    pub(crate) fn place(&self) -> String {
        match self.tree.position("") {
            Some(position) => format!("{}:{}", self.file, position.line),
            None => self.file.clone(),
        }
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.tree.value().pointer(pointer).and_then(Value::as_str)
    }

    /// What of an object of another kind is missing that every object has.
    fn missing(&self) -> Option<String> {
        let fields = [("/apiVersion", "apiVersion"), ("/kind", "kind"), ("/metadata/name", "metadata.name")];
        let (_, field) = fields.into_iter().find(|(pointer, _)| self.text(pointer).is_none_or(str::is_empty))?;
        Some(format!("{}: expected the field `{field}`, found none", self.place()))
    }
}

/// The objects of some files.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// In the order of the files.
    pub(crate) objects: Vec<Object>,
    /// What cannot be read, or is no object.
    pub(crate) wrong: Vec<String>,
}

/// Reads files, the YAML and JSON files of directories, and standard input for `-`.
pub(crate) fn read(paths: &[PathBuf]) -> Sources {
    let mut sources = Sources::default();
    for path in paths {
        match texts(path) {
            Ok(texts) => {
                for (file, text) in texts {
                    let directory = (file != STDIN).then(|| Path::new(&file).parent()).flatten();
                    sources.add(&file, &text, directory);
                }
            }
            Err(message) => sources.wrong.push(message),
        }
    }
    sources
}

impl Sources {
    /// The objects of one text.
    pub(crate) fn of_text(file: &str, text: &str, directory: Option<&Path>) -> Self {
        let mut sources = Self::default();
        sources.add(file, text, directory);
        sources
    }

    /// The Fleets among the objects.
    pub(crate) fn fleets(&self) -> Vec<&Object> {
        self.objects.iter().filter(|object| object.is_fleet()).collect()
    }

    /// The load tests among the objects.
    pub(crate) fn load_tests(&self) -> Vec<&Object> {
        self.objects.iter().filter(|object| object.is_load_test()).collect()
    }

    /// The ConfigMap that `modelsFrom` of a fleet names, if it is among the objects.
    pub(crate) fn library(&self, fleet: &Object) -> Option<&Object> {
        let name = fleet.text("/spec/modelsFrom/configMap")?;
        let agrees = |other: Option<&str>| match (other, fleet.namespace()) {
            (Some(other), Some(own)) => other == own,
            // The other one is in the namespace of the context.
            _ => true,
        };
        self.objects.iter().find(|object| {
            object.text("/kind") == Some("ConfigMap")
                && object.text("/apiVersion") == Some("v1")
                && object.name() == name
                && agrees(object.namespace())
        })
    }

    fn add(&mut self, file: &str, text: &str, directory: Option<&Path>) {
        for document in split(text) {
            let tree = match Tree::parse(file, &document) {
                Ok(tree) => tree,
                Err(problems) => {
                    self.wrong.push(problems.to_string());
                    continue;
                }
            };
            for tree in items(tree) {
                let object = Object { file: file.into(), directory: directory.map(Path::to_owned), tree };
                match object.missing() {
                    Some(message) if !object.is_fleet() && !object.is_model() && !object.is_load_test() => {
                        self.wrong.push(message);
                    }
                    _ => self.objects.push(object),
                }
            }
        }
    }
}

/// A document, or what is in it if it is a List; nothing of an empty one.
fn items(tree: Tree) -> Vec<Tree> {
    let value = tree.value();
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match value["items"].as_array().map(Vec::len).filter(|_| is_list) {
        Some(items) => (0..items).filter_map(|index| tree.part(&format!("/items/{index}"))).collect(),
        None if value.is_null() => Vec::new(),
        None => vec![tree],
    }
}

/// The texts of a path: its own, those of the YAML and JSON files of a directory, or standard input.
fn texts(path: &Path) -> Result<Vec<(String, String)>, String> {
    if path == Path::new("-") {
        return Ok(vec![(STDIN.into(), text::read_stdin(STDIN)?)]);
    }
    let files = if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|file| is_document(file)).collect();
        files.sort();
        files
    } else {
        vec![path.to_owned()]
    };
    let read = |file: &PathBuf| match text::read(file) {
        Ok(text) => Ok((file.display().to_string(), text)),
        Err(message) if file.exists() => Err(message),
        Err(message) => Err(format!("{message}; `simctl example > {}` writes one to start from", file.display())),
    };
    files.iter().map(read).collect()
}

fn is_document(file: &Path) -> bool {
    file.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        && file.is_file()
}

/// The documents of a text, each behind as many empty lines as stand before it, so that its lines keep their numbers.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        let mark = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(rest) = mark {
            // Behind the mark there may be a comment, or the document itself.
            documents.push(format!("{}   {rest}\n", "\n".repeat(number)));
        } else {
            let last = documents.last_mut().expect("there is one from the start");
            last.push_str(line);
            last.push('\n');
        }
    }
    let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#') && line != "...";
    documents.retain(|document| document.lines().any(|line| is_content(line) && !line.starts_with('%')));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        Sources::of_text("f.yaml", text, None)
    }

    fn titles(text: &str) -> Vec<String> {
        sources(text).objects.iter().map(|object| format!("{} {}", object.place(), object.title())).collect()
    }

    #[test]
    fn several_documents_of_a_text_keep_their_lines() {
        let text = "# a fleet\n---\na: 1\n---\n# nothing\n--- # next\nb: 2\n--- {c: 3}\n...\n---\n";
        let documents = split(text);
        assert_eq!(documents.len(), 3, "{documents:?}");
        let lines = |document: &str| document.lines().position(|line| !line.trim().is_empty()).map(|line| line + 1);
        assert_eq!(lines(&documents[0]), Some(3));
        assert!(documents[1].ends_with("\nb: 2\n") && documents[1].lines().count() == 7, "{documents:?}");
        assert_eq!((lines(&documents[2]), documents[2].trim()), (Some(8), "{c: 3}\n..."));
    }

    #[test]
    fn a_mark_within_a_text_separates_nothing() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: |\n    ---\n    b\n";
        assert_eq!(titles(text), ["f.yaml:1 configmap/a"]);
    }

    #[test]
    fn objects_are_found_in_documents_and_lists() {
        let text = "\
kind: Fleet
metadata: {name: a}
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Secret, metadata: {name: b}}
  - {apiVersion: simctl.io/v1alpha1, kind: Fleet, metadata: {name: c}}
--- {apiVersion: agones.dev/v1, kind: Fleet, metadata: {name: d}}
";
        let expected =
            ["f.yaml:1 fleet/a", "f.yaml:7 secret/b", "f.yaml:8 fleet.simctl.io/c", "f.yaml:9 fleet.agones.dev/d"];
        assert_eq!(titles(text), expected);
        let sources = sources(text);
        let fleets: Vec<_> = sources.fleets().iter().map(|fleet| fleet.name().to_owned()).collect();
        assert_eq!(fleets, ["a", "c"]);
    }

    #[test]
    fn what_is_no_object_is_told_with_its_line() {
        let sources = sources("---\napiVersion: v1\nkind: Secret\n---\na: [\n---\nkind: Fleet\n");
        assert_eq!(sources.wrong[0], "f.yaml:2: expected the field `metadata.name`, found none");
        assert!(sources.wrong[1].starts_with("f.yaml:5:"), "{:?}", sources.wrong);
        assert_eq!((sources.wrong.len(), sources.objects.len()), (2, 1));
    }

    #[test]
    fn words_of_yaml_1_1_mean_in_other_kinds_what_they_mean_to_kubectl() {
        let sources = sources("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nimmutable: yes\ncount: 012\n");
        let value = sources.objects[0].tree.value();
        assert_eq!((&value["immutable"], &value["count"]), (&true.into(), &10.into()));
    }

    #[test]
    fn the_library_of_a_fleet_is_in_its_namespace() {
        let of = |fleet: &str, library: &str| {
            let text = format!(
                "kind: Fleet\nmetadata: {{name: a{fleet}}}\nspec: {{modelsFrom: {{configMap: m}}}}\n---\n\
                 apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{library}}}\n"
            );
            let sources = sources(&text);
            sources.library(sources.fleets()[0]).is_some()
        };
        assert!(of("", "") && of(", namespace: lab", "") && of(", namespace: lab", ", namespace: lab"));
        assert!(!of(", namespace: lab", ", namespace: sea") && !of("", "0"));
    }
}
