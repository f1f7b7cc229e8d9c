//! Messages to devices: each device subscribes to its commands, acknowledges what comes, and counts it.

use std::net::SocketAddr;

use rumqttc::{Packet, QoS};
use tests::{
    peer::{Access, Make, Peer},
    proxy::{Proxy, Traffic, Which},
    run::Run,
};

use crate::{client, fleet::Fleet};

const DEVICES: u64 = 5;

/// A fleet that subscribes; `protocol` is that of the document, and so are the flows of `subscriptions`.
#[track_caller]
fn start(url: &str, name: &str, protocol: &str, subscriptions: &str) -> Run {
    let spec = format!(
        "  broker: {{url: mqtt://localhost, protocol: '{protocol}'}}\n  connect: {{rate: 200/s, keepAlive: 10s, session: \
         persistent, backoff: {{base: 200ms, cap: 1s}}}}\n"
    );
    let devices = u32::try_from(DEVICES).unwrap();
    Fleet { name, devices, spec: &spec, reading: "interval: 1s, qos: 1", subscriptions }.start(url)
}

/// Publishes a message to each of the topics, one after the other, and awaits that the broker has taken it.
#[track_caller]
fn publish(broker: &dyn Peer, topics: impl IntoIterator<Item = String>, qos: QoS, retain: bool) {
    let (client, mut connection) = client::connect(broker, "operator");
    for topic in topics {
        client.publish(topic, qos, retain, "do it").unwrap();
        client::wait_for(&mut connection, |packet| {
            matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)).then_some(())
        });
    }
    client.disconnect().unwrap();
    // Until the broker has closed, lest the next operator of this name takes the session over.
    while connection.recv().is_ok_and(|event| event.is_ok()) {}
}

#[track_caller]
fn wait_for_grants(run: &Run, filters: u64) {
    run.wait_until("all have subscribed", |report| report.count("received.subscriptions_granted") == filters).unwrap();
}

#[track_caller]
fn wait_for_commands(run: &Run, messages: u64) {
    run.wait_until("the commands have come", |report| report.count("received.messages") >= messages).unwrap();
}

/// Ends the fleet, of which exactly so many filters and messages of the qualities of service were counted.
#[track_caller]
fn expect(run: Run, granted: u64, by_qos: [u64; 3]) {
    let ended = run.stop().unwrap();
    let report = &ended.report;
    report.expect("received.subscriptions_granted", granted);
    report.expect("received.subscriptions_refused", serde_json::json!({}));
    report.expect("received.by_qos", by_qos.to_vec());
    report.expect("received.messages", by_qos.iter().sum::<u64>());
    report.expect("received.payload_bytes", by_qos.iter().sum::<u64>() * 5);
    report.expect_all_delivered();
    ended.expect_passed();
}

pub(crate) fn a_retained_command_reaches_a_device_that_comes_later(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    publish(&*broker, (0..DEVICES).map(|index| format!("commands/late-{index}")), QoS::AtLeastOnce, true);
    let run = start(&broker.url(), "late", "3.1.1", "{topic: 'commands/{id}', qos: 1}");
    wait_for_commands(&run, DEVICES);
    expect(run, DEVICES, [0, DEVICES, 0]);
}

pub(crate) fn a_command_of_qos_2_counts_once(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let run = start(&broker.url(), "once", "3.1.1", "{topic: 'once/{index}', qos: 2}, {topic: 'once/all/+', qos: 2}");
    wait_for_grants(&run, 2 * DEVICES);
    publish(&*broker, (0..20).map(|number| format!("once/all/{number}")), QoS::ExactlyOnce, false);
    publish(&*broker, (0..DEVICES).map(|index| format!("once/{index}")), QoS::ExactlyOnce, false);
    wait_for_commands(&run, 21 * DEVICES);
    expect(run, 2 * DEVICES, [0, 0, 21 * DEVICES]);
}

/// The broker grants QoS 1, which is its right (§3.9.3): what comes is of that.
pub(crate) fn a_filter_of_qos_2_brings_commands_of_qos_1_where_the_broker_has_no_more(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    for (name, protocol) in [("granted-3", "3.1.1"), ("granted-5", "5")] {
        let run = start(&broker.url(), name, protocol, "{topic: '{fleet}/{index}', qos: 2}");
        wait_for_grants(&run, DEVICES);
        publish(&*broker, (0..DEVICES).map(|index| format!("{name}/{index}")), QoS::AtLeastOnce, false);
        wait_for_commands(&run, DEVICES);
        expect(run, DEVICES, [0, DEVICES, 0]);
    }
}

/// Each device gets the last message after all that the share has brought it, so that one too many would be seen.
pub(crate) fn the_devices_of_a_share_get_each_message_once_among_them(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let filters = "{topic: 'work/#', qos: 1, share: '{fleet}'}, {topic: last, qos: 1}";
    let run = start(&broker.url(), "crew", "5", filters);
    wait_for_grants(&run, 2 * DEVICES);
    publish(&*broker, (0..100).map(|number| format!("work/{number}")), QoS::AtLeastOnce, false);
    publish(&*broker, ["last".to_owned()], QoS::AtLeastOnce, false);
    wait_for_commands(&run, 100 + DEVICES);
    expect(run, 2 * DEVICES, [0, 100 + DEVICES, 0]);
}

/// The broker keeps the sessions, and with them the filters: nobody subscribes again.
pub(crate) fn a_kept_session_brings_what_was_missed(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], broker.port()))).unwrap();
    let run = start(&proxy.url(), "kept", "3.1.1", "{topic: 'missed/{index}', qos: 1}");
    wait_for_grants(&run, DEVICES);
    run.wait_for_messages(2 * DEVICES).unwrap();
    proxy.set_traffic(Which::New, Traffic::Stall).unwrap();
    proxy.cut().unwrap();
    run.wait_until("all devices are offline", |report| report.count("devices.connected") == 0).unwrap();
    publish(&*broker, (0..DEVICES).map(|index| format!("missed/{index}")), QoS::AtLeastOnce, false);
    proxy.set_traffic(Which::All, Traffic::Forward).unwrap();
    run.wait_for_devices(DEVICES).unwrap();
    wait_for_commands(&run, DEVICES);
    expect(run, DEVICES, [0, DEVICES, 0]);
}
