//! The worker's program over its API, as a controller and an operator use it: real processes, sockets and broker.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::{
    fmt::Debug,
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use broker::{Broker, Config};
use fleet_contract::{
    document,
    fleet::Fleet,
    model::Model,
    plan::{Plan, Setting, Shard},
    stats::WorkerStats,
    time::Micros,
    units::Span,
    worker::{Assignment, DeviceStatus},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

const FLEET: &str = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  devices: 10
  lossAfter: 2s
  groups: [{name: all, model: m}]
";

const MODEL: &str = r#"
signals:
  level: {kind: constant, value: 21}
streams:
  state: {topic: "{fleet}/{index}/state", interval: 100ms, qos: 1, payload: {json: {level: "{level}"}}}
"#;

/// A broker of ours that lives as long as the test.
fn broker() -> (Runtime, SocketAddr) {
    let runtime = Runtime::new().unwrap();
    let guard = runtime.enter();
    let broker = Broker::bind(Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() }).unwrap();
    let address = broker.address();
    drop(guard);
    runtime.spawn(async move { broker.run(CancellationToken::new()).await.unwrap() });
    (runtime, address)
}

fn now() -> Micros {
    device_sim::clock::Clock::new().now()
}

fn assignment(broker: SocketAddr) -> Assignment {
    let url = format!("spec:\n  broker: {{url: \"mqtt://{broker}\"}}");
    let (mut fleet, _) = document::read::<Fleet>("fleet.yaml", &FLEET.replace("spec:", &url)).unwrap();
    let (model, _) = document::read::<Model>("model.yaml", MODEL).unwrap();
    fleet.spec.models.insert("m".into(), model);
    Assignment { fleet, plan: Plan::new(7, now(), 10), shard: Shard { first: 0, devices: 100 }, files: [].into() }
}

fn body(of: &impl serde::Serialize) -> String {
    serde_json::to_string(of).unwrap()
}

/// A worker process with its API, killed at the end if it still lives.
struct Process {
    child: Child,
    api: Api,
}

#[derive(Clone)]
enum Api {
    Unix(PathBuf),
    Tcp(SocketAddr, Option<&'static str>),
}

trait Conversation: Read + Write {}
impl<T: Read + Write> Conversation for T {}

impl Api {
    /// Status and body of the answer.
    fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream: Box<dyn Conversation> = match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
            Self::Tcp(address, _) => Box::new(TcpStream::connect(address).unwrap()),
        };
        let token = match self {
            Self::Tcp(_, Some(token)) => format!("authorization: Bearer {token}\r\n"),
            _ => String::new(),
        };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: w\r\nconnection: close\r\n{token}content-length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
    }

    #[track_caller]
    fn error(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, body) = self.call(method, path, body);
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}"));
        (status, value["error"].as_str().unwrap().into())
    }

    #[track_caller]
    fn stats(&self) -> WorkerStats {
        let (status, body) = self.call("GET", "/v1/stats", "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&WorkerStats) -> bool) -> WorkerStats {
        eventually(what, || Some(self.stats()).filter(&is_so))
    }
}

#[track_caller]
fn eventually<T: Debug>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Process {
    fn start(arguments: &[&str], token: Option<&'static str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_device-sim"));
        command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped());
        if let Some(token) = token {
            command.env("SIMCTL_TOKEN", token);
        }
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("the worker listens") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the worker ended before it listened");
        }
        // What follows is read and forgotten, so that the worker never waits for its log.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let plain: String = strip_colours(&line);
        let at = plain.split("api=").nth(1).unwrap().trim();
        let api = match at.strip_prefix("unix:") {
            Some(path) => Api::Unix(path.into()),
            None => Api::Tcp(at.parse().unwrap(), token),
        };
        Self { child, api }
    }

    fn unix(directory: &Path, more: &[&str]) -> Self {
        let listen = format!("unix:{}", directory.join("w.sock").display());
        Self::start(&[&["--api", &listen], more].concat(), None)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code, once it has ended.
    #[track_caller]
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the worker does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn strip_colours(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(|part| part.split_once('m').map_or("", |(_, rest)| rest)).collect::<String>()
}

#[test]
fn a_worker_runs_what_it_is_assigned_and_follows_its_plan() {
    let (_runtime, broker) = broker();
    let directory = tempfile::tempdir().unwrap();
    let worker = Process::unix(directory.path(), &[]);
    assert_eq!(worker.api.call("GET", "/readyz", "").0, 503);
    assert_eq!(
        worker.api.error("GET", "/v1/stats", ""),
        (409, "expected an assignment, found none; do PUT /v1/assignment first".into())
    );

    let assignment = assignment(broker);
    assert_eq!(worker.api.call("PUT", "/v1/assignment", &body(&assignment)), (200, "{\"version\":1}".into()));
    assert_eq!(worker.api.call("GET", "/readyz", "").0, 200);
    let reading = worker.api.until("ten devices", |reading| reading.stats.devices.connected == 10);
    assert!(reading.stats.generator.memory_bytes > 0 && reading.stats.generator.workers == 1);

    let mut plan = assignment.plan.clone();
    plan.set(now(), Setting::Devices(25));
    assert_eq!(worker.api.call("PUT", "/v1/plan", &body(&plan)), (200, "{\"version\":2}".into()));
    assert_eq!(worker.api.call("PUT", "/v1/plan", &body(&assignment.plan)), (200, "{\"version\":2}".into()));
    worker.api.until("25 devices", |reading| reading.stats.devices.connected == 25 && reading.plan_version == 2);

    let (status, device) = worker.api.call("GET", "/v1/devices/24", "");
    let device: DeviceStatus = serde_json::from_str(&device).unwrap();
    assert_eq!((status, device.client_id.as_str(), device.state.as_str()), (200, "f-24", "up"));
    let (status, metrics) = worker.api.call("GET", "/metrics", "");
    assert!(status == 200 && metrics.contains("simctl_devices{fleet=\"f\",state=\"connected\"} 25"), "{metrics}");
}

#[test]
fn a_worker_says_what_it_expected() {
    let (_runtime, broker) = broker();
    let directory = tempfile::tempdir().unwrap();
    let worker = Process::unix(directory.path(), &[]);
    let assignment = assignment(broker);
    let (status, error) = worker.api.error("PUT", "/v1/assignment", "{}");
    assert!(status == 400 && error.contains("expected an assignment as JSON, found: missing field `fleet`"), "{error}");
    let mut unrunnable = assignment.clone();
    unrunnable.fleet.spec.broker = None;
    let (status, error) = worker.api.error("PUT", "/v1/assignment", &body(&unrunnable));
    assert!(status == 422 && error.contains("`spec.broker.url`"), "{status} {error}");

    assert_eq!(worker.api.call("PUT", "/v1/assignment", &body(&assignment)).0, 200);
    assert_eq!(worker.api.call("PUT", "/v1/assignment", &body(&assignment)).0, 200);
    let mut other = assignment.clone();
    other.shard.first = 100;
    let (status, error) = worker.api.error("PUT", "/v1/assignment", &body(&other));
    assert_eq!(
        (status, error.as_str()),
        (
            409,
            "expected the assignment of f from device 0, which runs, found f from device 100; start another worker for it"
        )
    );
    assert_eq!(worker.api.error("PUT", "/v1/plan", &body(&Plan::new(8, now(), 9))).0, 409);
    assert_eq!(worker.api.error("GET", "/v1/devices/100", "").0, 404);
    assert_eq!(worker.api.error("GET", "/v1/devices/all", "").0, 404);
    assert_eq!(worker.api.error("GET", "/v1/nothing", "").0, 404);
    assert_eq!(worker.api.error("GET", "/v1/drain", "").0, 405);
}

#[test]
fn a_unix_socket_is_its_owners_alone_and_goes_with_the_worker() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("w.sock");
    // One that was left behind is no hindrance.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let mut worker = Process::unix(directory.path(), &[]);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let listen = format!("unix:{}", socket.display());
    let second = Command::new(env!("CARGO_BIN_EXE_device-sim")).args(["--api", &listen]).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(second.status.code() == Some(1) && error.contains("expected to listen at unix:"), "{error}");
    worker.signal(Signal::TERM);
    assert_eq!(worker.ended(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn over_tcp_a_token_is_needed_but_for_what_scrapers_want() {
    let worker = Process::start(&["--api", "127.0.0.1:0"], Some("open-sesame"));
    let Api::Tcp(address, _) = worker.api else { panic!("it listens on TCP") };
    let with = |token| Api::Tcp(address, token);
    assert_eq!(with(Some("open-sesame")).call("GET", "/v1/stats", "").0, 409);
    for wrong in [None, Some("open-sesam"), Some("open-sesame2")] {
        assert_eq!(with(wrong).error("GET", "/v1/stats", "").0, 401, "{wrong:?}");
        assert_eq!(with(wrong).error("PUT", "/v1/assignment", "{}").0, 401, "{wrong:?}");
        assert_eq!(with(wrong).error("POST", "/v1/drain", "").0, 401, "{wrong:?}");
    }
    assert_eq!(with(None).call("GET", "/healthz", "").0, 200);
    assert!(with(None).call("GET", "/metrics", "").1.contains("simctl_workers{fleet=\"\"} 1"));
}

#[test]
fn over_tcp_without_a_token_nobody_may_steer() {
    let worker = Process::start(&["--api", "[::1]:0"], None);
    assert_eq!(worker.api.error("PUT", "/v1/plan", "{}").0, 403);
    assert_eq!(worker.api.call("GET", "/healthz", "").0, 200);
}

#[test]
fn on_sigterm_a_worker_drains_and_waits_for_its_last_reader() {
    let (_runtime, broker) = broker();
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Process::unix(directory.path(), &[]);
    worker.api.call("PUT", "/v1/assignment", &body(&assignment(broker)));
    worker.api.until("some messages", |reading| reading.stats.all_messages().sent >= 30);
    worker.signal(Signal::TERM);
    let last = worker.api.until("the end of the drain", |reading| reading.is_drained);
    let all = last.stats.all_messages();
    assert_eq!((all.in_flight(), all.delivered, last.stats.devices.connected), (0, all.sent, 0), "{all:?}");
    let pulled = Instant::now();
    assert_eq!(worker.ended(), Some(0));
    assert!(pulled.elapsed() < Duration::from_secs(3), "it waited for nobody");
}

#[test]
fn a_worker_ends_with_its_parent() {
    let (_runtime, broker) = broker();
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Process::unix(directory.path(), &["--with-parent"]);
    worker.api.call("PUT", "/v1/assignment", &body(&assignment(broker)));
    worker.api.until("ten devices", |reading| reading.stats.devices.connected == 10);
    // The terminal's Ctrl-C is the parent's affair.
    worker.signal(Signal::INT);
    worker.child.stdin.as_mut().unwrap().write_all(b"ignored").unwrap();
    assert_eq!(worker.api.stats().stats.devices.connected, 10);
    drop(worker.child.stdin.take());
    assert_eq!(worker.ended(), Some(0));
}

#[test]
fn a_second_sigterm_ends_a_worker_at_once() {
    let (_runtime, broker) = broker();
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Process::unix(directory.path(), &[]);
    worker.api.call("PUT", "/v1/assignment", &body(&assignment(broker)));
    worker.api.until("ten devices", |reading| reading.stats.devices.connected == 10);
    worker.signal(Signal::TERM);
    // A scrape is no pull: the worker goes on waiting for somebody who pulls.
    let nobody = "simctl_devices{fleet=\"f\",state=\"connected\"} 0";
    eventually("the drain", || worker.api.call("GET", "/metrics", "").1.contains(nobody).then_some(()));
    worker.signal(Signal::TERM);
    let told = Instant::now();
    assert_eq!(worker.ended(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(3), "it went on waiting");
}

#[test]
fn a_restarted_worker_goes_on_with_the_newest_plan() {
    let (_runtime, broker) = broker();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let assignment = assignment(broker);
    std::fs::write(file("shard.json"), body(&assignment)).unwrap();
    let arguments = [&*"--assignment".to_owned(), &file("shard.json"), "--state", &file("plan.json"), "--threads", "1"];
    let worker = Process::unix(directory.path(), &arguments);
    eventually("the devices of the file", || (worker.api.call("GET", "/readyz", "").0 == 200).then_some(()));
    let mut plan = assignment.plan.clone();
    plan.set(now().after(Span::ZERO), Setting::Devices(4));
    assert_eq!(worker.api.call("PUT", "/v1/plan", &body(&plan)).0, 200);
    drop(worker);

    let worker = Process::unix(directory.path(), &arguments);
    eventually("the devices of the file", || (worker.api.call("GET", "/readyz", "").0 == 200).then_some(()));
    let reading = worker.api.until("four devices", |reading| reading.stats.devices.connected == 4);
    assert_eq!((reading.plan_version, reading.stats.devices.desired), (2, 4));
}

#[test]
fn a_wrong_assignment_is_a_wrong_document() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shard.json");
    std::fs::write(&path, "{\"fleet\": 7}").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_device-sim"))
        .args(["--api", "127.0.0.1:0", "--assignment", path.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(104), "{}", String::from_utf8_lossy(&output.stderr));
}
