//! The life of a load test: what is written in which order, what waits for it, and who goes on with it.

#[path = "../../../run/recorded/phased.rs"]
mod phased;

use std::pin::Pin;

use fleet_contract::{stats::PhaseStats, units::Span};
use k8s_openapi::{ByteString, api::core::v1::ConfigMap};

use super::*;
use crate::{report::files, resource::load_test::COMPLETE};

const TEST: &str = "/apis/simctl.io/v1alpha1/namespaces/load/loadtests/rush";
const KEPT: &str = "/api/v1/namespaces/load/configmaps/rush-load-test";
const PHASE: &str = "/api/v1/namespaces/load/configmaps/demo-phase-0";
const REPORT: &str = "/api/v1/namespaces/load/configmaps/rush-report-0";

/// The fleet sends what it is told to, and its own devices are 10.
const FLEET_SPEC: &str = "devices: 10\nlossAfter: 5s";

fn spec() -> Value {
    json!({
        "fleet": "demo",
        "phases": [
            {"name": "ramp", "duration": "5s", "devices": {"from": 0, "to": 1500}},
            {"name": "steady", "duration": "10s", "measure": true, "rate": {"factor": 2}},
        ],
        "thresholds": ["lost == 0"],
    })
}

type Made = Pin<Box<dyn Future<Output = Cluster>>>;

impl Cluster {
    fn of_test(spec: &Value) -> Self {
        let cluster = Self::new(FLEET_SPEC);
        cluster.server.put(TEST, test("rush", spec));
        cluster
    }

    fn pass(&self, span: Span) {
        self.clock.fetch_add(span.0, Relaxed);
    }

    /// A fleet with two pods whose devices have left, and the test about to begin.
    fn prepared(spec: &Value) -> Made {
        let mut cluster = Self::of_test(spec);
        Box::pin(async move {
            cluster.reconcile().await;
            cluster.pod(0, "a");
            cluster.pod(1, "b");
            cluster.hear(0, &[]).await;
            cluster
        })
    }

    /// The same, with the test going on from three seconds later on.
    fn begun(spec: &Value) -> Made {
        let prepared = Self::prepared(spec);
        Box::pin(async move {
            let mut cluster = prepared.await;
            cluster.reconcile().await;
            assert_eq!(cluster.state(), "Running");
            cluster
        })
    }

    /// Lets both workers tell what they have sent in phases, by their numbers, of which all has arrived.
    async fn hear(&mut self, connected: u32, phases: &[(u32, u64)]) {
        self.hear_from([("a", 1, connected / 2), ("b", 1, connected / 2)], phases).await;
    }

    /// The same of both by their pods, since when they run, and how many devices each has connected.
    async fn hear_from(&mut self, workers: [(&str, u64, u32); 2], phases: &[(u32, u64)]) {
        self.hear_alone(workers, phases).await;
        self.threads().await;
    }

    /// The same, with threads of their own still at work.
    async fn hear_alone(&mut self, workers: [(&str, u64, u32); 2], phases: &[(u32, u64)]) {
        // No answer is worth a look before the status may be written again.
        tokio::time::advance(Duration::from_secs(3)).await;
        let now = self.clock.load(Relaxed);
        let version = self.task.plan.as_ref().map_or(1, |plan| plan.version);
        let readings = workers.into_iter().zip(0..).map(|((id, epoch, connected), ordinal)| {
            let mut stats = Stats::default();
            for (number, sent) in phases {
                let mut stream = StreamStats { qos: Qos::AtLeastOnce, ..StreamStats::default() };
                let messages = &mut stream.messages;
                for counter in [
                    &mut messages.offered,
                    &mut messages.sent,
                    &mut messages.acknowledged,
                    &mut messages.observed,
                    &mut messages.delivered,
                ] {
                    *counter = sent / 2;
                }
                stats.add_stream("all", "reading", &stream);
                let mut phase = PhaseStats::default();
                phase.groups.add("all", "reading", &stream);
                stats.phases.insert(*number, phase);
            }
            stats.devices.connected = connected;
            stats.generator.workers = 1;
            stats.observer.wanted = 1;
            stats.observer.subscribed = 1;
            let reading = WorkerStats::new(Micros(epoch), now, Micros(now), version, stats);
            (ordinal, id, reading)
        });
        let readings: Vec<_> = readings.collect();
        // Nobody listens where the plan was pushed to.
        self.task.calls = Calls::default();
        self.watch();
        let owner = self.task.met.as_ref().unwrap().owner.clone();
        self.task.look(&owner);
        for (ordinal, id, reading) in readings {
            let answer = Answer::Reading(Ok(Box::new(reading)));
            self.task.calls.promise(Answered { ordinal, id: id.into(), answer });
        }
        for _ in 0..2 {
            let answered = self.task.calls.next().await.unwrap();
            self.task.answered(answered).await;
        }
    }

    /// Lets both workers answer one round of questions.
    async fn tell(&mut self, readings: [WorkerStats; 2]) {
        // Nobody listens where the plan was pushed to.
        self.task.calls = Calls::default();
        tokio::time::advance(Duration::from_secs(3)).await;
        let [first, second] = readings;
        self.answers(vec![(0, "a", first), (1, "b", second)]).await;
    }

    fn test_status(&self) -> Value {
        self.server.get(TEST).unwrap()["status"].clone()
    }

    /// The reason of the condition Complete.
    fn state(&self) -> String {
        let conditions = self.test_status()["conditions"].as_array().cloned().unwrap_or_default();
        let complete = conditions.into_iter().find(|condition| condition["type"] == COMPLETE).unwrap_or_default();
        complete["reason"].as_str().unwrap_or_default().to_owned()
    }

    fn message(&self) -> String {
        self.test_status()["conditions"][0]["message"].as_str().unwrap_or_default().to_owned()
    }

    fn plan(&self) -> Plan {
        let object = self.server.get(PLAN).unwrap();
        serde_json::from_str(object["data"]["plan.json"].as_str().unwrap()).unwrap()
    }

    /// Those of the workers and of the fleet's own broker.
    fn images(&self) -> [String; 2] {
        ["demo", "demo-broker"].map(|name| {
            let set = self.server.get(&format!("{STATEFUL_SETS}/{name}")).unwrap();
            set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
        })
    }

    fn control(&self, field: &str, value: Value) {
        let mut test = self.server.get(TEST).unwrap();
        test["spec"][field] = value;
        self.server.put(TEST, test);
    }
}

fn test(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "simctl.io/v1alpha1", "kind": "LoadTest",
        "metadata": {"name": name, "namespace": "load", "generation": 1, "uid": format!("uid-of-{name}")},
        "spec": spec,
    })
}

#[tokio::test(start_paused = true)]
async fn a_test_begins_when_its_pods_are_there_and_the_devices_have_left() {
    let mut cluster = Cluster::of_test(&spec());
    cluster.reconcile().await;
    let pods =
        |cluster: &Cluster| cluster.server.get(&format!("{STATEFUL_SETS}/demo")).unwrap()["spec"]["replicas"].clone();
    assert_eq!((pods(&cluster), cluster.plan().devices_wanted()), (2.into(), 0), "for the most devices, and none yet");
    assert_eq!(cluster.state(), "Preparing");
    cluster.pod(0, "a");
    cluster.pod(1, "b");
    cluster.hear(6, &[]).await;
    cluster.reconcile().await;
    assert_eq!((cluster.state().as_str(), cluster.message().as_str()), ("Preparing", "6 devices have still to leave"));
    cluster.hear(0, &[]).await;
    let writes = cluster.reconcile().await;
    let place =
        |what: &str| writes.iter().position(|write| write == what).unwrap_or_else(|| panic!("{what}: {writes:?}"));
    assert!(
        place("POST configmaps/rush-load-test") < place("PATCH loadtests/rush"),
        "kept before it is started: {writes:?}"
    );
    assert!(
        place("PATCH loadtests/rush") < place("PUT configmaps/demo-plan"),
        "started before it is planned: {writes:?}"
    );
    assert_eq!(cluster.state(), "Running");
    let (start, plan) = (NOW.after(Span::from_secs(3)), cluster.plan());
    assert_eq!(
        cluster.server.get(TEST).unwrap()["metadata"]["annotations"][names::STARTED_ANNOTATION],
        start.to_string()
    );
    let phases: Vec<_> = plan.phases().map(|(at, number)| (at.since(start).0 / 1_000_000, number)).collect();
    assert_eq!((phases, plan.devices_wanted()), (vec![(0, 0), (5, 1), (15, 2)], 1_500));
    assert_eq!(cluster.test_status()["start"], Value::Null, "kubectl shows instants to come as wrong ones");
    cluster.pass(Span::from_secs(4));
    cluster.hear(300, &[(0, 4)]).await;
    assert_eq!(cluster.test_status()["start"], start.to_string());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_held_back_or_given_up_waits_for_nobody_and_nobody_for_it() {
    let mut cluster = Cluster::new(FLEET_SPEC);
    let of = |name: &str, field: &str| {
        let mut spec = spec();
        spec[field] = true.into();
        (format!("{LOAD_TESTS}/{name}"), test(name, &spec))
    };
    let (held, given_up) = (of("a", "suspend"), of("b", "abort"));
    cluster.server.put(&held.0, held.1);
    cluster.server.put(TEST, test("rush", &spec()));
    cluster.reconcile().await;
    let reason = |cluster: &Cluster, path: &str| {
        cluster.server.get(path).unwrap()["status"]["conditions"][0]["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!((reason(&cluster, &held.0), cluster.state()), ("Suspended".into(), "Preparing".into()));
    cluster.server.put(&given_up.0, given_up.1);
    cluster.reconcile().await;
    assert_eq!((reason(&cluster, &given_up.0), cluster.state()), ("Aborted".into(), "Preparing".into()));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_wrong_gets_another_chance_when_it_is_edited() {
    let mut wrong = spec();
    wrong["thresholds"] = json!(["lots == 0"]);
    let mut cluster = Cluster::of_test(&wrong);
    cluster.reconcile().await;
    assert_eq!(cluster.state(), "CannotStart");
    assert!(cluster.message().starts_with("spec.thresholds[0]: expected one of"), "{}", cluster.message());
    cluster.reconcile().await;
    assert_eq!(cluster.state(), "CannotStart");
    let mut edited = cluster.server.get(TEST).unwrap();
    edited["spec"] = spec();
    edited["metadata"]["generation"] = 2.into();
    cluster.server.put(TEST, edited);
    cluster.reconcile().await;
    assert_eq!(cluster.state(), "Preparing");
    assert_eq!(cluster.test_status()["conditions"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(start_paused = true)]
async fn edits_wait_and_the_end_gives_the_fleet_back() {
    let mut cluster = Cluster::begun(&spec()).await;
    cluster.edit(json!({"devices": 700, "lossAfter": "9s"}));
    let writes: Vec<_> = cluster.reconcile().await.into_iter().filter(|write| !write.contains("status")).collect();
    assert_eq!(writes, [""; 0], "a scale and an edit wait");
    assert_eq!(cluster.server.get(FLEET).unwrap()["status"]["observedGeneration"], 1);
    cluster.pass(Span::from_secs(10));
    cluster.hear(1_500, &[(0, 40), (1, 60)]).await;
    let status = cluster.test_status();
    assert_eq!((status["phase"].as_str(), status["messages"]["sent"].as_u64()), (Some("steady"), Some(100)));
    assert_eq!(status["thresholds"], json!({"passed": 0, "failed": 0, "pending": 1}));
    cluster.pass(Span::from_secs(10));
    cluster.hear(1_500, &[(0, 40), (1, 160), (2, 7)]).await;
    assert_eq!(cluster.state(), "Settling");
    cluster.pass(Span::from_secs(8));
    cluster.hear(1_500, &[(0, 40), (1, 160), (2, 50)]).await;
    assert_eq!(
        (cluster.state().as_str(), cluster.message().as_str()),
        ("Passed", "everything that was asked for has come of it")
    );
    let status = cluster.test_status();
    assert_eq!((&status["messages"]["sent"], &status["reports"]), (&200.into(), &json!(["rush-report-0"])));
    let packed = config_map::read_report(&serde_json::from_value(cluster.server.get(REPORT).unwrap()).unwrap())
        .unwrap()
        .to_vec();
    let files = files::unpack(&packed).unwrap();
    assert!(files.contains_key("junit.xml") && files.contains_key("report.html"), "{:?}", files.keys());
    let report: Value = serde_json::from_str(&files["report.json"]).unwrap();
    let sent = |value: &Value| value["sent"].as_u64();
    assert_eq!((&report["verdict"], sent(&report["messages"])), (&json!("passed"), Some(200)));
    assert_eq!((sent(&report["phases"][0]), sent(&report["phases"][1])), (Some(40), Some(160)));
    let writes = cluster.reconcile().await;
    assert!(writes.contains(&"PATCH statefulsets/demo".into()), "the edit is rolled out: {writes:?}");
    let plan = cluster.plan();
    assert_eq!((plan.devices_wanted(), plan.phases().count()), (700, 0));
    assert_eq!(plan.pace("all", "reading", Span(1)).shortest(Micros(cluster.clock.load(Relaxed) + 1_000_000)), Span(1));
    assert_eq!(cluster.server.get(FLEET).unwrap()["status"]["observedGeneration"], 2);
    // What was measured in its phases goes with the next books.
    cluster.hear(700, &[]).await;
    let totals = cluster.server.get(TOTALS).unwrap()["data"]["totals.json"].as_str().unwrap().to_owned();
    let totals: Value = serde_json::from_str(&totals).unwrap();
    assert_eq!((&totals["phasesKept"], &totals["stats"]["phases"]), (&3.into(), &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_report_is_made_while_the_fleet_is_looked_after_and_written_until_it_is_kept() {
    let mut cluster = Cluster::begun(&spec()).await;
    cluster.pass(Span::from_secs(20));
    cluster.hear(1_500, &[(0, 40), (1, 160)]).await;
    cluster.pass(Span::from_secs(8));
    let workers = [("a", 1, 750), ("b", 1, 750)];
    cluster.hear_alone(workers, &[(0, 40), (1, 160)]).await;
    assert_eq!((cluster.state().as_str(), cluster.server.get(REPORT)), ("Settling", None), "it is being made");
    assert!(cluster.task.tick(Instant::now()).await.is_continue());
    // What is read meanwhile is not in it, and no second one is begun.
    cluster.hear_alone(workers, &[(0, 40), (1, 170)]).await;
    assert_eq!(cluster.task.wish.trial.as_ref().map(|trial| trial.reporting.len()), Some(1));
    cluster.server.refuse(REPORT, StatusCode::INTERNAL_SERVER_ERROR, "not now");
    cluster.threads().await;
    assert_eq!(cluster.state(), "Settling");
    cluster.server.allow(REPORT);
    tokio::time::advance(Duration::from_mins(10)).await;
    cluster.hear_alone(workers, &[(0, 40), (1, 180)]).await;
    assert_eq!((cluster.state().as_str(), &cluster.test_status()["messages"]["sent"]), ("Passed", &200.into()));
}

#[tokio::test(start_paused = true)]
async fn the_next_test_of_a_fleet_has_phases_of_its_own() {
    let mut cluster = Cluster::begun(&spec()).await;
    cluster.server.put(&format!("{LOAD_TESTS}/second"), test("second", &spec()));
    cluster.reconcile().await;
    let second = |cluster: &Cluster| {
        cluster.server.get(&format!("{LOAD_TESTS}/second")).unwrap()["status"]["conditions"][0].clone()
    };
    assert_eq!(second(&cluster)["message"], "load test rush of this fleet comes first");
    cluster.pass(Span::from_secs(20));
    cluster.hear(1_500, &[(0, 40), (1, 160)]).await;
    cluster.pass(Span::from_secs(8));
    cluster.hear(1_500, &[(0, 40), (1, 160)]).await;
    assert_eq!(cluster.state(), "Passed");
    cluster.reconcile().await;
    assert_eq!(second(&cluster)["reason"], "Preparing");
    cluster.hear(0, &[]).await;
    cluster.reconcile().await;
    assert_eq!(second(&cluster)["reason"], "Running");
    let numbers: Vec<_> = cluster.plan().phases().map(|(_, number)| number).collect();
    assert_eq!(numbers, [3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn another_controller_goes_on_with_a_test() {
    let mut cluster = Cluster::begun(&spec()).await;
    cluster.edit(json!({"devices": 700, "lossAfter": "9s"}));
    cluster.pass(Span::from_secs(14));
    tokio::time::advance(Duration::from_secs(20)).await;
    cluster.hear(1_500, &[(0, 40), (1, 60)]).await;
    cluster.hear(1_500, &[(0, 40), (1, 60)]).await;
    // It is of another release, whose workers have another image.
    let mut successor = Cluster::over(cluster.server.clone());
    let newer = Images { worker: "device-sim:2".into(), broker: "broker:2".into(), pull_policy: None };
    successor.task.context.images = Arc::new(newer);
    successor.server.writes();
    successor.clock.store(cluster.clock.load(Relaxed), Relaxed);
    let writes: Vec<_> = successor.reconcile().await.into_iter().filter(|write| !write.contains("secrets")).collect();
    assert_eq!(writes, [""; 0], "nothing of the fleet changes");
    assert_eq!(successor.images(), ["device-sim:1", "broker:1"]);
    successor.pass(Span::from_secs(6));
    // The first phase is kept, so that nobody else tells it any more.
    assert!(successor.server.get(PHASE).is_some());
    successor.hear(1_500, &[(1, 160)]).await;
    assert_eq!(successor.state(), "Settling");
    successor.pass(Span::from_secs(8));
    successor.hear(1_500, &[(1, 160)]).await;
    assert_eq!(
        (successor.state().as_str(), successor.message().as_str()),
        ("Passed", "everything that was asked for has come of it")
    );
    let packed = config_map::read_report(&serde_json::from_value(successor.server.get(REPORT).unwrap()).unwrap())
        .unwrap()
        .to_vec();
    let report: Value = serde_json::from_str(&files::unpack(&packed).unwrap()["report.json"]).unwrap();
    let sent: u64 =
        report["timeline"]["points"].as_array().unwrap().iter().map(|point| point["sent"].as_u64().unwrap()).sum();
    assert_eq!(sent, 200, "the timeline has what the first one saw, too");
    successor.reconcile().await;
    assert_eq!(successor.plan().devices_wanted(), 700);
    // Workers roll once their broker has.
    assert_eq!(successor.images()[1], "broker:2", "the upgrade has waited for the end");
    successor.hear(700, &[]).await;
    assert_eq!(successor.server.get(PHASE), None, "nobody needs it any more");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_has_ended_is_kept_at_once_and_its_devices_are_counted_until_they_are_back() {
    let mut cluster = Cluster::begun(&spec()).await;
    cluster.pass(Span::from_secs(9));
    cluster.hear(1_500, &[(0, 40)]).await;
    cluster.pass(Span::from_secs(2));
    cluster.pod(0, "c");
    cluster.server.writes();
    let begun = NOW.0 + 10_000_000;
    cluster.hear_from([("c", begun, 0), ("b", 1, 750)], &[(0, 40)]).await;
    let writes = cluster.server.writes();
    assert!(writes.contains(&"PUT configmaps/rush-load-test".into()), "long before it is time to: {writes:?}");
    // Nobody else has seen it.
    let mut successor = Cluster::over(cluster.server.clone());
    successor.clock.store(cluster.clock.load(Relaxed), Relaxed);
    successor.reconcile().await;
    successor.pass(Span::from_secs(2));
    successor.hear_from([("c", begun, 250), ("b", 1, 750)], &[(0, 40)]).await;
    for seconds in [7, 8] {
        successor.pass(Span::from_secs(seconds));
        successor.hear_from([("c", begun, 750), ("b", 1, 750)], &[(0, 40), (1, 60)]).await;
    }
    let packed = config_map::read_report(&serde_json::from_value(successor.server.get(REPORT).unwrap()).unwrap())
        .unwrap()
        .to_vec();
    let report: Value = serde_json::from_str(&files::unpack(&packed).unwrap()["report.json"]).unwrap();
    // All 750 for the second until it was replaced and the one until it was read, and 500 for two more.
    let event = json!({
        "at_seconds": 8.0, "kind": "worker_lost", "missing_device_seconds": 2_500.0,
        "message": "demo-0 ended unasked, with 750 devices connected when it was read last",
    });
    assert_eq!(report["events"], json!([event]));
}

#[tokio::test(start_paused = true)]
async fn a_phase_that_is_missing_stalls_its_fleet() {
    let mut cluster = Cluster::begun(&spec()).await;
    cluster.pass(Span::from_secs(14));
    cluster.hear(1_500, &[(0, 40), (1, 60)]).await;
    cluster.hear(1_500, &[(0, 40), (1, 60)]).await;
    cluster.server.remove(PHASE);
    let mut successor = Cluster::over(cluster.server.clone());
    successor.watch();
    successor.task.reconcile().await.unwrap();
    assert_eq!(successor.condition(conditions::STALLED), ("True".into(), "Unreadable".into()));
}

/// What is kept of a test, as a newer release would write it.
fn newer(kept: Value) -> Value {
    let mut kept: ConfigMap = serde_json::from_value(kept).unwrap();
    let text = crate::packed::pack(br#"{"format": 99}"#);
    kept.binary_data = Some([(config_map::LOAD_TEST_KEY.to_owned(), ByteString(text))].into());
    json!(kept)
}

#[tokio::test(start_paused = true)]
async fn a_test_of_which_something_unreadable_is_kept_stalls_its_fleet_and_is_left_alone() {
    let cluster = Cluster::begun(&spec()).await;
    let readable = cluster.server.get(KEPT).unwrap();
    cluster.server.put(KEPT, newer(readable.clone()));
    let (kept, plan) = (cluster.server.get(KEPT), cluster.plan());
    let mut successor = Cluster::over(cluster.server.clone());
    successor.server.writes();
    assert_eq!(successor.reconcile().await, ["PATCH fleets/demo/status"]);
    assert_eq!(successor.reconcile().await, [""; 0], "it is told once");
    for _ in 0..2 {
        successor.pass(Span::from_secs(1));
        successor.hear(0, &[]).await;
    }
    assert_eq!(successor.condition(conditions::STALLED), ("True".into(), "Unreadable".into()));
    assert_eq!((successor.state().as_str(), successor.plan()), ("Running", plan), "it is not given up");
    assert_eq!(successor.server.get(KEPT), kept);
    successor.server.put(KEPT, readable);
    successor.reconcile().await;
    assert!(successor.task.is_tested(), "{}", successor.message());
    successor.pass(Span::from_secs(1));
    successor.hear(0, &[]).await;
    assert_eq!(successor.condition(conditions::STALLED).0, "False");
}

#[tokio::test(start_paused = true)]
async fn a_test_whose_plan_cannot_be_read_is_not_given_up() {
    let cluster = Cluster::begun(&spec()).await;
    let mut plan = cluster.server.get(PLAN).unwrap();
    plan["data"] = json!({"plan.json": r#"{"format": 99}"#});
    cluster.server.put(PLAN, plan);
    let mut successor = Cluster::over(cluster.server.clone());
    successor.server.writes();
    assert_eq!(successor.reconcile().await, ["PATCH fleets/demo/status"]);
    assert_eq!(successor.condition(conditions::STALLED), ("True".into(), "Unreadable".into()));
    assert_eq!(successor.state(), "Running");
}

#[tokio::test(start_paused = true)]
async fn a_test_does_not_begin_over_what_cannot_be_read() {
    let mut cluster = Cluster::prepared(&spec()).await;
    cluster.server.put(KEPT, newer(Cluster::begun(&spec()).await.server.get(KEPT).unwrap()));
    let kept = cluster.server.get(KEPT);
    let writes = cluster.reconcile().await;
    let is_of_test = |write: &String| !write.ends_with("/demo-totals") && !write.ends_with("/demo/status");
    assert!(!writes.iter().any(is_of_test), "{writes:?}");
    assert_eq!(cluster.condition(conditions::STALLED), ("True".into(), "Unreadable".into()));
    assert_eq!((cluster.state().as_str(), cluster.plan().phases().count()), ("Preparing", 0));
    assert_eq!(cluster.server.get(KEPT), kept);
    cluster.server.remove(KEPT);
    cluster.reconcile().await;
    assert_eq!(cluster.state(), "Running");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_dies_as_a_test_begins_leaves_it_to_the_next_in_time_or_for_good() {
    for (late, expected) in [(Span::from_secs(1), "Running"), (Span::from_secs(9), "Aborted")] {
        let mut cluster = Cluster::prepared(&spec()).await;
        cluster.server.refuse(PLAN, StatusCode::INTERNAL_SERVER_ERROR, "gone");
        cluster.watch();
        assert!(cluster.task.reconcile().await.is_err(), "the plan cannot be written");
        cluster.server.allow(PLAN);
        let mut successor = Cluster::over(cluster.server.clone());
        successor.server.writes();
        successor.clock.store(NOW.after(late).0, Relaxed);
        successor.reconcile().await;
        successor.hear(0, &[]).await;
        successor.pass(Span::from_secs(4));
        successor.hear(0, &[]).await;
        assert_eq!(successor.state(), expected, "{}", successor.message());
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_cannot_be_written_is_tried_again_in_time_or_ends_the_test() {
    for (late, expected) in [(Span::from_secs(1), "Running"), (Span::from_secs(9), "Aborted")] {
        let mut cluster = Cluster::prepared(&spec()).await;
        cluster.server.refuse(PLAN, StatusCode::INTERNAL_SERVER_ERROR, "not now");
        cluster.watch();
        assert!(cluster.task.reconcile().await.is_err());
        cluster.server.allow(PLAN);
        cluster.pass(late);
        cluster.reconcile().await;
        cluster.pass(Span::from_secs(4));
        cluster.hear(0, &[]).await;
        assert_eq!(cluster.state(), expected, "{}", cluster.message());
        let has_phases = cluster.plan().phases().next().is_some();
        assert_eq!(
            (has_phases, cluster.plan().devices_wanted()),
            if late < Span::from_secs(3) { (true, 1_500) } else { (false, 10) }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_that_is_edited_before_its_start_is_prepared_for_anew() {
    let mut cluster = Cluster::of_test(&spec());
    cluster.reconcile().await;
    let pods =
        |cluster: &Cluster| cluster.server.get(&format!("{STATEFUL_SETS}/demo")).unwrap()["spec"]["replicas"].clone();
    assert_eq!((cluster.state().as_str(), pods(&cluster)), ("Preparing", 2.into()));
    let mut more = spec()["phases"].clone();
    more[0]["devices"]["to"] = 3_500.into();
    cluster.control("phases", more);
    cluster.reconcile().await;
    assert_eq!((cluster.state().as_str(), pods(&cluster)), ("Preparing", 4.into()));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_restored_from_a_backup_does_not_run_again() {
    let mut cluster = Cluster::new(FLEET_SPEC);
    let mut restored = test("rush", &spec());
    restored["metadata"]["annotations"] = json!({names::STARTED_ANNOTATION: "2026-01-01T00:00:00Z"});
    cluster.server.put(TEST, restored);
    // What was kept of it belonged to another one of its name.
    let mut kept = Cluster::begun(&spec()).await.server.get(KEPT).unwrap();
    kept["metadata"]["ownerReferences"][0]["uid"] = "another".into();
    cluster.server.put(KEPT, kept);
    cluster.reconcile().await;
    assert_eq!(cluster.state(), "Aborted");
    assert!(cluster.message().contains("does not run twice"), "{}", cluster.message());
    assert_eq!(cluster.plan().devices_wanted(), 10, "the fleet is its own");
}

#[tokio::test(start_paused = true)]
async fn a_test_that_is_wrong_or_asks_for_too_much_cannot_start() {
    let wrong = |change: Value| {
        let mut spec = spec();
        for (field, value) in change.as_object().unwrap() {
            spec[field] = value.clone();
        }
        spec
    };
    for (spec, expected) in [
        (wrong(json!({"thresholds": ["lots == 0"]})), "spec.thresholds[0]: expected one of"),
        (
            wrong(
                json!({"phases": [{"name": "a", "duration": "1s", "measure": true, "rate": {"group": "al", "factor": 2}}]}),
            ),
            "there is no group `al`",
        ),
        (wrong(json!({"phases": [{"name": "a", "duration": "8d"}]})), "at most 168h"),
    ] {
        let mut cluster = Cluster::of_test(&spec);
        cluster.reconcile().await;
        assert_eq!(cluster.state(), "CannotStart", "{expected}");
        assert!(cluster.message().contains(expected), "{}", cluster.message());
        assert_eq!(cluster.plan().devices_wanted(), 10);
    }
    let mut cluster = Cluster::of_test(&spec());
    cluster.task.context.guard = Guard::new(Limits { devices_per_namespace: Some(100), ..Limits::default() });
    cluster.reconcile().await;
    assert_eq!(cluster.state(), "CannotStart");
    assert!(cluster.message().contains("1500 devices are asked for and 100 allowed"), "{}", cluster.message());
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_does_not_get_ready_is_given_up() {
    let mut cluster = Cluster::prepared(&spec()).await;
    cluster.unpod(1);
    cluster.reconcile().await;
    assert_eq!((cluster.state().as_str(), cluster.message().as_str()), ("Preparing", "1 of 2 pods are ready"));
    cluster.pass(Span::from_secs(3_600));
    cluster.reconcile().await;
    assert_eq!(
        (cluster.state().as_str(), cluster.message().as_str()),
        ("CannotStart", "the fleet has taken too long: 1 of 2 pods are ready")
    );
    cluster.reconcile().await;
    assert_eq!(cluster.plan().devices_wanted(), 10, "the fleet is its own again");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_test_waits_and_one_that_goes_on_holds_its_messages_back() {
    let mut held = spec();
    held["suspend"] = true.into();
    let mut cluster = Cluster::of_test(&held);
    cluster.reconcile().await;
    assert_eq!((cluster.state().as_str(), cluster.plan().devices_wanted()), ("Suspended", 10));
    let mut cluster = Cluster::begun(&spec()).await;
    cluster.control("suspend", true.into());
    cluster.reconcile().await;
    cluster.pass(Span::from_secs(6));
    cluster.hear(1_500, &[(0, 40)]).await;
    assert!(cluster.plan().is_paused(Micros::NEVER));
    cluster.hear(1_500, &[(0, 40)]).await;
    assert_eq!(cluster.state(), "Paused");
    cluster.control("suspend", false.into());
    cluster.reconcile().await;
    cluster.pass(Span::from_secs(2));
    cluster.hear(1_500, &[(0, 40)]).await;
    assert!(!cluster.plan().is_paused(Micros::NEVER));
}

#[tokio::test(start_paused = true)]
async fn a_phase_is_skipped_and_a_test_aborted_by_a_field() {
    let mut cluster = Cluster::begun(&spec()).await;
    cluster.control("skip", "ramp".into());
    cluster.reconcile().await;
    cluster.pass(Span::from_secs(4));
    cluster.hear(300, &[(0, 40)]).await;
    let start = NOW.after(Span::from_secs(3));
    let begins: Vec<_> = cluster.plan().phases().map(|(at, number)| (at.since(start).0 / 1_000, number)).collect();
    assert_eq!((begins, cluster.plan().devices_wanted()), (vec![(0, 0), (1_250, 1), (11_250, 2)], 1_500));
    cluster.control("abort", true.into());
    cluster.reconcile().await;
    cluster.pass(Span::from_secs(2));
    cluster.hear(1_500, &[(0, 40), (1, 60)]).await;
    assert_eq!(cluster.state(), "Aborted");
    assert!(cluster.server.get(REPORT).is_some());
    cluster.reconcile().await;
    let plan = cluster.plan();
    assert_eq!((plan.devices_wanted(), plan.phases().count()), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_threshold_that_fails_ends_the_test_at_once() {
    let mut failing = spec();
    failing["thresholds"] = json!([{"expect": "sent < 10", "abortOnFail": {}}]);
    let mut cluster = Cluster::begun(&failing).await;
    cluster.pass(Span::from_secs(5));
    cluster.hear(700, &[(0, 40)]).await;
    assert_eq!(cluster.state(), "Settling");
    let (now, plan) = (Micros(cluster.clock.load(Relaxed)), cluster.plan());
    let (last, devices) = (plan.phases().last().unwrap(), plan.devices(now.after(Span::from_secs(1))));
    assert_eq!(
        (last, plan.devices_wanted()),
        ((now.after(Span::from_millis(250)), 2), devices),
        "nothing more is to come"
    );
    cluster.pass(Span::from_secs(8));
    cluster.hear(700, &[(0, 40)]).await;
    assert_eq!(cluster.state(), "Failed");
}

#[tokio::test(start_paused = true)]
async fn a_test_that_is_deleted_gives_the_fleet_back() {
    let mut cluster = Cluster::begun(&spec()).await;
    cluster.server.remove(TEST);
    cluster.reconcile().await;
    let plan = cluster.plan();
    assert_eq!((plan.devices_wanted(), plan.phases().count()), (10, 0));
}

/// A test whose second phase ends a pod as it begins, and runs a command two seconds later.
fn spec_with_acts() -> Value {
    let mut spec = spec();
    spec["phases"][1]["faults"] = json!([
        {"kind": "kill-pods", "share": "50%"},
        {"kind": "hook", "command": ["/restart"], "image": "tools:1", "after": "2s"},
    ]);
    spec
}

const JOB: &str = "/apis/batch/v1/namespaces/load/jobs/rush-hook-65";

#[tokio::test(start_paused = true)]
async fn an_act_is_kept_before_it_is_done_and_done_once_whoever_does_it() {
    let mut cluster = Cluster::begun(&spec_with_acts()).await;
    cluster.pass(Span::from_secs(8));
    cluster.server.writes();
    cluster.hear(1_500, &[(0, 40)]).await;
    let writes = cluster.server.writes();
    let place = |what: &str| {
        writes.iter().position(|write| write.starts_with(what)).unwrap_or_else(|| panic!("{what}: {writes:?}"))
    };
    assert!(place("PUT configmaps/rush-load-test") < place("DELETE pods/demo-"), "{writes:?}");
    assert_eq!(writes.iter().filter(|write| write.starts_with("DELETE pods")).count(), 1, "half of two: {writes:?}");
    // Its successor is another pod of the same name.
    let gone = (0..2).find(|ordinal| cluster.server.get(&format!("{PODS}/demo-{ordinal}")).is_none()).unwrap();
    cluster.pod(gone, ["a", "b"][gone as usize]);

    cluster.pass(Span::from_secs(2));
    cluster.hear(1_500, &[(0, 40), (1, 60)]).await;
    assert!(cluster.server.writes().contains(&"POST jobs/rush-hook-65".to_owned()));
    let mut successor = Cluster::over(cluster.server.clone());
    successor.clock.store(cluster.clock.load(Relaxed), Relaxed);
    successor.reconcile().await;
    successor.server.writes();
    successor.hear(1_500, &[(1, 60)]).await;
    let mut job = successor.server.get(JOB).unwrap();
    job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    successor.server.put(JOB, job);
    successor.hear(1_500, &[(1, 80)]).await;
    let writes = successor.server.writes();
    assert!(!writes.iter().any(|write| write.contains("pods/") || write.contains("jobs/")), "{writes:?}");
    successor.pass(Span::from_secs(20));
    successor.hear(1_500, &[(1, 160)]).await;
    successor.pass(Span::from_secs(20));
    successor.hear(1_500, &[(1, 160)]).await;
    let packed = serde_json::from_value(successor.server.get(REPORT).unwrap()).unwrap();
    let text = &files::unpack(config_map::read_report(&packed).unwrap()).unwrap()["report.json"];
    let report: Value = serde_json::from_str(text).unwrap();
    let effects: Vec<_> = report["faults"].as_array().unwrap().iter().map(|fault| fault["effects"].clone()).collect();
    assert_eq!(effects, [1, 1], "{}", successor.message());
}

#[tokio::test(start_paused = true)]
async fn a_test_that_is_aborted_ends_its_hooks_and_one_whose_job_is_refused_says_so() {
    let mut cluster = Cluster::begun(&spec_with_acts()).await;
    cluster.pass(Span::from_secs(11));
    cluster.hear(1_500, &[(0, 40)]).await;
    assert!(cluster.server.get(JOB).is_some());
    cluster.control("abort", true.into());
    cluster.reconcile().await;
    cluster.hear(1_500, &[(0, 40)]).await;
    assert_eq!((cluster.state().as_str(), cluster.server.get(JOB)), ("Aborted", None));

    let mut cluster = Cluster::begun(&spec_with_acts()).await;
    cluster.server.refuse(JOB, StatusCode::FORBIDDEN, "no jobs here");
    cluster.pass(Span::from_secs(11));
    cluster.hear(1_500, &[(0, 40)]).await;
    cluster.pass(Span::from_secs(30));
    cluster.hear(1_500, &[(0, 40)]).await;
    cluster.pass(Span::from_secs(20));
    cluster.hear(1_500, &[(0, 40)]).await;
    assert_eq!(cluster.state(), "Invalid");
    assert!(cluster.message().contains("no jobs here"), "{}", cluster.message());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_may_not_be_deleted_is_none_that_the_test_has_ended() {
    let mut cluster = Cluster::begun(&spec_with_acts()).await;
    for ordinal in 0..2 {
        cluster.server.refuse(&format!("{PODS}/demo-{ordinal}"), StatusCode::FORBIDDEN, "pods stay here");
    }
    cluster.pass(Span::from_secs(8));
    cluster.hear(1_500, &[(0, 40)]).await;
    let act = cluster.task.wish.trial.as_ref().and_then(Trial::run).unwrap().facts().acts.clone();
    assert_eq!((act.under_way().count(), act.pods_ended().count()), (0, 0), "{act:?}");
    cluster.pass(Span::from_secs(30));
    cluster.hear(1_500, &[(0, 40)]).await;
    cluster.pass(Span::from_secs(20));
    cluster.hear(1_500, &[(0, 40)]).await;
    assert_eq!(cluster.state(), "Invalid");
    assert!(cluster.message().contains("pods stay here"), "{}", cluster.message());
}

#[tokio::test(start_paused = true)]
async fn acts_that_a_cluster_cannot_do_keep_a_test_from_its_start() {
    for (fault, says) in [
        (json!({"kind": "hook", "command": ["x"]}), "spec.phases[1].faults[0].image: expected the image"),
        (json!({"kind": "kill-pods", "pods": "broker"}), "spec.phases[1].faults[0].pods: expected `workers`"),
    ] {
        let mut spec = spec();
        spec["phases"][1]["faults"] = json!([fault]);
        let mut cluster = Cluster::of_test(&spec);
        cluster.edit(json!({"broker": {"url": "mqtt://broker.example"}}));
        cluster.reconcile().await;
        assert_eq!(cluster.state(), "CannotStart");
        assert!(cluster.message().contains(says), "{}", cluster.message());
    }
}

/// simctl's local run makes the same report of it, to the byte (`simctl/src/local/run/tests.rs`). What differs by intent is the
/// manifest, which tells who ran it.
#[tokio::test(start_paused = true)]
async fn a_load_test_comes_to_the_report_that_the_local_run_makes_of_it() {
    let mut fleet: Value = serde_saphyr::from_str(include_str!("../../../run/recorded/fleet.yaml")).unwrap();
    // A pod has no broker on its own machine.
    fleet["spec"]["broker"]["url"] = "mqtt://broker.example".into();
    let mut cluster = Cluster::new("devices: 12");
    cluster.edit(fleet["spec"].clone());
    cluster.server.put(TEST, test("rush", &serde_json::from_str(phased::TEST).unwrap()));
    cluster.reconcile().await;
    cluster.pod(0, "a");
    cluster.pod(1, "b");
    Box::pin(cluster.tell(phased::answers(0))).await;
    cluster.reconcile().await;
    assert_eq!(cluster.state(), "Running", "{}", cluster.message());
    for second in phased::SECONDS {
        cluster.clock.store(phased::START.after(Span::from_secs(second)).0, Relaxed);
        Box::pin(cluster.tell(phased::answers(second))).await;
    }
    assert!(cluster.server.get(REPORT).is_some(), "{}: {}", cluster.state(), cluster.message());
    let packed = serde_json::from_value(cluster.server.get(REPORT).unwrap()).unwrap();
    let text = &files::unpack(config_map::read_report(&packed).unwrap()).unwrap()["report.json"];
    check(serde_json::from_str(text).unwrap(), include_str!("../../../run/recorded/phased.json"), "phased.json");
}
