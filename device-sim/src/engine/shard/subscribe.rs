//! Subscriptions of the devices: asked for once a session, in one packet, and what comes of them.

use fleet_contract::time::Micros;

use super::Shard;
use crate::{
    agent::Agent,
    engine::{causes, slot::Slot, world::World},
    session::{
        RequestError, Terms,
        codec::{
            PacketId, Protocol, Publish, SUBACK_FAILURE,
            v5::{Reason, SubscribeOptions},
        },
    },
};

/// A filter of one device, and how its messages are to come.
type Filter = (String, SubscribeOptions);

impl<W: World, A: Agent> Shard<W, A> {
    /// Asks for all that the group of a device subscribes to, unless the broker has answered it already and has kept
    /// the session since; false when the connection was lost over it.
    ///
    /// Nobody waits for the answer: a broker that is silent altogether is found by the keep-alive, and one that leaves
    /// this packet alone unanswered is asked again over the next connection.
    pub(super) fn subscribe(&mut self, slot: Slot, session_present: bool, now: Micros) -> bool {
        let device = &self.roster.devices[slot];
        let has_none = self.blueprint.group(device.group).subscriptions.is_empty();
        if has_none || (session_present && device.is_subscribed) {
            return true;
        }
        let filters = self.filters(slot);
        self.roster.devices[slot].is_subscribed = filters.is_empty();
        if filters.is_empty() {
            return true;
        }
        self.buffers.out.clear();
        if let Err(error) = self.ask(slot, &filters, now) {
            causes::add(&mut self.counted.stats.received.refused, error.into(), filters.len() as u64);
        }
        self.write_out(slot, now)
    }

    /// What the device is to ask for; what the broker does not offer is counted as refused at once.
    fn filters(&mut self, slot: Slot) -> Vec<Filter> {
        let (device, index) = (&self.roster.devices[slot], self.roster.index(slot));
        let (terms, refused) = (device.session.terms(), &mut self.counted.stats.received.refused);
        let mut filters = Vec::new();
        for subscription in &self.blueprint.group(device.group).subscriptions {
            let filter = subscription.filter.text(index.number());
            match unavailable(&filter, terms) {
                Some(reason) => causes::add(refused, reason.into(), 1),
                None => filters.push((filter, subscription.options)),
            }
        }
        filters
    }

    /// Appends SUBSCRIBE to `out`.
    fn ask(&mut self, slot: Slot, filters: &[Filter], now: Micros) -> Result<PacketId, RequestError> {
        let filters: Vec<_> = filters.iter().map(|(filter, options)| (filter.as_str(), *options)).collect();
        let (session, protocol) = (&mut self.roster.devices[slot].session, self.blueprint.session.protocol);
        session.subscribe(&self.pool, protocol, &filters, now, &mut self.buffers.out)
    }

    /// The broker has answered, filter by filter; those that it refuses are not asked for again in this session.
    pub(super) fn subscribed(&mut self, slot: Slot, codes: &[u8]) {
        // An agent may have asked for more, and is answered at another time.
        let device = &mut self.roster.devices[slot];
        device.is_subscribed = device.session.unanswered_filters() == 0;
        for &code in codes {
            if code < SUBACK_FAILURE {
                self.counted.stats.received.granted += 1;
            } else {
                let reason = refusal(code, self.blueprint.session.protocol);
                causes::add(&mut self.counted.stats.received.refused, reason, 1);
            }
        }
    }

    /// A message has come that the device is subscribed to, or was in a session that the broker has kept.
    pub(super) fn took(&mut self, publish: &Publish<'_>) {
        let received = &mut self.counted.stats.received;
        received.messages[publish.qos as usize] += 1;
        received.payload_bytes += publish.payload.len() as u64;
        received.redelivered += u64::from(publish.dup);
    }
}

/// MQTT 5: why a filter is not to be asked for, as the broker has said in its CONNACK; it would end the connection.
fn unavailable(filter: &str, terms: Option<&Terms>) -> Option<Reason> {
    let terms = terms?;
    if filter.starts_with("$share/") && !terms.is_share_available {
        return Some(Reason::SharedSubscriptionsNotSupported);
    }
    (filter.contains(['+', '#']) && !terms.is_wildcard_available).then_some(Reason::WildcardSubscriptionsNotSupported)
}

/// Why a broker refuses a filter. MQTT 3.1.1 knows no reasons but calls it a failure (section 3.9.3).
fn refusal(code: u8, protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V311 => "failure",
        Protocol::V5 => Reason::new(code).map_or("failure", Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_does_not_offer_is_not_asked_for() {
        let (mut wildcards, mut shares) = (Terms::default(), Terms::default());
        wildcards.is_wildcard_available = false;
        shares.is_share_available = false;
        for filter in ["a/b", "a/+", "#", "$share/g/a/+"] {
            assert_eq!(unavailable(filter, None), None, "{filter} in 3.1.1");
            assert_eq!(unavailable(filter, Some(&Terms::default())), None, "{filter}");
        }
        assert_eq!(unavailable("a/b", Some(&wildcards)), None);
        assert_eq!(unavailable("a/+", Some(&wildcards)), Some(Reason::WildcardSubscriptionsNotSupported));
        assert_eq!(unavailable("a/+", Some(&shares)), None);
        assert_eq!(unavailable("$share/g/a", Some(&shares)), Some(Reason::SharedSubscriptionsNotSupported));
    }

    #[test]
    fn a_refusal_goes_by_the_brokers_reason() {
        assert_eq!(refusal(0x80, Protocol::V311), "failure");
        assert_eq!(refusal(0x80, Protocol::V5), "unspecified_error");
        assert_eq!(refusal(0x87, Protocol::V5), "not_authorized");
    }
}
