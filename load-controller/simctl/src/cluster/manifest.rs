//! What `simctl apply` sends for the objects of files.
//!
//! Fleets and load tests are checked here, with file, line and field, before anything is sent; objects of other kinds go as they are.
//! What a fleet needs of the files beside its document travels with it: models inside the document, recordings in a
//! ConfigMap.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    document::{self, Document, Reader},
    exit::Failure,
    load_test,
    sources::{self, Object, Sources},
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

    /// Whether it is a load test.
    pub(crate) fn is_load_test(&self) -> bool {
        self.object["kind"] == "LoadTest"
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
    let mut sources = sources::read(paths);
    let (mut manifests, mut wrong) = (Vec::new(), std::mem::take(&mut sources.wrong));
    for object in &sources.objects {
        if object.is_model() {
            wrong.push(format!(
                "{}: expected an object of a cluster, found a model: put it into `spec.models` of a Fleet, or beside it as \
                 models/NAME.yaml",
                object.place()
            ));
            continue;
        }
        match manifest(&sources, object) {
            Ok(manifest) => manifests.push(manifest),
            Err(failure) => wrong.push(failure.to_string()),
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

fn manifest(sources: &Sources, object: &Object) -> Result<Manifest, Failure> {
    let (file, value) = (object.file.clone(), object.tree.value().clone());
    if object.is_load_test() {
        let test = load_test::read(object)?;
        // The cluster may have the fleet.
        let its = load_test::fleet(sources, object, &test).ok();
        let document = its.map(|fleet| document::understand(sources, fleet, Reader::Cluster)).transpose()?;
        load_test::settle(object, &test, document.as_ref())?;
    }
    if !object.is_fleet() {
        return Ok(Manifest { file, object: value, fleet: None });
    }
    let document = document::understand(sources, object, Reader::Cluster)?;
    let object = with_models(value, &document);
    Ok(Manifest { file, object, fleet: Some(document) })
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
    fn what_is_wrong_is_told_with_the_line_of_the_file() {
        let text = format!("{FLEET}---\n{}", FLEET.replace("devices", "device"));
        let place = directory(&[("f.yaml", &text), ("models/tank.yaml", TANK), ("models/tank.csv", "level\n1\n")]);
        let failure = read(&[place.path().join("f.yaml")]).unwrap_err();
        assert_eq!(failure.code, load_controller::run::verdict::ExitCode::Document);
        assert!(failure.to_string().contains("f.yaml:9:8: spec.device: unknown field"), "{failure}");
    }

    #[test]
    fn a_fleet_in_a_list_is_checked_and_a_library_of_the_same_file_stays_there() {
        let list = format!("kind: List\napiVersion: v1\nitems:\n  - {}", FLEET.trim_end().replace('\n', "\n    "));
        let place = directory(&[("f.yaml", &list.replace("devices", "device"))]);
        let failure = read(&[place.path().join("f.yaml")]).unwrap_err().to_string();
        assert!(failure.contains("f.yaml:7:12: spec.device: unknown field"), "{failure}");

        let text = FLEET.replace("devices: 5", "devices: 5, modelsFrom: {configMap: models}");
        let library = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: models}}\ndata:\n  tank.csv: |\n    level\n    1\n  \
             tank.yaml: |{}",
            TANK.replace('\n', "\n    ")
        );
        let place = directory(&[("f.yaml", &format!("{text}---\n{library}"))]);
        let manifests = read(&[place.path().join("f.yaml")]).unwrap();
        let kinds: Vec<_> = manifests.iter().map(|manifest| manifest.object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Fleet", "ConfigMap"]);
        assert_eq!((manifests[0].object["spec"].get("models"), manifests[0].recordings().unwrap()), (None, None));
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
