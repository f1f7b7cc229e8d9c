//! Finds the addresses of a broker, off the loops: a name server that is slow must not delay a single message.
//!
//! Names are looked up again whenever a connection is lost, because the broker may have moved; until the answer
//! comes the last one holds. A name that does not resolve yet has no address: each attempt fails and asks again.
//! Where brokers are limited, each answer is checked anew: a name that was allowed may lead elsewhere the next time.
//!
//! Of several addresses those are used that take connections. They are tried before the first device goes there, and
//! again at each look: a fleet of which every second device began at a dead address would report that as the broker's
//! fault. The system has put them in the order of RFC 6724, and they are tried in that order and at the pace of RFC 8305;
//! devices are spread over those of the first one's family.

#![expect(clippy::disallowed_methods, reason = "names and addresses are tried in real time")]

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use fleet_contract::{
    allowed::{AllowedBrokers, NotAllowed},
    broker_url::BrokerUrl,
};

use super::Route;

/// How long an address may take to accept a connection before it counts as dead.
const TRY_PATIENCE: Duration = Duration::from_secs(2);

/// How long an address may take to answer before the next one is tried beside it, and the last one once another has
/// answered (RFC 8305, section 5: Connection Attempt Delay).
const TRY_DELAY: Duration = Duration::from_millis(250);

/// The least time between two looks: while a broker is away each lost connection asks for one.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

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
    accepts: Accepts,
    state: Mutex<State>,
    changed: Condvar,
}

/// Asks the system, or a test, for the addresses of a host.
type LookUp = Box<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// Whether an address takes connections; asks the network, or a test.
type Accepts = Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>;

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
    /// Looks the broker up, and waits for the first answer, whatever it is. Without `allowed` every address is. Addresses
    /// are tried over `route`.
    ///
    /// # Errors
    /// When no thread can be started for further look-ups.
    pub(crate) fn start(url: &BrokerUrl, allowed: Option<&AllowedBrokers>, route: &Arc<Route>) -> io::Result<Self> {
        let look_up: LookUp = Box::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()));
        let route = Arc::clone(route);
        Self::start_with(url, allowed, look_up, Arc::new(move |address| route.reaches(address, TRY_PATIENCE)))
    }

    fn start_with(
        url: &BrokerUrl,
        allowed: Option<&AllowedBrokers>,
        look_up: LookUp,
        accepts: Accepts,
    ) -> io::Result<Self> {
        let (host, port, allowed) = (url.host().to_owned(), url.port(), allowed.cloned());
        let state = Mutex::new(State { found: Err(NoAddress::Unresolved), is_wanted: false, is_over: false });
        let shared = Arc::new(Shared { host, port, allowed, look_up, accepts, state, changed: Condvar::new() });
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

    /// The address for attempt number `turn`: all addresses that take connections take turns.
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
            let over = |state: &mut State| !state.is_over;
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // What is asked for meanwhile is one look, afterwards.
            drop(self.changed.wait_timeout_while(state, LOOK_PAUSE, over));
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
                let found = found.map(|usable| alive(&usable, &self.accepts));
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

/// Those that take connections, of the family of the first of them; all where there is only one, or where none does.
fn alive(addresses: &Arc<[SocketAddr]>, accepts: &Accepts) -> Arc<[SocketAddr]> {
    if addresses.len() < 2 {
        return Arc::clone(addresses);
    }
    let (sender, answers) = mpsc::channel();
    let mut found = Vec::new();
    for address in addresses.iter().copied() {
        let (sender, accepts) = (sender.clone(), Arc::clone(accepts));
        // A thread that cannot be started, or answers too late, is an address that does not take connections. Threads are
        // not joined: an address that swallows packets keeps its own for the whole of its patience.
        let attempt = move || {
            // Who waited may have gone on without this answer.
            sender.send((address, accepts(address))).is_ok()
        };
        if let Err(error) = thread::Builder::new().name("resolver".into()).spawn(attempt) {
            tracing::warn!(%address, %error, "an address of the broker was not tried");
            continue;
        }
        found.extend(answers.recv_timeout(TRY_DELAY).ok().filter(|(_, is_alive)| *is_alive));
    }
    drop(sender);
    let patience = |found: &[_]| if found.is_empty() { TRY_PATIENCE } else { TRY_DELAY };
    let mut deadline = Instant::now() + patience(&found);
    while let Ok(answer) = answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if answer.1 {
            found.push(answer);
            deadline = deadline.min(Instant::now() + patience(&found));
        }
    }
    let found: Vec<SocketAddr> = found.into_iter().map(|(address, _)| address).collect();
    let first = addresses.iter().find(|address| found.contains(address));
    let Some(first) = first else { return Arc::clone(addresses) };
    addresses.iter().filter(|other| other.is_ipv4() == first.is_ipv4() && found.contains(other)).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{TcpListener, TcpStream},
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use super::*;

    fn resolver(url: &str, allowed: Option<&str>) -> Resolver {
        let allowed: Option<AllowedBrokers> = allowed.map(|rules| rules.parse().unwrap());
        Resolver::start(&url.parse().unwrap(), allowed.as_ref(), &Arc::default()).unwrap()
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
        let resolver = Resolver::start_with(&url, Some(&allowed), Box::new(look_up), Arc::new(|_| true)).unwrap();
        assert_eq!(resolver.address(0), Ok("192.0.2.1:1883".parse().unwrap()));
        resolver.shared.look();
        assert_eq!(resolver.address(0), refused(NotAllowed::Own("169.254.169.254".parse().unwrap())));
        resolver.shared.look();
        let only = Ok("192.0.2.2:1883".parse().unwrap());
        assert_eq!([0, 1, 2].map(|turn| resolver.address(turn)), [only; 3]);
    }

    /// A resolver whose name has these addresses.
    fn at(addresses: &[SocketAddr], accepts: impl Fn(SocketAddr) -> bool + Send + Sync + 'static) -> Resolver {
        let addresses = addresses.to_vec();
        let look_up: LookUp = Box::new(move |_, _| Ok(addresses.clone()));
        Resolver::start_with(&BrokerUrl::tcp("broker.example", 1883), None, look_up, Arc::new(accepts)).unwrap()
    }

    fn accepts(address: SocketAddr) -> bool {
        Route::default().reaches(address, TRY_PATIENCE)
    }

    fn used(resolver: &Resolver) -> BTreeSet<SocketAddr> {
        (0..20).map(|turn| resolver.address(turn).unwrap()).collect()
    }

    #[test]
    fn a_dead_address_gets_no_device_and_comes_back_when_it_lives() {
        // At an address that nothing else uses, so that nobody takes its port meanwhile.
        let closed = || TcpListener::bind("127.77.0.1:0").unwrap().local_addr().unwrap();
        let (dead, listener) = (closed(), TcpListener::bind("127.0.0.1:0").unwrap());
        let living = listener.local_addr().unwrap();
        let resolver = at(&[dead, living], accepts);
        assert_eq!(used(&resolver), [living].into());
        let _revived = TcpListener::bind(dead).unwrap();
        resolver.shared.look();
        assert_eq!(used(&resolver), [dead, living].into(), "devices are spread over all that live");
        drop(listener);
        resolver.shared.look();
        assert_eq!(used(&resolver), [dead].into());
        assert_eq!(used(&at(&[closed(), closed()], accepts)).len(), 2, "where none lives all are tried");
    }

    #[test]
    fn an_address_that_swallows_packets_is_not_waited_for() {
        // Nobody accepts, and the one place that the backlog has is taken.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let hole = socket.local_addr().unwrap().as_socket().unwrap();
        let _waiting = TcpStream::connect(hole).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let living = listener.local_addr().unwrap();
        let begun = Instant::now();
        assert_eq!(used(&at(&[hole, living], accepts)), [living].into());
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[test]
    fn addresses_are_tried_in_their_order_each_once_the_one_before_has_answered_or_let_a_moment_pass() {
        let [quick, slow, last] = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(|text| text.parse().unwrap());
        let begun = Instant::now();
        let tried: Arc<Mutex<Vec<(SocketAddr, Duration)>>> = Arc::default();
        let noted = Arc::clone(&tried);
        let resolver = at(&[quick, slow, last], move |address| {
            noted.lock().unwrap().push((address, begun.elapsed()));
            // Until its patience is over, as one that swallows packets.
            address != slow || {
                thread::sleep(TRY_PATIENCE);
                false
            }
        });
        assert_eq!(used(&resolver), [quick, last].into());
        let tried = tried.lock().unwrap();
        assert_eq!(tried.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [quick, slow, last]);
        assert!(tried[1].1 < TRY_DELAY && tried[2].1 >= TRY_DELAY, "{tried:?}");
    }

    #[test]
    fn an_address_that_no_source_reaches_is_not_used() {
        let route = Arc::new(Route::default().from_sources(&["127.0.0.1".parse().unwrap()]));
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(|at| TcpListener::bind(at).unwrap());
        let [reached, unreached] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let resolver = at(&[unreached, reached], move |address| route.reaches(address, TRY_PATIENCE));
        assert_eq!(used(&resolver), [reached].into());
    }

    #[test]
    fn the_family_of_the_first_that_lives_counts() {
        let [first, second, third] =
            ["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1"].map(|text| text.parse().unwrap());
        assert_eq!(used(&at(&[first, second, third], |_| true)), [first].into());
        let only_v4 = |address: SocketAddr| address.is_ipv4();
        assert_eq!(used(&at(&[first, second, third], only_v4)), [second, third].into());
    }
}
