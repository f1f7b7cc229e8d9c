//! One worker: what it takes, what it refuses, and how it ends.

#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use fleet_contract::{
    plan::{Plan, Setting, Shard},
    stats::WorkerStats,
    units::Span,
    worker::{DeviceStatus, drain_bound},
};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Api, Process, assignment, body, broker, document, eventually, now};

/// How many times of single streams a reading has.
fn times(reading: &WorkerStats) -> u64 {
    let latencies = reading.stats.groups.streams().map(|(_, _, stream)| &stream.latency);
    latencies.map(|latency| latency.publish_ack.count() + latency.end_to_end.count()).sum()
}

#[test]
fn a_worker_runs_what_it_is_assigned_and_follows_its_plan() {
    let (_runtime, broker) = broker();
    let directory = tempfile::tempdir().unwrap();
    let worker = Process::unix(directory.path(), &[]);
    let none = "expected an assignment, found none; do PUT /v1/assignment first";
    assert_eq!(worker.api.error("GET", "/readyz", ""), (503, none.into()));
    assert_eq!(worker.api.error("GET", "/v1/stats", ""), (409, none.into()));

    let assignment = assignment(broker);
    assert_eq!(worker.api.call("PUT", "/v1/assignment", &body(&assignment)), (200, "{\"version\":1}".into()));
    worker.api.until_ready();
    let reading = worker.api.until("ten devices", |reading| reading.stats.devices.connected == 10);
    assert!(reading.stats.generator.memory_bytes > 0 && reading.stats.generator.workers == 1);

    let mut plan = assignment.plan.clone();
    plan.set(now(), Setting::Devices(25));
    assert_eq!(worker.api.call("PUT", "/v1/plan", &body(&plan)), (200, "{\"version\":2}".into()));
    assert_eq!(worker.api.call("PUT", "/v1/plan", &body(&assignment.plan)), (200, "{\"version\":2}".into()));
    worker.api.until("25 devices", |reading| reading.stats.devices.connected == 25 && reading.plan_version == 2);

    let whole = worker.api.until("times of a stream", |reading| times(reading) > 0);
    let (status, brief) = worker.api.call("GET", "/v1/stats?brief=true&times_below=1", "");
    let brief: WorkerStats = serde_json::from_str(&brief).unwrap_or_else(|error| panic!("{status}: {error}"));
    assert_eq!((brief.is_brief, brief.times_below, times(&brief)), (true, Some(1), 0));
    assert!(brief.stats.all_messages().sent >= whole.stats.all_messages().sent && brief.sequence > whole.sequence);
    // Who asks for a sum that this worker does not know is told everything.
    let sum_of = |distribution: &str| {
        let sums = format!("%5B%7B%22distribution%22%3A%22{distribution}%22%7D%5D");
        let (status, summed) = worker.api.call("GET", &format!("/v1/stats?sums={sums}&times_below=1"), "");
        let summed: WorkerStats = serde_json::from_str(&summed).unwrap_or_else(|error| panic!("{status}: {error}"));
        (summed.is_brief, times(&summed) > 0, summed.sums.iter().any(|sum| sum.times.count() > 0))
    };
    assert!([sum_of("publish_ack"), sum_of("end_to_end")].contains(&(true, false, true)));
    assert_eq!(sum_of("of_tomorrow"), (false, true, false));
    let (status, error) = worker.api.error("GET", "/v1/stats?times_below=all", "");
    assert!(status == 404 && error.contains("`times_below`, a number"), "{status} {error}");

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
fn a_changed_token_counts_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "old").unwrap();
    let process = Process::start(&["--api", "127.0.0.1:0", "--token-file", file.to_str().unwrap()], Some("old"));
    let Api::Tcp(address, _) = process.api else { panic!("a worker over TCP") };
    let is_known = |token| Api::Tcp(address, Some(token)).call("GET", "/v1/stats", "").0 == 409;
    assert!(is_known("old"));
    // Somebody is writing it.
    fs::write(&file, "").unwrap();
    fs::write(folder.path().join("new"), "new").unwrap();
    fs::rename(folder.path().join("new"), &file).unwrap();
    eventually("the new token", || is_known("new").then_some(()));
    assert!(!is_known("old"));
}

/// After a rollback the controller of the former release shows the token that it knows.
#[test]
fn the_token_of_the_former_release_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let [file, former] = ["token", "former"].map(|name| folder.path().join(name));
    fs::write(&file, "now").unwrap();
    let args = ["--token-file", file.to_str().unwrap(), "--former-token-file", former.to_str().unwrap()];
    let process = Process::start(&[&["--api", "127.0.0.1:0"], &args[..]].concat(), Some("now"));
    let Api::Tcp(address, _) = process.api else { panic!("a worker over TCP") };
    let is_known = |token| Api::Tcp(address, Some(token)).call("GET", "/v1/stats", "").0 == 409;
    assert!(is_known("now") && !is_known("then") && !is_known(""));
    fs::write(&former, "then").unwrap();
    eventually("the former token", || is_known("then").then_some(()));
    assert!(is_known("now"));
    fs::remove_file(&former).unwrap();
    eventually("no former token", || (!is_known("then")).then_some(()));
    assert!(is_known("now"));
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
    worker.api.until_ready();
    let mut plan = assignment.plan.clone();
    plan.set(now().after(Span::ZERO), Setting::Devices(4));
    assert_eq!(worker.api.call("PUT", "/v1/plan", &body(&plan)).0, 200);
    drop(worker);

    let worker = Process::unix(directory.path(), &arguments);
    worker.api.until_ready();
    let reading = worker.api.until("four devices", |reading| reading.stats.devices.connected == 4);
    assert_eq!((reading.plan_version, reading.stats.devices.desired), (2, 4));
}

/// A worker with `document` as the file of its assignment, and nothing else unless `more` says so.
fn run_to_the_end(document: &str, more: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("assignment.json");
    std::fs::write(&path, document).unwrap();
    Command::new(env!("CARGO_BIN_EXE_device-sim"))
        .args(["--api", "127.0.0.1:0", "--assignment", path.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn a_wrong_assignment_is_a_wrong_document() {
    let output = run_to_the_end("{\"fleet\": 7}", &[]);
    assert_eq!(output.status.code(), Some(104), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_pod_without_its_plan_says_where_it_expected_it() {
    let document = body(&document("127.0.0.1:1", ""));
    let output = run_to_the_end(&document, &["--ordinal", "0", "--plan", "/nowhere/plan.json"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("expected a plan in /nowhere/plan.json, found: No such file"), "{error}");
}

/// The arguments of a worker that gets everything by file.
fn mounted(directory: &Path, plan: &Plan, document: &str) -> [String; 8] {
    let file = |name: &str| directory.join(name).display().to_string();
    std::fs::write(file("assignment.json"), document).unwrap();
    std::fs::write(file("plan.json"), body(plan)).unwrap();
    ["--assignment", &file("assignment.json"), "--plan", &file("plan.json"), "--ordinal", "0", "--state", &file("kept")]
        .map(String::from)
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_mounted_plan_that_changes_is_taken_over_and_an_old_one_is_not() {
    let (_runtime, broker) = broker();
    let directory = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(7, now(), 3);
    let arguments = mounted(directory.path(), &plan, &body(&document(broker, "")));
    let worker = Process::unix(directory.path(), &borrowed(&arguments));
    worker.api.until("three devices", |reading| reading.stats.devices.connected == 3);
    plan.set(now(), Setting::Devices(5));
    assert_eq!(worker.api.call("PUT", "/v1/plan", &body(&plan)).0, 200);
    worker.api.until("five devices", |reading| reading.stats.devices.connected == 5);

    // What is mounted overtakes what was pushed.
    plan.set(now(), Setting::Devices(8));
    std::fs::write(directory.path().join("next"), body(&plan)).unwrap();
    std::fs::rename(directory.path().join("next"), directory.path().join("plan.json")).unwrap();
    let reading = worker.api.until("eight devices", |reading| reading.stats.devices.connected == 8);
    assert_eq!((reading.plan_version, reading.stats.connections.reconnects), (3, 0));
    drop(worker);

    // After a restart the newest of all counts, and here that is what was kept.
    mounted(directory.path(), &Plan::new(7, plan.start, 3), &body(&document(broker, "")));
    let worker = Process::unix(directory.path(), &borrowed(&arguments));
    let reading = worker.api.until("eight devices again", |reading| reading.stats.devices.connected == 8);
    assert_eq!(reading.plan_version, 3);
}

#[test]
fn a_worker_is_ready_once_its_devices_have_tried_and_stays_so() {
    // It accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let worker = Process::unix(directory.path(), &[]);
    let patience = "  connect: {timeout: 2s, backoff: {base: 50ms, cap: 50ms}}";
    let document = document(silent.local_addr().unwrap(), patience);
    let assigned = Instant::now();
    let assignment = document.assign(Plan::new(7, now(), 10), Shard::of(0, 100));
    assert_eq!(worker.api.call("PUT", "/v1/assignment", &body(&assignment)).0, 200);
    let (status, error) = worker.api.error("GET", "/readyz", "");
    assert!(status == 503 && error.contains("expected each of 10 devices to have tried to connect, found"), "{error}");
    worker.api.until_ready();
    let took = assigned.elapsed();
    assert!(Duration::from_millis(1_900) < took && took < Duration::from_secs(5), "ready after {took:?}");
    drop(silent);
    worker.api.until("refused connections", |reading| {
        reading.stats.connections.failed.get("connection_refused").is_some_and(|failures| *failures > 20)
    });
    assert_eq!(worker.api.call("GET", "/readyz", "").0, 200, "an outage revokes nothing");
    assert_eq!(worker.api.call("GET", "/healthz", "").0, 200);
}

#[test]
fn a_broker_that_is_not_there_does_not_keep_a_worker_from_being_ready() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for engine in ["native", "rumqttc"] {
        let directory = tempfile::tempdir().unwrap();
        let worker = Process::unix(directory.path(), &["--engine", engine]);
        let assignment = document(port, "  observe: none").assign(Plan::new(7, now(), 10), Shard::of(0, 100));
        assert_eq!(worker.api.call("PUT", "/v1/assignment", &body(&assignment)).0, 200);
        worker.api.until_ready();
        let stats = worker.api.stats().stats;
        assert!(stats.devices.connected == 0 && stats.connections.failed["connection_refused"] >= 10, "{stats:?}");
    }
}

#[test]
fn a_worker_whose_brokers_name_does_not_resolve_is_ready_and_counts_the_cause() {
    for engine in ["native", "rumqttc"] {
        let directory = tempfile::tempdir().unwrap();
        let document = body(&document("no-such-host.invalid:1883", "  observe: none"));
        let arguments = mounted(directory.path(), &Plan::new(7, now(), 3), &document);
        let arguments = [borrowed(&arguments), vec!["--engine", engine]].concat();
        let mut worker = Process::unix(directory.path(), &arguments);
        // A restart of the worker would not help, so the broker takes no readiness away.
        worker.api.until_ready();
        worker.api.until("attempts", |reading| {
            reading.stats.connections.failed.get("unresolved").is_some_and(|attempts| *attempts >= 6)
        });
        assert_eq!(worker.api.stats().stats.devices.connected, 0);
        worker.signal(Signal::TERM);
        assert_eq!(worker.ended(), Some(0));
    }
}

#[test]
fn an_end_is_told_at_once_and_keeps_its_bound() {
    let (runtime, broker) = broker();
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Process::unix(directory.path(), &[]);
    let assignment = assignment(broker);
    worker.api.call("PUT", "/v1/assignment", &body(&assignment));
    worker.api.until_ready();
    worker.api.until("some messages", |reading| reading.stats.all_messages().sent >= 30);
    // The worst case: nobody acknowledges, nobody observes, nobody pulls.
    runtime.shutdown_background();
    let told = Instant::now();
    worker.signal(Signal::TERM);
    let draining = || Some(worker.api.call("GET", "/readyz", "")).filter(|(status, _)| *status == 503);
    assert!(eventually("the word", draining).1.contains("found a worker that drains"));
    assert!(told.elapsed() < Duration::from_secs(1), "it took {:?} until nobody was sent here", told.elapsed());
    assert_eq!(worker.ended(), Some(0));
    let bound = drain_bound(&assignment.fleet.spec).as_duration();
    assert!(told.elapsed() < bound, "it took {:?} of {bound:?}", told.elapsed());
}

#[test]
fn a_log_collector_gets_json() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_device-sim"))
        .args(["--api", "127.0.0.1:0", "--log-format", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["message"], &event["level"]), (&"the worker listens".into(), &"INFO".into()), "{line}");
    assert!(event["api"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
}
