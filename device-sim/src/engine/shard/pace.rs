//! How often a shard looks at its timers, and the alarm for looks that are closer together than milliseconds.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use fleet_contract::{time::Micros, units::Span};
use mio::{Interest, Poll, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::engine::{course::Course, wheel::TICK};

/// The loop sleeps until so long after it has last looked at the timers, unless a socket is ready before: a sleep and a
/// wake cost as much as four messages, and what falls due meanwhile shares them.
pub(super) const USUAL: Span = Span::from_millis(2);

/// An interval below this is a fast one, of which [`USUAL`] would be a large share.
const FAST: Span = Span::from_millis(10);

/// The token of the alarm; it is no device's.
const ALARM: Token = Token(usize::MAX - 1);

/// How long after a look at the timers of a thread the next one is, where its shortest interval is `shortest`.
pub fn pace(shortest: Option<Span>) -> Span {
    let quarter = |interval: Span| Span(interval.0 / 4).clamp(TICK, USUAL);
    shortest.filter(|interval| *interval < FAST).map_or(USUAL, quarter)
}

/// The pace of a shard from `now` on.
pub(super) fn pace_under(course: &Course, now: Micros) -> Span {
    pace(course.paces().map(|pace| pace.shortest(now)).min())
}

/// Ends a wait for readiness at an instant between two milliseconds, which is all that epoll counts in.
pub(in crate::engine) struct Alarm(OwnedFd);

impl Alarm {
    /// An alarm for those who wait by `poll`.
    pub(in crate::engine) fn new(poll: &Poll) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), ALARM, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Ends the next wait after `wait`, which is less than a second.
    pub(super) fn set(&self, wait: Span) -> io::Result<()> {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let micros = wait.0.min(999_999).cast_signed();
        let once = Itimerspec { it_interval: never, it_value: Timespec { tv_nsec: micros * 1_000, ..never } };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::Events;

    use super::*;

    #[test]
    fn intervals_below_ten_milliseconds_have_a_pace_of_a_quarter() {
        let paces = [1_000, 10, 8, 5, 1].map(|millis| pace(Some(Span::from_millis(millis))).0);
        assert_eq!(paces, [2_000, 2_000, 2_000, 1_250, 250]);
        assert_eq!((pace(None), pace(Some(Span(1)))), (USUAL, TICK));
    }

    #[test]
    fn an_alarm_ends_each_wait_anew() {
        let mut poll = Poll::new().unwrap();
        let alarm = Alarm::new(&poll).unwrap();
        let mut events = Events::with_capacity(4);
        for _ in 0..2 {
            alarm.set(Span(250)).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert_eq!(events.iter().map(mio::event::Event::token).collect::<Vec<_>>(), [ALARM]);
        }
    }
}
