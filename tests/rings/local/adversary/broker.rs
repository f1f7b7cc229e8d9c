//! A broker of MQTT 3.1.1 that treats messages badly, by a seed, and keeps a log of what it did.
//!
//! It drops messages, delivers them twice, and holds them back until a later one of their stream has gone; and it ends
//! connections. Of one that it ends it reads what is still on the way, so that its log has all that a device has sent. Who
//! subscribes is the observer, and is never cut off alone. When it crashes it ends all connections, and forgets all sessions.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use fleet_contract::stamp::Stamp;
use rumqttc::mqttbytes::{self, QoS, v4};

/// How long a message is held back at most: it must not be lost for that.
const HELD: Duration = Duration::from_millis(400);

/// The largest packet.
const PACKET_MAX: usize = 1 << 20;

/// Of a thousand messages or packets, how many meet which fate.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Habits {
    pub(in super::super) seed: u64,
    /// Messages that nobody gets.
    pub(in super::super) drops: u64,
    /// Messages that are delivered twice.
    pub(in super::super) doubles: u64,
    /// Messages that are held back.
    pub(in super::super) holds: u64,
    /// Packets of a device behind which its connection ends.
    pub(in super::super) cuts: u64,
    /// After so many messages it crashes, and again after as many more; never if 0.
    pub(in super::super) crashes_each: u64,
}

/// A message, whoever brings it and however often.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Message {
    qos: u8,
    topic: String,
    epoch: u64,
    seq: u32,
}

/// What became of messages.
#[derive(Debug, Default)]
struct Log {
    /// How often each has come.
    arrived: BTreeMap<Message, u32>,
    /// What the observers got, in that order.
    forwarded: Vec<Message>,
    /// Those of which a device was told, by PUBACK or PUBCOMP, that it need not send them again.
    answered: BTreeSet<Message>,
    /// Which message a client meant last by an identifier of QoS 2: its PUBREL names nothing else. A crash forgets none.
    meant: HashMap<(String, u16), Message>,
    cuts: u64,
    /// Messages that have come.
    taken: u64,
}

/// What a report must say of the messages of a quality of service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Counts {
    pub(in super::super) sent: u64,
    pub(in super::super) delivered: u64,
    pub(in super::super) lost: u64,
    pub(in super::super) duplicated: u64,
    pub(in super::super) reordered: u64,
}

/// Whose messages are meant.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Of {
    /// Those of all processes.
    All,
    /// Those of the process that began at that instant.
    Epoch(u64),
}

impl Of {
    fn includes(self, qos: u8, message: &Message) -> bool {
        let is_of_epoch = match self {
            Self::All => true,
            Self::Epoch(epoch) => message.epoch == epoch,
        };
        is_of_epoch && message.qos == qos
    }
}

/// What goes to an observer.
struct Outgoing {
    message: Message,
    packet: Vec<u8>,
    is_held: bool,
}

/// An observer: its filters, and the way to it.
struct Observer {
    filters: Vec<String>,
    way: Sender<Outgoing>,
}

struct Shared {
    habits: Habits,
    log: Mutex<Log>,
    observers: Mutex<HashMap<String, Observer>>,
    /// By client: identifiers of QoS 2 that are not released.
    sessions: Mutex<HashMap<String, BTreeSet<u16>>>,
    /// The connections since the last crash.
    streams: Mutex<Vec<TcpStream>>,
    crashes: AtomicU64,
}

impl Shared {
    /// Ends all connections and forgets all sessions. What was written before still arrives.
    fn crash(&self) {
        let mut streams = lock(&self.streams);
        self.crashes.fetch_add(1, SeqCst);
        let ended = std::mem::take(&mut *streams);
        drop(streams);
        lock(&self.observers).clear();
        lock(&self.sessions).clear();
        for stream in ended {
            // It may have gone by itself.
            drop(stream.shutdown(Shutdown::Write));
        }
    }
}

/// The broker; it ends with the test's process.
pub(in super::super) struct Adversary {
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Adversary {
    pub(in super::super) fn start(habits: Habits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            habits,
            log: Mutex::default(),
            observers: Mutex::default(),
            sessions: Mutex::default(),
            streams: Mutex::default(),
            crashes: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                let mut streams = lock(&shared.streams);
                streams.push(stream.try_clone().unwrap());
                let line = Line::new(stream, Arc::clone(&shared));
                drop(streams);
                thread::spawn(move || line.serve());
            }
        });
        Self { address, shared }
    }

    pub(in super::super) fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// How many connections it has ended.
    pub(in super::super) fn cuts(&self) -> u64 {
        lock(&self.shared.log).cuts
    }

    /// How often it has crashed.
    pub(in super::super) fn crashes(&self) -> u64 {
        self.shared.crashes.load(SeqCst)
    }

    /// Whether an observer got a message of this topic and sequence, whichever process has sent it.
    pub(in super::super) fn has_forwarded(&self, topic: &str, seq: u32) -> bool {
        lock(&self.shared.log).forwarded.iter().any(|message| message.seq == seq && message.topic == topic)
    }

    /// How many messages of a quality of service it has acknowledged to the end.
    pub(in super::super) fn answered(&self, qos: u8, of: Of) -> u64 {
        lock(&self.shared.log).answered.iter().filter(|message| of.includes(qos, message)).count() as u64
    }

    /// What it has done to the messages of a quality of service.
    pub(in super::super) fn counts(&self, qos: u8, of: Of) -> Counts {
        let log = lock(&self.shared.log);
        let sent = log.arrived.keys().filter(|message| of.includes(qos, message)).count() as u64;
        let mut counts = Counts { sent, ..Counts::default() };
        let (mut seen, mut highest) = (BTreeSet::new(), BTreeMap::new());
        for message in log.forwarded.iter().filter(|message| of.includes(qos, message)) {
            let highest = highest.entry((&message.topic, message.epoch)).or_insert(0);
            if seen.insert(message) {
                counts.delivered += 1;
                counts.reordered += u64::from(message.seq < *highest);
            } else {
                counts.duplicated += 1;
            }
            *highest = (*highest).max(message.seq);
        }
        counts.lost = sent - counts.delivered;
        counts
    }
}

/// A connection.
struct Line {
    stream: TcpStream,
    shared: Arc<Shared>,
    client: String,
    packets: u64,
    /// How often the broker had crashed when it began.
    crashes: u64,
    /// Whether it alone was ended.
    was_ended: bool,
}

impl Line {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        let crashes = shared.crashes.load(SeqCst);
        Self { stream, shared, client: String::new(), packets: 0, crashes, was_ended: false }
    }

    /// Whether it was ended, and what still comes is only noted.
    fn is_cut(&self) -> bool {
        self.was_ended || self.crashes != self.shared.crashes.load(SeqCst)
    }

    /// Serves the connection to its end; who leaves is no observer any more.
    fn serve(mut self) {
        self.read_to_the_end();
        if self.crashes == self.shared.crashes.load(SeqCst) {
            lock(&self.shared.observers).remove(&self.client);
        }
    }

    fn read_to_the_end(&mut self) {
        let mut input = BytesMut::new();
        let mut bytes = vec![0; 64 * 1024];
        loop {
            match v4::Packet::read(&mut input, PACKET_MAX) {
                Ok(packet) => {
                    if !self.receive(packet) {
                        return;
                    }
                    continue;
                }
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{} wrote what is no packet: {error:?}", self.client),
            }
            match self.stream.read(&mut bytes) {
                Ok(count @ 1..) => input.extend_from_slice(&bytes[..count]),
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Takes a packet; whether the connection goes on.
    fn receive(&mut self, packet: v4::Packet) -> bool {
        self.packets += 1;
        match packet {
            v4::Packet::Connect(connect) if !self.is_cut() => {
                self.client.clone_from(&connect.client_id);
                let mut sessions = lock(&self.shared.sessions);
                let is_present = !connect.clean_session && sessions.contains_key(&self.client);
                if !is_present {
                    sessions.insert(self.client.clone(), BTreeSet::new());
                }
                drop(sessions);
                self.answer(&v4::Packet::ConnAck(v4::ConnAck::new(v4::ConnectReturnCode::Success, is_present)));
            }
            v4::Packet::Subscribe(subscribe) if !self.is_cut() => self.subscribe(&subscribe),
            v4::Packet::Unsubscribe(unsubscribe) => {
                if let Some(observer) = lock(&self.shared.observers).get_mut(&self.client) {
                    observer.filters.retain(|filter| !unsubscribe.topics.contains(filter));
                }
                self.answer(&v4::Packet::UnsubAck(v4::UnsubAck::new(unsubscribe.pkid)));
            }
            v4::Packet::Publish(publish) => self.take(&publish),
            v4::Packet::PubRel(release) if !self.is_cut() => {
                lock(&self.shared.sessions).entry(self.client.clone()).or_default().remove(&release.pkid);
                let meant = lock(&self.shared.log).meant.get(&(self.client.clone(), release.pkid)).cloned();
                self.acknowledge(&v4::Packet::PubComp(v4::PubComp::new(release.pkid)), meant);
            }
            v4::Packet::PingReq => {
                self.answer(&v4::Packet::PingResp);
            }
            v4::Packet::Disconnect => return false,
            _ => {}
        }
        let is_observer = lock(&self.shared.observers).contains_key(&self.client);
        // Who connects again draws the same lot for the same packet: one that is cut at its CONNECT would never come to subscribe.
        let may_be_cut = !self.is_cut() && !is_observer && self.packets > 1;
        if may_be_cut && self.falls(("cut", &self.client, self.packets), self.shared.habits.cuts) {
            self.was_ended = true;
            lock(&self.shared.log).cuts += 1;
            // It may have gone by itself.
            drop(self.stream.shutdown(Shutdown::Write));
        }
        true
    }

    fn subscribe(&self, subscribe: &v4::Subscribe) {
        let mut observers = lock(&self.shared.observers);
        let observer = observers.entry(self.client.clone()).or_insert_with(|| {
            let (way, outgoing) = mpsc::channel();
            let (stream, shared) = (self.stream.try_clone().unwrap(), Arc::clone(&self.shared));
            thread::spawn(move || forward(&outgoing, stream, &shared));
            Observer { filters: Vec::new(), way }
        });
        observer.filters.extend(subscribe.filters.iter().map(|filter| filter.path.clone()));
        drop(observers);
        let granted = subscribe.filters.iter().map(|_| v4::SubscribeReasonCode::Success(QoS::AtMostOnce)).collect();
        self.answer(&v4::Packet::SubAck(v4::SubAck::new(subscribe.pkid, granted)));
    }

    /// Takes a message and lets it meet its fate.
    fn take(&self, publish: &v4::Publish) {
        let Stamp { epoch, seq, .. } = Stamp::find(&publish.payload).expect("a message has its stamp");
        let qos = publish.qos as u8;
        let message = Message { qos, topic: publish.topic.clone(), epoch: epoch.0, seq };
        let (time, taken) = {
            let mut log = lock(&self.shared.log);
            log.taken += 1;
            let taken = log.taken;
            let times = log.arrived.entry(message.clone()).or_default();
            *times += 1;
            (*times, taken)
        };
        if self.shared.habits.crashes_each > 0 && taken.is_multiple_of(self.shared.habits.crashes_each) {
            self.shared.crash();
        }
        if self.is_cut() {
            return;
        }
        let is_new =
            qos < 2 || lock(&self.shared.sessions).entry(self.client.clone()).or_default().insert(publish.pkid);
        if is_new {
            self.forward(&message, publish, time);
        }
        match qos {
            1 => self.acknowledge(&v4::Packet::PubAck(v4::PubAck::new(publish.pkid)), Some(message)),
            2 => {
                lock(&self.shared.log).meant.insert((self.client.clone(), publish.pkid), message);
                self.answer(&v4::Packet::PubRec(v4::PubRec::new(publish.pkid)));
            }
            _ => {}
        }
    }

    /// Writes the last packet about a message, and notes that it went. What was written before the end of a connection arrives
    /// before the end does.
    fn acknowledge(&self, packet: &v4::Packet, message: Option<Message>) {
        if self.answer(packet)
            && let Some(message) = message
        {
            lock(&self.shared.log).answered.insert(message);
        }
    }

    fn forward(&self, message: &Message, publish: &v4::Publish, time: u32) {
        let Habits { drops, doubles, holds, .. } = self.shared.habits;
        if self.falls(("drop", message, time), drops) {
            return;
        }
        let mut packet = BytesMut::new();
        let copy = v4::Publish::new(&publish.topic, QoS::AtMostOnce, publish.payload.clone());
        v4::Packet::Publish(copy).write(&mut packet, PACKET_MAX).unwrap();
        let is_held = self.falls(("hold", message, time), holds);
        let copies = if self.falls(("double", message, time), doubles) { 2 } else { 1 };
        for observer in lock(&self.shared.observers).values() {
            if observer.filters.iter().any(|filter| matches(filter, &message.topic)) {
                for _ in 0..copies {
                    let outgoing = Outgoing { message: message.clone(), packet: packet.to_vec(), is_held };
                    // Whoever has gone gets nothing.
                    drop(observer.way.send(outgoing));
                }
            }
        }
    }

    /// Whether what is named by `what` is among so many of a thousand.
    fn falls(&self, what: impl Hash, of_thousand: u64) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.shared.habits.seed, what).hash(&mut hasher);
        hasher.finish() % 1_000 < of_thousand
    }

    /// Writes a packet; false where the connection was ended, or whoever made it has gone: they get nothing.
    fn answer(&self, packet: &v4::Packet) -> bool {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, PACKET_MAX).unwrap();
        !self.is_cut() && (&self.stream).write_all(&bytes).is_ok()
    }
}

/// Writes what goes to an observer; what is held back goes behind the next message of its stream, or after a while.
fn forward(outgoing: &mpsc::Receiver<Outgoing>, mut stream: TcpStream, shared: &Shared) {
    let mut held: Vec<(Instant, Outgoing)> = Vec::new();
    let mut write = |going: Outgoing| {
        // Whoever has gone gets nothing.
        if stream.write_all(&going.packet).is_ok() {
            lock(&shared.log).forwarded.push(going.message);
        }
    };
    loop {
        match outgoing.recv_timeout(Duration::from_millis(50)) {
            Ok(going) if going.is_held => held.push((Instant::now(), going)),
            Ok(going) => {
                let topic = going.message.topic.clone();
                write(going);
                held.extract_if(.., |(_, it)| it.message.topic == topic).for_each(|(_, it)| write(it));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        held.extract_if(.., |(since, _)| since.elapsed() > HELD).for_each(|(_, it)| write(it));
    }
}

/// Whether a filter of MQTT means a topic (MQTT 3.1.1, 4.7).
fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(found)) if level == found => {}
            _ => return false,
        }
    }
}
