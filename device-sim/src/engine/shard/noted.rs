//! Times that are noted one by one and recorded together.
//!
//! A distribution has thousands of places, and each record touches another one, which a write to a socket has mostly
//! driven out of the cache. One behind the other, the processor fetches several of them at the same time.

use fleet_contract::{time::Micros, units::Span};

use crate::{engine::streams::Streams, index::SeriesAt};

/// How late messages were, and when they were due.
#[derive(Debug, Default)]
pub(super) struct Lags(Vec<(Micros, Span)>);

impl Lags {
    /// Keeps one for later.
    pub(super) fn note(&mut self, due: Micros, lag: Span) {
        self.0.push((due, lag));
    }

    /// Records all of them.
    pub(super) fn record_in(&mut self, streams: &mut Streams) {
        self.0.drain(..).for_each(|(due, lag)| streams.latency(due).schedule_lag.record(lag));
    }
}

/// How long acknowledgements of the messages of a stream took, by its place, and when those were due.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements(Vec<(SeriesAt, Micros, Span)>);

impl Acknowledgements {
    /// Keeps one for later.
    pub(super) fn note(&mut self, place: SeriesAt, due: Micros, time: Span) {
        self.0.push((place, due, time));
    }

    /// Records all of them.
    pub(super) fn record_in(&mut self, streams: &mut Streams) {
        self.0.drain(..).for_each(|(place, due, time)| streams.at(place, due).latency.publish_ack.record(time));
    }
}
