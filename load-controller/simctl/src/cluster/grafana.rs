//! The Grafana of a cluster, and a way to it: connections to a pod of it, forwarded by the API server.

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Api, ResourceExt as _, api::ListParams, api::Portforwarder};
use tokio::io::DuplexStream;

use super::client::{Cluster, ClusterError};
use crate::{exit::Failure, installation::STACK};

/// The label that the charts of Grafana and the Grafana Operator give its Service.
const LABEL: &str = "app.kubernetes.io/name=grafana";

/// A Grafana.
pub(crate) struct Grafana {
    cluster: Cluster,
    service: Service,
}

impl Grafana {
    /// The Service of that name and namespace, or the only one in the namespaces that the person may see.
    pub(crate) async fn find(cluster: &Cluster, namespace: Option<&str>, name: Option<&str>) -> anyhow::Result<Self> {
        let within = cluster.within(namespace.unwrap_or(cluster.namespace()));
        let service = match name {
            Some(name) => cluster.ask(within.api::<Service>().get(name)).await?,
            None => only(services(&within, namespace.is_none()).await?, namespace)?,
        };
        Ok(Self { cluster: cluster.within(service.namespace().unwrap_or_default()), service })
    }

    /// `service/grafana in namespace monitoring`.
    pub(crate) fn title(&self) -> String {
        format!("service/{} in namespace {}", self.service.name_any(), self.cluster.namespace())
    }

    /// A new connection to a pod that is ready; it holds as long as both live.
    pub(crate) async fn connect(&self) -> anyhow::Result<(Portforwarder, DuplexStream)> {
        let spec = self.service.spec.as_ref();
        let selector = spec.and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
        let Some(selector) = selector else {
            return Err(
                Failure::refused(format!("{} selects no pods, so that none can be reached", self.title())).into()
            );
        };
        let labels: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let pods: Api<Pod> = self.cluster.api();
        let found = self.cluster.ask(pods.list(&ListParams::default().labels(&labels.join(",")))).await?.items;
        let Some(pod) = found.iter().find(|pod| is_ready(pod)) else {
            return Err(Failure::refused(format!("{} has no pod that is ready", self.title())).into());
        };
        let Some(port) = port(&self.service, pod) else {
            return Err(Failure::refused(format!("{} names no port of pod {}", self.title(), pod.name_any())).into());
        };
        let mut forwarder = self.cluster.ask(pods.portforward(&pod.name_any(), &[port])).await?;
        let stream =
            forwarder.take_stream(port).ok_or_else(|| ClusterError::Answer(format!("no stream to port {port}")))?;
        Ok((forwarder, stream))
    }
}

/// The Services of Grafana in all namespaces, or in one where the person may not see more.
async fn services(cluster: &Cluster, is_everywhere: bool) -> Result<Vec<Service>, ClusterError> {
    let params = ListParams::default().labels(LABEL);
    if is_everywhere {
        match cluster.ask(cluster.everywhere::<Service>().list(&params)).await {
            Err(error) if error.is_forbidden() => {}
            found => return Ok(found?.items),
        }
    }
    Ok(cluster.ask(cluster.api::<Service>().list(&params)).await?.items)
}

fn only(mut services: Vec<Service>, namespace: Option<&str>) -> Result<Service, Failure> {
    let place = namespace.map(|name| format!(" in namespace {name}")).unwrap_or_default();
    match (services.pop(), services.as_slice()) {
        (Some(service), []) => Ok(service),
        (None, _) => Err(Failure::refused(format!(
            "no Service that you may see{place} has the label {LABEL}; one without it is chosen with --grafana-service \
             and --grafana-namespace, and `{STACK}` brings Grafana, then `simctl install --monitoring` what it shows"
        ))),
        (Some(last), others) => {
            let title = |it: &Service| format!("{}/{}", it.namespace().unwrap_or_default(), it.name_any());
            let all: Vec<_> = others.iter().chain([&last]).map(title).collect();
            Err(Failure::usage(format!(
                "expected one Grafana{place}, found {}; choose one with --grafana-namespace and --grafana-service",
                all.join(", ")
            )))
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
}

/// The port of the pod that the first port of the Service leads to.
fn port(service: &Service, pod: &Pod) -> Option<u16> {
    let port = service.spec.as_ref()?.ports.as_ref()?.first()?;
    let number = match &port.target_port {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = &pod.spec.as_ref()?.containers;
            let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
            ports.find(|port| port.name.as_ref() == Some(name))?.container_port
        }
        None => port.port,
    };
    number.try_into().ok()
}

#[cfg(test)]
mod tests {
    use load_controller::run::verdict::ExitCode;
    use serde_json::json;

    use super::*;

    fn service(name: &str, target: &serde_json::Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "monitoring"},
            "spec": {"ports": [{"port": 80, "targetPort": target}, {"port": 9094}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_port_is_that_of_the_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"name": "grafana", "containerPort": 3000}]}]},
        }))
        .unwrap();
        let port = |target| super::port(&service("grafana", &target), &pod);
        assert_eq!([port(json!("grafana")), port(json!(3001)), port(json!(null))], [Some(3000), Some(3001), Some(80)]);
        assert_eq!(port(json!("other")), None);
    }

    #[test]
    fn of_several_somebody_must_choose_and_without_one_it_says_how_it_comes() {
        let one = || service("grafana", &json!(3000));
        assert_eq!(only(vec![one()], None).unwrap().name_any(), "grafana");
        let several = only(vec![one(), service("other", &json!(3000))], None).unwrap_err();
        assert_eq!(several.code, ExitCode::Usage);
        assert!(several.to_string().contains("found monitoring/grafana, monitoring/other; choose"), "{several}");
        let none = only(vec![], Some("lab")).unwrap_err().to_string();
        assert!(none.contains("in namespace lab") && none.contains("helm install") && none.contains("--monitoring"));
    }

    #[test]
    fn a_pod_that_ends_is_not_ready() {
        let pod = |deleted: serde_json::Value| {
            let object = json!({
                "metadata": {"deletionTimestamp": deleted},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            });
            serde_json::from_value::<Pod>(object).unwrap()
        };
        assert!(is_ready(&pod(json!(null))) && !is_ready(&pod(json!("2026-01-01T00:00:00Z"))));
        assert!(!is_ready(&Pod::default()));
    }
}
