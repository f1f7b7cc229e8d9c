//! Readings that were recorded of a real run, through the shell of a local run. The controller's task of a fleet makes the
//! same report of them, to the byte (`load-controller/src/controller/fleet/tests.rs`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{
    Json, Router,
    routing::{get, put},
};
use fleet_contract::{format::Format, plan::Shard, split::Split, worker::Assignment};
use load_controller::run::facts::{Asked, Program};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::UnixListener, task::JoinSet};

use super::*;
use crate::{
    document,
    local::{processes::Launch, socket::Claim},
};

const FLEET: &str = include_str!("../../../../src/run/recorded/fleet.yaml");
const PLAN: &str = include_str!("../../../../src/run/recorded/plan.json");
const READINGS: &str = include_str!("../../../../src/run/recorded/readings.jsonl");
const REPORT: &str = include_str!("../../../../src/run/recorded/report.json");

/// What all workers answered at an instant, by ordinal.
#[derive(Deserialize)]
struct Round {
    at: u64,
    readings: Vec<Value>,
}

#[tokio::test]
async fn recorded_readings_make_the_report_that_the_controller_makes_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let claim = Claim::within(directory.path(), "demo").unwrap();
    let rounds: Vec<Round> = READINGS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answers: Vec<_> = rounds[0].readings.iter().cloned().map(|reading| Arc::new(Mutex::new(reading))).collect();
    let mut workers = JoinSet::new();
    for (ordinal, answer) in (0..).zip(&answers) {
        let answer = Arc::clone(answer);
        let stats = move || std::future::ready(Json(answer.lock().unwrap().clone()));
        let router = Router::new()
            .route("/healthz", get(|| async { "ok" }))
            .route("/v1/assignment", put(|| async { Json(json!({"version": 1})) }))
            .route("/v1/stats", get(stats));
        let listener = UnixListener::bind(claim.worker_socket(ordinal)).unwrap();
        workers.spawn(axum::serve(listener, router).into_future());
    }
    let fleet = document::from_text("demo", FLEET, None).unwrap().fleet;
    let plan: Plan = serde_json::from_str(PLAN).unwrap();
    let assignment = Assignment {
        format: Format::FIRST,
        fleet: fleet.clone(),
        plan: plan.clone(),
        shard: Shard::of(0, 6),
        files: BTreeMap::new(),
    };
    // A program that lives as a worker does, as long as its standard input; the test answers in its place.
    let launch = Launch { program: "/bin/sh".into(), arguments: vec!["-c".into(), "exec cat".into()] };
    let processes = Processes::start(launch, claim, Split::new(12, 6), assignment, || plan.clone()).await.unwrap();
    let facts = RunFacts::new(fleet, String::new(), &plan, Asked::default(), Program::default());
    let clock = Arc::new(AtomicU64::new(0));
    let now = Arc::clone(&clock);
    let mut run = Run::new(processes, Box::new(move || Micros(now.load(Relaxed))), facts, Box::new(|_, _, _| Ok(())));
    for round in rounds {
        for (answer, reading) in answers.iter().zip(round.readings) {
            *answer.lock().unwrap() = reading;
        }
        clock.store(round.at, Relaxed);
        assert_eq!(run.read().await.unwrap(), Step::None);
    }
    let mut found = serde_json::to_value(run.report()).unwrap();
    found.as_object_mut().unwrap().remove("manifest");
    let found = format!("{found:#}\n");
    if found != REPORT {
        let path = std::env::temp_dir().join("report-of-local-run.json");
        std::fs::write(&path, &found).unwrap();
        panic!("expected the report of load-controller/src/run/recorded/report.json, found that of {}", path.display());
    }
}
