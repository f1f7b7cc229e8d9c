//! The timers of a shard's devices, and how often it looks at them.

use fleet_contract::{time::Micros, units::Span};

use crate::engine::{slot::Slot, wheel::Wheel};

/// The timers of a shard.
pub(super) struct Timers {
    pub(super) wheel: Wheel,
    /// When they were looked at last.
    turned_at: Micros,
    /// How long after that the next look is.
    pub(super) pace: Span,
    /// Those that have just fired.
    fired: Vec<Slot>,
}

impl Timers {
    /// None yet; the next look is `pace` from `now`.
    pub(super) fn new(now: Micros, pace: Span) -> Self {
        Self { wheel: Wheel::new(now), turned_at: now, pace, fired: Vec::new() }
    }

    /// Those that have fired by now, in a list that is to be given back to [`Timers::done`].
    pub(super) fn turn(&mut self, now: Micros) -> Vec<Slot> {
        let mut fired = std::mem::take(&mut self.fired);
        self.turned_at = now;
        self.wheel.turn(now, &mut fired);
        fired
    }

    /// The list again, so that the next turn needs none.
    pub(super) fn done(&mut self, mut fired: Vec<Slot>) {
        fired.clear();
        self.fired = fired;
    }

    /// How long nothing fires, or something else is due at `next`; at most a second.
    pub(super) fn idle(&self, now: Micros, next: Micros) -> Span {
        let idle = self.wheel.idle(now).min(next.since(now)).min(Span::from_secs(1));
        idle.max(self.turned_at.after(self.pace).since(now))
    }
}
