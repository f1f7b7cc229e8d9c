//! Each NetworkPolicy of a fleet: what may be reached, and nothing else. What may be left is not limited, because the
//! broker can be anywhere.

use fleet_contract::fleet::BrokerAccess;
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    Owner,
    names::{self, BROKER_HTTP_PORT, BROKER_PORT, Component, WORKER_PORT},
};

/// The policy of the workers: their API, whose `/v1` wants a token, and their metrics, which anybody may scrape.
pub fn build(owner: &Owner) -> NetworkPolicy {
    policy(owner, names::workers(&owner.name), Component::Worker, vec![open(WORKER_PORT)])
}

/// The policy of a broker of our own: its metrics, which anybody may scrape, and MQTT for pods of the fleet's namespace
/// or of the whole cluster.
pub fn broker(owner: &Owner, access: BrokerAccess) -> NetworkPolicy {
    let all_pods_here =
        NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
    let mqtt = NetworkPolicyIngressRule {
        from: match access {
            BrokerAccess::Namespace => Some(vec![all_pods_here]),
            BrokerAccess::Cluster => None,
        },
        ..open(BROKER_PORT)
    };
    policy(owner, names::broker(&owner.name), Component::Broker, vec![mqtt, open(BROKER_HTTP_PORT)])
}

/// A port that everybody may reach.
fn open(port: u16) -> NetworkPolicyIngressRule {
    let port = NetworkPolicyPort {
        port: Some(IntOrString::Int(port.into())),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicyIngressRule { ports: Some(vec![port]), ..NetworkPolicyIngressRule::default() }
}

fn policy(owner: &Owner, name: String, component: Component, ingress: Vec<NetworkPolicyIngressRule>) -> NetworkPolicy {
    NetworkPolicy {
        metadata: owner.metadata(name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(names::selector(&owner.name, component)),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(ingress),
            ..NetworkPolicySpec::default()
        }),
    }
}
