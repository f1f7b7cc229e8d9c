//! How a fleet reaches an address of its broker: what lies over TCP, and the addresses that connections come from.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use fleet_contract::{broker_url::BrokerUrl, fleet};
use rustls::{
    ClientConfig,
    client::UnbufferedClientConnection,
    pki_types::{ServerName, pem},
};

use super::{
    Error, Ports,
    layers::{Buffers, Layers},
    socket,
    tls::{self, Failure, Tls},
    websocket::{Endpoint, WebSocket},
};
use crate::reload::{Files, Reload, Unusable};

/// Why there is no way to a broker. Nothing was connected yet.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// A file of `tls` cannot be read.
    #[error("expected {what} as PEM in the file {file}: {source}")]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        file: String,
        /// Why it does not.
        source: pem::Error,
    },
    /// A file of `tls` holds nothing of the kind.
    #[error("expected {what} as PEM in the file {file}, found none")]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// The file.
        file: String,
    },
    /// The machine trusts nobody.
    #[error("expected authorities that this machine trusts, found none; name the broker's in `broker.tls.ca`")]
    NoAuthorities,
    /// The name is none that a certificate can have.
    #[error("expected a host name or an address to look for in the broker's certificate, found `{0}`")]
    ServerName(String),
    /// Certificate, key or authority cannot be used.
    #[error("expected a certificate and its own private key in `broker.tls`: {0}")]
    Identity(#[source] rustls::Error),
    /// An authority cannot be used.
    #[error("expected certificates of authorities in the file {file}: {source}")]
    Authority {
        /// The file.
        file: String,
        /// Why not.
        source: rustls::Error,
    },
    /// The Secrets of a document are files by the time that a worker reads it.
    #[error("expected files in `broker.tls`, found the name of a Secret, which only a cluster has")]
    Secret,
    /// There is no randomness to be had.
    #[error("the operating system gives no random bytes: {0}")]
    Random(String),
}

impl From<RouteError> for Unusable {
    fn from(error: RouteError) -> Self {
        match &error {
            RouteError::File { source: pem::Error::Io(source), .. } => Self::io(source.kind(), &error),
            RouteError::Empty { .. } => Self::empty(&error),
            _ => Self::invalid(&error),
        }
    }
}

/// TLS to a broker: what the next connection uses, and the files that it is from.
#[derive(Debug)]
struct Secure {
    config: RwLock<Arc<ClientConfig>>,
    name: ServerName<'static>,
    spec: fleet::Tls,
    /// As they were before they were read.
    files: Files,
}

impl Secure {
    fn new(spec: fleet::Tls, host: &str) -> Result<Self, RouteError> {
        let name = spec.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| RouteError::ServerName(name.into()))?;
        let files = Files::new([&spec.ca, &spec.certificate, &spec.key].into_iter().flatten());
        let config = RwLock::new(Arc::new(tls::config(&spec)?));
        Ok(Self { config, name, spec, files })
    }

    fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads all files anew; new tickets belong to the new identity.
    fn read(&self) -> Result<(), Unusable> {
        let config = tls::config(&self.spec)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(())
    }
}

/// Where a connection comes from: its address and its ports; `None` lets the system choose.
type Origin = (Option<IpAddr>, Option<RangeInclusive<u16>>);

/// How a fleet reaches an address of its broker; shared by all connections there.
#[derive(Debug, Default)]
pub struct Route {
    tls: Option<Secure>,
    websocket: Option<Endpoint>,
    /// Where connections come from, by the family of the broker's address; none at all lets the system choose.
    sources_v4: Vec<IpAddr>,
    sources_v6: Vec<IpAddr>,
    /// `None` leaves the choice of ports to the system.
    ports: Option<Ports>,
    /// What the masks of WebSocket frames begin with.
    mask_seed: u64,
}

impl Route {
    /// The way to `url`, one of the broker's addresses; reads the files that `tls` names.
    pub fn new(url: &BrokerUrl, broker: &fleet::BrokerSpec) -> Result<Self, RouteError> {
        let tls = || broker.tls.clone().unwrap_or_default();
        let secure = url.transport().is_secure().then(|| Secure::new(tls(), url.host()));
        let endpoint = || Endpoint::new(&url.authority(), url.path(), &broker.headers);
        let websocket = url.transport().is_websocket().then(endpoint);
        let mask_seed = match &websocket {
            Some(_) => getrandom::u64().map_err(|error| RouteError::Random(error.to_string()))?,
            None => 0,
        };
        Ok(Self { tls: secure.transpose()?, websocket, mask_seed, ..Self::default() })
    }

    /// The same way, from these addresses of this machine: device `i` takes the `i`-th of its broker's family.
    #[must_use]
    pub fn from_sources(mut self, sources: &[IpAddr]) -> Self {
        (self.sources_v4, self.sources_v6) = sources.iter().partition(|source| source.is_ipv4());
        self
    }

    /// The same way, over ports of these: a fleet's connections are spread over all of them.
    #[must_use]
    pub fn over_ports(mut self, ports: Option<Ports>) -> Self {
        self.ports = ports;
        self
    }

    /// How a change of the files of TLS is taken over; `None` where there are none.
    pub(crate) fn reload(self: &Arc<Self>) -> Option<Reload> {
        let files = self.tls.as_ref().map(|secure| secure.files.clone()).filter(|files| !files.is_empty())?;
        let route = Arc::clone(self);
        let read = move || route.tls.as_ref().map_or(Ok(()), Secure::read);
        Some(Reload { what: "certificates", files, read: Box::new(read) })
    }

    /// Whether anything lies over TCP.
    pub(crate) fn is_layered(&self) -> bool {
        self.tls.is_some() || self.websocket.is_some()
    }

    /// Whether connections come from addresses that were named.
    pub(crate) fn has_sources(&self) -> bool {
        !(self.sources_v4.is_empty() && self.sources_v6.is_empty())
    }

    /// The source address for `turn`, if there are any, and the local ports, if that can be chosen.
    pub(super) fn origin(&self, broker: SocketAddr, turn: u32) -> Result<Origin, Error> {
        let sources = if broker.is_ipv4() { &self.sources_v4 } else { &self.sources_v6 };
        if sources.is_empty() && self.has_sources() {
            return Err(Error::NoSource(broker.ip()));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a machine has fewer than 2^32 addresses")]
        let count = sources.len().max(1) as u32;
        let ports = self.ports.as_ref().and_then(|ports| ports.block(turn / count));
        Ok((sources.get((turn % count) as usize).copied(), ports))
    }

    /// Whether an address takes connections from where devices connect. Blocks for as long as `patience`.
    pub(super) fn reaches(&self, address: SocketAddr, patience: Duration) -> bool {
        let source = self.origin(address, 0).map(|(source, _)| source);
        source.is_ok_and(|source| socket::reaches(address, source, patience))
    }

    /// The layers of a new connection; `None` for a plain one.
    pub(super) fn layers(&self) -> Result<Option<Layers>, Error> {
        if !self.is_layered() {
            return Ok(None);
        }
        let tls = match &self.tls {
            None => None,
            Some(secure) => {
                let connection = UnbufferedClientConnection::new(secure.config(), secure.name.clone());
                Some(Tls::new(connection.map_err(Failure::from)?))
            }
        };
        let websocket = match &self.websocket {
            None => None,
            Some(endpoint) => Some(WebSocket::new(endpoint)?),
        };
        Ok(Some(Layers::new(tls, websocket)))
    }
}

/// What the connections of one thread share: the buffers of their layers.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(super) buffers: Buffers,
}

impl Transport {
    /// What a thread needs whose connections go this way, or over the same layers.
    pub(crate) fn new(route: &Route) -> Self {
        Self { buffers: if route.is_layered() { Buffers::new(route.mask_seed) } else { Buffers::default() } }
    }

    /// How large a buffer [`Connection::read`](super::Connection::read) needs to bring packets of up to `packet` bytes.
    pub(crate) fn inbox(&self, packet: usize) -> usize {
        packet + self.buffers.wire.len()
    }

    /// What the last step of a connection's layers has to send.
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.buffers.out
    }
}
