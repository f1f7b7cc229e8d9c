//! HTTP/1 over TCP or a Unix socket, with a deadline, and so many conversations at a time.
//!
//! A pod's connection is kept for its next question where that follows soon, because a load test asks each pod every second; the
//! processes of one machine are asked over a new connection each time. No pod answers over the connection of another that had its
//! address: a connection ends with its pod.

use std::{io, io::Read as _, sync::Arc, time::Duration};

use anyhow::Chain;
use flate2::read::GzDecoder;
use fleet_contract::{format, stats::WorkerStats, time::Micros, worker_api::ErrorBody};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST},
    http::request,
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::UnixStream,
    sync::{Semaphore, SemaphorePermit},
};

use super::{Address, CallError, error::innermost};

/// How many conversations there are at a time; the others wait for their turn.
const CONVERSATIONS_MAX: usize = 64;

/// How long a conversation with a pod may take, from the connect to the last byte.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long one on this machine may take: here the workers themselves may have taken all processors.
const LOCAL_DEADLINE: Duration = Duration::from_secs(5);

/// How long a pod's connection waits for the next question.
pub const KEPT: Duration = Duration::from_secs(3);

/// More than any answer has.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Speaks to processes of the project; clones share the bound, and the connections to pods.
#[derive(Debug, Clone)]
pub struct Client {
    turns: Arc<Semaphore>,
    pods: legacy::Client<HttpConnector, Full<Bytes>>,
    /// Whether connections end with their answer.
    ends_each: bool,
}

impl Default for Client {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut pods = legacy::Client::builder(TokioExecutor::new());
        pods.pool_timer(TokioTimer::new()).pool_idle_timeout(KEPT).pool_max_idle_per_host(1);
        Self { turns: Arc::new(Semaphore::new(CONVERSATIONS_MAX)), pods: pods.build(connector), ends_each: false }
    }
}

impl Client {
    /// The same, for questions that nothing follows before [`KEPT`] is over.
    #[must_use]
    pub fn once(&self) -> Self {
        Self { ends_each: true, ..self.clone() }
    }

    /// What `path` shows.
    pub async fn get<T: DeserializeOwned>(&self, address: &Address, path: &str) -> Result<T, CallError> {
        parse(&self.call(address, Method::GET, path, Bytes::new()).await?)
    }

    /// The reading that `path` shows; that of a pod with the instants between which it was asked for.
    pub async fn get_reading(&self, address: &Address, path: &str) -> Result<WorkerStats, CallError> {
        let _turn = self.turn().await;
        let sent = wall_clock();
        let answer = self.ask(address, Method::GET, path, Bytes::new()).await?;
        // A process of this machine has the same clock.
        let asked = matches!(address, Address::Tcp { .. }).then(|| (sent, wall_clock()));
        Ok(WorkerStats { asked, ..format::read_reading(&answer)? })
    }

    /// Puts what is already written as JSON at `path`.
    pub async fn put(&self, address: &Address, path: &str, body: Bytes) -> Result<(), CallError> {
        self.call(address, Method::PUT, path, body).await.map(drop)
    }

    /// Changes what is at `path`; the answer is what it has become.
    pub async fn patch<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        address: &Address,
        path: &str,
        body: &B,
    ) -> Result<T, CallError> {
        parse(&self.call(address, Method::PATCH, path, json(body)).await?)
    }

    /// Whether `path` answers well.
    pub async fn ping(&self, address: &Address, path: &str) -> Result<(), CallError> {
        self.call(address, Method::GET, path, Bytes::new()).await.map(drop)
    }

    /// Asks for `path` to be done.
    pub async fn post(&self, address: &Address, path: &str) -> Result<(), CallError> {
        self.call(address, Method::POST, path, Bytes::new()).await.map(drop)
    }

    async fn call(&self, address: &Address, method: Method, path: &str, body: Bytes) -> Result<Bytes, CallError> {
        let _turn = self.turn().await;
        self.ask(address, method, path, body).await
    }

    async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("the semaphore is never closed")
    }

    async fn ask(&self, address: &Address, method: Method, path: &str, body: Bytes) -> Result<Bytes, CallError> {
        let deadline = if matches!(address, Address::Tcp { .. }) { DEADLINE } else { LOCAL_DEADLINE };
        let request = Request::builder().method(method).header(CONTENT_TYPE, "application/json");
        let request = if self.ends_each { request.header(CONNECTION, "close") } else { request };
        let exchange = async {
            match address {
                Address::Tcp { socket, token } => {
                    let request = request
                        .uri(format!("http://{socket}{path}"))
                        .header(ACCEPT_ENCODING, "gzip")
                        .header(AUTHORIZATION, format!("Bearer {token}"));
                    let response = self.pods.request(whole(request, body)?).await;
                    read(response.map_err(|error| failed(address, &error))?).await
                }
                Address::Unix(socket) => {
                    let stream = UnixStream::connect(socket).await;
                    let stream = stream.map_err(|source| CallError::Connect { address: address.clone(), source })?;
                    // Compressing would cost more here than it saves.
                    exchange(stream, whole(request.uri(path).header(HOST, "localhost"), body)?).await
                }
            }
        };
        tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(CallError::Timeout(deadline)))
    }
}

/// What is to be sent, as JSON.
pub fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("what the project's processes tell each other is a value of JSON").into()
}

/// The wall clock.
pub fn wall_clock() -> Micros {
    Micros(u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0))
}

fn whole(request: request::Builder, body: Bytes) -> Result<Request<Full<Bytes>>, CallError> {
    request.body(Full::new(body)).map_err(|error| CallError::Answer(error.to_string()))
}

/// Asks over a connection that ends with the answer, so that it needs no task of its own.
async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> Result<Bytes, CallError> {
    let broken = |error: hyper::Error| CallError::Http(innermost(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async { read(sender.send_request(request).await.map_err(broken)?).await };
    tokio::pin!(connection, answer);
    tokio::select! {
        answered = &mut answer => answered,
        ended = &mut connection => { ended.map_err(broken)?; answer.await }
    }
}

/// What a process answers, or why it refuses.
async fn read(response: Response<Incoming>) -> Result<Bytes, CallError> {
    let status = response.status();
    let is_compressed = response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = body.map_err(|error| CallError::Answer(error.to_string()))?.to_bytes();
    let bytes = if is_compressed { expand(&bytes)? } else { bytes };
    if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
}

/// Why a pod was not asked, or has not answered.
fn failed(address: &Address, error: &legacy::Error) -> CallError {
    let cause = Chain::new(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    match cause.filter(|_| error.is_connect()) {
        Some(cause) => {
            let source = cause.raw_os_error().map_or_else(|| cause.kind().into(), io::Error::from_raw_os_error);
            CallError::Connect { address: address.clone(), source }
        }
        None => CallError::Http(innermost(error)),
    }
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
    use std::{
        io::Write as _,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use axum::{Json, Router, http::HeaderMap, routing::get, serve::ListenerExt as _};
    use serde_json::json;
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    async fn worker(router: Router) -> (Address, JoinSet<std::io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(axum::serve(listener, router).into_future());
        (Address::Tcp { socket, token: "open sesame".into() }, tasks)
    }

    async fn stats(address: &Address) -> Result<WorkerStats, CallError> {
        Client::default().get_reading(address, "/v1/stats").await
    }

    #[tokio::test]
    async fn the_token_is_shown_and_a_refusal_is_told() {
        let answer = |headers: HeaderMap| async move {
            let offered = headers[AUTHORIZATION].to_str().unwrap().to_owned();
            (StatusCode::UNAUTHORIZED, Json(json!({"error": offered})))
        };
        let (address, _tasks) = worker(Router::new().route("/v1/stats", get(answer))).await;
        let error = stats(&address).await.unwrap_err();
        assert_eq!(error.to_string(), "Bearer open sesame");
        assert_eq!(<&str>::from(&error), "refused");
        assert!(!format!("{address:?}").contains("sesame"));
    }

    /// How many connections a worker accepts while it is asked so often, each time that long after the last answer.
    async fn connections(client: Client, times: usize, pause: Duration) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let listener = listener.tap_io(move |_| _ = counter.fetch_add(1, Relaxed));
        let mut tasks = JoinSet::new();
        tasks.spawn(axum::serve(listener, Router::new().route("/healthz", get(|| async { "ok" }))).into_future());
        let address = Address::Tcp { socket, token: "".into() };
        for time in 0..times {
            if time > 0 {
                tokio::time::sleep(pause).await;
            }
            client.ping(&address, "/healthz").await.unwrap();
        }
        accepted.load(Relaxed)
    }

    #[tokio::test]
    async fn a_pod_that_is_asked_often_keeps_its_connection() {
        assert_eq!(connections(Client::default(), 5, Duration::from_millis(20)).await, 1);
        assert_eq!(connections(Client::default(), 2, KEPT + Duration::from_millis(200)).await, 2);
        assert_eq!(connections(Client::default().once(), 5, Duration::from_millis(20)).await, 5);
    }

    #[tokio::test]
    async fn nobody_who_listens_is_told_as_such_also_where_somebody_did() {
        let (address, tasks) = worker(Router::new().route("/healthz", get(|| async { "ok" }))).await;
        let client = Client::default();
        client.ping(&address, "/healthz").await.unwrap();
        drop(tasks);
        let error = eventually_connect(&client, &address).await;
        assert!(error.to_string().contains("nobody listens at 127.0.0.1:"), "{error}");
    }

    /// The error once the old connection is known to have ended.
    async fn eventually_connect(client: &Client, address: &Address) -> CallError {
        loop {
            match client.ping(address, "/healthz").await.unwrap_err() {
                error @ CallError::Connect { .. } => return error,
                CallError::Http(_) => {}
                error => panic!("{error}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_not_answer_is_given_up() {
        let silent = || async { std::future::pending::<&'static str>().await };
        let (address, _tasks) = worker(Router::new().route("/v1/stats", get(silent))).await;
        let error = stats(&address).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout(DEADLINE)), "{error}");
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
        let error = stats(&address).await.unwrap_err();
        assert!(matches!(error, CallError::Unreadable(_)), "{error}");
        let large = compressed(&vec![b' '; ANSWER_BYTES_MAX + 1]);
        let (address, _tasks) = worker(Router::new().route("/v1/stats", get(move || async move { large }))).await;
        let error = stats(&address).await.unwrap_err().to_string();
        assert!(error.contains("more than 16777216 bytes"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_of_another_release_says_so() {
        for (answer, expected) in [("{}", "missing field"), (r#"{"format": 9}"#, "which a newer release wrote")] {
            let (address, _tasks) = worker(Router::new().route("/v1/stats", get(move || async move { answer }))).await;
            let error = stats(&address).await.unwrap_err();
            assert!(matches!(error, CallError::Unreadable(_)) && error.to_string().contains(expected), "{error}");
        }
    }
}
