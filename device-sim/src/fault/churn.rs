//! Sessions end again and again, each device's at instants of its own.

use fleet_contract::{fault::Churn, units::Span};

use super::{Again, ComesBack, Conditions, End, Kind, Victim};

impl Kind for Churn {
    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.comes_back = conditions.comes_back.max(ComesBack::Paced);
        let first = on.begins.after(Span(on.draw.below(self.every.0)));
        let end = End { by: self.by, reason: "churn_fault", is_effect: true };
        conditions.again = Some(Again { number: on.number, first, every: self.every, end });
    }
}
