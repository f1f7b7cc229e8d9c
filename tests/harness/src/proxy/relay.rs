//! The proxy's thread: accepts, connects to the broker, and pumps both directions of each connection.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use mio::{
    Events, Interest, Poll, Token, Waker,
    event::Event,
    net::{TcpListener, TcpStream},
};
use slab::Slab;
use socket2::SockRef;

use super::{
    Order, Traffic, Which,
    lane::{End, Lane, Throttle, Wake},
};

const LISTENER: Token = Token(0);
const ORDERS: Token = Token(1);
/// Connection `key` has the tokens `2 * key + FIRST` for the device and one more for the broker.
const FIRST: usize = 2;

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Relay {
    poll: Poll,
    waker: Arc<Waker>,
    listener: TcpListener,
    broker: SocketAddr,
    orders: Receiver<(Order, SyncSender<usize>)>,
    connections: Slab<Connection>,
    traffic_of_new: Traffic,
    delay: Duration,
    /// To the broker, and back.
    throttles: [Throttle; 2],
    buffer: Box<[u8]>,
}

struct Connection {
    device: End,
    broker: End,
    up: Lane,
    down: Lane,
    traffic: Traffic,
}

impl Relay {
    pub(super) fn new(
        address: SocketAddr,
        broker: SocketAddr,
        orders: Receiver<(Order, SyncSender<usize>)>,
    ) -> Result<Relay> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), ORDERS)?);
        Ok(Relay {
            poll,
            waker,
            listener,
            broker,
            orders,
            connections: Slab::new(),
            traffic_of_new: Traffic::Forward,
            delay: Duration::ZERO,
            throttles: [Throttle::new(), Throttle::new()],
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Serves until it is told to stop, or nobody can tell it any more.
    pub(super) fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut wake: Wake = None;
        loop {
            let timeout = wake.map(|due| due.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    ORDERS => {}
                    Token(token) => self.mark(token - FIRST, event),
                }
            }
            while let Ok((order, done)) = self.orders.try_recv() {
                let stop = matches!(order, Order::Stop);
                let result = self.obey(&order);
                // Fails only when the asker has given up waiting.
                done.send(result).ok();
                if stop {
                    return Ok(());
                }
            }
            wake = self.pump_all();
        }
    }

    fn obey(&mut self, order: &Order) -> usize {
        match *order {
            Order::Traffic(which, traffic) => {
                if which != Which::Existing {
                    self.traffic_of_new = traffic;
                }
                if which != Which::New {
                    self.connections.iter_mut().for_each(|(_, connection)| connection.traffic = traffic);
                }
            }
            Order::Delay(delay) => self.delay = delay,
            Order::Throttle(rate) => self.throttles.iter_mut().for_each(|throttle| throttle.set(rate)),
            Order::Cut => {
                let cut = self.connections.len();
                self.connections.drain().for_each(Connection::reset);
                return cut;
            }
            Order::Count | Order::Stop => {}
        }
        self.connections.len()
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            match self.listener.accept() {
                Ok((device, _)) => self.admit(device)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A device whose broker cannot be reached is reset, as the broker's own kernel would.
    fn admit(&mut self, device: TcpStream) -> Result<()> {
        let Ok(broker) = TcpStream::connect(self.broker) else {
            return Ok(());
        };
        let entry = self.connections.vacant_entry();
        let token = 2 * entry.key() + FIRST;
        let connection = entry.insert(Connection {
            device: End { stream: device, is_readable: false, is_writable: false },
            broker: End { stream: broker, is_readable: false, is_writable: false },
            up: Lane::default(),
            down: Lane::default(),
            traffic: self.traffic_of_new,
        });
        for (end, token) in [(&mut connection.device, token), (&mut connection.broker, token + 1)] {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut end.stream, Token(token), interest)?;
            // The proxy adds only the delay that it was told to. Fails only on a connection already broken.
            drop(end.stream.set_nodelay(true));
        }
        Ok(())
    }

    fn mark(&mut self, index: usize, event: &Event) {
        let Some(connection) = self.connections.get_mut(index / 2) else {
            return;
        };
        let end = if index.is_multiple_of(2) { &mut connection.device } else { &mut connection.broker };
        end.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        end.is_writable |= event.is_writable();
    }

    /// Pumps every connection; only those with something to do make a system call.
    fn pump_all(&mut self) -> Wake {
        let mut wake = None;
        let mut ended = Vec::new();
        for (key, connection) in &mut self.connections {
            match connection.pump(self.delay, &mut self.throttles, &mut self.buffer) {
                Ok(next) => wake = [wake, next].into_iter().flatten().min(),
                Err(_) => ended.push((key, How::Broken)),
            }
            if connection.up.is_done() && connection.down.is_done() {
                ended.push((key, How::InOrder));
            }
        }
        for (key, how) in ended {
            if let Some(connection) = self.connections.try_remove(key)
                && how == How::Broken
            {
                connection.reset();
            }
        }
        wake
    }
}

#[derive(PartialEq, Eq)]
enum How {
    InOrder,
    Broken,
}

impl Connection {
    fn pump(&mut self, delay: Duration, throttles: &mut [Throttle; 2], buffer: &mut [u8]) -> io::Result<Wake> {
        let Connection { device, broker, up, down, traffic } = self;
        let [up_throttle, down_throttle] = throttles;
        let outward = if *traffic == Traffic::Unanswered { Traffic::Forward } else { *traffic };
        let up = up.pump(device, broker, outward, delay, up_throttle, buffer)?;
        let down = down.pump(broker, device, *traffic, delay, down_throttle, buffer)?;
        Ok([up, down].into_iter().flatten().min())
    }

    /// Closes both ends with RST instead of FIN.
    fn reset(self) {
        for stream in [&self.device.stream, &self.broker.stream] {
            // Fails only on a connection that is broken already.
            drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        }
    }
}
