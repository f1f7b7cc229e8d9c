//! The control socket: how a second terminal speaks to a run.
//!
//! HTTP over a Unix socket that its owner alone may use:
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/report` | the report so far, as `status -o json` prints it |
//! | `GET /v1/fleet` | the document with all that flags changed of it and all models filled in |
//! | `GET /v1/plan` | the plan |
//! | `PATCH /v1/plan` | `{"devices": 500, "over": "1m"}`, `{"paused": true}`, `{"interval": "200ms", "stream": null}`, `{"factor": "2", "stream": null, "over": "30s"}` or `{"disconnect": "30%"}`: the new plan |
//! | `GET /v1/devices/{index}` | the device, asked of the worker that runs it |
//! | `POST /v1/skip` | 202: the phase that goes on is over |
//! | `POST /v1/stop` | 202: the run drains and ends |
//! | `POST /v1/abort` | 202: the run ends at once |

use std::io;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use fleet_contract::{
    fleet::Fleet,
    plan::Plan,
    units::Span,
    worker::DeviceStatus,
    worker_api::{ErrorBody, device_path},
};
use load_controller::{
    api::{Address, CallError, Client},
    report::Report,
    run::change::Change,
};
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::socket::{self, Live};
use crate::flags::RunFlag;

/// What may be asked of a run; each carries the way of its answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// The report so far.
    Report(oneshot::Sender<Box<Report>>),
    /// The resolved document.
    Fleet(oneshot::Sender<Box<Fleet>>),
    /// The plan.
    Plan(oneshot::Sender<Plan>),
    /// A change of the plan; the answer is the new plan, or why not.
    Change(Change, oneshot::Sender<Result<Plan, String>>),
    /// The worker that runs a device; the answer is how to reach it, if there is one.
    Owner(u32, oneshot::Sender<Option<Address>>),
    /// All metrics, in Prometheus' text format.
    Metrics(oneshot::Sender<Result<String, String>>),
    /// Whether every device that is wanted is connected.
    IsReady(oneshot::Sender<bool>),
    /// The end of the phase that goes on; the answer says why not.
    Skip(oneshot::Sender<Result<(), String>>),
    /// The end.
    Stop(oneshot::Sender<()>),
    /// The end, without a drain.
    Abort(oneshot::Sender<()>),
}

/// Answers requests until `shutdown`.
pub(crate) async fn serve(
    listener: UnixListener,
    requests: mpsc::Sender<Request>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/v1/report", get(report))
        .route("/v1/fleet", get(fleet))
        .route("/v1/plan", get(plan).patch(change))
        .route("/v1/devices/{index}", get(device))
        .route("/v1/skip", post(skip))
        .route("/v1/stop", post(stop))
        .route("/v1/abort", post(abort))
        .with_state(requests);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// Answers whoever scrapes or probes the run over TCP, until `shutdown`; nothing can be changed here.
pub(crate) async fn serve_metrics(
    listener: TcpListener,
    requests: mpsc::Sender<Request>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(requests);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

type Requests = State<mpsc::Sender<Request>>;

/// An answer that is not the hoped-for one.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}

/// Asks the run; it may be over by now.
async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    make: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, Refusal> {
    let over = || Refusal(StatusCode::SERVICE_UNAVAILABLE, "the run is over".into());
    let (answer, answered) = oneshot::channel();
    requests.send(make(answer)).await.map_err(|_| over())?;
    answered.await.map_err(|_| over())
}

async fn report(State(requests): Requests) -> Result<Json<Box<Report>>, Refusal> {
    ask(&requests, Request::Report).await.map(Json)
}

async fn fleet(State(requests): Requests) -> Result<Json<Box<Fleet>>, Refusal> {
    ask(&requests, Request::Fleet).await.map(Json)
}

async fn metrics(State(requests): Requests) -> Result<String, Refusal> {
    let rendered = ask(&requests, Request::Metrics).await?;
    rendered.map_err(|message| Refusal(StatusCode::INTERNAL_SERVER_ERROR, message))
}

async fn ready(State(requests): Requests) -> Result<&'static str, Refusal> {
    if ask(&requests, Request::IsReady).await? {
        return Ok("ready");
    }
    Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "not every device is connected yet".into()))
}

async fn plan(State(requests): Requests) -> Result<Json<Plan>, Refusal> {
    ask(&requests, Request::Plan).await.map(Json)
}

async fn change(State(requests): Requests, body: Bytes) -> Result<Json<Plan>, Refusal> {
    const EXPECTED: &str = r#"expected {"devices": N}, {"paused": BOOL}, {"interval": TIME, "stream": NAME}, {"factor": NUMBER, "stream": NAME} or {"disconnect": SHARE}"#;
    let change = serde_json::from_slice(&body).map_err(|_| {
        Refusal(StatusCode::BAD_REQUEST, format!("{EXPECTED}, found `{}`", String::from_utf8_lossy(&body)))
    })?;
    let changed = ask(&requests, |answer| Request::Change(change, answer)).await?;
    changed.map(Json).map_err(|message| Refusal(StatusCode::CONFLICT, message))
}

async fn device(State(requests): Requests, Path(index): Path<u32>) -> Result<Json<DeviceStatus>, Refusal> {
    let owner = ask(&requests, |answer| Request::Owner(index, answer)).await?;
    let owner = owner.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("there is no device {index}")))?;
    let asked = Client::default().get(&owner, &device_path(index)).await;
    asked.map(Json).map_err(|error| match error {
        CallError::Refused { status, message } => Refusal(status, message),
        other => Refusal(StatusCode::BAD_GATEWAY, format!("the worker of device {index} does not answer: {other}")),
    })
}

async fn skip(State(requests): Requests) -> Result<StatusCode, Refusal> {
    let skipped = ask(&requests, Request::Skip).await?;
    skipped.map(|()| StatusCode::ACCEPTED).map_err(|message| Refusal(StatusCode::CONFLICT, message))
}

async fn abort(State(requests): Requests) -> Result<StatusCode, Refusal> {
    ask(&requests, Request::Abort).await.map(|()| StatusCode::ACCEPTED)
}

async fn stop(State(requests): Requests) -> Result<StatusCode, Refusal> {
    ask(&requests, Request::Stop).await.map(|()| StatusCode::ACCEPTED)
}

/// A run on this machine, as a second terminal sees it.
#[derive(Debug)]
pub(crate) struct Remote {
    live: Live,
    address: Address,
    client: Client,
}

impl Remote {
    /// The run that is meant.
    pub(crate) async fn find(flag: &RunFlag) -> anyhow::Result<Self> {
        let live = socket::find(flag.run.as_deref()).await?;
        let address = Address::Unix(live.socket.as_path().into());
        Ok(Self { live, address, client: Client::default() })
    }

    /// The fleet's name.
    pub(crate) fn fleet(&self) -> &str {
        &self.live.fleet
    }

    /// The process.
    pub(crate) const fn pid(&self) -> u32 {
        self.live.pid
    }

    /// The report so far.
    pub(crate) async fn report(&self) -> Result<Report, CallError> {
        self.client.get(&self.address, "/v1/report").await
    }

    /// The plan.
    pub(crate) async fn plan(&self) -> Result<Plan, CallError> {
        self.client.get(&self.address, "/v1/plan").await
    }

    /// The document, with all that flags changed of it.
    pub(crate) async fn document(&self) -> Result<Fleet, CallError> {
        self.client.get(&self.address, "/v1/fleet").await
    }

    /// Changes the plan; the answer is the new one.
    pub(crate) async fn change(&self, change: &Change) -> Result<Plan, CallError> {
        self.client.patch(&self.address, "/v1/plan", change).await
    }

    /// How long `devices` take to connect or leave, at the fleet's rate.
    pub(crate) async fn connects_within(&self, devices: u32) -> Result<Span, CallError> {
        let fleet = self.document().await?;
        Ok(fleet.spec.connect.rate.time_for(u64::from(devices)))
    }

    /// What is known of a device.
    pub(crate) async fn device(&self, index: u32) -> Result<DeviceStatus, CallError> {
        self.client.get(&self.address, &format!("/v1/devices/{index}")).await
    }

    /// Asks for the end.
    pub(crate) async fn stop(&self) -> Result<(), CallError> {
        self.client.post(&self.address, "/v1/stop").await
    }

    /// Asks for the end of the phase that goes on.
    pub(crate) async fn skip(&self) -> Result<(), CallError> {
        self.client.post(&self.address, "/v1/skip").await
    }

    /// Asks for the end, without a drain.
    pub(crate) async fn abort(&self) -> Result<(), CallError> {
        self.client.post(&self.address, "/v1/abort").await
    }

    /// Whether the run still listens.
    pub(crate) async fn is_alive(&self) -> bool {
        UnixStream::connect(&self.live.socket).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_goes_to_the_run_and_its_answer_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, mut requests) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(serve(listener, sender, shutdown.clone()));
        let (client, address) = (Client::default(), Address::Unix(path.into()));
        let change = Change::Devices { devices: 7, over: None };
        let (changed, ()) = tokio::join!(client.patch::<_, Plan>(&address, "/v1/plan", &change), async {
            let Some(Request::Change(found, answer)) = requests.recv().await else {
                unreachable!("one change was sent")
            };
            assert_eq!(found, Change::Devices { devices: 7, over: None });
            answer.send(Err("expected fewer devices".into())).unwrap();
        });
        assert_eq!(changed.unwrap_err().to_string(), "expected fewer devices");
        let refused = client.patch::<_, Plan>(&address, "/v1/plan", &"nonsense").await.unwrap_err().to_string();
        assert!(refused.starts_with("expected {\"devices\": N}"), "{refused}");
        shutdown.cancel();
        tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}
