//! What happened to a run beside its phases, faults and outages: changes by hand, pauses, workers that ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most that are kept.
const MAX: usize = 256;

/// What happened, in its order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Events {
    list: Vec<Event>,
    /// How many more there were than are kept.
    #[serde(default)]
    more: u32,
}

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Event {
    /// When, in seconds since the start of the run.
    pub at_seconds: f64,
    /// What.
    pub kind: EventKind,
    /// The same in words.
    pub message: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// The number of devices was changed by hand.
    Scale,
    /// A rate was changed by hand.
    Rate,
    /// An interval was changed by hand.
    Interval,
    /// A fault was begun by hand.
    Fault,
    /// The fleet began to hold its messages back.
    Pause,
    /// It sends again.
    Resume,
    /// A phase was skipped.
    Skip,
    /// A worker ended unasked.
    WorkerLost,
}

impl Event {
    /// What happened, as people read it: `worker lost`.
    pub fn what(&self) -> String {
        let kind: &str = self.kind.into();
        kind.replace('_', " ")
    }
}

impl Events {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { list: Vec::new(), more: 0 }
    }

    pub(super) fn push(&mut self, at_seconds: f64, kind: EventKind, message: String) {
        if self.list.len() < MAX {
            self.list.push(Event { at_seconds, kind, message });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Those that are kept, which are the first ones.
    pub fn list(&self) -> &[Event] {
        &self.list
    }

    /// How many more there were.
    pub const fn more(&self) -> u32 {
        self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ones_are_kept_and_the_others_counted() {
        let mut events = Events::new();
        for number in 0..300_u32 {
            events.push(number.into(), EventKind::Scale, format!("{number} devices"));
        }
        assert_eq!((events.list().len(), events.more()), (256, 44));
        assert_eq!(events.list()[255].message, "255 devices");
    }
}
