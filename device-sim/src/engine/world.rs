//! What a shard has around it: the time, and connections to brokers. It asks for nothing else, so that a test can play all
//! of it and let hours pass in a moment.

use std::{fmt, sync::Arc};

use fleet_contract::time::Micros;
use mio::{Poll, Token};

use super::shard::Alarm;
use super::slot::Slot;
use crate::{
    clock::Clock,
    index::DeviceIndex,
    transport::{self, Connection, NoAddress, Read, Transport, Written, brokers::Brokers},
};

/// Why a connection could not be begun.
#[derive(Debug)]
pub(super) enum NotOpened {
    /// The broker has no address, or none that may be connected to.
    NoAddress(NoAddress),
    /// The attempt failed at once.
    Failed(transport::Error),
}

/// The surroundings of a shard. Nothing here waits.
pub(super) trait World {
    /// A connection that is open, or about to be.
    type Connection: fmt::Debug;

    /// The time now.
    fn now(&self) -> Micros;

    /// The start of the process.
    fn epoch(&self) -> Micros;

    /// The position of the broker that device `index` goes to.
    fn broker(&self, index: DeviceIndex) -> usize;

    /// Begins to connect device `index`, which has failed `attempts` times in a row. What happens to the connection is
    /// announced under its `slot`.
    fn open(&mut self, index: DeviceIndex, attempts: u16, slot: Slot) -> Result<Self::Connection, NotOpened>;

    /// The connection of device `index` was lost or not made: its broker may have moved.
    fn lost(&self, index: DeviceIndex);

    /// Goes on to establish a connection; whether it is.
    fn establish(&mut self, connection: &mut Self::Connection) -> Result<bool, transport::Error>;

    /// Whether establishing a connection takes computing.
    fn is_layered(&self, connection: &Self::Connection) -> bool;

    /// What an attempt to connect that takes too long is called.
    fn overdue(&self, connection: &Self::Connection) -> &'static str;

    /// Writes `bytes` after what still waits.
    fn write(&mut self, connection: &mut Self::Connection, bytes: &[u8]) -> Result<Written, transport::Error>;

    /// Writes what still waits.
    fn flush(&mut self, connection: &mut Self::Connection) -> Result<Written, transport::Error>;

    /// How many bytes still wait.
    fn unsent(&self, connection: &Self::Connection) -> usize;

    /// How large a buffer [`World::read`] needs to bring so many bytes at once.
    fn inbox(&self, bytes: usize) -> usize;

    /// Reads once, behind what was kept.
    fn read(&mut self, connection: &mut Self::Connection, buffer: &mut [u8]) -> Result<Read, transport::Error>;

    /// Acknowledges at once what has been read.
    fn acknowledge(&self, connection: &Self::Connection);

    /// How many bytes of a packet are kept until its end comes.
    fn kept(&self, connection: &Self::Connection) -> usize;

    /// Keeps the beginning of a packet until its end comes.
    fn keep(&self, connection: &mut Self::Connection, partial: &[u8]);

    /// Lets the end of a connection be a reset (TCP RST), for the other side to see no orderly close.
    fn reset(&self, connection: &Self::Connection);

    /// Says that nothing more will be written.
    fn finish(&mut self, connection: &mut Self::Connection) -> Result<(), transport::Error>;
}

/// Sockets, readiness and the machine's time.
pub(super) struct Net {
    pub(super) clock: Clock,
    pub(super) poll: Poll,
    pub(super) alarm: Alarm,
    pub(super) brokers: Arc<Brokers>,
    transport: Transport,
}

impl Net {
    /// The world of one thread.
    pub(super) fn new(clock: Clock, poll: Poll, alarm: Alarm, brokers: Arc<Brokers>) -> Self {
        let transport = Transport::new(&brokers.at(0).route);
        Self { clock, poll, alarm, brokers, transport }
    }
}

impl World for Net {
    type Connection = Connection;

    fn now(&self) -> Micros {
        self.clock.now()
    }

    fn epoch(&self) -> Micros {
        self.clock.epoch()
    }

    fn broker(&self, index: DeviceIndex) -> usize {
        self.brokers.position(index)
    }

    fn open(&mut self, index: DeviceIndex, attempts: u16, slot: Slot) -> Result<Connection, NotOpened> {
        let (broker, turn) = (self.brokers.of(index), self.brokers.turn(index));
        let address = broker.resolver.address(turn.wrapping_add(attempts.into())).map_err(NotOpened::NoAddress)?;
        Connection::open(address, turn, &broker.route, self.poll.registry(), Token(slot.place()))
            .map_err(NotOpened::Failed)
    }

    fn lost(&self, index: DeviceIndex) {
        self.brokers.of(index).resolver.refresh();
    }

    fn establish(&mut self, connection: &mut Connection) -> Result<bool, transport::Error> {
        connection.establish(&mut self.transport)
    }

    fn is_layered(&self, connection: &Connection) -> bool {
        connection.is_layered()
    }

    fn overdue(&self, connection: &Connection) -> &'static str {
        connection.overdue()
    }

    fn write(&mut self, connection: &mut Connection, bytes: &[u8]) -> Result<Written, transport::Error> {
        connection.write(bytes, &mut self.transport)
    }

    fn flush(&mut self, connection: &mut Connection) -> Result<Written, transport::Error> {
        connection.flush()
    }

    fn unsent(&self, connection: &Connection) -> usize {
        connection.unsent()
    }

    fn inbox(&self, bytes: usize) -> usize {
        self.transport.inbox(bytes)
    }

    fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Result<Read, transport::Error> {
        connection.read(buffer, &mut self.transport)
    }

    fn acknowledge(&self, connection: &Connection) {
        connection.acknowledge();
    }

    fn kept(&self, connection: &Connection) -> usize {
        connection.kept()
    }

    fn keep(&self, connection: &mut Connection, partial: &[u8]) {
        connection.keep(partial);
    }

    fn reset(&self, connection: &Connection) {
        connection.reset_on_close();
    }

    fn finish(&mut self, connection: &mut Connection) -> Result<(), transport::Error> {
        connection.finish(&mut self.transport)
    }
}
