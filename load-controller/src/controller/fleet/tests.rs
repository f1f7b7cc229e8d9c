//! The task of a fleet against an API server that the test plays: what is written in which order, what is kept before
//! books are closed, and what is never written. The ring of the control plane shows the same on a real one.

mod load_test;
mod server;

use std::{
    fmt::Debug,
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::http::StatusCode;
use fleet_contract::{
    fleet::Qos,
    stats::{Stats, StreamStats, WorkerStats},
};
use kube::runtime::{
    reflector::{self, Lookup, Store, store::Writer as StoreWriter},
    watcher,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(in crate::controller) use self::server::Server;
use super::*;
use crate::{
    api::calls::Answer,
    controller::{conditions, fleet::telling::HEARING},
    limits::Limits,
    resource::{config_map, fixture, names},
};

const CONFIG_MAPS: &str = "/api/v1/namespaces/load/configmaps";
const LOAD_TESTS: &str = "/apis/simctl.io/v1alpha1/namespaces/load/loadtests";
const PODS: &str = "/api/v1/namespaces/load/pods";
const SERVICES: &str = "/api/v1/namespaces/load/services";
const STATEFUL_SETS: &str = "/apis/apps/v1/namespaces/load/statefulsets";
const FLEET: &str = "/apis/simctl.io/v1alpha1/namespaces/load/fleets/demo";
const PLAN: &str = "/api/v1/namespaces/load/configmaps/demo-plan";
const TOTALS: &str = "/api/v1/namespaces/load/configmaps/demo-totals";

/// 2026-03-01T12:00:00Z
const NOW: Micros = Micros(1_772_366_400_000_000);

/// A cluster with one fleet, and the controller's task of it.
struct Cluster {
    server: Server,
    watches: Vec<Box<dyn FnMut(&Server) + Send>>,
    /// What time it is, in microseconds.
    clock: Arc<AtomicU64>,
    task: Task,
}

/// A store of the objects of a collection, and what brings it up to date.
fn watched<K>(collection: &'static str, watches: &mut Vec<Box<dyn FnMut(&Server) + Send>>) -> Store<K>
where
    K: Lookup<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq + Clone + Default,
{
    let (store, mut writer): (Store<K>, StoreWriter<K>) = reflector::store();
    watches.push(Box::new(move |server| {
        writer.apply_watcher_event(&watcher::Event::Init);
        for object in server.list(collection) {
            writer.apply_watcher_event(&watcher::Event::InitApply(serde_json::from_value(object).unwrap()));
        }
        writer.apply_watcher_event(&watcher::Event::InitDone);
    }));
    store
}

/// What tasks share that speak to such a server, at [`NOW`].
pub(in crate::controller) fn context(server: &Server) -> Context {
    let client = server.client();
    Context {
        going: Arc::default(),
        writer: Writer::new(client.clone(), Metrics::default()),
        client,
        metrics: Metrics::default(),
        workers: api::Client::default(),
        clock: Arc::new(|| NOW),
        images: Arc::new(Images { worker: "device-sim:1".into(), broker: "broker:1".into(), pull_policy: None }),
        storage: None,
        key: Key::new(&[7; 32]),
        turns: Arc::default(),
        guard: Guard::new(Limits::default()),
        identity: "controller-a".into(),
    }
}

impl Cluster {
    fn new(spec: &str) -> Self {
        let server = Server::default();
        server.put(FLEET, json!(fixture::fleet(spec)));
        Self::over(server)
    }

    /// Another controller for what the server keeps.
    fn over(server: Server) -> Self {
        let mut watches = Vec::new();
        let stores = Stores {
            load_tests: watched(LOAD_TESTS, &mut watches),
            fleets: watched("/apis/simctl.io/v1alpha1/namespaces/load/fleets", &mut watches),
            stateful_sets: watched(STATEFUL_SETS, &mut watches),
            config_maps: watched(CONFIG_MAPS, &mut watches),
            services: watched(SERVICES, &mut watches),
            budgets: watched("/apis/policy/v1/namespaces/load/poddisruptionbudgets", &mut watches),
            policies: watched("/apis/networking.k8s.io/v1/namespaces/load/networkpolicies", &mut watches),
            pods: watched(PODS, &mut watches),
            autoscalers: watched("/apis/autoscaling/v2/namespaces/load/horizontalpodautoscalers", &mut watches),
            nodes: watched("/api/v1/nodes", &mut watches),
        };
        let clock = Arc::new(AtomicU64::new(NOW.0));
        let time = Arc::clone(&clock);
        let context = Context { clock: Arc::new(move || Micros(time.load(Relaxed))), ..context(&server) };
        let task = Task::new(context, Arc::new(stores), ObjectRef::new("demo").within("load"));
        Self { server, watches, clock, task }
    }

    fn watch(&mut self) {
        self.watches.iter_mut().for_each(|watch| watch(&self.server));
    }

    /// Shows the task what there is, and has it do what is to be done; what it wrote, but for events.
    async fn reconcile(&mut self) -> Vec<String> {
        self.watch();
        self.task.reconcile().await.unwrap();
        let mut writes = self.server.writes();
        writes.retain(|write| !write.contains("events"));
        writes
    }

    /// Changes fields of the Fleet's specification, as its author would.
    fn edit(&self, change: Value) {
        let mut fleet = self.server.get(FLEET).unwrap();
        let Value::Object(change) = change else { panic!("fields of the specification") };
        for (field, value) in change {
            fleet["spec"][field] = value;
        }
        fleet["metadata"]["generation"] = (fleet["metadata"]["generation"].as_u64().unwrap() + 1).into();
        self.server.put(FLEET, fleet);
    }

    /// The pod of a worker, as the StatefulSet would make it.
    fn pod(&self, ordinal: u32, uid: &str) {
        let name = format!("demo-{ordinal}");
        let labels = json!({names::FLEET_LABEL: "demo", "apps.kubernetes.io/pod-index": ordinal.to_string()});
        let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": names::workers("demo"), "uid": "s",
                           "controller": true});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "load", "uid": uid, "labels": labels, "ownerReferences": [owner],
                         "annotations": {crate::resource::pod::SECRETS_ANNOTATION: "demo-secrets"}},
            "status": {"podIP": "192.0.2.1", "conditions": [{"type": "Ready", "status": "True"}],
                       "containerStatuses": [{"name": "worker", "ready": true, "restartCount": 0, "image": "",
                                              "imageID": "", "state": {"running": {}}}]},
        });
        self.server.remove(&format!("{PODS}/{name}"));
        self.server.put(&format!("{PODS}/{name}"), pod);
    }

    fn unpod(&self, ordinal: u32) {
        self.server.remove(&format!("{PODS}/demo-{ordinal}"));
    }

    /// Lets workers answer one round of questions, and the task take it in.
    async fn answers(&mut self, readings: Vec<(u32, &str, WorkerStats)>) {
        self.answers_alone(readings).await;
        self.threads().await;
    }

    /// The same, with threads of their own still at work.
    async fn answers_alone(&mut self, readings: Vec<(u32, &str, WorkerStats)>) {
        self.watch();
        let owner = self.task.met.as_ref().unwrap().owner.clone();
        self.task.look(&owner);
        for (ordinal, id, reading) in readings {
            let answer = Answer::Reading(Ok(Box::new(reading)));
            self.task.calls.promise(Answered { ordinal, id: id.into(), answer });
        }
        while self.task.calls.is_waiting() {
            let answered = self.task.calls.next().await.unwrap();
            self.task.answered(answered).await;
        }
    }

    /// Lets the task take in what threads of their own have made for it.
    async fn threads(&mut self) {
        let is_at_work = |met: &Met| !met.adding_up.is_empty() || !met.packing.is_empty();
        while self.task.met.as_ref().is_some_and(is_at_work) {
            let made = next_made(&mut self.task.met).await.unwrap();
            self.task.made(made).await;
        }
        while self.task.wish.trial.as_ref().is_some_and(|trial| !trial.reporting.is_empty()) {
            let packed = next_report(&mut self.task.wish.trial).await.unwrap();
            self.task.reported(packed).await;
        }
    }

    /// The condition of a type: its status and its reason.
    fn condition(&self, type_: &str) -> (String, String) {
        let status = &self.server.get(FLEET).unwrap()["status"];
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    /// A number of messages that the totals say were sent.
    fn kept(&self) -> Option<u64> {
        let totals = self.server.get(TOTALS)?;
        let ended: Value = serde_json::from_str(totals["data"]["totals.json"].as_str().unwrap()).unwrap();
        // One that is 0 is left out.
        ended["stats"]["messages"].as_array().map(|messages| messages[0]["sent"].as_u64().unwrap_or(0))
    }

    fn reported(&mut self) -> u64 {
        self.task.report().unwrap().messages.all.get(&fleet_contract::series::SENT).unwrap()
    }
}

/// What a worker has measured that has sent so many messages at QoS 0.
fn reading(epoch: u64, sequence: u64, sent: u64, is_drained: bool) -> WorkerStats {
    let mut stats = Stats::default();
    stats.messages[0].offered = sent;
    stats.messages[0].sent = sent;
    stats.devices.connected = 10;
    let (epoch, at) = (Micros(epoch), Micros(epoch + sequence * 1_000_000));
    WorkerStats { is_drained, ..WorkerStats::new(epoch, sequence, at, 1, stats) }
}

#[tokio::test(start_paused = true)]
async fn a_new_fleet_gets_a_plan_before_its_pods_and_then_nothing_more() {
    let mut cluster = Cluster::new("devices: 10");
    let writes = cluster.reconcile().await;
    let place =
        |what: &str| writes.iter().position(|write| write.ends_with(what)).unwrap_or_else(|| panic!("{writes:?}"));
    assert!(place("secrets/demo-secrets") < place("configmaps/demo-plan"));
    assert!(place("configmaps/demo-plan") < place("statefulsets/demo"), "who starts finds its plan: {writes:?}");
    assert_eq!(cluster.reconcile().await, [""; 0], "what is as it should be is not written again");
}

#[tokio::test(start_paused = true)]
async fn a_scale_within_a_pod_writes_the_plan_alone_and_tells_the_workers() {
    let mut cluster = Cluster::new("devices: 10");
    cluster.reconcile().await;
    cluster.pod(0, "a");
    cluster.answers(vec![(0, "a", reading(1, 1, 5, false))]).await;
    cluster.reconcile().await;
    cluster.edit(json!({"devices": 500}));
    let writes: Vec<_> = cluster.reconcile().await.into_iter().filter(|write| !write.contains("status")).collect();
    assert_eq!(writes, ["PUT configmaps/demo-plan"]);
    assert!(cluster.task.calls.is_waiting(), "the worker is told");
    assert_eq!(cluster.task.plan.as_ref().map(Plan::devices_wanted), Some(500));
}

#[tokio::test(start_paused = true)]
async fn books_are_closed_only_when_their_sum_is_kept() {
    let mut cluster = Cluster::new("devices: 10");
    cluster.reconcile().await;
    cluster.pod(0, "a");
    cluster.answers(vec![(0, "a", reading(1, 1, 70, false))]).await;
    assert_eq!((cluster.reported(), cluster.kept()), (70, Some(0)), "who is read is kept, and nothing of what it said");
    cluster.server.refuse(TOTALS, StatusCode::FORBIDDEN, "exceeded quota");
    cluster.pod(0, "b");
    cluster.answers(vec![(0, "b", reading(2, 1, 4, false))]).await;
    assert_eq!((cluster.reported(), cluster.kept()), (70, Some(0)), "nothing newer counts before");
    cluster.server.allow(TOTALS);
    tokio::time::advance(Duration::from_mins(10)).await;
    cluster.answers(vec![(0, "b", reading(2, 2, 6, false))]).await;
    assert_eq!((cluster.reported(), cluster.kept()), (76, Some(70)));
    let report = cluster.task.report().unwrap();
    assert!(report.reasons.iter().any(|reason| reason.to_string().starts_with("worker_lost")), "{:?}", report.reasons);
}

#[tokio::test(start_paused = true)]
async fn the_books_of_many_streams_are_packed_while_the_fleet_is_looked_after() {
    let many = |epoch, sequence, sent| {
        let mut many = reading(epoch, sequence, 0, false);
        for number in 0..100 {
            let mut stream = StreamStats::of(Qos::AtMostOnce);
            stream.messages.sent = sent;
            many.stats.add_stream("all", &format!("stream-{number}"), &stream);
        }
        many
    };
    let mut cluster = Cluster::new("devices: 10");
    cluster.reconcile().await;
    cluster.pod(0, "a");
    cluster.answers(vec![(0, "a", many(1, 1, 70))]).await;
    cluster.pod(0, "b");
    cluster.answers_alone(vec![(0, "b", many(2, 1, 4))]).await;
    assert!(cluster.task.is_packing());
    assert!(cluster.task.tick(Instant::now()).await.is_continue());
    // Nobody listens where the worker was asked.
    cluster.task.calls = Calls::default();
    assert_eq!((cluster.kept(), cluster.reported()), (Some(0), 7_000), "nothing newer counts before");
    // Pods go meanwhile, so that other books are to be kept.
    cluster.pod(0, "c");
    cluster.watch();
    let owner = cluster.task.met.as_ref().unwrap().owner.clone();
    cluster.task.look(&owner);
    cluster.threads().await;
    assert_eq!(cluster.kept(), Some(7_000));
    cluster.answers(vec![(0, "c", many(3, 1, 1))]).await;
    assert_eq!((cluster.kept(), cluster.reported()), (Some(7_000), 7_100));
    assert_eq!(cluster.task.workers().map(|workers| workers.ended().workers_lost), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_successor_counts_on_from_what_was_kept() {
    let mut cluster = Cluster::new("devices: 10");
    cluster.reconcile().await;
    cluster.pod(0, "a");
    cluster.answers(vec![(0, "a", reading(1, 1, 70, true))]).await;
    cluster.unpod(0);
    cluster.answers(Vec::new()).await;
    cluster.watch();
    cluster.task.keep_up().await;
    assert_eq!(cluster.kept(), Some(70));
    let plan = cluster.task.plan.clone();
    let mut successor = Cluster::over(cluster.server.clone());
    let writes = successor.reconcile().await;
    assert!(!writes.iter().any(|write| write.contains("demo-plan")), "the plan goes on: {writes:?}");
    assert_eq!(successor.task.plan, plan);
    successor.pod(0, "b");
    successor.answers(vec![(0, "b", reading(2, 1, 5, false))]).await;
    assert_eq!(successor.reported(), 75);
}

#[tokio::test(start_paused = true)]
async fn what_another_controller_has_counted_is_not_written_over() {
    let mut cluster = Cluster::new("devices: 10");
    cluster.reconcile().await;
    cluster.pod(0, "a");
    cluster.answers(vec![(0, "a", reading(1, 1, 70, false))]).await;
    cluster.pod(0, "b");
    cluster.answers(vec![(0, "b", reading(2, 1, 4, false))]).await;
    assert_eq!(cluster.kept(), Some(70));
    // Another controller counts the next epoch while this one still believes to lead.
    let mut other = Cluster::over(cluster.server.clone());
    other.reconcile().await;
    other.answers(vec![(0, "b", reading(2, 2, 9, false))]).await;
    other.pod(0, "c");
    other.answers(vec![(0, "c", reading(3, 1, 1, false))]).await;
    assert_eq!(other.kept(), Some(79));
    cluster.answers(vec![(0, "c", reading(3, 1, 1, false))]).await;
    assert_eq!(cluster.kept(), Some(79), "the older sum is refused");
    cluster.answers(vec![(0, "c", reading(3, 2, 2, false))]).await;
    assert_eq!(cluster.reported(), 81);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_stalls_the_fleet_and_is_left_alone() {
    for (path, key) in [(PLAN, "plan.json"), (TOTALS, "totals.json")] {
        let mut cluster = Cluster::new("devices: 10");
        cluster.reconcile().await;
        let mut object = cluster.server.get(path).unwrap_or_else(|| cluster.server.get(PLAN).unwrap());
        object["metadata"]["name"] = path.rsplit('/').next().unwrap().into();
        object["data"] = json!({key: r#"{"format": 99}"#});
        cluster.server.put(path, object.clone());
        let mut successor = Cluster::over(cluster.server.clone());
        let writes = successor.reconcile().await;
        assert_eq!(writes, ["PATCH fleets/demo/status"], "{path}");
        assert_eq!(successor.condition(conditions::STALLED), ("True".into(), "Unreadable".into()), "{path}");
        assert_eq!(successor.server.get(path).unwrap()["data"], object["data"], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_a_newer_release_stalls_its_fleet_until_it_is_understood() {
    let mut cluster = Cluster::new("devices: 10");
    cluster.reconcile().await;
    cluster.pod(0, "a");
    cluster.answers(vec![(0, "a", reading(1, 1, 70, false))]).await;
    assert_eq!(cluster.condition(conditions::STALLED).0, "False");
    let newer = fleet_contract::format::read_reading(br#"{"format": 99}"#).unwrap_err();
    let answer = Answer::Reading(Err(newer.into()));
    cluster.task.calls.promise(Answered { ordinal: 0, id: "a".into(), answer });
    let answered = cluster.task.calls.next().await.unwrap();
    cluster.task.answered(answered).await;
    assert_eq!(cluster.condition(conditions::STALLED), ("True".into(), "Unreadable".into()));
    let error = cluster.server.get(FLEET).unwrap()["status"]["lastError"].clone();
    let error = error.as_str().unwrap();
    assert!(error.contains("pod demo-0") && error.contains("a newer release wrote"), "{error}");
    assert_eq!(cluster.reported(), 70, "what was understood counts");
    cluster.answers(vec![(0, "a", reading(1, 2, 80, false))]).await;
    assert_eq!((cluster.condition(conditions::STALLED).0, cluster.reported()), ("False".into(), 80));
}

#[tokio::test(start_paused = true)]
async fn an_object_of_somebody_else_is_never_written() {
    let mut cluster = Cluster::new("devices: 10");
    let service = format!("{SERVICES}/demo");
    let theirs = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo", "namespace": "load"}});
    cluster.server.put(&service, theirs);
    let before = cluster.server.get(&service);
    let writes = cluster.reconcile().await;
    assert_eq!(cluster.server.get(&service), before);
    assert!(!writes.iter().any(|write| write.ends_with("statefulsets/demo")), "pods need the Service: {writes:?}");
    tokio::time::advance(HEARING).await;
    cluster.reconcile().await;
    assert_eq!(cluster.condition(conditions::STALLED), ("True".into(), "NameTaken".into()));
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_somebody_has_deleted_is_written_again_as_it_was() {
    let mut cluster = Cluster::new("devices: 10");
    cluster.reconcile().await;
    let before = cluster.server.get(PLAN).unwrap()["data"].clone();
    cluster.reconcile().await;
    cluster.server.remove(PLAN);
    let writes = cluster.reconcile().await;
    assert!(writes.iter().any(|write| write.ends_with("configmaps/demo-plan")), "{writes:?}");
    assert_eq!(cluster.server.get(PLAN).unwrap()["data"], before);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_document_is_told_and_what_runs_goes_on() {
    let mut cluster = Cluster::new("devices: 10");
    cluster.reconcile().await;
    cluster.edit(json!({"groups": [{"name": "all", "model": "no-such-model"}]}));
    tokio::time::advance(HEARING).await;
    let writes = cluster.reconcile().await;
    assert_eq!(writes, ["PATCH fleets/demo/status"]);
    assert_eq!(cluster.condition(conditions::STALLED), ("True".into(), "InvalidDocument".into()));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_was_made_again_is_another_one() {
    let mut cluster = Cluster::new("devices: 10");
    cluster.reconcile().await;
    let run = cluster.task.plan.as_ref().unwrap().run;
    let mut fleet = json!(fixture::fleet("devices: 10"));
    fleet["metadata"]["uid"] = "another".into();
    cluster.server.remove(FLEET);
    cluster.server.put(FLEET, fleet);
    for path in [PLAN, TOTALS] {
        cluster.server.remove(path);
    }
    cluster.watch();
    // What is left of the earlier one is about to go; nothing of it is written.
    let failed = cluster.task.reconcile().await;
    assert!(failed.is_err() || cluster.task.plan.as_ref().is_some_and(|plan| plan.run != run), "{failed:?}");
    assert_eq!(cluster.task.met.as_ref().unwrap().owner.uid, "another");
}

/// What all workers answered at an instant, by ordinal.
#[derive(serde::Deserialize)]
struct Round {
    at: Micros,
    readings: Vec<WorkerStats>,
}

/// That a report is this one, but for its manifest.
#[track_caller]
fn check(mut found: Value, expected: &str, file: &str) {
    found.as_object_mut().unwrap().remove("manifest");
    let found = format!("{found:#}\n");
    if found != expected {
        let path = std::env::temp_dir().join(format!("controller-{file}"));
        std::fs::write(&path, &found).unwrap();
        panic!("expected the report of load-controller/src/run/recorded/{file}, found that of {}", path.display());
    }
}

/// simctl's local run makes the same report of them, to the byte (`simctl/src/local/run/tests.rs`).
#[tokio::test(start_paused = true)]
async fn recorded_readings_make_the_report_that_the_local_run_makes_of_them() {
    let fleet: Value = serde_saphyr::from_str(include_str!("../../run/recorded/fleet.yaml")).unwrap();
    let mut cluster = Cluster::new("devices: 12");
    cluster.edit(fleet["spec"].clone());
    let plan: Plan = serde_json::from_str(include_str!("../../run/recorded/plan.json")).unwrap();
    let owner = Owner::of(&fixture::fleet("devices: 12")).unwrap();
    cluster.server.put(PLAN, json!(config_map::plan(&owner, &plan, None)));
    let clock = Arc::new(AtomicU64::new(plan.start.0));
    let now = Arc::clone(&clock);
    cluster.task.context.clock = Arc::new(move || Micros(now.load(Relaxed)));
    cluster.reconcile().await;
    assert_eq!(cluster.task.plan, Some(plan), "the recorded plan goes on");
    cluster.pod(0, "a");
    cluster.pod(1, "b");
    for line in include_str!("../../run/recorded/readings.jsonl").lines() {
        let Round { at, readings } = serde_json::from_str(line).unwrap();
        clock.store(at.0, Relaxed);
        let readings = (0..).zip(["a", "b"]).zip(readings).map(|((ordinal, id), reading)| (ordinal, id, reading));
        cluster.answers(readings.collect()).await;
    }
    check(json!(cluster.task.report().unwrap()), include_str!("../../run/recorded/report.json"), "report.json");
}
