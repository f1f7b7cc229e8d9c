//! Why a connection fails, by names that counters carry.

use std::io;

use super::{tls, websocket};

/// Why a connection was not made, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] tls::Failure),
    /// WebSocket failed.
    #[error(transparent)]
    WebSocket(#[from] websocket::Failure),
    /// There are source addresses, but of the other family than the broker's.
    #[error("expected a source address of the same family as {0}, found none")]
    NoSource(std::net::IpAddr),
}

impl Error {
    /// Its name, for counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Io(error) => label(error),
            Self::Tls(failure) => failure.into(),
            Self::WebSocket(failure) => failure.into(),
            Self::NoSource(_) => "no_source_address",
        }
    }

    /// What kind of I/O error it is, for whoever reads only that.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io(error) => error.kind(),
            _ => io::ErrorKind::Other,
        }
    }

    /// Whether the generator itself could not do better: it has no port or no file left.
    pub(crate) fn is_own(&self) -> bool {
        match self {
            Self::Io(error) => is_own(error),
            Self::NoSource(_) => true,
            Self::Tls(_) | Self::WebSocket(_) => false,
        }
    }
}

/// The name of an I/O error, for counters.
pub(crate) fn label(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection_refused",
        io::ErrorKind::ConnectionReset => "connection_reset",
        io::ErrorKind::ConnectionAborted => "connection_aborted",
        io::ErrorKind::BrokenPipe | io::ErrorKind::WriteZero => "broken_pipe",
        io::ErrorKind::TimedOut => "timed_out",
        io::ErrorKind::HostUnreachable => "host_unreachable",
        io::ErrorKind::NetworkUnreachable => "network_unreachable",
        io::ErrorKind::AddrNotAvailable => "no_port_available",
        io::ErrorKind::AddrInUse => "address_in_use",
        io::ErrorKind::PermissionDenied => "permission_denied",
        _ if is_out_of_files(error) => "no_file_available",
        _ => "io_error",
    }
}

/// Whether it is the generator itself that cannot do better.
pub(crate) fn is_own(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::AddrNotAvailable, io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied];
    kinds.contains(&error.kind()) || is_out_of_files(error)
}

fn is_out_of_files(error: &io::Error) -> bool {
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
