//! Sessions end at one instant, and all come back at once.

use fleet_contract::fault::{Ending, Storm};

use super::{ComesBack, Conditions, Kind, Victim};

impl Kind for Storm {
    fn reason(&self) -> &'static str {
        "storm_fault"
    }

    fn ends_session(&self) -> Option<Ending> {
        Some(self.by)
    }

    fn impose(&self, _: &Victim<'_>, conditions: &mut Conditions) {
        conditions.comes_back = ComesBack::AtOnce;
    }
}
