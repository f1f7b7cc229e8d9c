//! A fleet that is spread over several addresses, and the address of its own figures.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
};

use tests::{
    broker::Broker,
    null_broker::{NullBroker, Routing, Settings},
    run::Run,
};

use super::{PATIENCE, fleet::STEADY};

#[test]
fn devices_are_spread_over_the_addresses_and_every_message_is_followed_to_its_own() {
    let logs = tempfile::tempdir().unwrap();
    let echoing = || NullBroker::start(Settings { routing: Routing::Echo, ..Settings::default() }, logs.path());
    let brokers = [echoing().unwrap(), echoing().unwrap()];
    let urls = brokers.each_ref().map(NullBroker::url);
    let args = ["--devices", "61", "--devices-per-worker", "40", "--broker", &urls[0], "--broker", &urls[1]];
    let run = Run::start(&[&STEADY[..], &args].concat()).unwrap();
    run.wait_for_saying("61 devices in 2 worker processes of up to 31, since --devices-per-worker is 40").unwrap();
    run.wait_for_devices(61).unwrap();
    // Each worker observes both addresses.
    brokers[0].wait_for_sessions(31 + 2, PATIENCE).unwrap();
    brokers[1].wait_for_sessions(30 + 2, PATIENCE).unwrap();
    run.wait_for_messages(200).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect("manifest.broker", urls.join(", "));
    ended.report.expect_all_delivered();
    let received = brokers.each_ref().map(|broker| broker.counters().unwrap().messages());
    ended.report.expect("messages.sent", received[0] + received[1]);
    ended.report.claim("both brokers got their share", received.iter().all(|messages| *messages > 0));
}

/// What is served under `/metrics` at a port of this machine.
fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_served_under_a_name_and_on_all_addresses() {
    for host in ["localhost", ""] {
        let port = tests::port::free().unwrap();
        let run = Run::start(&["--devices", "5", "--metrics", &format!("{host}:{port}")]).unwrap();
        run.wait_for_devices(5).unwrap();
        let answer = metrics(port);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let line = answer.lines().find(|line| line.starts_with("simctl_devices{") && line.contains("\"connected\""));
        assert_eq!(line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value), Some("5"), "{answer}");
        run.stop().unwrap().expect_passed();
    }
}

#[test]
fn two_addresses_of_one_broker_deliver_each_message_once() {
    let broker = Broker::start(&[]).unwrap();
    // The same address, spelt in another way.
    let urls = format!("{},mqtt://127.1:{}", broker.url(), broker.port());
    let run = Run::start(&[&STEADY[..], &["--devices", "20", "--broker", &urls]].concat()).unwrap();
    run.wait_for_devices(20).unwrap();
    run.wait_for_messages(100).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect_all_delivered();
    ended.report.expect("messages.duplicated", 0);
    ended.report.expect("observer.foreign", 0);
}
