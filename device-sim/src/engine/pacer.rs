//! Paces connection attempts: so many a second, so many at once.
//!
//! After an outage of the broker every device wants to come back; without pacing they would all come at once.

use fleet_contract::{
    time::Micros,
    units::{Rate, Span},
};

/// How many attempts may be under way at once, so that the broker's backlog of new connections does not overflow
/// (then the kernel drops SYNs, and each costs its device a second).
const UNDER_WAY_MAX: u32 = 100;

/// A token bucket over connection attempts that holds at most 50 ms of them.
#[derive(Debug)]
pub(super) struct Pacer {
    /// From one attempt to the next.
    gap: Span,
    /// The instant of the next attempt if none were late.
    next: Micros,
    under_way: u32,
}

impl Pacer {
    /// How far attempts may lag behind and still be made up for at once.
    const BURST: Span = Span::from_millis(50);

    /// A pacer of `rate` attempts a second.
    pub(super) fn new(rate: Rate) -> Self {
        Self { gap: rate.time_for(1), next: Micros(0), under_way: 0 }
    }

    /// Makes it `rate` attempts a second from now on.
    pub(super) fn set_rate(&mut self, rate: Rate) {
        self.gap = rate.time_for(1);
    }

    /// Takes an attempt that was meant for `due`, or says when to ask again.
    ///
    /// One that is on time needs no pacing: the plan's timetable has spread them already, over the whole fleet.
    pub(super) fn take_due(&mut self, due: Micros, now: Micros) -> Result<(), Micros> {
        if self.under_way < UNDER_WAY_MAX && now.since(due) <= Self::BURST {
            self.under_way += 1;
            return Ok(());
        }
        self.take(now)
    }

    /// When an attempt may be taken, if that is a matter of time and not of the attempts under way.
    pub(super) fn ready_at(&self) -> Option<Micros> {
        (self.under_way < UNDER_WAY_MAX).then_some(self.next)
    }

    /// Takes an attempt at `now`, or says when to ask again.
    pub(super) fn take(&mut self, now: Micros) -> Result<(), Micros> {
        if self.under_way >= UNDER_WAY_MAX {
            return Err(now.after(Span::from_millis(2)));
        }
        if now < self.next {
            return Err(self.next);
        }
        self.next = self.next.max(now.before(Self::BURST)).after(self.gap);
        self.under_way += 1;
        Ok(())
    }

    /// An attempt begins that no pace holds.
    pub(super) const fn begin(&mut self) {
        self.under_way += 1;
    }

    /// An attempt has ended, one way or the other.
    pub(super) fn release(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stampede_is_spread_over_time() {
        let mut pacer = Pacer::new(Rate::per_second(100.0).unwrap());
        let mut now = Micros(10_000_000);
        let (start, mut taken) = (now, 0);
        while now < start.after(Span::from_secs(1)) {
            while pacer.take(now).is_ok() {
                pacer.release();
                taken += 1;
            }
            now = now.after(Span::from_millis(1));
        }
        assert!((100..=106).contains(&taken), "{taken} attempts in a second");
    }

    #[test]
    fn what_the_timetable_has_spread_is_not_spread_again() {
        let mut pacer = Pacer::new(Rate::per_second(1.0).unwrap());
        let now = Micros(10_000_000);
        for late in [0, 20, 50] {
            assert_eq!(pacer.take_due(now.before(Span::from_millis(late)), now), Ok(()));
        }
        let overdue = now.before(Span::from_secs(1));
        assert_eq!(pacer.take_due(overdue, now), Ok(()));
        assert_eq!(pacer.take_due(overdue, now), Err(now.before(Span::from_millis(50)).after(Span::from_secs(1))));
        pacer.set_rate(Rate::per_second(1e6).unwrap());
        assert_eq!(pacer.take_due(overdue, now.after(Span::from_secs(1))), Ok(()));
    }

    #[test]
    fn only_so_many_are_under_way() {
        let mut pacer = Pacer::new(Rate::per_second(1e6).unwrap());
        let now = Micros(10_000_000);
        let taken = (0..1_000).filter(|_| pacer.take(now).is_ok()).count();
        assert_eq!(taken, 100);
        assert_eq!(pacer.ready_at(), None);
        pacer.release();
        assert!(pacer.ready_at().is_some());
        assert!(pacer.take(now).is_ok());
    }
}
