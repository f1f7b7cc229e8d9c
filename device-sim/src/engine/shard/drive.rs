//! The loop around a shard: it waits for sockets and timers, and hands over what has happened.

use std::{io, time::Duration};

use fleet_contract::{cost::USUAL_PAUSE, units::Span};
use mio::{Events, Token};

use super::{Shard, WAKE};
use crate::agent::Agent;
use crate::engine::slot::Slot;
use crate::engine::world::{Net, World as _};

/// So many sockets are served before the timers have their turn again: a broker that ends ten thousand connections at once
/// must not delay the messages of the others.
const EVENTS_PER_TURN: usize = 128;

/// What has happened to the connection of a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) slot: Slot,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// Whether the other end sends nothing more. That is told once, together with the last of what it has sent, perhaps.
    pub(super) is_ending: bool,
}

impl<A: Agent> Shard<Net, A> {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    ///
    /// When the operating system does not let it wait for readiness; nothing can go on then.
    pub(in crate::engine) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut ready = Vec::with_capacity(EVENTS_PER_TURN);
        self.begin();
        while !self.life.is_stopped {
            self.wait(&mut events)?;
            ready.clear();
            for event in events.iter().filter(|event| event.token() != WAKE) {
                let Token(slot) = event.token();
                let is_readable = event.is_readable() || event.is_read_closed();
                ready.push(Ready {
                    slot: Slot::new(slot),
                    is_readable,
                    is_writable: event.is_writable() || event.is_error(),
                    is_ending: event.is_read_closed(),
                });
            }
            self.turn(&ready);
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let idle = self.idle(self.world.now());
        let timeout = idle.map_or(Duration::ZERO, Span::as_duration);
        if let Some(idle) = idle
            && self.timers.pace < USUAL_PAUSE
            && idle < USUAL_PAUSE
            && idle > Span::ZERO
        {
            // Without it the wait only ends at the next millisecond.
            self.world.alarm.set(idle)?;
        }
        match self.world.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }
}
