//! TLS, WebSocket and both, between the engine and a real broker: what works, and how each failure is called.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]

#[path = "common/authority.rs"]
mod authority;
#[path = "common/front.rs"]
mod front;
#[expect(dead_code, reason = "fleets here have brokers behind a front, and options of their own")]
#[path = "common/run.rs"]
mod run;
#[path = "common/site.rs"]
mod site;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use authority::Authority;
use device_sim::{
    clock::Clock,
    engine::{Engine, Kind, Options},
    session::{
        Refusal,
        codec::{Connect, Protocol},
    },
    transport::{Error, Route, RouteError, introduce},
};
use fleet_contract::fleet::{BrokerSpec, Tls};
use front::{Front, Speaks};
use run::{TestBroker, assignment, until};
use site::{NOW, Site, broker_at, trusting};

#[track_caller]
fn delivers(scheme: &str) {
    let site = Site::new(scheme, false);
    let engine = site.start(20, "", &[]);
    until(&engine, "every device connected", |reading| reading.stats.devices.connected == 20);
    until(&engine, "enough messages", |reading| reading.stats.all_messages().sent >= 1_500);
    engine.drain();
    let stats = until(&engine, "the fleet drained", |reading| reading.is_drained);
    for messages in &stats.messages {
        assert!(messages.sent > 100, "{messages:?}");
        assert_eq!(messages.delivered + messages.unobserved, messages.sent, "{messages:?}");
        assert_eq!((messages.lost, messages.duplicated), (0, 0), "{messages:?}");
    }
    assert_eq!(stats.messages[1].acknowledged, stats.messages[1].sent);
    assert!(stats.connections.lost.is_empty() && stats.connections.failed.is_empty(), "{:?}", stats.connections);
}

#[test]
fn every_message_arrives_over_tls() {
    delivers("mqtts");
}

#[test]
fn every_message_arrives_over_websocket() {
    delivers("ws");
}

#[test]
fn every_message_arrives_over_secure_websocket() {
    delivers("wss");
}

/// How little later the others are for it is tested on virtual time (`src/engine/shard/tests/fair.rs`); that rustls goes on with
/// each byte, and waits for none, needs a socket.
#[test]
fn a_handshake_that_comes_byte_by_byte_lets_the_others_work() {
    let site = Site::new("mqtts", true);
    let engine = site.start(20, "  observe: none\n  connect: {timeout: 30s}\n", &[]);
    let early = until(&engine, "messages of the fast ones", |reading| reading.stats.all_messages().sent >= 200);
    assert!(early.devices.connected < 20, "nobody was slow");
    until(&engine, "every device connected", |reading| reading.stats.devices.connected == 20);
    engine.stop();
}

#[test]
fn a_device_that_comes_back_resumes_its_session() {
    let site = Site::new("mqtts", false);
    let route = route(&site.spec).unwrap();
    let connect = Connect { client_id: "test", ..Connect::default() };
    for resumed in 0..3 {
        let answer = introduce(&route, site.front.address, Protocol::V311, &connect, Duration::from_secs(10));
        assert_eq!(answer.unwrap(), None);
        assert_eq!(site.front.seen.resumed.load(Relaxed), resumed);
    }
}

#[test]
fn devices_are_spread_over_source_addresses() {
    let sources: Vec<IpAddr> = ["127.0.0.2", "::1", "127.0.0.3"].map(|source| source.parse().unwrap()).into();
    let site = Site::new("ws", false);
    let engine = site.start(4, "  observe: none\n", &sources);
    until(&engine, "every device connected", |reading| reading.stats.devices.connected == 4);
    let seen: Vec<String> = site.front.seen.sources.lock().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(seen, ["127.0.0.2", "127.0.0.3"]);
    engine.stop();
}

/// The way to the one address of a broker.
fn route(spec: &BrokerSpec) -> Result<Route, RouteError> {
    Route::new(&spec.addresses()[0], spec)
}

/// What becomes of one CONNECT.
fn attempt(spec: &BrokerSpec, sources: &[IpAddr], address: SocketAddr) -> Result<Option<Refusal>, Error> {
    let route = route(spec).unwrap().from_sources(sources);
    let connect = Connect { client_id: "test", ..Connect::default() };
    introduce(&route, address, Protocol::V311, &connect, Duration::from_secs(2))
}

#[track_caller]
fn fails(spec: &BrokerSpec, expected: &str) {
    let address = SocketAddr::new([127, 0, 0, 1].into(), spec.addresses()[0].port());
    match attempt(spec, &[], address) {
        Ok(answer) => panic!("the broker answers {answer:?}, where {expected} was expected"),
        Err(error) => assert_eq!(error.label(), expected, "{error}"),
    }
}

/// A front with this certificate, and a broker behind it.
fn tls_front(config: rustls::ServerConfig) -> (TestBroker, Front) {
    let broker = TestBroker::start();
    let front = Front::start(broker.address, Speaks { tls: Some(Arc::new(config)), ..Speaks::default() });
    (broker, front)
}

#[test]
fn a_certificate_that_is_not_right_is_refused_by_its_fault() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.sign("127.0.0.1", NOW);
    for (identity, trusted, expected) in [
        (&good, &other, "tls_unknown_authority"),
        (&authority.sign("127.0.0.1", 2001..2002), &authority, "tls_certificate_expired"),
        (&authority.sign("127.0.0.1", 2090..2091), &authority, "tls_certificate_not_yet_valid"),
        (&authority.sign("elsewhere.example", NOW), &authority, "tls_wrong_name"),
    ] {
        let (_broker, front) = tls_front(Authority::server(identity, None));
        let spec = broker_at(&format!("mqtts://{}", front.address), Some(trusting(trusted)));
        fails(&spec, expected);
        let blind = Tls { insecure_skip_verify: true, ..Tls::default() };
        let spec = broker_at(&format!("mqtts://{}", front.address), Some(blind));
        assert_eq!(attempt(&spec, &[], front.address).unwrap(), None, "{expected}, and nobody looks");
    }
}

/// A server with a certificate for these names that nobody but its own key has signed, an authority's as
/// `openssl req -x509` makes it, and the certificate in PEM.
fn self_signed(names: &[&str], years: std::ops::Range<i32>) -> (rustls::ServerConfig, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let (mut params, key) = (rcgen::CertificateParams::new(names).unwrap(), rcgen::KeyPair::generate().unwrap());
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    (config, certificate.pem())
}

#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_named_itself() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let says = |names: &[&str], years, is_named: bool| {
        let (config, certificate) = self_signed(names, years);
        let (_broker, front) = tls_front(config);
        let file = folder.path().join("self-signed.pem");
        std::fs::write(&file, certificate).unwrap();
        let itself = Tls { ca: Some(file.display().to_string()), ..Tls::default() };
        let tls = if is_named { itself } else { trusting(&authority) };
        let spec = broker_at(&format!("mqtts://{}", front.address), Some(tls));
        attempt(&spec, &[], front.address).map_err(|error| format!("{}: {error}", error.label()))
    };
    assert_eq!(says(&["127.0.0.1"], NOW, true), Ok(None));
    let error = says(&["127.0.0.1"], NOW, false).unwrap_err();
    assert!(error.starts_with("tls_authority_as_server: ") && error.contains("CA:FALSE"), "{error}");
    let error = says(&["127.0.0.1"], 2001..2002, true).unwrap_err();
    assert!(
        error.starts_with("tls_certificate_expired: ") && error.contains("was valid until 2002-01-01T00:00:00Z"),
        "{error}"
    );
    let error = says(&["elsewhere.example", "10.0.0.1"], NOW, true).unwrap_err();
    let names = "tls_wrong_name: the broker's certificate is for `elsewhere.example`, `10.0.0.1`, not for `127.0.0.1`";
    assert!(error.starts_with(names), "{error}");
    let error = says(&[], NOW, true).unwrap_err();
    assert!(error.contains("has no subjectAltName, and a name in CN alone does not count"), "{error}");
}

#[test]
fn a_broker_that_serves_one_application_protocol_gets_its_name() {
    let authority = Authority::new();
    let mut server = Authority::server(&authority.sign("127.0.0.1", NOW), None);
    server.alpn_protocols = vec![b"x-amzn-mqtt-ca".to_vec()];
    let (_broker, front) = tls_front(server);
    let offering = |name: &str| {
        let tls = Tls { alpn: vec![name.into()], ..trusting(&authority) };
        broker_at(&format!("mqtts://{}", front.address), Some(tls))
    };
    assert_eq!(attempt(&offering("x-amzn-mqtt-ca"), &[], front.address).unwrap(), None);
    // The server of this test closes without its alert, and where it has not read everything by then, that is a reset.
    let error = attempt(&offering("mqtt"), &[], front.address).unwrap_err();
    assert!(["tls_handshake_closed", "connection_reset"].contains(&error.label()), "{error}");
}

#[test]
fn the_name_that_counts_can_be_another_than_the_hosts() {
    let authority = Authority::new();
    let (_broker, front) = tls_front(Authority::server(&authority.sign("broker.example", NOW), None));
    let tls = Tls { server_name: Some("broker.example".into()), ..trusting(&authority) };
    let spec = broker_at(&format!("mqtts://{}", front.address), Some(tls));
    assert_eq!(attempt(&spec, &[], front.address).unwrap(), None);
}

#[test]
fn a_client_certificate_is_shown_where_one_is_wanted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (_broker, front) = tls_front(Authority::server(&authority.sign("127.0.0.1", NOW), Some(&authority)));
    let url = format!("mqtts://{}", front.address);
    fails(&broker_at(&url, Some(trusting(&authority))), "tls_client_certificate_required");
    let showing = |signer: &Authority| {
        let (certificate, key) = signer.write(&signer.sign("device", NOW));
        Tls { certificate: Some(certificate), key: Some(key), ..trusting(&authority) }
    };
    assert_eq!(attempt(&broker_at(&url, Some(showing(&authority))), &[], front.address).unwrap(), None);
    fails(&broker_at(&url, Some(showing(&other))), "tls_client_certificate_refused");
}

/// A server that says `word` to whoever connects, reads once, and then closes or waits for the client to close.
fn rude(word: &'static [u8], is_patient: bool) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(word).unwrap();
        let mut room = [0; 4096];
        // Read to its end, lest the close become a reset.
        while stream.read(&mut room).is_ok_and(|read| read > 0) && is_patient {}
    });
    (port, thread)
}

#[test]
fn a_peer_that_speaks_something_else_is_called_so() {
    let authority = Authority::new();
    for (scheme, word, is_patient, expected) in [
        ("mqtts", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], true, "tls_not_spoken"),
        ("mqtts", b"", false, "tls_handshake_closed"),
        ("mqtts", b"", true, "timed_out"),
        ("ws", b"\x20\x02\x00\x00", true, "websocket_not_spoken"),
        ("ws", b"HTTP/1.1 404 Not Found\r\n\r\n", true, "websocket_upgrade_refused"),
        ("ws", b"", false, "websocket_upgrade_closed"),
        ("mqtt", b"HTTP/1.1 400 Bad Request\r\n\r\n", true, "io_error"),
    ] {
        let (port, thread) = rude(word, is_patient);
        let tls = (scheme == "mqtts").then(|| trusting(&authority));
        fails(&broker_at(&format!("{scheme}://127.0.0.1:{port}"), tls), expected);
        thread.join().unwrap();
    }
}

#[test]
fn a_path_that_is_not_the_brokers_is_said() {
    let site = Site::new("wss", false);
    let mut spec = site.spec.clone();
    assert_eq!(attempt(&spec, &[], site.front.address).unwrap(), None);
    spec.url = format!("wss://{}/elsewhere", site.front.address).parse().ok();
    fails(&spec, "websocket_upgrade_refused");
}

#[test]
fn devices_count_each_failure_by_its_name() {
    let mut site = Site::new("mqtts", false);
    site.spec.tls = Some(trusting(&Authority::new()));
    // The file is read when the engine starts, and its authority is gone by then.
    let gone = route(&site.spec).unwrap_err().to_string();
    assert!(gone.contains("expected certificates of authorities as PEM in the file"), "{gone}");
    let other = Authority::new();
    site.spec.tls = Some(trusting(&other));
    let engine = site.start(5, "  observe: none\n", &[]);
    let stats = until(&engine, "five failures", |reading| reading.stats.connections.failed.values().sum::<u64>() >= 5);
    assert_eq!(stats.connections.failed.keys().collect::<Vec<_>>(), ["tls_unknown_authority"]);
    assert_eq!(engine.device(0).unwrap().last_error.as_deref(), Some("tls_unknown_authority"));
    engine.stop();
}

#[test]
fn a_source_address_must_be_of_the_brokers_family() {
    let site = Site::new("ws", false);
    let error = attempt(&site.spec, &["::1".parse().unwrap()], site.front.address).unwrap_err();
    assert_eq!(error.label(), "no_source_address");
    // An address of documentation (RFC 5737) is none of this machine's.
    let error = attempt(&site.spec, &["192.0.2.1".parse().unwrap()], site.front.address).unwrap_err();
    assert_eq!(error.label(), "no_port_available");
}

#[test]
fn the_comparison_engine_says_that_it_is_plain() {
    let site = Site::new("wss", false);
    let clock = Clock::new();
    let mut assignment = assignment(site.broker.address, 1, "  observe: none\n", &clock);
    assignment.fleet.spec.broker = Some(site.spec.clone());
    let options = Options { kind: Kind::Rumqttc, threads: 1, clock, ..Options::default() };
    let error = Engine::start(&assignment, &options).unwrap_err().to_string();
    assert!(error.starts_with("expected `mqtt://` and no source addresses for the engine `rumqttc`"), "{error}");
}
