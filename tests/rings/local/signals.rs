//! How a run is ended: once to drain, twice to abort.

use std::net::{Ipv4Addr, SocketAddr};

use tests::{
    broker::Broker,
    process::Signal,
    proxy::{Proxy, Traffic, Which},
    run::Run,
};

use super::{
    PATIENCE,
    fleet::{PROMPT, STEADY, place},
};

fn drains_after(signal: Signal) {
    let run = Run::start(&[&STEADY[..], &["--devices", "50"]].concat()).unwrap();
    run.wait_for_devices(50).unwrap();
    run.wait_for_messages(100).unwrap();
    run.signal(signal).unwrap();
    let ended = run.end(PATIENCE).unwrap();
    ended.expect_passed();
    ended.report.expect("phase", "ended");
    ended.report.expect_all_delivered();
}

#[test]
fn ctrl_c_drains_and_ends_by_the_verdict() {
    drains_after(Signal::INT);
}

#[test]
fn sigterm_drains_as_ctrl_c_does() {
    drains_after(Signal::TERM);
}

#[test]
fn a_second_ctrl_c_aborts() {
    let broker = Broker::start(&[]).unwrap();
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port()))).unwrap();
    let url = proxy.url();
    let args = ["-f", "fleet.yaml", "--interval", "500ms", "--qos", "1", "--broker", &url];
    let run = Run::start_at(place(PROMPT), &args).unwrap();
    run.wait_for_devices(50).unwrap();
    // What is under way cannot settle, so the drain lasts until it is cut short.
    proxy.set_traffic(Which::All, Traffic::Stall).unwrap();
    let ended = run.abort().unwrap();
    ended.expect_verdict("aborted", 105);
    ended.report.expect_conservation();
}
