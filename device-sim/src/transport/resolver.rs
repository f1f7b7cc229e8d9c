//! Finds the addresses of a broker, off the loops: a name server that is slow must not delay a single message.
//!
//! Names are looked up again whenever a connection is lost, because the broker may have moved; until the answer
//! comes the last one holds. A name that does not resolve yet has no address: each attempt fails and asks again.
//! Where brokers are limited, each answer is checked anew: a name that was allowed may lead elsewhere the next time.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use fleet_contract::{
    allowed::{AllowedBrokers, NotAllowed},
    broker_url::BrokerUrl,
};

/// Why there is no address to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAddress {
    /// The name does not resolve.
    #[error("the broker's name does not resolve")]
    Unresolved,
    /// The broker is where this worker may not go.
    #[error("the broker is not allowed: {0}")]
    NotAllowed(NotAllowed),
}

impl NoAddress {
    /// The cause of an attempt that fails for it, as counters carry it.
    pub(crate) const fn cause(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::NotAllowed(_) => "address_not_allowed",
        }
    }
}

/// The addresses of one broker, shared by all shards.
#[derive(Debug)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    host: String,
    port: u16,
    allowed: Option<AllowedBrokers>,
    look_up: LookUp,
    state: Mutex<State>,
    changed: Condvar,
}

/// Asks the system, or a test, for the addresses of a host.
type LookUp = Box<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("host", &self.host).field("state", &self.state).finish_non_exhaustive()
    }
}

/// What a look has found: at least one address that may be connected to, or why there is none.
type Found = Result<Arc<[SocketAddr]>, NoAddress>;

#[derive(Debug)]
struct State {
    found: Found,
    is_wanted: bool,
    is_over: bool,
}

impl Resolver {
    /// Looks the broker up, and waits for the first answer, whatever it is. Without `allowed` every address is.
    ///
    /// # Errors
    /// When no thread can be started for further look-ups.
    pub(crate) fn start(url: &BrokerUrl, allowed: Option<&AllowedBrokers>) -> io::Result<Self> {
        Self::start_with(url, allowed, Box::new(|host, port| Ok((host, port).to_socket_addrs()?.collect())))
    }

    fn start_with(url: &BrokerUrl, allowed: Option<&AllowedBrokers>, look_up: LookUp) -> io::Result<Self> {
        let (host, port, allowed) = (url.host().to_owned(), url.port(), allowed.cloned());
        let state = Mutex::new(State { found: Err(NoAddress::Unresolved), is_wanted: false, is_over: false });
        let shared = Arc::new(Shared { host, port, allowed, look_up, state, changed: Condvar::new() });
        shared.look();
        // A literal address cannot move.
        let thread = if url.host().parse::<std::net::IpAddr>().is_ok() {
            None
        } else {
            let shared = Arc::clone(&shared);
            Some(thread::Builder::new().name("resolver".into()).spawn(move || shared.answer())?)
        };
        Ok(Self { shared, thread })
    }

    /// The address for attempt number `turn`: all addresses take turns.
    ///
    /// # Errors
    /// While the name does not resolve, or the broker is at no address that may be connected to.
    pub(crate) fn address(&self, turn: u32) -> Result<SocketAddr, NoAddress> {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = state.found.as_ref().map_err(|none| *none)?;
        Ok(addresses[turn as usize % addresses.len()])
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
    fn answer(&self) {
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
            self.look();
        }
    }

    /// Looks once; where there is no answer the last one holds.
    fn look(&self) {
        let host = &self.host;
        let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no address is known for `{host}`"));
        let answer = (self.look_up)(host, self.port);
        match answer.and_then(|all| if all.is_empty() { Err(unknown()) } else { Ok(all) }) {
            Ok(all) => {
                let found = usable(host, &all, self.allowed.as_ref());
                if let Err(none) = &found {
                    tracing::warn!(host, reason = %none, "the broker's name leads where no broker may be");
                }
                self.state.lock().unwrap_or_else(PoisonError::into_inner).found = found;
            }
            Err(error) => tracing::warn!(host, %error, "the broker's name was not resolved"),
        }
    }
}

/// Those of the addresses of `host` that may be connected to.
fn usable(host: &str, all: &[SocketAddr], allowed: Option<&AllowedBrokers>) -> Found {
    let check = |address: &SocketAddr| allowed.map_or(Ok(()), |allowed| allowed.check(host, address.ip()));
    let usable: Arc<[SocketAddr]> = all.iter().copied().filter(|address| check(address).is_ok()).collect();
    let refused = all.iter().find_map(|address| check(address).err());
    match refused {
        Some(refused) if usable.is_empty() => Err(NoAddress::NotAllowed(refused)),
        _ => Ok(usable),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    fn resolver(url: &str, allowed: Option<&str>) -> Resolver {
        let allowed: Option<AllowedBrokers> = allowed.map(|rules| rules.parse().unwrap());
        Resolver::start(&url.parse().unwrap(), allowed.as_ref()).unwrap()
    }

    fn refused(refused: NotAllowed) -> Result<SocketAddr, NoAddress> {
        Err(NoAddress::NotAllowed(refused))
    }

    #[test]
    fn all_addresses_take_turns() {
        let resolver = resolver("127.0.0.1", None);
        assert_eq!(resolver.address(0), resolver.address(7));
        assert_eq!(resolver.address(0).unwrap().port(), 1883);
    }

    #[test]
    fn an_unknown_name_has_no_address() {
        assert_eq!(resolver("no-such-host.invalid", None).address(7), Err(NoAddress::Unresolved));
    }

    #[test]
    fn only_allowed_addresses_are_connected_to() {
        let (loopback, outside) = ("127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        assert_eq!(resolver("127.0.0.1", Some("*")).address(0), refused(NotAllowed::Own(loopback)));
        assert!(resolver("127.0.0.1", Some("127.0.0.1")).address(0).is_ok());
        assert!(resolver("192.0.2.1", Some("*")).address(0).is_ok());
        assert_eq!(resolver("192.0.2.1", Some("10.0.0.0/8")).address(0), refused(NotAllowed::Unnamed(outside)));
    }

    /// The first answer passes the controller's check; the second one is where the attacker wants to go.
    #[test]
    fn a_name_that_changes_its_mind_leads_nowhere() {
        let looks = AtomicUsize::new(0);
        let answers =
            [["192.0.2.1:1883"].as_slice(), &["169.254.169.254:1883"], &["169.254.169.254:1883", "192.0.2.2:1883"]];
        let look_up = move |_: &str, _: u16| {
            let answer = answers[looks.fetch_add(1, Relaxed) % answers.len()];
            Ok(answer.iter().map(|address| address.parse().unwrap()).collect())
        };
        let url = BrokerUrl::tcp("broker.example", 1883);
        let allowed = "broker.example".parse().unwrap();
        let resolver = Resolver::start_with(&url, Some(&allowed), Box::new(look_up)).unwrap();
        assert_eq!(resolver.address(0), Ok("192.0.2.1:1883".parse().unwrap()));
        resolver.shared.look();
        assert_eq!(resolver.address(0), refused(NotAllowed::Own("169.254.169.254".parse().unwrap())));
        resolver.shared.look();
        let only = Ok("192.0.2.2:1883".parse().unwrap());
        assert_eq!([0, 1, 2].map(|turn| resolver.address(turn)), [only; 3]);
    }
}
