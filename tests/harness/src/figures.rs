//! The figures of a fleet in a cluster, asked of the load controller by a FleetQuery.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{eventually, kubernetes::Namespace};

/// Longer than a controller needs that has just begun to lead.
const PATIENCE: Duration = Duration::from_secs(30);

/// Distinguishes the queries of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A FleetQuery as a document.
pub fn query(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "simctl.io/v1alpha1", "kind": "FleetQuery", "metadata": {"name": name}, "spec": spec})
}

/// The answer to a question such as `{"fleet": "f", "what": "pods"}`; the query is deleted behind it.
///
/// # Errors
/// When the API server refuses the query, or the controller gives no answer.
pub fn ask(namespace: &Namespace, spec: &Value) -> Result<Value> {
    let name = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    namespace.apply(&query(&name, spec).to_string())?;
    let status = answered(namespace, &name);
    namespace.kubectl(["delete", "fleetquery", &name, "--wait=false"])?;
    let status = status?;
    ensure!(status["error"].is_null(), "{}", status["error"]);
    let text = status["answer"].as_str().with_context(|| format!("no answer in {status}"))?;
    Ok(serde_json::from_str(text)?)
}

/// Awaits the answer to the first renewal of a query; its status.
///
/// # Errors
/// When there is none in half a minute.
pub fn answered(namespace: &Namespace, name: &str) -> Result<Value> {
    eventually(&format!("FleetQuery {name} is answered"), PATIENCE, || {
        let status = namespace.get(["fleetquery", name])?["status"].take();
        Ok(status["observedRenewal"].is_i64().then_some(status))
    })
}
