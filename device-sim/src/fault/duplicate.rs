//! Devices say what they have said once more.

use fleet_contract::fault::Duplicate;

use super::{Conditions, How, Kind, Victim};

impl Kind for Duplicate {
    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.spoil(on, on.meant(self.stream.as_deref()), self.messages, How::Twice);
    }
}
