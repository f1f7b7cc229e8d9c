//! The pod of a worker: one container, no credentials of Kubernetes, admitted where Pod Security is `restricted`.

use std::collections::BTreeMap;

use fleet_contract::{
    allowed::AllowedBrokers,
    fleet::{FleetSpec, PodSpec as Special, Sysctl as SpecialSysctl, Toleration as SpecialToleration},
    worker::{ALLOCATOR, drain_bound},
    worker_api::{HEALTHZ, READYZ},
};
use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
        EnvVarSource, HTTPGetAction, KeyToPath, LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec,
        PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Sysctl,
        Toleration, TopologySpreadConstraint, Volume, VolumeMount,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use serde_json::Value;

use super::{
    Size,
    config_map::{ASSIGNMENT_KEY, PLAN_KEY},
    names::{self, Component, WORKER_CONTAINER, WORKER_PORT},
    secret::{DEVICES_KEY, OBSERVER_KEY, TOKEN_KEY},
    service::PORT_NAME,
    size::{cpu_text, memory_text},
};

/// The annotation of a pod: the ConfigMap of the document that it runs.
pub const DOCUMENT_ANNOTATION: &str = "simctl.io/document";

/// The annotation of a pod: the Secret of its fleet that it mounts. Workers of earlier releases have none.
pub const SECRETS_ANNOTATION: &str = "simctl.io/secrets";

/// The key of the password in a Secret that a document names.
pub const PASSWORD_KEY: &str = "password";
/// Where the devices' password is mounted.
pub const DEVICES_PASSWORD_FILE: &str = "/etc/simctl/credentials/password";
/// Where the observer's password is mounted.
pub const OBSERVER_PASSWORD_FILE: &str = "/etc/simctl/observer/password";

/// The key of the authorities in a Secret that a document names for TLS.
pub const AUTHORITY_KEY: &str = "ca.crt";
/// The key of the certificate in a Secret of type `kubernetes.io/tls`.
pub const CERTIFICATE_KEY: &str = "tls.crt";
/// The key of the private key in such a Secret.
pub const PRIVATE_KEY_KEY: &str = "tls.key";
/// Where the authorities are mounted.
pub const AUTHORITY_FOLDER: &str = "/etc/simctl/authority";
/// Where the devices' certificate and its key are mounted.
pub const IDENTITY_FOLDER: &str = "/etc/simctl/identity";

const DOCUMENT_FOLDER: &str = "/etc/simctl/document";
const PLAN_FOLDER: &str = "/etc/simctl/plan";
const TOKEN_FOLDER: &str = "/etc/simctl/token";
const FORMER_TOKEN_FOLDER: &str = "/etc/simctl/former-token";
const STATE_FOLDER: &str = "/var/lib/simctl";

/// How long a pod stays on a node that does not answer; then its devices are wanted back elsewhere.
pub const UNREACHABLE_SECONDS: i64 = 30;

/// The kubelet keeps the last lines of the log of a container that fails, so that conditions can tell why.
pub(super) const LAST_LINES: &str = "FallbackToLogsOnError";

/// User and group of the processes in our images, unless the document has others or none.
const NOBODY: i64 = 65_532;

/// One source port a device, and none of those that servers listen on.
const PORT_RANGE_PARAMETER: &str = "net.ipv4.ip_local_port_range";
const PORT_RANGE: &str = "10240 65535";

/// What a worker's pod is made from. Nothing of it changes live, so that only a new document or image rolls pods.
#[derive(Debug, Clone)]
pub struct Worker<'a> {
    /// The fleet's name.
    pub fleet: &'a str,
    /// The document, with the names of the Secrets.
    pub spec: &'a FleetSpec,
    /// The name of the ConfigMap of the resolved document.
    pub document: &'a str,
    /// Whether its broker is one of our own, where devices and observer have users of their own.
    pub has_own_broker: bool,
    /// The image.
    pub image: &'a str,
    /// When the node asks the registry for the image; by default Kubernetes decides by its tag.
    pub pull_policy: Option<&'a str>,
    /// What it asks for.
    pub size: Size,
    /// Where it may find its broker.
    pub allowed: AllowedBrokers,
}

/// The template of a worker's pods.
pub fn build(worker: &Worker<'_>) -> PodTemplateSpec {
    let special = &worker.spec.pod;
    let mut template = template(worker.fleet, Component::Worker, special);
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    annotations.insert(DOCUMENT_ANNOTATION.into(), worker.document.into());
    annotations.insert(SECRETS_ANNOTATION.into(), names::secrets(worker.fleet));
    template.spec = Some(PodSpec {
        containers: vec![container(worker)],
        volumes: Some(volumes(worker)),
        security_context: Some(pod_security(special, &[(PORT_RANGE_PARAMETER, PORT_RANGE)])),
        termination_grace_period_seconds: Some(grace_seconds(worker.spec)),
        topology_spread_constraints: Some(vec![spread(worker.fleet)]),
        ..template.spec.unwrap_or_default()
    });
    template
}

/// What every pod of a fleet has, and what the document says of all of them; containers, volumes and security are the
/// caller's.
pub(super) fn template(fleet: &str, component: Component, special: &Special) -> PodTemplateSpec {
    let mut labels = special.labels.clone();
    labels.extend(names::labels(fleet, component));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: some_map(&special.annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            // Whatever the account may do, the processes ask nothing of the API server.
            automount_service_account_token: Some(false),
            service_account_name: special.service_account_name.clone(),
            // One variable for each Service of a namespace would only be in the way.
            enable_service_links: Some(false),
            image_pull_secrets: pull_secrets(special),
            node_selector: some_map(&special.node_selector),
            tolerations: Some(tolerations(special)),
            // One that cannot be read is a problem of the document, with which nothing is built.
            affinity: affinity(special).ok().flatten(),
            priority_class_name: special.priority_class_name.clone(),
            runtime_class_name: special.runtime_class_name.clone(),
            ..PodSpec::default()
        }),
    }
}

/// The affinity of a fleet's pods as Kubernetes has it.
///
/// # Errors
/// When it is none: the field below `affinity`, and why.
pub fn affinity(special: &Special) -> Result<Option<Affinity>, (String, serde_json::Error)> {
    if special.affinity.is_empty() {
        return Ok(None);
    }
    let read: Result<Affinity, _> = serde_path_to_error::deserialize(Value::Object(special.affinity.clone()));
    read.map(Some).map_err(|error| (error.path().to_string(), error.into_inner()))
}

/// The time that a worker may take to drain, in whole seconds.
fn grace_seconds(spec: &FleetSpec) -> i64 {
    let seconds = drain_bound(spec).0.div_ceil(1_000_000);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn container(worker: &Worker<'_>) -> Container {
    let special = &worker.spec.pod;
    Container {
        name: WORKER_CONTAINER.into(),
        image: Some(worker.image.into()),
        image_pull_policy: worker.pull_policy.map(Into::into),
        env: Some(environment(worker)),
        ports: Some(vec![ContainerPort {
            name: Some(PORT_NAME.into()),
            container_port: WORKER_PORT.into(),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(Probe { period_seconds: Some(2), failure_threshold: Some(2), ..probe(READYZ) }),
        // Generous: a worker that is short of CPU is measured as such, and killing it would end what it measures.
        liveness_probe: Some(Probe { period_seconds: Some(10), failure_threshold: Some(6), ..probe(HEALTHZ) }),
        resources: Some(resources(special, worker.size)),
        security_context: Some(container_security()),
        termination_message_policy: Some(LAST_LINES.into()),
        volume_mounts: Some(mounts(worker)),
        ..Container::default()
    }
}

fn environment(worker: &Worker<'_>) -> Vec<EnvVar> {
    let set = |name: &str, value: String| EnvVar { name: name.into(), value: Some(value), ..EnvVar::default() };
    let ordinal = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: "metadata.labels['apps.kubernetes.io/pod-index']".into(),
            ..ObjectFieldSelector::default()
        }),
        ..EnvVarSource::default()
    };
    vec![
        set("SIMCTL_API", format!("[::]:{WORKER_PORT}")),
        set("SIMCTL_ASSIGNMENT", format!("{DOCUMENT_FOLDER}/{ASSIGNMENT_KEY}")),
        set("SIMCTL_PLAN", format!("{PLAN_FOLDER}/{PLAN_KEY}")),
        EnvVar { name: "SIMCTL_ORDINAL".into(), value_from: Some(ordinal), ..EnvVar::default() },
        set("SIMCTL_TOKEN_FILE", format!("{TOKEN_FOLDER}/{TOKEN_KEY}")),
        set("SIMCTL_FORMER_TOKEN_FILE", format!("{FORMER_TOKEN_FOLDER}/{TOKEN_KEY}")),
        set("SIMCTL_STATE", format!("{STATE_FOLDER}/{PLAN_KEY}")),
        set("SIMCTL_THREADS", worker.size.threads.to_string()),
        set("SIMCTL_LOG_FORMAT", "json".into()),
        set("SIMCTL_ALLOWED_BROKERS", worker.allowed.to_string()),
        set(ALLOCATOR.0, ALLOCATOR.1.into()),
    ]
}

/// A probe of the worker's API; other members are the caller's.
pub(super) fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(PORT_NAME.into()),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn resources(special: &Special, size: Size) -> ResourceRequirements {
    let memory = special.memory.clone().unwrap_or_else(|| memory_text(size.memory_bytes));
    let cpu = special.cpu.clone().unwrap_or_else(|| cpu_text(size.cpu_millis));
    requirements(cpu, special.cpu_limit.clone(), memory, special.ephemeral_storage.clone())
}

/// Quantities of a container: CPU may be more than it asks for, up to a limit; of all else it gets what it asks for.
pub(super) fn requirements(
    cpu: String,
    cpu_limit: Option<String>,
    memory: String,
    ephemeral_storage: Option<String>,
) -> ResourceRequirements {
    let fixed = [("memory", Some(memory)), ("ephemeral-storage", ephemeral_storage)];
    let quantities = |cpu: Option<String>| -> BTreeMap<String, Quantity> {
        let all = [("cpu", cpu)].into_iter().chain(fixed.clone());
        all.filter_map(|(name, quantity)| Some((name.to_owned(), Quantity(quantity?)))).collect()
    };
    ResourceRequirements {
        requests: Some(quantities(Some(cpu))),
        limits: Some(quantities(cpu_limit)),
        ..ResourceRequirements::default()
    }
}

/// What Pod Security `restricted` asks of a container, and a root file system that nobody writes.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
        ..SecurityContext::default()
    }
}

/// What Pod Security `restricted` asks of a pod; the group lets the process read mounted Secrets. The document's kernel
/// parameters come in place of `own` ones of the same name.
pub(super) fn pod_security(special: &Special, own: &[(&str, &str)]) -> PodSecurityContext {
    let id = |id: Option<u32>| (!special.omit_ids).then(|| id.map_or(NOBODY, i64::from));
    let is_own = |name: &str| !special.sysctls.iter().any(|sysctl| sysctl.name == name);
    let own = own.iter().filter(|(name, _)| is_own(name));
    let own = own.map(|(name, value)| Sysctl { name: (*name).into(), value: (*value).into() });
    let named = special.sysctls.iter().cloned().map(|SpecialSysctl { name, value }| Sysctl { name, value });
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: id(special.run_as_user),
        run_as_group: id(special.run_as_group),
        fs_group: id(special.fs_group),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        sysctls: some_list(own.chain(named).collect()),
        ..PodSecurityContext::default()
    }
}

/// The Secrets that the registry wants.
fn pull_secrets(special: &Special) -> Option<Vec<LocalObjectReference>> {
    let names = special.image_pull_secrets.iter().cloned();
    some_list(names.map(|name| LocalObjectReference { name }).collect())
}

/// The tolerations that the document names, and of nodes that do not answer for half a minute.
fn tolerations(special: &Special) -> Vec<Toleration> {
    let named = special.tolerations.iter().cloned().map(|toleration| {
        let SpecialToleration { key, operator, value, effect, toleration_seconds } = toleration;
        Toleration { key, operator, value, effect, toleration_seconds }
    });
    let lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|taint| Toleration {
        key: Some(taint.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(UNREACHABLE_SECONDS),
        ..Toleration::default()
    });
    named.chain(lost).collect()
}

/// The pods go to different nodes where there are some: one node's end is a small part of the fleet then.
fn spread(fleet: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(names::selector(fleet, Component::Worker)),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    }
}

/// A Secret, and where its keys are mounted as files. No mount has a `subPath`: kubelet would not update it.
struct Mounted {
    volume: &'static str,
    secret: String,
    /// The keys, with the names of their files.
    files: &'static [(&'static str, &'static str)],
    folder: &'static str,
}

/// The Secrets of passwords and certificates: those that the document names, or the fleet's own.
fn secrets(worker: &Worker<'_>) -> Vec<Mounted> {
    let spec = worker.spec;
    let own = worker.has_own_broker.then(|| names::secrets(worker.fleet));
    let credentials = spec.broker.as_ref().and_then(|broker| broker.credentials.as_ref());
    let tls = spec.broker.as_ref().and_then(|broker| broker.tls.as_ref());
    let devices = credentials.and_then(|credentials| credentials.secret_name.as_ref());
    let observer = spec.observer.credentials.as_ref().and_then(|credentials| credentials.secret_name.as_ref());
    let authority = tls.and_then(|tls| tls.ca_secret_name.as_ref());
    let identity = tls.and_then(|tls| tls.secret_name.as_ref());
    let folder = |file: &'static str| file.trim_end_matches("/password");
    let all: [(_, _, &'static [_], _); 6] = [
        ("credentials", own.as_ref(), &[(DEVICES_KEY, PASSWORD_KEY)], folder(DEVICES_PASSWORD_FILE)),
        ("observer", own.as_ref(), &[(OBSERVER_KEY, PASSWORD_KEY)], folder(OBSERVER_PASSWORD_FILE)),
        ("credentials", devices, &[(PASSWORD_KEY, PASSWORD_KEY)], folder(DEVICES_PASSWORD_FILE)),
        ("observer", observer, &[(PASSWORD_KEY, PASSWORD_KEY)], folder(OBSERVER_PASSWORD_FILE)),
        ("authority", authority, &[(AUTHORITY_KEY, AUTHORITY_KEY)], AUTHORITY_FOLDER),
        (
            "identity",
            identity,
            &[(CERTIFICATE_KEY, CERTIFICATE_KEY), (PRIVATE_KEY_KEY, PRIVATE_KEY_KEY)],
            IDENTITY_FOLDER,
        ),
    ];
    let mounted = |(volume, secret, files, folder): (_, Option<&String>, _, _)| {
        Some(Mounted { volume, secret: secret?.clone(), files, folder })
    };
    all.into_iter().filter_map(mounted).collect()
}

/// A volume of keys of a Secret, as files of these names that user and group of the process may read.
pub(super) fn secret_volume(volume: &str, secret: String, files: &[(&str, &str)]) -> Volume {
    Volume {
        name: volume.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            items: Some(items(files)),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A volume of a key of a ConfigMap, as a file of the same name.
pub(super) fn config_map_volume(volume: &str, name: String, key: &str) -> Volume {
    Volume {
        name: volume.into(),
        config_map: Some(ConfigMapVolumeSource {
            name,
            items: Some(items(&[(key, key)])),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn items(files: &[(&str, &str)]) -> Vec<KeyToPath> {
    let item =
        |(key, path): &(&str, &str)| KeyToPath { key: (*key).into(), path: (*path).into(), ..KeyToPath::default() };
    files.iter().map(item).collect()
}

/// The token of the release before, where a controller of it has made one: after a rollback it shows no other.
fn former_token_volume(fleet: &str) -> Volume {
    let mut volume = secret_volume("former-token", names::former_token(fleet), &[(TOKEN_KEY, TOKEN_KEY)]);
    if let Some(secret) = &mut volume.secret {
        secret.optional = Some(true);
    }
    volume
}

fn volumes(worker: &Worker<'_>) -> Vec<Volume> {
    let mut volumes = vec![
        config_map_volume("document", worker.document.into(), ASSIGNMENT_KEY),
        config_map_volume("plan", names::plan(worker.fleet), PLAN_KEY),
        secret_volume("token", names::secrets(worker.fleet), &[(TOKEN_KEY, TOKEN_KEY)]),
        former_token_volume(worker.fleet),
        Volume {
            name: "state".into(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity("16Mi".into())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    let secrets = secrets(worker).into_iter();
    volumes.extend(secrets.map(|Mounted { volume, secret, files, .. }| secret_volume(volume, secret, files)));
    volumes
}

fn mounts(worker: &Worker<'_>) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, is_read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: is_read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount("document", DOCUMENT_FOLDER, true),
        mount("plan", PLAN_FOLDER, true),
        mount("token", TOKEN_FOLDER, true),
        mount("former-token", FORMER_TOKEN_FOLDER, true),
        mount("state", STATE_FOLDER, false),
    ];
    mounts.extend(secrets(worker).into_iter().map(|Mounted { volume, folder, .. }| mount(volume, folder, true)));
    mounts
}

fn some_map(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then(|| map.clone())
}

fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
