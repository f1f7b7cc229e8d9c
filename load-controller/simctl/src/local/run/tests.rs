//! Readings that were recorded of a real run, and those of a load test, through the shell of a local run. The controller's task of
//! a fleet makes the same report of them, to the byte (`load-controller/src/controller/fleet/tests.rs`). Only what is told of who
//! ran it differs, the manifest.

#[path = "../../../../src/run/recorded/phased.rs"]
mod phased;

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
use fleet_contract::{
    fleet::Fleet, format::Format, load_test::LoadTestSpec, plan::Shard, split::Split, stats::WorkerStats,
    worker::Assignment,
};
use load_controller::run::{
    facts::{Asked, Program},
    phase::Phases,
};
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
const REPORT_OF_PHASES: &str = include_str!("../../../../src/run/recorded/phased.json");

/// What all workers answered at an instant, by ordinal.
#[derive(Deserialize)]
struct Round {
    at: u64,
    readings: Vec<Value>,
}

/// A run whose workers answer what the test says, at the times that it says.
struct Staged {
    run: Run,
    answers: Vec<Arc<Mutex<Value>>>,
    clock: Arc<AtomicU64>,
    _workers: JoinSet<std::io::Result<()>>,
    _directory: tempfile::TempDir,
}

impl Staged {
    /// Two workers, of which nothing was read yet.
    async fn start(fleet: &Fleet, plan: &Plan, asked: Asked) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let claim = Claim::within(directory.path(), "demo").unwrap();
        let answers: Vec<_> = (0..2).map(|_| Arc::new(Mutex::new(Value::Null))).collect();
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
        let facts = RunFacts::new(fleet.clone(), String::new(), plan, asked, Program::default());
        let clock = Arc::new(AtomicU64::new(0));
        let now = Arc::clone(&clock);
        let run = Run::new(processes, Box::new(move || Micros(now.load(Relaxed))), facts, Box::new(|_, _, _| Ok(())));
        Self { run, answers, clock, _workers: workers, _directory: directory }
    }

    /// Has all workers read at an instant.
    async fn read(&mut self, at: Micros, readings: impl IntoIterator<Item = Value>) -> Step {
        for (answer, reading) in self.answers.iter().zip(readings) {
            *answer.lock().unwrap() = reading;
        }
        self.clock.store(at.0, Relaxed);
        self.run.read().await.unwrap()
    }
}

/// That a report is this one, but for its manifest.
#[track_caller]
fn check(mut found: Value, expected: &str, file: &str) {
    found.as_object_mut().unwrap().remove("manifest");
    let found = format!("{found:#}\n");
    if found != expected {
        let path = std::env::temp_dir().join(format!("local-{file}"));
        std::fs::write(&path, &found).unwrap();
        panic!("expected the report of load-controller/src/run/recorded/{file}, found that of {}", path.display());
    }
}

#[tokio::test]
async fn recorded_readings_make_the_report_that_the_controller_makes_of_them() {
    let fleet = document::from_text("demo", FLEET, None).unwrap().fleet;
    let plan: Plan = serde_json::from_str(PLAN).unwrap();
    let mut staged = Staged::start(&fleet, &plan, Asked::default()).await;
    for line in READINGS.lines() {
        let Round { at, readings } = serde_json::from_str(line).unwrap();
        assert_eq!(staged.read(Micros(at), readings).await, Step::None);
    }
    check(serde_json::to_value(staged.run.report()).unwrap(), REPORT, "report.json");
}

#[tokio::test]
async fn a_load_test_comes_to_the_report_that_the_controller_makes_of_it() {
    let fleet = document::from_text("demo", FLEET, None).unwrap().fleet;
    let LoadTestSpec { phases, thresholds, .. } = serde_json::from_str(phased::TEST).unwrap();
    let phases = Phases::new(phases);
    let mut plan = Plan::of(7, phased::START, &fleet.spec);
    phases.plan(&mut plan, &fleet.spec, phased::START);
    let asked =
        Asked { load_test: Some("rush".into()), duration: phases.last(), phases, thresholds, ..Asked::default() };
    let mut staged = Staged::start(&fleet, &plan, asked).await;
    for second in phased::SECONDS {
        let at = phased::START.after(Span::from_secs(second));
        let told = |reading: WorkerStats| serde_json::to_value(reading).unwrap();
        let step = staged.read(at, phased::answers(second).map(told)).await;
        let run = &mut staged.run;
        match step {
            Step::None => {}
            // The devices would leave now. The loop would look once more before, the controller does not.
            Step::Drain => run.state.drain(at, run.processes.plan()),
            Step::End => run.state.end(at, false),
        }
        let expected = match second {
            phased::LAST => Step::Drain,
            19 => Step::End,
            _ => Step::None,
        };
        assert_eq!(step, expected, "after {second} s");
    }
    // Read from text, as the controller keeps it.
    let text = serde_json::to_string(&staged.run.report()).unwrap();
    check(serde_json::from_str(&text).unwrap(), REPORT_OF_PHASES, "phased.json");
}
