//! A TCP proxy on loopback between devices and a broker, whose connections a test stalls, blackholes, delays,
//! throttles or cuts.
//!
//! One thread serves all connections, thousands if need be. Each direction of a connection buffers at most
//! 64 KiB; when that is full the proxy reads no more, and TCP tells the sender. The proxy copies bytes and knows
//! no MQTT.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use mio::Waker;

mod lane;
mod relay;

use relay::Relay;

/// What becomes of a connection's bytes, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// They are passed on.
    #[default]
    Forward,
    /// They stay where they are: the connection is accepted and silent. Nothing is lost; after [`Traffic::Forward`]
    /// it goes on.
    Stall,
    /// Those of devices are passed on, those of the broker stay where they are: what is asked for is done, and no
    /// answer arrives.
    Unanswered,
    /// They are taken and lost, as on a connection whose other end is gone. Meant to be cut afterwards: a stream
    /// with a hole cannot go on.
    Blackhole,
}

/// Which connections a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those open now; a reconnect gets a sound one.
    Existing,
    /// Those accepted from now on.
    New,
    /// Both.
    All,
}

/// A running proxy; stopped on drop, which closes its connections.
pub struct Proxy {
    address: SocketAddr,
    orders: SyncSender<(Order, SyncSender<usize>)>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What a test asks of the relay thread.
enum Order {
    Traffic(Which, Traffic),
    Delay(Duration),
    Throttle(Option<u64>),
    Count,
    Cut,
    Stop,
}

impl Proxy {
    /// Starts a proxy for `broker` on a free port of 127.0.0.1. The broker need not run yet.
    pub fn start(broker: SocketAddr) -> Result<Proxy> {
        // Bounded: a test waits for each order to be carried out, so more than one waits only between threads.
        let (orders, received) = sync_channel(16);
        let relay = Relay::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), broker, received)?;
        let address = relay.address()?;
        let waker = relay.waker();
        let thread = thread::Builder::new().name("proxy".to_owned()).spawn(move || relay.run())?;
        Ok(Proxy { address, orders, waker, thread: Some(thread) })
    }

    /// The address that devices connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as `simctl --broker` takes it.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Changes what becomes of bytes.
    pub fn set_traffic(&self, which: Which, traffic: Traffic) -> Result<()> {
        self.order(Order::Traffic(which, traffic)).map(drop)
    }

    /// Holds each byte for `delay` in each direction; zero for none.
    pub fn set_delay(&self, delay: Duration) -> Result<()> {
        self.order(Order::Delay(delay)).map(drop)
    }

    /// Passes at most so many bytes a second in each direction, over all connections; `None` for no limit.
    pub fn set_throttle(&self, bytes_per_second: Option<u64>) -> Result<()> {
        self.order(Order::Throttle(bytes_per_second)).map(drop)
    }

    /// The number of connections open now.
    pub fn connections(&self) -> Result<usize> {
        self.order(Order::Count)
    }

    /// Resets every open connection on both sides, and returns how many that were.
    pub fn cut(&self) -> Result<usize> {
        self.order(Order::Cut)
    }

    /// Has an order carried out, and awaits that it was.
    fn order(&self, order: Order) -> Result<usize> {
        let (done, result) = sync_channel(1);
        self.orders.send((order, done)).map_err(|_| anyhow!("the proxy has ended"))?;
        self.waker.wake()?;
        result.recv_timeout(Duration::from_secs(10)).context("the proxy does not answer")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Fails only when the thread has ended already.
        drop(self.order(Order::Stop));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Whether an operation only has to wait for readiness.
fn would_block(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
