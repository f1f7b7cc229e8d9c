//! What goes between devices and broker takes longer.

use fleet_contract::fault::{Direction, Latency};

use super::{Conditions, Kind, Victim};
use crate::link::Delay;

impl Kind for Latency {
    fn slows_links(&self) -> bool {
        true
    }

    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        let delay = |draws| Delay { base: self.delay, jitter: self.jitter, spread: self.spread, draws };
        // Each way has draws of its own.
        let [up, down] = on.draws;
        if self.direction != Direction::Down {
            conditions.up.delay = Some((delay(up), on.number));
        }
        if self.direction != Direction::Up {
            conditions.down.delay = Some((delay(down), on.number));
        }
    }
}
