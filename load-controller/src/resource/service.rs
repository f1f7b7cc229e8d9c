//! The headless Service of the workers: a name in DNS for each pod, ready or not.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Owner,
    names::{self, Component, WORKER_PORT},
};

/// The name of the port in Services and containers.
pub const PORT_NAME: &str = "http";

/// The Service of the workers of a fleet.
pub fn build(owner: &Owner) -> Service {
    let port = ServicePort {
        name: Some(PORT_NAME.into()),
        port: WORKER_PORT.into(),
        target_port: Some(IntOrString::String(PORT_NAME.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    };
    Service {
        metadata: owner.metadata(names::workers(&owner.name), Component::Worker),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            // A worker that is connecting its devices is scraped like any other.
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(&owner.name, Component::Worker)),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
