//! What real workers ask of the controller: its figures while they answer, and how fast they follow it.
//!
//! The workers are processes behind fake pods, and the devices speak to the project's own broker, all in the control
//! plane's network: two hundred workers fit where two hundred containers would not.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use fleet_contract::metric::controller::{API_SECONDS, PULLS, PUSHES, RECONCILE_OWN_SECONDS, RECONCILE_SECONDS};
use serde_json::{Value, json};
use tests::{
    figures,
    kubernetes::Api,
    process::{Process, Stream},
    simctl::{Simctl, finish},
};

use super::{
    PATIENCE, PLANE, admin,
    kubelet::Kubelet,
    simctl::Hand,
    site::{Controller, HOST, Site, fleet, port, program},
};

/// Workers whose every reading the controller asks for, and the devices of each.
const WORKERS: u32 = 200;
const DEVICES_EACH: u32 = 10;

/// What the controller may take of a core while somebody watches and it asks each second, and while nobody does.
const WATCHED_MAX: f64 = 0.25;
const UNWATCHED_MAX: f64 = 0.02;

/// How long each is measured: several rounds of pulls, of one a second or one in fifteen.
const WATCHED: Duration = Duration::from_secs(10);
const UNWATCHED: Duration = Duration::from_secs(30);

/// What it may take of memory.
const MEMORY_MAX: u64 = 64 << 20;

/// Changes of which not one in a hundred may take the controller longer than that, beside the API server.
const CHANGES: u32 = 100;
const OWN_MAX: f64 = 0.1;

/// The project's own broker in the control plane's network.
pub(crate) struct Broker {
    port: u16,
    metrics_port: u16,
    process: Process,
}

impl Broker {
    pub(crate) fn start(site: &Site) -> Broker {
        let [port, metrics_port] = [port(), port()];
        let mut command = program("broker");
        command.arg(format!("--listen={HOST}:{port}")).arg(format!("--metrics={HOST}:{metrics_port}"));
        // Room for all devices and the observer of each worker.
        command.arg("--memory=1GiB");
        let name = format!("{}-broker", site.namespace.name());
        let process = Process::spawn(&name, &mut PLANE.network().enter(&command), &PLANE.logs()).unwrap();
        process.wait_for_line(Stream::Stderr, PATIENCE, |line| line.contains("broker listens")).unwrap();
        Broker { port, metrics_port, process }
    }

    /// The document of a fleet that speaks to it.
    pub(crate) fn fleet(&self, name: &str, devices: u32, per_pod: u32) -> String {
        fleet(name, devices, per_pod, "").replace("broker.example:1883", &format!("{HOST}:{}", self.port))
    }

    /// Clients that are connected, asked by the way of a controller's pod, which seems to be at the same address.
    fn clients(&self, api: &Api, controller: &Controller) -> u64 {
        self.process.ensure_running().unwrap();
        let text = api.get(&format!("{}:{}/proxy/metrics", controller.path(), self.metrics_port)).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("simctl_broker_connections "));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no count of clients in:\n{text}"))
    }
}

/// Awaits that all devices of a fleet are connected, and that nothing is on its way any more.
pub(crate) fn connects(site: &Site, name: &str, devices: u32) {
    let wanted = devices.to_string();
    site.namespace.wait_for(&format!("fleet/{name}"), "{.status.connected}", PATIENCE, |seen| seen == wanted).unwrap();
    site.condition(name, "Reconciling", "False Settled");
}

#[test]
fn two_hundred_workers_that_answer_cost_the_controller_little() {
    let site = Site::alone("answers");
    let broker = Broker::start(&site);
    let controller = site.controller("load-controller");
    let devices = WORKERS * DEVICES_EACH;
    site.namespace.apply(&broker.fleet("f", devices, DEVICES_EACH)).unwrap();
    site.settles("f", devices, WORKERS);
    let before = controller.process.memory().unwrap().rss;
    let mut workers = Kubelet::run(&site, "f");
    connects(&site, "f", devices);

    let hand = Hand::of(&site);
    let viewer = hand.start(&["top", "fleet/f", "--watch"]);
    viewer.wait_for_line(Stream::Stdout, PATIENCE, |line| line.contains("2,000 of 2,000 connected")).unwrap();
    let watched = cost(&controller, WATCHED);
    drop(viewer);
    is_unwatched(&controller);
    let unwatched = cost(&controller, UNWATCHED);
    let memory = controller.process.memory().unwrap().rss;
    println!(
        "FIGURE {WORKERS} workers of {DEVICES_EACH} devices: {:.1} % of a core at {:.0} pulls a second, {:.2} % at \
         {:.0}; {:.1} MiB resident, of which {:.1} KiB for each worker's answers",
        watched.cores * 100.0,
        watched.pulls_per_second,
        unwatched.cores * 100.0,
        unwatched.pulls_per_second,
        memory as f64 / f64::from(1 << 20),
        memory.saturating_sub(before) as f64 / 1024.0 / f64::from(WORKERS)
    );
    let all = f64::from(WORKERS);
    assert!(watched.pulls_per_second > 0.8 * all, "it asks each worker each second: {watched:?}");
    assert!((all / 30.0..all / 10.0).contains(&unwatched.pulls_per_second), "every 15 s: {unwatched:?}");
    assert!(watched.cores <= WATCHED_MAX && unwatched.cores <= UNWATCHED_MAX, "{watched:?}, {unwatched:?}");
    assert!(memory <= MEMORY_MAX, "{memory} bytes");

    changes(&site, &controller, devices);
    workers.workers().iter().for_each(|worker| worker.ensure_running().unwrap());
}

/// Changes the live numbers of a fleet again and again, and looks at what the controller measures of itself.
fn changes(site: &Site, controller: &Controller, devices: u32) {
    let api = admin().api().unwrap();
    let exposition = || api.get(&format!("{}/proxy/metrics", controller.path())).unwrap();
    let taken = || {
        let text = exposition();
        let line = text.lines().find_map(|line| line.strip_prefix(PUSHES.name)?.strip_prefix("{result=\"taken\"} "));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let before = exposition();
    for step in 0..CHANGES {
        let (version, pushed) = (plan_version(&api, site, "f"), taken());
        // Inside the last pod's share, so that no pod comes or goes.
        let change = match step % 4 {
            0 => json!({"devices": devices - 5}),
            1 => json!({"paused": true}),
            2 => json!({"devices": devices, "paused": false}),
            _ => json!({"intervals": {"*": format!("{}s", 10 + step)}}),
        };
        api.patch(&path_of(site, "f"), &json!({"spec": change})).unwrap();
        let is_newer = || Ok((plan_version(&api, site, "f") > version).then_some(()));
        tests::eventually(&format!("the plan follows {change}"), PATIENCE, is_newer).unwrap();
        // Elsewhere workers have cores of their own; here the controller would wait for those that take the plan over.
        let is_taken = || Ok((taken() >= pushed + u64::from(WORKERS)).then_some(()));
        tests::eventually("every worker has the plan", PATIENCE, is_taken).unwrap();
    }
    connects(site, "f", devices);
    let after = exposition();
    let of = |name: &str, quantile: f64| bound(&before, &after, name, quantile).0 * 1e3;
    let (own, count) = bound(&before, &after, RECONCILE_OWN_SECONDS.name, 0.99);
    println!(
        "FIGURE {CHANGES} changes, {count} reconciles that changed something: 99 % within {:.1} ms beside the API \
         server (50 % within {:.1} ms); 99 % of its calls within {:.0} ms, of all reconciles within {:.0} ms",
        own * 1e3,
        of(RECONCILE_OWN_SECONDS.name, 0.5),
        of(API_SECONDS.name, 0.99),
        of(RECONCILE_SECONDS.name, 0.99)
    );
    assert!(count >= CHANGES.into(), "{count} reconciles");
    assert!(own <= OWN_MAX, "{own} s");
}

#[test]
fn growth_inside_running_pods_is_pushed_and_takes_a_second_and_the_time_to_connect() {
    const RATE: f64 = 1_000.0;
    let (from, to) = (1_100, 1_900);
    let site = Site::alone("grows");
    let broker = Broker::start(&site);
    let controller = site.controller("load-controller");
    site.namespace.apply(&broker.fleet("g", from, 1_000)).unwrap();
    site.settles("g", from, 2);
    let mut workers = Kubelet::run(&site, "g");
    connects(&site, "g", from);
    let (before, pushes) = (processes(&site, "g"), controller.metric(PUSHES.name));
    let api = admin().api().unwrap();
    // Each worker observes by a connection of its own.
    let wanted = u64::from(from) + 2 + u64::from(to - from) * 9 / 10;
    let bound = Duration::from_secs_f64(1.0 + f64::from(to - from) / RATE);
    let has = |devices: u32| {
        api.patch(&path_of(&site, "g"), &json!({"spec": {"devices": devices}})).unwrap();
    };
    let grow = || {
        has(from);
        let has_shrunk = || Ok((broker.clients(&api, &controller) == u64::from(from) + 2).then_some(()));
        tests::eventually("only the first devices and the two observers are connected", PATIENCE, has_shrunk).unwrap();
        let start = Instant::now();
        has(to);
        let has_grown = || Ok((broker.clients(&api, &controller) >= wanted).then_some(()));
        tests::eventually("nine in ten of the new devices are connected", PATIENCE, has_grown).unwrap();
        let took = start.elapsed();
        println!("FIGURE 720 of 800 new devices in running pods connected after {took:.2?}, bound {bound:.2?}");
        connects(&site, "g", to);
        took
    };
    let took = tests::least_of(&bound, grow);
    assert!(took <= bound, "{took:.2?} is beyond {bound:.2?}");
    assert_eq!(broker.clients(&api, &controller), u64::from(to) + 2);
    assert_eq!(processes(&site, "g"), before, "no pod and no process is another one");
    workers.workers().iter().for_each(|worker| worker.ensure_running().unwrap());
    // No kubelet has brought the new plan: the mounted file is what it was.
    assert!(controller.metric(PUSHES.name) >= pushes + 2.0);
}

/// The messages of each series that were offered, in a report or a phase of it.
fn offered(figures: &Value) -> BTreeMap<String, u64> {
    let groups = figures["groups"].as_object().unwrap_or_else(|| panic!("there are no groups in {figures}"));
    let of_group = |(group, figures): (&String, &Value)| {
        let streams = figures["streams"].as_object().unwrap().clone();
        let group = group.clone();
        streams
            .into_iter()
            .map(move |(stream, figures)| (format!("{group}/{stream}"), figures["offered"].as_u64().unwrap()))
    };
    groups.iter().flat_map(of_group).collect()
}

/// The phase of a load test's report in which all devices are connected from its beginning to its end.
fn steady(report: &Value) -> &Value {
    let mut phases = report["phases"].as_array().into_iter().flatten();
    phases.find(|phase| phase["name"] == "steady").unwrap_or_else(|| panic!("no phase steady in {report}"))
}

/// A phase that is a multiple of a stream's interval has as many messages of each device, wherever the device runs and
/// whenever the phase begins: no message falls due twice, or not at all.
#[test]
fn pods_offer_what_one_machine_offers() {
    const DEVICES: u32 = 40;
    const GROUPS: &str = "lossAfter: 2s
  groups:
    - {name: warm, share: 30%, model: thermometer, streams: {reading: {interval: 250ms, jitter: 0s}}}
    - {name: cold, model: thermometer, streams: {reading: {interval: 500ms, jitter: 0s, qos: 1}}}";
    // The devices of one machine connect in the first phase; what falls due behind the last one is in none.
    const TEST: &str = "
apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {name: twins}
spec:
  fleet: f
  phases:
    - {name: ramp, duration: 4s}
    - {name: steady, duration: 5s, measure: true}
    - {name: rest, duration: 1s}
  thresholds: [delivered > 0]
";
    let all = [("warm/reading", 12 * 20), ("cold/reading", 28 * 10)];
    let all: BTreeMap<String, u64> = all.map(|(series, count)| (series.to_owned(), count)).into();
    let site = Site::new("twins");
    let (broker, hand) = (Broker::start(&site), Hand::of(&site));
    let _controller = site.controller("load-controller");
    let text = broker.fleet("f", DEVICES, 10).replace("groups: [{name: all, model: thermometer}]", GROUPS);
    site.namespace.apply(&text).unwrap();
    site.settles("f", DEVICES, 4);
    let mut workers = Kubelet::run(&site, "f");
    connects(&site, "f", DEVICES);
    site.namespace.apply(TEST).unwrap();
    hand.does(&["wait", "loadtest/twins", "--timeout", "2m"]);
    let in_pods = hand.call(&["report", "loadtest/twins", "-o", "json"]).json().unwrap();
    workers.workers().iter().for_each(|worker| worker.ensure_running().unwrap());

    let simctl = Simctl::new().unwrap();
    let broker = text.lines().find(|line| line.trim_start().starts_with("broker:")).unwrap();
    fs::write(simctl.dir().join("twins.yaml"), format!("{}---{TEST}", text.replace(broker, ""))).unwrap();
    let run = simctl.spawn("simctl", &["run", "-f", "twins.yaml", "-o", "json"]).unwrap();
    let finished = finish(run, PATIENCE).unwrap();
    // A machine that is too slow makes a test invalid, and leaves no message out.
    assert!(matches!(finished.code, Some(0 | 96)), "{finished:?}");
    let on_one_machine = finished.json().unwrap();

    assert_eq!(offered(steady(&in_pods)), offered(steady(&on_one_machine)));
    assert_eq!(offered(steady(&in_pods)), all);
}

/// What the controller took for a while.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) cores: f64,
    pulls_per_second: f64,
}

pub(crate) fn cost(controller: &Controller, window: Duration) -> Cost {
    let (pulls, start, cpu) = (controller.metric(PULLS.name), Instant::now(), controller.process.cpu().unwrap());
    std::thread::sleep(window);
    let (took, cpu) = (start.elapsed().as_secs_f64(), controller.process.cpu().unwrap().since(cpu));
    let pulls = controller.metric(PULLS.name) - pulls;
    Cost { cores: cpu.total().as_secs_f64() / took, pulls_per_second: pulls / took }
}

/// Awaits that the workers are not asked each second any more, which goes on for a while after the last look.
fn is_unwatched(controller: &Controller) {
    let mut last = (controller.metric(PULLS.name), Instant::now());
    let rests = || {
        let pulls = controller.metric(PULLS.name);
        if pulls > last.0 {
            last = (pulls, Instant::now());
        }
        Ok((last.1.elapsed() > Duration::from_secs(3)).then_some(()))
    };
    tests::eventually("the workers are left alone for three seconds", PATIENCE, rests).unwrap();
}

fn path_of(site: &Site, fleet: &str) -> String {
    format!("/apis/simctl.io/v1alpha1/namespaces/{}/fleets/{fleet}", site.namespace.name())
}

/// The version of the plan that pods mount.
fn plan_version(api: &Api, site: &Site, fleet: &str) -> u64 {
    let path = format!("/api/v1/namespaces/{}/configmaps/{fleet}-plan", site.namespace.name());
    let object = api.object(&path).unwrap();
    let plan: Value = serde_json::from_str(object["data"]["plan.json"].as_str().unwrap()).unwrap();
    plan["version"].as_u64().unwrap()
}

/// Which pods there are, and the start of the process in each, as the controller heard it.
fn processes(site: &Site, fleet: &str) -> (Vec<String>, Vec<Value>) {
    let uids = site.pods(fleet).iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
    let pods = figures::ask(&site.namespace, &json!({"fleet": fleet, "what": "pods"})).unwrap();
    (uids, pods[fleet].as_array().unwrap().iter().map(|pod| pod["epoch"].clone()).collect())
}

/// The upper bound in seconds of the bucket that a quantile of what came between two expositions falls into, over all
/// labels of the histogram; and how many came.
fn bound(before: &str, after: &str, histogram: &str, quantile: f64) -> (f64, u64) {
    let earlier = buckets(before, histogram);
    let counts = buckets(after, histogram).into_iter().map(|(limit, count)| {
        let known = earlier.iter().find(|(known, _)| *known == limit).map_or(0, |(_, count)| *count);
        (limit, count - known)
    });
    let counts: Vec<(String, u64)> = counts.collect();
    let all = counts.last().map_or(0, |(_, count)| *count);
    let (limit, _) = counts.iter().find(|(_, count)| *count as f64 >= all as f64 * quantile).unwrap();
    (limit.replace("+Inf", "inf").parse().unwrap(), all)
}

/// The limits of a histogram's buckets in their order, and what is counted up to each.
fn buckets(exposition: &str, histogram: &str) -> Vec<(String, u64)> {
    let prefix = format!("{histogram}_bucket{{");
    let mut buckets: Vec<(String, u64)> = Vec::new();
    for line in exposition.lines().filter_map(|line| line.strip_prefix(&prefix)) {
        let (labels, count) = line.rsplit_once(' ').unwrap();
        let limit = labels.split_once("le=\"").unwrap().1.split('"').next().unwrap().to_owned();
        let count: u64 = count.parse().unwrap();
        match buckets.iter_mut().find(|(known, _)| *known == limit) {
            Some((_, sum)) => *sum += count,
            None => buckets.push((limit, count)),
        }
    }
    buckets
}
