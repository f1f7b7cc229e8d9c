//! Documents as `kubectl apply -f` takes them: files, directories and standard input, several in one text.
//!
//! Fleets are checked here, with file, line and field, before anything is sent; objects of other kinds go as they are.
//! What a fleet needs of the files beside its document travels with it: models inside the document, recordings in a
//! ConfigMap.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    document::{self, Document},
    exit::Failure,
};

/// The most bytes that a ConfigMap may hold (Kubernetes, "ConfigMap: size limit").
const CONFIG_MAP_BYTES_MAX: usize = 1 << 20;

/// An object that somebody has written down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// Where it stands: the file's name.
    pub(crate) file: String,
    /// The object.
    pub(crate) object: Value,
    /// What it is, if it is a Fleet: checked, with all its models.
    pub(crate) fleet: Option<Document>,
}

impl Manifest {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its namespace, if it names one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.object.pointer("/metadata/namespace").and_then(Value::as_str)
    }

    /// The ConfigMap with the recordings that the fleet's models replay, if they lie beside the document.
    pub(crate) fn recordings(&self) -> Result<Option<Value>, Failure> {
        let Some(document) = self.fleet.as_ref().filter(|document| is_carrying(document)) else { return Ok(None) };
        let bytes: usize = document.files.iter().map(|(name, text)| name.len() + text.len()).sum();
        if bytes > CONFIG_MAP_BYTES_MAX {
            return Err(Failure::document(format!(
                "{}: expected at most {CONFIG_MAP_BYTES_MAX} bytes of recordings, which is what a ConfigMap holds, found {bytes}",
                self.file
            )));
        }
        Ok(Some(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": recordings_name(self.name()),
                "namespace": self.namespace(),
                "labels": { "app.kubernetes.io/part-of": "simctl" },
            },
            "data": document.files,
        })))
    }
}

/// Whether recordings must travel with the document, since nothing says where the cluster has them.
fn is_carrying(document: &Document) -> bool {
    !document.files.is_empty() && document.fleet.spec.models_from.is_none()
}

fn recordings_name(fleet: &str) -> String {
    format!("{fleet}-recordings")
}

/// All objects of the files; all that is wrong with them comes at once.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let (mut manifests, mut wrong) = (Vec::new(), Vec::new());
    for path in paths {
        for (file, text) in texts(path)? {
            let directory = (path.as_path() != Path::new("-")).then(|| Path::new(&file).parent()).flatten();
            for document in split(&text) {
                match parse(&file, &document, directory) {
                    Ok(found) => manifests.extend(found),
                    Err(failure) => wrong.push(failure.to_string()),
                }
            }
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::document(format!("the document is not right\n{}", wrong.join("\n"))));
    }
    if manifests.is_empty() {
        let files: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::document(format!("expected documents in {}, found none", files.join(", "))));
    }
    Ok(manifests)
}

/// The texts of a path: its own, those of the YAML and JSON files of a directory, or standard input.
fn texts(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let failed = |file: &Path, error: io::Error| {
        let hint =
            if error.kind() == io::ErrorKind::NotFound { "; `simctl example` writes one to start from" } else { "" };
        Failure::document(format!("failed to read {}: {error}{hint}", file.display()))
    };
    if path == Path::new("-") {
        let text = io::read_to_string(io::stdin()).map_err(|error| failed(Path::new("standard input"), error))?;
        return Ok(vec![("stdin".into(), text)]);
    }
    let files = if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| failed(path, error))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|file| is_document(file)).collect();
        files.sort();
        files
    } else {
        vec![path.to_owned()]
    };
    let read = |file: &PathBuf| match fs::read_to_string(file) {
        Ok(text) => Ok((file.display().to_string(), text)),
        Err(error) => Err(failed(file, error)),
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
        if line == "---" || line.starts_with("--- ") {
            documents.push("\n".repeat(number + 1));
        } else {
            let last = documents.last_mut().expect("there is one from the start");
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|document| document.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')));
    documents
}

/// The objects of one document: itself, or the items of a List.
fn parse(file: &str, text: &str, directory: Option<&Path>) -> Result<Vec<Manifest>, Failure> {
    let options = serde_saphyr::options! { strict_booleans: true };
    // What is no YAML, or no object, is told with its place by the reader of fleets.
    let object: Value = serde_saphyr::from_str_with_options(text, options).unwrap_or(Value::Null);
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or("Fleet");
    match kind {
        "List" => Ok(items(file, &object)),
        "Fleet" => {
            let document = document::for_cluster(file, text, directory)?;
            let object = with_models(object, &document);
            Ok(vec![Manifest { file: file.into(), object, fleet: Some(document) }])
        }
        _ => check_object(file, &object).map(|()| vec![Manifest { file: file.into(), object, fleet: None }]),
    }
}

fn items(file: &str, list: &Value) -> Vec<Manifest> {
    let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    items.into_iter().map(|object| Manifest { file: file.into(), object, fleet: None }).collect()
}

fn check_object(file: &str, object: &Value) -> Result<(), Failure> {
    for (pointer, field) in [("/apiVersion", "apiVersion"), ("/kind", "kind"), ("/metadata/name", "metadata.name")] {
        if object.pointer(pointer).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(Failure::document(format!("{file}: expected the field `{field}`, found none")));
        }
    }
    Ok(())
}

/// The object as it was written, and the models that were found beside it.
fn with_models(mut object: Value, document: &Document) -> Value {
    for name in &document.beside {
        let model = serde_json::to_value(&document.fleet.spec.models[name]).unwrap_or_default();
        object["spec"]["models"][name] = model;
    }
    if is_carrying(document) {
        object["spec"]["modelsFrom"] = json!({ "configMap": recordings_name(&document.fleet.metadata.name) });
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::directory;

    const FLEET: &str = "\
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: lab}
spec: {devices: 5, groups: [{name: a, model: tank}]}
";
    const TANK: &str = "
signals: {level: {kind: replay, file: tank.csv, format: csv, column: level}}
streams: {state: {topic: 't/{fleet}/{index}', interval: 1s, payload: {json: {level: '{level}'}}}}
";

    #[test]
    fn several_documents_of_a_file_keep_their_lines() {
        let text = "# a fleet\n---\na: 1\n---\n# nothing\n--- # next\nb: 2\n";
        assert_eq!(split(text), ["\n\na: 1\n", "\n\n\n\n\n\nb: 2\n"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_the_line_of_the_file() {
        let text = format!("{FLEET}---\n{}", FLEET.replace("devices", "device"));
        let place = directory(&[("f.yaml", &text), ("models/tank.yaml", TANK), ("models/tank.csv", "level\n1\n")]);
        let failure = read(&[place.path().join("f.yaml")]).unwrap_err();
        assert_eq!(failure.code, load_controller::verdict::ExitCode::Document);
        assert!(failure.to_string().contains("f.yaml:9:8: spec.device: unknown field"), "{failure}");
    }

    #[test]
    fn models_and_recordings_beside_the_document_travel_with_it() {
        let place = directory(&[("f.yaml", FLEET), ("models/tank.yaml", TANK), ("models/tank.csv", "level\n1\n")]);
        let manifests = read(&[place.path().to_owned()]).unwrap();
        let [manifest] = manifests.as_slice() else { panic!("one fleet was written: {manifests:?}") };
        let spec = &manifest.object["spec"];
        assert_eq!(spec["models"]["tank"]["signals"]["level"]["file"], "tank.csv");
        assert_eq!(spec["modelsFrom"]["configMap"], "lab-recordings");
        assert!(spec.get("connect").is_none(), "what nobody wrote is not sent: {spec}");
        let recordings = manifest.recordings().unwrap().unwrap();
        assert_eq!(recordings["data"]["tank.csv"], "level\n1\n");
    }

    #[test]
    fn a_model_may_be_where_models_from_says() {
        let text = FLEET.replace("devices: 5", "devices: 5, modelsFrom: {configMap: models}");
        let place = directory(&[("f.yaml", &text)]);
        let manifests = read(&[place.path().join("f.yaml")]).unwrap();
        assert_eq!(manifests[0].object["spec"].get("models"), None);
        assert_eq!(manifests[0].recordings().unwrap(), None);
    }

    #[test]
    fn objects_of_other_kinds_go_as_they_are() {
        let place = directory(&[("s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n")]);
        assert_eq!(read(&[place.path().to_owned()]).unwrap()[0].object["stringData"]["a"], "b");
        let place = directory(&[("s.yaml", "apiVersion: v1\nkind: Secret\n")]);
        let failure = read(&[place.path().to_owned()]).unwrap_err().to_string();
        assert!(failure.contains("expected the field `metadata.name`"), "{failure}");
    }
}
