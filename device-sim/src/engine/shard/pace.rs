//! How often a shard looks at its timers, and the alarm for looks that are closer together than milliseconds.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use fleet_contract::{cost, time::Micros, units::Span};
use mio::{Interest, Poll, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::engine::course::Course;

/// The token of the alarm; it is no device's.
const ALARM: Token = Token(usize::MAX - 1);

/// The pace of a shard from `now` on.
pub(super) fn pace_under(course: &Course, now: Micros) -> Span {
    cost::pause(course.paces().map(|pace| pace.shortest(now)).min())
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
