//! Claims about one session, packet by packet. The histories, oracles and hostile bytes are below.

mod broker;
mod codec5_oracle;
mod codec_oracle;
mod history;
mod hostile;
mod protocol_core;
mod session5;

use fleet_contract::qos::Qos;
use fleet_contract::time::Micros;
use fleet_contract::units::Span;

use super::codec::v5::{Properties, SubscribeOptions};
use super::codec::{self, ConnackCode, Connect, Packet, PacketId, Protocol, ProtocolError, Publish};
use crate::index::StreamIndex;

use super::{
    Dead, Event, InFlight, Message, Options, Phase, Pool, Refusal, RequestError, Resend, Session, Stage, Withheld,
};

/// A session with what its driver keeps beside it.
struct Rig {
    session: Session,
    pool: Pool,
    options: Options,
    now: Micros,
    out: Vec<u8>,
    seq: u32,
}

const ACCEPTED: Packet<'static> = Packet::Connack { session_present: false, code: ConnackCode::Accepted };
const RESUMED: Packet<'static> = Packet::Connack { session_present: true, code: ConnackCode::Accepted };

/// Of which stream the messages are.
const STREAM: StreamIndex = StreamIndex::new(3);

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

impl Rig {
    fn offline(options: Options) -> Self {
        let (session, pool, now) = (Session::new(), Pool::new(), Micros(1_000_000));
        Self { session, pool, options, now, out: Vec::new(), seq: 0 }
    }

    fn up(options: Options) -> Self {
        let mut rig = Self::offline(options);
        rig.reconnect(ACCEPTED);
        rig
    }

    fn persistent() -> Self {
        Self::up(Options { clean: false, ..Options::default() })
    }

    fn connect(&mut self) {
        let connect = Connect { client_id: "c", ..Connect::default() };
        self.session.connect(&connect, &self.options, self.now, &mut self.out).unwrap();
    }

    fn reconnect(&mut self, connack: Packet<'static>) {
        self.session.lost(self.now);
        self.connect();
        assert!(matches!(self.receive(connack), Event::Connected { .. }));
        self.out.clear();
    }

    fn try_receive<'p>(&mut self, packet: Packet<'p>) -> Result<Event<'p>, ProtocolError> {
        self.session.receive(&mut self.pool, &self.options, packet, self.now, &mut self.out)
    }

    fn receive<'p>(&mut self, packet: Packet<'p>) -> Event<'p> {
        self.try_receive(packet).unwrap()
    }

    fn try_publish(&mut self, qos: Qos) -> Result<Option<PacketId>, Withheld> {
        let message = Message { stream: STREAM, seq: self.seq, due: self.now, qos };
        let packet_id = self.session.publish(&mut self.pool, &self.options, message, self.now)?;
        self.seq += 1;
        Ok(packet_id)
    }

    fn publish(&mut self, qos: Qos) -> PacketId {
        self.try_publish(qos).unwrap().unwrap()
    }

    fn publish_many(&mut self, messages: usize) {
        for _ in 0..messages {
            self.publish(Qos::AtLeastOnce);
        }
    }

    fn acknowledge(&mut self, packet: Packet<'static>) -> InFlight {
        match self.receive(packet) {
            Event::Acknowledged(message) => message,
            other => panic!("expected an acknowledgement, found {other:?}"),
        }
    }

    fn resend(&mut self) -> Vec<Resend> {
        std::iter::from_fn(|| self.session.next_resend(&mut self.pool)).collect()
    }

    fn abandon(&mut self) -> Vec<InFlight> {
        std::iter::from_fn(|| self.session.abandon(&mut self.pool)).collect()
    }

    fn written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn expire_at(&mut self, now: Micros) -> Result<(), Dead> {
        self.now = now;
        self.session.expire(&self.options, now, &mut self.out)
    }
}

fn filter(filter: &str, qos: Qos) -> (&str, SubscribeOptions) {
    (filter, SubscribeOptions { qos, ..SubscribeOptions::default() })
}

#[test]
fn a_session_is_at_most_64_bytes() {
    assert!(size_of::<Session>() <= 64, "{}", size_of::<Session>());
}

#[test]
fn qos_0_costs_nothing_and_has_no_packet_identifier() {
    let mut rig = Rig::up(Options::default());
    assert_eq!(rig.try_publish(Qos::AtMostOnce), Ok(None));
    assert!(rig.pool.is_empty());
}

#[test]
fn an_offline_session_withholds() {
    let mut rig = Rig::offline(Options::default());
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        assert_eq!(rig.try_publish(qos), Err(Withheld::Offline));
        rig.connect();
    }
    let filters = [filter("a", Qos::AtMostOnce)];
    let refused = rig.session.subscribe(&rig.pool, Protocol::V311, &filters, rig.now, &mut rig.out);
    assert_eq!(refused, Err(RequestError::Offline));
}

#[test]
fn a_full_window_withholds_until_an_acknowledgement_comes() {
    let mut rig = Rig::up(Options { window: 2, ..Options::default() });
    let (first, second) = (rig.publish(Qos::AtLeastOnce), rig.publish(Qos::ExactlyOnce));
    assert_eq!(rig.try_publish(Qos::AtLeastOnce), Err(Withheld::WindowFull));
    assert_eq!(rig.try_publish(Qos::AtMostOnce), Ok(None));
    rig.receive(Packet::Pubrec(second));
    assert_eq!(rig.try_publish(Qos::AtLeastOnce), Err(Withheld::WindowFull));
    rig.receive(Packet::Puback(first));
    assert!(rig.try_publish(Qos::AtLeastOnce).is_ok());
}

#[test]
fn an_acknowledgement_returns_the_message() {
    let mut rig = Rig::up(Options::default());
    let due = rig.now;
    let packet_id = rig.publish(Qos::AtLeastOnce);
    rig.now = due.after(Span::from_millis(5));
    let message = rig.acknowledge(Packet::Puback(packet_id));
    let expected = InFlight {
        due,
        sent: due,
        seq: 0,
        stream: STREAM,
        packet_id,
        qos: Qos::AtLeastOnce,
        stage: Stage::Published,
        dup: false,
    };
    assert_eq!(message, expected);
    assert!(rig.pool.is_empty());
}

#[test]
fn qos_2_is_acknowledged_after_its_release() {
    let mut rig = Rig::up(Options::default());
    let packet_id = rig.publish(Qos::ExactlyOnce);
    assert_eq!(rig.receive(Packet::Pubrec(packet_id)), Event::Progress);
    assert_eq!(rig.written(), b"\x62\x02\x00\x01");
    assert_eq!(rig.acknowledge(Packet::Pubcomp(packet_id)).stage, Stage::Released);
    assert_eq!(rig.session.in_flight(), 0);
}

#[test]
fn acknowledgements_may_come_in_any_order() {
    let mut rig = Rig::up(Options::default());
    rig.publish_many(5);
    let seqs = [3, 1, 5, 2, 4].map(|number| rig.acknowledge(Packet::Puback(id(number))).seq);
    assert_eq!(seqs, [2, 0, 4, 1, 3]);
    assert!(rig.pool.is_empty());
}

#[test]
fn an_unsolicited_acknowledgement_changes_nothing() {
    let mut rig = Rig::up(Options::default());
    let (one, two, none) = (rig.publish(Qos::AtLeastOnce), rig.publish(Qos::ExactlyOnce), id(9));
    for packet in [
        Packet::Puback(none),
        Packet::Pubcomp(none),
        Packet::Unsuback(none),
        Packet::Suback { packet_id: none, codes: &[0] },
        // Of the other QoS, or before its time.
        Packet::Puback(two),
        Packet::Pubrec(one),
        Packet::Pubcomp(one),
        Packet::Pubcomp(two),
    ] {
        assert!(matches!(rig.receive(packet), Event::Unsolicited(_)), "{packet:?}");
    }
    assert!(rig.out.is_empty());
    assert_eq!(rig.session.in_flight(), 2);
    // The broker still holds a message that this side has forgotten: released, it can forget it.
    assert_eq!(rig.receive(Packet::Pubrec(none)), Event::Unsolicited(none));
    assert_eq!(rig.written(), b"\x62\x02\x00\x09");
}

#[test]
fn a_repeated_pubrec_is_released_again() {
    let mut rig = Rig::up(Options::default());
    let packet_id = rig.publish(Qos::ExactlyOnce);
    rig.receive(Packet::Pubrec(packet_id));
    assert_eq!(rig.receive(Packet::Pubrec(packet_id)), Event::Progress);
    assert_eq!(rig.written(), b"\x62\x02\x00\x01\x62\x02\x00\x01");
    assert_eq!(rig.session.in_flight(), 1);
}

#[test]
fn packet_identifiers_go_round_and_skip_those_in_use() {
    let mut rig = Rig::up(Options::default());
    let (stuck, released) = (rig.publish(Qos::AtLeastOnce), rig.publish(Qos::ExactlyOnce));
    rig.receive(Packet::Pubrec(released));
    let filters = [filter("a", Qos::AtMostOnce)];
    let asked = rig.session.subscribe(&rig.pool, Protocol::V311, &filters, rig.now, &mut rig.out).unwrap();
    assert_eq!([stuck, released, asked], [id(1), id(2), id(3)]);
    for number in (4..=u16::MAX).chain(4..=u16::MAX).chain(4..10) {
        assert_eq!(rig.publish(Qos::AtLeastOnce), id(number));
        rig.acknowledge(Packet::Puback(id(number)));
    }
}

#[test]
fn all_packet_identifiers_can_be_in_use_at_once() {
    let mut rig = Rig::up(Options { window: u16::MAX, ..Options::default() });
    (1..=u16::MAX).for_each(|number| assert_eq!(rig.publish(Qos::AtLeastOnce), id(number)));
    assert_eq!(rig.try_publish(Qos::AtLeastOnce), Err(Withheld::WindowFull));
    let refused =
        rig.session.subscribe(&rig.pool, Protocol::V311, &[filter("a", Qos::AtMostOnce)], rig.now, &mut rig.out);
    assert_eq!(refused, Err(RequestError::NoPacketId));
    rig.acknowledge(Packet::Puback(id(40_000)));
    assert_eq!(rig.publish(Qos::AtLeastOnce), id(40_000));
}

#[test]
fn a_received_message_is_answered_by_its_qos_and_passed_on_once() {
    let mut rig = Rig::up(Options::default());
    let properties = Properties::default();
    let publish =
        |qos, packet_id, dup| Publish { topic: "t", payload: b"p", packet_id, qos, retain: false, dup, properties };
    let first = publish(Qos::AtMostOnce, None, false);
    assert_eq!(rig.receive(Packet::Publish(first)), Event::Received(first));
    assert_eq!(rig.written(), b"");
    let second = publish(Qos::AtLeastOnce, Some(id(7)), false);
    assert_eq!(rig.receive(Packet::Publish(second)), Event::Received(second));
    assert_eq!(rig.written(), b"\x40\x02\x00\x07");
    let third = publish(Qos::ExactlyOnce, Some(id(7)), false);
    assert_eq!(rig.receive(Packet::Publish(third)), Event::Received(third));
    let again = publish(Qos::ExactlyOnce, Some(id(7)), true);
    assert_eq!(rig.receive(Packet::Publish(again)), Event::Repeated(id(7)));
    assert_eq!(rig.written(), b"\x50\x02\x00\x07\x50\x02\x00\x07");
    assert_eq!(rig.receive(Packet::Pubrel(id(7))), Event::Progress);
    assert_eq!(rig.receive(Packet::Pubrel(id(7))), Event::Progress);
    assert_eq!(rig.written(), b"\x70\x02\x00\x07\x70\x02\x00\x07");
    assert_eq!(rig.receive(Packet::Publish(third)), Event::Received(third));
}

#[test]
fn a_present_session_resends_releases_then_publishes_with_dup() {
    let mut rig = Rig::persistent();
    let ids = [Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::ExactlyOnce, Qos::AtLeastOnce].map(|qos| rig.publish(qos));
    rig.receive(Packet::Pubrec(ids[2]));
    rig.reconnect(RESUMED);
    assert!(rig.abandon().is_empty());
    let resends = rig.resend();
    let expected = [(ids[0], 0), (ids[1], 1), (ids[3], 3)];
    assert_eq!(resends[0], Resend::Release(ids[2]));
    assert_eq!(resends.len(), 4);
    for (resend, (packet_id, seq)) in resends[1..].iter().zip(expected) {
        let Resend::Publish(message) = resend else { panic!("expected a PUBLISH, found {resend:?}") };
        assert_eq!((message.packet_id, message.seq, message.dup), (packet_id, seq, true));
    }
}

#[test]
fn a_lost_persistent_session_begins_anew_with_the_same_messages() {
    let mut rig = Rig::persistent();
    let ids = [Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::ExactlyOnce].map(|qos| rig.publish(qos));
    rig.receive(Packet::Pubrec(ids[1]));
    rig.reconnect(ACCEPTED);
    let abandoned = rig.abandon();
    assert_eq!(
        abandoned.iter().map(|message| (message.seq, message.stage)).collect::<Vec<_>>(),
        [(1, Stage::Released)]
    );
    let check = |resends: Vec<Resend>, dup| {
        let found: Vec<_> = resends
            .iter()
            .map(|resend| match resend {
                Resend::Publish(message) => (message.seq, message.dup),
                Resend::Release(id) => panic!("unexpected release of {id:?}"),
            })
            .collect();
        assert_eq!(found, [(0, dup), (2, dup)]);
    };
    check(rig.resend(), false);
    rig.reconnect(RESUMED);
    check(rig.resend(), true);
}

#[test]
fn a_message_that_the_new_session_has_not_seen_goes_without_dup_however_late() {
    let mut rig = Rig::persistent();
    rig.publish_many(2);
    rig.reconnect(ACCEPTED);
    assert!(matches!(rig.session.next_resend(&mut rig.pool), Some(Resend::Publish(first)) if !first.dup));
    rig.reconnect(RESUMED);
    let dups: Vec<bool> =
        rig.resend().iter().map(|resend| matches!(resend, Resend::Publish(message) if message.dup)).collect();
    assert_eq!(dups, [true, false]);
}

#[test]
fn a_clean_session_abandons_what_the_last_one_left() {
    let mut rig = Rig::up(Options::default());
    let ids = [Qos::AtLeastOnce, Qos::ExactlyOnce].map(|qos| rig.publish(qos));
    rig.receive(Packet::Pubrec(ids[1]));
    rig.reconnect(ACCEPTED);
    assert_eq!(rig.session.in_flight(), 0);
    assert!(rig.try_publish(Qos::AtLeastOnce).is_ok());
    let seqs: Vec<u32> = rig.abandon().iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [1, 0]);
    assert!(rig.resend().is_empty());
    assert_eq!(rig.pool.len(), 1);
}

#[test]
fn new_messages_wait_behind_the_resent_ones() {
    let mut rig = Rig::persistent();
    rig.publish_many(2);
    rig.reconnect(RESUMED);
    for _ in 0..2 {
        assert_eq!(rig.try_publish(Qos::AtLeastOnce), Err(Withheld::Recovering));
        assert_eq!(rig.try_publish(Qos::AtMostOnce), Ok(None));
        assert!(rig.session.next_resend(&mut rig.pool).is_some());
    }
    assert!(rig.try_publish(Qos::AtLeastOnce).is_ok());
    assert_eq!(rig.session.next_resend(&mut rig.pool), None);
}

#[test]
fn an_acknowledgement_during_recovery_takes_its_message_out_of_it() {
    let mut rig = Rig::persistent();
    let ids = [Qos::AtLeastOnce; 3].map(|qos| rig.publish(qos));
    rig.reconnect(RESUMED);
    rig.acknowledge(Packet::Puback(ids[0]));
    rig.acknowledge(Packet::Puback(ids[2]));
    assert!(matches!(rig.resend()[..], [Resend::Publish(message)] if message.packet_id == ids[1]));
    rig.reconnect(RESUMED);
    rig.acknowledge(Packet::Puback(ids[1]));
    assert!(!rig.session.is_recovering());
}

#[test]
fn a_release_during_recovery_takes_its_message_out_of_it() {
    let mut rig = Rig::persistent();
    let ids = [Qos::ExactlyOnce; 2].map(|qos| rig.publish(qos));
    rig.reconnect(RESUMED);
    // Answers the PUBLISH of the last connection.
    rig.receive(Packet::Pubrec(ids[0]));
    assert!(matches!(rig.resend()[..], [Resend::Publish(message)] if message.packet_id == ids[1]));
}

#[test]
fn a_recovery_goes_on_in_another_pool_where_it_stood() {
    let mut rig = Rig::persistent();
    let ids = [Qos::ExactlyOnce, Qos::AtLeastOnce, Qos::AtLeastOnce, Qos::AtLeastOnce].map(|qos| rig.publish(qos));
    rig.receive(Packet::Pubrec(ids[0]));
    rig.reconnect(RESUMED);
    let mut resent = vec![rig.session.next_resend(&mut rig.pool).unwrap()];
    for _ in &ids[1..] {
        let mut pool = Pool::new();
        rig.session.move_messages(&mut rig.pool, &mut pool);
        assert!(rig.pool.is_empty() && pool.len() == ids.len());
        rig.pool = pool;
        resent.extend(rig.session.next_resend(&mut rig.pool));
    }
    let found = resent.iter().map(|resend| match resend {
        Resend::Release(packet_id) => (*packet_id, false),
        Resend::Publish(message) => (message.packet_id, message.dup),
    });
    assert!(found.eq([(ids[0], false), (ids[1], true), (ids[2], true), (ids[3], true)]), "{resent:?}");
    assert_eq!(rig.session.next_resend(&mut rig.pool), None);
    assert!(!rig.session.is_recovering());
}

#[test]
fn a_device_that_leaves_leaves_nothing_in_the_pool() {
    let mut rig = Rig::persistent();
    let ids = [Qos::ExactlyOnce, Qos::AtLeastOnce].map(|qos| rig.publish(qos));
    rig.receive(Packet::Pubrec(ids[0]));
    rig.session.disconnect(rig.now, &mut rig.out);
    rig.session.lost(rig.now);
    rig.session.give_up(&mut rig.pool);
    assert_eq!(rig.abandon().len(), 2);
    assert!(rig.pool.is_empty());
}

#[test]
fn a_ping_is_sent_when_nothing_was_sent_for_the_keep_alive() {
    let keep_alive = Span::from_secs(8);
    let mut rig = Rig::up(Options { keep_alive, ..Options::default() });
    let deadline = rig.now.after(keep_alive);
    assert_eq!(rig.session.deadline(&rig.options), Some(deadline));
    assert_eq!(rig.expire_at(Micros(deadline.0 - 1)), Ok(()));
    assert!(rig.out.is_empty());
    assert_eq!(rig.expire_at(deadline), Ok(()));
    assert_eq!(rig.written(), b"\xc0\x00");
    let dead = deadline.after(Span::from_secs(4));
    assert_eq!(rig.session.deadline(&rig.options), Some(dead));
    assert_eq!(rig.expire_at(Micros(dead.0 - 1)), Ok(()));
    assert_eq!(rig.receive(Packet::Pingresp), Event::Pong);
    assert_eq!(rig.session.deadline(&rig.options), Some(deadline.after(keep_alive)));
    assert_eq!(rig.expire_at(deadline.after(keep_alive)), Ok(()));
    assert_eq!(rig.written(), b"\xc0\x00");
    assert_eq!(rig.expire_at(rig.now.after(Span::from_secs(4))), Err(Dead::NoPingresp));
}

#[test]
fn a_device_that_is_acknowledged_sends_no_ping_and_one_that_hears_nothing_does() {
    let mut rig = Rig::up(Options { keep_alive: Span::from_secs(10), ..Options::default() });
    for second in 2..60 {
        assert_eq!(rig.expire_at(Micros(second * 1_000_000)), Ok(()));
        let packet_id = rig.publish(Qos::AtLeastOnce);
        rig.acknowledge(Packet::Puback(packet_id));
    }
    assert!(rig.out.is_empty());
    for second in 60..69 {
        assert_eq!(rig.expire_at(Micros(second * 1_000_000)), Ok(()));
        assert_eq!(rig.try_publish(Qos::AtMostOnce), Ok(None));
    }
    assert!(rig.out.is_empty());
    assert_eq!(rig.expire_at(Micros(69_000_000)), Ok(()));
    assert_eq!(rig.written(), b"\xc0\x00");
    assert_eq!(rig.try_publish(Qos::AtMostOnce), Ok(None));
    assert_eq!(rig.expire_at(Micros(74_000_000)), Err(Dead::NoPingresp));
}

#[test]
fn what_the_driver_wrote_counts_as_sent() {
    let mut rig = Rig::up(Options { keep_alive: Span::from_secs(10), ..Options::default() });
    let half = rig.now.after(Span::from_secs(5));
    rig.now = half;
    rig.receive(Packet::Pingresp);
    rig.session.sent(half);
    assert_eq!(rig.session.deadline(&rig.options), Some(half.after(Span::from_secs(10))));
}

#[test]
fn a_keep_alive_of_zero_never_pings() {
    let rig = Rig::up(Options { keep_alive: Span::ZERO, ..Options::default() });
    assert_eq!(rig.session.deadline(&rig.options), None);
}

#[test]
fn a_long_keep_alive_waits_ten_seconds_for_its_answer() {
    let mut rig = Rig::up(Options { keep_alive: Span::from_secs(600), ..Options::default() });
    let deadline = rig.session.deadline(&rig.options).unwrap();
    rig.expire_at(deadline).unwrap();
    assert_eq!(rig.session.deadline(&rig.options), Some(deadline.after(Span::from_secs(10))));
}

#[test]
fn a_broker_that_does_not_answer_connect_is_dead_at_the_connect_timeout() {
    let mut rig = Rig::offline(Options::default());
    assert_eq!(rig.session.deadline(&rig.options), None);
    rig.connect();
    let deadline = rig.now.after(rig.options.connect_timeout);
    assert_eq!(rig.session.deadline(&rig.options), Some(deadline));
    assert_eq!(rig.expire_at(deadline), Err(Dead::NoConnack));
}

#[test]
fn a_connection_that_does_not_close_is_dead_after_ten_seconds() {
    let mut rig = Rig::up(Options::default());
    rig.session.disconnect(rig.now, &mut rig.out);
    rig.session.disconnect(rig.now, &mut rig.out);
    assert_eq!(rig.written(), b"\xe0\x00");
    assert_eq!((rig.session.phase(), rig.session.since()), (Phase::Closing, rig.now));
    assert_eq!(rig.expire_at(rig.now.after(Span::from_secs(10))), Err(Dead::NoClose));
}

#[test]
fn after_disconnect_acknowledgements_count_and_nothing_is_sent() {
    let mut rig = Rig::up(Options::default());
    let (one, two) = (rig.publish(Qos::AtLeastOnce), rig.publish(Qos::ExactlyOnce));
    rig.session.disconnect(rig.now, &mut rig.out);
    rig.out.clear();
    rig.acknowledge(Packet::Puback(one));
    assert_eq!(rig.receive(Packet::Pubrec(two)), Event::Progress);
    let publish = Publish {
        topic: "t",
        payload: b"",
        packet_id: Some(id(1)),
        qos: Qos::AtLeastOnce,
        retain: false,
        dup: false,
        properties: Properties::default(),
    };
    assert_eq!(rig.receive(Packet::Publish(publish)), Event::Progress);
    assert!(rig.out.is_empty());
    rig.acknowledge(Packet::Pubcomp(two));
    assert_eq!(rig.try_publish(Qos::AtMostOnce), Err(Withheld::Offline));
}

#[test]
fn a_refusal_is_to_be_closed() {
    let mut rig = Rig::offline(Options::default());
    rig.connect();
    let code = ConnackCode::NotAuthorized;
    assert_eq!(rig.receive(Packet::Connack { session_present: false, code }), Event::Refused(Refusal::Code(code)));
    assert_eq!(rig.session.phase(), Phase::Closing);
}

#[test]
fn a_broker_that_breaks_the_order_of_packets_is_an_error() {
    let mut rig = Rig::offline(Options::default());
    rig.connect();
    assert_eq!(rig.try_receive(Packet::Pingresp), Err(ProtocolError::BeforeConnack));
    assert_eq!(rig.try_receive(RESUMED), Err(ProtocolError::SessionNotClean));
    rig.receive(ACCEPTED);
    assert_eq!(rig.try_receive(ACCEPTED), Err(ProtocolError::SecondConnack));
}

#[test]
fn a_connect_that_is_not_valid_leaves_the_session_offline() {
    let mut rig = Rig::offline(Options { clean: false, ..Options::default() });
    let refused = rig.session.connect(&Connect::default(), &rig.options, rig.now, &mut rig.out);
    assert_eq!(refused, Err(codec::FrameError::EmptyClientId));
    assert_eq!(rig.session.phase(), Phase::Offline);
}

#[test]
fn a_subscription_is_answered_with_one_code_a_filter() {
    let mut rig = Rig::up(Options::default());
    let filters = [filter("a/+", Qos::AtMostOnce), filter("b/#", Qos::ExactlyOnce)];
    let packet_id = rig.session.subscribe(&rig.pool, Protocol::V311, &filters, rig.now, &mut rig.out).unwrap();
    let codes = &[0, codec::SUBACK_FAILURE];
    assert_eq!(rig.receive(Packet::Unsuback(packet_id)), Event::Unsolicited(packet_id));
    assert_eq!(rig.receive(Packet::Suback { packet_id, codes }), Event::Subscribed { packet_id, codes });
    assert!(rig.session.rare.is_none());

    let packet_id = rig.session.subscribe(&rig.pool, Protocol::V311, &filters, rig.now, &mut rig.out).unwrap();
    let wrong = rig.try_receive(Packet::Suback { packet_id, codes: &[0] });
    assert_eq!(wrong, Err(ProtocolError::SubackCount { expected: 2, found: 1 }));

    let packet_id = rig.session.unsubscribe(&rig.pool, &["a/+"], rig.now, &mut rig.out).unwrap();
    assert_eq!(rig.receive(Packet::Unsuback(packet_id)), Event::Unsubscribed(packet_id));
}

#[test]
fn a_request_does_not_outlive_its_connection() {
    let mut rig = Rig::persistent();
    let packet_id = rig
        .session
        .subscribe(&rig.pool, Protocol::V311, &[filter("a", Qos::AtMostOnce)], rig.now, &mut rig.out)
        .unwrap();
    rig.reconnect(RESUMED);
    assert!(rig.session.rare.is_none());
    assert_eq!(rig.receive(Packet::Suback { packet_id, codes: &[0] }), Event::Unsolicited(packet_id));
}
