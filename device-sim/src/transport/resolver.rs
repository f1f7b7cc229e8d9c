//! Finds the addresses of a broker, off the loops: a name server that is slow must not delay a single message.
//!
//! Names are looked up again whenever a connection is lost, because the broker may have moved; until the answer
//! comes the last one holds. A name that does not resolve yet has no address: each attempt fails and asks again.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use fleet_contract::broker_url::BrokerUrl;

/// The cause of an attempt to connect to a name that does not resolve, as counters carry it.
pub(crate) const UNRESOLVED: &str = "unresolved";

/// The addresses of one broker, shared by all shards.
#[derive(Debug)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    addresses: Arc<[SocketAddr]>,
    is_wanted: bool,
    is_over: bool,
}

impl Resolver {
    /// Looks the broker up, and waits for the first answer, whatever it is.
    ///
    /// # Errors
    /// When no thread can be started for further look-ups.
    pub(crate) fn start(url: &BrokerUrl) -> io::Result<Self> {
        let addresses = look_up(url.host(), url.port()).unwrap_or_else(|error| {
            tracing::warn!(host = url.host(), %error, "the broker's name was not resolved");
            Arc::from([])
        });
        let state = State { addresses, is_wanted: false, is_over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        // A literal address cannot move.
        let thread = if url.host().parse::<std::net::IpAddr>().is_ok() {
            None
        } else {
            let (shared, host, port) = (Arc::clone(&shared), url.host().to_owned(), url.port());
            Some(thread::Builder::new().name("resolver".into()).spawn(move || shared.answer(&host, port))?)
        };
        Ok(Self { shared, thread })
    }

    /// The address for attempt number `turn`: all addresses take turns. `None` while the name does not resolve.
    pub(crate) fn address(&self, turn: u32) -> Option<SocketAddr> {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.addresses.get((turn as usize).checked_rem(state.addresses.len())?).copied()
    }

    /// Asks for another look; returns at once.
    pub(crate) fn refresh(&self) {
        if self.thread.is_some() {
            self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).is_wanted = true;
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.shared.changed.notify_one();
        // The thread is not joined: it may sit in the system's resolver for many seconds, and it holds nothing.
    }
}

impl Shared {
    fn answer(&self, host: &str, port: u16) {
        loop {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            while !state.is_wanted && !state.is_over {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_over {
                return;
            }
            state.is_wanted = false;
            drop(state);
            match look_up(host, port) {
                Ok(addresses) => {
                    self.state.lock().unwrap_or_else(PoisonError::into_inner).addresses = addresses;
                }
                Err(error) => tracing::warn!(host, %error, "the broker's name was not resolved"),
            }
        }
    }
}

fn look_up(host: &str, port: u16) -> io::Result<Arc<[SocketAddr]>> {
    let addresses: Arc<[SocketAddr]> = (host, port).to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no address is known for `{host}`")));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_take_turns() {
        let resolver = Resolver::start(&BrokerUrl::tcp("127.0.0.1", 1883)).unwrap();
        assert_eq!(resolver.address(0), resolver.address(7));
        assert_eq!(resolver.address(0).unwrap().port(), 1883);
    }

    #[test]
    fn an_unknown_name_has_no_address() {
        let resolver = Resolver::start(&BrokerUrl::tcp("no-such-host.invalid", 1883)).unwrap();
        assert_eq!(resolver.address(7), None);
    }
}
