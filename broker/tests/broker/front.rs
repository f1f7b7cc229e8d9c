//! Address, limits, credentials, versions, shutdown.

#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use broker::{BindError, Broker, Config, Limits, Users};
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Running, clean, publish};

/// The CONNACK that a CONNECT gets, after which the connection is closed.
async fn refusal(address: SocketAddr, connect: Connect) -> ConnectReturnCode {
    let mut client = Client::open(address).await;
    client.send(Packet::Connect(connect)).await;
    let Packet::ConnAck(ack) = client.receive().await else {
        panic!("no CONNACK");
    };
    assert!(!ack.session_present);
    client.is_closed().await;
    ack.code
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_says_what_to_do() {
    let broker = Running::start();
    let config = Config { listen: broker.address, ..Config::default() };
    let Err(error) = Broker::bind(config) else {
        panic!("bound twice");
    };
    assert!(matches!(error, BindError::InUse { .. }));
    assert!(error.to_string().contains("already in use"), "{error}");
    broker.stop().await;
}

#[tokio::test]
async fn an_address_of_another_machine_is_an_error() {
    let config = Config { listen: "192.0.2.1:0".parse().unwrap(), ..Config::default() };
    let bound = Broker::bind(config);
    assert!(matches!(bound, Err(BindError::NotAvailable { .. })));
}

#[tokio::test]
async fn ipv6_and_both_families_are_served() {
    for (listen, hosts) in [("[::1]:0", &["::1"][..]), ("[::]:0", &["::1", "127.0.0.1"])] {
        let config = Config { listen: listen.parse().unwrap(), ..Config::default() };
        let broker = Broker::bind(config).unwrap();
        let port = broker.address().port();
        assert_ne!(port, 0);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let until = stop.clone();
        task.spawn(async move { broker.run(until).await.unwrap() });
        for host in hosts {
            let address = SocketAddr::new(host.parse().unwrap(), port);
            Client::connect(address, "client").await.disconnect().await;
        }
        stop.cancel();
        task.join_next().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn shutdown_closes_every_connection_and_the_listener_at_once() {
    let broker = Running::start();
    let mut connect = clean("with-will");
    connect.keep_alive = 60;
    let (mut idle, _) = Client::connect_as(broker.address, connect).await;
    let mut waiting = Client::open(broker.address).await;
    // A client that does not read what it is sent.
    let mut stuck = Client::connect(broker.address, "stuck").await;
    stuck.subscribe("a", QoS::AtMostOnce).await;
    let payload = "x".repeat(10_000);
    for _ in 0..1_000 {
        let message = publish("a", QoS::AtMostOnce, &payload);
        idle.send(Packet::Publish(message)).await;
    }
    let address = broker.address;
    let since = Instant::now();
    broker.stop().await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    idle.is_closed().await;
    waiting.is_closed().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn one_client_above_the_limit_is_told_so() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let broker = Running::with(limits);
    let first = Client::connect(broker.address, "1").await;
    let _second = Client::connect(broker.address, "2").await;
    let code = refusal(broker.address, clean("3")).await;
    assert_eq!(code, ConnectReturnCode::ServiceUnavailable);
    assert_eq!(broker.metrics.refused_for("connections"), 1);
    // Taking over is not one more; and who leaves makes room.
    let _second = Client::connect(broker.address, "2").await;
    first.disconnect().await;
    broker.until("room", |m| m.snapshot().connections == 1).await;
    let _third = Client::connect(broker.address, "3").await;
    broker.stop().await;
}

#[tokio::test]
async fn a_session_above_the_limit_is_refused() {
    let limits = Limits { sessions: 1, ..Limits::default() };
    let broker = Running::with(limits);
    Client::resume(broker.address, "1").await.0.disconnect().await;
    let code = refusal(broker.address, clean("2")).await;
    assert_eq!(code, ConnectReturnCode::ServiceUnavailable);
    assert_eq!(broker.metrics.refused_for("sessions"), 1);
    let (_, present) = Client::resume(broker.address, "1").await;
    assert!(present);
    broker.stop().await;
}

#[tokio::test]
async fn a_packet_above_the_limit_ends_its_connection() {
    let limits = Limits { packet_bytes: 1_000, ..Limits::default() };
    let broker = Running::with(limits);
    let mut client = Client::connect(broker.address, "client").await;
    client.publish("a", QoS::AtLeastOnce, &"x".repeat(990)).await;
    let message = publish("a", QoS::AtLeastOnce, &"x".repeat(1_000));
    client.send(Packet::Publish(message)).await;
    client.is_closed().await;
    assert_eq!(broker.metrics.closed_for("packet_too_large"), 1);
    broker.stop().await;
}

#[tokio::test]
async fn credentials_are_checked() {
    let users = Users::from_iter([("ada", "secret")]);
    let broker = Running::of(Config { users: Some(users), ..Config::default() });
    let login = |user: &str, password: &str| {
        let mut connect = clean("client");
        connect.set_login(user, password);
        connect
    };
    Client::connect_as(broker.address, login("ada", "secret")).await;
    let cases = [
        (login("ada", "wrong"), ConnectReturnCode::BadUserNamePassword),
        (login("eve", "secret"), ConnectReturnCode::BadUserNamePassword),
        (clean("client"), ConnectReturnCode::NotAuthorized),
    ];
    for (connect, code) in cases {
        assert_eq!(refusal(broker.address, connect).await, code);
    }
    assert_eq!(broker.metrics.refused_for("bad_credentials"), 2);
    assert_eq!(broker.metrics.refused_for("not_authorized"), 1);
    broker.stop().await;
}

#[tokio::test]
async fn other_versions_of_the_protocol_are_refused_in_words_they_understand() {
    let broker = Running::start();
    // CONNECT of MQTT 5: clean start, keep-alive 60, no properties, client id "a".
    let mut five = Client::open(broker.address).await;
    five.send_bytes(b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\x01a").await;
    assert_eq!(five.raw(5).await, [0x20, 3, 0, 0x84, 0]);
    five.is_closed().await;
    // CONNECT of MQTT 3.1.
    let mut three = Client::open(broker.address).await;
    three.send_bytes(b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01a").await;
    assert_eq!(three.raw(4).await, [0x20, 2, 0, 1]);
    three.is_closed().await;
    assert_eq!(broker.metrics.refused_for("version_5"), 1);
    assert_eq!(broker.metrics.refused_for("unknown_version"), 1);
    broker.stop().await;
}

#[tokio::test]
async fn an_empty_client_id_needs_a_clean_session() {
    let broker = Running::start();
    let _one = Client::connect(broker.address, "").await;
    let _two = Client::connect(broker.address, "").await;
    let mut kept = clean("");
    kept.clean_session = false;
    let code = refusal(broker.address, kept).await;
    assert_eq!(code, ConnectReturnCode::BadClientId);
    assert_eq!(broker.metrics.snapshot().connections, 2);
    broker.stop().await;
}

#[tokio::test]
async fn who_does_not_send_connect_is_closed() {
    let limits = Limits { connect_timeout: Duration::from_millis(200), ..Limits::default() };
    let broker = Running::with(limits);
    let mut silent = Client::open(broker.address).await;
    silent.is_closed().await;
    assert_eq!(broker.metrics.refused_for("connect_timeout"), 1);
    broker.stop().await;
}
