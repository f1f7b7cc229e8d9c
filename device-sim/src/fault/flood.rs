//! A stream sends far more often than it should.

use fleet_contract::{fault, time::Micros, units::Span};

use super::{Conditions, Kind, Victim};
use crate::index::StreamIndex;

/// Messages of a stream on top of its timetable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flood {
    /// The stream.
    pub(crate) stream: StreamIndex,
    /// The fault's number.
    pub(crate) number: u32,
    /// When the first one is due.
    first: Micros,
    /// From one to the next.
    every: Span,
}

impl Kind for fault::Flood {
    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        let first = on.begins.after(Span(on.draw.below(self.every.0)));
        let (number, every) = (on.number, self.every);
        let meant = on.meant(self.stream.as_deref());
        conditions.floods.extend(meant.map(|(stream, _)| Flood { stream, number, first, every }));
    }
}

impl Flood {
    /// When the next one is due, at `from` or later.
    pub(crate) fn due(&self, from: Micros) -> Micros {
        let every = self.every.0.max(1);
        let place = from.since(self.first).0.div_ceil(every);
        self.first.after(Span(place.saturating_mul(every)))
    }

    /// Whether one of its messages is due at this instant.
    pub(crate) fn is_due(&self, at: Micros) -> bool {
        self.due(at) == at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_due_on_a_grid() {
        let flood = Flood { stream: StreamIndex::new(0), number: 1, first: Micros(1_000), every: Span(300) };
        for (from, due) in [(0, 1_000), (1_000, 1_000), (1_001, 1_300), (1_300, 1_300), (9_999, 10_000)] {
            assert_eq!(flood.due(Micros(from)), Micros(due), "from {from}");
        }
        assert!(flood.is_due(Micros(1_600)) && !flood.is_due(Micros(1_601)) && !flood.is_due(Micros(700)));
    }
}
