//! The broker as one value: bound, then run until told to stop.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::batch::Inbox;
use crate::connection::{self, Shared};
use crate::hub::Hub;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::router::{Router, RouterError};
use crate::store::{Kept, Store, StoreError};
use crate::users::{Door, Users};

/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 4096;
/// Sockets beyond the connection limit that are heard out, so that a client above the limit gets a
/// CONNACK and not just a closed socket.
const SPARE_SOCKETS: usize = 256;
/// Time that connections have to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Time that messages have to reach the queues of the sessions that are kept.
const ROUTING_GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept, which mostly means that no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a broker is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen. Port 0 takes a free port; [`Broker::address`] tells which. `[::]` takes
    /// IPv4 also.
    pub listen: SocketAddr,
    /// What is refused.
    pub limits: Limits,
    /// Who may connect; everybody without a list. Changes of its files are taken over while the broker runs.
    pub users: Option<Users>,
    /// The folder in which retained messages and persistent sessions outlive an orderly end; without one they end with
    /// the broker.
    pub data: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 1883)), limits: Limits::default(), users: None, data: None }
    }
}

/// Why a broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error(
        "{address} is already in use; stop what listens there (`ss -ltnp` shows it) or listen on \
         another port (port 0 takes a free one)"
    )]
    InUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The system allows it to others only.
    #[error("listening on {address} is not permitted; take a port above 1023")]
    NotPermitted {
        /// The address asked for.
        address: SocketAddr,
    },
    /// No interface has this address.
    #[error(
        "this machine does not have the address {address}; 127.0.0.1 or [::1] is reached from \
         here only, 0.0.0.0 or [::] from everywhere"
    )]
    NotAvailable {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Any other reason of the system.
    #[error("cannot listen on {address}")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The router did not come up.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// What an earlier broker left behind cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The instruments did not register.
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { address },
            io::ErrorKind::AddrNotAvailable => Self::NotAvailable { address },
            _ => Self::Other { address, source },
        }
    }
}

/// Why a running broker stopped without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The listener could not be handed to the runtime.
    #[error("cannot accept connections")]
    Listen(#[from] io::Error),
    /// The router ended.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// The task that feeds the router failed.
    #[error("routing failed")]
    Routing(#[from] tokio::task::JoinError),
    /// What is to outlive the broker could not be written.
    #[error("sessions and retained messages are lost")]
    Store(#[from] StoreError),
}

/// An MQTT 3.1.1 broker, bound to its address.
///
/// Clients that connect before [`Broker::run`] wait in the system's backlog.
///
/// rumqttd's router thread, started by [`Broker::bind`], never ends: it outlives the broker, asleep,
/// with the memory of its logs. A process that starts brokers in a loop grows by that much each.
pub struct Broker {
    listener: StdListener,
    address: SocketAddr,
    router: Router,
    inbox: Inbox,
    shared: Shared,
    store: Option<Store>,
    kept: Option<Kept>,
}

impl Broker {
    /// Takes the address and starts the router; accepts nobody yet.
    pub fn bind(config: Config) -> Result<Broker, BindError> {
        let Config { listen, limits, users, data } = config;
        let refused = |source| BindError::new(listen, source);
        let listener = listener(listen).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let store = data.as_deref().map(Store::open).transpose()?;
        let kept = store.as_ref().map_or(Ok(None), Store::read)?;
        let metrics = Arc::new(Metrics::new()?);
        let (hub, inbox) = Hub::new(&limits, Arc::clone(&metrics));
        Ok(Broker {
            listener,
            address,
            router: Router::start()?,
            inbox,
            shared: Shared { hub, door: users.map(Door::new), limits, metrics, shutdown: CancellationToken::new() },
            store,
            kept,
        })
    }

    /// The address it is bound to, with the port that the system chose if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counts; stays readable after the broker has ended.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Serves clients until `shutdown` is cancelled, then closes the listener and every connection,
    /// within about two seconds. Wills are not published then: there is nobody left to receive them. What is to outlive
    /// the broker is written last.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Broker { listener, address, router, inbox, mut shared, store, kept } = self;
        let listener = TcpListener::from_std(listener)?;
        // Its own token, so that connections also end when the router does.
        let stop = shutdown.child_token();
        shared.shutdown = stop.clone();
        let shared = Arc::new(shared);
        let hub = Arc::clone(&shared.hub);
        let mut looking = JoinSet::new();
        let watched = Arc::clone(&shared);
        looking.spawn(async move {
            if let Some(door) = &watched.door {
                door.follow(&watched.metrics).await;
            }
        });
        let mut routing = JoinSet::new();
        routing.spawn(async move { hub.route(router, inbox).await });
        if let (Some(store), Some(kept)) = (&store, kept) {
            info!(sessions = kept.sessions.len(), retained = kept.retained.len(), "kept by the last broker");
            // A router that has ended says so below.
            drop(shared.hub.restore(kept).await);
            store.forget()?;
        }

        info!(%address, connections = shared.limits.connections, "broker listens");
        let mut connections = JoinSet::new();
        let outcome = tokio::select! {
            () = accept(&listener, &mut connections, &shared) => Ok(()),
            () = stop.cancelled() => Ok(()),
            Some(routed) = routing.join_next() => routed.map_err(RunError::from).and_then(|routed| Ok(routed?)),
        };
        drop(listener);
        stop.cancel();
        end(connections).await;
        let stored = match &store {
            Some(store) => keep(&shared.hub, store).await,
            None => Ok(()),
        };
        routing.shutdown().await;
        looking.shutdown().await;
        info!(%address, "broker stopped");
        outcome.and(stored)
    }
}

fn listener(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted broker need not wait for the connections of the last one to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts for ever. Never waits for a client.
async fn accept(listener: &TcpListener, connections: &mut JoinSet<()>, shared: &Arc<Shared>) {
    let sockets_max = shared.limits.connections + SPARE_SOCKETS;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= sockets_max => {
                    shared.metrics.refused.with_label_values(&["sockets"]).inc();
                }
                Ok((stream, peer)) => {
                    prepare(&stream);
                    let shared = Arc::clone(shared);
                    connections.spawn(connection::serve(stream, peer, shared));
                }
                Err(error) => {
                    shared.metrics.refused.with_label_values(&["accept"]).inc();
                    warn!(%error, "cannot accept a connection; is the open-file limit reached?");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                error!(%error, "a connection's task failed");
            },
        }
    }
}

fn prepare(stream: &TcpStream) {
    // Acknowledgements must not wait for more data.
    if let Err(error) = stream.set_nodelay(true) {
        warn!(%error, "cannot switch off Nagle's algorithm");
    }
}

/// Writes what is to outlive the broker.
async fn keep(hub: &Hub, store: &Store) -> Result<(), RunError> {
    if !matches!(timeout(ROUTING_GRACE, hub.routed()).await, Ok(Ok(()))) {
        warn!("messages are still on their way to sessions; they are not kept");
    }
    let kept = hub.kept();
    store.write(&kept)?;
    info!(sessions = kept.sessions.len(), retained = kept.retained.len(), "kept for the next broker");
    Ok(())
}

async fn end(mut connections: JoinSet<()>) {
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_GRACE, all_ended).await.is_err() {
        warn!(left = connections.len(), "connections did not end in time");
        connections.shutdown().await;
    }
}
