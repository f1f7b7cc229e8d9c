//! A broker of MQTT 3.1.1 that takes everything and notes when each device said what: over TCP, TLS or WebSocket.
//!
//! TLS is rustls' and WebSocket tungstenite's, so that a test believes neither the device nor our own transport.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use bytes::BytesMut;
use fleet_contract::{stamp::Stamp, time::Micros};
use jiff::Timestamp;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rumqttc::mqttbytes::{
    self,
    v4::{ConnAck, ConnectReturnCode, Packet, PubAck},
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tungstenite::{
    Error, Message, WebSocket,
    handshake::server::{Request, Response},
    http::HeaderValue,
};

/// The largest packet.
const PACKET_MAX: usize = 1 << 20;

/// The password that it takes.
pub(super) const PASSWORD: &str = "right";

/// What a device said, or how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// CONNECT, with the right password or not.
    Connect { is_welcome: bool },
    /// A message of this topic with this payload; when it was due, if it still says so.
    Message { topic: String, due: Option<Micros>, payload: String },
    /// DISCONNECT.
    Disconnect,
    /// Nothing more: it closed the connection.
    Close,
    /// Nothing more: it reset the connection.
    Reset,
}

/// What was noted: when, of which device, and what.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) at: Micros,
    pub(super) device: u32,
    pub(super) said: Said,
}

/// What the broker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Tls,
    WebSocket,
}

/// The broker; it ends with the test's process.
pub(super) struct Witness {
    address: SocketAddr,
    transport: Transport,
    log: Arc<Mutex<Vec<Note>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Witness {
    /// Starts one; what is to be trusted of it over TLS is written to `ca.pem` in `dir`.
    pub(super) fn start(transport: Transport, dir: &Path) -> Self {
        let tls = (transport == Transport::Tls).then(|| certified(dir));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::default());
        let noting = Arc::clone(&log);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, tls) = (Arc::clone(&noting), tls.clone());
                // A device that goes in the middle of a handshake has said nothing yet.
                thread::spawn(move || drop(accept(stream, transport, tls, log)));
            }
        });
        Self { address, transport, log }
    }

    pub(super) fn url(&self) -> String {
        let Self { address, .. } = self;
        match self.transport {
            Transport::Tcp => format!("mqtt://{address}"),
            Transport::Tls => format!("mqtts://{address}"),
            Transport::WebSocket => format!("ws://{address}/mqtt"),
        }
    }

    /// All that was noted so far, in its order.
    pub(super) fn notes(&self) -> Vec<Note> {
        let mut notes = lock(&self.log).clone();
        notes.sort_by_key(|note| note.at);
        notes
    }
}

/// A certificate that is its own authority.
fn certified(dir: &Path) -> Arc<ServerConfig> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(dir.join("ca.pem"), cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![cert.into()], key).unwrap())
}

fn accept(
    stream: TcpStream,
    transport: Transport,
    tls: Option<Arc<ServerConfig>>,
    log: Arc<Mutex<Vec<Note>>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let line: Box<dyn Line> = match (transport, tls) {
        (Transport::Tls, Some(config)) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            Box::new(Plain(StreamOwned::new(connection, stream)))
        }
        (Transport::WebSocket, _) => {
            #[expect(clippy::result_large_err, reason = "what tungstenite asks for")]
            let as_mqtt = |_: &Request, mut response: Response| {
                response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
                Ok(response)
            };
            Box::new(tungstenite::accept_hdr(stream, as_mqtt).map_err(io::Error::other)?)
        }
        _ => Box::new(Plain(stream)),
    };
    Conversation { line, log, device: None, is_reset: false }.serve();
    Ok(())
}

/// Bytes of MQTT, whatever carries them.
trait Line {
    /// The next bytes; none where the other side has closed.
    fn receive(&mut self) -> io::Result<Vec<u8>>;

    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Without frames: TCP or TLS.
struct Plain<S>(S);

impl<S: Read + Write> Line for Plain<S> {
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 64 * 1024];
        let read = self.0.read(&mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }
}

impl Line for WebSocket<TcpStream> {
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.read() {
                Ok(Message::Binary(bytes)) if bytes.is_empty() => {}
                Ok(Message::Binary(bytes)) => return Ok(bytes.to_vec()),
                Ok(Message::Close(_)) => return Ok(Vec::new()),
                Ok(_) => {}
                Err(Error::Io(error)) => return Err(error),
                Err(_) => return Ok(Vec::new()),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        WebSocket::send(self, Message::binary(bytes.to_vec())).map_err(|error| match error {
            Error::Io(error) => error,
            other => io::Error::other(other),
        })
    }
}

/// A connection and who speaks on it.
struct Conversation {
    line: Box<dyn Line>,
    log: Arc<Mutex<Vec<Note>>>,
    /// Nobody who is no device is noted.
    device: Option<u32>,
    /// Whether an answer has found that the device has reset the connection, which is told once.
    is_reset: bool,
}

impl Conversation {
    fn serve(mut self) {
        let mut input = BytesMut::new();
        loop {
            match Packet::read(&mut input, PACKET_MAX) {
                Ok(packet) => {
                    if !self.take(packet) {
                        return;
                    }
                    continue;
                }
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("device {:?} wrote what is no packet: {error:?}", self.device),
            }
            match self.line.receive() {
                _ if self.is_reset => return self.note(Said::Reset),
                Ok(bytes) if bytes.is_empty() => return self.note(Said::Close),
                Ok(bytes) => input.extend_from_slice(&bytes),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return self.note(Said::Reset),
                Err(_) => return self.note(Said::Close),
            }
        }
    }

    fn note(&self, said: Said) {
        let at = Micros(u64::try_from(Timestamp::now().as_microsecond()).unwrap());
        if let Some(device) = self.device {
            lock(&self.log).push(Note { at, device, said });
        }
    }

    /// Takes a packet; whether the connection goes on.
    fn take(&mut self, packet: Packet) -> bool {
        match packet {
            Packet::Connect(connect) => {
                self.device = connect.client_id.rsplit('-').next().and_then(|index| index.parse().ok());
                let is_welcome = connect.login.as_ref().is_some_and(|login| login.password == PASSWORD);
                self.note(Said::Connect { is_welcome });
                let code = if is_welcome { ConnectReturnCode::Success } else { ConnectReturnCode::BadUserNamePassword };
                self.answer(&Packet::ConnAck(ConnAck::new(code, false)));
                return is_welcome;
            }
            Packet::Publish(publish) => {
                let due = Stamp::find(&publish.payload).map(|stamp| stamp.due);
                let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                self.note(Said::Message { topic: publish.topic.clone(), due, payload });
                if publish.pkid > 0 {
                    self.answer(&Packet::PubAck(PubAck::new(publish.pkid)));
                }
            }
            Packet::PingReq => self.answer(&Packet::PingResp),
            Packet::Disconnect => {
                self.note(Said::Disconnect);
                return false;
            }
            other => panic!("device {:?} sent {other:?}", self.device),
        }
        true
    }

    fn answer(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, PACKET_MAX).unwrap();
        // Whoever has gone gets nothing.
        let sent = self.line.send(&bytes);
        self.is_reset |= sent.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
    }
}
