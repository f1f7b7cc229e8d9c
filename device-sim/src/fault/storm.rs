//! Sessions end at one instant, and all come back at once.

use fleet_contract::fault::Storm;

use super::{ComesBack, Conditions, End, Kind, Victim};

impl Kind for Storm {
    fn ends_session(&self) -> Option<End> {
        Some(End { by: self.by, reason: "storm_fault", is_effect: true })
    }

    fn impose(&self, _: &Victim<'_>, conditions: &mut Conditions) {
        conditions.comes_back = ComesBack::AtOnce;
    }
}
