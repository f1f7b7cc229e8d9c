//! The calls of a TCP socket that connections are made of.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use mio::net::TcpStream;
use nix::{
    libc,
    sys::socket::{
        SetSockOpt as _,
        sockopt::{IpBindAddressNoPort, SetStruct},
    },
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// `IP_LOCAL_PORT_RANGE` of `linux/in.h`, which no crate names yet.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

#[derive(Debug, Clone, Copy)]
struct LocalPortRange;

nix::setsockopt_impl!(LocalPortRange, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, u32, SetStruct<u32>);

/// Lets a socket get one of these ports when it connects.
pub(super) fn set_ports(socket: &Socket, ports: &RangeInclusive<u16>) -> io::Result<()> {
    let (first, last) = (u32::from(*ports.start()), u32::from(*ports.end()));
    Ok(LocalPortRange.set(socket, &(last << 16 | first))?)
}

/// Begins to connect, from `source` if one is named, and from one of `ports` while one of them is free.
pub(super) fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    ports: Option<&RangeInclusive<u16>>,
) -> io::Result<TcpStream> {
    match begin(address, source, ports) {
        // Others have them all.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && ports.is_some() => {
            begin(address, source, None)
        }
        begun => begun,
    }
}

fn begin(address: SocketAddr, source: Option<IpAddr>, ports: Option<&RangeInclusive<u16>>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if let Some(ports) = ports {
        set_ports(&socket, ports)?;
    }
    if let Some(source) = source {
        // The port is chosen with the connection: it then serves one to each address of a broker (ip(7)).
        IpBindAddressNoPort.set(&socket, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Whether an address takes a connection from `source`, within `patience`.
pub(super) fn reaches(address: SocketAddr, source: Option<IpAddr>, patience: Duration) -> bool {
    let attempt = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&address.into(), patience)
    };
    attempt().is_ok()
}

/// Whether the connection is established; an error says why it never will be.
pub(super) fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => {
            // A small PUBLISH must not wait for the acknowledgement of the last one (Nagle, RFC 896).
            stream.set_nodelay(true)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lets the socket be closed by a reset (TCP RST) instead of an orderly close: nothing lingers (socket(7), `SO_LINGER`).
pub(super) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Writes until the socket takes no more; how much it has taken.
///
/// Calls the kernel and not the C library, whose `send` is also a place where threads are cancelled: that costs a process
/// with threads two atomic operations a call.
pub(super) fn write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match rustix::net::send(stream, &bytes[taken..], SendFlags::NOSIGNAL) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => taken += count,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(taken)
}

/// Reads once; `None` when there is nothing to read yet, 0 when the peer has closed.
pub(super) fn read(stream: &TcpStream, room: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match rustix::net::recv(stream, &mut *room, RecvFlags::empty()) {
            Ok((read, _)) => return Ok(Some(read)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Acknowledges at once what has been read. Linux forgets it with the next data (tcp(7), `TCP_QUICKACK`).
pub(super) fn acknowledge(stream: &TcpStream) {
    if let Err(error) = rustix::net::sockopt::set_tcp_quickack(stream, true) {
        tracing::debug!(%error, "a socket acknowledges when the kernel likes");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{Ipv4Addr, TcpListener},
    };

    use super::*;

    /// The local addresses of so many connections to a listener, from `source` and from `ports`.
    fn connections(count: usize, source: Option<IpAddr>, ports: &RangeInclusive<u16>) -> Vec<(TcpStream, SocketAddr)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| {
            let stream = connect(address, source, Some(ports)).unwrap();
            let local = stream.local_addr().unwrap();
            (stream, local)
        };
        (0..count).map(connect).collect()
    }

    #[test]
    fn ports_are_those_that_were_named_and_others_when_these_are_taken() {
        let ports = 40_000..=40_015;
        let found = connections(40, None, &ports);
        let named = found.iter().filter(|(_, local)| ports.contains(&local.port())).count();
        // Somebody else may hold some of them.
        assert!((1..=16).contains(&named), "{named} ports of those that were named");
    }

    #[test]
    fn a_port_of_a_source_serves_each_destination() {
        let (source, ports) = (IpAddr::from([127, 0, 8, 1]), 40_100..=40_103);
        let local = |found: &[(TcpStream, SocketAddr)]| found.iter().map(|(_, local)| *local).collect::<BTreeSet<_>>();
        let one = connections(4, Some(source), &ports);
        let other = connections(4, Some(source), &ports);
        assert!(local(&one).iter().all(|local| local.ip() == source), "{one:?}");
        assert_eq!(local(&one), local(&other));
    }
}
