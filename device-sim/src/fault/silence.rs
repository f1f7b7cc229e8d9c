//! Streams fall silent.

use fleet_contract::fault::Silence;

use super::{Conditions, Kind, Victim};

impl Kind for Silence {
    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.silent.extend(on.meant(self.stream.as_deref()).map(|(stream, _)| (stream, on.number)));
    }
}
