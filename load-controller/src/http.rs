//! The controller over HTTP: metrics and health, for everybody who reaches it.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /healthz`, `GET /readyz` | whether the process lives |
//!
//! Nothing can be changed here, and nothing is told of a fleet but its counts: figures are the business of
//! [`crate::controller::query`], where the API server decides who may read them.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::controller::metrics::{self, Metrics};

/// All routes.
pub fn router(metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(exposition))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .with_state(metrics)
}

async fn exposition(State(metrics): State<Metrics>) -> Response {
    match metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn get_text(path: &str) -> (StatusCode, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(axum::serve(listener, router(Metrics::default())).into_future());
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
    async fn metrics_and_health_are_for_everybody() {
        assert_eq!(get_text("/healthz").await.0, StatusCode::OK);
        assert_eq!(get_text("/readyz").await.0, StatusCode::OK);
        assert!(get_text("/metrics").await.1.contains("simctl_controller_leader 0"));
    }

    #[tokio::test]
    async fn figures_are_for_nobody() {
        for what in ["report", "pods", "plan", "devices/0"] {
            assert_eq!(get_text(&format!("/v1/fleets/load/demo/{what}")).await.0, StatusCode::NOT_FOUND, "{what}");
        }
    }
}
