//! HTTP/1 over TCP: how the controller speaks to workers, with a token, a deadline, and so many at a time.

use std::{io::Read as _, net::SocketAddr, sync::Arc, time::Duration};

use flate2::read::GzDecoder;
use fleet_contract::{
    format::{self, Unreadable},
    stats::WorkerStats,
    worker::DeviceStatus,
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{net::TcpStream, sync::Semaphore};

/// How many conversations there are at a time; the others wait for their turn.
const CONVERSATIONS_MAX: usize = 64;

/// How long a conversation may take, from the connect to the last byte.
const DEADLINE: Duration = Duration::from_secs(2);

/// More than any answer of a worker has.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Speaks to workers; clones share the bound.
#[derive(Debug, Clone)]
pub struct Client {
    turns: Arc<Semaphore>,
}

/// A worker, and what it wants to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Where its API listens.
    pub socket: SocketAddr,
    /// The token of its fleet.
    pub token: Arc<str>,
}

impl std::fmt::Debug for Address {
    /// A secret is never shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.socket)
    }
}

/// Why there is no answer, or none that was hoped for; the variant is the metric's label.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CallError {
    /// Nobody listens there.
    #[error("nobody listens at {socket}: {source}")]
    Connect {
        /// Where.
        socket: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the conversation broke off: {0}")]
    Http(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer within {DEADLINE:?}")]
    Timeout,
    /// The worker says no, and why.
    #[error("{message}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its reason.
        message: String,
    },
    /// The answer cannot be read.
    #[error("its answer cannot be read: {0}")]
    Unreadable(#[from] Unreadable),
    /// The answer is too long, or of another version.
    #[error("an answer that makes no sense here ({0}); do worker and controller have the same version?")]
    Answer(String),
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

impl Default for Client {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(CONVERSATIONS_MAX)) }
    }
}

impl Client {
    /// What the worker has measured.
    pub async fn stats(&self, worker: &Address) -> Result<WorkerStats, CallError> {
        parse(&self.call(worker, Method::GET, "/v1/stats", Bytes::new()).await?)
    }

    /// Gives the worker a plan, already written as JSON.
    pub async fn put_plan(&self, worker: &Address, plan: Bytes) -> Result<(), CallError> {
        self.call(worker, Method::PUT, "/v1/plan", plan).await.map(drop)
    }

    /// What the worker knows of a device.
    pub async fn device(&self, worker: &Address, index: u32) -> Result<DeviceStatus, CallError> {
        parse(&self.call(worker, Method::GET, &format!("/v1/devices/{index}"), Bytes::new()).await?)
    }

    async fn call(&self, worker: &Address, method: Method, path: &str, body: Bytes) -> Result<Bytes, CallError> {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        tokio::time::timeout(DEADLINE, exchange(worker, method, path, body)).await.unwrap_or(Err(CallError::Timeout))
    }
}

async fn exchange(worker: &Address, method: Method, path: &str, body: Bytes) -> Result<Bytes, CallError> {
    let socket = worker.socket;
    let stream = TcpStream::connect(socket).await.map_err(|source| CallError::Connect { socket, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, socket.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT_ENCODING, "gzip")
        .header(AUTHORIZATION, format!("Bearer {}", worker.token))
        .body(Full::new(body))
        .map_err(|error| CallError::Answer(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let is_compressed = response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| CallError::Answer(error.to_string()))?.to_bytes();
        Ok::<_, CallError>((status, if is_compressed { expand(&bytes)? } else { bytes }))
    };
    // The connection lives as long as its one exchange, so it needs no task of its own.
    tokio::pin!(connection, answer);
    let (status, bytes) = tokio::select! {
        answered = &mut answer => answered?,
        ended = &mut connection => { ended?; answer.await? }
    };
    if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
}

/// What was compressed, up to [`ANSWER_BYTES_MAX`].
fn expand(bytes: &Bytes) -> Result<Bytes, CallError> {
    let mut expanded = Vec::new();
    let most = ANSWER_BYTES_MAX as u64 + 1;
    let read = GzDecoder::new(&bytes[..]).take(most).read_to_end(&mut expanded);
    read.map_err(|error| CallError::Answer(error.to_string()))?;
    if expanded.len() > ANSWER_BYTES_MAX {
        return Err(CallError::Answer(format!("more than {ANSWER_BYTES_MAX} bytes")));
    }
    Ok(expanded.into())
}

fn refusal(status: StatusCode, bytes: &Bytes) -> CallError {
    let message = serde_json::from_slice::<ErrorBody>(bytes).map_or_else(|_| status.to_string(), |body| body.error);
    CallError::Refused { status, message }
}

fn parse<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, CallError> {
    Ok(format::read(bytes)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use axum::{Json, Router, http::HeaderMap, routing::get};
    use serde_json::json;
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    async fn worker(router: Router) -> (Address, JoinSet<std::io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(axum::serve(listener, router).into_future());
        (Address { socket, token: "open sesame".into() }, tasks)
    }

    #[tokio::test]
    async fn the_token_is_shown_and_a_refusal_is_told() {
        let answer = |headers: HeaderMap| async move {
            let offered = headers[AUTHORIZATION].to_str().unwrap().to_owned();
            (StatusCode::UNAUTHORIZED, Json(json!({"error": offered})))
        };
        let (address, _tasks) = worker(Router::new().route("/v1/stats", get(answer))).await;
        let error = Client::default().stats(&address).await.unwrap_err();
        assert_eq!(error.to_string(), "Bearer open sesame");
        assert_eq!(<&str>::from(&error), "refused");
        assert!(!format!("{address:?}").contains("sesame"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_not_answer_is_given_up() {
        let silent = || async { std::future::pending::<&'static str>().await };
        let (address, _tasks) = worker(Router::new().route("/v1/stats", get(silent))).await;
        let error = Client::default().stats(&address).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout), "{error}");
    }

    #[tokio::test]
    async fn a_compressed_answer_is_expanded_and_one_without_end_refused() {
        let compressed = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            ([(CONTENT_ENCODING, "gzip")], encoder.finish().unwrap())
        };
        let small = compressed(br#"{"format": 9}"#);
        let (address, _tasks) = worker(Router::new().route("/v1/stats", get(move || async move { small }))).await;
        let error = Client::default().stats(&address).await.unwrap_err();
        assert!(matches!(error, CallError::Unreadable(_)), "{error}");
        let large = compressed(&vec![b' '; ANSWER_BYTES_MAX + 1]);
        let (address, _tasks) = worker(Router::new().route("/v1/stats", get(move || async move { large }))).await;
        let error = Client::default().stats(&address).await.unwrap_err().to_string();
        assert!(error.contains("more than 16777216 bytes"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_of_another_release_says_so() {
        for (answer, expected) in [("{}", "missing field"), (r#"{"format": 9}"#, "which a newer release wrote")] {
            let (address, _tasks) = worker(Router::new().route("/v1/stats", get(move || async move { answer }))).await;
            let error = Client::default().stats(&address).await.unwrap_err();
            assert!(matches!(error, CallError::Unreadable(_)) && error.to_string().contains(expected), "{error}");
        }
    }
}
