//! Nodes that KWOK plays: their pods get an address and become Ready, and nothing runs.
//!
//! KWOK ignores probes, answers no HTTP and runs no container: it serves to see what controllers and the scheduler do
//! with many pods, never traffic.

use anyhow::{Context, Result};

use super::{PATIENCE, control_plane::ControlPlane, kwok::Kwok};
use crate::{eventually, process::Process};

/// The nodes `fake-0`, `fake-1` and so on, Ready. Their label `type=kwok` and their taint `kwok.x-k8s.io/node=fake`
/// keep other pods away.
pub(super) fn start(plane: &ControlPlane, kwok: &Kwok, count: u32) -> Result<Process> {
    let arguments = [
        "--kubeconfig=admin.conf".to_owned(),
        format!("--config={}", kwok.stages().display()),
        "--manage-all-nodes=false".to_owned(),
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
        "--node-lease-duration-seconds=40".to_owned(),
        // Outside of what the controller manager gives to nodes, so that no fake pod has a real one's address.
        "--cidr=10.245.0.0/16".to_owned(),
        "--node-ip=10.245.255.1".to_owned(),
        "--server-address=127.0.0.1:10247".to_owned(),
    ];
    let kwok = plane.spawn("kwok", &kwok.program(), &arguments)?;
    let nodes: Vec<String> = (0..count).map(node).collect();
    plane.client().apply(&nodes.join("---\n"))?;
    let are_ready = || {
        kwok.ensure_running()?;
        let field = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        let states = plane.client().kubectl(["get", "nodes", "-l", "type=kwok", "-o", field])?;
        Ok((states.split_whitespace().filter(|state| *state == "True").count() == nodes.len()).then_some(()))
    };
    eventually("the fake nodes are Ready", PATIENCE, are_ready)
        .with_context(|| format!("the logs are in {}", plane.logs().display()))?;
    Ok(kwok)
}

fn node(number: u32) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Node\n\
         metadata:\n  \
           name: fake-{number}\n  \
           annotations: {{node.alpha.kubernetes.io/ttl: '0', kwok.x-k8s.io/node: fake}}\n  \
           labels: {{type: kwok, kubernetes.io/hostname: fake-{number}, kubernetes.io/os: linux, \
                     kubernetes.io/arch: amd64}}\n\
         spec: {{taints: [{{key: kwok.x-k8s.io/node, value: fake, effect: NoSchedule}}]}}\n\
         status:\n  \
           allocatable: {{cpu: '32', memory: 256Gi, pods: '1000'}}\n  \
           capacity: {{cpu: '32', memory: 256Gi, pods: '1000'}}\n"
    )
}
