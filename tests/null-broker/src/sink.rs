//! The loop: one thread, readiness, one write for the answers to one read.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixStream as StdUnixStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream, UnixStream},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    low_level::pipe,
};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use crate::counters::Counters;

mod connection;
mod router;

use connection::{Connection, State};
use router::Router;

/// One read: as many small messages as a busy connection has in its socket buffer.
const READ_BYTES: usize = 64 * 1024;
/// Reads of one connection in a turn, so that none starves the others.
const READS_PER_TURN: usize = 8;
/// Connections that may wait to be accepted: a fleet arrives at once.
const BACKLOG: i32 = 4096;
/// Time until another accept, when the open-file limit refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const REPORT: Token = Token(0);
const STOP: Token = Token(1);
const FIRST_LISTENER: usize = 2;
/// Above every listener's token.
const FIRST_CONNECTION: usize = 1024;

/// What becomes of a PUBLISH beside its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routing {
    Discard,
    Echo,
}

/// Why the loop paused.
pub(crate) enum Event {
    /// The counters are wanted.
    Report,
    /// The end was asked for.
    Stop,
}

pub(crate) struct Sink {
    poll: Poll,
    events: Events,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    connections: Slab<Connection>,
    /// Connections that had more to read than a turn allows.
    unfinished: Vec<usize>,
    /// An accept failed though a connection waits: readiness is not announced again.
    retry_accept: bool,
    router: Router,
    counters: Counters,
    buffer: Box<[u8]>,
    signals: [UnixStream; 2],
    next_report: Option<Instant>,
}

impl Sink {
    /// Listens on all `addresses`; with port 0 all take the port that the first one got.
    pub(crate) fn listen(addresses: &[IpAddr], port: u16, routing: Routing) -> Result<Sink> {
        let poll = Poll::new()?;
        let signals = [signal_pipe(&[SIGUSR1])?, signal_pipe(&[SIGTERM, SIGINT])?];
        let mut sink = Sink {
            poll,
            events: Events::with_capacity(1024),
            listeners: Vec::new(),
            addresses: Vec::new(),
            connections: Slab::new(),
            unfinished: Vec::new(),
            retry_accept: false,
            router: Router::new(routing),
            counters: Counters::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            signals,
            next_report: None,
        };
        for (stream, token) in sink.signals.iter_mut().zip([REPORT, STOP]) {
            sink.poll.registry().register(stream, token, Interest::READABLE)?;
        }
        for &ip in addresses {
            let port = sink.addresses.first().map_or(port, SocketAddr::port);
            sink.bind(SocketAddr::new(ip, port)).with_context(|| format!("{ip} port {port} cannot be bound"))?;
        }
        Ok(sink)
    }

    fn bind(&mut self, address: SocketAddr) -> Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        let token = Token(FIRST_LISTENER + self.listeners.len());
        self.poll.registry().register(&mut listener, token, Interest::READABLE)?;
        self.addresses.push(listener.local_addr()?);
        self.listeners.push(listener);
        Ok(())
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Serves until the counters are wanted, by a signal or because `every` has passed, or the end is asked for.
    pub(crate) fn run(&mut self, every: Option<Duration>) -> Result<Event> {
        if self.next_report.is_none() {
            self.next_report = every.map(|every| Instant::now() + every);
        }
        loop {
            if let Some(event) = self.turn()? {
                return Ok(event);
            }
            if self.next_report.is_some_and(|due| Instant::now() >= due) {
                self.next_report = every.map(|every| Instant::now() + every);
                return Ok(Event::Report);
            }
        }
    }

    fn turn(&mut self) -> Result<Option<Event>> {
        let timeout = self.timeout();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for key in std::mem::take(&mut self.unfinished) {
            self.serve(key, ReadUntil::Short);
        }
        let mut accept = std::mem::take(&mut self.retry_accept);
        for event in &events {
            match event.token() {
                REPORT | STOP => {}
                Token(token) if token < FIRST_CONNECTION => accept = true,
                Token(token) => {
                    let until = if event.is_read_closed() { ReadUntil::Closed } else { ReadUntil::Short };
                    self.serve(token - FIRST_CONNECTION, until);
                }
            }
        }
        self.events = events;
        if accept {
            self.accept()?;
        }
        self.deliver();
        Ok(self.asked())
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        let report = self.next_report.map(|due| due.saturating_duration_since(Instant::now()));
        let accept = self.retry_accept.then_some(ACCEPT_PAUSE);
        report.into_iter().chain(accept).min()
    }

    fn accept(&mut self) -> Result<()> {
        for index in 0..self.listeners.len() {
            loop {
                match self.listeners[index].accept() {
                    Ok((stream, _)) => self.admit(stream)?,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(_) => {
                        self.retry_accept = true;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn admit(&mut self, mut stream: TcpStream) -> Result<()> {
        self.counters.accept();
        let entry = self.connections.vacant_entry();
        let token = Token(FIRST_CONNECTION + entry.key());
        // Answers leave at once: an acknowledgement that waits for company would be measured as latency. Fails only
        // on a connection that is closed already, which its first read will find.
        drop(stream.set_nodelay(true));
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        entry.insert(Connection::new(stream));
        Ok(())
    }

    /// Reads what a connection sent and answers it.
    fn serve(&mut self, key: usize, until: ReadUntil) {
        // It may have been closed earlier in this turn.
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.has_backlog() {
            if connection.flush(&mut self.counters).is_err() {
                return self.close(key);
            }
            self.router.set_backlog(key, connection.backlog());
        }
        for _ in 0..READS_PER_TURN {
            let count = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return self.close(key),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.close(key),
            };
            self.counters.bytes_in += count as u64;
            let bytes = &self.buffer[..count];
            let state = connection.receive(key, bytes, &mut self.router, &mut self.counters);
            let flushed = connection.flush(&mut self.counters);
            if state == State::Ended || flushed.is_err() {
                return self.close(key);
            }
            // A short read has emptied the socket: what comes later is announced again. Only the end of the stream
            // that came before the read is not.
            if count < self.buffer.len() && until == ReadUntil::Short {
                return;
            }
        }
        self.unfinished.push(key);
    }

    /// Hands the echoed messages of this turn to their subscribers, one write each.
    fn deliver(&mut self) {
        for (key, outbox) in self.router.take_outboxes() {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.enqueue(&outbox);
            if connection.flush(&mut self.counters).is_err() {
                self.close(key);
            } else {
                self.router.set_backlog(key, connection.backlog());
            }
        }
    }

    fn close(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        self.router.forget(key);
        self.counters.closed += 1;
        self.counters.sessions -= u64::from(connection.is_connected());
    }

    /// What signals have asked for. Looked at in every turn: a signal also interrupts the wait for readiness.
    fn asked(&mut self) -> Option<Event> {
        let [report, stop] = &mut self.signals;
        if drain(stop) {
            return Some(Event::Stop);
        }
        drain(report).then_some(Event::Report)
    }
}

/// How far one call reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadUntil {
    /// Until a read returns less than asked for.
    Short,
    /// Until the end of the stream, which the peer has sent.
    Closed,
}

/// A stream that becomes readable when one of `signals` arrives.
fn signal_pipe(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = StdUnixStream::pair()?;
    read.set_nonblocking(true)?;
    for &signal in signals {
        pipe::register(signal, write.try_clone()?)?;
    }
    Ok(UnixStream::from_std(read))
}

/// Empties a signal's stream; whether there was something in it.
fn drain(stream: &mut UnixStream) -> bool {
    let mut bytes = [0; 16];
    let mut was_signalled = false;
    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
        was_signalled = true;
    }
    was_signalled
}

/// Writes as much as the socket takes and returns how much that was.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
