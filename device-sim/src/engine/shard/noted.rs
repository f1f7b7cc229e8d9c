//! Times that are noted one by one and recorded together.

use fleet_contract::{stats::Latency, units::Span};

/// Times on their way into a distribution.
///
/// A distribution has thousands of places, and each record touches another one, which a write to a socket has mostly
/// driven out of the cache. One behind the other, the processor fetches several of them at the same time.
#[derive(Debug, Default)]
pub(super) struct Noted(Vec<Span>);

impl Noted {
    /// Keeps a time for later.
    pub(super) fn note(&mut self, time: Span) {
        self.0.push(time);
    }

    /// Records all of them.
    pub(super) fn record_in(&mut self, latency: &mut Latency) {
        self.0.drain(..).for_each(|time| latency.record(time));
    }
}
