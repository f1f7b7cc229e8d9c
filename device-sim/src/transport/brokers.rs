//! The addresses that a fleet is spread over, with the way to each.

use std::sync::Arc;

use super::{Route, resolver::Resolver};
use crate::{index::DeviceIndex, reload::Reload};

/// One address of the fleet's broker.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) resolver: Resolver,
    pub(crate) route: Arc<Route>,
}

/// All addresses, shared by all threads: device *i* goes to the *i*-th, counted around.
#[derive(Debug)]
pub(crate) struct Brokers(Box<[Broker]>);

impl Brokers {
    /// At least one, all of them over the same layers.
    pub(crate) fn new(brokers: Vec<Broker>) -> Self {
        debug_assert!(!brokers.is_empty(), "a fleet has a broker");
        Self(brokers.into())
    }

    /// What a change of the files of TLS replaces.
    pub(crate) fn reloads(&self) -> impl Iterator<Item = Reload> {
        self.0.iter().filter_map(|broker| broker.route.reload())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The position of the one that device `index` goes to.
    pub(crate) fn position(&self, index: DeviceIndex) -> usize {
        index.place() % self.0.len()
    }

    /// The one at `position`.
    pub(crate) fn at(&self, position: usize) -> &Broker {
        &self.0[position]
    }

    /// The one that device `index` goes to.
    pub(crate) fn of(&self, index: DeviceIndex) -> &Broker {
        self.at(self.position(index))
    }

    /// Which of several source addresses device `index` takes: the devices of one broker are spread over all of them.
    #[expect(clippy::cast_possible_truncation, reason = "a fleet has few addresses")]
    pub(crate) fn turn(&self, index: DeviceIndex) -> u32 {
        index.number() / self.0.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fleet_contract::broker_url::BrokerUrl;

    use super::*;

    #[test]
    fn every_source_serves_every_broker() {
        let broker = |port| Broker {
            resolver: Resolver::start(&BrokerUrl::tcp("127.0.0.1", port), None, &Arc::default()).unwrap(),
            route: Arc::default(),
        };
        let brokers = Brokers::new(vec![broker(1883), broker(1884)]);
        assert_eq!(
            [0, 1, 2].map(DeviceIndex::new).map(|index| brokers.of(index).resolver.address(0).unwrap().port()),
            [1883, 1884, 1883]
        );
        let pairs: BTreeSet<_> =
            (0..4).map(DeviceIndex::new).map(|index| (brokers.position(index), brokers.turn(index) % 2)).collect();
        assert_eq!(pairs.len(), 4);
    }
}
