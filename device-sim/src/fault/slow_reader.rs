//! Devices read slowly what the broker sends.

use fleet_contract::fault::SlowReader;

use super::{Conditions, Kind, Victim};

impl Kind for SlowReader {
    fn slows_links(&self) -> bool {
        true
    }

    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.down.rate = Some((self.rate, on.number));
        conditions.down.reads_ahead = false;
    }
}
