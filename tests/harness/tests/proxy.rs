//! Each fault of the proxy, against a server that echoes bytes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use tests::{
    eventually,
    proxy::{Proxy, Traffic, Which},
};

use super::PATIENCE;

/// How long silence is listened to before it counts as silence.
const SILENCE: Duration = Duration::from_millis(200);

/// A server that sends back what it gets; its threads end with their connections.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream).ok());
        }
    });
    address
}

fn proxy() -> Proxy {
    Proxy::start(echo_server()).unwrap()
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn check_echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut echoed = vec![0; bytes.len()];
    stream.read_exact(&mut echoed).unwrap();
    assert!(echoed == bytes, "{} bytes came back changed", bytes.len());
}

#[track_caller]
fn check_silence(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn bytes_pass_unchanged_and_the_end_is_passed_on() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    let bytes: Vec<u8> = (0..4_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut writer, sent) = (stream.try_clone().unwrap(), bytes.clone());
    let sender = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).unwrap();
    sender.join().unwrap();
    assert!(echoed == bytes, "{} of {} bytes came back", echoed.len(), bytes.len());
    let closed = || Ok((proxy.connections()? == 0).then_some(()));
    eventually("the connection is closed on both sides", PATIENCE, closed).unwrap();
}

#[test]
fn a_stalled_connection_is_silent_and_loses_nothing() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    check_echo(&mut stream, b"before");
    proxy.set_traffic(Which::All, Traffic::Stall).unwrap();
    stream.write_all(b"during").unwrap();
    check_silence(&mut stream);
    check_silence(&mut connect(&proxy));
    proxy.set_traffic(Which::All, Traffic::Forward).unwrap();
    let mut during = [0; 6];
    stream.read_exact(&mut during).unwrap();
    assert_eq!(&during, b"during");
}

#[test]
fn an_unanswered_connection_passes_on_what_is_asked() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let mut stream = connect(&proxy);
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    proxy.set_traffic(Which::All, Traffic::Unanswered).unwrap();
    let mut bytes = [0; 4];
    stream.write_all(b"asks").unwrap();
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"asks");
    server.write_all(b"says").unwrap();
    check_silence(&mut stream);
    proxy.set_traffic(Which::All, Traffic::Forward).unwrap();
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"says");
}

#[test]
fn a_blackholed_connection_loses_and_a_new_one_is_sound() {
    let proxy = proxy();
    let mut old = connect(&proxy);
    check_echo(&mut old, b"before");
    proxy.set_traffic(Which::Existing, Traffic::Blackhole).unwrap();
    // More than all buffers hold: the sender notices nothing.
    old.write_all(&vec![0; 8_000_000]).unwrap();
    check_silence(&mut old);
    check_echo(&mut connect(&proxy), b"new");
}

#[test]
fn a_cut_resets_every_connection() {
    let proxy = proxy();
    let mut streams = [connect(&proxy), connect(&proxy)];
    for stream in &mut streams {
        check_echo(stream, b"x");
    }
    assert_eq!(proxy.cut().unwrap(), 2);
    for mut stream in streams {
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(proxy.connections().unwrap(), 0);
}

#[test]
fn a_delay_counts_in_each_direction() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    proxy.set_delay(Duration::from_millis(100)).unwrap();
    let start = Instant::now();
    check_echo(&mut stream, b"x");
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[test]
fn a_throttle_bounds_all_connections_together() {
    let proxy = proxy();
    let mut streams = [connect(&proxy), connect(&proxy)];
    proxy.set_throttle(Some(40_000)).unwrap();
    let start = Instant::now();
    for stream in &mut streams {
        stream.write_all(&[7; 10_000]).unwrap();
    }
    for stream in &mut streams {
        stream.read_exact(&mut [0; 10_000]).unwrap();
    }
    // 20,000 bytes at 40,000 a second, less the tenth of a second that is kept.
    assert!(start.elapsed() >= Duration::from_millis(390), "{:?}", start.elapsed());
}

#[test]
fn a_broker_that_is_down_resets_the_device() {
    let port = tests::port::free().unwrap();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    assert!(connect(&proxy).read(&mut [0]).is_err());
    let mut gone = connect(&proxy);
    drop(proxy);
    assert_ne!(gone.read(&mut [0]).ok(), Some(1));
}
