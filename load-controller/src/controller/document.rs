//! From a Fleet as it is stored to the document that workers run: all models found, the broker known, everything
//! checked, and a hash that names it. Pure.

use fleet_contract::{
    builtin,
    document::{self, Problem},
    fleet::{self, BrokerAccess, BrokerSpec, Credentials, Tls},
    model::{Files, Model, payload::hex},
    plan::LIVE,
};
use k8s_openapi::api::core::v1::ConfigMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::resource::{
    Fleet, Owner, broker,
    config_map::{ASSIGNMENT_KEY, SPEC_KEY},
    pod::{
        self, AUTHORITY_FOLDER, AUTHORITY_KEY, CERTIFICATE_KEY, DEVICES_PASSWORD_FILE, IDENTITY_FOLDER,
        OBSERVER_PASSWORD_FILE, PRIVATE_KEY_KEY,
    },
    secret::{DEVICES_USER, OBSERVER_USER},
};

/// A ConfigMap holds 1 MiB; some of it is for its metadata.
const BYTES_MAX: usize = 1_000_000;

/// A document that workers can run.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The fleet with all models, its broker, and the live numbers as they were written.
    pub fleet: fleet::Fleet,
    /// Whether its broker is one of our own.
    pub has_own_broker: bool,
    /// Which pods may reach that broker. It is none of the workers' business, so a change of it replaces no pod.
    pub broker_access: BrokerAccess,
    /// What workers mount: the document without live numbers, and the files that models replay.
    pub assignment: String,
    /// The Fleet's own specification without live numbers, for an undo.
    pub spec: String,
    /// SHA-256 of the assignment and the image, in hexadecimal.
    pub hash: String,
}

/// The document of `fleet`, or all that is wrong with it.
///
/// `library` is the ConfigMap that `modelsFrom` names, if there is one.
pub fn resolve(
    fleet: &Fleet,
    owner: &Owner,
    library: Option<&ConfigMap>,
    image: &str,
) -> Result<Document, Vec<String>> {
    let mut document = fleet.document().map_err(|problems| lines(&problems))?;
    let mut problems = find_models(&mut document, library);
    let files = find_files(&document, library, &mut problems);
    problems.extend(check_passwords(&document).iter().map(ToString::to_string));
    problems.extend(check_own_broker(&document).as_ref().map(ToString::to_string));
    problems.extend(check_tls(&document).as_ref().map(ToString::to_string));
    problems.extend(check_affinity(&document).as_ref().map(ToString::to_string));
    problems.extend(fleet::check(&document).iter().map(ToString::to_string));
    if !problems.is_empty() {
        return Err(problems);
    }
    let has_own_broker = document.spec.has_own_broker();
    let broker_access = document.spec.broker.as_ref().and_then(|broker| broker.access).unwrap_or_default();
    if has_own_broker {
        sign_in_at_own_broker(&mut document, owner);
    }
    let assignment = assignment(&document, &files);
    let spec = written(fleet);
    let bytes = assignment.len() + spec.len();
    if bytes > BYTES_MAX {
        return Err(vec![format!(
            "expected a document whose models and files take at most {BYTES_MAX} bytes, found {bytes}"
        )]);
    }
    let hash = hash_of(&assignment, image);
    Ok(Document { fleet: document, has_own_broker, broker_access, assignment, spec, hash })
}

impl Document {
    /// The document that the ConfigMap of a revision holds, with the live numbers of `fleet`; `None` for one that does not.
    pub fn pinned(fleet: &Fleet, owner: &Owner, object: &ConfigMap, hash: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Assignment {
            fleet: fleet::Fleet,
        }
        let (assignment, spec) = (text_of(object, ASSIGNMENT_KEY)?, text_of(object, SPEC_KEY)?);
        let resolved: Assignment = serde_json::from_str(assignment).ok()?;
        let mut written: Map<String, Value> = serde_json::from_str(spec).ok()?;
        let live =
            LIVE.iter().filter_map(|field| Some(((*field).to_owned(), fleet.spec.written().get(*field)?.clone())));
        written.extend(live);
        let mut document = Fleet::new(&owner.name, written).document().ok()?;
        document.metadata = resolved.fleet.metadata;
        document.spec.models = resolved.fleet.spec.models;
        let has_own_broker = document.spec.has_own_broker();
        let broker_access = document.spec.broker.as_ref().and_then(|broker| broker.access).unwrap_or_default();
        if has_own_broker {
            sign_in_at_own_broker(&mut document, owner);
        }
        let (assignment, spec, hash) = (assignment.to_owned(), spec.to_owned(), hash.to_owned());
        Some(Self { fleet: document, has_own_broker, broker_access, assignment, spec, hash })
    }
}

/// Fills in the models that groups name: those of the document come first, then those of `modelsFrom`, then ours.
fn find_models(document: &mut fleet::Fleet, library: Option<&ConfigMap>) -> Vec<String> {
    let mut problems = Vec::new();
    if let (Some(from), None) = (&document.spec.models_from, library) {
        let name = &from.config_map;
        problems.push(format!(
            "spec.modelsFrom.configMap: expected a ConfigMap of the fleet's namespace, found no `{name}`"
        ));
    }
    let names: Vec<String> = document.spec.groups.iter().map(|group| group.model.clone()).collect();
    for name in names {
        if document.spec.models.contains_key(&name) {
            continue;
        }
        let key = format!("{name}.yaml");
        let text = library.and_then(|library| text_of(library, &key));
        let Some(text) = text.or_else(|| builtin::find(&name).map(|builtin| builtin.document)) else { continue };
        match document::read::<Model>(&key, text) {
            Ok((model, _)) => drop(document.spec.models.insert(name, model)),
            Err(found) => problems.extend(lines(&found)),
        }
    }
    problems
}

fn find_files(document: &fleet::Fleet, library: Option<&ConfigMap>, problems: &mut Vec<String>) -> Files {
    let mut files = Files::new();
    for (name, model) in &document.spec.models {
        for file in model.files() {
            match library.and_then(|library| text_of(library, file)) {
                Some(text) => drop(files.insert(file.into(), text.into())),
                None => problems.push(format!(
                    "spec.models.{name}: expected the file `{file}` as a key of the ConfigMap that `modelsFrom` names"
                )),
            }
        }
    }
    files
}

fn text_of<'a>(library: &'a ConfigMap, key: &str) -> Option<&'a str> {
    library.data.as_ref()?.get(key).map(String::as_str)
}

/// In a pod there are no other files and variables than ours.
fn check_passwords(document: &fleet::Fleet) -> Vec<Problem> {
    let devices = document.spec.broker.as_ref().and_then(|broker| broker.credentials.as_ref());
    let both = [
        ("/spec/broker/credentials", devices),
        ("/spec/observer/credentials", document.spec.observer.credentials.as_ref()),
    ];
    let is_elsewhere =
        |credentials: &Credentials| credentials.password_file.is_some() || credentials.password_env.is_some();
    both.into_iter()
        .filter(|(_, credentials)| credentials.is_some_and(is_elsewhere))
        .map(|(field, _)| {
            Problem::new(field, "in a cluster the password comes from a Secret: write `secretName` instead")
        })
        .collect()
}

/// A broker of the fleet's own has a user for the observer.
fn check_own_broker(document: &fleet::Fleet) -> Option<Problem> {
    let is_own = document.spec.has_own_broker() && document.spec.observer.credentials.is_some();
    let message = "the fleet's own broker has credentials of its own; leave these out, or name a broker in \
                   `spec.broker.url`";
    is_own.then(|| Problem::new("/spec/observer/credentials", message))
}

/// Devices and observer sign in as the users that a broker of the fleet's own has.
fn sign_in_at_own_broker(document: &mut fleet::Fleet, owner: &Owner) {
    let user = |name: &str, file: &str| Credentials {
        username: name.into(),
        password_file: Some(file.into()),
        password_env: None,
        secret_name: None,
    };
    document.spec.broker = Some(BrokerSpec {
        credentials: Some(user(DEVICES_USER, DEVICES_PASSWORD_FILE)),
        ..BrokerSpec::at(vec![broker::url(owner)])
    });
    document.spec.observer.credentials = Some(user(OBSERVER_USER, OBSERVER_PASSWORD_FILE));
}

/// As [`check_passwords`], for what TLS needs.
fn check_tls(document: &fleet::Fleet) -> Option<Problem> {
    let tls = document.spec.broker.as_ref()?.tls.as_ref()?;
    let is_elsewhere = tls.ca.is_some() || tls.certificate.is_some() || tls.key.is_some();
    let message = "in a cluster authorities, certificate and key come from Secrets: write `caSecretName` and \
                   `secretName` instead";
    is_elsewhere.then(|| Problem::new("/spec/broker/tls", message))
}

/// The document's own schema does not know what Kubernetes makes of an affinity.
fn check_affinity(document: &fleet::Fleet) -> Option<Problem> {
    let (field, error) = pod::affinity(&document.spec.pod).err()?;
    let at = format!("/spec/pod/affinity/{}", field.replace(['.', '['], "/").replace(']', ""));
    Some(Problem::new(at, format!("this is no affinity of Kubernetes: {error}")))
}

/// An assignment without plan and shard, which workers get apart.
fn assignment(document: &fleet::Fleet, files: &Files) -> String {
    let mut fleet = document.clone();
    fleet.spec.devices = 0;
    fleet.spec.paused = false;
    fleet.spec.intervals.clear();
    if let Some(credentials) = fleet.spec.broker.as_mut().and_then(|broker| broker.credentials.as_mut()) {
        mount(credentials, DEVICES_PASSWORD_FILE);
    }
    if let Some(tls) = fleet.spec.broker.as_mut().and_then(|broker| broker.tls.as_mut()) {
        mount_tls(tls);
    }
    if let Some(credentials) = &mut fleet.spec.observer.credentials {
        mount(credentials, OBSERVER_PASSWORD_FILE);
    }
    json!({"fleet": fleet, "files": files}).to_string()
}

fn mount(credentials: &mut Credentials, file: &str) {
    if credentials.secret_name.take().is_some() {
        credentials.password_file = Some(file.into());
    }
}

fn mount_tls(tls: &mut Tls) {
    if tls.ca_secret_name.take().is_some() {
        tls.ca = Some(format!("{AUTHORITY_FOLDER}/{AUTHORITY_KEY}"));
    }
    if tls.secret_name.take().is_some() {
        tls.certificate = Some(format!("{IDENTITY_FOLDER}/{CERTIFICATE_KEY}"));
        tls.key = Some(format!("{IDENTITY_FOLDER}/{PRIVATE_KEY_KEY}"));
    }
}

/// The specification as it was written, without live numbers.
fn written(fleet: &Fleet) -> String {
    let mut spec = fleet.spec.written().clone();
    spec.retain(|field, _| !LIVE.contains(&field.as_str()));
    serde_json::to_string(&spec).expect("a map of JSON is JSON")
}

fn hash_of(assignment: &str, image: &str) -> String {
    hex(&Sha256::new().chain_update(assignment).chain_update([0]).chain_update(image).finalize())
}

/// The problems one by one, without the name of a file that does not exist.
pub fn lines(problems: &document::Problems) -> Vec<String> {
    let text = problems.to_string();
    text.lines().map(|line| line.split_once(": ").map_or(line, |(_, problem)| problem).trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::fixture;

    fn resolved(more: &str, library: Option<&ConfigMap>) -> Result<Document, Vec<String>> {
        resolve(&fixture::fleet(more), &fixture::owner(), library, "device-sim:1")
    }

    #[test]
    fn live_numbers_make_no_new_document() {
        let one = resolved("devices: 10", None).unwrap();
        let other = resolved("devices: 99\npaused: true\nintervals: {'*': 2s}", None).unwrap();
        assert_eq!((&one.hash, &one.assignment, &one.spec), (&other.hash, &other.assignment, &other.spec));
        assert_eq!((one.fleet.spec.devices, other.fleet.spec.devices), (10, 99));
        assert_ne!(one.hash, resolved("devices: 10\nlossAfter: 5s", None).unwrap().hash);
    }

    #[test]
    fn another_image_is_another_revision() {
        let fleet = fixture::fleet("devices: 10");
        let hash = |image| resolve(&fleet, &fixture::owner(), None, image).unwrap().hash;
        assert_ne!(hash("device-sim:1"), hash("device-sim:2"));
    }

    #[test]
    fn a_fleet_without_a_broker_gets_one() {
        let document = resolved("devices: 10", None).unwrap();
        assert!(document.has_own_broker && document.assignment.contains("mqtt://demo-broker.load.svc:1883"));
        for more in ["devices: 10", "devices: 10\nbroker: {access: cluster}"] {
            let document = resolved(more, None).unwrap();
            assert!(document.has_own_broker);
            let spec = &document.fleet.spec;
            let users = [spec.broker.as_ref().unwrap().credentials.as_ref(), spec.observer.credentials.as_ref()];
            assert_eq!(users.map(|user| user.unwrap().username.as_str()), ["devices", "observer"]);
            assert!(document.assignment.contains(DEVICES_PASSWORD_FILE));
            assert!(document.assignment.contains(OBSERVER_PASSWORD_FILE));
        }
        let problems = resolved("devices: 1\nobserver: {credentials: {username: eye, secretName: eye}}", None);
        assert!(problems.unwrap_err().join("\n").contains("has credentials of its own"));
        let document = resolved("devices: 10\nbroker: {url: broker.example}", None).unwrap();
        assert!(!document.has_own_broker && document.assignment.contains("mqtt://broker.example:1883"));
    }

    #[test]
    fn a_secret_becomes_a_file_that_is_mounted() {
        let more = "devices: 1\nbroker: {url: b, credentials: {username: '{id}', secretName: devices}}";
        let document = resolved(more, None).unwrap();
        assert!(document.assignment.contains(DEVICES_PASSWORD_FILE) && !document.assignment.contains("secretName"));
        assert!(document.spec.contains("secretName"), "an undo brings back what was written");
    }

    #[test]
    fn the_secrets_of_tls_become_files_that_are_mounted() {
        let more = "devices: 1\nbroker: {url: 'mqtts://b', tls: {caSecretName: ca, secretName: device}}";
        let document = resolved(more, None).unwrap();
        for file in ["/etc/simctl/authority/ca.crt", "/etc/simctl/identity/tls.crt", "/etc/simctl/identity/tls.key"] {
            assert!(document.assignment.contains(file), "{file}");
        }
        assert!(!document.assignment.contains("ecretName"));
        let problems = resolved("devices: 1\nbroker: {url: 'mqtts://b', tls: {ca: /ca.pem}}", None).unwrap_err();
        assert!(problems.join("\n").contains("write `caSecretName`"), "{problems:?}");
    }

    #[test]
    fn an_affinity_that_kubernetes_cannot_read_is_told_with_its_place() {
        let of = |affinity: &str| resolved(&format!("devices: 1\npod: {{affinity: {affinity}}}"), None);
        of("{podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}}").unwrap();
        let preferred = "{nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: heavy}]}}";
        insta::assert_snapshot!(of(preferred).unwrap_err().join("\n"), @r#"spec.pod.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: this is no affinity of Kubernetes: invalid type: string "heavy", expected i32"#);
    }

    #[test]
    fn models_come_from_the_document_then_the_config_map_then_ours() {
        let text = "streams: {tick: {topic: 'x/{index}', interval: 1s, payload: {json: {}}}}";
        let data = [("thermometer.yaml".to_owned(), text.to_owned())];
        let library = ConfigMap { data: Some(data.into()), ..ConfigMap::default() };
        let more = "devices: 1\nmodelsFrom: {configMap: models}";
        let ours = resolved("devices: 1", None).unwrap();
        let theirs = resolved(more, Some(&library)).unwrap();
        assert!(!ours.fleet.spec.models["thermometer"].streams.contains_key("tick"));
        assert!(theirs.fleet.spec.models["thermometer"].streams.contains_key("tick"));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let more = "
devices: 1
clientId: same
modelsFrom: {configMap: models}
broker: {url: b, credentials: {username: a, passwordEnv: SECRET}}";
        insta::assert_snapshot!(resolved(more, None).unwrap_err().join("\n"));
        let unread = resolved("devices: many\nlossAfter: soon", None).unwrap_err().join("\n");
        insta::assert_snapshot!(unread);
    }
}
