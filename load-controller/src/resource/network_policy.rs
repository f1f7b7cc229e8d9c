//! Each NetworkPolicy of a fleet: what may be reached, and nothing else. What may be left is not limited, because the
//! broker can be anywhere.

use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    Owner,
    names::{self, BROKER_HTTP_PORT, BROKER_PORT, Component, WORKER_PORT},
};

/// The policy of the workers: their API, whose `/v1` wants a token, and their metrics, which anybody may scrape.
pub fn build(owner: &Owner) -> NetworkPolicy {
    policy(owner, names::workers(&owner.name), Component::Worker, &[WORKER_PORT])
}

/// The policy of a broker of our own.
pub fn broker(owner: &Owner) -> NetworkPolicy {
    policy(owner, names::broker(&owner.name), Component::Broker, &[BROKER_PORT, BROKER_HTTP_PORT])
}

fn policy(owner: &Owner, name: String, component: Component, ports: &[u16]) -> NetworkPolicy {
    let port = |number: &u16| NetworkPolicyPort {
        port: Some(IntOrString::Int((*number).into())),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicy {
        metadata: owner.metadata(name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(names::selector(&owner.name, component)),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                ports: Some(ports.iter().map(port).collect()),
                ..NetworkPolicyIngressRule::default()
            }]),
            ..NetworkPolicySpec::default()
        }),
    }
}
