//! The time from the intended send to the observer is the broker's and the network's, not that of our own socket.

use std::thread;

use tests::{
    mosquitto::{Mosquitto, Settings},
    run::Run,
    simctl::Simctl,
};

use crate::PATIENCE;

/// The longest end-to-end latency, in milliseconds, at a broker with these settings.
fn longest(settings: Settings) -> f64 {
    let broker = Mosquitto::start(settings).unwrap();
    let args = ["--broker", &broker.url(), "--model", "thermometer", "--interval", "1s", "--devices", "200"];
    let run = Run::start_at(Simctl::new().unwrap(), &[&args[..], &["--duration", "10s"]].concat()).unwrap();
    let ended = run.end(PATIENCE).unwrap();
    ended.expect_passed();
    ended.report.seconds("latency.end_to_end.max") * 1e3
}

/// At QoS 0 the observer sends nothing that would carry the acknowledgement of TCP along, and a broker whose socket has
/// Nagle's algorithm on keeps the next message until that comes (RFC 896, RFC 1122 section 4.2.3.2): 40 ms on Linux after
/// each PINGREQ. One of three tries is to show none of it: the machine may have other things to do.
#[test]
fn a_broker_with_nagle_s_algorithm_delivers_as_soon_as_one_without() {
    let is_as_soon = |_| {
        let at_once = thread::spawn(|| longest(Settings::new().unwrap().with("set_tcp_nodelay", "true")));
        // Mosquitto's own default, which the configuration of the tests changes.
        let by_default = longest(Settings::new().unwrap().with("set_tcp_nodelay", "false"));
        let at_once = at_once.join().unwrap();
        println!("FIGURE end-to-end at Mosquitto: at most {by_default:.1} ms, with set_tcp_nodelay {at_once:.1} ms");
        by_default < at_once + 10.0
    };
    assert!((0..3).any(is_as_soon), "the observer's acknowledgements come late");
}
