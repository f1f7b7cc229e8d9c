//! HTTP/1 over TCP or a Unix socket, with a deadline, and so many conversations at a time.

use std::{io, io::Read as _, sync::Arc, time::Duration};

use flate2::read::GzDecoder;
use fleet_contract::{format, stats::WorkerStats};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::Semaphore,
};

use super::{Address, CallError, ErrorBody};

/// How many conversations there are at a time; the others wait for their turn.
const CONVERSATIONS_MAX: usize = 64;

/// How long a conversation with a pod may take, from the connect to the last byte.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long one on this machine may take: here the workers themselves may have taken all processors.
const LOCAL_DEADLINE: Duration = Duration::from_secs(5);

/// More than any answer has.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Speaks to processes of the project; clones share the bound.
#[derive(Debug, Clone)]
pub struct Client {
    turns: Arc<Semaphore>,
}

impl Default for Client {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(CONVERSATIONS_MAX)) }
    }
}

impl Client {
    /// What `path` shows.
    pub async fn get<T: DeserializeOwned>(&self, address: &Address, path: &str) -> Result<T, CallError> {
        parse(&self.call(address, Method::GET, path, Bytes::new()).await?)
    }

    /// The reading that `path` shows.
    pub async fn get_reading(&self, address: &Address, path: &str) -> Result<WorkerStats, CallError> {
        Ok(format::read_reading(&self.call(address, Method::GET, path, Bytes::new()).await?)?)
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
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let deadline = if matches!(address, Address::Tcp { .. }) { DEADLINE } else { LOCAL_DEADLINE };
        let exchange = connect_and_exchange(address, method, path, body);
        tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(CallError::Timeout(deadline)))
    }
}

/// What is to be sent, as JSON.
pub fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("what the project's processes tell each other is a value of JSON").into()
}

async fn connect_and_exchange(address: &Address, method: Method, path: &str, body: Bytes) -> Result<Bytes, CallError> {
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
    let failed = |source: io::Error| CallError::Connect { address: address.clone(), source };
    match address {
        Address::Tcp { socket, token } => {
            let request = request
                .header(HOST, socket.to_string())
                .header(ACCEPT_ENCODING, "gzip")
                .header(AUTHORIZATION, format!("Bearer {token}"));
            exchange(TcpStream::connect(socket).await.map_err(failed)?, request, body).await
        }
        Address::Unix(path) => {
            // Here compressing would cost more than it saves.
            let request = request.header(HOST, "localhost");
            exchange(UnixStream::connect(path).await.map_err(failed)?, request, body).await
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<Bytes, CallError> {
    let request = request.body(Full::new(body)).map_err(|error| CallError::Answer(error.to_string()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
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
