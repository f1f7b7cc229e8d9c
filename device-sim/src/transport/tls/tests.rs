//! What TLS costs a device that does nothing, and that a peer's bytes may come as they like.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection,
    client::UnbufferedClientConnection,
    pki_types::{PrivateKeyDer, ServerName},
};

use super::*;

/// What an idle device may take beyond one without TLS.
const IDLE_MAX: i64 = 10 * 1024;

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (mut params, key) = (rcgen::CertificateParams::default(), rcgen::KeyPair::generate().unwrap());
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["broker.example".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone(), authority.der().clone()], key)
        .unwrap();
    (Arc::new(client), Arc::new(server))
}

/// A client whose bytes come in parts of `part`, with its server.
struct Pair {
    tls: Tls,
    server: ServerConnection,
    wire: Vec<u8>,
    out: Vec<u8>,
    plain: Vec<u8>,
    part: usize,
    /// Whether it writes between the parts.
    is_talkative: bool,
    /// What the client has allocated and not given back.
    held: i64,
}

impl Pair {
    fn new((client, server): &(Arc<ClientConfig>, Arc<ServerConfig>), part: usize) -> Self {
        let mut tls = None;
        let made = allocation_counter::measure(|| {
            let name = ServerName::try_from("broker.example").unwrap();
            tls = Some(Tls::new(UnbufferedClientConnection::new(Arc::clone(client), name).unwrap()));
        });
        Self {
            tls: tls.unwrap(),
            server: ServerConnection::new(Arc::clone(server)).unwrap(),
            // They are the thread's, so that they must not count.
            wire: vec![0; 64 * 1024],
            out: Vec::with_capacity(64 * 1024),
            plain: Vec::with_capacity(64 * 1024),
            part,
            is_talkative: false,
            held: made.bytes_current,
        }
    }

    /// The client takes what has come, as a connection does.
    fn take(&mut self, bytes: &[u8]) {
        let Self { tls, wire, out, plain, held, .. } = self;
        let change = allocation_counter::measure(|| {
            let pending = tls.take_pending(wire);
            let filled = pending + bytes.len();
            wire[pending..filled].copy_from_slice(bytes);
            let taken = tls.process(&mut wire[..filled], |bytes| plain.extend_from_slice(bytes), out).unwrap();
            tls.keep_pending(&wire[taken..filled]);
        });
        *held += change.bytes_current;
    }

    /// Both sides hand over what they have to say, until they are silent.
    fn talk(&mut self) {
        self.take(&[]);
        loop {
            let mut sent = &self.out[..];
            while !sent.is_empty() {
                self.server.read_tls(&mut sent).unwrap();
                self.server.process_new_packets().unwrap();
            }
            self.out.clear();
            let mut answer = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut answer).unwrap();
            }
            if answer.is_empty() {
                return;
            }
            let part = self.part;
            for bytes in answer.chunks(part) {
                self.take(bytes);
                if self.is_talkative && self.tls.is_up() {
                    self.tls.seal(b"!", &mut self.out).unwrap();
                }
            }
        }
    }

    /// One message there and one back.
    fn exchange(&mut self, payload: &[u8]) {
        let Self { tls, out, held, .. } = self;
        *held += allocation_counter::measure(|| tls.seal(payload, out).unwrap()).bytes_current;
        self.talk();
        let mut read = vec![0; payload.len()];
        self.server.reader().read_exact(&mut read).unwrap();
        assert_eq!(read, payload);
        self.server.writer().write_all(payload).unwrap();
        self.talk();
        assert_eq!(self.plain, payload);
        self.plain.clear();
    }
}

#[test]
fn bytes_may_come_as_they_like() {
    let configs = configs();
    for part in [1, 7, 1_000, usize::MAX] {
        let mut pair = Pair::new(&configs, part);
        pair.talk();
        assert!(pair.tls.is_up(), "in parts of {part}");
        for payload in [vec![b'x'], vec![7; 20_000]] {
            pair.exchange(&payload);
        }
        pair.server.send_close_notify();
        pair.talk();
        assert!(pair.tls.is_closed(), "in parts of {part}");
    }
}

#[test]
fn a_write_between_the_parts_of_a_message_changes_nothing() {
    let (client, server) = configs();
    // Certificates and tickets come in many records each.
    let mut server = ServerConfig::clone(&server);
    server.max_fragment_size = Some(64);
    for part in [1, 50, 69, 100, 1_000] {
        let mut pair = Pair::new(&(Arc::clone(&client), Arc::new(server.clone())), part);
        pair.is_talkative = true;
        pair.talk();
        let mut said = String::new();
        pair.server.reader().read_to_string(&mut said).unwrap_err();
        assert!(!said.is_empty() && said.chars().all(|char| char == '!'), "in parts of {part}: {said}");
    }
}

#[test]
fn a_server_that_is_not_trusted_is_told_so() {
    let (client, server) = (configs().0, configs().1);
    let name = ServerName::try_from("broker.example").unwrap();
    let mut tls = Tls::new(UnbufferedClientConnection::new(client, name).unwrap());
    let mut server = ServerConnection::new(server).unwrap();
    let (mut out, mut answer) = (Vec::new(), Vec::new());
    tls.process(&mut [], |_| (), &mut out).unwrap();
    server.read_tls(&mut &out[..]).unwrap();
    server.process_new_packets().unwrap();
    server.write_tls(&mut answer).unwrap();
    out.clear();
    let failure = tls.process(&mut answer, |_| (), &mut out).unwrap_err();
    assert!(matches!(failure, Failure::UnknownAuthority), "{failure}");
    server.read_tls(&mut &out[..]).unwrap();
    let told = server.process_new_packets().unwrap_err();
    assert!(matches!(told, rustls::Error::AlertReceived(_)), "{told}");
}

#[test]
fn an_idle_device_takes_less_than_ten_kilobytes_more() {
    let configs = configs();
    // The first one brings what all share.
    Pair::new(&configs, usize::MAX).talk();
    let mut pair = Pair::new(&configs, usize::MAX);
    pair.talk();
    pair.exchange(&[7; 200]);
    let held = pair.held + i64::try_from(size_of::<Tls>()).unwrap();
    println!("an idle device takes {held} bytes for TLS, {} of them in its own state", size_of::<Tls>());
    assert!(held <= IDLE_MAX, "{held} bytes");
    assert!(held > 500, "{held} bytes: nothing is counted");
}

#[test]
fn every_failure_has_a_name() {
    use rustls::{AlertDescription, CertificateError, Error};
    let check = |error: Error, expected: &str| assert_eq!(<&'static str>::from(&Failure::from(error)), expected);
    check(Error::InvalidCertificate(CertificateError::UnknownIssuer), "tls_unknown_authority");
    check(Error::InvalidCertificate(CertificateError::Revoked), "tls_certificate_revoked");
    check(Error::InvalidCertificate(CertificateError::BadSignature), "tls_unknown_authority");
    check(Error::InvalidCertificate(CertificateError::BadEncoding), "tls_certificate_invalid");
    check(Error::AlertReceived(AlertDescription::HandshakeFailure), "tls_handshake_refused");
    check(Error::AlertReceived(AlertDescription::UnrecognisedName), "tls_name_refused");
    check(Error::AlertReceived(AlertDescription::ProtocolVersion), "tls_incompatible");
    check(Error::DecryptError, "tls_protocol_violation");
}
