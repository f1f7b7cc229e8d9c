//! Whose turn it is to roll out what a new controller wants: one fleet after another, so that an upgrade never takes pods
//! of all fleets away at once. Time is an argument.
//!
//! What the author of a Fleet changes is rolled out at once and needs no turn.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;

use crate::resource::Fleet;

/// A fleet keeps its turn for so long without another pod that is done. Then the next one rolls: a fleet whose pods never
/// become ready must not keep the others from the new release.
const PATIENCE: Duration = Duration::from_mins(5);

/// The turn, shared by the tasks of all fleets.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Option<Holder>>);

#[derive(Debug)]
struct Holder {
    fleet: ObjectRef<Fleet>,
    /// Pods of the new template at the last look.
    done: u32,
    /// When that number changed last.
    at: Instant,
}

impl Turns {
    /// Who has the turn, if it is neither free nor this fleet's.
    pub fn other(&self, fleet: &ObjectRef<Fleet>, now: Instant) -> Option<ObjectRef<Fleet>> {
        let holder = self.lock();
        let holder = holder.as_ref().filter(|holder| now.duration_since(holder.at) < PATIENCE);
        holder.filter(|holder| holder.fleet != *fleet).map(|holder| holder.fleet.clone())
    }

    /// Takes the turn, or keeps it, with so many pods done; false when another fleet has it.
    pub fn take(&self, fleet: &ObjectRef<Fleet>, done: u32, now: Instant) -> bool {
        if self.other(fleet, now).is_some() {
            return false;
        }
        let mut holder = self.lock();
        match &mut *holder {
            Some(known) if known.fleet == *fleet && known.done == done => {}
            _ => *holder = Some(Holder { fleet: fleet.clone(), done, at: now }),
        }
        true
    }

    /// Passes the turn on, if it is this fleet's.
    pub fn pass(&self, fleet: &ObjectRef<Fleet>) {
        let mut holder = self.lock();
        holder.take_if(|holder| holder.fleet == *fleet);
    }

    /// No holder of the lock leaves things half done.
    fn lock(&self) -> MutexGuard<'_, Option<Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(name: &str) -> ObjectRef<Fleet> {
        ObjectRef::new(name).within("qa")
    }

    #[tokio::test]
    async fn one_has_the_turn_until_it_passes_it_on() {
        let (turns, now) = (Turns::default(), Instant::now());
        assert!(turns.take(&fleet("a"), 0, now) && turns.take(&fleet("a"), 1, now));
        assert!(!turns.take(&fleet("b"), 0, now));
        assert_eq!(turns.other(&fleet("b"), now), Some(fleet("a")));
        assert_eq!(turns.other(&fleet("a"), now), None);
        turns.pass(&fleet("b"));
        assert!(!turns.take(&fleet("b"), 0, now), "it was not b's");
        turns.pass(&fleet("a"));
        assert!(turns.take(&fleet("b"), 0, now));
    }

    #[tokio::test]
    async fn a_fleet_that_does_not_get_on_keeps_nobody_waiting() {
        let (turns, start) = (Turns::default(), Instant::now());
        assert!(turns.take(&fleet("a"), 0, start));
        let later = start + PATIENCE / 2;
        assert!(turns.take(&fleet("a"), 1, later), "it gets on");
        assert!(!turns.take(&fleet("b"), 0, start + PATIENCE));
        assert!(turns.take(&fleet("a"), 1, start + PATIENCE), "it does not");
        assert!(turns.take(&fleet("b"), 0, later + PATIENCE));
        assert!(!turns.take(&fleet("a"), 2, later + PATIENCE));
    }
}
