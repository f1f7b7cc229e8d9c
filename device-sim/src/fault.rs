//! What goes wrong with devices on purpose: what each kind of fault does to a device that it hits. One file a kind.
//!
//! A fault ends sessions, as it begins or again and again, and it sets conditions for a device that hold while it lasts. Nothing
//! here knows connections or sessions; shards carry it out (`engine/shard/faults.rs`). Whom it hits is in [`aim`]. The faults that
//! streams have by themselves do the same to messages ([`model`]).

mod aim;
mod bandwidth;
mod blackhole;
mod churn;
mod clock;
mod corrupt;
mod credentials;
mod disconnect;
mod duplicate;
mod flood;
mod hook;
mod kill_pods;
mod latency;
mod model;
mod region;
mod silence;
mod slow_reader;
mod stale;
mod storm;

use fleet_contract::{
    fault::{Corruption, Ending, Fault},
    stats::ModelFault,
    time::Micros,
    units::{Share, Span},
};

pub(crate) use aim::Aimed;
pub(crate) use flood::Flood;
pub(crate) use model::{OfDevice, StreamFaults};
pub(crate) use region::Region;

use clock::WrongClock;

use crate::{
    index::StreamIndex,
    link::Way,
    model::{Model, Seen, Stream},
    random::{Draw, Sequence},
};

/// What a kind of fault does to a device that it hits.
pub(crate) trait Kind {
    /// How it ends the session of a device as it begins, if it does.
    fn ends_session(&self) -> Option<End> {
        None
    }

    /// Whether what goes between devices and broker takes longer while it lasts.
    fn slows_links(&self) -> bool {
        false
    }

    /// Sets what holds for a device while it lasts; several faults set conditions of the same device one after the other.
    fn impose(&self, _on: &Victim<'_>, _conditions: &mut Conditions) {}
}

/// A device that a fault hits.
pub(crate) struct Victim<'a> {
    /// The fault's number.
    pub(crate) number: u32,
    /// When the fault begins.
    pub(crate) begins: Micros,
    /// A random number of this fault and this device.
    pub(crate) draw: Draw,
    /// The draws for what goes each way of its link: to the broker, and back.
    pub(crate) draws: [Sequence; 2],
    /// What it sends.
    pub(crate) model: &'a Model,
}

/// What holds for a device while faults last; each with the number of the fault that it is owed to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Conditions {
    /// How it comes back when its session has ended.
    pub(crate) comes_back: ComesBack,
    /// No byte goes or comes.
    pub(crate) cut_off: Option<u32>,
    /// How its link to the broker is.
    pub(crate) up: Way,
    /// How its link from the broker is.
    pub(crate) down: Way,
    /// It signs in with a password that is not its own.
    pub(crate) wrong_password: Option<u32>,
    /// Its session ends again and again.
    pub(crate) again: Option<Again>,
    /// What messages are spoilt, and how.
    pub(crate) spoils: Vec<Spoil>,
    /// Messages on top of the timetable.
    pub(crate) floods: Vec<Flood>,
    /// Streams of which nothing falls due.
    pub(crate) silent: Vec<(StreamIndex, u32)>,
}

/// What becomes of messages of a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spoil {
    /// The stream.
    pub(crate) stream: StreamIndex,
    /// The fault's number.
    pub(crate) number: u32,
    /// Which of its messages.
    pub(crate) messages: Share,
    /// The draws of the device.
    pub(crate) draws: Sequence,
    /// When the fault begins.
    pub(crate) since: Micros,
    /// What becomes of them.
    pub(crate) how: How,
}

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fate {
    pub(crate) how: How,
    /// A random number of this fault and this message.
    pub(crate) draw: Draw,
    pub(crate) cause: Cause,
}

/// What it is owed to that something went wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A fault of the plan, by its number.
    Plan(u32),
    /// A fault that the stream has by itself.
    Model(ModelFault),
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum How {
    /// Its payload is spoilt.
    Corrupt(Corruption),
    /// It is sent twice.
    Twice,
    /// It tells what was so long ago.
    Old(Span),
    /// It tells the time by a wrong clock.
    Clock(WrongClock),
    /// It tells what was at this instant, as of now.
    Stuck(Micros),
}

impl Spoil {
    /// What becomes of the message of a stream that is due at an instant, if it is meant.
    pub(crate) fn fate(&self, stream: StreamIndex, due: Micros) -> Option<Fate> {
        if self.stream != stream {
            return None;
        }
        // One that has waited may have been due before the fault began.
        let since = due.0.wrapping_sub(self.since.0);
        let draw = drawn(self.draws, self.messages, u64::from(stream.number()).rotate_right(12) ^ since)?;
        Some(Fate { how: self.how, draw, cause: Cause::Plan(self.number) })
    }
}

/// Whether the message at a place among those of a device is one of a share of them; the draw for what becomes of it.
fn drawn(draws: Sequence, messages: Share, place: u64) -> Option<Draw> {
    let place = place << 1;
    let is_meant = messages == Share::ALL || draws.at(place).below(10_000) < u64::from(messages.basis_points());
    is_meant.then(|| draws.at(place | 1))
}

/// What a device sees when it makes the message that is due at `due`, and this becomes of it, one after the other.
pub(crate) fn seen(due: Micros, fates: impl Iterator<Item = Fate>) -> Seen {
    let mut seen = Seen::truly(due);
    for fate in fates {
        match fate.how {
            How::Old(age) => seen = Seen { world: seen.world.before(age), clock: seen.clock.before(age) },
            How::Clock(clock) => seen.clock = clock.shows(seen.clock),
            How::Stuck(since) => seen.world = since,
            How::Corrupt(_) | How::Twice => {}
        }
    }
    seen
}

impl Fate {
    /// Spoils the payload that begins at `begin`; whether it differs from what it should be, as it does by itself where it `is_wrong`
    /// because of what the device sees. One that is sent twice is as it should be.
    pub(crate) fn spoil(&self, out: &mut Vec<u8>, begin: usize, is_wrong: bool) -> bool {
        match self.how {
            How::Corrupt(how) => corrupt::spoil(how, out, begin, self.draw),
            How::Old(_) | How::Clock(_) | How::Stuck(_) => is_wrong,
            How::Twice => false,
        }
    }
}

impl Conditions {
    /// This becomes of so many messages of these streams of a device.
    fn spoil<'a>(
        &mut self,
        on: &Victim<'_>,
        streams: impl Iterator<Item = (StreamIndex, &'a Stream)>,
        messages: Share,
        how: How,
    ) {
        let (number, draws, since) = (on.number, on.draws[0], on.begins);
        self.spoils.extend(streams.map(|(stream, _)| Spoil { stream, number, messages, draws, since, how }));
    }
}

impl Victim<'_> {
    /// The streams that a fault is about. Birth messages and events belong to sessions and talks, whatever sensors do.
    fn meant<'b>(&'b self, wanted: Option<&'b str>) -> impl Iterator<Item = (StreamIndex, &'b Stream)> {
        let is_meant =
            move |stream: &Stream| stream.has_timetable() && wanted.is_none_or(|wanted| wanted == stream.name());
        self.model.indexed_streams().filter(move |(_, stream)| is_meant(stream))
    }
}

/// How a device comes back when a fault has ended its session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ComesBack {
    /// At the fleet's pace and with its backoff.
    #[default]
    AsEver,
    /// At the fleet's pace, without a backoff.
    Paced,
    /// At once, whatever the fleet's pace.
    AtOnce,
}

/// How a fault ends sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// What the broker sees of it.
    pub(crate) by: Ending,
    /// Under which reason it is counted.
    pub(crate) reason: &'static str,
    /// Whether that is what the fault does, and not only the way to it.
    pub(crate) is_effect: bool,
}

/// A session that ends again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Again {
    /// The fault's number.
    pub(crate) number: u32,
    /// When it ends first.
    pub(crate) first: Micros,
    /// How long after that it ends again.
    pub(crate) every: Span,
    /// How it ends.
    pub(crate) end: End,
}

impl Again {
    /// When it ends next, later than `after`.
    pub(crate) fn next(&self, after: Micros) -> Micros {
        if after < self.first {
            return self.first;
        }
        let ends = after.since(self.first).0 / self.every.0.max(1) + 1;
        self.first.after(Span(ends.saturating_mul(self.every.0)))
    }
}

/// What a fault does.
pub(crate) fn kind(fault: &Fault) -> &dyn Kind {
    match fault {
        Fault::Disconnect(fault) => fault,
        Fault::Storm(fault) => fault,
        Fault::Churn(fault) => fault,
        Fault::Blackhole(fault) => fault,
        Fault::Latency(fault) => fault,
        Fault::Bandwidth(fault) => fault,
        Fault::SlowReader(fault) => fault,
        Fault::Credentials(fault) => fault,
        Fault::Corrupt(fault) => fault,
        Fault::Duplicate(fault) => fault,
        Fault::Stale(fault) => fault,
        Fault::Clock(fault) => fault,
        Fault::Flood(fault) => fault,
        Fault::Silence(fault) => fault,
        Fault::KillPods(fault) => fault,
        Fault::Hook(fault) => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_ends_again_and_again_does_so_on_a_grid() {
        let end = End { by: Ending::Close, reason: "churn_fault", is_effect: true };
        let again = Again { number: 1, first: Micros(1_000), every: Span(300), end };
        for (after, next) in [(0, 1_000), (999, 1_000), (1_000, 1_300), (1_299, 1_300), (1_300, 1_600), (9_999, 10_000)]
        {
            assert_eq!(again.next(Micros(after)), Micros(next), "after {after}");
        }
    }
}
