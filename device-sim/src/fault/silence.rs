//! Sensors stop, or stick.

use fleet_contract::{
    fault::{Failure, Silence},
    units::Share,
};

use super::{Conditions, How, Kind, Victim};

impl Kind for Silence {
    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        let streams = on.meant(self.stream.as_deref());
        match self.how {
            Failure::Stops => conditions.silent.extend(streams.map(|(stream, _)| (stream, on.number))),
            Failure::Sticks => conditions.spoil(on, streams, Share::ALL, How::Stuck(on.begins)),
        }
    }
}
