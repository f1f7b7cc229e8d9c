//! The worker's HTTP API: plans in, statistics out.
//!
//! | request | answer |
//! | --- | --- |
//! | `PUT /v1/assignment` | starts the devices; `{"version": n}` of the plan that runs |
//! | `PUT /v1/plan` | takes a newer plan over; `{"version": n}` of the plan that runs |
//! | `GET /v1/stats?ended=EPOCH` | all that was measured, [`fleet_contract::stats::WorkerStats`]; the reader has closed the books of earlier workers up to that epoch. With `brief=true` without the times of single streams; with `brief=true&times_below=NUMBER` without those of the phases from that number on; with `sums=[…]`, which older workers answer in full, as brief and with these sums of times, [`fleet_contract::stats::SumOf`] |
//! | `GET /v1/unrecorded?after=INSTANT&until=INSTANT` | what a worker in this place may have sent in between, [`fleet_contract::stats::Stats`] |
//! | `GET /v1/devices/{index}` | [`fleet_contract::worker::DeviceStatus`] |
//! | `POST /v1/drain` | 202; the statistics say when it is over |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /healthz` | whether the process and all of its threads live |
//! | `GET /readyz` | whether every device has tried to connect once, and none is told to leave; a broker's outage changes nothing |
//!
//! A Unix socket is open to its owner alone; over TCP all under `/v1` wants `Authorization: Bearer TOKEN`.
//! Errors are `{"error": "expected …, found …; do …"}`. What stands in paths and errors is [`fleet_contract::worker_api`].

mod listener;

use std::{io::Write as _, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, Request, State, rejection::QueryRejection},
    http::{
        HeaderMap, StatusCode, Uri,
        header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use flate2::{Compression, write::GzEncoder};
use fleet_contract::{
    format,
    plan::Plan,
    stats::{Stats, WorkerStats},
    worker::{Assignment, DeviceStatus},
    worker_api::{
        ASSIGNMENT, DEVICE, DRAIN, Detail, ErrorBody, HEALTHZ, METRICS, PLAN, READYZ, STATS, StatsQuery, UNRECORDED,
        UnrecordedQuery,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use listener::Listener;

use crate::{
    args::{Listen, Tokens},
    metrics,
    worker::{Refusal, Worker},
};

/// An assignment carries the files that its models replay.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Who may use what is under `/v1`.
#[derive(Debug, Clone)]
enum Access {
    /// Everybody who can open the socket: its owner.
    Owner,
    /// Whoever knows a token of now.
    Token(watch::Receiver<Tokens>),
    /// Nobody.
    Closed,
}

/// All routes of a worker that listens at `listen`.
pub(crate) fn router(worker: Arc<Worker>, listen: &Listen, tokens: Option<watch::Receiver<Tokens>>) -> Router {
    let access = match (listen, tokens) {
        (Listen::Unix(_), _) => Access::Owner,
        (Listen::Tcp(_), Some(tokens)) => Access::Token(tokens),
        (Listen::Tcp(_), None) => Access::Closed,
    };
    let guarded = Router::new()
        .route(ASSIGNMENT, put(put_assignment))
        .route(PLAN, put(put_plan))
        .route(STATS, get(get_stats))
        .route(UNRECORDED, get(get_unrecorded))
        .route(DEVICE, get(get_device))
        .route(DRAIN, post(post_drain))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(access, guard));
    Router::new()
        .merge(guarded)
        .route(METRICS, get(get_metrics))
        .route(HEALTHZ, get(get_healthz))
        .route(READYZ, get(get_readyz))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(worker)
}

type Answer<T> = Result<T, Refusal>;

async fn guard(State(access): State<Access>, request: Request, next: Next) -> Answer<Response> {
    let offered = request.headers().get(AUTHORIZATION).map(|header| header.to_str().unwrap_or_default());
    let offered = offered.map(|header| header.strip_prefix("Bearer ").unwrap_or_default());
    match (access, offered) {
        (Access::Owner, _) => Ok(next.run(request).await),
        (Access::Token(tokens), Some(offered)) if tokens.borrow().include(offered) => Ok(next.run(request).await),
        (Access::Token(_), Some(_)) => Err(Refusal::Token("another one")),
        (Access::Token(_), None) => Err(Refusal::Token("none")),
        (Access::Closed, _) => Err(Refusal::Closed),
    }
}

async fn put_assignment(State(worker): State<Arc<Worker>>, body: Bytes) -> Answer<Json<Value>> {
    let assignment: Assignment = parse("an assignment", &body)?;
    Ok(Json(json!({"version": worker.assign(assignment).await?})))
}

async fn put_plan(State(worker): State<Arc<Worker>>, body: Bytes) -> Answer<Json<Value>> {
    let plan: Plan = parse("a plan", &body)?;
    Ok(Json(json!({"version": worker.set_plan(plan).await?})))
}

/// Longer readings are compressed for whoever takes that: histograms of many streams are mostly air.
const COMPRESSED_FROM: usize = 16 * 1024;

async fn get_stats(
    State(worker): State<Arc<Worker>>,
    wanted: Result<Query<StatsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Answer<Response> {
    let Query(wanted) = wanted.map_err(|found| query(StatsQuery::EXPECTED, &found))?;
    let mut stats: WorkerStats = worker.stats(wanted.ended).await?;
    // There is no reading after the last one.
    if !stats.is_drained {
        stats = match wanted.detail() {
            Detail::Full => stats,
            Detail::Brief => stats.brief(None),
            Detail::Phases(number) => stats.brief(Some(number)),
            Detail::Sums(sums, times_below) => stats.summed(sums.to_vec(), times_below),
        };
    }
    let takes_gzip = headers.get(ACCEPT_ENCODING).is_some_and(|accepted| accepted.as_bytes() == b"gzip");
    let text = serde_json::to_vec(&stats).expect("statistics are a value of JSON");
    let json = (CONTENT_TYPE, "application/json");
    if !takes_gzip || text.len() < COMPRESSED_FROM {
        return Ok(([json], text).into_response());
    }
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    let compressed = compressed.write_all(&text).and_then(|()| compressed.finish());
    let compressed = compressed.expect("a buffer in memory takes everything");
    Ok(([json, (CONTENT_ENCODING, "gzip")], compressed).into_response())
}

async fn get_unrecorded(
    State(worker): State<Arc<Worker>>,
    between: Result<Query<UnrecordedQuery>, QueryRejection>,
) -> Answer<Json<Stats>> {
    let Query(UnrecordedQuery { after, until }) = between.map_err(|found| query(UnrecordedQuery::EXPECTED, &found))?;
    Ok(Json(worker.unrecorded(after, until).await?))
}

fn query(expected: &'static str, found: &QueryRejection) -> Refusal {
    Refusal::Request { expected, found: found.body_text() }
}

async fn get_device(State(worker): State<Arc<Worker>>, Path(index): Path<String>) -> Answer<Json<DeviceStatus>> {
    let index = index.parse().map_err(|_| Refusal::Request { expected: "the index of a device", found: index })?;
    Ok(Json(worker.device(index).await?))
}

async fn post_drain(State(worker): State<Arc<Worker>>) -> Answer<StatusCode> {
    worker.drain().await?;
    Ok(StatusCode::ACCEPTED)
}

async fn get_metrics(State(worker): State<Arc<Worker>>) -> Answer<Response> {
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], worker.metrics().await?).into_response())
}

async fn get_healthz(State(worker): State<Arc<Worker>>) -> Answer<&'static str> {
    worker.check_alive().map(|()| "ok\n")
}

async fn get_readyz(State(worker): State<Arc<Worker>>) -> Response {
    match worker.check_ready().await {
        Ok(()) => "ok\n".into_response(),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, refusal.to_json()).into_response(),
    }
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::Request { expected: "a path of the API", found: uri.path().into() }
}

async fn wrong_method(request: Request) -> Response {
    let found = format!("{} {}", request.method(), request.uri().path());
    let refusal = Refusal::Request { expected: "another method", found };
    (StatusCode::METHOD_NOT_ALLOWED, refusal.to_json()).into_response()
}

fn parse<T: DeserializeOwned>(expected: &'static str, body: &[u8]) -> Answer<T> {
    format::read(body).map_err(|source| Refusal::Body { expected, source })
}

impl Refusal {
    fn to_json(&self) -> Json<ErrorBody> {
        Json(ErrorBody { error: self.to_string() })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), self.to_json()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{
        stats::SumOf,
        time::Micros,
        worker_api::{stats_path, unrecorded_path},
    };

    use super::*;

    /// What a worker reads behind `path`.
    fn read<T: DeserializeOwned>(path: &str) -> T {
        let uri: Uri = path.parse().unwrap();
        let Query(query) = Query::try_from_uri(&uri).unwrap();
        query
    }

    #[test]
    fn a_worker_reads_the_question_that_was_written() {
        let group = Some("a&b =+%ü".into());
        let sum = SumOf { distribution: "end_to_end".into(), phase: Some(2), group, stream: None, qos: None };
        for detail in [
            Detail::Full,
            Detail::Brief,
            Detail::Phases(3),
            Detail::Sums([sum.clone()].into(), None),
            Detail::Sums([sum.clone(), sum].into(), Some(3)),
        ] {
            let query: StatsQuery = read(&stats_path(Micros(7), &detail));
            assert_eq!((query.ended, query.detail()), (Micros(7), detail));
        }
        let query: UnrecordedQuery = read(&unrecorded_path(Micros(7), Micros(9)));
        assert_eq!((query.after, query.until), (Micros(7), Micros(9)));
    }

    #[test]
    fn a_question_that_says_nothing_is_for_all_since_ever() {
        let query: StatsQuery = read(STATS);
        assert_eq!((query.ended, query.detail()), (Micros(0), Detail::Full));
        let query: StatsQuery = read("/v1/stats?sums=tomorrow&times_below=1");
        assert_eq!(query.detail(), Detail::Full, "who asks for a sum that is not known is told everything");
    }
}
