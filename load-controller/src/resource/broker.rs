//! The broker of a fleet that names none: one pod of our own broker and its Service.
//!
//! It keeps nothing on disk, so that it needs no volume; who needs sessions that outlive it brings a broker.

use fleet_contract::{broker_url::BrokerUrl, fleet::PodSpec as Special};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{
            Container, ContainerPort, EnvVar, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, Service,
            ServicePort, ServiceSpec,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{
    Owner,
    names::{self, BROKER_HTTP_PORT, BROKER_PORT, Component},
    pod::{container_security, node_selector, pod_security, probe, pull_secrets, tolerations},
    service::PORT_NAME,
    size::memory_text,
    stateful_set::spread,
};

/// What a device takes of the broker's memory, and the least that a broker gets. In bytes.
const DEVICE_BYTES: u64 = 128 << 10;
const MEMORY_MIN: u64 = 256 << 20;

/// What the process needs beside the memory from which its limits follow.
const PROCESS_BYTES: u64 = 64 << 20;

const MEMORY_VARIABLE: &str = "SIMCTL_BROKER_MEMORY";
const MQTT: &str = "mqtt";

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
    Some(text.strip_suffix("MiB")?.parse::<u64>().ok()? << 20)
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
pub fn build(
    owner: &Owner,
    special: &Special,
    image: &str,
    pull_policy: Option<&str>,
    memory_bytes: u64,
) -> StatefulSet {
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(names::labels(&owner.name, Component::Broker)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![container(image, pull_policy, memory_bytes)],
            security_context: Some(pod_security(Vec::new())),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(10),
            image_pull_secrets: pull_secrets(special),
            node_selector: node_selector(special),
            tolerations: Some(tolerations(special)),
            ..PodSpec::default()
        }),
    };
    spread(owner, names::broker(&owner.name), Component::Broker, 1, template)
}

fn container(image: &str, pull_policy: Option<&str>, memory_bytes: u64) -> Container {
    let set = |name: &str, value: String| EnvVar { name: name.into(), value: Some(value), ..EnvVar::default() };
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.into()),
        container_port: number.into(),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let memory = Quantity(memory_text(memory_bytes + PROCESS_BYTES));
    Container {
        name: "broker".into(),
        image: Some(image.into()),
        image_pull_policy: pull_policy.map(Into::into),
        env: Some(vec![
            set("SIMCTL_BROKER_LISTEN", format!("[::]:{BROKER_PORT}")),
            set("SIMCTL_BROKER_METRICS", format!("[::]:{BROKER_HTTP_PORT}")),
            set(MEMORY_VARIABLE, format!("{}MiB", memory_bytes >> 20)),
        ]),
        ports: Some(vec![port(MQTT, BROKER_PORT), port(PORT_NAME, BROKER_HTTP_PORT)]),
        readiness_probe: Some(Probe { period_seconds: Some(2), failure_threshold: Some(2), ..probe("/readyz") }),
        liveness_probe: Some(Probe { period_seconds: Some(10), failure_threshold: Some(6), ..probe("/healthz") }),
        resources: Some(ResourceRequirements {
            requests: Some([("cpu".to_owned(), Quantity("100m".into())), ("memory".to_owned(), memory.clone())].into()),
            limits: Some([("memory".to_owned(), memory)].into()),
            ..ResourceRequirements::default()
        }),
        security_context: Some(container_security()),
        ..Container::default()
    }
}
