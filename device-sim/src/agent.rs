//! What decides what a device says, and when: an agent. It is pure: what it is told goes in, what it wants comes out as effects.
//!
//! The engine keeps all that agents have in common: sessions, timers, the ledger, faults, and what is in flight. An agent is one
//! value for the whole fleet and is told in each call whose turn it is; what it remembers of a device is kept beside that device.
//! It is resolved when the engine is compiled, so that a message costs nothing for it.

mod effects;
mod telemetry;

use fleet_contract::{fleet, model as document, plan::Pace, stamp::Stamp, time::Micros};

use crate::{
    index::{DeviceIndex, GroupIndex, StreamIndex},
    model::{Model, Scratch, Seen},
    session::codec::Publish,
};

pub(crate) use effects::{Effect, Effects};
pub(crate) use telemetry::Telemetry;

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) group: GroupIndex,
    pub(crate) model: &'a Model,
    pub(crate) device: DeviceIndex,
    /// When the fleet began.
    pub(crate) start: Micros,
}

/// A message whose body is to be made, or to be made once more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made<'a> {
    pub(crate) stream: StreamIndex,
    pub(crate) stamp: &'a Stamp,
    /// What the device sees.
    pub(crate) seen: Seen,
    /// What came with [`Effects::publish`], as long as it is in flight.
    #[cfg_attr(not(test), allow(dead_code, reason = "a body of telemetry is made of nothing that is kept"))]
    pub(crate) kept: &'a [u8],
}

impl<'a> Made<'a> {
    /// One of a device that sees all as it is.
    pub(crate) const fn truly(stream: StreamIndex, stamp: &'a Stamp, kept: &'a [u8]) -> Self {
        Self { stream, stamp, seen: Seen::truly(stamp.due), kept }
    }
}

/// What decides what devices say.
pub(crate) trait Agent: Clone + Send + 'static {
    /// What it remembers of one device: little, and lost with the worker as a device's memory is.
    type Memory;

    /// Whether it does more than to say what its streams' timetables and the begin of a session want. What only such an agent needs
    /// is left out of an engine for one that does not when that is compiled.
    const ANSWERS: bool;

    /// The event streams that it adds to those of a group's model, by name: without interval and trigger.
    fn streams(&self, _group: &fleet::Group) -> Vec<(String, document::Stream)> {
        Vec::new()
    }

    /// Whether it words the wills of a group, which nobody can tell from the document then, so that none of them is followed.
    fn words_will(&self, _group: &fleet::Group) -> bool {
        false
    }

    /// A device has come to the fleet. Of what it wants, a will and timers make sense before the first CONNECT.
    fn begin(&self, site: &Site<'_>, now: Micros, out: &mut Effects) -> Self::Memory;

    /// When a stream with a timetable is due, at `from` or later; [`Micros::NEVER`] for an event stream, whose timer the engine keeps.
    fn next_due(&self, site: &Site<'_>, stream: StreamIndex, pace: &Pace, from: Micros) -> Micros;

    /// A stream has fallen due, by its timetable or by a timer; whether the device says something. One that answers is asked in a
    /// pause, too, in which nothing is said: it may set its timer anew.
    fn on_due(
        &self,
        memory: &mut Self::Memory,
        site: &Site<'_>,
        stream: StreamIndex,
        due: Micros,
        scratch: &mut Scratch,
        out: &mut Effects,
    ) -> bool;

    /// The broker has accepted a session, and has kept the one before if `is_kept`.
    fn on_connected(&self, memory: &mut Self::Memory, site: &Site<'_>, is_kept: bool, now: Micros, out: &mut Effects);

    /// A message has come; one of QoS 2 once. A device that is about to leave is not told.
    fn on_message(
        &self,
        _memory: &mut Self::Memory,
        _site: &Site<'_>,
        _message: &Publish<'_>,
        _now: Micros,
        _out: &mut Effects,
    ) {
    }

    /// A connection is over on which the device had said CONNECT, whether the broker had accepted that or not.
    fn on_lost(&self, _memory: &mut Self::Memory, _site: &Site<'_>, _now: Micros, _out: &mut Effects) {}

    /// Appends the body of a message. It does not get the memory, for it is asked again for each resend: what a body takes from
    /// there is kept with [`Effects::publish`].
    fn encode(&self, site: &Site<'_>, made: Made<'_>, scratch: &mut Scratch, out: &mut Vec<u8>);
}
