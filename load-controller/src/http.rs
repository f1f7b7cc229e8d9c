//! The controller over HTTP: metrics and health for everybody, and what fleets measure for whoever reaches it.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/fleets/{namespace}/{name}/report` | the [`crate::report::Report`]; asking makes the fleet a watched one for 10 s |
//! | `GET /v1/fleets/{namespace}/{name}/pods` | a list of [`PodReport`] |
//! | `GET /v1/fleets/{namespace}/{name}/plan` | the [`Plan`] |
//! | `GET /v1/fleets/{namespace}/{name}/devices/{index}` | the [`DeviceStatus`], asked of the worker that runs it |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /healthz`, `GET /readyz` | whether the process lives |
//!
//! Nothing can be changed here. Only the controller that leads answers under `/v1`; its Service leads there.
//! Errors are `{"error": "expected …, found …; do …"}`.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use fleet_contract::{plan::Plan, worker::DeviceStatus};
use serde_json::json;
use tokio::sync::{oneshot, watch};

use crate::{
    controller::{
        Fleets, PodReport, Request,
        metrics::{self, Metrics},
    },
    report::Report,
    workers::{self, CallError},
};

/// What answers are made from.
#[derive(Clone)]
pub struct Sources {
    /// The fleets, while this controller leads.
    pub lead: watch::Receiver<Option<Fleets>>,
    /// The instruments.
    pub metrics: Metrics,
    /// How workers are spoken to.
    pub workers: workers::Client,
}

/// An answer that is not the hoped-for one.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

/// A fleet in a path.
type Named = Path<(String, String)>;

/// All routes.
pub fn router(sources: Sources) -> Router {
    Router::new()
        .route("/v1/fleets/{namespace}/{name}/report", get(report))
        .route("/v1/fleets/{namespace}/{name}/pods", get(pods))
        .route("/v1/fleets/{namespace}/{name}/plan", get(plan))
        .route("/v1/fleets/{namespace}/{name}/devices/{index}", get(device))
        .route("/metrics", get(exposition))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .fallback(|| async { Refusal(StatusCode::NOT_FOUND, "expected a path of the API".into()) })
        .with_state(sources)
}

async fn report(State(sources): State<Sources>, Path((namespace, name)): Named) -> Result<Json<Box<Report>>, Refusal> {
    let report = ask(&sources, &namespace, &name, Request::Report).await?;
    report.map(Json).ok_or_else(|| not_started(&namespace, &name))
}

async fn pods(State(sources): State<Sources>, Path((namespace, name)): Named) -> Result<Json<Vec<PodReport>>, Refusal> {
    ask(&sources, &namespace, &name, Request::Pods).await.map(Json)
}

async fn plan(State(sources): State<Sources>, Path((namespace, name)): Named) -> Result<Json<Plan>, Refusal> {
    let plan = ask(&sources, &namespace, &name, Request::Plan).await?;
    plan.map(Json).ok_or_else(|| not_started(&namespace, &name))
}

async fn device(
    State(sources): State<Sources>,
    Path((namespace, name, index)): Path<(String, String, u32)>,
) -> Result<Json<DeviceStatus>, Refusal> {
    let worker = ask(&sources, &namespace, &name, |answer| Request::Owner(index, answer)).await?;
    let worker = worker.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("no pod runs device {index}")))?;
    sources.workers.device(&worker, index).await.map(Json).map_err(|error| match error {
        CallError::Refused { status, message } => Refusal(status, message),
        other => Refusal(StatusCode::BAD_GATEWAY, format!("the worker of device {index} does not answer: {other}")),
    })
}

async fn exposition(State(sources): State<Sources>) -> Result<Response, Refusal> {
    let text = sources.metrics.render();
    let text = text.map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// Asks a fleet, if this controller leads and there is such a fleet.
async fn ask<T>(
    sources: &Sources,
    namespace: &str,
    name: &str,
    make: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, Refusal> {
    let fleets = sources.lead.borrow().clone();
    let fleets =
        fleets.ok_or_else(|| Refusal(StatusCode::SERVICE_UNAVAILABLE, "this controller does not lead".into()))?;
    let answer = fleets.ask(namespace, name, make).await;
    answer
        .ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("expected a fleet, found no `{name}` in `{namespace}`")))
}

fn not_started(namespace: &str, name: &str) -> Refusal {
    let message = format!("the fleet `{name}` in `{namespace}` has no plan yet; see its condition Ready");
    Refusal(StatusCode::SERVICE_UNAVAILABLE, message)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn get_text(path: &str) -> (StatusCode, String) {
        let (_, lead) = watch::channel(None);
        let sources = Sources { lead, metrics: Metrics::default(), workers: workers::Client::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(axum::serve(listener, router(sources)).into_future());
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tasks.spawn(async { connection.await.map_err(std::io::Error::other) });
        let request =
            hyper::Request::get(path).header("host", "x").body(http_body_util::Empty::<axum::body::Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn one_that_does_not_lead_is_healthy_and_says_so() {
        assert_eq!(get_text("/healthz").await.0, StatusCode::OK);
        assert!(get_text("/metrics").await.1.contains("simctl_controller_leader 0"));
        let (status, text) = get_text("/v1/fleets/load/demo/report").await;
        assert_eq!(
            (status, text.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"this controller does not lead"}"#)
        );
        assert_eq!(get_text("/v1/nothing").await.0, StatusCode::NOT_FOUND);
    }
}
