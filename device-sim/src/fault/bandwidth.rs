//! No more than so much goes between devices and broker.

use fleet_contract::fault::{Bandwidth, Direction};

use super::{Conditions, Kind, Victim};

impl Kind for Bandwidth {
    fn slows_links(&self) -> bool {
        true
    }

    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        let rate = Some((self.rate, on.number));
        if self.direction != Direction::Down {
            conditions.up.rate = rate;
        }
        if self.direction != Direction::Up {
            conditions.down.rate = rate;
        }
    }
}
