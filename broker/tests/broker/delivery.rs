//! Who gets which message, how often, at which quality of service.

use std::time::Duration;

use broker::Limits;
use rumqttc::mqttbytes::v4::{Packet, PubComp, PubRec, PubRel, Subscribe, SubscribeReasonCode};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Client, PATIENCE, Running, publish};

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[tokio::test]
async fn a_message_arrives_once_at_the_lower_of_both_qualities() {
    let broker = Running::start();
    let mut publisher = Client::connect(broker.address, "publisher").await;
    for subscribed in ALL {
        let id = format!("subscriber-{}", subscribed as u8);
        let mut subscriber = Client::connect(broker.address, &id).await;
        subscriber.subscribe("a/+", subscribed).await;
        for published in ALL {
            publisher.publish("a/b", published, "payload").await;
            let message = subscriber.message().await;
            let lower = (published as u8).min(subscribed as u8);
            assert_eq!(message.qos as u8, lower);
            assert_eq!((message.topic.as_str(), message.dup), ("a/b", false));
        }
        subscriber.has_nothing_before("a/end").await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn messages_of_one_publisher_arrive_in_order() {
    let broker = Running::start();
    let mut subscriber = Client::connect(broker.address, "subscriber").await;
    subscriber.subscribe("#", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(broker.address, "publisher").await;
    for n in 0..5_000 {
        let message = publish("a/b", QoS::AtMostOnce, &n.to_string());
        publisher.send(Packet::Publish(message)).await;
    }
    for n in 0..5_000 {
        assert_eq!(subscriber.payload().await, n.to_string());
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_quality_2_message_that_is_repeated_is_delivered_once() {
    let broker = Running::start();
    let mut subscriber = Client::connect(broker.address, "subscriber").await;
    subscriber.subscribe("a", QoS::ExactlyOnce).await;
    let (mut publisher, _) = Client::resume(broker.address, "publisher").await;
    let mut message = publish("a", QoS::ExactlyOnce, "once");
    publisher.send(Packet::Publish(message.clone())).await;
    assert_eq!(publisher.receive().await, Packet::PubRec(PubRec { pkid: 7 }));
    drop(publisher);

    let (mut publisher, present) = Client::resume(broker.address, "publisher").await;
    assert!(present);
    message.dup = true;
    publisher.send(Packet::Publish(message)).await;
    assert_eq!(publisher.receive().await, Packet::PubRec(PubRec { pkid: 7 }));
    publisher.send(Packet::PubRel(PubRel { pkid: 7 })).await;
    assert_eq!(publisher.receive().await, Packet::PubComp(PubComp { pkid: 7 }));

    assert_eq!(subscriber.payload().await, "once");
    subscriber.has_nothing_before("a").await;
    broker.stop().await;
}

#[tokio::test]
async fn topics_that_end_rumqttds_own_router_are_routed() {
    let broker = Running::start();
    let mut all = Client::connect(broker.address, "all").await;
    all.subscribe("#", QoS::AtMostOnce).await;
    let mut dollar = Client::connect(broker.address, "dollar").await;
    dollar.subscribe("$x/#", QoS::AtMostOnce).await;
    let mut publisher = Client::connect(broker.address, "+/#$é").await;
    for topic in ["é", "/", "f", "$x/é"] {
        publisher.publish(topic, QoS::AtLeastOnce, topic).await;
    }
    for topic in ["é", "/", "f"] {
        assert_eq!(all.payload().await, topic);
    }
    all.has_nothing_before("end").await;
    assert_eq!(dollar.payload().await, "$x/é");
    broker.stop().await;
}

#[tokio::test]
async fn a_subscription_gets_the_retained_message_and_then_what_follows() {
    let broker = Running::start();
    let mut publisher = Client::connect(broker.address, "publisher").await;
    publisher.publish_retained("a/1", QoS::AtLeastOnce, "old").await;
    publisher.publish_retained("a/1", QoS::AtLeastOnce, "kept").await;
    publisher.publish("a/1", QoS::AtLeastOnce, "").await;
    publisher.publish_retained("a/2", QoS::AtLeastOnce, "gone").await;
    publisher.publish_retained("a/2", QoS::AtLeastOnce, "").await;
    assert_eq!(broker.metrics.snapshot().retained, 1);
    // The second subscriber finds a filter that the router knows already.
    for id in ["first", "second"] {
        let mut subscriber = Client::connect(broker.address, id).await;
        subscriber.subscribe("a/+", QoS::AtLeastOnce).await;
        let message = subscriber.message().await;
        assert_eq!((&message.payload[..], message.retain), (&b"kept"[..], true));
        publisher.publish("a/1", QoS::AtLeastOnce, "live").await;
        let message = subscriber.message().await;
        assert_eq!((&message.payload[..], message.retain), (&b"live"[..], false));
        // Subscribing again sends it again (MQTT-3.8.4-3).
        subscriber.subscribe("a/+", QoS::AtMostOnce).await;
        let message = subscriber.message().await;
        assert_eq!((&message.payload[..], message.qos as u8), (&b"kept"[..], 0));
        subscriber.disconnect().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn two_thousand_retained_messages_reach_a_late_subscriber() {
    let broker = Running::start();
    let mut publisher = Client::connect(broker.address, "publisher").await;
    for n in 0..2_000 {
        let mut message = publish(&format!("fleet/{n}/status"), QoS::AtMostOnce, "on");
        message.retain = true;
        publisher.send(Packet::Publish(message)).await;
    }
    broker.until("retained", |m| m.snapshot().retained == 2_000).await;
    let mut subscriber = Client::connect(broker.address, "subscriber").await;
    subscriber.subscribe("fleet/+/status", QoS::AtLeastOnce).await;
    for _ in 0..2_000 {
        assert!(subscriber.message().await.retain);
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_subscription_ends_with_unsubscribe_and_can_be_made_again() {
    let broker = Running::start();
    let mut subscriber = Client::connect(broker.address, "subscriber").await;
    let mut publisher = Client::connect(broker.address, "publisher").await;
    subscriber.subscribe("end", QoS::AtMostOnce).await;
    for round in 0..3 {
        subscriber.subscribe("a", QoS::AtMostOnce).await;
        publisher.publish("a", QoS::AtLeastOnce, "seen").await;
        assert_eq!(subscriber.payload().await, "seen", "round {round}");
        subscriber.unsubscribe("a").await;
        subscriber.unsubscribe("never/subscribed").await;
        publisher.publish("a", QoS::AtLeastOnce, "unseen").await;
        subscriber.has_nothing_before("end").await;
    }
    assert_eq!(broker.metrics.snapshot().subscriptions, 1);
    broker.stop().await;
}

#[tokio::test]
async fn a_subscription_does_not_get_what_was_published_before() {
    let broker = Running::start();
    let mut publisher = Client::connect(broker.address, "publisher").await;
    let mut first = Client::connect(broker.address, "first").await;
    first.subscribe("a/#", QoS::AtMostOnce).await;
    for n in 0..200 {
        publisher.publish("a/b", QoS::AtLeastOnce, "before").await;
        let mut late = Client::connect(broker.address, &format!("late-{n}")).await;
        late.subscribe("a/#", QoS::AtMostOnce).await;
        late.has_nothing_before("a/end").await;
        late.disconnect().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn subscriptions_that_cannot_be_granted_fail_and_are_counted() {
    let limits = Limits { filters: 1, ..Limits::default() };
    let broker = Running::with(limits);
    let mut client = Client::connect(broker.address, "client").await;
    client.subscribe("a", QoS::AtMostOnce).await;
    for filter in ["b", "$share/group/a"] {
        let mut subscribe = Subscribe::new(filter, QoS::AtLeastOnce);
        subscribe.add("a".to_owned(), QoS::ExactlyOnce);
        subscribe.pkid = 3;
        client.send(Packet::Subscribe(subscribe)).await;
        let Packet::SubAck(ack) = client.receive().await else {
            panic!("no SUBACK");
        };
        let granted = SubscribeReasonCode::Success(QoS::ExactlyOnce);
        assert_eq!(ack.return_codes, [SubscribeReasonCode::Failure, granted]);
    }
    assert_eq!(broker.metrics.refused_for("filters"), 1);
    assert_eq!(broker.metrics.refused_for("shared_subscription"), 1);
    broker.stop().await;
}

#[tokio::test]
async fn messages_to_topics_beyond_the_limit_are_dropped_and_counted() {
    let limits = Limits { topics: 2, ..Limits::default() };
    let broker = Running::with(limits);
    let mut client = Client::connect(broker.address, "client").await;
    client.subscribe("#", QoS::AtMostOnce).await;
    for topic in ["a", "b", "c", "a"] {
        let message = publish(topic, QoS::AtMostOnce, topic);
        client.send(Packet::Publish(message)).await;
    }
    for topic in ["a", "b", "a"] {
        assert_eq!(client.payload().await, topic);
    }
    assert_eq!(broker.metrics.dropped_for("topics"), 1);
    broker.stop().await;
}

#[tokio::test]
async fn a_slow_consumer_loses_counted_messages_and_delays_nobody() {
    const SENT: u64 = 20_000;
    let limits = Limits { queue_messages: 100, ..Limits::default() };
    let broker = Running::with(limits);
    let mut slow = Client::connect(broker.address, "slow").await;
    slow.subscribe("a", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(broker.address, "publisher").await;
    let payload = "x".repeat(2_000);
    for _ in 0..SENT {
        let message = publish("a", QoS::AtMostOnce, &payload);
        publisher.send(Packet::Publish(message)).await;
    }
    broker.until("routed", |m| m.snapshot().messages_in == SENT).await;
    publisher.publish("a", QoS::AtLeastOnce, &payload).await;
    broker.until("dropped", |m| m.dropped_for("queue_full") > 0).await;
    let snapshot = broker.metrics.snapshot();
    assert_eq!(snapshot.slow_consumers, 1);
    assert!(snapshot.slow_consumers_total >= 1);

    // Delivered and dropped make up what was sent, to the last message.
    let mut delivered = 0;
    while delivered + broker.metrics.dropped_for("queue_full") < SENT + 1 {
        slow.message().await;
        delivered += 1;
    }
    broker.until("caught up", |m| m.snapshot().slow_consumers == 0).await;
    slow.has_nothing_before("a").await;
    assert_eq!(broker.metrics.dropped_for("router_overrun"), 0);
    broker.stop().await;
}

#[tokio::test]
async fn rumqttc_clients_work() {
    let broker = Running::start();
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", broker.address.port());
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 100);
    let mut sender = JoinSet::new();
    sender.spawn(async move {
        client.subscribe("a/#", QoS::ExactlyOnce).await.unwrap();
        for n in 0..300_u16 {
            let qos = ALL[usize::from(n) % 3];
            let payload = n.to_string();
            client.publish("a/b", qos, false, payload).await.unwrap();
        }
        client
    });
    let mut seen = 0;
    let all = async {
        while seen < 300 {
            if let Event::Incoming(Incoming::Publish(message)) = events.poll().await.unwrap() {
                assert_eq!(message.payload, seen.to_string());
                seen += 1;
            }
        }
    };
    timeout(PATIENCE, all).await.expect("all messages in time");
    broker.stop().await;
}
