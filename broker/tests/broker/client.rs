//! A broker under test, and a client that does exactly what a test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Config, Limits, Metrics};
use bytes::BytesMut;
use rumqttc::QoS;
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, PubRel, Publish, Subscribe,
    SubscribeReasonCode, Unsubscribe,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What a test waits at most for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Running {
    pub(crate) fn start() -> Running {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Running {
        Self::of(Config { limits, ..Config::default() })
    }

    pub(crate) fn of(config: Config) -> Running {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let broker = Broker::bind(Config { listen, ..config }).unwrap();
        let stop = CancellationToken::new();
        let (address, metrics) = (broker.address(), broker.metrics());
        let mut task = JoinSet::new();
        let until = stop.clone();
        task.spawn(async move { broker.run(until).await.unwrap() });
        Running { address, metrics, stop, task }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let ended = timeout(Duration::from_secs(5), self.task.join_next()).await;
        ended.expect("stops in time").unwrap().unwrap();
    }

    /// Waits until the metrics say so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Metrics) -> bool) {
        let reached = async {
            while !is_so(&self.metrics) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = timeout(PATIENCE, reached).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.metrics.snapshot());
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    input: BytesMut,
}

/// How the broker answers this CONNECT.
pub(crate) async fn code(address: SocketAddr, connect: Connect) -> ConnectReturnCode {
    let mut client = Client::open(address).await;
    client.send(Packet::Connect(connect)).await;
    match client.receive().await {
        Packet::ConnAck(ack) => ack.code,
        other => panic!("{other:?}"),
    }
}

impl Client {
    pub(crate) async fn open(address: SocketAddr) -> Client {
        Client { stream: TcpStream::connect(address).await.unwrap(), input: BytesMut::new() }
    }

    /// Connects with a clean session and no keep-alive.
    pub(crate) async fn connect(address: SocketAddr, id: &str) -> Client {
        Self::connect_as(address, clean(id)).await.0
    }

    /// Connects with a session that is kept; tells whether there was one.
    pub(crate) async fn resume(address: SocketAddr, id: &str) -> (Client, bool) {
        let mut connect = clean(id);
        connect.clean_session = false;
        Self::connect_as(address, connect).await
    }

    pub(crate) async fn connect_as(address: SocketAddr, connect: Connect) -> (Client, bool) {
        let mut client = Self::open(address).await;
        client.send(Packet::Connect(connect)).await;
        match client.receive().await {
            Packet::ConnAck(ConnAck { session_present, code: ConnectReturnCode::Success }) => (client, session_present),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Packet {
        let next = timeout(PATIENCE, self.next()).await;
        next.expect("a packet in time").expect("an open connection")
    }

    /// The next packet, or nothing when the broker has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.input, usize::MAX) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Waits until the broker closes the connection, and asserts that it sends nothing before.
    pub(crate) async fn is_closed(&mut self) {
        let next = timeout(PATIENCE, self.next()).await;
        assert_eq!(next.expect("closed in time"), None);
    }

    pub(crate) async fn raw(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await;
        read.expect("bytes in time").unwrap();
        bytes
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, qos: QoS) {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 1;
        self.send(Packet::Subscribe(subscribe)).await;
        match self.receive().await {
            Packet::SubAck(ack) => {
                assert_eq!(ack.return_codes, [SubscribeReasonCode::Success(qos)]);
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn unsubscribe(&mut self, filter: &str) {
        let mut unsubscribe = Unsubscribe::new(filter);
        unsubscribe.pkid = 1;
        self.send(Packet::Unsubscribe(unsubscribe)).await;
        assert!(matches!(self.receive().await, Packet::UnsubAck(_)));
    }

    /// Publishes and completes the handshake.
    pub(crate) async fn publish(&mut self, topic: &str, qos: QoS, payload: &str) {
        self.publish_as(publish(topic, qos, payload)).await;
    }

    pub(crate) async fn publish_retained(&mut self, topic: &str, qos: QoS, payload: &str) {
        let mut publish = publish(topic, qos, payload);
        publish.retain = true;
        self.publish_as(publish).await;
    }

    async fn publish_as(&mut self, publish: Publish) {
        let (qos, pkid) = (publish.qos, publish.pkid);
        self.send(Packet::Publish(publish)).await;
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                assert_eq!(self.receive().await, Packet::PubAck(PubAck { pkid }));
            }
            QoS::ExactlyOnce => {
                assert_eq!(self.receive().await, Packet::PubRec(PubRec { pkid }));
                self.send(Packet::PubRel(PubRel { pkid })).await;
                assert_eq!(self.receive().await, Packet::PubComp(PubComp { pkid }));
            }
        }
    }

    /// The next message, its handshake completed.
    pub(crate) async fn message(&mut self) -> Publish {
        let publish = match self.receive().await {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        };
        let pkid = publish.pkid;
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send(Packet::PubAck(PubAck { pkid })).await,
            QoS::ExactlyOnce => {
                self.send(Packet::PubRec(PubRec { pkid })).await;
                assert_eq!(self.receive().await, Packet::PubRel(PubRel { pkid }));
                self.send(Packet::PubComp(PubComp { pkid })).await;
            }
        }
        publish
    }

    /// The payload of the next message.
    pub(crate) async fn payload(&mut self) -> String {
        String::from_utf8(self.message().await.payload.to_vec()).unwrap()
    }

    /// Asserts that everything that was sent to this client has been seen: a message to itself,
    /// published now, is the next one. The client must be subscribed to `topic`.
    pub(crate) async fn has_nothing_before(&mut self, topic: &str) {
        self.send(Packet::Publish(publish(topic, QoS::AtMostOnce, "end"))).await;
        assert_eq!(self.payload().await, "end");
    }

    pub(crate) async fn disconnect(mut self) {
        self.send(Packet::Disconnect).await;
        self.is_closed().await;
    }
}

pub(crate) fn clean(id: &str) -> Connect {
    let mut connect = Connect::new(id);
    connect.keep_alive = 0;
    connect
}

pub(crate) fn publish(topic: &str, qos: QoS, payload: &str) -> Publish {
    let mut publish = Publish::new(topic, qos, payload);
    publish.pkid = if qos == QoS::AtMostOnce { 0 } else { 7 };
    publish
}
