//! Which brokers the fleets of a cluster may speak to: hosts and networks that an administrator names.
//!
//! The controller asks before it makes a fleet, and each worker asks for every address that it is about to connect to,
//! because a name may lead elsewhere by then.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Addresses that belong to a node or to the platform below it: link-local ones, those of a pod itself, and where clouds
/// answer for the identity of a machine. A rule admits them only if it names a part of such a network; a host's name or
/// a network around it does not, because no name and no wide network is meant to lead there.
const OWN: [Network; 11] = [
    // Link-local; the metadata services of most clouds.
    Network::v4([169, 254, 0, 0], 16),
    Network::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    // Loopback: the worker's own API, and the sidecars of its pod.
    Network::v4([127, 0, 0, 0], 8),
    Network::v6([0, 0, 0, 0, 0, 0, 0, 1], 128),
    // To connect to no address is to connect to loopback.
    Network::v4([0, 0, 0, 0], 8),
    Network::v6([0; 8], 128),
    // The metadata services of AWS and Google by IPv6, Alibaba, Oracle, and Azure's platform.
    Network::v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254], 128),
    Network::v6([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254], 128),
    Network::v4([100, 100, 100, 200], 32),
    Network::v4([192, 0, 0, 192], 32),
    Network::v4([168, 63, 129, 16], 32),
];

/// No rule as text. An empty text is none that Kubernetes keeps in a variable.
const ANY: &str = "*";

/// The prefix by which IPv6 reaches IPv4 through a translator (RFC 6052).
const TRANSLATED: Network = Network::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// The brokers that are allowed. Without any rule all are, but those of the machine itself and its platform.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedBrokers(Vec<Rule>);

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// A host by its name, at whatever address it is.
    Host(String),
    /// All hosts below a name: `*.example.com`.
    Below(String),
    /// All addresses of a network; a single address is one of full length.
    Network(Network),
}

/// A network, as CIDR writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    base: IpAddr,
    length: u8,
}

/// Why a broker is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The address belongs to the pod, its node or the platform.
    #[error("{0} is an address of the pod, its node or the platform")]
    Own(IpAddr),
    /// No rule admits it.
    #[error("{0} is in no allowed network")]
    Unnamed(IpAddr),
}

/// A rule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a host such as broker.example, *.example or a network such as 10.0.0.0/8, found `{0}`")]
pub struct NoRule(String);

impl AllowedBrokers {
    /// Whether `host` (a name or an address) is allowed at `address`.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), NotAllowed> {
        let address = as_reached(address);
        if let Some(own) = OWN.iter().find(|own| own.contains(address)) {
            let is_named = |rule: &Rule| matches!(rule, Rule::Network(network) if network.is_part_of(own) && network.contains(address));
            return if self.0.iter().any(is_named) { Ok(()) } else { Err(NotAllowed::Own(address)) };
        }
        let host = canonical(host);
        let admits = |rule: &Rule| match rule {
            Rule::Host(name) => *name == host,
            Rule::Below(name) => host.strip_suffix(name.as_str()).is_some_and(|below| below.ends_with('.')),
            Rule::Network(network) => network.contains(address),
        };
        if self.0.is_empty() || self.0.iter().any(admits) { Ok(()) } else { Err(NotAllowed::Unnamed(address)) }
    }

    /// The same rules, and one more host.
    #[must_use]
    pub fn with_host(&self, host: &str) -> Self {
        // Without any rule all are allowed; one for this host would forbid the others, which is what is meant: a fleet
        // speaks to one broker.
        Self(self.0.iter().cloned().chain([Rule::Host(canonical(host))]).collect())
    }
}

/// Names of hosts do not depend on case, nor on the root's dot.
fn canonical(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// An IPv4 address in the form of IPv6 is the IPv4 address.
fn as_reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if TRANSLATED.contains(IpAddr::V6(v6)) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        other => other,
    }
}

impl Network {
    const fn v4(base: [u8; 4], length: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::from_octets(base)), length }
    }

    const fn v6(base: [u16; 8], length: u8) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::from_segments(base)), length }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.length);
                (base.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.length);
                (base.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    fn is_part_of(&self, other: &Self) -> bool {
        self.length >= other.length && other.contains(self.base)
    }
}

impl FromStr for Rule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Self, NoRule> {
        let wrong = || NoRule(text.into());
        if let Some((base, length)) = text.split_once('/') {
            let base: IpAddr = base.parse().map_err(|_| wrong())?;
            let length: u8 = length.parse().map_err(|_| wrong())?;
            let longest = if base.is_ipv4() { 32 } else { 128 };
            return if length <= longest { Ok(Self::Network(Network { base, length })) } else { Err(wrong()) };
        }
        if let Ok(base) = text.parse::<IpAddr>() {
            return Ok(Self::Network(Network { base, length: if base.is_ipv4() { 32 } else { 128 } }));
        }
        let (name, is_below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let name = canonical(name);
        if name.is_empty() || !name.bytes().all(is_of_name) || name.starts_with('.') {
            return Err(wrong());
        }
        Ok(if is_below { Self::Below(name) } else { Self::Host(name) })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Network(Network { base, length }) => write!(f, "{base}/{length}"),
        }
    }
}

impl FromStr for AllowedBrokers {
    type Err = NoRule;

    /// Rules with commas between them; nothing or `*` is no rule.
    fn from_str(text: &str) -> Result<Self, NoRule> {
        let text = if text.trim() == ANY { "" } else { text };
        let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
        rules.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for AllowedBrokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(ANY);
        }
        for (position, rule) in self.0.iter().enumerate() {
            write!(f, "{}{rule}", if position > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(rules: &str, host: &str, address: &str, expected: &str) {
        let allowed: AllowedBrokers = rules.parse().unwrap();
        let found = allowed.check(host, address.parse().unwrap());
        assert_eq!(found.map_or_else(|error| error.to_string(), |()| "allowed".into()), expected, "{rules} {host}");
    }

    #[test]
    fn without_rules_all_are_allowed_but_those_of_node_and_platform() {
        check("", "broker.example", "192.0.2.7", "allowed");
        check("", "broker.example", "10.0.0.1", "allowed");
        check("", "broker.example", "2001:db8::7", "allowed");
        for own in [
            "169.254.169.254",
            "fe80::1",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "fd00:ec2::254",
            "100.100.100.200",
        ] {
            check("", "broker.example", own, &format!("{own} is an address of the pod, its node or the platform"));
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_is_the_same_address() {
        let own = "169.254.169.254 is an address of the pod, its node or the platform";
        check("", "x", "::ffff:169.254.169.254", own);
        check("", "x", "64:ff9b::a9fe:a9fe", own);
        check("10.0.0.0/8", "x", "::ffff:10.1.2.3", "allowed");
        check("10.0.0.0/8", "x", "::ffff:11.1.2.3", "11.1.2.3 is in no allowed network");
    }

    #[test]
    fn neither_a_name_nor_a_wide_network_leads_to_node_and_platform() {
        let own = "169.254.169.254 is an address of the pod, its node or the platform";
        check("broker.example", "broker.example", "169.254.169.254", own);
        check("0.0.0.0/0,::/0", "x", "169.254.169.254", own);
        check("169.254.0.0/15", "x", "169.254.169.254", own);
        check("169.254.10.0/24", "x", "169.254.169.254", own);
        check("169.254.10.0/24", "x", "169.254.10.1", "allowed");
        check("127.0.0.1", "localhost", "127.0.0.1", "allowed");
    }

    #[test]
    fn a_rule_admits_a_host_a_domain_or_a_network() {
        check("broker.example", "Broker.Example.", "192.0.2.7", "allowed");
        check("broker.example", "other.example", "192.0.2.7", "192.0.2.7 is in no allowed network");
        check("*.example", "a.b.example", "192.0.2.7", "allowed");
        check("*.example", "example", "192.0.2.7", "192.0.2.7 is in no allowed network");
        check("*.example", "notexample", "192.0.2.7", "192.0.2.7 is in no allowed network");
        check("192.0.2.0/24,2001:db8::/32", "x", "192.0.2.7", "allowed");
        check("192.0.2.0/24,2001:db8::/32", "x", "2001:db8:1::1", "allowed");
        check("192.0.2.0/24,2001:db8::/32", "x", "192.0.3.7", "192.0.3.7 is in no allowed network");
        check("192.0.2.7", "192.0.2.7", "192.0.2.7", "allowed");
        check("0.0.0.0/0", "x", "192.0.2.7", "allowed");
    }

    #[test]
    fn the_own_broker_of_a_fleet_is_one_more_host() {
        let allowed = "10.0.0.0/8".parse::<AllowedBrokers>().unwrap().with_host("f-broker.load.svc");
        assert_eq!(allowed.to_string(), "10.0.0.0/8,f-broker.load.svc");
        assert!(allowed.check("f-broker.load.svc", "172.20.0.9".parse().unwrap()).is_ok());
        assert!(allowed.check("other.load.svc", "172.20.0.9".parse().unwrap()).is_err());
    }

    #[test]
    fn no_rule_is_written_as_one_that_kubernetes_keeps() {
        let any: AllowedBrokers = "".parse().unwrap();
        assert_eq!((any.to_string().as_str(), "*".parse().as_ref()), ("*", Ok(&any)));
    }

    #[test]
    fn what_is_no_rule_is_told() {
        let wrong = |text: &str| text.parse::<AllowedBrokers>().unwrap_err().to_string();
        assert_eq!(
            wrong("a,10.0.0.0/33"),
            "expected a host such as broker.example, *.example or a network such as 10.0.0.0/8, found `10.0.0.0/33`"
        );
        for text in ["10.0.0/8", "mqtt://x", "a b", "a,*", "*.", ".x", "fe80::/129", "x:1883"] {
            wrong(text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            base: u32, length in 0_u8..=32, six: u128, long in 0_u8..=128, host in "[a-z]{1,9}(\\.[a-z]{1,9}){0,2}"
        ) {
            let text = format!(
                "{}/{length},{}/{long},{host},*.{host}", Ipv4Addr::from_bits(base), Ipv6Addr::from_bits(six)
            );
            let allowed: AllowedBrokers = text.parse().unwrap();
            prop_assert_eq!(&allowed.to_string(), &text);
            prop_assert_eq!(allowed.to_string().parse::<AllowedBrokers>().unwrap(), allowed);
        }

        #[test]
        fn a_network_holds_the_addresses_with_its_prefix(base: u32, other: u32, length in 0_u8..=32) {
            let network = Network { base: Ipv4Addr::from_bits(base).into(), length };
            let bits = |number: u32| format!("{number:032b}")[..usize::from(length)].to_owned();
            prop_assert_eq!(network.contains(Ipv4Addr::from_bits(other).into()), bits(base) == bits(other));
        }
    }
}
