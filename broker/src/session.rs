//! The server's half of an MQTT 3.1.1 session, without I/O.
//!
//! It holds what outlives a connection when the client asks for it: what is to be delivered, what
//! was sent and not yet acknowledged, and the `QoS` 2 identifiers received and not yet released.
//! Every queue is bounded; what does not fit is refused to the caller, who counts it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use rumqttc::QoS;

use crate::message::Message;
use crate::router::FilterId;
use crate::store::{KeptMessage, KeptSession, KeptWaiting};
use crate::wire::{self, Header, Reply};

/// A session with fewer messages waiting keeps up; it gets its messages even when others, who do
/// not, have used up the bytes that all may hold together.
const KEEPING_UP: usize = 64;

/// Bytes that the queues of all sessions hold together, and how many they may.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let used = AtomicUsize::new(0);
        Arc::new(Self { used, limit })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.used() + bytes <= self.limit
    }

    /// Sets the bytes aside until the charge is dropped.
    fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Charge { budget: Arc::clone(self), bytes }
    }
}

#[derive(Debug)]
struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bounds of one session.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Messages of `QoS` 1 and 2 sent and not yet acknowledged.
    pub(crate) in_flight: usize,
    /// Messages waiting to be sent.
    pub(crate) queue: usize,
    pub(crate) budget: Arc<Budget>,
}

/// What became of a message that was offered to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Queued,
    /// The queue was full; `first` tells that the session was keeping up until now.
    Dropped {
        first: bool,
    },
}

/// A message on its way to one subscriber.
#[derive(Debug)]
struct Outgoing {
    message: Message,
    qos: QoS,
    retain: bool,
    _charge: Charge,
}

/// What a message in flight waits for: PUBACK, PUBREC or PUBCOMP.
#[derive(Debug)]
enum Waiting {
    Ack(Outgoing),
    Rec(Outgoing),
    Comp,
}

/// State of a session (MQTT 3.1.1, 4.1).
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) is_persistent: bool,
    /// The filters that the client subscribed to.
    pub(crate) subscriptions: HashMap<String, FilterId>,
    bounds: Bounds,
    queue: VecDeque<Outgoing>,
    /// In the order of sending, which is the order of resending (MQTT-4.6.0-1).
    in_flight: VecDeque<(u16, Waiting)>,
    last_id: u16,
    /// `QoS` 2 messages routed and not yet released by their publisher.
    unreleased: BTreeSet<u16>,
    /// Whether messages were dropped since the queue was last half empty.
    is_slow: bool,
}

impl Session {
    pub(crate) fn new(is_persistent: bool, bounds: Bounds) -> Self {
        Self {
            is_persistent,
            subscriptions: HashMap::new(),
            bounds,
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            last_id: 0,
            unreleased: BTreeSet::new(),
            is_slow: false,
        }
    }

    /// The session of a client that left it with an earlier process; without subscriptions, which are the hub's.
    pub(crate) fn restored(kept: &KeptSession, bounds: Bounds) -> Self {
        let queue = kept.queue.iter().map(|message| bounds.restored(message)).collect();
        let waiting = |waiting: &KeptWaiting| match waiting {
            KeptWaiting::Puback(message) => Waiting::Ack(bounds.restored(message)),
            KeptWaiting::Pubrec(message) => Waiting::Rec(bounds.restored(message)),
            KeptWaiting::Pubcomp => Waiting::Comp,
        };
        let in_flight = kept.in_flight.iter().map(|(id, state)| (*id, waiting(state))).collect();
        let unreleased = kept.unreleased.iter().copied().collect();
        Self { queue, in_flight, last_id: kept.last_id, unreleased, ..Self::new(true, bounds) }
    }

    /// What outlives the process; without the client's name and subscriptions, which are the hub's.
    pub(crate) fn kept(&self) -> KeptSession {
        let waiting = |waiting: &Waiting| match waiting {
            Waiting::Ack(outgoing) => KeptWaiting::Puback(outgoing.kept()),
            Waiting::Rec(outgoing) => KeptWaiting::Pubrec(outgoing.kept()),
            Waiting::Comp => KeptWaiting::Pubcomp,
        };
        KeptSession {
            // What is sent at QoS 0 is for who is there.
            queue: self.queue.iter().filter(|outgoing| outgoing.qos != QoS::AtMostOnce).map(Outgoing::kept).collect(),
            in_flight: self.in_flight.iter().map(|(id, state)| (*id, waiting(state))).collect(),
            last_id: self.last_id,
            unreleased: self.unreleased.iter().copied().collect(),
            ..KeptSession::default()
        }
    }

    /// Appends a message to what is to be sent.
    pub(crate) fn offer(&mut self, message: &Message, qos: QoS, retain: bool) -> Offer {
        if !self.has_room(message.size()) {
            let first = !std::mem::replace(&mut self.is_slow, true);
            return Offer::Dropped { first };
        }
        self.queue.push_back(self.bounds.outgoing(message.clone(), qos, retain));
        Offer::Queued
    }

    fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.queue.len();
        waiting < self.bounds.queue && (waiting < KEEPING_UP || self.bounds.budget.has_room(bytes))
    }

    /// Whether messages were dropped and the client has not caught up since.
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Appends what may be sent now to `out`, until it holds `enough` bytes; returns how many
    /// messages that were.
    pub(crate) fn fill(&mut self, out: &mut BytesMut, enough: usize) -> u64 {
        let mut sent = 0;
        while out.len() < enough {
            let window_is_full = self.in_flight.len() >= self.bounds.in_flight;
            match self.queue.front() {
                Some(next) if next.qos == QoS::AtMostOnce || !window_is_full => {}
                _ => break,
            }
            if let Some(outgoing) = self.queue.pop_front() {
                self.send(outgoing, out);
                sent += 1;
            }
        }
        if self.queue.len() <= self.bounds.queue / 2 {
            self.is_slow = false;
        }
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        sent
    }

    fn send(&mut self, outgoing: Outgoing, out: &mut BytesMut) {
        let id = match outgoing.qos {
            QoS::AtMostOnce => 0,
            _ => self.free_id(),
        };
        put(out, &outgoing, id, false);
        match outgoing.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.in_flight.push_back((id, Waiting::Ack(outgoing))),
            QoS::ExactlyOnce => self.in_flight.push_back((id, Waiting::Rec(outgoing))),
        }
    }

    /// The next packet identifier that is not in flight. There is one: the window is smaller than
    /// the number of identifiers.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.in_flight.iter().all(|(id, _)| *id != self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Appends what the client has not acknowledged, for the second time (MQTT-4.4.0-1).
    pub(crate) fn resend(&self, out: &mut BytesMut) {
        for (id, waiting) in &self.in_flight {
            match waiting {
                Waiting::Ack(outgoing) | Waiting::Rec(outgoing) => {
                    put(out, outgoing, *id, true);
                }
                Waiting::Comp => wire::put_reply(out, Reply::Release, *id),
            }
        }
    }

    /// Completes a `QoS` 1 delivery. False when none waits with this identifier; so below.
    pub(crate) fn puback(&mut self, id: u16) -> bool {
        let at = self.position(id, |waiting| matches!(waiting, Waiting::Ack(_)));
        at.and_then(|at| self.in_flight.remove(at)).is_some()
    }

    /// The client has a `QoS` 2 message; it is forgotten here, its identifier is not.
    pub(crate) fn pubrec(&mut self, id: u16) -> bool {
        let at = self.position(id, |waiting| matches!(waiting, Waiting::Rec(_)));
        if let Some(at) = at {
            self.in_flight[at].1 = Waiting::Comp;
        }
        at.is_some()
    }

    /// Completes a `QoS` 2 delivery.
    pub(crate) fn pubcomp(&mut self, id: u16) -> bool {
        let at = self.position(id, |waiting| matches!(waiting, Waiting::Comp));
        at.and_then(|at| self.in_flight.remove(at)).is_some()
    }

    /// Acknowledgements come in the order of sending, so the first is usually the one.
    fn position(&self, id: u16, is_due: impl Fn(&Waiting) -> bool) -> Option<usize> {
        self.in_flight.iter().position(|(in_flight, waiting)| *in_flight == id && is_due(waiting))
    }

    /// Whether a `QoS` 2 message with this identifier is new, and not a repetition of one that was
    /// routed already (MQTT-4.3.3-2).
    pub(crate) fn receive(&mut self, id: u16) -> bool {
        self.unreleased.insert(id)
    }

    /// The publisher knows that the message arrived; its identifier is free again.
    pub(crate) fn release(&mut self, id: u16) {
        self.unreleased.remove(&id);
    }
}

impl Bounds {
    fn outgoing(&self, message: Message, qos: QoS, retain: bool) -> Outgoing {
        Outgoing { qos, retain, _charge: self.budget.charge(message.size()), message }
    }

    fn restored(&self, kept: &KeptMessage) -> Outgoing {
        let topic = Bytes::copy_from_slice(kept.topic.as_bytes());
        let message = Message { topic, payload: kept.payload.clone(), qos: kept.qos, sequence: 0 };
        self.outgoing(message, kept.qos, kept.retain)
    }
}

impl Outgoing {
    fn kept(&self) -> KeptMessage {
        self.message.kept(self.qos, self.retain)
    }
}

fn put(out: &mut BytesMut, outgoing: &Outgoing, id: u16, duplicate: bool) {
    let header = Header { qos: outgoing.qos, retain: outgoing.retain, duplicate, id };
    let message = &outgoing.message;
    wire::put_publish(out, header, &message.topic, &message.payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rumqttc::mqttbytes::v4::Packet;

    fn session(in_flight: usize, queue: usize, bytes: usize) -> Session {
        let budget = Budget::new(bytes);
        Session::new(true, Bounds { in_flight, queue, budget })
    }

    fn message(payload: &'static str) -> Message {
        Message { topic: Bytes::from("t"), payload: Bytes::from(payload), qos: QoS::ExactlyOnce, sequence: 0 }
    }

    /// What rumqttc reads from the buffer, as `PUBLISH id qos dup payload` and `PUBREL id`.
    fn read(out: &mut BytesMut) -> Vec<String> {
        let mut seen = Vec::new();
        while !out.is_empty() {
            seen.push(match Packet::read(out, 1000).unwrap() {
                Packet::Publish(p) => {
                    let payload = String::from_utf8(p.payload.to_vec()).unwrap();
                    format!("{} {} {} {payload}", p.pkid, p.qos as u8, p.dup)
                }
                Packet::PubRel(p) => format!("rel {}", p.pkid),
                other => panic!("{other:?}"),
            });
        }
        seen
    }

    #[test]
    fn the_window_holds_back_what_needs_an_acknowledgement() {
        let mut session = session(2, 10, 1000);
        let mut out = BytesMut::new();
        for payload in ["a", "b", "c"] {
            session.offer(&message(payload), QoS::AtLeastOnce, false);
        }
        assert_eq!(session.fill(&mut out, 1000), 2);
        assert_eq!(read(&mut out), ["1 1 false a", "2 1 false b"]);
        assert!(session.puback(1));
        assert_eq!(session.fill(&mut out, 1000), 1);
        assert_eq!(read(&mut out), ["3 1 false c"]);
    }

    #[test]
    fn what_was_not_acknowledged_is_resent_in_order_and_marked_as_duplicate() {
        let mut session = session(10, 10, 1000);
        let mut out = BytesMut::new();
        session.offer(&message("a"), QoS::AtLeastOnce, false);
        session.offer(&message("b"), QoS::ExactlyOnce, false);
        session.offer(&message("c"), QoS::ExactlyOnce, false);
        session.offer(&message("d"), QoS::AtMostOnce, false);
        session.fill(&mut out, 1000);
        assert!(session.pubrec(2));
        out.clear();
        session.resend(&mut out);
        assert_eq!(read(&mut out), ["1 1 true a", "rel 2", "3 2 true c"]);
        assert!(session.puback(1));
        assert!(session.pubcomp(2));
        assert!(session.pubrec(3));
        assert!(!session.pubrec(3));
        assert!(session.pubcomp(3));
        session.resend(&mut out);
        assert_eq!(read(&mut out), Vec::<String>::new());
    }

    #[test]
    fn acknowledgements_out_of_place_change_nothing() {
        let mut session = session(10, 10, 1000);
        let mut out = BytesMut::new();
        session.offer(&message("a"), QoS::AtLeastOnce, false);
        session.offer(&message("b"), QoS::ExactlyOnce, false);
        session.fill(&mut out, 1000);
        assert!(!session.puback(9));
        assert!(!session.pubrec(1));
        assert!(!session.puback(2));
        assert!(!session.pubcomp(2));
    }

    #[test]
    fn a_full_queue_drops_and_says_so_once_until_the_client_caught_up() {
        let mut session = session(10, 2, 1000);
        let mut out = BytesMut::new();
        let offer = |session: &mut Session| session.offer(&message("a"), QoS::AtMostOnce, false);
        assert_eq!(offer(&mut session), Offer::Queued);
        assert_eq!(offer(&mut session), Offer::Queued);
        assert_eq!(offer(&mut session), Offer::Dropped { first: true });
        assert_eq!(offer(&mut session), Offer::Dropped { first: false });
        assert!(session.is_slow());
        session.fill(&mut out, 1000);
        assert!(!session.is_slow());
        assert_eq!(offer(&mut session), Offer::Queued);
    }

    #[test]
    fn queues_give_their_bytes_back() {
        let mut session = session(10, 10, 5);
        let budget = Arc::clone(&session.bounds.budget);
        let mut out = BytesMut::new();
        session.offer(&message("abcd"), QoS::AtLeastOnce, false);
        session.fill(&mut out, 1000);
        assert_eq!(budget.used(), 5);
        assert!(session.puback(1));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_common_budget_binds_those_who_do_not_keep_up() {
        let mut slow = session(10, 1_000, 100);
        let mut offers = (0..100).map(|_| slow.offer(&message("abcd"), QoS::AtMostOnce, false));
        assert!(offers.by_ref().take(KEEPING_UP).all(|offer| offer == Offer::Queued));
        assert_eq!(offers.next(), Some(Offer::Dropped { first: true }));
        let mut quick = Session::new(true, slow.bounds.clone());
        let offer = quick.offer(&message("abcd"), QoS::AtMostOnce, false);
        assert_eq!(offer, Offer::Queued);
    }

    #[test]
    fn a_restored_session_goes_on_where_it_was() {
        let mut session = session(2, 10, 1000);
        let mut out = BytesMut::new();
        for payload in ["a", "b", "c"] {
            session.offer(&message(payload), QoS::ExactlyOnce, false);
        }
        session.offer(&message("for who is there"), QoS::AtMostOnce, false);
        session.fill(&mut out, 1000);
        assert!(session.pubrec(1) && session.receive(9));
        let kept = session.kept();
        let bounds = Bounds { budget: Budget::new(1000), ..session.bounds.clone() };
        let mut restored = Session::restored(&kept, bounds);
        assert_eq!(restored.bounds.budget.used(), 4, "two payloads and topics");
        assert_eq!(restored.kept(), kept);
        out.clear();
        restored.resend(&mut out);
        assert_eq!(read(&mut out), ["rel 1", "2 2 true b"]);
        assert!(!restored.receive(9), "it has been routed before");
        assert!(restored.pubcomp(1));
        restored.fill(&mut out, 1000);
        assert_eq!(read(&mut out), ["3 2 false c"]);
    }

    #[test]
    fn a_repeated_identifier_is_new_only_after_its_release() {
        let mut session = session(10, 10, 1000);
        assert!(session.receive(1));
        assert!(!session.receive(1));
        session.release(1);
        assert!(session.receive(1));
    }

    #[test]
    fn packet_identifiers_wrap_around_and_skip_those_in_flight() {
        let mut session = session(10, 10, 1000);
        let mut out = BytesMut::new();
        session.offer(&message("a"), QoS::AtLeastOnce, false);
        session.fill(&mut out, 1000);
        session.last_id = u16::MAX;
        assert_eq!(session.free_id(), 2);
    }
}
