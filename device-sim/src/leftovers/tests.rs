use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use fleet_contract::broker_url::BrokerUrl;
use serde_json::json;

use super::*;

const FIRST: DeviceIndex = DeviceIndex::new(0);

/// Two groups of alternating devices: `a` retains `own` and `all`, `b` retains `all` alone.
fn leftovers(devices: u32, addresses: &[&str], connect: &serde_json::Value) -> Leftovers {
    let stream = |topic: &str, retain: bool| json!({"topic": topic, "interval": "1s", "retain": retain, "stamp": "none", "payload": {"text": "{seq}"}});
    let fleet = json!({
        "apiVersion": "simctl.io/v1alpha1",
        "kind": "Fleet",
        "metadata": {"name": "f"},
        "spec": {
            "devices": devices,
            "broker": {"urls": addresses},
            "connect": connect,
            "groups": [
                {"name": "a", "share": "50%", "model": "m", "streams": {"own": {"retain": true}}},
                {"name": "b", "share": "50%", "model": "m"},
            ],
            "models": {"m": {
                "description": "two streams",
                "signals": {},
                "streams": {"own": stream("own/{index}", false), "all": stream("all/{fleet}", true)},
            }},
        },
    });
    let document = json!({"fleet": fleet});
    Leftovers::new(serde_json::from_value(document).unwrap(), 7).unwrap()
}

/// The devices that leave something: their indices, `+` for a session, and topics.
#[track_caller]
fn check(devices: u32, addresses: &[&str], connect: &serde_json::Value, expected: &[&str]) {
    let leftovers = leftovers(devices, addresses, connect);
    let told: Vec<_> = leftovers
        .devices()
        .map(|index| {
            let left = leftovers.of(index);
            let number = index.number();
            assert_eq!(left.client_id, format!("f-{number}"));
            format!("{number}{} {}", if left.has_session { "+" } else { "" }, left.topics.join(" "))
        })
        .collect();
    assert_eq!(told, expected);
}

const ONE: &[&str] = &["mqtt://one"];

#[test]
fn each_topic_is_left_once_and_a_shared_one_by_the_first_device() {
    check(4, ONE, &json!({}), &["0 all/f own/0", "2 own/2"]);
    check(0, ONE, &json!({}), &[]);
}

#[test]
fn a_shared_topic_is_left_at_each_address() {
    check(4, &["mqtt://one", "mqtt://two"], &json!({}), &["0 all/f own/0", "1 all/f", "2 own/2"]);
}

#[test]
fn persistent_sessions_are_left_by_all_devices() {
    check(3, ONE, &json!({"session": "persistent"}), &["0+ all/f own/0", "1+ ", "2+ own/2"]);
}

#[test]
fn births_and_wills_that_are_retained_are_left_and_one_topic_of_both_once() {
    let status = json!({"topic": "status/{index}", "payload": "x", "retain": true});
    let expected = ["0 all/f own/0 status/0", "1 status/1"];
    check(2, ONE, &json!({"birth": status, "will": status}), &expected);
    let passing = json!({"topic": "status/{index}", "payload": "x"});
    check(2, ONE, &json!({"birth": passing, "will": status}), &expected);
    check(2, ONE, &json!({"birth": passing, "will": passing}), &["0 all/f own/0"]);
}

/// A broker of MQTT 3.1.1 that ends each connection over which it is to clear `own/0`.
fn intolerant() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepting = listener.try_clone().unwrap();
    thread::spawn(move || {
        for stream in accepting.incoming() {
            drop(serve(stream.unwrap()));
        }
    });
    listener
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut byte = [0; 2];
    loop {
        stream.read_exact(&mut byte)?;
        let mut body = vec![0; usize::from(byte[1])];
        stream.read_exact(&mut body)?;
        match byte[0] >> 4 {
            1 => stream.write_all(&[0x20, 2, 0, 0])?,
            // Topic, packet identifier, no body.
            3 if body[2..].starts_with(b"own/0") => return Ok(()),
            3 => stream.write_all(&[0x40, 2, body[body.len() - 2], body[body.len() - 1]])?,
            _ => return Ok(()),
        }
    }
}

#[test]
fn a_topic_for_which_the_broker_ends_the_connection_keeps_no_other_one() {
    let broker = intolerant();
    let address = broker.local_addr().unwrap();
    let url = BrokerUrl::tcp("127.0.0.1", address.port());
    let status = json!({"birth": {"topic": "status/{index}", "payload": "x", "retain": true}});
    let leftovers = leftovers(1, &[&url.to_string()], &status);
    let way = Way { route: Arc::default(), addresses: vec![address], patience: Duration::from_secs(20) };
    let stays = leftovers.remove(FIRST, &way).unwrap();
    assert!(matches!(&stays[..], [(topic, Stays::Closed(_))] if topic == "own/0"), "{stays:?}");
}

#[test]
fn a_broker_that_is_not_there_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let way = Way { route: Arc::default(), addresses: vec![address], patience: Duration::from_secs(20) };
    let stays = leftovers(1, ONE, &json!({})).remove(FIRST, &way).unwrap_err();
    assert!(matches!(stays, Stays::Unreachable(_)), "{stays}");
}
