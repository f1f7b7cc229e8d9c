//! Bodies that carry nothing of ours are followed by what they say; those that were changed on the way are found out.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use tests::{
    mosquitto::{Mosquitto, Settings},
    run::Run,
};

use crate::{PATIENCE, fleet::Fleet};

const DEVICES: u32 = 5;

#[test]
fn bodies_without_a_stamp_are_followed_in_mqtt_3_1_1() {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let reading = "interval: 200ms, jitter: 0s, qos: 1, stamp: none";
    let fleet = Fleet { name: "exact", devices: DEVICES, spec: "", reading, subscriptions: "" };
    let args = ["-f", "fleet.yaml", "--broker", &broker.url(), "--duration", "3s"];
    let ended = Run::start_at(fleet.place(), &args).unwrap().end(PATIENCE).unwrap();
    let report = &ended.report;
    report.expect_all_delivered();
    report.expect("observer.foreign", 0);
    report.claim("latencies are known", report.count("latency.end_to_end.count") == report.count("messages.delivered"));
    let notes = report.list("notes").iter().filter_map(|note| note.as_str());
    report.claim("what it proves is told", notes.filter(|note| note.contains("by topic and body")).count() == 1);
    ended.expect_passed();
}

/// Passes on what the broker sends with one name for another.
fn bend(broker: SocketAddr, from: &'static [u8], to: &'static [u8]) -> SocketAddr {
    assert_eq!(from.len(), to.len(), "the length of a packet stays");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the test, as its connections do.
    thread::spawn(move || {
        for device in listener.incoming().flatten() {
            let there = TcpStream::connect(broker).unwrap();
            let (up, down) = (device.try_clone().unwrap(), there.try_clone().unwrap());
            thread::spawn(move || pump(up, there, |_| ()));
            thread::spawn(move || pump(down, device, |bytes| replace(bytes, from, to)));
        }
    });
    address
}

fn pump(mut from: TcpStream, mut to: TcpStream, bend: impl Fn(&mut [u8])) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        bend(&mut bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

#[test]
fn messages_that_were_changed_on_the_way_fail_the_run() {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let address = bend(SocketAddr::from(([127, 0, 0, 1], broker.port())), b"\"temperature\":", b"\"temperatura\":");
    let fleet =
        Fleet { name: "bent", devices: DEVICES, spec: "", reading: "interval: 500ms, qos: 1", subscriptions: "" };
    let url = format!("mqtt://{address}");
    let args = ["-f", "fleet.yaml", "--broker", &url, "--duration", "2s"];
    let ended = Run::start_at(fleet.place(), &args).unwrap().end(PATIENCE).unwrap();
    let report = &ended.report;
    report.expect_all_delivered();
    report.claim("the first of each device is compared", report.count("observer.compared") >= DEVICES.into());
    report.claim("all of them were changed", report.count("observer.changed") == report.count("observer.compared"));
    report.claim("the verdict names it", report.has_reason("messages_changed"));
    ended.expect_verdict("failed", 99);
}
