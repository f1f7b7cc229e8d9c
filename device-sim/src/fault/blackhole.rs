//! The network swallows everything.

use fleet_contract::fault::Blackhole;

use super::{Conditions, Kind, Victim};

impl Kind for Blackhole {
    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.cut_off = Some(on.number);
    }
}
