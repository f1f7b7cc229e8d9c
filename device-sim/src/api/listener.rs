//! Where the API listens: a Unix socket of its owner alone, or TCP.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use axum::Router;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::args::Listen;

/// An API cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("expected to listen at {listen}, found: {source}; name another address with --api")]
pub(crate) struct ListenError {
    listen: Listen,
    source: io::Error,
}

/// A bound address; the file of a Unix socket goes with it.
#[derive(Debug)]
pub(crate) enum Listener {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

/// The file of a socket, removed at the end.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "the socket's file is gone already");
        }
    }
}

impl Listener {
    /// Binds `listen`; the file that a dead worker has left is replaced, that of a living one is not.
    pub(crate) async fn bind(listen: &Listen) -> Result<Self, ListenError> {
        let bound = match listen {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Unix(path) => bind_unix(path).await,
        };
        bound.map_err(|source| ListenError { listen: listen.clone(), source })
    }

    /// Where it listens, with the port that was chosen.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Unix(_, file) => format!("unix:{}", file.0.display()),
            Self::Tcp(listener) => listener.local_addr().map_or_else(|error| error.to_string(), |at| at.to_string()),
        }
    }

    /// Answers until `stop`; then the answers that are under way are finished.
    pub(crate) async fn serve(self, router: Router, stop: CancellationToken) -> io::Result<()> {
        let stopped = stop.cancelled_owned();
        match self {
            Self::Unix(listener, _file) => axum::serve(listener, router).with_graceful_shutdown(stopped).await,
            Self::Tcp(listener) => axum::serve(listener, router).with_graceful_shutdown(stopped).await,
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<Listener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.into());
    // To connect takes the right to write, which no usual umask leaves to others in the moment before this.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Listener::Unix(listener, file))
}
