//! Devices say what was true some time ago.

use fleet_contract::{fault::Stale, units::Share};

use super::{Conditions, How, Kind, Victim};

impl Kind for Stale {
    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.spoil(on, on.meant(self.stream.as_deref()), Share::ALL, How::Old(self.age));
    }
}
