//! Where a process of the project listens.

use std::{fmt, net::SocketAddr, path::Path, sync::Arc};

/// Where a process listens, and what it wants to be shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// Over TCP: a pod.
    Tcp {
        /// Where.
        socket: SocketAddr,
        /// The token of its fleet.
        token: Arc<str>,
    },
    /// A Unix socket, which its owner alone may open: a process of this machine.
    Unix(Arc<Path>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { socket, .. } => write!(f, "{socket}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Address {
    /// A token is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}
