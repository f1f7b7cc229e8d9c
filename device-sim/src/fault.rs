//! What goes wrong with devices on purpose: what each kind of fault does to a device that it hits. One file a kind.
//!
//! A fault ends sessions, as it begins or again and again, and it sets conditions for a device that hold while it lasts. Nothing
//! here knows connections or sessions; shards carry it out (`engine/shard/faults.rs`). Whom it hits is in [`aim`].

mod aim;
mod blackhole;
mod churn;
mod credentials;
mod disconnect;
mod silence;
mod storm;

use fleet_contract::{
    fault::{Ending, Fault},
    time::Micros,
    units::Span,
};

pub(crate) use aim::Aimed;

use crate::{model::Stream, random::Draw};

/// What a kind of fault does to a device that it hits.
pub(crate) trait Kind {
    /// Under which reason sessions and attempts to connect are counted that it ends.
    fn reason(&self) -> &'static str;

    /// How it ends the session of a device as it begins, if it does.
    fn ends_session(&self) -> Option<Ending> {
        None
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
    /// What it sends.
    pub(crate) streams: &'a [Stream],
}

/// What holds for a device while faults last; each with the number of the fault that it is owed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// How it comes back when its session has ended.
    pub(crate) comes_back: ComesBack,
    /// No byte goes or comes.
    pub(crate) cut_off: Option<u32>,
    /// It signs in with a password that is not its own.
    pub(crate) wrong_password: Option<u32>,
    /// Its session ends again and again.
    pub(crate) again: Option<Again>,
    /// Streams of which nothing falls due.
    pub(crate) silent: Vec<(u16, u32)>,
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
    pub(crate) by: Ending,
    /// Under which reason that is counted.
    pub(crate) reason: &'static str,
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
        Fault::Credentials(fault) => fault,
        Fault::Silence(fault) => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_ends_again_and_again_does_so_on_a_grid() {
        let again =
            Again { number: 1, first: Micros(1_000), every: Span(300), by: Ending::Close, reason: "churn_fault" };
        for (after, next) in [(0, 1_000), (999, 1_000), (1_000, 1_300), (1_299, 1_300), (1_300, 1_600), (9_999, 10_000)]
        {
            assert_eq!(again.next(Micros(after)), Micros(next), "after {after}");
        }
    }
}
