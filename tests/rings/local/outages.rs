//! Brokers that die, connections that fall silent, and a broker that is slow.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    time::Duration,
};

use jiff::Timestamp;
use tests::{
    broker::Broker,
    process::Signal,
    proxy::{Proxy, Traffic, Which},
    run::{Ended, Run},
};

use super::fleet::{PROMPT, place};

const FAST: [&str; 6] = ["-f", "fleet.yaml", "--interval", "500ms", "--qos", "1"];

fn run_against(url: &str, connect: &str) -> Run {
    let run = Run::start_at(place(connect), &[&FAST[..], &["--broker", url]].concat()).unwrap();
    run.wait_for_devices(50).unwrap();
    run.wait_for_messages(100).unwrap();
    run
}

fn proxy_to(broker: &Broker) -> Proxy {
    Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port()))).unwrap()
}

/// Each device has lost its connection once and has come back, and the report tells of it.
#[track_caller]
fn expect_one_recovery_each(ended: &Ended) {
    let report = &ended.report;
    report.expect("devices.connected", 50);
    report.expect("reconnects", 50);
    report.expect("connections.accepted", 100);
    report.claim("each device lost its connection once", report.sum("connections.lost") == 50);
    report.expect("latency.recovery.count", 50);
    report.expect("messages.in_flight", 0);
    report.expect_conservation();
}

/// The report has one outage, which began and ended within these spans.
#[track_caller]
fn expect_one_outage(ended: &Ended, began: Range<Timestamp>, over: Range<Timestamp>) {
    let report = &ended.report;
    let outages = report.list("outages.list");
    report.claim("there was one outage", outages.len() == 1);
    let outage = &outages[0];
    let instant = |name: &str| outage[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    report.claim(&format!("it began within {began:?}"), began.contains(&instant("from")));
    report.claim(&format!("it was over within {over:?}"), over.contains(&instant("until")));
    for count in ["devices_missing_max", "devices_lost", "devices_back"] {
        report.claim(&format!("{count} is 50"), outage[count] == 50);
    }
    let back = ["p50", "p90", "p95", "p100"].map(|share| outage["back_seconds"][share].as_f64().unwrap());
    report.claim("more were back later", back.is_sorted() && back[0] > 0.0);
    report.claim("all were back at its end", outage["seconds"] == back[3]);
    let [away, backoff] = ["outages.away_seconds", "outages.backoff_seconds"].map(|name| report.seconds(name));
    report.claim("each was away for some of it", away > 0.0 && away <= 50.0 * back[3] + 0.5);
    report.claim("some of that was backoff", backoff > 0.0 && backoff <= away);
}

/// An instant is a hundredth of a second, and names its beginning.
fn instant_before(at: Timestamp) -> Timestamp {
    at - Duration::from_millis(10)
}

fn a_restart_after(signal: Signal) {
    let mut broker = Broker::start(&[]).unwrap();
    let run = run_against(&broker.url(), PROMPT);
    let before = Timestamp::now();
    broker.end(signal).unwrap();
    // The engine may be busy for a moment.
    let began = instant_before(before)..Timestamp::now() + Duration::from_millis(250);
    run.wait_until("all devices are offline", |report| report.count("devices.connected") == 0).unwrap();
    run.wait_until("messages are withheld", |report| report.count("messages.withheld_offline") > 0).unwrap();
    let restarted = Timestamp::now();
    broker.start_again().unwrap();
    let back = run.wait_for_devices(50).unwrap();
    let over = instant_before(restarted)..Timestamp::now();
    run.wait_for_messages(back.count("messages.sent") + 100).unwrap();
    let ended = run.stop().unwrap();
    expect_one_recovery_each(&ended);
    expect_one_outage(&ended, began, over);
    ended.report.claim("refused connections are named", ended.report.sum("connections.failed") > 0);
}

#[test]
fn every_device_comes_back_to_a_broker_that_was_killed() {
    a_restart_after(Signal::KILL);
}

#[test]
fn every_device_comes_back_to_a_broker_that_was_stopped() {
    a_restart_after(Signal::TERM);
}

#[test]
fn a_silent_connection_is_noticed_within_the_keep_alive() {
    let broker = Broker::start(&[]).unwrap();
    let proxy = proxy_to(&broker);
    let run = run_against(&proxy.url(), PROMPT);
    let before = run.report().unwrap();
    proxy.set_traffic(Which::Existing, Traffic::Blackhole).unwrap();
    let after = run.wait_until("all have reconnected", |report| report.count("reconnects") == 50).unwrap();
    let took = after.seconds("elapsed_seconds") - before.seconds("elapsed_seconds");
    after.claim(&format!("silence was noticed within some keep-alives of 2 s, not after {took} s"), took < 12.0);
    let back = run.wait_for_devices(50).unwrap();
    run.wait_for_messages(back.count("messages.sent") + 100).unwrap();
    expect_one_recovery_each(&run.stop().unwrap());
}

/// The observer's connection falls silent, the devices' are sound: the instrument is blind, the broker is not to blame.
#[test]
fn a_silent_observer_does_not_accuse_the_broker() {
    let broker = Broker::start(&[]).unwrap();
    let proxy = proxy_to(&broker);
    let url = proxy.url();
    let args = [&FAST[..], &["--broker", &url, "--devices", "0"]].concat();
    let run = Run::start_at(place(PROMPT), &args).unwrap();
    run.wait_until("the observer is subscribed", |report| report.count("observer.subscribed") == 1).unwrap();
    // Without devices, the observer's is the only connection.
    proxy.set_traffic(Which::Existing, Traffic::Blackhole).unwrap();
    run.must(&["scale", "50"]).unwrap();
    run.wait_for_messages(800).unwrap();
    let ended = run.stop().unwrap();
    ended.report.claim("the observer noticed", ended.report.count("observer.losses") >= 1);
    ended.report.claim("the broker is not accused", !ended.report.has_reason("lost_acknowledged"));
    ended.report.expect("messages.in_flight", 0);
    ended.report.expect_conservation();
}

/// The observer takes the broker for dead and comes back, while what the devices sent is still on its way to it.
#[test]
fn a_broker_that_stands_still_for_a_moment_loses_nothing() {
    let broker = Broker::start(&[]).unwrap();
    // Silent for half of that time, the broker has lost its observer, and its devices have not noticed.
    let simctl = place("  connect: {rate: 200/s, keepAlive: 60s}");
    let document = fs::read_to_string(simctl.dir().join("fleet.yaml")).unwrap();
    fs::write(simctl.dir().join("fleet.yaml"), document.replace("lossAfter: 3s", "lossAfter: 9s")).unwrap();
    let run = Run::start_at(simctl, &[&FAST[..], &["--broker", &broker.url()]].concat()).unwrap();
    run.wait_for_devices(50).unwrap();
    run.wait_for_messages(100).unwrap();
    broker.signal(Signal::STOP).unwrap();
    run.wait_until("the observer has left", |report| report.count("observer.losses") == 1).unwrap();
    broker.signal(Signal::CONT).unwrap();
    let back = run.wait_until("the observer is back", |report| report.count("observer.subscribed") == 1).unwrap();
    run.wait_for_messages(back.count("messages.sent") + 100).unwrap();
    let ended = run.stop().unwrap();
    ended.report.expect("reconnects", 0);
    ended.report.expect_all_delivered();
    ended.expect_passed();
}

#[test]
fn a_slow_broker_does_not_slow_the_timetable() {
    let broker = Broker::start(&[]).unwrap();
    let proxy = proxy_to(&broker);
    let connect = "  connect: {rate: 200/s, keepAlive: 60s, inFlight: 2, queue: 2}";
    let run = run_against(&proxy.url(), connect);
    run.must(&["set", "interval=100ms"]).unwrap();
    // 500 messages of some 250 bytes fall due a second; a tenth of that may pass.
    proxy.set_throttle(Some(12_000)).unwrap();
    let slow = run.wait_until("messages are withheld", |report| report.count("messages.withheld") > 0).unwrap();
    let later = run
        .wait_until("five seconds of it", |report| {
            report.seconds("elapsed_seconds") >= slow.seconds("elapsed_seconds") + 5.0
        })
        .unwrap();
    let count = |name: &str| (later.count(name) - slow.count(name)) as f64;
    let due = (later.seconds("elapsed_seconds") - slow.seconds("elapsed_seconds")) * 500.0;
    let offered = count("messages.offered");
    later.claim(&format!("about {due} messages fell due, not {offered}"), (offered - due).abs() < due / 4.0);
    later.claim("most were withheld", count("messages.withheld") > due / 2.0);
    later.expect("reconnects", 0);
    proxy.set_throttle(None).unwrap();
    run.wait_for_messages(later.count("messages.sent") + 500).unwrap();
    let ended = run.stop().unwrap();
    ended.report.claim("the generator was on time", ended.report.seconds("latency.schedule_lag.p99") < 0.1);
    ended.report.expect("messages.in_flight", 0);
    ended.report.expect_conservation();
}
