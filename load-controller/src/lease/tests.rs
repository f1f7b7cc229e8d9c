//! Elections against an API server that the test plays, on tokio's clock.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, patch},
};
use serde_json::Value;

use super::*;

/// How the API server answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// It does what it is asked to.
    Sound,
    /// Writes take effect, and no answer arrives.
    Lost,
    /// Writes take effect, and the answer is an error.
    Failed,
    /// Writes of pods take effect after that time, and no answer arrives.
    Late(Duration),
}

/// What the API server keeps.
struct Stored {
    answers: Answers,
    lease: Lease,
    version: u32,
    /// The pod's label.
    label: Option<String>,
    /// What it will be, and when.
    late: Vec<(Instant, Option<String>)>,
    /// How often it was written.
    label_writes: u32,
}

#[derive(Clone)]
struct Server(Arc<Mutex<Stored>>);

impl Server {
    fn new() -> Self {
        let lease =
            Lease { metadata: ObjectMeta { name: Some(CONTROLLER.into()), ..ObjectMeta::default() }, spec: None };
        let answers = Answers::Sound;
        let stored = Stored { answers, lease, version: 1, label: None, late: Vec::new(), label_writes: 0 };
        Self(Arc::new(Mutex::new(stored)))
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        let mut stored = self.0.lock().unwrap();
        while let Some((due, _)) = stored.late.first()
            && *due <= Instant::now()
        {
            stored.label = stored.late.remove(0).1;
        }
        stored
    }

    fn answer(&self, answers: Answers) {
        self.stored().answers = answers;
    }

    fn label(&self) -> Option<String> {
        self.stored().label.clone()
    }

    /// The election in which the pod `a` stands.
    fn election(&self) -> Election {
        let leases = "/apis/coordination.k8s.io/v1/namespaces/simctl/leases/load-controller";
        let router = Router::new()
            .route(leases, get(read_lease).put(write_lease))
            .route("/api/v1/namespaces/simctl/pods/a", patch(write_label))
            .with_state(self.clone());
        Election::new(&Client::new(router, "simctl"), "simctl", "a")
    }

    /// The answer to a request that has taken effect.
    async fn respond(&self, answer: Value) -> Response {
        let answers = self.stored().answers;
        match answers {
            Answers::Sound => Json(answer).into_response(),
            Answers::Failed => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 504,
                                    "reason": "Timeout", "message": "etcdserver: request timed out"});
                (StatusCode::GATEWAY_TIMEOUT, Json(status)).into_response()
            }
            Answers::Lost | Answers::Late(_) => std::future::pending().await,
        }
    }
}

async fn read_lease(State(server): State<Server>) -> Response {
    let lease = server.stored().lease.clone();
    server.respond(json!(lease)).await
}

async fn write_lease(State(server): State<Server>, Json(mut lease): Json<Lease>) -> Response {
    {
        let mut stored = server.stored();
        stored.version += 1;
        lease.metadata.resource_version = Some(stored.version.to_string());
        stored.lease = lease.clone();
    }
    server.respond(json!(lease)).await
}

async fn write_label(State(server): State<Server>, Json(patch): Json<Value>) -> Response {
    let label = patch["metadata"]["labels"][LEADER_LABEL].as_str().map(str::to_owned);
    {
        let mut stored = server.stored();
        stored.label_writes += 1;
        match stored.answers {
            // It goes on after the client has left.
            Answers::Late(by) => stored.late.push((Instant::now() + by, label)),
            _ => stored.label = label,
        }
    }
    let pod = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "a"}});
    server.respond(pod).await
}

/// Leads for that long.
async fn holds(election: &mut Election, long: Duration) {
    assert!(timeout(long, election.hold()).await.is_err(), "it stopped to lead");
}

/// Gives up as the program does, within its own timeout.
async fn resigns(election: &mut Election) {
    drop(timeout(RETRY, election.resign()).await);
}

#[tokio::test(start_paused = true)]
async fn a_label_is_written_once() {
    let server = Server::new();
    let mut election = server.election();
    election.win().await;
    holds(&mut election, Duration::from_mins(10)).await;
    assert_eq!((server.label().as_deref(), server.stored().label_writes), (Some("true"), 1));
    election.resign().await;
    assert_eq!((server.label(), server.stored().label_writes), (None, 2));
}

#[tokio::test(start_paused = true)]
async fn one_that_leads_again_after_an_outage_is_labelled_again() {
    for outage in [Answers::Lost, Answers::Failed] {
        let server = Server::new();
        let mut election = server.election();
        election.win().await;
        server.answer(outage);
        election.hold().await;
        resigns(&mut election).await;
        assert_eq!(server.label(), None, "it took effect, and the controller does not know");
        server.answer(Answers::Sound);
        election.win().await;
        assert_eq!(server.label().as_deref(), Some("true"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_label_write_that_takes_effect_late_does_not_last() {
    let server = Server::new();
    let mut election = server.election();
    election.win().await;
    server.answer(Answers::Late(Duration::from_secs(30)));
    election.hold().await;
    resigns(&mut election).await;
    server.answer(Answers::Sound);
    election.win().await;
    assert_eq!(server.label().as_deref(), Some("true"));
    holds(&mut election, Duration::from_secs(35)).await;
    assert_eq!(server.label().as_deref(), Some("true"), "the late write has taken it away for good");

    holds(&mut election, LATE).await;
    let writes = server.stored().label_writes;
    holds(&mut election, Duration::from_mins(10)).await;
    assert_eq!(server.stored().label_writes, writes, "nothing is written once it is certain");
}

#[tokio::test(start_paused = true)]
async fn one_that_lost_the_lease_in_an_outage_is_not_labelled() {
    let server = Server::new();
    let mut election = server.election();
    election.win().await;
    // Its pod goes on to say that it leads.
    server.answer(Answers::Late(Duration::from_hours(1)));
    election.hold().await;
    resigns(&mut election).await;
    {
        let mut stored = server.stored();
        let spec = stored.lease.spec.get_or_insert_default();
        spec.holder_identity = Some("b".into());
        stored.lease.metadata.resource_version = Some("taken".into());
    }
    assert_eq!(server.label().as_deref(), Some("true"));
    server.answer(Answers::Sound);
    assert!(timeout(Duration::from_secs(5), election.win()).await.is_err(), "b leads");
    assert_eq!(server.label(), None);
}
