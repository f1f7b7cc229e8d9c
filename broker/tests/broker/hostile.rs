//! Whatever a client sends, the others are served.

use std::time::Duration;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Client, Running, clean, publish};

const CONNECTIONS: usize = 10_000;
const AT_A_TIME: usize = 100;

/// Bytes that no good client sends; the first half after a good CONNECT.
fn attack(n: usize, rng: &mut TestRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    if n.is_multiple_of(2) {
        bytes.extend(encoded(&Packet::Connect(clean(&format!("evil-{}", n % 50)))));
    }
    match n % 16 {
        0 | 1 => bytes.extend(random(rng)),
        // A CONNACK, an UNSUBACK, a SUBACK, a PINGRESP: what a server sends.
        2 | 3 => bytes.extend([0x20, 2, 0, 0]),
        4 => bytes.extend([0xb0, 2, 0, 1]),
        5 => bytes.extend([0x90, 3, 0, 1, 0]),
        // Huge and endless lengths.
        6 | 7 => bytes.extend([0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'a']),
        8 | 9 => bytes.extend([0x82, 0xff, 0xff, 0xff, 0xff, 0xff]),
        // A second CONNECT, half a packet, and acknowledgements of nothing.
        10 => bytes.extend(encoded(&Packet::Connect(clean("again")))),
        11 => bytes.extend(&encoded(&Packet::Connect(clean("half")))[..9]),
        12 => bytes.extend([0x40, 2, 0, 9, 0x50, 2, 0, 9, 0x62, 2, 0, 9, 0x70, 2, 0, 9]),
        // A good packet with one bit turned over.
        _ => {
            let mut good = encoded(&Packet::Publish(publish("a/é", QoS::ExactlyOnce, "payload")));
            let at = rng.next_u32() as usize % good.len();
            good[at] ^= 1 << (rng.next_u32() % 8);
            bytes.extend(good);
        }
    }
    bytes
}

fn random(rng: &mut TestRng) -> Vec<u8> {
    let mut bytes = vec![0; 1 + rng.next_u32() as usize % 300];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn encoded(packet: &Packet) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    packet.write(&mut bytes, usize::MAX).unwrap();
    bytes.to_vec()
}

/// Sends the bytes, then reads until the broker closes or has answered and waits for more.
async fn strike(address: std::net::SocketAddr, bytes: Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The broker may close while this is written.
    if stream.write_all(&bytes).await.is_ok() {
        let mut answer = [0; 512];
        let read = timeout(Duration::from_millis(20), stream.read(&mut answer)).await;
        drop(read);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_broken_connections_change_nothing_for_the_others() {
    let broker = Running::start();
    let mut good = Client::connect(broker.address, "good").await;
    good.subscribe("good/#", QoS::ExactlyOnce).await;
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut attackers = JoinSet::new();
    for n in 0..CONNECTIONS {
        if attackers.len() >= AT_A_TIME {
            attackers.join_next().await.unwrap().unwrap();
        }
        attackers.spawn(strike(broker.address, attack(n, &mut rng)));
        if n.is_multiple_of(1_000) {
            good.publish("good/é", QoS::AtMostOnce, &n.to_string()).await;
            assert_eq!(good.payload().await, n.to_string());
        }
    }
    while let Some(ended) = attackers.join_next().await {
        ended.unwrap();
    }
    broker.until("attackers gone", |m| m.snapshot().connections == 1).await;
    for reason in ["unexpected", "malformed", "packet_too_large", "lost"] {
        let (refused, closed) = (broker.metrics.refused_for(reason), broker.metrics.closed_for(reason));
        println!("{reason}: {refused} refused, {closed} closed");
        assert!(refused + closed > 0, "{reason}");
    }
    good.publish("good/end", QoS::AtMostOnce, "still here").await;
    assert_eq!(good.payload().await, "still here");
    assert_eq!(broker.metrics.snapshot().sessions, 1);
    broker.stop().await;
}
