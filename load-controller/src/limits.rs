//! What the fleets of a namespace may do, and to whom: the administrator's limits. Pure.
//!
//! Whoever may write Fleets aims load. Brokers are limited by their hosts and addresses, devices and messages by what
//! all fleets of a namespace ask for together: older fleets come first, so that a new one takes nothing from them.

use std::net::IpAddr;

use fleet_contract::allowed::AllowedBrokers;

/// The limits of a controller; by default none but that of [`AllowedBrokers`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Where brokers may be.
    pub brokers: AllowedBrokers,
    /// How many devices the fleets of a namespace may have.
    pub devices_per_namespace: Option<u32>,
    /// How many messages a second the fleets of a namespace may send, by their documents.
    pub messages_per_second: Option<u32>,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its host, as the document names it.
    pub host: String,
    /// What that resolves to; nothing where that is not known.
    pub addresses: Vec<IpAddr>,
}

/// What a fleet asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// Devices.
    pub devices: u32,
    /// Messages a second of each on average; `None` where that is not known yet.
    pub messages_per_device: Option<f64>,
}

/// What a fleet gets of what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Devices that it may have.
    pub devices: u32,
    /// Why these are fewer than it asks for.
    pub excess: Option<String>,
}

impl Limits {
    /// Why a fleet may not speak to one of its brokers. A host whose addresses are not known is no reason: workers ask
    /// again for each address that they connect to.
    pub fn check(&self, places: &[Place]) -> Option<String> {
        places.iter().find_map(|place| {
            let refused = place.addresses.iter().find_map(|address| self.brokers.check(&place.host, *address).err())?;
            Some(format!("spec.broker: the broker {} is not allowed here: {refused}", place.host))
        })
    }

    /// Whether what a fleet gets depends on other fleets.
    pub fn are_shared(&self) -> bool {
        self.devices_per_namespace.is_some() || self.messages_per_second.is_some()
    }

    /// What a fleet gets that asks for `own` and has `running` devices, if `older` come first, the oldest at the front.
    pub fn grant(&self, own: Claim, older: &[Claim], running: u32) -> Grant {
        let mut left = Left { devices: self.devices_per_namespace, messages: self.messages_per_second.map(f64::from) };
        let mut taken = Left { devices: Some(0), messages: Some(0.0) };
        for claim in older {
            let Some(rate) = claim.messages_per_device.or(left.messages.is_none().then_some(0.0)) else {
                // Nothing grows before it is known what the others send.
                return Grant { devices: own.devices.min(running), excess: None };
            };
            let devices = left.devices_of(claim.devices, rate);
            left.take(devices, rate);
            taken.devices = taken.devices.map(|taken| taken + devices);
            taken.messages = taken.messages.map(|taken| taken + f64::from(devices) * rate);
        }
        let rate = own.messages_per_device.unwrap_or(0.0);
        let devices = left.devices_of(own.devices, rate);
        let excess = (devices < own.devices).then(|| self.excess(own.devices, devices, rate, left, taken));
        Grant { devices, excess }
    }

    fn excess(&self, asked: u32, granted: u32, rate: f64, left: Left, taken: Left) -> String {
        let asked =
            format!("spec.devices: {asked} devices are asked for and {granted} allowed: the fleets of a namespace may");
        let older = taken.devices.unwrap_or(0);
        match (self.messages_per_second, self.devices_per_namespace) {
            (Some(most), _) if left.devices.is_none_or(|left| left > granted) => format!(
                "{asked} send {most} messages a second, older fleets send {:.0}, and each device of this one sends {rate:.2}",
                taken.messages.unwrap_or(0.0)
            ),
            (_, most) => format!("{asked} have {} devices, and older fleets have {older}", most.unwrap_or(0)),
        }
    }
}

/// What is left of the limits of a namespace.
#[derive(Debug, Clone, Copy)]
struct Left {
    devices: Option<u32>,
    messages: Option<f64>,
}

impl Left {
    /// How many of `asked` devices fit that send `rate` messages a second each.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and nothing is negative")]
    fn devices_of(&self, asked: u32, rate: f64) -> u32 {
        let by_messages = self.messages.filter(|_| rate > 0.0).map_or(u32::MAX, |left| (left / rate + 1e-9) as u32);
        asked.min(self.devices.unwrap_or(u32::MAX)).min(by_messages)
    }

    fn take(&mut self, devices: u32, rate: f64) {
        self.devices = self.devices.map(|left| left - devices);
        self.messages = self.messages.map(|left| (left - f64::from(devices) * rate).max(0.0));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(devices: Option<u32>, messages: Option<u32>) -> Limits {
        Limits { devices_per_namespace: devices, messages_per_second: messages, ..Limits::default() }
    }

    fn claim(devices: u32, rate: f64) -> Claim {
        Claim { devices, messages_per_device: Some(rate) }
    }

    fn place(host: &str, addresses: &[&str]) -> Place {
        Place { host: host.into(), addresses: addresses.iter().map(|address| address.parse().unwrap()).collect() }
    }

    #[test]
    fn every_address_of_a_broker_has_to_be_allowed() {
        let limits = Limits { brokers: "10.0.0.0/8".parse().unwrap(), ..Limits::default() };
        assert_eq!(limits.check(&[place("a", &["10.0.0.1"]), place("b", &["10.9.9.9", "10.1.1.1"])]), None);
        assert_eq!(
            limits.check(&[place("a", &["10.0.0.1", "192.0.2.1"])]).unwrap(),
            "spec.broker: the broker a is not allowed here: 192.0.2.1 is in no allowed network"
        );
        assert_eq!(limits.check(&[place("unknown", &[])]), None);
    }

    #[test]
    fn nobody_reaches_the_node_or_the_platform_without_a_rule() {
        let refused = Limits::default().check(&[place("metadata", &["169.254.169.254"])]).unwrap();
        assert!(refused.contains("169.254.169.254 is an address of the pod, its node or the platform"), "{refused}");
        assert_eq!(Limits::default().check(&[place("a", &["192.0.2.1"])]), None);
    }

    #[test]
    fn without_limits_everything_is_granted() {
        let unknown = Claim { devices: 9, messages_per_device: None };
        let grant = Limits::default().grant(claim(10_000_000, 1e9), &[unknown], 0);
        assert_eq!(grant, Grant { devices: 10_000_000, excess: None });
    }

    #[test]
    fn older_fleets_come_first() {
        let limits = limits(Some(100), None);
        assert_eq!(limits.grant(claim(30, 1.0), &[claim(60, 1.0)], 0), Grant { devices: 30, excess: None });
        let grant = limits.grant(claim(50, 1.0), &[claim(60, 1.0)], 0);
        assert_eq!(grant.devices, 40);
        assert_eq!(
            grant.excess.unwrap(),
            "spec.devices: 50 devices are asked for and 40 allowed: the fleets of a namespace may have 100 devices, and \
             older fleets have 60"
        );
        // One that asks for more than there is has what there is, and leaves nothing.
        assert_eq!(limits.grant(claim(1, 1.0), &[claim(u32::MAX, 1.0)], 0).devices, 0);
    }

    #[test]
    fn messages_are_limited_by_the_devices_that_send_them() {
        let limits = limits(None, Some(100));
        assert_eq!(limits.grant(claim(10, 10.0), &[], 0), Grant { devices: 10, excess: None });
        let grant = limits.grant(claim(10, 10.0), &[claim(60, 1.0)], 0);
        assert_eq!(grant.devices, 4);
        assert_eq!(
            grant.excess.unwrap(),
            "spec.devices: 10 devices are asked for and 4 allowed: the fleets of a namespace may send 100 messages a \
             second, older fleets send 60, and each device of this one sends 10.00"
        );
        assert_eq!(limits.grant(claim(1, 101.0), &[], 0).devices, 0, "one device alone sends too much");
    }

    #[test]
    fn the_tighter_limit_is_the_one_that_is_told() {
        let both = limits(Some(5), Some(100));
        assert!(both.grant(claim(10, 1.0), &[], 0).excess.unwrap().contains("have 5 devices"));
        assert!(both.grant(claim(10, 50.0), &[], 0).excess.unwrap().contains("send 100 messages"));
    }

    #[test]
    fn nothing_grows_before_the_rates_of_older_fleets_are_known() {
        let unknown = Claim { devices: 9, messages_per_device: None };
        let limited = limits(None, Some(100));
        assert_eq!(limited.grant(claim(10, 1.0), &[unknown], 4), Grant { devices: 4, excess: None });
        assert_eq!(limited.grant(claim(10, 1.0), &[unknown], 40).devices, 10, "it may shrink");
        assert_eq!(limits(Some(100), None).grant(claim(10, 1.0), &[unknown], 0).devices, 10);
    }

    proptest! {
        #[test]
        fn fleets_together_never_have_more_than_the_limits(
            claims in prop::collection::vec((0_u32..1_000, 0.0_f64..20.0), 1..8),
            most_devices in 0_u32..2_000, most_messages in 0_u32..5_000
        ) {
            let limits = limits(Some(most_devices), Some(most_messages));
            let claims: Vec<Claim> = claims.into_iter().map(|(devices, rate)| claim(devices, rate)).collect();
            let (mut devices, mut messages) = (0, 0.0);
            for (number, own) in claims.iter().enumerate() {
                let grant = limits.grant(*own, &claims[..number], 0);
                prop_assert_eq!(grant.excess.is_some(), grant.devices < own.devices);
                devices += grant.devices;
                messages += f64::from(grant.devices) * own.messages_per_device.unwrap();
            }
            prop_assert!(devices <= most_devices, "{} devices", devices);
            prop_assert!(messages <= f64::from(most_messages) + 1e-3, "{} messages", messages);
        }
    }
}
