//! A whole controller against an API server that the test plays, and whom a change of an object concerns.

use serde_json::{Value, json};

use super::*;
pub(in crate::controller) use crate::controller::fleet::tests::Server;
use crate::resource::fixture;

const FLEETS: &str = "/apis/simctl.io/v1alpha1/namespaces/load/fleets";

/// By a clock that stands still while anybody has something to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// A controller from the moment on in which it leads; dropped, it stands by again.
pub(in crate::controller) struct Leader {
    metrics: Metrics,
    _runs: JoinSet<()>,
}

impl Leader {
    /// That of what a server keeps in the namespace `load`.
    pub(in crate::controller) fn of(server: &Server) -> Self {
        let (client, metrics) = (server.client(), Metrics::default());
        let settings = Settings {
            namespaces: vec!["load".into()],
            images: Images { worker: "device-sim:1".into(), broker: "broker:1".into(), pull_policy: None },
            storage: None,
            limits: Limits::default(),
            identity: "controller-a".into(),
        };
        let (instruments, mut runs) = (metrics.clone(), JoinSet::new());
        runs.spawn(async move {
            let (workers, stop) = (api::Client::default(), CancellationToken::new());
            Box::pin(run(client, Key::new(&[7; 32]), &settings, instruments, workers, stop)).await;
        });
        Self { metrics, _runs: runs }
    }

    fn fleets(&self) -> i64 {
        self.metrics.fleets.get()
    }
}

/// Makes a fleet of ten devices, as its author would.
pub(in crate::controller) fn make(server: &Server, name: &str) {
    let mut fleet = json!(fixture::fleet("devices: 10"));
    fleet["metadata"]["name"] = name.into();
    fleet["metadata"]["uid"] = format!("uid-of-{name}").into();
    server.put(&format!("{FLEETS}/{name}"), fleet);
}

fn path_of_plan(name: &str) -> String {
    format!("/api/v1/namespaces/load/configmaps/{name}-plan")
}

/// What the plan of a fleet is, once its task has written it.
pub(in crate::controller) fn plan(server: &Server, name: &str) -> Option<Value> {
    server.get(&path_of_plan(name)).map(|plan| plan["data"].clone())
}

/// Lets time pass until a claim holds.
pub(in crate::controller) async fn eventually(claim: &str, holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, held).await.is_ok(), "{claim}");
}

fn key(name: &str) -> ObjectRef<Fleet> {
    ObjectRef::new(name).within("load")
}

#[tokio::test(start_paused = true)]
async fn a_fleet_has_a_task_from_when_it_appears_until_it_is_deleted() {
    let server = Server::default();
    let leader = Leader::of(&server);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((leader.fleets(), server.writes()), (0, Vec::new()));
    make(&server, "demo");
    eventually("the fleet has a plan", || plan(&server, "demo").is_some()).await;
    assert_eq!(leader.fleets(), 1);
    make(&server, "other");
    eventually("the other one has a plan", || plan(&server, "other").is_some()).await;
    assert_eq!(leader.fleets(), 2);
    server.remove(&format!("{FLEETS}/demo"));
    eventually("its task has ended", || leader.fleets() == 1).await;
    // Nobody repairs what is left of it.
    server.remove(&path_of_plan("demo"));
    server.remove(&path_of_plan("other"));
    eventually("the other one is looked after", || plan(&server, "other").is_some()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((plan(&server, "demo"), leader.fleets()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn who_comes_to_lead_looks_after_all_fleets_and_begins_none_anew() {
    let server = Server::default();
    make(&server, "demo");
    make(&server, "other");
    let first = Leader::of(&server);
    let plans = || ["demo", "other"].map(|name| plan(&server, name));
    eventually("both have plans", || plans().iter().all(Option::is_some)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(first);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = plans();
    // While nobody leads, nobody looks.
    make(&server, "third");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(plan(&server, "third"), None);
    let second = Leader::of(&server);
    eventually("all have tasks", || second.fleets() == 3 && plan(&server, "third").is_some()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(plans(), before);
}

#[tokio::test]
async fn a_question_starts_no_task_and_one_of_no_fleet_gets_no_answer() {
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let fleets = Fleets { questions };
    let mut tasks = JoinSet::new();
    // Who hears the questions has no store for any namespace.
    let context = fleet::tests::context(&Server::default());
    let metrics = context.metrics.clone();
    tasks.spawn(dispatch(context, HashMap::new(), asked));
    assert!(fleets.ask("load", "demo", Request::Plan).await.is_none());
    assert!(fleets.ask("load", "demo", Request::Reconcile).await.is_none(), "nobody watches that namespace");
    assert_eq!(metrics.fleets.get(), 0);
}

fn pod(name: &str, fleet: Option<&str>, node: &str) -> Pod {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "load", "labels": fleet.map(|fleet| json!({FLEET_LABEL: fleet}))},
        "spec": {"nodeName": node, "containers": []},
    });
    serde_json::from_value(pod).unwrap()
}

#[tokio::test]
async fn a_change_wakes_the_fleet_that_it_belongs_to_and_no_other() {
    let (store, writer) = reflector::store();
    let (wakes, mut woken) = mpsc::channel(WAKES);
    let events = [
        watcher::Event::Init,
        watcher::Event::InitApply(pod("a-0", Some("a"), "n1")),
        watcher::Event::InitApply(pod("theirs", None, "n1")),
        watcher::Event::InitDone,
        watcher::Event::Apply(pod("b-0", Some("b"), "n2")),
        watcher::Event::Delete(pod("a-0", Some("a"), "n1")),
    ];
    let fleets = |pod: &Pod| fleet_of(pod).into_iter().collect();
    Box::pin(follow(tokio_stream::iter(events), prune_pod, writer, wakes, fleets)).await;
    let mut seen = Vec::new();
    while let Some(fleet) = woken.recv().await {
        seen.push(fleet);
    }
    assert_eq!(seen, [key("a"), key("b"), key("a")]);
    let mut kept: Vec<_> = store.state().iter().filter_map(|pod| pod.metadata.name.clone()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["b-0", "theirs"]);
}

#[tokio::test(start_paused = true)]
async fn what_stirs_within_a_pause_wakes_each_fleet_once() {
    let (stirs, stirred) = mpsc::channel(WAKES);
    let (wakes, mut woken) = mpsc::channel(WAKES);
    for name in ["a", "b", "a", "a"] {
        stirs.send(key(name)).await.unwrap();
    }
    drop(stirs);
    fold(stirred, wakes).await;
    let mut seen = Vec::new();
    while let Some(fleet) = woken.recv().await {
        seen.push(fleet.name);
    }
    seen.sort_unstable();
    assert_eq!(seen, ["a", "b"]);
}

#[test]
fn a_node_concerns_each_fleet_with_pods_there_once() {
    let (pods, mut writer) = reflector::store();
    for pod in [pod("a-0", Some("a"), "n1"), pod("a-1", Some("a"), "n1"), pod("b-0", Some("b"), "n2")] {
        writer.apply_watcher_event(&watcher::Event::Apply(pod));
    }
    assert_eq!(fleets_on(&pods, "n1"), [key("a")]);
    assert!(fleets_on(&pods, "n3").is_empty());
}

#[test]
fn who_names_a_fleet_wakes_it() {
    let test = json!({"metadata": {"name": "rush", "namespace": "load"}, "spec": {"fleet": "a"}});
    assert_eq!(fleet_tested_by(&serde_json::from_value(test).unwrap()), Some(key("a")));
    let scaled = |kind: &str| {
        let target = json!({"apiVersion": "simctl.io/v1alpha1", "kind": kind, "name": "a"});
        let hpa = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "namespace": "load"},
            "spec": {"maxReplicas": 5, "scaleTargetRef": target},
        });
        fleet_scaled_by(&serde_json::from_value(hpa).unwrap())
    };
    assert_eq!(scaled("Fleet"), Some(key("a")));
    assert_eq!(scaled("Deployment"), None);
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_for_a_store_go_on_once_it_is_listed() {
    let (store, mut writer) = reflector::store::<Fleet>();
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let store = store.clone();
        waiting.spawn(async move { listed(&store).await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    writer.apply_watcher_event(&watcher::Event::Init);
    writer.apply_watcher_event(&watcher::Event::InitDone);
    let all = timeout(Duration::from_secs(10), async { while waiting.join_next().await.is_some() {} });
    assert!(all.await.is_ok(), "one that waits is never woken");
}
