//! The fleet's document as simctl finds it: read, its models looked up, the files that they replay read, all checked.
//!
//! A model is looked for in the document, in `models/NAME.yaml` beside the document, there in the current directory,
//! and among the built-in ones. The result stands alone: whoever gets it needs no file beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use fleet_contract::{
    builtin,
    document::{self, Problem, Problems, pointer_step},
    fleet::{Fleet, check},
    model::{self, Model},
};

use crate::exit::Failure;

/// A document with all that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// The fleet; `spec.models` holds each model that a group names.
    pub(crate) fleet: Fleet,
    /// The texts of the files that models replay, by the name that the model uses.
    pub(crate) files: BTreeMap<String, String>,
    /// The models among them that were found in files beside the document.
    pub(crate) beside: BTreeSet<String>,
    /// Whether it leaves the number of devices to whoever runs it; `fleet` has 0 then.
    pub(crate) leaves_devices_open: bool,
    /// Where models and files are looked for beside the current directory.
    directory: Option<PathBuf>,
    reader: Reader,
}

/// Who will run the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// This machine, which has the files beside the document and nothing else.
    Machine,
    /// A cluster, which may find models and recordings where `modelsFrom` says.
    Cluster,
}

/// Reads a document from a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Document, Failure> {
    if path == Path::new("-") {
        let text = io::read_to_string(io::stdin())
            .map_err(|error| Failure::document(format!("failed to read standard input: {error}")))?;
        return from_text("stdin", &text, None);
    }
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::document(format!("failed to read {name}: {error}; `simctl example > {name}` writes one to start from"))
    })?;
    from_text(&name, &text, path.parent())
}

/// Reads a document from its text; models and files are looked for in `directory` too.
pub(crate) fn from_text(name: &str, text: &str, directory: Option<&Path>) -> Result<Document, Failure> {
    checked(name, text, directory, Reader::Machine)
}

/// The same for a cluster: a model that is not to be found here may be where `modelsFrom` says.
pub(crate) fn for_cluster(name: &str, text: &str, directory: Option<&Path>) -> Result<Document, Failure> {
    checked(name, text, directory, Reader::Cluster)
}

fn checked(name: &str, text: &str, directory: Option<&Path>, reader: Reader) -> Result<Document, Failure> {
    let (fleet, tree) =
        document::read::<Fleet>(name, text).map_err(|problems| Failure::document(problems.to_string()))?;
    let (files, beside, directory) = (BTreeMap::new(), BTreeSet::new(), directory.map(Path::to_owned));
    let leaves_devices_open = tree.value().pointer("/spec/devices").is_none();
    let mut document = Document { fleet, files, beside, leaves_devices_open, directory, reader };
    let Lookup { problems, mut texts } = document.look_up();
    if let Err(problems) = Problems::locate(name, &tree, problems) {
        texts.insert(0, problems.to_string());
    }
    if texts.is_empty() { Ok(document) } else { Err(Failure::document(texts.join("\n"))) }
}

/// What is wrong: in the document itself, and in files beside it as they say it.
#[derive(Debug, Default)]
struct Lookup {
    problems: Vec<Problem>,
    texts: Vec<String>,
}

impl Document {
    /// Checks the document again after flags have changed it; there is no file to point into.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        let Lookup { problems, mut texts } = self.look_up();
        texts.extend(problems.into_iter().map(|problem| problem.to_string()));
        if texts.is_empty() { Ok(()) } else { Err(Failure::document(texts.join("\n"))) }
    }

    /// Fills in models and files, and finds all that is wrong.
    fn look_up(&mut self) -> Lookup {
        let mut found = Lookup::default();
        let unresolved = self.look_up_models(&mut found);
        self.look_up_files(&mut found);
        // Of a model that could not be read, its own message says more than "unknown".
        found.problems.extend(check(&self.fleet).into_iter().filter(|problem| !unresolved.contains(&problem.path)));
        found
    }

    /// Fills in the models that groups name; the paths of those that could not be.
    fn look_up_models(&mut self, found: &mut Lookup) -> BTreeSet<String> {
        let mut unresolved = BTreeSet::new();
        let mut broken = BTreeSet::new();
        for position in 0..self.fleet.spec.groups.len() {
            let name = self.fleet.spec.groups[position].model.clone();
            if self.fleet.spec.models.contains_key(&name) {
                continue;
            }
            let pointer = format!("/spec/groups/{position}/model");
            match find_model(&name, &self.model_files(&name)) {
                Some((origin, Ok(model))) => {
                    if origin == Origin::File {
                        self.beside.insert(name.clone());
                    }
                    self.fleet.spec.models.insert(name, model);
                    continue;
                }
                Some((_, Err(text))) if broken.insert(name.clone()) => found.texts.push(text),
                Some((_, Err(_))) => {}
                None if self.may_be_elsewhere() => {}
                None => found.problems.push(Problem::new(&pointer, self.unknown_model(&name))),
            }
            unresolved.insert(pointer);
        }
        unresolved
    }

    /// Whether the cluster may know what is not to be found here.
    fn may_be_elsewhere(&self) -> bool {
        self.reader == Reader::Cluster && self.fleet.spec.models_from.is_some()
    }

    /// Where the file of a model may be.
    fn model_files(&self, name: &str) -> Vec<PathBuf> {
        let file = Path::new("models").join(format!("{name}.yaml"));
        let beside = self.directory.as_ref().map(|directory| directory.join(&file));
        let mut files: Vec<_> = beside.into_iter().chain([file]).collect();
        files.dedup();
        files
    }

    fn unknown_model(&self, name: &str) -> String {
        let searched: Vec<_> = self.model_files(name).iter().map(|file| file.display().to_string()).collect();
        let inline = self.fleet.spec.models.keys().map(String::as_str);
        let known: BTreeSet<_> = builtin::ALL.iter().map(|model| model.name).chain(inline).collect();
        let known: Vec<_> = known.into_iter().collect();
        format!(
            "expected the name of a model, found `{name}`; there are {}, and there is no {}",
            known.join(", "),
            searched.join(" or ")
        )
    }

    /// Reads the files that the models replay.
    fn look_up_files(&mut self, found: &mut Lookup) {
        for (name, model) in &self.fleet.spec.models {
            for file in model.files().filter(|file| !self.files.contains_key(*file)).collect::<BTreeSet<_>>() {
                match self.read_file(file) {
                    Ok(text) => drop(self.files.insert(file.to_owned(), text)),
                    Err(_) if self.may_be_elsewhere() => {}
                    Err(error) => {
                        let pointer = format!("/spec/models/{}", pointer_step(name));
                        found.problems.push(Problem::new(pointer, format!("failed to read {file}: {error}")));
                    }
                }
            }
        }
    }

    /// A file beside the document, beside its models or in the current directory.
    fn read_file(&self, file: &str) -> io::Result<String> {
        let beside =
            self.directory.iter().flat_map(|directory| [directory.join(file), directory.join("models").join(file)]);
        let mut candidates = beside.chain([PathBuf::from(file), Path::new("models").join(file)]);
        let found = candidates.find(|candidate| candidate.is_file());
        fs::read_to_string(found.unwrap_or_else(|| PathBuf::from(file)))
    }
}

/// Where a model was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    File,
    BuiltIn,
}

/// A model from the first of the files that exists, or a built-in one; `Err` says what is wrong with the file.
fn find_model(name: &str, files: &[PathBuf]) -> Option<(Origin, Result<Model, String>)> {
    if let Some(file) = files.iter().find(|file| file.is_file()) {
        return Some((Origin::File, read_model(file)));
    }
    builtin::find(name).map(|model| (Origin::BuiltIn, parse_model(name, model.document)))
}

/// Reads a model from a file of its own.
pub(crate) fn read_model(file: &Path) -> Result<Model, String> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| format!("failed to read {name}: {error}"))?;
    parse_model(&name, &text)
}

fn parse_model(name: &str, text: &str) -> Result<Model, String> {
    let (model, tree) = document::read::<Model>(name, text).map_err(|problems| problems.to_string())?;
    Problems::locate(name, &tree, model::check(&model)).map_err(|problems| problems.to_string())?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::directory;

    const THERMOMETER: &str = "\
signals: {celsius: {kind: uniform, range: [0, 30]}}
streams: {state: {topic: '{fleet}/{index}/{stream}', interval: 10s, payload: {json: {celsius: '{celsius}'}}}}
";

    fn fleet(models: &[&str]) -> String {
        let groups: Vec<_> = models
            .iter()
            .map(|model| format!("{{name: {model}, share: {}%, model: {model}}}", 100 / models.len()))
            .collect();
        format!(
            "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: demo}}\nspec: {{devices: 1, groups: [{}]}}\n",
            groups.join(", ")
        )
    }

    #[test]
    fn models_are_found_beside_the_document_and_among_the_built_in_ones() {
        let directory = directory(&[("models/mine.yaml", THERMOMETER)]);
        let document = from_text("f", &fleet(&["mine", "thermometer"]), Some(directory.path())).unwrap();
        assert_eq!(document.fleet.spec.models.keys().collect::<Vec<_>>(), ["mine", "thermometer"]);
    }

    #[test]
    fn a_model_beside_the_document_comes_before_the_built_in_one() {
        let directory = directory(&[("models/thermometer.yaml", THERMOMETER)]);
        let document = from_text("f", &fleet(&["thermometer"]), Some(directory.path())).unwrap();
        assert!(document.fleet.spec.models["thermometer"].signals.contains_key("celsius"));
    }

    #[test]
    fn problems_of_document_and_models_come_together() {
        let directory = directory(&[("models/mine.yaml", &THERMOMETER.replace("interval", "intervall"))]);
        let error = from_text("f", &fleet(&["mine", "other"]), Some(directory.path())).unwrap_err().to_string();
        assert!(error.contains("mine.yaml:2:"), "{error}");
        assert!(error.contains("spec.groups[1].model: expected the name of a model, found `other`"), "{error}");
    }
}
