//! One direction of a connection: bytes that wait for their delay, the throttle and the receiver.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    time::{Duration, Instant},
};

use mio::net::TcpStream;

use super::{Traffic, would_block};

/// Bytes that may wait in one direction; when full, nothing is read and TCP holds the sender back.
const CAPACITY: usize = 64 * 1024;
/// How often an empty throttle is asked again.
const THROTTLE_PAUSE: Duration = Duration::from_millis(5);

/// One end of a connection, and what readiness it has announced.
pub(super) struct End {
    pub(super) stream: TcpStream,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
}

/// Bytes a second that all connections share in one direction.
pub(super) struct Throttle {
    rate: Option<u64>,
    allowed: f64,
    last: Instant,
}

#[derive(Default)]
pub(super) struct Lane {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// The sender has ended its direction.
    has_ended: bool,
    /// The receiver was told so.
    was_shut: bool,
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    written: usize,
}

/// When a lane has something to do without a new readiness.
pub(super) type Wake = Option<Instant>;

impl Lane {
    /// Both ends have been told that nothing more comes this way.
    pub(super) fn is_done(&self) -> bool {
        self.was_shut
    }

    /// Moves what can be moved from `from` to `to`.
    ///
    /// # Errors
    /// When one of the ends is broken.
    pub(super) fn pump(
        &mut self,
        from: &mut End,
        to: &mut End,
        traffic: Traffic,
        delay: Duration,
        throttle: &mut Throttle,
        buffer: &mut [u8],
    ) -> io::Result<Wake> {
        match traffic {
            Traffic::Stall | Traffic::Unanswered => Ok(None),
            Traffic::Blackhole => {
                self.chunks.clear();
                self.bytes = 0;
                self.read(from, buffer, |_, _| {}).map(|()| None)
            }
            Traffic::Forward => {
                let due = Instant::now() + delay;
                self.read(from, buffer, |lane, bytes| lane.push(due, bytes))?;
                let wake = self.write(to, throttle)?;
                // Writing made room for what was announced and not read: go on in the next turn.
                let goes_on = from.is_readable && !self.has_ended && self.bytes < CAPACITY;
                Ok(if goes_on { Some(Instant::now()) } else { wake })
            }
        }
    }

    fn push(&mut self, due: Instant, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.chunks.push_back(Chunk { due, bytes: bytes.to_vec(), written: 0 });
    }

    fn read(&mut self, from: &mut End, buffer: &mut [u8], mut take: impl FnMut(&mut Lane, &[u8])) -> io::Result<()> {
        while from.is_readable && !self.has_ended && self.bytes < CAPACITY {
            match from.stream.read(buffer) {
                Ok(0) => self.has_ended = true,
                Ok(count) => take(self, &buffer[..count]),
                Err(error) if would_block(&error) => from.is_readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self, to: &mut End, throttle: &mut Throttle) -> io::Result<Wake> {
        while let Some(chunk) = self.chunks.front_mut() {
            if !to.is_writable {
                return Ok(None);
            }
            if chunk.due > Instant::now() {
                return Ok(Some(chunk.due));
            }
            let rest = &chunk.bytes[chunk.written..];
            let allowed = throttle.allowed().min(rest.len());
            if allowed == 0 {
                return Ok(Some(Instant::now() + THROTTLE_PAUSE));
            }
            match to.stream.write(&rest[..allowed]) {
                Ok(count) => {
                    throttle.take(count);
                    self.bytes -= count;
                    chunk.written += count;
                    if chunk.written == chunk.bytes.len() {
                        self.chunks.pop_front();
                    }
                }
                Err(error) if would_block(&error) => to.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.has_ended && !self.was_shut && to.is_writable {
            self.was_shut = true;
            to.stream.shutdown(Shutdown::Write)?;
        }
        Ok(None)
    }
}

impl Throttle {
    pub(super) fn new() -> Throttle {
        Throttle { rate: None, allowed: 0.0, last: Instant::now() }
    }

    pub(super) fn set(&mut self, rate: Option<u64>) {
        *self = Throttle { rate, ..Throttle::new() };
    }

    /// Bytes that may pass now. What was not used is kept for a tenth of a second.
    fn allowed(&mut self) -> usize {
        let Some(rate) = self.rate else {
            return usize::MAX;
        };
        let now = Instant::now();
        let rate = rate as f64;
        let earned = self.allowed + (now - self.last).as_secs_f64() * rate;
        self.allowed = earned.min((rate / 10.0).max(1.0));
        self.last = now;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a tenth of the rate at most, and never negative"
        )]
        let allowed = self.allowed as usize;
        allowed
    }

    fn take(&mut self, bytes: usize) {
        if self.rate.is_some() {
            self.allowed -= bytes as f64;
        }
    }
}
