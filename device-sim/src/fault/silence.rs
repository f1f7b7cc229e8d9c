//! Streams fall silent.

use fleet_contract::fault::Silence;

use super::{Conditions, Kind, Victim};

impl Kind for Silence {
    fn reason(&self) -> &'static str {
        "silence_fault"
    }

    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        let is_meant = |name: &str| self.stream.as_deref().is_none_or(|wanted| wanted == name);
        // A birth message belongs to the session, whatever its sensors do.
        let silent = (0..).zip(on.streams).filter(|(_, stream)| !stream.is_birth() && is_meant(stream.name()));
        conditions.silent.extend(silent.map(|(place, _)| (place, on.number)));
    }
}
