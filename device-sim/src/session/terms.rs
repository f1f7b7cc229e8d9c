//! What a broker of MQTT 5 allows on a connection, and how much of it is used up. A session of 3.1.1 has none of it.

use std::num::NonZeroU16;

use fleet_contract::qos::Qos;
use fleet_contract::units::Span;

use super::codec::v5::{Alias, Properties, Property};
use super::{Options, Session};
use crate::index::StreamIndex;

/// How many topic aliases a session keeps track of: a bit each.
const ALIASES_MAX: u16 = 64;

/// What the broker's CONNACK allows for the connection (§3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many messages of QoS 1 and 2 may wait for their acknowledgement.
    pub receive_maximum: u16,
    /// The largest packet that the broker takes, in bytes.
    pub maximum_packet_size: u32,
    /// The highest alias that the broker takes; with 0 there are none.
    pub topic_alias_maximum: u16,
    /// The keep-alive that the broker wants in place of the client's, in seconds.
    pub server_keep_alive: Option<u16>,
    /// The highest quality of service that the broker takes.
    pub maximum_qos: Qos,
    /// Whether the broker takes retained messages.
    pub is_retain_available: bool,
    /// Whether the broker takes filters with wildcards.
    pub is_wildcard_available: bool,
    /// Whether the broker takes shared subscriptions.
    pub is_share_available: bool,
    /// How many seconds the broker keeps the session, if not as long as the client asked for.
    pub session_expiry: Option<u32>,
    /// So many messages of QoS 1 and 2 may still be sent before one is acknowledged (§4.9); less than none where an
    /// earlier connection left more to release than this one allows.
    quota: i32,
    /// The aliases that the broker knows by now: bit *n* is alias *n* + 1.
    aliases: u64,
}

impl Default for Terms {
    /// What holds where a broker says nothing.
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_packet_size: u32::MAX,
            topic_alias_maximum: 0,
            server_keep_alive: None,
            maximum_qos: Qos::ExactlyOnce,
            is_retain_available: true,
            is_wildcard_available: true,
            is_share_available: true,
            session_expiry: None,
            quota: u16::MAX.into(),
            aliases: 0,
        }
    }
}

impl Terms {
    /// The terms in a CONNACK for a client with so many messages to release, and the client identifier that the broker has assigned.
    pub(super) fn read(properties: Properties<'_>, releasing: usize) -> (Self, Option<&str>) {
        let (mut terms, mut assigned) = (Self::default(), None);
        for property in properties.iter() {
            match property {
                Property::ReceiveMaximum(maximum) => terms.receive_maximum = maximum,
                Property::MaximumPacketSize(size) => terms.maximum_packet_size = size,
                Property::TopicAliasMaximum(maximum) => terms.topic_alias_maximum = maximum,
                Property::ServerKeepAlive(seconds) => terms.server_keep_alive = Some(seconds),
                Property::MaximumQos(0) => terms.maximum_qos = Qos::AtMostOnce,
                Property::MaximumQos(_) => terms.maximum_qos = Qos::AtLeastOnce,
                Property::RetainAvailable(is_available) => terms.is_retain_available = is_available,
                Property::WildcardSubscriptionAvailable(is_available) => terms.is_wildcard_available = is_available,
                Property::SharedSubscriptionAvailable(is_available) => terms.is_share_available = is_available,
                Property::SessionExpiryInterval(seconds) => terms.session_expiry = Some(seconds),
                Property::AssignedClientIdentifier(id) => assigned = Some(id),
                _ => {}
            }
        }
        terms.quota = i32::from(terms.receive_maximum) - i32::try_from(releasing).unwrap_or(i32::MAX);
        (terms, assigned)
    }

    /// A message of QoS 1 or 2 is sent.
    pub(super) fn take_quota(&mut self) {
        self.quota -= 1;
    }

    /// Whether no message of QoS 1 or 2 may be sent before one is acknowledged.
    pub(super) fn is_exhausted(&self) -> bool {
        self.quota <= 0
    }

    /// A message is acknowledged; never more than the broker said at first (§4.9).
    pub(super) fn give_quota(&mut self) {
        self.quota = (self.quota + 1).min(self.receive_maximum.into());
    }

    fn alias(&self, stream: StreamIndex, options: &Options) -> Alias {
        let number = stream.number().checked_add(1).and_then(NonZeroU16::new);
        let most = self.topic_alias_maximum.min(options.topic_aliases).min(ALIASES_MAX);
        match number.filter(|number| number.get() <= most) {
            None => Alias::None,
            Some(number) if self.aliases & 1 << stream.number() == 0 => Alias::Bind(number),
            Some(number) => Alias::Use(number),
        }
    }
}

impl Session {
    /// What the broker allows on the present connection; none before its CONNACK, and none in MQTT 3.1.1.
    pub fn terms(&self) -> Option<&Terms> {
        self.rare.as_deref()?.terms.as_ref()
    }

    pub(super) fn terms_mut(&mut self) -> Option<&mut Terms> {
        self.rare.as_deref_mut()?.terms.as_mut()
    }

    /// How the topic of a stream's next PUBLISH is said: by name, or shorter if the broker takes aliases.
    pub fn alias(&self, stream: StreamIndex, options: &Options) -> Alias {
        self.terms().map_or(Alias::None, |terms| terms.alias(stream, options))
    }

    /// A PUBLISH of the stream with [`Alias::Bind`] is on its way: the broker knows the alias from now on.
    pub fn bound(&mut self, stream: StreamIndex) {
        if let Some(terms) = self.terms_mut().filter(|_| stream.number() < ALIASES_MAX) {
            terms.aliases |= 1 << stream.number();
        }
    }

    /// The largest packet that the broker takes, in bytes.
    pub fn maximum_packet_size(&self) -> usize {
        self.terms().map_or(usize::MAX, |terms| usize::try_from(terms.maximum_packet_size).unwrap_or(usize::MAX))
    }

    /// The keep-alive of the present connection.
    pub(super) fn keep_alive(&self, options: &Options) -> Span {
        match self.terms().and_then(|terms| terms.server_keep_alive) {
            Some(seconds) => Span::from_secs(seconds.into()),
            None => options.keep_alive,
        }
    }
}
