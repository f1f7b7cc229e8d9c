//! A broker of MQTT 3.1.1 and the network to it, on virtual time; it speaks through rumqttc's codec.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hasher},
    io,
};

use bytes::BytesMut;
use fleet_contract::{stamp::Stamp, time::Micros, units::Span};
use rumqttc::mqttbytes::{Error, QoS, v4};

use super::{super::drive::Ready, observed::Observer};
use crate::{
    engine::{
        slot::Slot,
        world::{NotOpened, World},
    },
    index::DeviceIndex,
    random::Source,
    transport::{self, Read, Written},
};

/// How long bytes take from one end to the other.
const WAY: Span = Span(300);

/// From one piece of a handshake that drags on to the next, and so many that no attempt lives to see the last one.
const PIECES: (Span, u64) = (Span::from_millis(5), 1_000);

/// What happens to the broker.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// All connections end.
    DropAll,
    /// That of a device ends.
    DropOne(u64),
    /// It reads and answers nothing for so long.
    Stall(Span),
    /// It takes no connections for so long.
    Refuse(Span),
    /// It forgets all sessions, and ends all connections.
    Forget,
    /// It takes and acknowledges messages, and passes none of them on, for so long.
    Swallow(Span),
    /// It takes messages and acknowledges none of them for so long.
    Mute(Span),
}

/// How the broker treats one device in seven; the seed says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// Like all others.
    Not,
    /// It never answers.
    Silent,
    /// It accepts the session and reads nothing more.
    Deaf,
    /// It ends the connection right behind an acknowledgement.
    Abrupt,
    /// Its side of the handshake comes in small pieces, without an end.
    Dragging,
}

/// What the operating system's calls cost the thread, half as much more or less by the seed; nothing, unless a test says so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Costs {
    /// To begin a connection.
    pub(super) open: Span,
    /// A write.
    pub(super) write: Span,
    /// Of a write, beside that: a kibibyte.
    pub(super) kibibyte: Span,
    /// A read.
    pub(super) read: Span,
    /// To go on with a handshake.
    pub(super) handshake: Span,
}

/// What a device has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// CONNECT, with a password or without.
    Connect { has_password: bool },
    /// DISCONNECT.
    Disconnect,
    /// Anything else.
    Other,
}

/// A message that the broker has taken: its QoS, topic and number.
type Taken = (usize, String, u32);

/// Messages of a QoS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    /// How many different ones.
    pub(super) distinct: u64,
}

/// One end of a connection, which the device holds.
#[derive(Debug)]
pub(in super::super) struct Line {
    id: usize,
    /// The beginning of a packet.
    kept: Vec<u8>,
}

/// The connection between the ends.
#[derive(Debug)]
struct Wire {
    slot: Slot,
    /// When it is established.
    opens: Micros,
    has_opened: bool,
    /// When the broker's pieces of a handshake arrive that have not yet.
    pieces: VecDeque<Micros>,
    /// From the device, with the instants of arrival.
    up: Vec<(Micros, Vec<u8>)>,
    input: BytesMut,
    down: Vec<(Micros, Vec<u8>)>,
    /// How many of these the device was told of; each is announced once, as epoll does.
    announced: usize,
    /// When the device learns that the broker has closed.
    closes: Option<Micros>,
    /// Whether it was told.
    is_told: bool,
    /// Bytes that the broker's side does not take.
    unsent: usize,
    client: Option<String>,
}

/// What the broker keeps of a client.
#[derive(Debug, Default)]
struct Session {
    is_persistent: bool,
    /// Identifiers of QoS 2 that are not released.
    received: BTreeSet<u16>,
    /// Messages of QoS 2 that were new in this session.
    new: BTreeMap<(String, u32), u32>,
    /// What the client has subscribed to, without wildcards.
    filters: BTreeSet<String>,
}

/// The world of a shard in a test.
#[derive(Debug)]
pub(in super::super) struct Played {
    now: Micros,
    wires: BTreeMap<usize, Wire>,
    next_id: usize,
    sessions: BTreeMap<String, Session>,
    stalls_until: Micros,
    refuses_until: Micros,
    swallows_until: Micros,
    mute_until: Micros,
    taken: BTreeSet<Taken>,
    twice: u64,
    trace: DefaultHasher,
    /// What has come from each slot, and when.
    pub(super) heard: Vec<(Micros, Slot, Heard)>,
    /// Each PUBLISH that has come from each slot, where a test wants to know.
    pub(super) said: Option<Vec<(Slot, v4::Publish)>>,
    /// The payload of the will of each CONNECT that had one.
    pub(super) wills: Vec<(Slot, Vec<u8>)>,
    pub(super) odd: Odd,
    pub(super) costs: Costs,
    pub(super) seed: u64,
    /// Whether a handshake goes before MQTT, as that of TLS.
    pub(super) is_layered: bool,
    /// Who follows the messages, if anybody does.
    pub(super) observer: Option<Observer>,
}

impl Played {
    pub(super) fn new(now: Micros) -> Self {
        Self {
            now,
            wires: BTreeMap::new(),
            next_id: 0,
            sessions: BTreeMap::new(),
            stalls_until: Micros(0),
            refuses_until: Micros(0),
            swallows_until: Micros(0),
            mute_until: Micros(0),
            taken: BTreeSet::new(),
            twice: 0,
            trace: DefaultHasher::new(),
            heard: Vec::new(),
            said: None,
            wills: Vec::new(),
            odd: Odd::Not,
            costs: Costs::default(),
            seed: 0,
            is_layered: false,
            observer: None,
        }
    }

    pub(super) const fn time(&self) -> Micros {
        self.now
    }

    /// What has gone over the wires, as one number.
    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub(super) fn arrived(&self, qos: usize) -> Arrived {
        Arrived { distinct: self.taken.iter().filter(|(found, ..)| *found == qos).count() as u64 }
    }

    pub(super) const fn twice_in_a_session(&self) -> u64 {
        self.twice
    }

    fn is_odd(&self, slot: Slot, odd: Odd) -> bool {
        self.odd == odd && u64::from(slot.number()) % 7 == self.seed % 7
    }

    /// A call of the operating system takes its time.
    fn spend(&mut self, cost: Span) {
        let draw = Source::new(self.seed, "calls").of(DeviceIndex::new(0)).at(self.now.0);
        self.now = self.now.after(Span(cost.0 / 2 + draw.below(cost.0 + 1)));
    }

    /// Ends whatever trouble there is.
    pub(super) const fn heal(&mut self) {
        self.stalls_until = Micros(0);
        self.refuses_until = Micros(0);
        self.swallows_until = Micros(0);
        self.mute_until = Micros(0);
    }

    /// Passes a message on to all that have subscribed to its topic.
    pub(super) fn tell(&mut self, topic: &str, payload: &[u8]) {
        let is_subscribed = |wire: &&Wire| {
            let session = wire.client.as_ref().and_then(|client| self.sessions.get(client));
            wire.closes.is_none() && session.is_some_and(|session| session.filters.contains(topic))
        };
        let wires = self.wires.iter().filter(|(_, wire)| is_subscribed(wire));
        let ids: Vec<usize> = wires.map(|(id, _)| *id).collect();
        for id in ids {
            self.answer(id, &v4::Packet::Publish(v4::Publish::new(topic, QoS::AtMostOnce, payload)));
        }
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) {
        let now = self.now;
        match trouble {
            Trouble::DropAll => self.wires.values_mut().for_each(|wire| wire.close(now)),
            Trouble::DropOne(slot) => {
                let of_slot = |wire: &&mut Wire| u64::from(wire.slot.number()) == slot;
                self.wires.values_mut().filter(of_slot).for_each(|wire| wire.close(now));
            }
            Trouble::Stall(span) => self.stalls_until = now.after(span),
            Trouble::Refuse(span) => self.refuses_until = now.after(span),
            Trouble::Forget => {
                self.sessions.clear();
                self.wires.values_mut().for_each(|wire| wire.close(now));
            }
            Trouble::Swallow(span) => self.swallows_until = now.after(span),
            Trouble::Mute(span) => self.mute_until = now.after(span),
        }
    }

    /// When something happens next that the shard does not do itself.
    pub(super) fn next_event(&self) -> Micros {
        // Plain comparisons: this is asked for each step of a thousand histories.
        let mut next = self.observer.as_ref().map_or(Micros::NEVER, Observer::next);
        for wire in self.wires.values() {
            if !wire.has_opened {
                next = next.min(wire.opens);
            }
            if let Some(at) = wire.pieces.front() {
                next = next.min(*at);
            }
            if let Some((at, _)) = wire.up.first()
                && wire.closes.is_none()
                && !self.is_odd(wire.slot, Odd::Silent)
            {
                next = next.min((*at).max(self.stalls_until));
            }
            if let Some((at, _)) = wire.down.get(wire.announced) {
                next = next.min(*at);
            }
            if let Some(at) = wire.closes
                && !wire.is_told
            {
                next = next.min(at);
            }
        }
        next
    }

    /// Lets time pass up to `now`, and says what has become of the connections.
    pub(super) fn advance(&mut self, now: Micros) -> Vec<Ready> {
        self.now = now;
        if now >= self.stalls_until {
            let has_arrived = |wire: &Wire| wire.up.first().is_some_and(|(at, _)| *at <= now);
            let ids: Vec<usize> = self.wires.iter().filter(|(_, wire)| has_arrived(wire)).map(|(id, _)| *id).collect();
            ids.iter().for_each(|id| self.serve(*id));
        }
        if let Some(observer) = &mut self.observer {
            observer.hand_over(now);
        }
        let mut ready = Vec::new();
        for wire in self.wires.values_mut() {
            let is_writable = !wire.has_opened && wire.opens <= now;
            wire.has_opened |= is_writable;
            let is_closed = wire.closes.is_some_and(|at| at <= now) && !wire.is_told;
            wire.is_told |= is_closed;
            let arrived = wire.down.iter().take_while(|(at, _)| *at <= now).count();
            let pieces = wire.pieces.partition_point(|at| *at <= now);
            wire.pieces.drain(..pieces);
            let is_readable = is_closed || pieces > 0 || arrived > wire.announced;
            wire.announced = wire.announced.max(arrived);
            if is_writable || is_readable {
                ready.push(Ready { slot: wire.slot, is_readable, is_writable, is_ending: is_closed });
            }
        }
        ready
    }

    /// The broker takes what has arrived on a connection, and answers.
    fn serve(&mut self, id: usize) {
        let now = self.now;
        if self.wires.get(&id).is_some_and(|wire| self.is_odd(wire.slot, Odd::Silent)) {
            return;
        }
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| wire.closes.is_none()) else { return };
        let arrived: Vec<_> = wire.up.extract_if(.., |(at, _)| *at <= now).collect();
        for (at, bytes) in arrived {
            self.trace.write_u64(at.0);
            self.trace.write(&bytes);
            wire.input.extend_from_slice(&bytes);
        }
        loop {
            let Some(wire) = self.wires.get_mut(&id).filter(|wire| wire.closes.is_none()) else { return };
            match v4::Packet::read(&mut wire.input, 2 << 20) {
                Ok(packet) => self.receive(id, packet),
                Err(Error::InsufficientBytes(_)) => return,
                Err(error) => panic!("the device wrote what is no packet: {error:?}"),
            }
        }
    }

    fn receive(&mut self, id: usize, packet: v4::Packet) {
        let now = self.now;
        let heard = match &packet {
            v4::Packet::Connect(connect) => Heard::Connect { has_password: connect.login.is_some() },
            v4::Packet::Disconnect => Heard::Disconnect,
            _ => Heard::Other,
        };
        self.heard.push((now, self.wires[&id].slot, heard));
        match packet {
            v4::Packet::Connect(connect) => self.accept(id, &connect),
            v4::Packet::Publish(publish) => self.take(id, &publish),
            v4::Packet::PubRel(v4::PubRel { pkid }) => {
                self.session(id).received.remove(&pkid);
                self.answer(id, &v4::Packet::PubComp(v4::PubComp::new(pkid)));
            }
            v4::Packet::Subscribe(v4::Subscribe { pkid, filters }) => {
                let codes = filters.iter().map(|filter| v4::SubscribeReasonCode::Success(filter.qos)).collect();
                self.session(id).filters.extend(filters.into_iter().map(|filter| filter.path));
                self.answer(id, &v4::Packet::SubAck(v4::SubAck::new(pkid, codes)));
            }
            v4::Packet::Unsubscribe(v4::Unsubscribe { pkid, topics }) => {
                self.session(id).filters.retain(|filter| !topics.contains(filter));
                self.answer(id, &v4::Packet::UnsubAck(v4::UnsubAck::new(pkid)));
            }
            v4::Packet::PingReq => self.answer(id, &v4::Packet::PingResp),
            v4::Packet::Disconnect => {
                if let Some(wire) = self.wires.get_mut(&id) {
                    wire.close(now);
                }
            }
            other => panic!("the device has no reason to send {other:?}"),
        }
    }

    fn accept(&mut self, id: usize, connect: &v4::Connect) {
        let (client, now) = (connect.client_id.clone(), self.now);
        self.wills.extend(connect.last_will.iter().map(|will| (self.wires[&id].slot, will.message.to_vec())));
        // MQTT-3.1.4-2: whoever had the session before is cut off.
        let has_it = |(other, wire): &(&usize, &mut Wire)| **other != id && wire.client.as_ref() == Some(&client);
        self.wires.iter_mut().filter(has_it).for_each(|(_, wire)| wire.close(now));
        if connect.login.is_some() {
            // Nobody has one here.
            let refused = v4::ConnectReturnCode::BadUserNamePassword;
            return self.answer(id, &v4::Packet::ConnAck(v4::ConnAck::new(refused, false)));
        }
        let is_kept = self.sessions.get(&client).is_some_and(|session| session.is_persistent) && !connect.clean_session;
        if !is_kept {
            let session = Session { is_persistent: !connect.clean_session, ..Session::default() };
            self.sessions.insert(client.clone(), session);
        }
        self.wires.get_mut(&id).unwrap().client = Some(client);
        self.answer(id, &v4::Packet::ConnAck(v4::ConnAck::new(v4::ConnectReturnCode::Success, is_kept)));
    }

    fn take(&mut self, id: usize, publish: &v4::Publish) {
        let qos = publish.qos as usize;
        let stamp = Stamp::find(&publish.payload).expect("a message has its stamp");
        let slot = self.wires[&id].slot;
        if let Some(said) = &mut self.said {
            said.push((slot, publish.clone()));
        }
        let is_new = qos < 2 || self.session(id).received.insert(publish.pkid);
        if qos == 2 && is_new {
            let times = self.session(id).new.entry((publish.topic.clone(), stamp.seq)).or_default();
            *times += 1;
            let is_twice = *times > 1;
            self.twice += u64::from(is_twice);
        }
        self.taken.insert((qos, publish.topic.clone(), stamp.seq));
        let (is_passed_on, now) = (is_new && self.now >= self.swallows_until, self.now);
        if let Some(observer) = &mut self.observer {
            observer.took(&publish.topic, &stamp);
            if is_passed_on {
                observer.pass_on(&publish.topic, &stamp, now);
            }
        }
        match qos {
            _ if now < self.mute_until => {}
            1 => {
                self.answer(id, &v4::Packet::PubAck(v4::PubAck::new(publish.pkid)));
                let now = self.now;
                if self.is_odd(self.wires[&id].slot, Odd::Abrupt) {
                    self.wires.get_mut(&id).unwrap().close(now);
                }
            }
            2 => self.answer(id, &v4::Packet::PubRec(v4::PubRec::new(publish.pkid))),
            _ => {}
        }
    }

    fn session(&mut self, id: usize) -> &mut Session {
        let client = self.wires[&id].client.clone().expect("CONNECT comes first");
        self.sessions.entry(client).or_default()
    }

    fn answer(&mut self, id: usize, packet: &v4::Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, 65_536).unwrap();
        let at = self.now.after(WAY);
        self.wires.get_mut(&id).unwrap().down.push((at, bytes.to_vec()));
    }
}

impl Wire {
    /// The broker's end is closed.
    fn close(&mut self, now: Micros) {
        self.closes.get_or_insert(now.after(WAY));
    }
}

impl World for Played {
    type Connection = Line;

    fn now(&self) -> Micros {
        self.now
    }

    fn epoch(&self) -> Micros {
        super::START
    }

    fn broker(&self, _: DeviceIndex) -> usize {
        0
    }

    fn open(&mut self, _: DeviceIndex, _: u16, slot: Slot) -> Result<Line, NotOpened> {
        if self.now < self.refuses_until {
            return Err(NotOpened::Failed(io::Error::from(io::ErrorKind::ConnectionRefused).into()));
        }
        self.spend(self.costs.open);
        // Nobody reads what came over the last one of this slot any more.
        self.wires.retain(|_, wire| wire.slot != slot);
        let id = self.next_id;
        self.next_id += 1;
        let opens = self.now.after(WAY);
        // Usually one: the broker's answer to the device's beginning.
        let usual = (Span(2 * WAY.0), u64::from(self.is_layered));
        let (gap, count) = if self.is_odd(slot, Odd::Dragging) { PIECES } else { usual };
        let wire = Wire {
            slot,
            opens,
            has_opened: false,
            pieces: (1..=count).map(|number| opens.after(Span(gap.0 * number))).collect(),
            up: Vec::new(),
            input: BytesMut::new(),
            down: Vec::new(),
            announced: 0,
            closes: None,
            is_told: false,
            unsent: 0,
            client: None,
        };
        self.wires.insert(id, wire);
        Ok(Line { id, kept: Vec::new() })
    }

    fn lost(&self, _: DeviceIndex) {}

    fn establish(&mut self, line: &mut Line) -> Result<bool, transport::Error> {
        if self.is_layered {
            self.spend(self.costs.handshake);
        }
        match self.wires.get(&line.id) {
            Some(wire) if wire.closes.is_none() => Ok(wire.has_opened && wire.pieces.is_empty()),
            _ => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
        }
    }

    fn is_layered(&self, _: &Line) -> bool {
        self.is_layered
    }

    fn overdue(&self, _: &Line) -> &'static str {
        "connect_timeout"
    }

    fn write(&mut self, line: &mut Line, bytes: &[u8]) -> Result<Written, transport::Error> {
        let Costs { write, kibibyte, .. } = self.costs;
        self.spend(Span(write.0 + kibibyte.0 * bytes.len() as u64 / 1_024));
        let at = self.now.after(WAY);
        let is_deaf = self.wires.get(&line.id).is_some_and(|wire| self.is_odd(wire.slot, Odd::Deaf));
        match self.wires.get_mut(&line.id) {
            Some(wire) if is_deaf && wire.client.is_some() => {
                wire.unsent += bytes.len();
                Ok(Written::Some)
            }
            // What arrives at a closed end is answered by a reset, later.
            Some(wire) if wire.is_told => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            Some(wire) => {
                wire.up.push((at, bytes.to_vec()));
                Ok(Written::All)
            }
            None => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        }
    }

    fn flush(&mut self, line: &mut Line) -> Result<Written, transport::Error> {
        Ok(if self.unsent(line) > 0 { Written::Some } else { Written::All })
    }

    fn unsent(&self, line: &Line) -> usize {
        self.wires.get(&line.id).map_or(0, |wire| wire.unsent)
    }

    fn inbox(&self, bytes: usize) -> usize {
        bytes
    }

    fn read(&mut self, line: &mut Line, buffer: &mut [u8]) -> Result<Read, transport::Error> {
        self.spend(self.costs.read);
        let now = self.now;
        let kept = line.kept.len();
        let mut end = kept;
        buffer[..end].copy_from_slice(&line.kept);
        line.kept.clear();
        let Some(wire) = self.wires.get_mut(&line.id) else { return Ok(Read::Closed(end)) };
        let mut is_more = false;
        while let Some((at, bytes)) = wire.down.first()
            && *at <= now
        {
            if end + bytes.len() > buffer.len() {
                is_more = true;
                break;
            }
            buffer[end..end + bytes.len()].copy_from_slice(bytes);
            end += bytes.len();
            wire.down.remove(0);
            wire.announced = wire.announced.saturating_sub(1);
        }
        // As a socket does: of what has come and of the end behind it, one read takes what has come.
        let is_closed = end == kept && wire.closes.is_some_and(|at| at <= now);
        Ok(match (is_closed, is_more) {
            (true, _) => Read::Closed(end),
            (_, true) => Read::More(end),
            _ => Read::Drained(end),
        })
    }

    fn acknowledge(&self, _: &Line) {}

    fn kept(&self, line: &Line) -> usize {
        line.kept.len()
    }

    fn keep(&self, line: &mut Line, partial: &[u8]) {
        line.kept = partial.to_vec();
    }

    fn reset(&self, _: &Line) {}

    fn finish(&mut self, line: &mut Line) -> Result<(), transport::Error> {
        // The broker closes when the DISCONNECT has arrived.
        let _ = line;
        Ok(())
    }
}
