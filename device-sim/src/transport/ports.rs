//! Which local ports connections are given.
//!
//! Left alone, Linux gives a new connection a free port of one parity as long as there is one, and tries all of that
//! parity, one by one, before it gives out the others. From the 14,117th connection to one address on, each takes
//! milliseconds of CPU, in which its thread sends nothing. So the later ones name the few ports that they may get
//! (`IP_LOCAL_PORT_RANGE`, ip(7), since Linux 6.3), and the search is over at once.
//!
//! The first ones do not, because few ports come again soon: a Service's table of connections remembers which pod a
//! port's last one went to, and would send the next one to a broker that is no more.

use std::{fs, ops::RangeInclusive};

use socket2::{Domain, Socket, Type};

use super::socket;

/// Ports that a connection may get, and that as many others name, too.
const BLOCK: u16 = 64;
/// The first connections, which get any port: as many as Linux finds one for at once.
const LEFT_TO_THE_SYSTEM: u32 = 10_000;
/// Connections in a row that name the same block; the rest of it is left to those that the broker has not let go yet.
const CONNECTIONS_OF_BLOCK: u32 = 32;

/// The ports that the system gives to outgoing connections of one address; `None` where that cannot be read.
pub fn local_range() -> Option<RangeInclusive<u16>> {
    parse(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

fn parse(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

/// The ports of this machine in blocks, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(RangeInclusive<u16>);

impl Ports {
    /// `None` where the system does not let a connection name its ports, or has hardly any.
    pub fn of_this_machine() -> Option<Self> {
        let range = local_range()?;
        let probe = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        socket::set_ports(&probe, &range).ok()?;
        Self::new(range)
    }

    fn new(range: RangeInclusive<u16>) -> Option<Self> {
        (range.len() >= usize::from(BLOCK)).then_some(Self(range))
    }

    /// The ports that the connection with this number names, of those from one address to another; `None` for any.
    pub(super) fn block(&self, number: u32) -> Option<RangeInclusive<u16>> {
        let number = number.checked_sub(LEFT_TO_THE_SYSTEM)?;
        let blocks = self.0.len() / usize::from(BLOCK);
        let block = (number / CONNECTIONS_OF_BLOCK) as usize % blocks;
        #[expect(clippy::cast_possible_truncation, reason = "the blocks lie within the range")]
        let first = self.0.start() + block as u16 * BLOCK;
        // The last block takes what is left over.
        let last = if block + 1 == blocks { *self.0.end() } else { first + (BLOCK - 1) };
        Some(first..=last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_understood() {
        assert_eq!(parse("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse("nonsense"), None);
    }

    /// The ports that the connection with this number after those of the system names.
    fn later(ports: &Ports, number: u32) -> RangeInclusive<u16> {
        ports.block(LEFT_TO_THE_SYSTEM + number).unwrap()
    }

    #[test]
    fn the_first_connections_name_no_ports() {
        let ports = Ports::new(32_768..=60_999).unwrap();
        assert_eq!([0, LEFT_TO_THE_SYSTEM - 1].map(|number| ports.block(number)), [None, None]);
    }

    #[test]
    fn the_blocks_cover_the_range_and_no_more() {
        let ports = Ports::new(32_768..=60_999).unwrap();
        let first = [0, 31, 32].map(|number| later(&ports, number));
        assert_eq!(first, [32_768..=32_831, 32_768..=32_831, 32_832..=32_895]);
        // 441 blocks of 64 ports, and 8 ports more.
        assert_eq!(later(&ports, 440 * 32), 60_928..=60_999);
        assert_eq!(later(&ports, 441 * 32), later(&ports, 0));
    }

    #[test]
    fn all_ports_may_be_allowed_and_hardly_any() {
        assert_eq!(later(&Ports::new(1..=65_535).unwrap(), 1_022 * 32), 65_409..=65_535);
        assert_eq!(Ports::new(40_000..=40_062), None);
        assert_eq!(later(&Ports::new(40_000..=40_063).unwrap(), 7_777), 40_000..=40_063);
    }
}
