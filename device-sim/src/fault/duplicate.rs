//! Devices say what they have said once more.

use fleet_contract::fault::Duplicate;

use super::{Conditions, How, Kind, Spoil, Victim};

impl Kind for Duplicate {
    fn reason(&self) -> &'static str {
        "duplicate_fault"
    }

    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.spoils.extend(on.meant(self.stream.as_deref()).map(|(stream, _)| Spoil {
            stream,
            number: on.number,
            messages: self.messages,
            draws: on.draws[0],
            how: How::Twice,
        }));
    }
}
