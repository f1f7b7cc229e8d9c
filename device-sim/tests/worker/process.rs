//! A broker, a fleet and a worker process with its API, for tests.

#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

use std::{
    fmt::{Debug, Display},
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use broker::{Broker, Config};
use fleet_contract::{
    document,
    fleet::Fleet,
    format::Format,
    model::Model,
    plan::{Plan, Shard},
    stats::WorkerStats,
    time::Micros,
    worker::{Assignment, Document},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const FLEET: &str = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  devices: 10
  groups: [{name: all, model: m}]
";

const MODEL: &str = r#"
signals:
  level: {kind: constant, value: 21}
streams:
  state: {topic: "{fleet}/{index}/state", interval: 100ms, qos: 1, payload: {json: {level: "{level}"}}}
"#;

/// A broker of ours that lives as long as the test.
pub(crate) fn broker() -> (Runtime, SocketAddr) {
    let runtime = Runtime::new().unwrap();
    let guard = runtime.enter();
    let broker = Broker::bind(Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() }).unwrap();
    let address = broker.address();
    drop(guard);
    runtime.spawn(async move { broker.run(CancellationToken::new()).await.unwrap() });
    (runtime, address)
}

pub(crate) fn now() -> Micros {
    device_sim::clock::Clock::new().now()
}

/// A fleet `f` of the test model at `broker`, with more lines for its `spec`.
pub(crate) fn document(broker: impl Display, more: &str) -> Document {
    let loss_after = if more.contains("lossAfter") { "" } else { "  lossAfter: 2s\n" };
    let spec = format!("spec:\n  broker: {{url: \"mqtt://{broker}\"}}\n{loss_after}{more}");
    let (mut fleet, _) = document::read::<Fleet>("fleet.yaml", &FLEET.replace("spec:", &spec)).unwrap();
    let (model, _) = document::read::<Model>("model.yaml", MODEL).unwrap();
    fleet.spec.models.insert("m".into(), model);
    Document { format: Format::FIRST, fleet, files: [].into() }
}

/// Ten devices from now on, for a worker that may run a hundred.
pub(crate) fn assignment(broker: SocketAddr) -> Assignment {
    document(broker, "").assign(Plan::new(7, now(), 10), Shard { first: 0, devices: 100 })
}

pub(crate) fn body(of: &impl serde::Serialize) -> String {
    serde_json::to_string(of).unwrap()
}

/// A worker process with its API, killed at the end if it still lives.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) api: Api,
}

#[derive(Clone)]
pub(crate) enum Api {
    Unix(PathBuf),
    Tcp(SocketAddr, Option<&'static str>),
}

trait Conversation: Read + Write {}
impl<T: Read + Write> Conversation for T {}

impl Api {
    /// Status and body of the answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
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

    /// Awaits that the worker is ready.
    #[track_caller]
    pub(crate) fn until_ready(&self) {
        eventually("readiness", || (self.call("GET", "/readyz", "").0 == 200).then_some(()));
    }

    #[track_caller]
    pub(crate) fn error(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, body) = self.call(method, path, body);
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}"));
        (status, value["error"].as_str().unwrap().into())
    }

    #[track_caller]
    pub(crate) fn stats(&self) -> WorkerStats {
        let (status, body) = self.call("GET", "/v1/stats", "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&WorkerStats) -> bool) -> WorkerStats {
        eventually(what, || {
            let (status, body) = self.call("GET", "/v1/stats", "");
            // One that reads its assignment from a file has none for a moment.
            assert!(matches!(status, 200 | 409), "{body}");
            (status == 200).then(|| serde_json::from_str(&body).unwrap()).filter(&is_so)
        })
    }
}

#[track_caller]
pub(crate) fn eventually<T: Debug>(what: &str, look: impl Fn() -> Option<T>) -> T {
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
    pub(crate) fn start(arguments: &[&str], token: Option<&'static str>) -> Self {
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
        let at = line.split("api=").nth(1).unwrap().trim();
        let api = match at.strip_prefix("unix:") {
            Some(path) => Api::Unix(path.into()),
            None => Api::Tcp(at.parse().unwrap(), token),
        };
        Self { child, api }
    }

    pub(crate) fn unix(directory: &Path, more: &[&str]) -> Self {
        let listen = format!("unix:{}", directory.join("w.sock").display());
        Self::start(&[&["--api", &listen], more].concat(), None)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code, once it has ended.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
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
