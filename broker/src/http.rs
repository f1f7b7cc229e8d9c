//! Metrics and health over HTTP, for Prometheus and for probes.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// `/metrics`, `/healthz` (the process answers) and `/readyz` (clients may come: until `stop` is
/// cancelled).
pub fn endpoints(metrics: Arc<Metrics>, stop: CancellationToken) -> Router {
    Router::new()
        .route("/metrics", get(exposition).with_state(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(stop))
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.encode() {
        Ok(text) => {
            let format = (header::CONTENT_TYPE, prometheus::TEXT_FORMAT);
            ([format], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(stop): State<CancellationToken>) -> (StatusCode, &'static str) {
    if stop.is_cancelled() { (StatusCode::SERVICE_UNAVAILABLE, "stopping\n") } else { (StatusCode::OK, "ready\n") }
}
