//! TLS and WebSocket before a broker that speaks neither: takes them off and hands the packets on.
//!
//! TLS is rustls' and WebSocket tungstenite's, so that what devices speak is judged by others.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};
use tungstenite::{Message, WebSocket, protocol::Role};

/// How long a thread waits for one side before it looks at the other.
const TURN: Duration = Duration::from_millis(1);

/// From one byte of a slow connection to the next: a handshake takes seconds.
const SLOW: Duration = Duration::from_millis(5);

/// What a front speaks.
#[derive(Clone, Default)]
pub(crate) struct Speaks {
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) is_websocket: bool,
    /// Every connection of an odd number gets its bytes one by one.
    pub(crate) is_slow: bool,
}

/// What it has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicU32,
    /// Sessions of TLS that were resumed.
    pub(crate) resumed: AtomicU32,
    pub(crate) sources: Mutex<BTreeSet<IpAddr>>,
}

/// A front on loopback; ends on drop.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    pub(crate) fn start(broker: SocketAddr, speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, is_over) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let shared = (Arc::clone(&seen), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let mut threads = Vec::new();
            while let Ok((stream, peer)) = listener.accept() {
                if shared.1.load(Relaxed) {
                    break;
                }
                let number = shared.0.connections.fetch_add(1, Relaxed);
                shared.0.sources.lock().unwrap().insert(peer.ip());
                let (speaks, seen, is_over) = (speaks.clone(), Arc::clone(&shared.0), Arc::clone(&shared.1));
                threads.push(thread::spawn(move || {
                    // A client that breaks off is what many tests are about.
                    drop(serve(stream, broker, &speaks, number, &seen, &is_over));
                }));
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        Self { address, seen, is_over, thread: Some(thread) }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A connection whose bytes may go one by one.
struct Line {
    stream: TcpStream,
    is_slow: bool,
}

impl Read for Line {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.stream.read(room)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_slow {
            return self.stream.write(bytes);
        }
        thread::sleep(SLOW);
        self.stream.write(&bytes[..1])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn serve(
    stream: TcpStream,
    broker: SocketAddr,
    speaks: &Speaks,
    number: u32,
    seen: &Seen,
    is_over: &AtomicBool,
) -> io::Result<()> {
    stream.set_read_timeout(Some(TURN))?;
    stream.set_nodelay(true)?;
    let line = Line { stream, is_slow: speaks.is_slow && number % 2 == 1 };
    let broker = TcpStream::connect(broker)?;
    broker.set_read_timeout(Some(TURN))?;
    broker.set_nodelay(true)?;
    let Some(config) = &speaks.tls else { return speak(line, broker, speaks, is_over) };
    let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?, line);
    while tls.conn.is_handshaking() {
        patiently(tls.conn.complete_io(&mut tls.sock), is_over)?;
    }
    if tls.conn.handshake_kind() == Some(HandshakeKind::Resumed) {
        seen.resumed.fetch_add(1, Relaxed);
    }
    speak(tls, broker, speaks, is_over)
}

fn speak(mut stream: impl Read + Write, broker: TcpStream, speaks: &Speaks, is_over: &AtomicBool) -> io::Result<()> {
    if !speaks.is_websocket {
        return relay(broker, is_over, &mut stream, read_some, |stream, bytes| {
            stream.write_all(bytes)?;
            stream.flush()
        });
    }
    upgrade(&mut stream, is_over)?;
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    relay(
        broker,
        is_over,
        &mut socket,
        |socket| match socket.read() {
            Ok(Message::Binary(bytes)) => Ok(Some(bytes.to_vec())),
            Ok(Message::Close(_)) => Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(_) => Ok(Some(Vec::new())),
            Err(tungstenite::Error::Io(error)) => patiently(Err(error), is_over),
            Err(error) => Err(io::Error::other(error)),
        },
        // Each packet comes in two fragments with a ping between them, as a server may do it.
        |socket, bytes| {
            use tungstenite::protocol::frame::{
                Frame,
                coding::{Data, OpCode},
            };
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let frames = [
                Message::Frame(Frame::message(first.to_vec(), OpCode::Data(Data::Binary), false)),
                Message::Ping(b"p".to_vec().into()),
                Message::Frame(Frame::message(second.to_vec(), OpCode::Data(Data::Continue), true)),
            ];
            frames.into_iter().try_for_each(|frame| socket.send(frame).map_err(io::Error::other))
        },
    )
}

/// Hands on what comes from either side until one of them ends.
fn relay<S>(
    mut broker: TcpStream,
    is_over: &AtomicBool,
    client: &mut S,
    read: impl Fn(&mut S) -> io::Result<Option<Vec<u8>>>,
    write: impl Fn(&mut S, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    while !is_over.load(Relaxed) {
        if let Some(bytes) = patiently(read(client), is_over)?.flatten() {
            broker.write_all(&bytes)?;
        }
        if let Some(bytes) = patiently(read_some(&mut broker), is_over)?.flatten() {
            write(client, &bytes)?;
        }
    }
    Ok(())
}

fn read_some(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut room = [0; 4096];
    match stream.read(&mut room) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(read) => Ok(Some(room[..read].to_vec())),
        Err(error) => Err(error),
    }
}

/// `None` where there is nothing yet.
fn patiently<T>(result: io::Result<T>, is_over: &AtomicBool) -> io::Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if is_over.load(Relaxed) => Err(error),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The server's side of RFC 6455, section 4.2.
fn upgrade(stream: &mut (impl Read + Write), is_over: &AtomicBool) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if let Some(read) = patiently(stream.read(&mut byte), is_over)? {
            head.extend_from_slice(&byte[..read]);
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    let head = String::from_utf8_lossy(&head);
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    if !head.starts_with("GET /mqtt ") || field("Sec-WebSocket-Protocol: ") != Some("mqtt") {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    let key = field("Sec-WebSocket-Key: ").unwrap_or_default();
    let digest = sha1_smol::Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest().bytes();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        BASE64_STANDARD.encode(digest)
    );
    stream.write_all(answer.as_bytes())?;
    stream.flush()
}
