//! A worker for arm64, as a pod of an arm64 node is, and the broker of another processor.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use fleet_contract::stats::WorkerStats;
use tests::{
    arm64,
    broker::Broker,
    eventually,
    process::{Process, Signal},
    simctl::Simctl,
};

use super::{EMULATOR, PATIENCE, succeeds};

/// The worker's counters; `None` while it does not listen yet, or has no devices yet.
fn stats(socket: &Path) -> Result<Option<WorkerStats>> {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /v1/stats HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    if head.starts_with("HTTP/1.1 409 ") {
        return Ok(None);
    }
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}: {body}");
    Ok(Some(serde_json::from_str(body)?))
}

#[test]
fn it_delivers_all_through_a_broker_of_the_other_processor() {
    let broker = Broker::start(&[]).unwrap();
    let place = Simctl::new().unwrap();
    let fleet = ["--model", "thermometer", "--devices", "50", "--interval", "1s", "--qos", "1"];
    succeeds(&place, &[&["assignment", "--broker", &broker.url()][..], &fleet].concat());

    let socket = place.dir().join("worker.sock");
    let mut command = Command::new(arm64::binary("device-sim").unwrap());
    command.args(["--assignment", "assignment.json", "--plan", "plan.json", "--ordinal", "0", "--threads", "1"]);
    command.arg("--api").arg(format!("unix:{}", socket.display())).current_dir(place.dir());
    let mut worker = Process::spawn("device-sim", &mut EMULATOR.run(&command), place.dir()).unwrap();
    let until = |what: &str, holds: &dyn Fn(&WorkerStats) -> bool| {
        let found = eventually(what, PATIENCE, || {
            worker.ensure_running()?;
            Ok(stats(&socket)?.filter(holds))
        });
        found.unwrap()
    };
    until("all devices are connected", &|reading| reading.stats.devices.connected == 50);
    until("500 messages are delivered", &|reading| reading.stats.all_messages().delivered >= 500);
    worker.signal(Signal::TERM).unwrap();
    let stats = until("the fleet is drained", &|reading| reading.is_drained).stats;
    assert_eq!(worker.wait(PATIENCE).unwrap().code(), Some(0));

    let messages = stats.all_messages();
    assert_eq!((messages.offered, messages.withheld), (messages.sent, 0), "{messages:?}");
    assert_eq!((messages.observed, messages.delivered), (messages.sent, messages.sent), "{messages:?}");
    assert_eq!((messages.lost, messages.unknown, messages.duplicated), (0, 0, 0), "{messages:?}");
    assert_eq!((stats.connections.accepted, stats.connections.reconnects), (50, 0), "{:?}", stats.connections);
}
