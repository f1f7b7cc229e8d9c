//! Devices say what was true some time ago.

use fleet_contract::{fault::Stale, units::Share};

use super::{Conditions, How, Kind, Spoil, Victim};

impl Kind for Stale {
    fn reason(&self) -> &'static str {
        "stale_fault"
    }

    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.spoils.extend(on.meant(self.stream.as_deref()).map(|(stream, _)| Spoil {
            stream,
            number: on.number,
            messages: Share::ALL,
            draws: on.draws[0],
            how: How::Old(self.age),
        }));
    }
}
