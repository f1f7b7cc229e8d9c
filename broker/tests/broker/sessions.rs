//! Sessions, wills, takeover, keep-alive.

#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

use std::time::{Duration, Instant};

use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Connect, LastWill, Packet};

use broker::Config;

use crate::client::{Client, Running, clean, publish};

fn with_will(id: &str) -> Connect {
    let mut connect = clean(id);
    connect.last_will = Some(LastWill::new("wills", id, QoS::AtLeastOnce, false));
    connect
}

#[tokio::test]
async fn a_persistent_session_keeps_its_subscriptions_and_messages() {
    let broker = Running::start();
    let (mut subscriber, present) = Client::resume(broker.address, "subscriber").await;
    assert!(!present);
    subscriber.subscribe("a", QoS::AtLeastOnce).await;
    drop(subscriber);
    broker.until("away", |m| m.snapshot().connections == 0).await;

    let mut publisher = Client::connect(broker.address, "publisher").await;
    publisher.publish("a", QoS::AtMostOnce, "not kept").await;
    publisher.publish("a", QoS::AtLeastOnce, "1").await;
    publisher.publish("a", QoS::ExactlyOnce, "2").await;

    let (mut subscriber, present) = Client::resume(broker.address, "subscriber").await;
    assert!(present);
    assert_eq!(subscriber.payload().await, "1");
    assert_eq!(subscriber.payload().await, "2");
    subscriber.has_nothing_before("a").await;
    subscriber.disconnect().await;

    // A clean session ends it (MQTT-3.1.2-6).
    Client::connect(broker.address, "subscriber").await.disconnect().await;
    let (_, present) = Client::resume(broker.address, "subscriber").await;
    assert!(!present);
    broker.stop().await;
}

#[tokio::test]
async fn with_a_folder_sessions_and_retained_messages_outlive_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let config = || Config { data: Some(folder.path().to_owned()), ..Config::default() };
    let broker = Running::of(config());
    let (mut subscriber, _) = Client::resume(broker.address, "subscriber").await;
    subscriber.subscribe("é/+", QoS::ExactlyOnce).await;
    drop(subscriber);
    let mut guest = Client::connect(broker.address, "guest").await;
    guest.subscribe("é/+", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(broker.address, "publisher").await;
    publisher.publish_retained("state", QoS::AtLeastOnce, "on").await;
    for number in 0..100 {
        publisher.publish("é/a", QoS::AtLeastOnce, &number.to_string()).await;
    }
    // At once: what was acknowledged is kept, even if it is not routed yet.
    broker.stop().await;

    let broker = Running::of(config());
    let (mut subscriber, present) = Client::resume(broker.address, "subscriber").await;
    assert!(present);
    for number in 0..100 {
        assert_eq!(subscriber.payload().await, number.to_string());
    }
    let mut publisher = Client::connect(broker.address, "publisher").await;
    publisher.publish("é/b", QoS::AtLeastOnce, "next").await;
    assert_eq!(subscriber.payload().await, "next");
    let (_, present) = Client::resume(broker.address, "guest").await;
    assert!(!present, "it wanted no session that is kept");
    publisher.subscribe("state", QoS::AtLeastOnce).await;
    assert_eq!(publisher.payload().await, "on");
    let snapshot = broker.metrics.snapshot();
    assert_eq!((snapshot.retained, snapshot.subscriptions), (1, 2));
    broker.stop().await;
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_marked_as_duplicate() {
    let broker = Running::start();
    let (mut subscriber, _) = Client::resume(broker.address, "subscriber").await;
    subscriber.subscribe("a", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(broker.address, "publisher").await;
    publisher.publish("a", QoS::AtLeastOnce, "1").await;
    let Packet::Publish(first) = subscriber.receive().await else {
        panic!("no message");
    };
    assert!(!first.dup);
    drop(subscriber);

    let (mut subscriber, _) = Client::resume(broker.address, "subscriber").await;
    let again = subscriber.message().await;
    assert!(again.dup);
    assert_eq!((again.pkid, again.payload), (first.pkid, first.payload));
    drop(subscriber);
    let (mut subscriber, _) = Client::resume(broker.address, "subscriber").await;
    subscriber.has_nothing_before("a").await;
    broker.stop().await;
}

#[tokio::test]
async fn a_will_is_published_unless_the_client_disconnects() {
    let broker = Running::start();
    let mut observer = Client::connect(broker.address, "observer").await;
    observer.subscribe("wills", QoS::AtLeastOnce).await;

    let (polite, _) = Client::connect_as(broker.address, with_will("polite")).await;
    polite.disconnect().await;
    let (lost, _) = Client::connect_as(broker.address, with_will("lost")).await;
    drop(lost);
    assert_eq!(observer.payload().await, "lost");

    let (mut rude, _) = Client::connect_as(broker.address, with_will("rude")).await;
    rude.send_bytes(&[0x20, 2, 0, 0]).await;
    rude.is_closed().await;
    assert_eq!(observer.payload().await, "rude");
    observer.has_nothing_before("wills").await;
    assert_eq!(broker.metrics.closed_for("unexpected"), 1);
    broker.stop().await;
}

#[tokio::test]
async fn a_second_client_with_the_same_id_takes_over() {
    let broker = Running::start();
    let mut observer = Client::connect(broker.address, "observer").await;
    observer.subscribe("wills", QoS::AtLeastOnce).await;
    let mut twin = with_will("twin");
    twin.clean_session = false;
    let (mut first, _) = Client::connect_as(broker.address, twin.clone()).await;
    first.subscribe("a", QoS::AtLeastOnce).await;
    let (mut second, present) = Client::connect_as(broker.address, twin).await;
    assert!(present);
    first.is_closed().await;
    assert_eq!(observer.payload().await, "twin");
    observer.publish("a", QoS::AtLeastOnce, "hello").await;
    assert_eq!(second.payload().await, "hello");
    let snapshot = broker.metrics.snapshot();
    assert_eq!((snapshot.takeovers, snapshot.connections), (1, 2));
    broker.stop().await;
}

#[tokio::test]
async fn a_thousand_takeovers_of_one_session_leave_one_connection() {
    let broker = Running::start();
    let mut last = Client::connect(broker.address, "twin").await;
    for _ in 0..1_000 {
        let mut next = Client::connect(broker.address, "twin").await;
        next.subscribe("a", QoS::AtMostOnce).await;
        last.is_closed().await;
        last = next;
    }
    broker.until("one left", |m| m.snapshot().connections == 1).await;
    let snapshot = broker.metrics.snapshot();
    assert_eq!((snapshot.sessions, snapshot.subscriptions), (1, 1));
    last.has_nothing_before("a").await;
    broker.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_closed_however_much_is_sent_to_it() {
    let broker = Running::start();
    let mut connect = clean("silent");
    connect.keep_alive = 1;
    let (mut silent, _) = Client::connect_as(broker.address, connect).await;
    silent.subscribe("a", QoS::AtMostOnce).await;
    let since = Instant::now();
    let mut publisher = Client::connect(broker.address, "publisher").await;
    while broker.metrics.closed_for("keep_alive") == 0 {
        assert!(since.elapsed() < Duration::from_secs(10));
        let message = publish("a", QoS::AtMostOnce, "tick");
        publisher.send(Packet::Publish(message)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(since.elapsed() >= Duration::from_millis(1_450), "{:?}", since.elapsed());
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_pings_stays() {
    let broker = Running::start();
    let mut connect = clean("pinging");
    connect.keep_alive = 1;
    let (mut client, _) = Client::connect_as(broker.address, connect).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        client.send(Packet::PingReq).await;
        assert_eq!(client.receive().await, Packet::PingResp);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_a_flood_of_messages_is_still_heard() {
    let broker = Running::start();
    let mut reader = Client::connect(broker.address, "reader").await;
    reader.subscribe("a", QoS::AtMostOnce).await;
    let address = broker.address;
    let mut flood = tokio::task::JoinSet::new();
    flood.spawn(async move {
        let mut publisher = Client::connect(address, "publisher").await;
        loop {
            let message = publish("a", QoS::AtMostOnce, "x");
            publisher.send(Packet::Publish(message)).await;
        }
    });
    for _ in 0..20 {
        reader.send(Packet::PingReq).await;
        while reader.receive().await != Packet::PingResp {}
    }
    flood.shutdown().await;
    broker.stop().await;
}
