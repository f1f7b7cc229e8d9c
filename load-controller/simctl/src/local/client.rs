//! HTTP over a Unix socket: how simctl speaks to its workers, and a second terminal to a run.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

/// One end of the conversation: a socket, and how long an answer may take.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
    timeout: Duration,
}

/// Why there is no answer, or none that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens.
    #[error("failed to connect to {socket}")]
    Connect {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the conversation broke off")]
    Http(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The other side says no, and why.
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    /// An answer of another version of simctl, most likely.
    #[error("an answer that makes no sense here; do both sides have the same version?")]
    Answer(#[source] serde_json::Error),
}

/// An error as both APIs hand it over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    /// What was expected, what was found, what to do.
    pub(crate) error: String,
}

impl Client {
    /// Speaks to whoever listens on `socket`.
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), timeout: Duration::from_secs(5) }
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What `path` shows.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(&self.call(Method::GET, path, Bytes::new()).await?)
    }

    /// Puts `body` at `path`.
    pub(crate) async fn put<B: Serialize>(&self, path: &str, body: &B) -> Result<(), ClientError> {
        self.call(Method::PUT, path, json(body)?).await.map(drop)
    }

    /// Changes what is at `path`; the answer is what it has become.
    pub(crate) async fn patch<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        parse(&self.call(Method::PATCH, path, json(body)?).await?)
    }

    /// Whether `path` answers well.
    pub(crate) async fn ping(&self, path: &str) -> Result<(), ClientError> {
        self.call(Method::GET, path, Bytes::new()).await.map(drop)
    }

    /// Asks for `path` to be done.
    pub(crate) async fn post(&self, path: &str) -> Result<(), ClientError> {
        self.call(Method::POST, path, Bytes::new()).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        tokio::time::timeout(self.timeout, self.exchange(method, path, body))
            .await
            .unwrap_or(Err(ClientError::Timeout(self.timeout)))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Connect { socket: self.socket.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("method, path and headers are our own and fit");
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let bytes = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>((status, bytes))
        };
        // The connection lives as long as its one exchange, so it needs no task of its own.
        tokio::pin!(connection, answer);
        let (status, bytes) = tokio::select! {
            answered = &mut answer => answered?,
            ended = &mut connection => { ended?; answer.await? }
        };
        if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
    }
}

fn refusal(status: StatusCode, bytes: &Bytes) -> ClientError {
    let message = serde_json::from_slice::<ErrorBody>(bytes).map_or_else(|_| status.to_string(), |body| body.error);
    ClientError::Refused { status, message }
}

fn json<B: Serialize>(body: &B) -> Result<Bytes, ClientError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(ClientError::Answer)
}

fn parse<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(ClientError::Answer)
}
