//! The fleet's document as simctl finds it: read, its models looked up, the files that they replay read, all checked.
//!
//! A model is looked for in the document, in the ConfigMap that `modelsFrom` names if that stands in the same file, in
//! `models/NAME.yaml` beside the document, there in the current directory, and among the built-in ones. The result
//! stands alone: whoever gets it needs no file beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use device_sim::signal::Signals;
use fleet_contract::{
    builtin,
    document::{self, Problem, Problems, Tree, pointer_step},
    fleet::{Fleet, check},
    load_test::LoadTest,
    model::{self, Model},
    unknown,
};
use serde_json::Value;

use crate::{
    exit::Failure,
    load_test,
    sources::{self, Object, Sources},
    text, which,
};

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
    /// The ConfigMap that `modelsFrom` names, if it stands in the same file.
    library: Option<Library>,
    reader: Reader,
}

/// Models and recordings by their keys.
#[derive(Debug, Clone, PartialEq)]
struct Library {
    /// Its file and name, for messages.
    title: String,
    data: BTreeMap<String, String>,
}

/// Who will run the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// This machine, which has the files beside the document and nothing else.
    Machine,
    /// A cluster, which may find models and recordings where `modelsFrom` says.
    Cluster,
}

/// Reads the Fleet of a file; `-` is standard input. Where there are several, `wanted` is the name of the one.
pub(crate) fn read(path: &Path, wanted: Option<&str>) -> Result<Document, Failure> {
    let (sources, file) = objects(path)?;
    understand(&sources, which::fleet(&sources, &file, wanted)?, Reader::Machine)
}

/// The objects of a file, and what messages call it.
fn objects(path: &Path) -> Result<(Sources, String), Failure> {
    let file = if path == Path::new("-") { sources::STDIN.into() } else { path.display().to_string() };
    Ok((readable(sources::read(&[path.to_owned()]))?, file))
}

/// The same, if all of them can be read.
fn readable(sources: Sources) -> Result<Sources, Failure> {
    if sources.wrong.is_empty() { Ok(sources) } else { Err(Failure::document(sources.wrong.join("\n"))) }
}

/// Reads the load test of a file, if it holds one, and the Fleet that it is of; else the Fleet. `load_test` and `fleet` are the
/// names of those that are meant; `are_commands_allowed` if a load test may run commands.
pub(crate) fn read_to_run(
    path: &Path,
    load_test: Option<&str>,
    fleet: Option<&str>,
    are_commands_allowed: bool,
) -> Result<(Document, Option<LoadTest>), Failure> {
    let (sources, file) = objects(path)?;
    // Who names a fleet means it alone.
    let object = if fleet.is_some() { None } else { which::load_test(&sources, &file, load_test)? };
    let Some(object) = object else {
        return Ok((understand(&sources, which::fleet(&sources, &file, fleet)?, Reader::Machine)?, None));
    };
    let test = load_test::read(object)?;
    let document = understand(&sources, load_test::fleet(&sources, object, &test)?, Reader::Machine)?;
    load_test::settle(object, &test, Some(&document))?;
    load_test::untouched(object, &test)?;
    load_test::acts(object, &test, are_commands_allowed)?;
    Ok((document, Some(test)))
}

/// Reads the only Fleet of a text; models and files are looked for in `directory` too.
pub(crate) fn from_text(name: &str, text: &str, directory: Option<&Path>) -> Result<Document, Failure> {
    let sources = readable(Sources::of_text(name, text, directory))?;
    understand(&sources, which::fleet(&sources, name, None)?, Reader::Machine)
}

/// The Fleet that an object says, with all that belongs to it.
pub(crate) fn understand(sources: &Sources, object: &Object, reader: Reader) -> Result<Document, Failure> {
    let Object { file, directory, tree } = object;
    let fleet: Fleet = document::understand(file, tree).map_err(|problems| Failure::document(problems.to_string()))?;
    let mut document = Document {
        fleet,
        files: BTreeMap::new(),
        beside: BTreeSet::new(),
        leaves_devices_open: tree.value().pointer("/spec/devices").is_none(),
        directory: directory.clone(),
        library: sources.library(object).map(Library::of),
        reader,
    };
    let Lookup { problems, mut texts, trees: _ } = document.look_up();
    if let Err(problems) = Problems::locate(file, tree, problems) {
        texts.insert(0, problems.to_string());
    }
    if texts.is_empty() { Ok(document) } else { Err(Failure::document(texts.join("\n"))) }
}

impl Library {
    fn of(object: &Object) -> Self {
        let entries = object.tree.value().get("data").and_then(|data| data.as_object()).into_iter().flatten();
        let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        Self { title: format!("{} {}", object.place(), object.title()), data: entries.filter_map(text).collect() }
    }
}

/// What is wrong: in the document itself, and in files beside it as they say it.
#[derive(Debug, Default)]
struct Lookup {
    problems: Vec<Problem>,
    texts: Vec<String>,
    /// The models that were found elsewhere than in the document: what their text is called, and where its fields stand.
    trees: BTreeMap<String, (String, Tree)>,
}

impl Document {
    /// Checks the document again after flags have changed it; there is no file to point into.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        let Lookup { problems, mut texts, trees: _ } = self.look_up();
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
        if found.problems.is_empty() && found.texts.is_empty() {
            self.check_signals(&mut found);
        }
        found
    }

    /// Finds what is wrong with the recordings that signals replay, which only their compilation knows.
    fn check_signals(&self, found: &mut Lookup) {
        for (name, model) in &self.fleet.spec.models {
            if model.files().any(|file| !self.files.contains_key(file)) {
                continue;
            }
            let Err(problems) = Signals::compile(model, self.fleet.spec.seed, &self.files) else { continue };
            if let Some((file, tree)) = found.trees.get(name) {
                let texts = Problems::locate(file, tree, problems).err().map(|problems| problems.to_string());
                found.texts.extend(texts);
            } else {
                let model = format!("/spec/models/{}", pointer_step(name));
                let below = |problem: Problem| Problem { path: format!("{model}{}", problem.path), ..problem };
                found.problems.extend(problems.into_iter().map(below));
            }
        }
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
            match self.find_model(&name) {
                Some((origin, Ok(Read { title, model, tree }))) => {
                    if origin == Origin::File {
                        self.beside.insert(name.clone());
                    }
                    found.trees.insert(name.clone(), (title, tree));
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
        self.reader == Reader::Cluster && self.fleet.spec.models_from.is_some() && self.library.is_none()
    }

    /// The model of a name, as the cluster would find it; `Err` says what is wrong with its text.
    fn find_model(&self, name: &str) -> Option<(Origin, Result<Read, String>)> {
        let key = format!("{name}.yaml");
        if let Some(library) = &self.library
            && let Some(text) = library.data.get(&key)
        {
            return Some((Origin::Library, parse_model(&format!("{}, {key}", library.title), text)));
        }
        if let Some(file) = self.model_files(name).iter().find(|file| file.is_file()) {
            return Some((Origin::File, read_model(file)));
        }
        builtin::find(name).map(|model| (Origin::BuiltIn, parse_model(name, model.document)))
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
        let files = self.model_files(name);
        let files = files.iter().map(|file| format!("no {}", file.display()));
        let library = match (&self.library, &self.fleet.spec.models_from) {
            (Some(library), _) => Some(format!("no {name}.yaml in {}", library.title)),
            (None, Some(from)) => Some(format!("no ConfigMap {} in this file", from.config_map)),
            (None, None) => None,
        };
        let searched: Vec<_> = library.into_iter().chain(files).collect();
        let inline = self.fleet.spec.models.keys().map(String::as_str);
        let known: BTreeSet<_> = builtin::ALL.iter().map(|model| model.name).chain(inline).collect();
        let known: Vec<_> = known.into_iter().collect();
        let meant = unknown::meant(name, known.iter().copied());
        let meant = meant.map(|meant| format!(" (did you mean `{meant}`?)")).unwrap_or_default();
        format!(
            "expected the name of a model, found `{name}`{meant}; there are {}, and there is {}",
            known.join(", "),
            searched.join(" and ")
        )
    }

    /// Reads the files that the models replay.
    fn look_up_files(&mut self, found: &mut Lookup) {
        for (name, model) in &self.fleet.spec.models {
            for file in model.files().filter(|file| !self.files.contains_key(*file)).collect::<BTreeSet<_>>() {
                match self.read_file(file) {
                    Ok(text) => drop(self.files.insert(file.to_owned(), text)),
                    Err(_) if self.may_be_elsewhere() => {}
                    Err(message) => {
                        let pointer = format!("/spec/models/{}", pointer_step(name));
                        found.problems.push(Problem::new(pointer, message));
                    }
                }
            }
        }
    }

    /// A file of the library, beside the document, beside its models or in the current directory.
    fn read_file(&self, file: &str) -> Result<String, String> {
        if let Some(text) = self.library.as_ref().and_then(|library| library.data.get(file)) {
            return Ok(text.clone());
        }
        read_beside(file, self.directory.as_deref())
    }
}

/// The file of a recording beside the document, beside its models or in the current directory.
fn read_beside(file: &str, directory: Option<&Path>) -> Result<String, String> {
    let beside =
        directory.into_iter().flat_map(|directory| [directory.join(file), directory.join("models").join(file)]);
    let mut candidates = beside.chain([PathBuf::from(file), Path::new("models").join(file)]);
    let found = candidates.find(|candidate| candidate.is_file());
    text::read(&found.unwrap_or_else(|| PathBuf::from(file)))
}

/// All that is wrong with a model that stands in a file of its own, the recordings that it replays included.
pub(crate) fn check_model(object: &Object) -> Result<Model, Failure> {
    let Object { file, directory, tree } = object;
    let wrong = |problems: Problems| Failure::document(problems.to_string());
    let model: Model = document::understand(file, tree).map_err(wrong)?;
    let mut problems = model::check(&model);
    let mut files = BTreeMap::new();
    for name in model.files().collect::<BTreeSet<_>>() {
        match read_beside(name, directory.as_deref()) {
            Ok(text) => drop(files.insert(name.to_owned(), text)),
            Err(message) => problems.push(Problem::new("/signals", message)),
        }
    }
    if problems.is_empty() {
        problems.extend(Signals::compile(&model, 0, &files).err().into_iter().flatten());
    }
    Problems::locate(file, tree, problems).map_err(wrong)?;
    Ok(model)
}

/// A model that was read from a text of its own.
struct Read {
    /// What messages call the text.
    title: String,
    model: Model,
    tree: Tree,
}

/// Where a model was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Library,
    File,
    BuiltIn,
}

/// Reads a model from a file of its own.
fn read_model(file: &Path) -> Result<Read, String> {
    parse_model(&file.display().to_string(), &text::read(file)?)
}

fn parse_model(name: &str, text: &str) -> Result<Read, String> {
    let (model, tree) = document::read::<Model>(name, text).map_err(|problems| problems.to_string())?;
    Problems::locate(name, &tree, model::check(&model)).map_err(|problems| problems.to_string())?;
    Ok(Read { title: name.into(), model, tree })
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

    /// A model that replays this recording.
    fn tank(text: &str) -> String {
        format!(
            "signals:\n  level: {{kind: replay, text: \"{text}\", format: csv, column: v, time: t}}\n\
             streams: {{state: {{topic: 't/{{fleet}}/{{index}}', interval: 1s, payload: {{json: {{level: '{{level}}'}}}}}}}}\n"
        )
    }

    #[test]
    fn a_recording_that_cannot_be_replayed_is_told_with_its_place() {
        let failure = |text: &str| {
            let directory = directory(&[("models/tank.yaml", &tank(text))]);
            let beside = from_text("f", &fleet(&["tank"]), Some(directory.path())).unwrap_err().to_string();
            let model = format!("  models:\n    tank:\n      {}", tank(text).trim_end().replace('\n', "\n      "));
            let inline = fleet(&["tank"]).replace("spec: {devices: 1, groups: ", "spec:\n  devices: 1\n  groups: ");
            let inline = inline.trim_end().strip_suffix('}').unwrap().to_owned() + "\n" + &model;
            let inline = from_text("f", &inline, None).unwrap_err().to_string();
            (beside, inline)
        };
        let (beside, inline) = failure("t,v\\n10,1\\n10,2\\n");
        assert!(beside.ends_with("tank.yaml:2:3: signals.level: record 2: times must ascend"), "{beside}");
        assert_eq!(inline, "f:10:9: spec.models.tank.signals.level: record 2: times must ascend");
        for (text, expected) in [
            ("a,b\\n10,1\\n", "no column `v`"),
            ("t,v\\n", "there are no records"),
            ("t,v,v\\n10,1,2\\n", "the column `v` is there twice"),
            ("t,v\\n1769872318259,1\\n1769872319259,2\\n", "these look like milliseconds: set `timeUnit`"),
        ] {
            assert!(failure(text).1.contains(expected), "{}", failure(text).1);
        }
    }

    #[test]
    fn models_are_found_beside_the_document_and_among_the_built_in_ones() {
        let directory = directory(&[("models/mine.yaml", THERMOMETER)]);
        let document = from_text("f", &fleet(&["mine", "thermometer"]), Some(directory.path())).unwrap();
        assert_eq!(document.fleet.spec.models.keys().collect::<Vec<_>>(), ["mine", "thermometer"]);
    }

    /// A Fleet whose `modelsFrom` names a ConfigMap in the same text, with this data.
    fn with_library(model: &str, data: &str) -> String {
        let fleet = fleet(&[model]).replace("devices: 1", "devices: 1, modelsFrom: {configMap: library}");
        format!("{fleet}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: library}}\ndata:\n{data}")
    }

    #[test]
    fn a_config_map_of_the_same_file_is_the_library() {
        let tank = "  tank.yaml: |\n    signals: {level: {kind: replay, file: tank.csv, format: csv, column: level}}\n    \
                    streams: {state: {topic: 't/{fleet}/{index}', interval: 1s, payload: {json: {level: '{level}'}}}}\n";
        let recording = "  tank.csv: |\n    level\n    7\n";
        let document = from_text("f", &with_library("tank", &format!("{tank}{recording}")), None).unwrap();
        assert_eq!(document.files["tank.csv"], "level\n7\n");
        assert!(document.beside.is_empty(), "what is in the file needs no copy");

        let failure = |text: &str| from_text("f", text, None).unwrap_err().to_string();
        let missing = failure(&with_library("tank", tank));
        assert!(missing.contains("failed to read tank.csv"), "{missing}");
        let wrong = failure(&with_library("tank", &tank.replace("interval", "intervall")));
        assert!(wrong.contains("f:6 configmap/library, tank.yaml:2:"), "{wrong}");
        let unknown = failure(&with_library("lake", tank));
        assert!(
            unknown.contains("there is no lake.yaml in f:6 configmap/library and no models/lake.yaml"),
            "{unknown}"
        );
    }

    #[test]
    fn the_library_comes_before_a_file_and_the_built_in_models() {
        let directory = directory(&[("models/thermometer.yaml", THERMOMETER)]);
        let data =
            format!("  thermometer.yaml: |\n    {}", THERMOMETER.replace("celsius", "kelvin").replace('\n', "\n    "));
        let document = from_text("f", &with_library("thermometer", &data), Some(directory.path())).unwrap();
        assert!(document.fleet.spec.models["thermometer"].signals.contains_key("kelvin"));
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
