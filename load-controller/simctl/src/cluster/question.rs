//! The controller's API, reached through the API server's service proxy: no port of the cluster need be open.
//!
//! The API server passes the request on to the Service `load-controller`, which only the leader stands behind.

use fleet_contract::worker::DeviceStatus;
use hyper::{Request, StatusCode};
use k8s_openapi::api::core::v1::Service;
use kube::{ResourceExt as _, api::ListParams, client::Body, core::Status};
use load_controller::{report::Report, resource::names::CONTROLLER};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::client::{Cluster, ClusterError};

/// The load controller of a cluster.
pub(crate) struct Controller<'a> {
    cluster: &'a Cluster,
    namespace: String,
}

/// What is shown of a pod of a fleet, as the controller knows it.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodFigures {
    /// Its name.
    pub(crate) pod: String,
    /// Its number among its fellows.
    pub(crate) ordinal: u32,
    /// The index of its first device.
    pub(crate) first: u32,
    /// Devices that it should have connected.
    pub(crate) desired: u32,
    /// Devices that it has connected.
    pub(crate) connected: u32,
    /// Messages sent a second.
    pub(crate) messages_per_second: f64,
    /// CPU, in cores.
    pub(crate) cpu_cores: f64,
    /// Memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// Whether it answers the controller.
    pub(crate) answers: bool,
    /// The node that it runs on.
    pub(crate) node: Option<String>,
}

/// Why the controller gives no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControllerError {
    /// There is none.
    #[error("there is no load controller in the cluster; `simctl install` installs it")]
    Absent,
    /// It is there, and nobody stands behind its Service.
    #[error(
        "the load controller in namespace {namespace} does not answer: {why}; \
         `kubectl -n {namespace} get pods -l app.kubernetes.io/name=load-controller` shows how it fares"
    )]
    Silent { namespace: String, why: String },
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// An answer of another version, most likely.
    #[error("an answer of the load controller makes no sense here: {0}; is it of the same version as simctl?")]
    Answer(#[source] serde_json::Error),
    /// The API server itself says no, or cannot be reached.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// An error as the controller hands it over.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    error: String,
}

impl Cluster {
    /// The load controller, found by its label.
    pub(crate) async fn controller(&self) -> Result<Controller<'_>, ControllerError> {
        let label = format!("app.kubernetes.io/name={CONTROLLER}");
        let params = ListParams::default().labels(&label);
        let services = self.ask(self.everywhere::<Service>().list(&params)).await;
        let services = match services {
            Ok(list) => list.items,
            // Whoever may look into one namespace only, finds it only there.
            Err(error) if error.is_forbidden() => self.ask(self.api::<Service>().list(&params)).await?.items,
            Err(error) => return Err(error.into()),
        };
        let service =
            services.iter().find(|service| service.name_any() == CONTROLLER).ok_or(ControllerError::Absent)?;
        Ok(Controller { cluster: self, namespace: service.namespace().unwrap_or_default() })
    }
}

impl Controller<'_> {
    /// The figures of a fleet.
    pub(crate) async fn report(&self, fleet: &str) -> Result<Report, ControllerError> {
        self.get(self.cluster.namespace(), fleet, "report").await
    }

    /// The pods of a fleet in any namespace.
    pub(crate) async fn pods(&self, namespace: &str, fleet: &str) -> Result<Vec<PodFigures>, ControllerError> {
        self.get(namespace, fleet, "pods").await
    }

    /// A device, asked of the worker that runs it.
    pub(crate) async fn device(&self, fleet: &str, index: u32) -> Result<DeviceStatus, ControllerError> {
        self.get(self.cluster.namespace(), fleet, &format!("devices/{index}")).await
    }

    async fn get<T: DeserializeOwned>(&self, namespace: &str, fleet: &str, what: &str) -> Result<T, ControllerError> {
        let path = path(&self.namespace, namespace, fleet, what);
        let request = Request::get(path).body(Body::empty()).map_err(|error| {
            ControllerError::Cluster(ClusterError::Answer(format!("the address of fleet {fleet}: {error}")))
        })?;
        let client = self.cluster.client();
        // Not as an object of Kubernetes: whoever answers, says no in its own way.
        let answer = self.cluster.ask(async {
            let response = client.send(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect_bytes().await?))
        });
        let (status, bytes) = answer.await?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(ControllerError::Answer);
        }
        Err(refusal(&self.namespace, status, &bytes))
    }
}

/// Who said no: the controller in its own words, or the API server for want of somebody behind the Service.
fn refusal(namespace: &str, code: StatusCode, body: &[u8]) -> ControllerError {
    if let Ok(ErrorBody { error }) = serde_json::from_slice(body) {
        return ControllerError::Refused(error);
    }
    let silent = |why: String| ControllerError::Silent { namespace: namespace.to_owned(), why };
    match serde_json::from_slice::<Status>(body) {
        Ok(status) if code.is_server_error() => silent(status.message),
        Ok(status) => ControllerError::Cluster(ClusterError::Refused(Box::new(status))),
        Err(_) => silent(format!("{code}: {}", String::from_utf8_lossy(body).trim())),
    }
}

/// Where the API server answers for the controller.
fn path(controller: &str, namespace: &str, fleet: &str, what: &str) -> String {
    format!("/api/v1/namespaces/{controller}/services/{CONTROLLER}:http/proxy/v1/fleets/{namespace}/{fleet}/{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_has_not_answered_is_read_too() {
        let text = r#"[{"pod": "a-0", "ordinal": 0, "first": 0, "desired": 9, "connected": 0, "messagesPerSecond": 0.0,
            "cpuCores": 0.0, "memoryBytes": 0, "planVersion": null, "epoch": null, "answers": false, "node": null}]"#;
        let pods: Vec<PodFigures> = serde_json::from_str(text).unwrap();
        assert_eq!((pods[0].desired, pods[0].answers, &pods[0].node), (9, false, &None));
    }

    #[track_caller]
    fn check(code: u16, body: &str, expected: &str) {
        let refusal = refusal("simctl-system", StatusCode::from_u16(code).unwrap(), body.as_bytes()).to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }

    #[test]
    fn who_says_no_is_heard() {
        check(404, r#"{"error": "no pod runs device 3000"}"#, "no pod runs device 3000");
        check(
            503,
            r#"{"kind": "Status", "code": 503, "message": "no endpoints available for service"}"#,
            "in namespace simctl-system does not answer: no endpoints available for service; `kubectl",
        );
        check(403, r#"{"kind": "Status", "code": 403, "message": "services is forbidden"}"#, "services is forbidden");
        check(502, "bad gateway", "does not answer: 502 Bad Gateway: bad gateway");
    }

    #[test]
    fn the_controller_is_asked_through_the_api_server() {
        assert_eq!(
            path("simctl", "load", "robotaxis", "devices/42"),
            "/api/v1/namespaces/simctl/services/load-controller:http/proxy/v1/fleets/load/robotaxis/devices/42"
        );
    }
}
