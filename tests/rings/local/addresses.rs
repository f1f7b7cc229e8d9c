//! A fleet that is spread over several addresses.

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
