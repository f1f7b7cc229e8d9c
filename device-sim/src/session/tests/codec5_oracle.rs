//! The codec of MQTT 5 against that of `mqtt-protocol-core`: what one writes the other reads, in both directions.

use std::sync::Arc;

use fleet_contract::qos::Qos;
use fleet_contract::units::Span;
use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, ContentType, CorrelationData, MaximumPacketSize, MaximumQos, MessageExpiryInterval,
    MqttString, Properties as TheirProperties, Property as Theirs, Qos as TheirQos, ReasonString, ReceiveMaximum,
    ResponseTopic, RetainAvailable, RetainHandling, ServerKeepAlive, SessionExpiryInterval, SubEntry,
    SubscriptionIdentifier, TopicAliasMaximum, UserProperty, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, DisconnectReasonCode, PubackReasonCode, PubrecReasonCode, PubrelReasonCode, SubackReasonCode,
    UnsubackReasonCode,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::codec::v5::{
    self, Alias, Authentication, ConnectProperties, Property, Reason, Retained, SubscribeOptions,
};
use super::super::codec::{Connect, FrameError, Packet, PacketId, Protocol, PublishFrame, Will, read};
use super::codec_oracle::{packet_id, payload, qos, topic};

const NO_LIMIT: usize = 1 << 28;

fn their_qos(qos: Qos) -> TheirQos {
    TheirQos::try_from(qos as u8).unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zäß€]{0,12}", "[a-z]{200,300}"]
}

/// Properties of a PUBLISH, in an order of its own.
fn publish_properties() -> impl Strategy<Value = TheirProperties> {
    let property = prop_oneof![
        any::<u32>().prop_map(|seconds| Theirs::MessageExpiryInterval(MessageExpiryInterval::new(seconds).unwrap())),
        text().prop_map(|text| Theirs::ContentType(ContentType::new(text.as_str()).unwrap())),
        topic().prop_map(|topic| Theirs::ResponseTopic(ResponseTopic::new(topic.as_str()).unwrap())),
        vec(any::<u8>(), 0..20).prop_map(|data| Theirs::CorrelationData(CorrelationData::new(data).unwrap())),
        (text(), text()).prop_map(|(name, value)| user(&name, &value)),
    ];
    vec(property, 0..6).prop_map(without_repetition)
}

fn user(name: &str, value: &str) -> Theirs {
    Theirs::UserProperty(UserProperty::new(name, value).unwrap())
}

fn without_repetition(properties: TheirProperties) -> TheirProperties {
    let mut kept = TheirProperties::new();
    for property in properties {
        let is_user = matches!(property, Theirs::UserProperty(_));
        if is_user || kept.iter().all(|other| other.id() != property.id()) {
            kept.push(property);
        }
    }
    kept
}

fn connack_properties() -> impl Strategy<Value = TheirProperties> {
    let property = prop_oneof![
        (1..=u16::MAX).prop_map(|most| Theirs::ReceiveMaximum(ReceiveMaximum::new(most).unwrap())),
        (1..=u32::MAX).prop_map(|size| Theirs::MaximumPacketSize(MaximumPacketSize::new(size).unwrap())),
        any::<u16>().prop_map(|most| Theirs::TopicAliasMaximum(TopicAliasMaximum::new(most).unwrap())),
        any::<u16>().prop_map(|seconds| Theirs::ServerKeepAlive(ServerKeepAlive::new(seconds).unwrap())),
        any::<u32>().prop_map(|seconds| Theirs::SessionExpiryInterval(SessionExpiryInterval::new(seconds).unwrap())),
        (0..=1_u8).prop_map(|qos| Theirs::MaximumQos(MaximumQos::new(qos).unwrap())),
        (0..=1_u8).prop_map(|flag| Theirs::RetainAvailable(RetainAvailable::new(flag).unwrap())),
        text().prop_map(|id| { Theirs::AssignedClientIdentifier(AssignedClientIdentifier::new(id.as_str()).unwrap()) }),
        reason_string(),
        (text(), text()).prop_map(|(name, value)| user(&name, &value)),
    ];
    vec(property, 0..8).prop_map(without_repetition)
}

fn reason_string() -> impl Strategy<Value = Theirs> {
    text().prop_map(|text| Theirs::ReasonString(ReasonString::new(text.as_str()).unwrap()))
}

/// What we read, in their words.
fn in_their_words(property: Property<'_>) -> Theirs {
    match property {
        Property::MessageExpiryInterval(n) => Theirs::MessageExpiryInterval(MessageExpiryInterval::new(n).unwrap()),
        Property::ContentType(text) => Theirs::ContentType(ContentType::new(text).unwrap()),
        Property::ResponseTopic(text) => Theirs::ResponseTopic(ResponseTopic::new(text).unwrap()),
        Property::CorrelationData(data) => Theirs::CorrelationData(CorrelationData::new(data.to_vec()).unwrap()),
        Property::SubscriptionIdentifier(n) => Theirs::SubscriptionIdentifier(SubscriptionIdentifier::new(n).unwrap()),
        Property::SessionExpiryInterval(n) => Theirs::SessionExpiryInterval(SessionExpiryInterval::new(n).unwrap()),
        Property::AssignedClientIdentifier(text) => {
            Theirs::AssignedClientIdentifier(AssignedClientIdentifier::new(text).unwrap())
        }
        Property::ServerKeepAlive(n) => Theirs::ServerKeepAlive(ServerKeepAlive::new(n).unwrap()),
        Property::ReasonString(text) => Theirs::ReasonString(ReasonString::new(text).unwrap()),
        Property::ReceiveMaximum(n) => Theirs::ReceiveMaximum(ReceiveMaximum::new(n).unwrap()),
        Property::TopicAliasMaximum(n) => Theirs::TopicAliasMaximum(TopicAliasMaximum::new(n).unwrap()),
        Property::MaximumQos(n) => Theirs::MaximumQos(MaximumQos::new(n).unwrap()),
        Property::RetainAvailable(flag) => Theirs::RetainAvailable(RetainAvailable::new(u8::from(flag)).unwrap()),
        Property::User(name, value) => user(name, value),
        Property::MaximumPacketSize(n) => Theirs::MaximumPacketSize(MaximumPacketSize::new(n).unwrap()),
        other => panic!("no test writes {other:?}"),
    }
}

pub(super) fn connack() -> impl Strategy<Value = v5_0::Connack> {
    let codes = vec![ConnectReasonCode::Success, ConnectReasonCode::Banned, ConnectReasonCode::ServerMoved];
    (prop::sample::select(codes), any::<bool>(), connack_properties()).prop_map(|(code, present, properties)| {
        let present = present && code == ConnectReasonCode::Success;
        v5_0::Connack::builder().session_present(present).reason_code(code).props(properties).build().unwrap()
    })
}

fn publish() -> impl Strategy<Value = v5_0::Publish> {
    let parts = (topic(), payload(), qos(), packet_id(), any::<[bool; 2]>(), publish_properties());
    let parts = (parts, option::of(1..268_435_455_u32));
    parts.prop_map(|((topic, payload, qos, id, [retain, dup], mut properties), subscription)| {
        properties
            .extend(subscription.map(|id| Theirs::SubscriptionIdentifier(SubscriptionIdentifier::new(id).unwrap())));
        let publish = v5_0::Publish::builder().topic_name(topic).unwrap().qos(their_qos(qos)).retain(retain);
        let publish = publish.payload(payload).props(properties);
        match qos {
            Qos::AtMostOnce => publish.build().unwrap(),
            _ => publish.dup(dup).packet_id(id).build().unwrap(),
        }
    })
}

/// Any packet that a broker sends, as `mqtt-protocol-core` writes it.
pub(super) fn broker_packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        connack().prop_map(|packet| packet.to_continuous_buffer()),
        publish().prop_map(|packet| packet.to_continuous_buffer()),
        acknowledgement().prop_map(|(bytes, _)| bytes),
        suback().prop_map(|(_, _, bytes)| bytes),
        disconnect().prop_map(|packet| packet.to_continuous_buffer()),
        Just(v5_0::Pingresp::new().to_continuous_buffer()),
    ]
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP: without reason, with it, and with a property; and what they mean.
fn acknowledgement() -> impl Strategy<Value = (Vec<u8>, Packet<'static>)> {
    (packet_id(), 0..4_u8, option::of((any::<bool>(), option::of(reason_string())))).prop_map(|(id, kind, reason)| {
        let packet_id = PacketId::new(id).unwrap();
        let is_error = reason.as_ref().is_some_and(|(is_error, _)| *is_error);
        let properties: Option<TheirProperties> = reason.and_then(|(_, text)| text).map(|text| vec![text]);
        macro_rules! bytes {
            ($kind:ident, $error:expr, $success:expr) => {{
                let mut packet = v5_0::$kind::builder().packet_id(id);
                if is_error || properties.is_some() {
                    packet = packet.reason_code(if is_error { $error } else { $success });
                }
                if let Some(properties) = properties {
                    packet = packet.props(properties);
                }
                packet.build().unwrap().to_continuous_buffer()
            }};
        }
        let rejected = |qos| Packet::Rejected { packet_id, qos, reason: Reason::QuotaExceeded };
        match (kind, is_error) {
            (0, _) => {
                let bytes = bytes!(Puback, PubackReasonCode::QuotaExceeded, PubackReasonCode::NoMatchingSubscribers);
                (bytes, if is_error { rejected(Qos::AtLeastOnce) } else { Packet::Puback(packet_id) })
            }
            (1, _) => {
                let bytes = bytes!(Pubrec, PubrecReasonCode::QuotaExceeded, PubrecReasonCode::NoMatchingSubscribers);
                (bytes, if is_error { rejected(Qos::ExactlyOnce) } else { Packet::Pubrec(packet_id) })
            }
            (2, _) => {
                let bytes = bytes!(Pubrel, PubrelReasonCode::PacketIdentifierNotFound, PubrelReasonCode::Success);
                (bytes, Packet::Pubrel(packet_id))
            }
            _ => {
                use mqtt_protocol_core::mqtt::result_code::PubcompReasonCode as Code;
                (bytes!(Pubcomp, Code::PacketIdentifierNotFound, Code::Success), Packet::Pubcomp(packet_id))
            }
        }
    })
}

fn suback() -> impl Strategy<Value = (u16, Vec<SubackReasonCode>, Vec<u8>)> {
    use SubackReasonCode::{GrantedQos0, GrantedQos2, NotAuthorized, WildcardSubscriptionsNotSupported};
    let code = prop::sample::select(vec![GrantedQos0, GrantedQos2, NotAuthorized, WildcardSubscriptionsNotSupported]);
    (packet_id(), vec(code, 1..5), option::of(reason_string())).prop_map(|(id, codes, text)| {
        let packet = v5_0::Suback::builder().packet_id(id).reason_codes(codes.clone());
        let packet = packet.props(text.into_iter().collect::<TheirProperties>()).build().unwrap();
        (id, codes, packet.to_continuous_buffer())
    })
}

fn disconnect() -> impl Strategy<Value = v5_0::Disconnect> {
    use DisconnectReasonCode::{
        KeepAliveTimeout, NormalDisconnection, ServerShuttingDown, WildcardSubscriptionsNotSupported,
    };
    let codes = vec![NormalDisconnection, KeepAliveTimeout, ServerShuttingDown, WildcardSubscriptionsNotSupported];
    option::of((prop::sample::select(codes), option::of(reason_string()))).prop_map(|reason| {
        let packet = v5_0::Disconnect::builder();
        match reason {
            None => packet.build().unwrap(),
            Some((code, None)) => packet.reason_code(code).build().unwrap(),
            Some((code, Some(text))) => packet.reason_code(code).props(vec![text]).build().unwrap(),
        }
    })
}

/// The only packet in `bytes`.
#[track_caller]
fn ours(bytes: &[u8]) -> Packet<'_> {
    let (packet, size) = read(bytes, Protocol::V5, NO_LIMIT).unwrap().unwrap();
    assert_eq!(size, bytes.len());
    packet
}

/// What follows the fixed header of the only packet in `bytes`.
#[track_caller]
fn body(bytes: &[u8]) -> &[u8] {
    let digits = bytes[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let length = bytes[1..=digits].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
    let body = &bytes[1 + digits..];
    assert_eq!(body.len(), length);
    body
}

#[test]
fn a_broker_that_speaks_only_3_1_1_says_so() {
    let reason = Reason::UnsupportedProtocolVersion;
    let packet = ours(b"\x20\x02\x00\x01");
    assert_eq!(packet, Packet::Connack5 { session_present: false, reason, properties: v5::Properties::default() });
}

#[test]
fn an_unsuback_says_whether_each_filter_is_gone() {
    let unsuback = |code| {
        let packet = v5_0::Unsuback::builder().packet_id(7).reason_codes(vec![UnsubackReasonCode::Success, code]);
        packet.build().unwrap().to_continuous_buffer()
    };
    let packet_id = PacketId::new(7).unwrap();
    assert_eq!(ours(&unsuback(UnsubackReasonCode::NoSubscriptionExisted)), Packet::Unsuback(packet_id));
    let refused = unsuback(UnsubackReasonCode::NotAuthorized);
    assert_eq!(ours(&refused), Packet::UnsubackFailure { packet_id, codes: &[0, 0x87] });
}

#[test]
fn a_step_of_an_authentication_reads_the_same() {
    let mut out = Vec::new();
    let step = Authentication { method: "SCRAM".into(), data: vec![1, 2, 3] };
    v5::write_auth(&mut out, Reason::ContinueAuthentication, &step).unwrap();
    let (theirs, _) = v5_0::Auth::parse(body(&out)).unwrap();
    assert_eq!(theirs.to_continuous_buffer(), out);
    let Packet::Auth { reason: Reason::ContinueAuthentication, properties } = ours(&out) else { panic!("no AUTH") };
    let found: Vec<_> = properties.iter().collect();
    assert_eq!(found, [Property::AuthenticationMethod("SCRAM"), Property::AuthenticationData(&[1, 2, 3])]);
    assert!(!format!("{step:?}").contains('2'), "the data is a secret");
}

#[test]
fn a_shared_subscription_is_checked() {
    let id = PacketId::new(1).unwrap();
    let check = |filter, is_no_local, expected| {
        let options = SubscribeOptions { is_no_local, ..SubscribeOptions::default() };
        assert_eq!(v5::write_subscribe(&mut Vec::new(), id, &[(filter, options)]), expected, "{filter}");
    };
    check("$share/group/a/+", false, Ok(()));
    for filter in ["$share/group", "$share//a", "$share/+/b"] {
        check(filter, false, Err(FrameError::SharedSubscription));
    }
    check("$share/group/a", true, Err(FrameError::SharedSubscription));
    check("$share/group/", false, Err(FrameError::Empty("filter")));
}

proptest! {
    #[test]
    fn a_connack_reads_the_same(theirs in connack()) {
        let bytes = theirs.to_continuous_buffer();
        let Packet::Connack5 { session_present, reason, properties } = ours(&bytes) else { panic!("no CONNACK") };
        prop_assert_eq!(session_present, theirs.session_present());
        prop_assert_eq!(reason.code(), theirs.reason_code() as u8);
        let found: TheirProperties = properties.iter().map(in_their_words).collect();
        prop_assert_eq!(&found, theirs.props());
    }

    #[test]
    fn a_publish_of_a_broker_reads_the_same(theirs in publish()) {
        let bytes = theirs.to_continuous_buffer();
        let Packet::Publish(publish) = ours(&bytes) else { panic!("no PUBLISH") };
        prop_assert_eq!(publish.topic, theirs.topic_name());
        prop_assert_eq!(publish.payload, theirs.payload().as_slice());
        prop_assert_eq!(publish.packet_id.map(PacketId::get), theirs.packet_id());
        prop_assert_eq!(their_qos(publish.qos), theirs.qos());
        prop_assert_eq!((publish.retain, publish.dup), (theirs.retain(), theirs.dup()));
        let found: TheirProperties = publish.properties.iter().map(in_their_words).collect();
        prop_assert_eq!(&found, theirs.props());
    }

    #[test]
    fn an_acknowledgement_reads_the_same((bytes, expected) in acknowledgement()) {
        prop_assert_eq!(ours(&bytes), expected);
    }

    #[test]
    fn a_suback_reads_the_same((id, theirs, bytes) in suback()) {
        let Packet::Suback { packet_id, codes } = ours(&bytes) else { panic!("no SUBACK") };
        prop_assert_eq!(packet_id.get(), id);
        prop_assert_eq!(codes, theirs.iter().map(|code| *code as u8).collect::<Vec<_>>());
    }

    #[test]
    fn a_disconnect_of_a_broker_reads_the_same(theirs in disconnect()) {
        let bytes = theirs.to_continuous_buffer();
        let Packet::Disconnect { reason, properties } = ours(&bytes) else { panic!("no DISCONNECT") };
        prop_assert_eq!(reason.code(), theirs.reason_code().map_or(0, |code| code as u8));
        let found: TheirProperties = properties.iter().map(in_their_words).collect();
        prop_assert_eq!(found, theirs.props().clone().unwrap_or_default());
    }

    #[test]
    fn a_publish_of_ours_reads_the_same(
        topic in topic(), payload in payload(), qos in qos(), id in packet_id(), flags: [bool; 2],
        alias in 0..3_u8, number in 1..=u16::MAX, properties in publish_properties(),
    ) {
        let packet_id = PacketId::new(id).filter(|_| qos != Qos::AtMostOnce);
        let number = number.try_into().unwrap();
        let alias = [Alias::None, Alias::Bind(number), Alias::Use(number)][usize::from(alias)];
        let mut out = b"before".to_vec();
        let mut frame = PublishFrame::begin(&mut out, qos, flags[0], flags[1]);
        if !matches!(alias, Alias::Use(_)) {
            out.extend_from_slice(topic.as_bytes());
        }
        frame.end_topic(&mut out, packet_id);
        frame.write_properties(&mut out, alias, |out| write_properties(out, &properties)).unwrap();
        out.extend_from_slice(&payload);
        let range = frame.finish(&mut out).unwrap();
        let bytes = &out[range];
        let (theirs, _) = v5_0::Publish::parse(bytes[0] & 0x0f, Arc::from(body(bytes))).unwrap();
        prop_assert_eq!(theirs.payload().as_slice(), &payload);
        prop_assert_eq!(theirs.packet_id(), packet_id.map(PacketId::get));
        prop_assert_eq!((theirs.qos(), theirs.retain()), (their_qos(qos), flags[0]));
        let (expected_topic, expected_alias) = match alias {
            Alias::None => (topic.as_str(), None),
            Alias::Bind(number) => (topic.as_str(), Some(number.get())),
            Alias::Use(number) => ("", Some(number.get())),
        };
        prop_assert_eq!(theirs.topic_name(), expected_topic);
        let mut found = theirs.props().clone();
        if let Some(expected) = expected_alias {
            let Theirs::TopicAlias(found) = found.remove(0) else { panic!("no alias") };
            prop_assert_eq!(found.val(), expected);
        }
        prop_assert_eq!(found, properties);
    }

    #[test]
    fn a_connect_reads_the_same(
        client_id in "[a-z0-9]{0,30}",
        // A password without a user name, which MQTT 5 allows, the other codec refuses.
        login in option::of(("[^\\x00]{0,20}", option::of(vec(any::<u8>(), 0..20)))),
        will in option::of((topic(), vec(any::<u8>(), 0..200), qos(), any::<bool>())),
        clean: bool, keep_alive: u16, session_expiry: u32, receive_maximum: u16, maximum_packet_size: u32,
        will_delay: u32, users in vec((text(), text()), 0..3),
    ) {
        let (user, password) = login.map_or((None, None), |(user, password)| (Some(user), password));
        let connect = Connect {
            client_id: &client_id,
            user: user.as_deref(),
            password: password.as_deref(),
            will: will.as_ref().map(|(topic, payload, qos, retain)| Will { topic, payload, qos: *qos, retain: *retain }),
        };
        let properties = ConnectProperties {
            receive_maximum: receive_maximum.try_into().ok(),
            maximum_packet_size: maximum_packet_size.try_into().ok(),
            user: users.clone(),
            will_delay,
            ..ConnectProperties::default()
        };
        let mut out = Vec::new();
        let keep_alive_span = Span::from_secs(keep_alive.into());
        v5::write_connect(&mut out, &connect, &properties, session_expiry, clean, keep_alive_span).unwrap();
        let (theirs, _) = v5_0::Connect::parse(body(&out)).unwrap();
        prop_assert_eq!(theirs.client_id(), &client_id);
        prop_assert_eq!((theirs.user_name(), theirs.password()), (user.as_deref(), password.as_deref()));
        prop_assert_eq!((theirs.clean_start(), theirs.keep_alive()), (clean, keep_alive));
        let expected = will.as_ref().map(|(topic, payload, ..)| (topic.as_str(), payload.as_slice()));
        prop_assert_eq!(theirs.will_topic().zip(theirs.will_payload()), expected);
        if let Some((_, _, qos, retain)) = will {
            prop_assert_eq!((theirs.will_qos(), theirs.will_retain()), (their_qos(qos), retain));
        }
        let mut wanted = TheirProperties::new();
        if session_expiry > 0 {
            wanted.push(Theirs::SessionExpiryInterval(SessionExpiryInterval::new(session_expiry).unwrap()));
        }
        if receive_maximum > 0 {
            wanted.push(Theirs::ReceiveMaximum(ReceiveMaximum::new(receive_maximum).unwrap()));
        }
        if maximum_packet_size > 0 {
            wanted.push(Theirs::MaximumPacketSize(MaximumPacketSize::new(maximum_packet_size).unwrap()));
        }
        wanted.extend(users.iter().map(|(name, value)| self::user(name, value)));
        prop_assert_eq!(theirs.props(), &wanted);
        let delay = theirs.will_props().iter().find_map(|property| match property {
            Theirs::WillDelayInterval(delay) => Some(delay.val()),
            _ => None,
        });
        prop_assert_eq!(delay.unwrap_or(0), if theirs.will_flag() { will_delay } else { 0 });
    }

    #[test]
    fn a_subscription_reads_the_same(
        filters in vec((prop_oneof![topic(), Just("$share/g/a/+/#".to_owned())], qos(), any::<bool>(), 0..3_u8), 1..5),
        id in packet_id(),
    ) {
        let retained = [Retained::Always, Retained::IfNew, Retained::Never];
        let theirs = [RetainHandling::SendRetained, RetainHandling::SendRetainedIfNotExists, RetainHandling::DoNotSendRetained];
        let ours: Vec<_> = filters.iter().map(|(filter, qos, flag, handling)| {
            let is_no_local = *flag && !filter.starts_with('$');
            let retained = retained[usize::from(*handling)];
            (filter.as_str(), SubscribeOptions { qos: *qos, is_no_local, retains_as_published: *flag, retained })
        }).collect();
        let mut out = Vec::new();
        v5::write_subscribe(&mut out, PacketId::new(id).unwrap(), &ours).unwrap();
        let (found, _) = v5_0::Subscribe::parse(body(&out)).unwrap();
        prop_assert_eq!(found.packet_id(), id);
        for (entry, (filter, options)) in found.entries().iter().zip(&ours) {
            let entry: &SubEntry = entry;
            let theirs = theirs[options.retained as usize];
            prop_assert_eq!(entry.topic_filter(), *filter);
            prop_assert_eq!((entry.sub_opts().qos(), entry.sub_opts().rh()), (their_qos(options.qos), theirs));
            prop_assert_eq!(entry.sub_opts().nl(), options.is_no_local);
            prop_assert_eq!(entry.sub_opts().rap(), options.retains_as_published);
        }
        prop_assert_eq!(found.entries().len(), ours.len());

        let filters: Vec<&str> = filters.iter().map(|(filter, ..)| filter.as_str()).collect();
        out.clear();
        v5::write_unsubscribe(&mut out, PacketId::new(id).unwrap(), &filters).unwrap();
        let (found, _) = v5_0::Unsubscribe::parse(body(&out)).unwrap();
        prop_assert_eq!(found.entries().iter().map(MqttString::as_str).collect::<Vec<_>>(), filters);
    }

    #[test]
    fn a_disconnect_of_ours_reads_the_same(expiry in option::of(any::<u32>())) {
        let mut out = Vec::new();
        v5::write_disconnect(&mut out, Reason::DisconnectWithWill, expiry).unwrap();
        let (theirs, _) = v5_0::Disconnect::parse(body(&out)).unwrap();
        prop_assert_eq!(theirs.reason_code(), Some(DisconnectReasonCode::DisconnectWithWillMessage));
        let expected: TheirProperties =
            expiry.map(|n| Theirs::SessionExpiryInterval(SessionExpiryInterval::new(n).unwrap())).into_iter().collect();
        prop_assert_eq!(theirs.props().clone().unwrap_or_default(), expected);
    }
}

/// Writes them with the functions that a driver writes its own with.
fn write_properties(out: &mut Vec<u8>, properties: &TheirProperties) -> Result<(), FrameError> {
    properties.iter().try_for_each(|property| match property {
        Theirs::MessageExpiryInterval(seconds) => {
            v5::write_message_expiry(out, seconds.val());
            Ok(())
        }
        Theirs::ContentType(text) => v5::write_string_property(out, v5::id::CONTENT_TYPE, text.val()),
        Theirs::ResponseTopic(topic) => v5::write_string_property(out, v5::id::RESPONSE_TOPIC, topic.val()),
        Theirs::CorrelationData(data) => v5::write_binary_property(out, v5::id::CORRELATION_DATA, data.val()),
        Theirs::UserProperty(user) => v5::write_user_property(out, user.key(), user.val()),
        other => panic!("no test makes {other:?}"),
    })
}
