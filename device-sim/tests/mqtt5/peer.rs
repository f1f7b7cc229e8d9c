//! A broker of MQTT 5 for a few devices, which notes what it is sent; it speaks through rumqttc's codec.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::{
    Error,
    v5::{Filter, Packet, PubAck, PubComp, PubRec, Publish, Subscribe},
};

/// What the broker does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Accept,
    /// Those of QoS 1 and 2 with "quota exceeded".
    Reject,
    /// The first one of a connection with DISCONNECT, "server shutting down".
    Disconnect,
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    /// Whether the topic came by its name, and not by its alias alone.
    pub(crate) is_named: bool,
    pub(crate) alias: Option<u16>,
    pub(crate) payload: Bytes,
    pub(crate) content_type: Option<String>,
    pub(crate) expiry: Option<u32>,
    pub(crate) response_topic: Option<String>,
    pub(crate) user: Vec<(String, String)>,
}

/// What the broker has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) messages: Vec<Message>,
    /// The most messages of QoS 1 and 2 that were not answered at once, within a connection.
    pub(crate) outstanding_max: usize,
    /// Of the last CONNECT.
    pub(crate) user_properties: Vec<(String, String)>,
    /// The filters of each SUBSCRIBE.
    pub(crate) subscriptions: Vec<Vec<Filter>>,
}

/// A filter that the broker refuses: "not authorized".
pub(crate) const FORBIDDEN: &str = "forbidden/#";

/// A filter that makes the broker leave a SUBSCRIBE without an answer.
pub(crate) const UNHEARD: &str = "unheard/#";

/// What the broker sends to whoever has subscribed: a message of QoS 2 with five bytes, and once more with DUP.
const COMMAND: [&[u8]; 2] = [b"\x34\x0b\x00\x01c\x00\x07\x00hello", b"\x3c\x0b\x00\x01c\x00\x07\x00hello"];

/// A broker that runs.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    is_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Starts one whose CONNACK has these properties.
    pub(crate) fn start(properties: &'static [u8], answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, is_ended) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (seen_by_all, is_over) = (Arc::clone(&seen), Arc::clone(&is_ended));
        let thread = thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let seen = Arc::clone(&seen_by_all);
                connections
                    .push(thread::spawn(move || Connection::new(stream.unwrap(), seen, answer).serve(properties)));
            }
            connections.into_iter().for_each(|connection| connection.join().unwrap());
        });
        Self { address, seen, is_ended, thread: Some(thread) }
    }

    /// Waits for the end of all connections, which the devices have closed, and says what came.
    pub(crate) fn end(mut self) -> Seen {
        self.is_ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address).unwrap());
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

struct Connection {
    stream: TcpStream,
    seen: Arc<Mutex<Seen>>,
    answer: Answer,
    input: BytesMut,
    output: BytesMut,
    aliases: BTreeMap<u16, Bytes>,
    outstanding: BTreeSet<u16>,
    /// Whether the command was answered with its first PUBREC.
    is_command_answered: bool,
}

impl Connection {
    fn new(stream: TcpStream, seen: Arc<Mutex<Seen>>, answer: Answer) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let (aliases, outstanding) = (BTreeMap::new(), BTreeSet::new());
        Self { stream, seen, answer, input, output, aliases, outstanding, is_command_answered: false }
    }

    /// Until the device closes, or is told to go. What has come at once is answered at the end, so that a window fills.
    fn serve(mut self, properties: &[u8]) {
        self.stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut bytes = [0; 16 * 1024];
        while let Ok(length @ 1..) = self.stream.read(&mut bytes) {
            self.input.extend_from_slice(&bytes[..length]);
            loop {
                match Packet::read(&mut self.input, None) {
                    Ok(packet) => self.receive(packet, properties),
                    Err(Error::InsufficientBytes(_)) => break,
                    // This codec knows no DISCONNECT of two bytes (section 3.14.2.1).
                    Err(Error::PayloadRequired) => return,
                    Err(error) => panic!("a device wrote what is no packet: {error:?}"),
                }
            }
            self.outstanding.clear();
            if self.stream.write_all(&self.output.split()).is_err() {
                return;
            }
        }
    }

    fn receive(&mut self, packet: Packet, properties: &[u8]) {
        match packet {
            Packet::Connect(connect, ..) => {
                let user = connect.properties.map(|properties| properties.user_properties);
                self.seen.lock().unwrap().user_properties = user.unwrap_or_default();
                let length = u8::try_from(properties.len()).unwrap();
                self.output.extend_from_slice(&[0x20, length + 3, 0, 0, length]);
                self.output.extend_from_slice(properties);
            }
            Packet::Publish(_) if self.answer == Answer::Disconnect => {
                self.output.extend_from_slice(&[0xe0, 2, 0x8b, 0]);
            }
            Packet::Publish(publish) => self.receive_publish(publish),
            Packet::Subscribe(subscribe) => self.receive_subscribe(subscribe),
            // Of the command: it came twice, and is released with the second answer.
            Packet::PubRec(received) if !self.is_command_answered => {
                self.is_command_answered = true;
                assert_eq!(received.pkid, 7);
            }
            Packet::PubRec(_) => self.output.extend_from_slice(b"\x62\x02\x00\x07"),
            Packet::PubComp(completed) => assert_eq!(completed.pkid, 7),
            Packet::PubRel(released) => {
                self.outstanding.insert(released.pkid);
                PubComp::new(released.pkid, None).write(&mut self.output).unwrap();
            }
            Packet::PingReq(_) => self.output.extend_from_slice(&[0xd0, 0]),
            Packet::Disconnect(_) => {}
            other => panic!("a device has no reason to send {other:?}"),
        }
    }

    /// Grants what is asked for; a command follows.
    fn receive_subscribe(&mut self, subscribe: Subscribe) {
        let [high, low] = subscribe.pkid.to_be_bytes();
        let code = |filter: &Filter| if filter.path == FORBIDDEN { 0x87 } else { filter.qos as u8 };
        let codes: Vec<_> = subscribe.filters.iter().map(code).collect();
        if subscribe.filters.iter().all(|filter| filter.path != UNHEARD) {
            let length = u8::try_from(codes.len()).unwrap() + 3;
            self.output.extend_from_slice(&[0x90, length, high, low, 0]);
            self.output.extend_from_slice(&codes);
            COMMAND.iter().for_each(|packet| self.output.extend_from_slice(packet));
        }
        self.seen.lock().unwrap().subscriptions.push(subscribe.filters);
    }

    fn receive_publish(&mut self, publish: Publish) {
        let [high, low] = publish.pkid.to_be_bytes();
        match (publish.qos as u8, self.answer) {
            (0, _) => {}
            (1, Answer::Reject) => self.output.extend_from_slice(&[0x40, 3, high, low, 0x97]),
            (_, Answer::Reject) => self.output.extend_from_slice(&[0x50, 3, high, low, 0x97]),
            (1, _) => drop(PubAck::new(publish.pkid, None).write(&mut self.output).unwrap()),
            (_, _) => drop(PubRec::new(publish.pkid, None).write(&mut self.output).unwrap()),
        }
        if publish.pkid > 0 {
            self.outstanding.insert(publish.pkid);
        }
        let properties = publish.properties.unwrap_or_default();
        let is_named = !publish.topic.is_empty();
        let topic = match properties.topic_alias {
            Some(alias) if !is_named => self.aliases.get(&alias).expect("an alias is bound before it is used").clone(),
            Some(alias) => {
                self.aliases.insert(alias, publish.topic.clone());
                publish.topic
            }
            None => publish.topic,
        };
        let mut seen = self.seen.lock().unwrap();
        seen.outstanding_max = seen.outstanding_max.max(self.outstanding.len());
        seen.messages.push(Message {
            topic: String::from_utf8(topic.to_vec()).unwrap(),
            is_named,
            alias: properties.topic_alias,
            payload: publish.payload,
            content_type: properties.content_type,
            expiry: properties.message_expiry_interval,
            response_topic: properties.response_topic,
            user: properties.user_properties,
        });
    }
}
