//! Several workers of one fleet, each with a shard, as pods are: killed, restarted, outgrown, and merged in the end.

#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use fleet_contract::{
    plan::{Plan, Setting},
    stats::{Stats, Totals},
    time::Micros,
    units::Span,
    worker::DeviceStatus,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::process::{Process, body, broker, document, eventually, now};

/// A fleet's directory, as its pods see it: document, plan, and a place for each to keep its own.
struct Pods {
    _runtime: Runtime,
    directory: TempDir,
    totals: Totals,
    plan: Plan,
}

impl Pods {
    fn new(plan: Plan, more: &str) -> Self {
        let (runtime, broker) = broker();
        Self::at(runtime, broker, plan, more)
    }

    fn at(runtime: Runtime, broker: SocketAddr, plan: Plan, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("assignment.json"), body(&document(broker, more))).unwrap();
        std::fs::write(directory.path().join("plan.json"), body(&plan)).unwrap();
        Self { _runtime: runtime, directory, totals: Totals::default(), plan }
    }

    /// Starts the container of pod `ordinal`; its own directory outlives it.
    fn start(&self, ordinal: u32) -> Process {
        self.start_on("node", ordinal)
    }

    /// Starts that of a node, of which there may be two at a time when one is cut off.
    fn start_on(&self, node: &str, ordinal: u32) -> Process {
        let own = self.directory.path().join(format!("{node}-{ordinal}"));
        std::fs::create_dir_all(&own).unwrap();
        let file = |directory: &Path, name: &str| directory.join(name).display().to_string();
        let (shared, ordinal) = (self.directory.path(), ordinal.to_string());
        let arguments = ["--assignment", &file(shared, "assignment.json"), "--plan", &file(shared, "plan.json")];
        let of_the_pod = ["--ordinal", &ordinal, "--state", &file(&own, "kept"), "--threads", "1"];
        Process::unix(&own, &[&arguments[..], &of_the_pod].concat())
    }

    /// Changes the plan, and pushes it to these.
    fn push(&mut self, setting: Setting, workers: &[&Process]) {
        self.plan.set(now(), setting);
        for worker in workers {
            let (status, answer) = worker.api.call("PUT", "/v1/plan", &body(&self.plan));
            assert_eq!((status, answer), (200, format!("{{\"version\":{}}}", self.plan.version)));
        }
    }

    /// Ends them as Kubernetes ends pods, pulls what they have measured, and returns the sum of everything.
    fn end(&mut self, workers: Vec<(u32, Process)>) -> Stats {
        for (_, worker) in &workers {
            worker.signal(Signal::TERM);
        }
        for (ordinal, mut worker) in workers {
            self.totals.take(ordinal, worker.api.until("the end of the drain", |reading| reading.is_drained));
            assert_eq!(worker.ended(), Some(0));
        }
        let sum = self.totals.sum();
        for (qos, messages) in sum.messages.iter().enumerate() {
            assert_eq!(messages.offered, messages.sent + messages.withheld, "QoS {qos}: {messages:?}");
            assert_eq!(messages.sent, messages.observed + messages.unobserved, "QoS {qos}: {messages:?}");
            assert_eq!(messages.in_flight(), 0, "QoS {qos}: {messages:?}");
            assert_eq!((messages.lost, messages.duplicated, messages.late), (0, 0, 0), "QoS {qos}: {messages:?}");
        }
        sum
    }
}

fn device(worker: &Process, index: u32) -> DeviceStatus {
    let (status, answer) = worker.api.call("GET", &format!("/v1/devices/{index}"), "");
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

/// Whether nothing has happened to the sessions of a worker's devices but that they were made once.
#[track_caller]
fn expect_undisturbed(stats: &Stats, devices: u64) {
    let connections = &stats.connections;
    assert_eq!((connections.accepted, connections.reconnects), (devices, 0), "{connections:?}");
    assert!(connections.lost.is_empty() && connections.failed.is_empty(), "{connections:?}");
    assert_eq!((stats.observer.losses, stats.observer.foreign), (0, 0), "{:?}", stats.observer);
}

/// Awaits that the observer of the first reads no more than that of the second: both have as many devices.
#[track_caller]
fn expect_own_messages_only(first: &Process, second: &Process) {
    let read = |worker: &Process| worker.api.stats().stats;
    eventually("an observer of its own devices", || {
        let before = [first, second].map(|worker| read(worker).bytes.observed);
        let goal = read(second).all_messages().delivered + 100;
        second.api.until("100 more", |reading| reading.stats.all_messages().delivered > goal);
        let after = [first, second].map(|worker| read(worker).bytes.observed);
        let [of_first, of_second] = [0, 1].map(|at| (after[at] - before[at]) as f64);
        (of_first < 1.5 * of_second).then_some(())
    });
}

/// Connects once with somebody's client id, and leaves without a word.
fn take_session(broker: SocketAddr, client_id: &str) {
    let mut packet =
        vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, u8::try_from(client_id.len()).unwrap()];
    packet.extend_from_slice(client_id.as_bytes());
    packet[1] = u8::try_from(packet.len() - 2).unwrap();
    let mut stream = TcpStream::connect(broker).unwrap();
    stream.write_all(&packet).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
}

/// Ends a worker; what its last connections had not been told of is lost with their clean sessions, and nothing else.
#[track_caller]
fn expect_drained(worker: &Process) -> Stats {
    worker.signal(Signal::TERM);
    let stats = worker.api.until("the end of the drain", |reading| reading.is_drained).stats;
    let all = stats.all_messages();
    assert_eq!((all.offered, all.in_flight()), (all.sent + all.withheld, 0), "{all:?}");
    assert!(all.lost_acknowledged == 0 && all.lost <= all.abandoned, "{all:?}");
    stats
}

#[test]
fn of_two_workers_in_one_place_the_older_leaves_for_the_newer() {
    for more in ["", "  observe: sample\n  observer: {sample: 0.01%}\n"] {
        let pods = Pods::new(Plan::new(7, now(), 10), more);
        let older = pods.start_on("cut-off", 0);
        older.api.until("ten devices", |reading| reading.stats.devices.connected == 10);
        older.api.until("messages", |reading| reading.stats.all_messages().sent > 100);
        let began = Instant::now();
        let newer = pods.start(0);
        let left = older.api.until("the older leaves", |reading| reading.is_drained);
        newer.api.until("the newer has all", |reading| reading.stats.devices.connected == 10);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let lost = left.stats.all_messages().lost_acknowledged;
        assert_eq!((left.stats.observer.superseded, lost), (1, 0), "{:?}", left.stats.observer);
        // From now on nobody takes anything over.
        let before = newer.api.stats().stats;
        let sent = before.all_messages().sent;
        let after = newer.api.until("more messages", |reading| reading.stats.all_messages().sent > sent + 300).stats;
        let lost = |stats: &Stats| stats.connections.lost.values().sum::<u64>();
        assert_eq!(lost(&before), lost(&after), "{:?}", after.connections);
        assert!(lost(&after) + lost(&left.stats) <= 3 * 10, "{:?} {:?}", after.connections, left.stats.connections);
        assert_eq!(after.observer.superseded, 0);
        expect_drained(&newer);
    }
}

#[test]
fn a_stranger_with_the_client_id_of_a_device_makes_nobody_leave() {
    let (runtime, broker) = broker();
    let pods = Pods::at(runtime, broker, Plan::new(7, now(), 10), "  connect: {backoff: {base: 100ms, cap: 200ms}}");
    let worker = pods.start(0);
    worker.api.until("ten devices", |reading| reading.stats.devices.connected == 10);
    for takeover in 1..=4 {
        take_session(broker, "f-3");
        worker.api.until("it was noticed", |reading| reading.stats.connections.lost.values().sum::<u64>() == takeover);
        worker.api.until("all are back", |reading| reading.stats.devices.connected == 10);
    }
    let reading = worker.api.stats();
    assert_eq!((reading.is_drained, reading.stats.observer.superseded), (false, 0));
    assert_eq!(reading.stats.connections.accepted, 14);
    assert_eq!(expect_drained(&worker).connections.accepted, 14);
}

#[test]
fn a_killed_pod_comes_back_alone_with_its_devices_and_the_newest_plan() {
    // The fleet is an hour old, and 20 of its devices may connect a second.
    let plan = Plan::new(7, Micros(now().0 - 3_600_000_000), 25);
    let mut pods = Pods::new(plan, "  devicesPerPod: 10\n  connect: {rate: 20/s}");
    let workers: Vec<Process> = (0..3).map(|ordinal| pods.start(ordinal)).collect();
    for (worker, devices) in workers.iter().zip([10, 10, 5]) {
        worker.api.until("the devices of the pod", |reading| reading.stats.devices.connected == devices);
        worker.api.until_ready();
    }
    pods.push(Setting::Devices(28), &workers.iter().collect::<Vec<_>>());
    workers[2].api.until("the grown devices", |reading| reading.stats.devices.connected == 8);
    let before = workers[1].api.until("some messages", |reading| reading.stats.all_messages().delivered > 200);
    let longest = before.stats.latency.connect.max().unwrap();
    assert!(longest < Span::from_secs(1), "counted from when the process meant to connect, not {longest}");
    let sent_before = device(&workers[1], 13).streams[0].sent;
    pods.totals.take(1, before.clone());

    workers[1].signal(Signal::KILL);
    let mut workers = workers.into_iter();
    let (first, mut killed, last) = (workers.next().unwrap(), workers.next().unwrap(), workers.next().unwrap());
    assert_eq!(killed.ended(), None);
    // The others go on, and one of them grows meanwhile.
    pods.push(Setting::Devices(29), &[&first, &last]);
    let started = Instant::now();
    let back = pods.start(1);
    assert_eq!(back.api.error("GET", "/readyz", "").0, 503);
    let again = back.api.until("its devices", |reading| reading.stats.devices.connected == 10);
    // At ten of 28 devices its share of the rate is 7.1 a second: the tenth comes 1.26 s after the first.
    let took = started.elapsed();
    assert!(Duration::from_millis(1_200) < took && took < Duration::from_secs(10), "it took {took:?}");
    back.api.until_ready();
    assert!(again.epoch > before.epoch);
    assert_eq!((again.plan_version, again.stats.devices.desired), (2, 10), "it has kept what was pushed");
    assert_eq!((again.stats.connections.accepted, again.stats.latency.connect.count()), (10, 10));
    let longest = again.stats.latency.connect.max().unwrap();
    assert!(longest < Span::from_secs(1), "counted from when this process meant to connect, not {longest}");
    pods.push(Setting::Devices(30), &[&first, &back, &last]);
    last.api.until("its tenth device", |reading| reading.stats.devices.connected == 10);

    for index in 10..20 {
        assert_eq!(device(&back, index).client_id, format!("f-{index}"));
    }
    assert!(device(&back, 13).streams[0].sent < sent_before, "its sequences begin anew");
    for (worker, stranger) in [(&first, 10), (&back, 9), (&back, 20), (&last, 19)] {
        assert_eq!(worker.api.error("GET", &format!("/v1/devices/{stranger}"), "").0, 404);
    }
    let goal = again.stats.all_messages().delivered + 200;
    let later = back.api.until("more messages", |reading| reading.stats.all_messages().delivered > goal);
    assert_eq!(later.stats.observer.foreign, 0, "what its predecessor has left is not its own, but not foreign either");
    expect_undisturbed(&first.api.stats().stats, 10);
    expect_undisturbed(&last.api.stats().stats, 10);

    let sum = pods.end(vec![(0, first), (1, back), (2, last)]);
    let all = sum.all_messages();
    let in_flight = before.stats.all_messages().in_flight();
    assert_eq!((all.unknown, sum.connections.accepted), (in_flight, 40), "{all:?}");
}

#[test]
fn a_worker_that_the_fleet_outgrows_follows_its_own_devices_only() {
    let mut pods = Pods::new(Plan::new(7, now(), 10), "  devicesPerPod: 10");
    let first = pods.start(0);
    first.api.until("the fleet, by wildcards", |reading| reading.stats.all_messages().delivered > 200);
    pods.push(Setting::Devices(20), &[&first]);
    std::fs::write(pods.directory.path().join("plan.json"), body(&pods.plan)).unwrap();
    let second = pods.start(1);
    second.api.until("the second pod", |reading| reading.stats.all_messages().delivered > 100);

    expect_own_messages_only(&first, &second);
    assert_eq!(first.api.stats().stats.observer.foreign, 0);

    // Its successor finds the session of one that had wildcards.
    pods.totals.take(0, first.api.stats());
    first.signal(Signal::KILL);
    drop(first);
    let back = pods.start(0);
    let stats = back.api.until("its messages", |reading| reading.stats.all_messages().delivered > 100).stats;
    assert_eq!((stats.observer.foreign, stats.all_messages().duplicated), (0, 0), "{:?}", stats.messages);
    expect_undisturbed(&second.api.stats().stats, 10);
    pods.end(vec![(0, back), (1, second)]);
}

#[test]
fn a_successor_of_wildcards_is_not_given_what_they_match() {
    let mut pods = Pods::new(Plan::new(7, now(), 10), "  devicesPerPod: 10");
    let first = pods.start(0);
    first.api.until("the fleet, by wildcards", |reading| reading.stats.all_messages().delivered > 50);
    first.signal(Signal::KILL);
    drop(first);
    // The fleet grows while it is away: from its start the successor goes by names.
    pods.push(Setting::Devices(20), &[]);
    std::fs::write(pods.directory.path().join("plan.json"), body(&pods.plan)).unwrap();
    let workers = [pods.start(0), pods.start(1)];
    for worker in &workers {
        worker.api.until("its messages", |reading| reading.stats.all_messages().delivered > 200);
    }
    expect_own_messages_only(&workers[0], &workers[1]);
    let [first, second] = workers;
    pods.end(vec![(0, first), (1, second)]);
}

#[test]
fn the_api_answers_while_two_thousand_devices_connect() {
    let plan = Plan::new(7, now().after(Span::from_secs(2)), 2_000);
    let more = "  devicesPerPod: 1000\n  connect: {rate: 1000/s}\n  lossAfter: 20s";
    let pods = Pods::new(plan, more);
    let workers = [pods.start(0), pods.start(1)];
    let mut slowest = Duration::ZERO;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut is_over = true;
        for worker in &workers {
            for path in ["/healthz", "/readyz", "/metrics"] {
                let asked = Instant::now();
                let (status, answer) = worker.api.call("GET", path, "");
                slowest = slowest.max(asked.elapsed());
                is_over &= status == 200 && (path != "/metrics" || answer.contains("state=\"connected\"} 1000"));
            }
        }
        if is_over {
            break;
        }
        assert!(Instant::now() < deadline, "the devices did not connect");
    }
    // On an idle machine some milliseconds; never do they wait until the devices are through.
    assert!(slowest < Duration::from_secs(3), "the slowest answer took {slowest:?}");
    // A thousand exact filters each.
    for worker in &workers {
        let reading = worker.api.until("the observer", |reading| reading.stats.observer.subscribed == 1);
        assert_eq!(reading.stats.observer.error, None);
    }
}
