//! The broker of a fleet that names none: one pod of our own broker with a volume, and its Service.
//!
//! On the volume are sessions and retained messages when the broker is told to end. Without a [`Storage`] it is the
//! pod's own: it outlives a container, such as one that the node restarts, and goes with the pod. With one it is a
//! claim, which the next pod gets, on whatever node; it goes with the fleet.

use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{BrokerResources, PodSpec as Special},
    model::payload::hex,
    units::Bytes,
};
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy as RetentionPolicy},
        core::v1::{
            Container, ContainerPort, EmptyDirVolumeSource, EnvVar, PersistentVolumeClaim, PersistentVolumeClaimSpec,
            PodSpec, PodTemplateSpec, Probe, Service, ServicePort, ServiceSpec, Volume, VolumeMount,
            VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use sha2::{Digest as _, Sha256};

use super::{
    Owner,
    config_map::ANONYMOUS_KEY,
    names::{self, BROKER_HTTP_PORT, BROKER_PORT, Component},
    pod::{self, LAST_LINES, config_map_volume, container_security, pod_security, probe, requirements, secret_volume},
    secret::USERS_KEY,
    service::PORT_NAME,
    size::memory_text,
    stateful_set::spread,
};

/// What a device takes of the broker's memory, and the least that a broker gets. In bytes.
const DEVICE_BYTES: u64 = 128 << 10;
const MEMORY_MIN: u64 = 256 << 20;

/// What the process needs beside the memory from which its limits follow.
const PROCESS_BYTES: u64 = 64 << 20;

/// The CPU that it asks for, unless the document says otherwise.
const CPU: &str = "100m";

const MEMORY_VARIABLE: &str = "SIMCTL_BROKER_MEMORY";
const MQTT: &str = "mqtt";

/// The volume, and where the process finds it.
const DATA: &str = "data";
const DATA_PATH: &str = "/var/lib/broker";

/// Where it finds its users, and whether it admits clients without credentials. Both may change while it runs.
const USERS: &str = "users";
const USERS_FOLDER: &str = "/etc/broker/users";
const ACCESS: &str = "access";
const ACCESS_FOLDER: &str = "/etc/broker/access";

/// The annotation of the StatefulSet with a digest of its pod template. Without it nobody would miss that a field has
/// gone from the template, because what others set there does not count. Workers have the document's name for that.
const TEMPLATE_ANNOTATION: &str = "simctl.io/template";

/// What a broker's volume is claimed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// How much, as a quantity of Kubernetes: `1Gi`.
    pub size: String,
    /// The storage class; the cluster's default without one.
    pub class: Option<String>,
}

/// What a broker of our own is made of, beside the fleet that it is for.
#[derive(Debug, Clone, Copy)]
pub struct Broker<'a> {
    /// Its image.
    pub image: &'a str,
    /// When the node asks the registry for it.
    pub pull_policy: Option<&'a str>,
    /// From which its limits follow, in bytes.
    pub memory: u64,
    /// What its volume is claimed from; without it the volume is the pod's own.
    pub storage: Option<&'a Storage>,
}

/// Where the devices of the fleet find it.
pub fn url(owner: &Owner) -> BrokerUrl {
    BrokerUrl::tcp(format!("{}.{}.svc", names::broker(&owner.name), owner.namespace), BROKER_PORT)
}

/// The memory from which the limits of a new broker follow: room for twice as many devices as there are, in bytes.
pub fn memory_for(devices: u32) -> u64 {
    (u64::from(devices) * 2 * DEVICE_BYTES).next_power_of_two().max(MEMORY_MIN)
}

/// How many devices a broker with so much memory has room for.
pub fn devices_max(memory_bytes: u64) -> u32 {
    u32::try_from(memory_bytes / DEVICE_BYTES).unwrap_or(u32::MAX)
}

/// The memory of a broker that exists, so that it keeps what it has: another amount would restart it.
pub fn memory_of(stateful_set: &StatefulSet) -> Option<u64> {
    let containers = &stateful_set.spec.as_ref()?.template.spec.as_ref()?.containers;
    let variables = containers.first()?.env.as_ref()?;
    let text = variables.iter().find(|variable| variable.name == MEMORY_VARIABLE)?.value.as_ref()?;
    Some(text.parse::<Bytes>().ok()?.0)
}

/// What the volume of a broker that exists is claimed from, which Kubernetes lets nobody change.
pub fn storage_of(stateful_set: &StatefulSet) -> Option<Storage> {
    let claims = stateful_set.spec.as_ref()?.volume_claim_templates.as_ref()?;
    let claim = claims.first()?.spec.as_ref()?;
    let size = claim.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone();
    Some(Storage { size, class: claim.storage_class_name.clone() })
}

/// The Service of the broker.
pub fn service(owner: &Owner) -> Service {
    let port = |name: &str, number: u16| ServicePort {
        name: Some(name.into()),
        port: number.into(),
        target_port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    };
    Service {
        metadata: owner.metadata(names::broker(&owner.name), Component::Broker),
        spec: Some(ServiceSpec {
            selector: Some(names::selector(&owner.name, Component::Broker)),
            ports: Some(vec![port(MQTT, BROKER_PORT), port(PORT_NAME, BROKER_HTTP_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The StatefulSet of the broker: one pod, on nodes where the workers' pods may be, too.
pub fn build(owner: &Owner, special: &Special, broker: &Broker<'_>) -> StatefulSet {
    let mut template = pod::template(&owner.name, Component::Broker, special);
    template.spec = Some(PodSpec {
        containers: vec![container(special, broker)],
        volumes: Some(volumes(owner, broker)),
        security_context: Some(pod_security(special, &[])),
        termination_grace_period_seconds: Some(10),
        ..template.spec.unwrap_or_default()
    });
    let digest = digest(&template);
    let mut stateful_set = spread(owner, names::broker(&owner.name), Component::Broker, 1, template);
    stateful_set.metadata.annotations.get_or_insert_default().insert(TEMPLATE_ANNOTATION.into(), digest);
    if let (Some(storage), Some(spec)) = (broker.storage, &mut stateful_set.spec) {
        spec.volume_claim_templates = Some(vec![claim(storage)]);
        spec.persistent_volume_claim_retention_policy =
            Some(RetentionPolicy { when_deleted: Some("Delete".into()), when_scaled: Some("Retain".into()) });
    }
    stateful_set
}

fn volumes(owner: &Owner, broker: &Broker<'_>) -> Vec<Volume> {
    let own = Volume { name: DATA.into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
    let mut volumes = vec![
        secret_volume(USERS, names::secrets(&owner.name), &[(USERS_KEY, USERS_KEY)]),
        config_map_volume(ACCESS, names::broker(&owner.name), ANONYMOUS_KEY),
    ];
    volumes.extend(broker.storage.is_none().then_some(own));
    volumes
}

fn digest(template: &PodTemplateSpec) -> String {
    let digest = Sha256::digest(serde_json::to_string(template).expect("an object of Kubernetes is JSON"));
    hex(&digest[..5])
}

fn claim(storage: &Storage) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some(DATA.into()), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: storage.class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(storage.size.clone()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

fn container(special: &Special, broker: &Broker<'_>) -> Container {
    let set = |name: &str, value: String| EnvVar { name: name.into(), value: Some(value), ..EnvVar::default() };
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.into()),
        container_port: number.into(),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only,
        ..VolumeMount::default()
    };
    let BrokerResources { cpu, cpu_limit, ephemeral_storage } = special.broker.clone();
    Container {
        name: "broker".into(),
        image: Some(broker.image.into()),
        image_pull_policy: broker.pull_policy.map(Into::into),
        env: Some(vec![
            set("SIMCTL_BROKER_LISTEN", format!("[::]:{BROKER_PORT}")),
            set("SIMCTL_BROKER_METRICS", format!("[::]:{BROKER_HTTP_PORT}")),
            set(MEMORY_VARIABLE, format!("{}MiB", broker.memory >> 20)),
            set("SIMCTL_BROKER_DATA", DATA_PATH.into()),
            set("SIMCTL_BROKER_USERS", format!("{USERS_FOLDER}/{USERS_KEY}")),
            set("SIMCTL_BROKER_ANONYMOUS", format!("{ACCESS_FOLDER}/{ANONYMOUS_KEY}")),
        ]),
        volume_mounts: Some(vec![
            mount(DATA, DATA_PATH, None),
            mount(USERS, USERS_FOLDER, Some(true)),
            mount(ACCESS, ACCESS_FOLDER, Some(true)),
        ]),
        ports: Some(vec![port(MQTT, BROKER_PORT), port(PORT_NAME, BROKER_HTTP_PORT)]),
        readiness_probe: Some(Probe { period_seconds: Some(2), failure_threshold: Some(2), ..probe("/readyz") }),
        liveness_probe: Some(Probe { period_seconds: Some(10), failure_threshold: Some(6), ..probe("/healthz") }),
        resources: Some(requirements(
            cpu.unwrap_or_else(|| CPU.into()),
            cpu_limit,
            memory_text(broker.memory + PROCESS_BYTES),
            ephemeral_storage,
        )),
        security_context: Some(container_security()),
        termination_message_policy: Some(LAST_LINES.into()),
        ..Container::default()
    }
}
