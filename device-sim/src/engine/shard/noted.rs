//! Times that are noted one by one and recorded together.

use fleet_contract::{stats::Latency, units::Span};

use crate::engine::streams::Streams;

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

/// Times from due to the acknowledgement on their way into the distributions of their streams.
#[derive(Debug, Default)]
pub(super) struct NotedByStream(Vec<(usize, Span)>);

impl NotedByStream {
    /// Keeps a time of the stream at a place for later.
    pub(super) fn note(&mut self, place: usize, time: Span) {
        self.0.push((place, time));
    }

    /// Records all of them.
    pub(super) fn record_in(&mut self, streams: &mut Streams) {
        self.0.drain(..).for_each(|(place, time)| streams.at(place).latency.publish_ack.record(time));
    }
}
