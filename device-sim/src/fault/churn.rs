//! Sessions end again and again, each device's at instants of its own.

use fleet_contract::{fault::Churn, units::Span};

use super::{Again, ComesBack, Conditions, Kind, Victim};

impl Kind for Churn {
    fn reason(&self) -> &'static str {
        "churn_fault"
    }

    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.comes_back = conditions.comes_back.max(ComesBack::Paced);
        let first = on.begins.after(Span(on.draw.below(self.every.0)));
        let (number, every, by) = (on.number, self.every, self.by);
        conditions.again = Some(Again { number, first, every, by, reason: self.reason() });
    }
}
