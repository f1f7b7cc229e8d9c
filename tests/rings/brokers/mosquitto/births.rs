//! The birth message, which takes back what the will has said: first of all in each session that the broker accepts.

use std::{collections::BTreeMap, net::SocketAddr};

use tests::{
    mosquitto::{Mosquitto, Settings},
    proxy::Proxy,
};

use crate::{client, fleet::Fleet};

const DEVICES: u32 = 3;

const SPEC: &str = "  broker: {url: mqtt://localhost}
  connect:
    rate: 200/s
    session: persistent
    backoff: {base: 200ms, cap: 1s}
    will: {topic: '{fleet}/{id}/connection', payload: OFFLINE, qos: 1, retain: true}
    birth: {topic: '{fleet}/{id}/connection', payload: 'ONLINE {index}', qos: 1, retain: true}
";

/// What each device says of itself, until all of them have said this.
#[track_caller]
fn wait_for_states(broker: &Mosquitto, id: &str, wanted: impl Fn(&str) -> bool) {
    let (_client, mut inbox) = client::subscribed(broker, id, "births/+/connection");
    let mut states: BTreeMap<String, String> = BTreeMap::new();
    while states.values().filter(|state| wanted(state)).count() < DEVICES as usize {
        let message = client::message(&mut inbox);
        states.insert(message.topic, String::from_utf8_lossy(&message.payload).into_owned());
    }
}

#[test]
fn a_device_that_is_back_says_so_after_its_will_has_said_the_opposite() {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], broker.port()))).unwrap();
    let reading = "interval: 500ms, qos: 1";
    let fleet = Fleet { name: "births", devices: DEVICES, spec: SPEC, reading, subscriptions: "" };
    let run = fleet.start(&proxy.url());
    run.wait_for_devices(DEVICES.into()).unwrap();
    wait_for_states(&broker, "first", |state| state.starts_with("ONLINE "));
    let (_client, mut wills) = client::subscribed(&broker, "heir", "births/+/connection");
    proxy.cut().unwrap();
    let mut offline = 0;
    while offline < DEVICES {
        offline += u32::from(client::message(&mut wills).payload == "OFFLINE");
    }
    run.wait_until("all are back", |report| report.count("reconnects") >= DEVICES.into()).unwrap();
    wait_for_states(&broker, "second", |state| state.starts_with("ONLINE "));
    let ended = run.stop().unwrap();
    // The wills have the topic of the births, and are nobody's messages.
    ended.report.expect("observer.foreign", 0);
    ended.report.expect("messages.retained_topics", DEVICES);
    ended.report.expect_all_delivered();
    let notes = ended.report.list("notes").iter().filter_map(|note| note.as_str());
    let told = notes.filter(|note| note.starts_with("3 retained messages stay at the broker")).count();
    ended.report.claim("what stays is told", told == 1);
    ended.expect_passed();
}
