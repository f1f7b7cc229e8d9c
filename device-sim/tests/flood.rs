//! A broker that asks for answers without end and reads none of them does not fill the generator's memory.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]

#[expect(dead_code, reason = "the broker here is none that keeps to the standard")]
#[path = "common/run.rs"]
mod run;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread::{self, JoinHandle},
};

use device_sim::{
    clock::Clock,
    engine::{Engine, Kind, Options},
};
use run::{assignment, until};

/// PUBREL, which is always to be answered (MQTT-4.3.3-2).
const PUBREL: [u8; 4] = [0x62, 2, 0, 7];

/// More than sockets hold, and more than a device is to keep.
const FLOOD: usize = 64 << 20;

/// Accepts one session, floods it, and says how much of the flood was taken before the device closed.
fn flood() -> (SocketAddr, JoinHandle<usize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let flood = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let connect = stream.read(&mut [0; 1_024]).unwrap();
        assert!(connect > 0, "no CONNECT came");
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        let portion = PUBREL.repeat(16 * 1_024);
        (0..FLOOD / portion.len()).take_while(|_| stream.write_all(&portion).is_ok()).count() * portion.len()
    };
    (address, thread::spawn(flood))
}

#[test]
fn a_broker_that_reads_no_answers_is_given_up() {
    let (address, flooding) = flood();
    let clock = Clock::new();
    let assignment = assignment(address, 1, "  observe: none\n", &clock);
    let options = Options { kind: Kind::Native, threads: 1, clock, ..Options::default() };
    let engine = Engine::start(&assignment, &options).unwrap();
    until(&engine, "the broker given up", |reading| reading.stats.connections.lost.contains_key("answers_unread"));
    let taken = flooding.join().unwrap();
    assert!(taken < FLOOD, "all of the flood was taken");
    engine.stop();
}
