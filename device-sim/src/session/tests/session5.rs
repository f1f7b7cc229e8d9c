//! Claims about a session of MQTT 5, packet by packet.

use std::num::NonZeroU16;

use super::super::codec::v5::{Alias, Authentication, Properties, Reason, SubscribeOptions};
use super::super::codec::{Protocol, read};
use super::*;

/// A CONNACK with these properties, and with the session if `present`.
fn connack(present: bool, properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).unwrap();
    [&[0x20, length + 3, u8::from(present), 0, length], properties].concat()
}

fn options() -> Options {
    Options { protocol: Protocol::V5, clean: false, topic_aliases: 64, ..Options::default() }
}

impl Rig {
    fn up5(properties: &[u8]) -> Self {
        let mut rig = Self::offline(options());
        rig.reconnect5(false, properties);
        rig
    }

    fn reconnect5(&mut self, present: bool, properties: &[u8]) {
        self.session.lost(self.now);
        self.connect();
        self.out.clear();
        let connack = connack(present, properties);
        assert_eq!(self.take_in(&connack), Event::Connected { session_present: present });
    }

    fn take_in<'p>(&mut self, bytes: &'p [u8]) -> Event<'p> {
        let (packet, size) = read(bytes, Protocol::V5, 1_000).unwrap().unwrap();
        assert_eq!(size, bytes.len());
        self.receive(packet)
    }
}

#[test]
fn a_broker_that_says_nothing_allows_everything() {
    let rig = Rig::up5(b"");
    let terms = rig.session.terms().unwrap();
    assert_eq!((terms.receive_maximum, terms.maximum_qos), (u16::MAX, Qos::ExactlyOnce));
    assert!(terms.is_retain_available);
    assert_eq!(rig.session.maximum_packet_size(), u32::MAX as usize);
    assert_eq!(rig.session.alias(StreamIndex::new(0), &rig.options), Alias::None);
}

#[test]
fn a_clean_session_ends_with_its_connection_and_another_one_when_it_expires() {
    let connect = |options: Options| {
        let mut rig = Rig::offline(options);
        rig.connect();
        rig.written()
    };
    assert!(connect(Options { clean: true, ..options() }).starts_with(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00"));
    let forever = connect(options());
    assert!(forever.starts_with(b"\x10\x13\x00\x04MQTT\x05\x00\x00\x3c\x05\x11\xff\xff\xff\xff"), "{forever:?}");
}

#[test]
fn the_brokers_receive_maximum_narrows_the_window() {
    let mut rig = Rig::up5(b"\x21\x00\x02");
    let (first, second) = (rig.publish(Qos::AtLeastOnce), rig.publish(Qos::ExactlyOnce));
    assert_eq!(rig.try_publish(Qos::AtLeastOnce), Err(Withheld::WindowFull));
    assert_eq!(rig.try_publish(Qos::AtMostOnce), Ok(None));
    rig.receive(Packet::Pubrec(second));
    assert_eq!(rig.try_publish(Qos::AtLeastOnce), Err(Withheld::WindowFull));
    rig.acknowledge(Packet::Puback(first));
    assert!(rig.try_publish(Qos::AtLeastOnce).is_ok());
    rig.acknowledge(Packet::Pubcomp(second));
    assert!(rig.try_publish(Qos::AtLeastOnce).is_ok());
    assert_eq!(rig.try_publish(Qos::AtLeastOnce), Err(Withheld::WindowFull));
}

#[test]
fn no_more_is_resent_than_the_broker_receives() {
    let mut rig = Rig::up5(b"");
    let ids = [Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::AtLeastOnce, Qos::AtLeastOnce].map(|qos| rig.publish(qos));
    rig.receive(Packet::Pubrec(ids[1]));
    rig.reconnect5(true, b"\x21\x00\x02");
    // The one that is released counts, too.
    assert_eq!(rig.resend().len(), 2);
    assert!(rig.session.is_recovering());
    rig.acknowledge(Packet::Pubcomp(ids[1]));
    assert!(matches!(rig.resend()[..], [Resend::Publish(message)] if message.packet_id == ids[2]));
    rig.acknowledge(Packet::Puback(ids[0]));
    rig.acknowledge(Packet::Puback(ids[2]));
    assert!(matches!(rig.resend()[..], [Resend::Publish(message)] if message.packet_id == ids[3]));
    assert!(!rig.session.is_recovering());
}

#[test]
fn a_topic_goes_by_its_alias_once_the_broker_knows_it_and_anew_on_each_connection() {
    let mut rig = Rig::up5(b"\x22\x00\x02");
    let alias = |number| NonZeroU16::new(number).unwrap();
    let stream = StreamIndex::new;
    for _ in 0..2 {
        assert_eq!(rig.session.alias(stream(1), &rig.options), Alias::Bind(alias(2)));
        rig.session.bound(stream(1));
        assert_eq!(rig.session.alias(stream(1), &rig.options), Alias::Use(alias(2)));
        assert_eq!(rig.session.alias(stream(0), &rig.options), Alias::Bind(alias(1)));
        assert_eq!(rig.session.alias(stream(2), &rig.options), Alias::None);
        rig.session.bound(stream(200));
        rig.reconnect5(true, b"\x22\x00\x02");
    }
    rig.options.topic_aliases = 1;
    assert_eq!(rig.session.alias(stream(1), &rig.options), Alias::None);
}

#[test]
fn the_brokers_keep_alive_takes_the_place_of_the_clients() {
    let rig = Rig::up5(b"\x13\x00\x05");
    assert_eq!(rig.session.deadline(&rig.options), Some(rig.now.after(Span::from_secs(5))));
    let off = Rig::up5(b"\x13\x00\x00");
    assert_eq!(off.session.deadline(&off.options), None);
}

#[test]
fn a_client_without_a_name_goes_by_the_one_that_it_was_given() {
    let mut rig = Rig::offline(options());
    rig.session.connect(&Connect::default(), &rig.options, rig.now, &mut rig.out).unwrap();
    rig.take_in(&connack(false, b"\x12\x00\x03abc"));
    rig.session.lost(rig.now);
    rig.out.clear();
    rig.session.connect(&Connect::default(), &rig.options, rig.now, &mut rig.out).unwrap();
    assert!(rig.written().ends_with(b"\x00\x03abc"));
}

#[test]
fn a_refusal_has_a_name() {
    let mut rig = Rig::offline(options());
    rig.connect();
    let refusal = Refusal::Reason(Reason::Banned);
    assert_eq!(rig.take_in(b"\x20\x03\x00\x8a\x00"), Event::Refused(refusal));
    assert_eq!((rig.session.phase(), refusal.to_string()), (Phase::Closing, "banned".to_owned()));
}

#[test]
fn a_rejected_message_is_no_longer_in_flight() {
    let mut rig = Rig::up5(b"\x21\x00\x02");
    let (one, two) = (rig.publish(Qos::AtLeastOnce), rig.publish(Qos::ExactlyOnce));
    let rejected = |packet_id, qos| Packet::Rejected { packet_id, qos, reason: Reason::NotAuthorized };
    assert_eq!(rig.receive(rejected(one, Qos::ExactlyOnce)), Event::Unsolicited(one));
    for (packet_id, qos) in [(one, Qos::AtLeastOnce), (two, Qos::ExactlyOnce)] {
        let Event::Rejected(message, Reason::NotAuthorized) = rig.receive(rejected(packet_id, qos)) else {
            panic!("expected a rejection");
        };
        assert_eq!((message.packet_id, message.qos), (packet_id, qos));
        assert_eq!(rig.receive(rejected(packet_id, qos)), Event::Unsolicited(packet_id));
    }
    assert!(rig.pool.is_empty() && rig.written().is_empty());
    rig.publish_many(2);
    assert_eq!(rig.try_publish(Qos::AtLeastOnce), Err(Withheld::WindowFull));
}

#[test]
fn the_broker_may_end_the_connection_and_says_why() {
    let mut rig = Rig::up5(b"");
    assert_eq!(rig.take_in(b"\xe0\x02\x8b\x00"), Event::Disconnected(Reason::ServerShuttingDown));
    assert_eq!(rig.session.phase(), Phase::Closing);
    assert_eq!(rig.try_publish(Qos::AtMostOnce), Err(Withheld::Offline));
}

#[test]
fn a_message_that_is_too_large_is_taken_back() {
    let mut rig = Rig::up5(b"\x21\x00\x01\x27\x00\x00\x00\x40");
    assert_eq!(rig.session.maximum_packet_size(), 64);
    let packet_id = rig.publish(Qos::AtLeastOnce);
    assert_eq!(rig.session.retract(&mut rig.pool, packet_id).unwrap().packet_id, packet_id);
    assert_eq!(rig.session.retract(&mut rig.pool, packet_id), None);
    assert!(rig.pool.is_empty() && rig.session.in_flight() == 0);
    assert!(rig.try_publish(Qos::ExactlyOnce).is_ok());
}

#[test]
fn a_session_can_be_ended_with_its_connection() {
    let mut rig = Rig::up5(b"");
    rig.session.end(rig.now, &mut rig.out).unwrap();
    assert_eq!(rig.written(), b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00");
    assert_eq!(rig.session.phase(), Phase::Closing);
}

#[test]
fn an_authentication_goes_on_only_where_one_was_begun() {
    let challenge = b"\xf0\x06\x18\x04\x15\x00\x01m";
    let mut rig = Rig::up5(b"");
    let (packet, _) = read(challenge, Protocol::V5, 100).unwrap().unwrap();
    assert_eq!(rig.try_receive(packet), Err(ProtocolError::UnexpectedAuth));

    let mut options = options();
    options.properties.authentication = Some(Authentication { method: "m".into(), data: vec![7] });
    let mut rig = Rig::offline(options);
    rig.connect();
    assert!(rig.written().windows(8).any(|bytes| bytes == b"\x15\x00\x01m\x16\x00\x01\x07"));
    assert!(matches!(rig.take_in(challenge), Event::Challenged(Reason::ContinueAuthentication, _)));
    assert!(matches!(rig.take_in(&connack(false, b"")), Event::Connected { .. }));
    assert!(matches!(rig.take_in(challenge), Event::Challenged(Reason::ContinueAuthentication, _)));
}

#[test]
fn a_subscription_larger_than_the_broker_takes_is_not_written() {
    // Maximum packet size 10: as much as a SUBSCRIBE of one filter with two characters.
    let mut rig = Rig::up5(b"\x27\x00\x00\x00\x0a");
    let ask = |rig: &mut Rig, filter| {
        rig.session.subscribe(&rig.pool, Protocol::V5, &[(filter, SubscribeOptions::default())], rig.now, &mut rig.out)
    };
    assert!(ask(&mut rig, "ab").is_ok());
    let written = rig.out.len();
    assert_eq!(ask(&mut rig, "abc"), Err(RequestError::TooLarge));
    assert_eq!(rig.out.len(), written);
}

#[test]
fn a_subscription_has_options_and_each_filter_its_answer() {
    let mut rig = Rig::up5(b"");
    let filters = [("$share/g/a/+", SubscribeOptions { qos: Qos::AtLeastOnce, ..SubscribeOptions::default() })];
    let packet_id = rig.session.subscribe(&rig.pool, Protocol::V5, &filters, rig.now, &mut rig.out).unwrap();
    let [high, low] = packet_id.get().to_be_bytes();
    let event = Event::Subscribed { packet_id, codes: &[0x9e] };
    assert_eq!(rig.take_in(&[0x90, 4, high, low, 0, 0x9e]), event);

    let packet_id = rig.session.unsubscribe5(&rig.pool, &["a"], rig.now, &mut rig.out).unwrap();
    let codes = &[0x87];
    assert_eq!(rig.receive(Packet::UnsubackFailure { packet_id, codes }), Event::NotUnsubscribed { packet_id, codes });
    assert_eq!(rig.receive(Packet::Unsuback(packet_id)), Event::Unsolicited(packet_id));
}

#[test]
fn what_the_standard_forbids_is_named() {
    let check = |bytes: &[u8], expected| assert_eq!(read(bytes, Protocol::V5, 1_000), Err(expected), "{bytes:?}");
    check(b"\x20\x03\x00\x10\x00", ProtocolError::Reason { packet_type: 2, code: 0x10 });
    check(b"\x20\x03\x01\x87\x00", ProtocolError::ConnackFlags(1));
    check(b"\x20\x02\x00\x00", ProtocolError::PropertyLength);
    check(b"\x20\x05\x00\x00\x03\x21\x00", ProtocolError::PropertyLength);
    check(b"\x20\x05\x00\x00\x02\x21\x00", ProtocolError::PropertyValue(0x21));
    check(b"\x20\x06\x00\x00\x03\x21\x00\x00", ProtocolError::PropertyValue(0x21));
    check(b"\x20\x05\x00\x00\x02\x24\x02", ProtocolError::PropertyValue(0x24));
    check(b"\x20\x07\x00\x00\x04\x24\x01\x24\x01", ProtocolError::RepeatedProperty(0x24));
    check(b"\x20\x05\x00\x00\x02\x01\x00", ProtocolError::UnexpectedProperty(1));
    check(b"\x20\x05\x00\x00\x02\x7f\x00", ProtocolError::UnexpectedProperty(0x7f));
    check(b"\x20\x04\x00\x00\x00\x00", ProtocolError::WrongLength(0x20));
    check(b"\x30\x07\x00\x01t\x03\x23\x00\x01", ProtocolError::TopicAlias);
    check(b"\x30\x04\x00\x00\x00x", ProtocolError::InvalidTopic(codec::FrameError::Empty("topic")));
    check(b"\x40\x03\x00\x01\x05", ProtocolError::Reason { packet_type: 4, code: 5 });
    check(b"\xe0\x01\x04", ProtocolError::Reason { packet_type: 14, code: 4 });
    check(b"\xe1\x00", ProtocolError::ReservedFlags(0xe1));
    check(b"\xf0\x01\x00", ProtocolError::WrongLength(0xf0));
    // A name with U+0000, and a length in more bytes than it needs.
    check(b"\x20\x09\x00\x00\x06\x26\x00\x01\x00\x00\x00", ProtocolError::PropertyValue(0x26));
    check(b"\x20\x04\x00\x00\x80\x00", ProtocolError::PropertyLength);
}

#[test]
fn properties_are_none_of_3_1_1s() {
    let Ok(Some((Packet::Publish(publish), _))) = read(b"\x30\x04\x00\x01t\x00", Protocol::V311, 100) else {
        panic!("expected a PUBLISH");
    };
    assert_eq!((publish.payload, publish.properties), (&b"\x00"[..], Properties::default()));
}
