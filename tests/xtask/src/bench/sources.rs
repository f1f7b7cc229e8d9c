//! The addresses of this machine from which a large fleet connects.

/// Devices that may connect from one address.
const DEVICES_OF_A_SOURCE: u32 = 10_000;

/// Addresses for a large fleet to connect from; none where one will do.
///
/// Linux gives out ports of one parity first. When the 14,000 of them at an address are taken, each further connect
/// searches them all, which makes it thirty times slower. Those of the last run are taken for a minute more, so each
/// `run` has addresses of its own.
pub(super) fn sources(devices: u32, sinks: usize, run: u8) -> impl Iterator<Item = String> {
    let count = devices.div_ceil(DEVICES_OF_A_SOURCE) as usize;
    // Devices are spread over both by their index: without a common factor they use every pair. Of so many numbers in
    // a row as there are sinks, one has none.
    let count = (count..=count + sinks)
        .find(|&count| has_no_common_factor(count, sinks))
        .filter(|&count| count > 1)
        .unwrap_or(0);
    (1..=count).map(move |number| format!("127.0.{run}.{number}"))
}

fn has_no_common_factor(one: usize, other: usize) -> bool {
    (2..=one.min(other)).all(|factor| !(one.is_multiple_of(factor) && other.is_multiple_of(factor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(devices: u32, sinks: usize, expected: usize) {
        assert_eq!(sources(devices, sinks, 7).count(), expected);
    }

    #[test]
    fn a_large_fleet_connects_from_addresses_that_make_pairs_with_all_sinks() {
        check(10_000, 1, 0);
        check(19_000, 1, 2);
        check(50_000, 3, 5);
        check(100_000, 6, 11);
    }
}
