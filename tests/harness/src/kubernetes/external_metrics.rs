//! An API of external metrics, such as an adapter of Prometheus is: what autoscalers of a control plane look at.
//!
//! The API server asks it over HTTPS as an aggregated API. It knows one metric a namespace, whatever its name, and its
//! value is what the test says. It listens in the control plane's network and ends with the process.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};

use super::{
    PATIENCE,
    control_plane::{ADDRESS, ControlPlane},
};

const GROUP: &str = "external.metrics.k8s.io";
const VERSION: &str = "v1beta1";

/// The Service that the API server takes it for.
const SERVICE: &str = "external-metrics";

/// How long a client may take for its question.
const QUESTION: Duration = Duration::from_secs(10);

/// The values, by namespace.
type Values = Arc<Mutex<HashMap<String, u64>>>;

/// The API, which goes on as long as the process.
pub struct ExternalMetrics {
    values: Values,
}

impl ExternalMetrics {
    /// Starts it in the control plane's network, and awaits that the API server serves it.
    ///
    /// # Errors
    /// When it cannot listen there, or the API server does not take it.
    pub fn start(plane: &ControlPlane) -> Result<ExternalMetrics> {
        let values = Values::default();
        let listener = plane.network().listen(SocketAddr::new(ADDRESS.parse()?, 0))?;
        let port = listener.local_addr()?.port();
        let config = Arc::new(tls(plane)?);
        let asked = Arc::clone(&values);
        thread::Builder::new().name(SERVICE.into()).spawn(move || serve(&listener, &config, &asked))?;
        plane.client().apply(&objects(port, plane.authority().certificate()))?;
        let available = "{.status.conditions[?(@.type==\"Available\")].status}";
        let service = format!("{VERSION}.{GROUP}");
        plane.client().wait_for(&["apiservice", &service], available, PATIENCE, |status| status == "True")?;
        Ok(ExternalMetrics { values })
    }

    /// Says what the metric of a namespace is from now on.
    pub fn set(&self, namespace: &str, value: u64) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned(), value);
    }
}

fn tls(plane: &ControlPlane) -> Result<ServerConfig> {
    let identity = plane.authority().server(SERVICE, &[&format!("{SERVICE}.default.svc")])?;
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate().as_bytes()).context("the certificate")?];
    let key = PrivateKeyDer::from_pem_slice(identity.key().as_bytes()).context("the key")?;
    let config =
        ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()?;
    Ok(config.with_no_client_auth().with_single_cert(chain, key)?)
}

/// A Service that leads to a process that is in no pod, and what makes the API server ask it.
fn objects(port: u16, authority: &str) -> String {
    let trusted = BASE64_STANDARD.encode(authority);
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {SERVICE}, namespace: default}}
spec: {{ports: [{{name: https, port: 443, targetPort: {port}}}]}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: {SERVICE}, namespace: default}}
subsets: [{{addresses: [{{ip: {ADDRESS}}}], ports: [{{name: https, port: {port}}}]}}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: {VERSION}.{GROUP}}}
spec:
  group: {GROUP}
  version: {VERSION}
  groupPriorityMinimum: 100
  versionPriority: 100
  caBundle: {trusted}
  service: {{name: {SERVICE}, namespace: default, port: 443}}
"
    )
}

/// A thread for each connection: there are few, the API server's own.
fn serve(listener: &TcpListener, config: &Arc<ServerConfig>, values: &Values) {
    for stream in listener.incoming().flatten() {
        let (config, values) = (Arc::clone(config), Arc::clone(values));
        // Whoever breaks off, as a probe of the port does, misses the answer and nothing else.
        thread::spawn(move || drop(answer(stream, config, &values)));
    }
}

/// Answers one request of HTTP/1.1 and closes the connection.
fn answer(stream: TcpStream, config: Arc<ServerConfig>, values: &Values) -> Result<()> {
    stream.set_read_timeout(Some(QUESTION))?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
    let mut question = String::new();
    stream.read_line(&mut question)?;
    let mut header = String::new();
    while stream.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = question.split_whitespace().nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let body = body(path, values);
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_else(|| json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}));
    let (body, mut stream) = (body.to_string(), stream.into_inner());
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len())?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

fn body(path: &str, values: &Values) -> Option<Value> {
    let version = format!("{GROUP}/{VERSION}");
    let below = path.strip_prefix(&format!("/apis/{version}"))?;
    let Some(named) = below.strip_prefix("/namespaces/") else {
        return Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [
            {"name": "load", "namespaced": true, "kind": "ExternalMetricValueList", "verbs": ["get"]},
        ]}));
    };
    let (namespace, metric) = named.split_once('/')?;
    let value = *values.lock().unwrap_or_else(PoisonError::into_inner).get(namespace)?;
    Some(json!({"kind": "ExternalMetricValueList", "apiVersion": version, "metadata": {}, "items": [
        {"metricName": metric, "metricLabels": {}, "timestamp": Timestamp::now(), "value": value.to_string()},
    ]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_what_was_said_last() {
        let values = Values::default();
        values.lock().unwrap().insert("load".into(), 500);
        let found = body("/apis/external.metrics.k8s.io/v1beta1/namespaces/load/passengers", &values).unwrap();
        assert_eq!(
            (&found["items"][0]["metricName"], &found["items"][0]["value"]),
            (&"passengers".into(), &"500".into())
        );
        assert!(body("/apis/external.metrics.k8s.io/v1beta1/namespaces/other/passengers", &values).is_none());
        assert!(body("/apis/external.metrics.k8s.io/v1beta1", &values).is_some());
    }
}
